package policy

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"swarmnode/content"
	"swarmnode/gossip"
)

// BenchmarkMemory is what a Transfer takes in the middle of a flash crowd: 1,024 chunks in 16 segments, 40 peers that
// have a part of each, requests on their way. The simulator holds 10,000 of them.
func BenchmarkMemory(b *testing.B) {
	const count = 200
	rng := rand.New(rand.NewPCG(1, 1))
	full := content.Full(64)
	ids := make([]gossip.PeerID, 40)
	for i := range ids {
		ids[i] = gossip.PeerID(fmt.Sprint("node", i))
	}
	sizes := func(uint32) uint32 { return 256 << 10 }
	for b.Loop() {
		all := make([]*Transfer, count)
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		for n := range all {
			t := NewTransfer(TransferConfig{}, rng)
			for seg := range uint32(16) {
				t.Want(seg, sizes, full)
			}
			for _, id := range ids {
				t.Found(epoch, id, 20*time.Millisecond)
				for range 4 { // told in several messages, as chunks come
					var h gossip.Holdings
					for seg := range uint32(16) {
						var has content.Bitmap
						for range 8 {
							has.Set(rng.Uint32N(64))
						}
						h.Partial = append(h.Partial, gossip.PartialSegment{Segment: seg, Chunks: has})
					}
					t.Holds(epoch, id, h)
				}
			}
			t.Next(epoch)
			all[n] = t
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/count, "B/transfer")
		runtime.KeepAlive(all)
	}
	b.ReportMetric(0, "ns/op")
}
