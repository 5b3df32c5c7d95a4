package trust

import (
	"context"
	"errors"
	"testing"

	"swarmnode/gossip"
)

// TestSkipReplaced: an owner who never heard of the thief's release learns its number from what a victim has, once the keys are
// replaced; what was never signed by keys of the collection teaches nothing.
func TestSkipReplaced(t *testing.T) {
	t.Parallel()
	p := newPublisher(t, Lifetimes{})
	p.sign(start, 1, "one")
	thief := p.twin()
	thief.signer.made.Timestamp, thief.signer.made.Snapshot, thief.signer.made.Delegated = 1<<59, 1<<59, 1<<59
	thief.sign(start, 1000, "evil")
	victim := p.joined(start)
	if err := victim.Refresh(t.Context(), start, thief.signer.Source); err != nil {
		t.Fatal(err)
	}
	if err := p.signer.SkipReplaced(t.Context(), victimSource(victim)); err != nil || p.signer.Taken() != 1 || p.signer.Retaking() {
		t.Fatalf("before the keys are replaced: %v, taken %d", err, p.signer.Taken())
	}
	if err := p.keys.Rotate(start, p.life, roleTimestamp, roleSnapshot, roleRelease); err != nil {
		t.Fatal(err)
	}
	if !p.signer.Retaking() || p.signer.Overtaken() {
		t.Errorf("retaking %v, overtaken %v, want only the first", p.signer.Retaking(), p.signer.Overtaken())
	}
	stranger := newPublisher(t, Lifetimes{})
	stranger.sign(start, 5000, "strange")
	if err := p.signer.SkipReplaced(t.Context(), stranger.signer.Source); err == nil || p.signer.Taken() != 1 {
		t.Errorf("another collection's release: %v, taken %d", err, p.signer.Taken())
	}
	if err := p.signer.SkipReplaced(t.Context(), victimSource(victim)); err != nil || p.signer.Taken() != 1000 || !p.signer.Overtaken() {
		t.Fatalf("from a victim: %v, taken %d", err, p.signer.Taken())
	}
	p.sign(start, 1001, "back")
	if err := victim.Refresh(t.Context(), start, p.signer.Source); err != nil || victim.Head().Release != 1001 {
		t.Errorf("victim: %v, %+v", err, victim.Head())
	}
	if p.signer.Retaking() || p.signer.Overtaken() {
		t.Error("a release under the new keys ends it")
	}
}

func victimSource(r *Repository) Source {
	return func(_ context.Context, name string, _ int64) ([]byte, error) { return r.File(name) }
}

// TestSkip: the owner's word moves numbers forward only, and not further than mirrors go along.
func TestSkip(t *testing.T) {
	t.Parallel()
	p := newPublisher(t, Lifetimes{})
	p.sign(start, 5, "five")
	for _, c := range []struct{ above, want uint64 }{{3, 5}, {5, 5}, {9, 9}, {9 + MaxFirstRelease, 9}, {1 << 63, 9}} {
		err := p.signer.Skip(c.above)
		if got := p.signer.Taken(); got != c.want || errors.Is(err, gossip.ErrLeap) != (c.above > 9) {
			t.Errorf("skip to %d: taken %d, want %d; %v", c.above, got, c.want, err)
		}
	}
}
