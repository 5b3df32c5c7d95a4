package policy

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"swarmnode/content"
)

// TestSeeding tells how a release of two segments of two chunks is given away.
func TestSeeding(t *testing.T) {
	ref := func(seg, i uint32) content.Ref { return content.Ref{Segment: seg, Index: i} }
	s, now := NewSeeding(), epoch
	s.Add(0, content.Full(2))
	s.Add(1, content.Full(2))
	give := func(what string, r content.Ref, want bool) {
		t.Helper()
		if got := s.Give(now, r); got != want {
			t.Errorf("%s: give %v: got %v, want %v", what, r, got, want)
		}
	}
	again := func(what string, want ...uint32) {
		t.Helper()
		var segs []uint32
		for b, i := s.Again(now), uint32(0); int(i) < 8*len(b); i++ {
			if b.Has(i) {
				segs = append(segs, i)
			}
		}
		if !slices.Equal(segs, want) {
			t.Errorf("%s: again: got %v, want %v", what, segs, want)
		}
	}
	give("the first time", ref(0, 0), true)
	give("nothing twice before everything once", ref(0, 0), false)
	give("another chunk", ref(1, 1), true)
	give("an old segment is not held back", ref(7, 0), true)
	again("nothing has changed")
	s.Return(ref(1, 1))
	again("what did not get through is here", 1)
	give("and is given as if for the first time", ref(1, 1), true)
	now = now.Add(repeatAfter)
	give("one turn later", ref(0, 0), false)
	now = now.Add(repeatAfter)
	again("two turns later the chunks are free again", 0, 1)
	give("two turns later", ref(0, 0), true)
	give("the third chunk", ref(0, 1), true)
	if !s.Active() {
		t.Error("not active with a chunk that was never given")
	}
	give("the last chunk", ref(1, 0), true)
	if s.Active() {
		t.Error("active though everything was given")
	}
	again("everything is here for everybody", 0, 1)
	give("and nothing is held back", ref(1, 0), true)
}

// TestSeedingOrder: however it is asked, no chunk goes out twice within a turn before every one went out once.
func TestSeedingOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Uint32Range(1, 20).Draw(t, "chunks")
		s := NewSeeding()
		s.Add(3, content.Full(n))
		given := map[uint32]bool{}
		for len(given) < int(n) {
			i := rapid.Uint32Range(0, n-1).Draw(t, "ask")
			got := s.Give(epoch.Add(time.Second), content.Ref{Segment: 3, Index: i})
			if got == given[i] {
				t.Fatalf("give %d: got %v, given before: %v", i, got, given[i])
			}
			given[i] = true
		}
		if s.Active() {
			t.Fatal("active though everything was given")
		}
	})
}
