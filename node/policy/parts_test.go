package policy

import (
	"math/rand/v2"
	"testing"
	"time"

	"pgregory.net/rapid"

	"swarmnode/content"
	"swarmnode/gossip"
)

// TestHoldingsAgreeWithView: what a Transfer believes of a peer is what gossip.View, the plain meaning of the messages, says.
func TestHoldingsAgreeWithView(t *testing.T) {
	const segments, chunks = 12, 20
	rapid.Check(t, func(rt *rapid.T) {
		tr := NewTransfer(TransferConfig{}, rand.New(rand.NewPCG(1, 2)))
		now := time.Unix(1700000000, 0)
		for s := range uint32(segments) {
			tr.Want(s, func(uint32) uint32 { return 1000 }, content.Full(chunks))
		}
		peers := []gossip.PeerID{"a", "b"}
		views := map[gossip.PeerID]*gossip.View{"a": {}, "b": {}}
		for _, p := range peers {
			tr.Found(now, p, 0)
		}
		for range rapid.IntRange(1, 12).Draw(rt, "messages") {
			p := rapid.SampledFrom(peers).Draw(rt, "peer")
			h := drawHoldings(rt, segments, chunks)
			views[p].Apply(h)
			tr.Holds(now, p, h)
			for _, p := range peers {
				for s := range uint32(segments) {
					for i := range uint32(chunks) {
						want := views[p].HasChunk(content.Ref{Segment: s, Index: i})
						if got := tr.has(tr.sources[p], tr.wants.bySegment[s], i); got != want {
							rt.Fatalf("after %+v: peer %s has chunk %d of segment %d: %v, the view says %v", h, p, i, s, got, want)
						}
					}
				}
			}
		}
	})
}

func drawHoldings(rt *rapid.T, segments, chunks uint32) gossip.Holdings {
	set := func(n uint32, label string) (b content.Bitmap) {
		for _, i := range rapid.SliceOfN(rapid.Uint32Range(0, n-1), 0, 6).Draw(rt, label) {
			b.Set(i)
		}
		return b
	}
	h := gossip.Holdings{Reset: rapid.Bool().Draw(rt, "reset"), Below: rapid.Uint32Range(0, segments).Draw(rt, "below"), Segments: set(segments, "segments")}
	gone, partial := set(segments, "gone"), set(segments, "partial")
	for s := range segments {
		if gone.Has(s) {
			h.Gone = append(h.Gone, s)
		}
		if partial.Has(s) {
			h.Partial = append(h.Partial, gossip.PartialSegment{Segment: s, Chunks: set(chunks, "chunks")})
		}
	}
	return h
}
