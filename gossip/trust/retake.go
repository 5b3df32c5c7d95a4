package trust

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"swarmnode/content"
	"swarmnode/gossip"
)

// Retaking reports whether keys were replaced since the last release: the next one may have to take control back from whoever has
// the old keys.
func (s *Signer) Retaking() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.made.Release > 0 && max(s.made.Retaken, 1) < s.keys.RootVersion()
}

// Rotated reports whether keys of the collection were ever replaced.
func (s *Signer) Rotated() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.keys.RootVersion() > 1
}

// Overtaken reports whether the numbers up to one that this signer has not given out are taken, under keys that were replaced:
// a release has to follow on it even if nothing has changed, as those who believed the thief take no smaller number.
func (s *Signer) Overtaken() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.keys.RootVersion() > 1 && s.set.head.Release > 0 && s.made.Release > s.set.head.Release
}

// Taken is the greatest release number that was given out or skipped.
func (s *Signer) Taken() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.made.Release
}

// Skip takes all numbers up to a release, as the owner says so: the next release has a greater one. A smaller number than the last
// changes nothing. One that is greater by more than MaxFirstRelease is refused, as every mirror would.
func (s *Signer) Skip(release uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if release > math.MaxInt64-1 || release > s.made.Release && release-s.made.Release >= MaxFirstRelease {
		return fmt.Errorf("skip to release %d: mirrors take no step of more than %d: %w", release, uint64(MaxFirstRelease), gossip.ErrLeap)
	}
	return s.skipTo(gossip.Head{Release: release})
}

// SkipReplaced asks src for what it believes, and if that was signed with keys which have been replaced since, takes all numbers
// up to its release: so the owner, who never heard of what a thief signed, learns it from those who did. What is not signed with
// keys that the collection once had changes nothing.
func (s *Signer) SkipReplaced(ctx context.Context, src Source) error {
	s.mu.Lock()
	roots := slices.Clone(s.keys.roots)
	s.mu.Unlock()
	if len(roots) < 2 {
		return nil
	}
	raw, err := pull(ctx, src, BundleFile, gossip.MaxBundle)
	if err != nil {
		return err
	}
	h, err := s.replaced(roots, raw)
	if err != nil {
		return fmt.Errorf("a release under replaced keys: %w", err)
	}
	if h.Root >= int64(len(roots)) {
		return nil // the ordinary way knows it
	}
	return s.Skip(h.Release)
}

// replaced verifies an encoded bundle under the root of its time.
func (s *Signer) replaced(roots [][]byte, raw []byte) (h gossip.Head, err error) {
	var panics uint64
	defer recovered(&panics, &err)
	b, err := gossip.DecodeBundle(raw)
	if err != nil {
		return gossip.Head{}, err
	}
	set, err := verifyAt(s.keys.id, roots, b.Files[timestampFile], func(name string, _ int64) ([]byte, error) {
		if f := b.Files[name]; f != nil {
			return f, nil
		}
		return nil, fmt.Errorf("%w: a bundle without %s", gossip.ErrMalformed, name)
	})
	if err != nil {
		return gossip.Head{}, err
	}
	return set.head, nil
}

// verifyAt verifies what a timestamp names under the root of that time, which is one of roots. Nothing is expired.
func verifyAt(id content.ID, roots [][]byte, timestamp []byte, fetch func(string, int64) ([]byte, error)) (*trusted, error) {
	p, err := peek(timestamp, roleTimestamp, MaxTimestamp)
	if err != nil {
		return nil, err
	}
	at := &trusted{files: map[string][]byte{}}
	for _, raw := range roots {
		root, err := nextRoot(id, at.root, raw)
		if err != nil {
			return nil, err
		}
		at.root = root
		if p.root == root.Signed.Version {
			break
		}
	}
	return complete(timestampFile, timestamp, func(files map[string][]byte) (*trusted, error) {
		return verify(id, time.Time{}, at, gossip.Head{}, files)
	}, fetch)
}
