package trust

import (
	"errors"
	"testing"

	"swarmnode/gossip"
)

// TestRecoveryFromThief: a thief has the keys of snapshot, timestamp and release and signs the largest versions and a far
// away time. New keys under a new root win everybody back: those who believed the thief, by bundle and by pulling, in one
// run and after a restart; and the inbox goes along.
func TestRecoveryFromThief(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"bundle", "pull", "restart"} {
		t.Run(how, func(t *testing.T) {
			p := newPublisher(t, Lifetimes{})
			p.sign(start, 1, "one")
			thief := p.twin()
			r := p.joined(start)
			inbox := gossip.NewInbox(r, r.Head())
			thief.signer.made.Timestamp, thief.signer.made.Snapshot, thief.signer.made.Delegated = 1<<59, 1<<59, 1<<59
			stolen := thief.sign(start.Add(300*day), 2, "evil")
			if d := inbox.Receive(start, "thief", encoded(t, stolen)); d.News == nil {
				t.Fatalf("what the thief signed is valid: %+v", d)
			}
			if want := start.Add(MaxClockStep); !r.clock.Equal(want) {
				t.Errorf("clock floor %s, want %s", r.clock, want)
			}
			if err := p.keys.Rotate(start, p.life, roleTimestamp, roleSnapshot, roleRelease); err != nil {
				t.Fatal(err)
			}
			good := p.sign(start, 3, "three")
			switch how {
			case "pull":
				if err := r.Refresh(t.Context(), start, p.signer.Source); err != nil {
					t.Fatal(err)
				}
				if d := inbox.Adopt(r.Head()); d.News == nil {
					t.Errorf("the inbox stays with the thief: %+v", d)
				}
			case "restart":
				r = reopened(t, r)
				inbox = gossip.NewInbox(r, r.Head())
				fallthrough
			default:
				if d := inbox.Receive(start, "publisher", encoded(t, good)); d.News == nil {
					t.Errorf("the inbox stays with the thief: %+v", d)
				}
			}
			if h := reopened(t, r).Head(); h.Release != 3 || h.TimestampVersion >= 1<<59 {
				t.Errorf("head %+v, want release 3 under the new keys", h)
			}
			again := thief.sign(start.Add(300*day), 4, "evil again")
			if _, err := r.Verify(start, again); !errors.Is(err, gossip.ErrOld) {
				t.Errorf("the thief after the rotation: %v, want ErrOld: its keys were replaced", err)
			}
		})
	}
}

// TestReleaseLeaps: whoever has the online keys cannot use the release numbers up.
func TestReleaseLeaps(t *testing.T) {
	t.Parallel()
	p := newPublisher(t, Lifetimes{})
	p.sign(start, 1, "one")
	r, far := p.joined(start), p.twin()
	far.signer.set.head = gossip.Head{} // as the thief does not check what he signs
	if _, err := r.Verify(start, far.sign(start, 2+MaxReleaseStep, "far")); !errors.Is(err, gossip.ErrLeap) {
		t.Errorf("a step of 2^32+1: %v, want ErrLeap", err)
	}
	if h, err := r.Verify(start, p.sign(start, 1+MaxReleaseStep, "near")); err != nil {
		t.Errorf("a step of 2^32: %+v, %v", h, err)
	}
	inbox := gossip.NewInbox(r, r.Head())
	far.signer.set.head = gossip.Head{}
	if d := inbox.Receive(start, "thief", encoded(t, far.sign(start, 3+2*MaxReleaseStep, "farther"))); d.Alarm == "" || d.Verdict != gossip.Ignore {
		t.Errorf("a leap is told to the operator and blamed on nobody: %+v", d)
	}
	if step := leap(gossip.Head{Release: 5, Root: 1}, gossip.Head{Root: 2}); step != MaxFirstRelease {
		t.Errorf("under a new root the step is %d, want %d", step, uint64(MaxFirstRelease))
	}
}

func encoded(t testing.TB, b gossip.Bundle) []byte {
	t.Helper()
	raw, err := gossip.EncodeBundle(b)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}
