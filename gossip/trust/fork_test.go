package trust

import (
	"errors"
	"testing"

	"swarmnode/gossip"
)

// TestForkIsKept: what proves that the publisher's keys are in two hands outlives a restart, with both digests, until a
// release under new keys or the operator ends it.
func TestForkIsKept(t *testing.T) {
	t.Parallel()
	for _, end := range []string{"new keys", "some new keys", "acknowledged"} {
		t.Run(end, func(t *testing.T) {
			p := newPublisher(t, Lifetimes{})
			p.sign(start, 1, "one")
			thief := p.twin()
			mine, other := p.sign(start, 2, "two"), thief.sign(start, 2, "another two")
			r := p.joined(start)
			if _, err := r.Verify(start, other); !errors.Is(err, gossip.ErrFork) {
				t.Fatalf("fork: %v", err)
			}
			if _, bad, err := r.Scrub(); bad != 0 || err != nil {
				t.Errorf("a scrub takes the alarm for damage: %d, %v", bad, err)
			}
			r = reopened(t, r)
			want := ForkError{Name: timestampFile, Here: digestOf(mine.Files[timestampFile]), There: digestOf(other.Files[timestampFile])}
			if a := r.Alarm(); a == nil || a.Fork != want || a.Release != 2 {
				t.Fatalf("after a restart: %+v, want %+v", a, want)
			}
			if _, err := r.Verify(start, p.sign(start, 3, "three")); err != nil || r.Alarm() == nil {
				t.Errorf("a newer release under the same keys: %v, alarm %v", err, r.Alarm())
			}
			rotate, over := []string{roleTimestamp, roleSnapshot, roleRelease}, true
			switch end {
			case "some new keys":
				rotate, over = rotate[:1], false
			case "acknowledged":
				rotate = nil
				if err := r.Acknowledge(); err != nil {
					t.Fatal(err)
				}
			}
			if rotate != nil {
				if err := p.keys.Rotate(start, p.life, rotate...); err != nil {
					t.Fatal(err)
				}
				if _, err := r.Verify(start, p.sign(start, 4, "four")); err != nil {
					t.Fatal(err)
				}
			}
			if a := reopened(t, r).Alarm(); (a == nil) != over {
				t.Errorf("alarm at the end: %v", a)
			}
		})
	}
}
