package node

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"

	"swarmnode/content"
	"swarmnode/gossip"
)

// TestSeeder: a new release is given once to everybody together while three follow it; when one leaves, whoever wants it gets
// it and is told so.
func TestSeeder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSeeder()
		old := content.SegmentInfo{Table: content.Sum([]byte("old")), Chunks: 2}
		s.release([]content.SegmentInfo{old})
		var outs []<-chan gossip.Holdings
		var stops []context.CancelFunc
		for range 3 {
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			in := make(chan gossip.Holdings)
			context.AfterFunc(ctx, func() { close(in) })
			stops, outs = append(stops, stop), append(outs, s.watch(ctx, in))
		}
		s.release([]content.SegmentInfo{old, {Table: content.Sum([]byte("new")), Chunks: 2}})
		give := func(what string, segment, index uint32, want bool) {
			t.Helper()
			if got := s.give(content.Ref{Segment: segment, Index: index}); got != want {
				t.Errorf("%s: give %d:%d: got %v, want %v", what, segment, index, got, want)
			}
		}
		give("an old segment", 0, 0, true)
		give("an old segment again", 0, 0, true)
		give("a new chunk", 1, 0, true)
		give("a new chunk again", 1, 0, false)
		stops[0]()
		for range outs[0] {
		}
		synctest.Wait()
		if h := <-outs[1]; !h.Segments.Has(1) {
			t.Errorf("two are left: told %+v, want segment 1", h)
		}
		give("with two followers", 1, 0, true)
	})
}

// What is to be had again is told several times: an answer that was under way at the first time takes it back.
func TestSeederRepeats(t *testing.T) {
	var r repeats
	if got := r.tick(); got != nil {
		t.Errorf("%v is repeated of nothing", got)
	}
	var one content.Bitmap
	one.Set(3)
	r.add(one)
	var ticks []int
	for i := 1; i <= 1000; i++ {
		if again := r.tick(); again != nil {
			ticks = append(ticks, i)
			if !again.Has(3) || again.Count() != 1 {
				t.Errorf("at tick %d %v is repeated, want 3", i, again)
			}
		}
	}
	if want := []int{1, 3, 7, 15, 31, 63, 127}; !slices.Equal(ticks, want) {
		t.Errorf("repeated at ticks %v, want %v", ticks, want)
	}
}
