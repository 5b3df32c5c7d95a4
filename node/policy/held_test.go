package policy

import (
	"math/rand/v2"
	"testing"
	"time"

	"swarmnode/content"
	"swarmnode/gossip"
)

// What a peer has is counted by what it told, of live chunks only, and is never more than all.
func TestHeld(t *testing.T) {
	infos := []content.SegmentInfo{
		{Table: content.Sum([]byte("0")), Size: 4000, Chunks: 4},
		{Table: content.Sum([]byte("1")), Size: 8000, Chunks: 8, Dead: content.Bitmap{0b00001111}},
		{}, // retired
		{Table: content.Sum([]byte("3")), Size: 2000, Chunks: 2},
	}
	cases := []struct {
		name string
		says []gossip.Holdings
		want float64
	}{
		{"nothing", nil, 0},
		{"all", []gossip.Holdings{{Reset: true, Below: 4}}, 1},
		{"one segment, by number", []gossip.Holdings{{Reset: true, Segments: content.Bitmap{0b1000}}}, 0.2},
		{"half of one", []gossip.Holdings{{Reset: true, Partial: []gossip.PartialSegment{{Segment: 0, Chunks: content.Bitmap{0b0011}}}}}, 0.2},
		{"dead ones", []gossip.Holdings{{Reset: true, Partial: []gossip.PartialSegment{{Segment: 1, Chunks: content.Bitmap{0b00011111}}}}}, 0.1},
		{"more than there is", []gossip.Holdings{{Reset: true, Partial: []gossip.PartialSegment{{Segment: 3, Chunks: content.Bitmap{255, 255}}}}}, 0.2},
		{"all but one that it lost", []gossip.Holdings{{Reset: true, Below: 4}, {Gone: []uint32{0}}}, 0.6},
		{"what it forgot", []gossip.Holdings{{Reset: true, Below: 4}, {Reset: true}}, 0},
	}
	now := time.Unix(1e9, 0)
	for _, c := range cases {
		x := NewTransfer(TransferConfig{}, rand.New(rand.NewPCG(1, 2)))
		x.Found(now, "p", time.Millisecond)
		for _, h := range c.says {
			x.Holds(now, "p", h)
		}
		if got := x.Held("p", infos); got < c.want-1e-9 || got > c.want+1e-9 {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
		if got := x.Held("other", infos); got != 0 {
			t.Errorf("%s: %v of it is at a peer that nobody knows", c.name, got)
		}
		if got := x.Held("p", nil); got != 0 {
			t.Errorf("%s: %v of nothing", c.name, got)
		}
	}
}
