package topic

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"swarmnode/gossip"
)

// BenchmarkAnnounce50 measures how long an announcement of 1.8 KB takes to each of 50 nodes, each of which dialed three
// others at random. The goal of DESIGN section 8 is a p99 of at most one second.
func BenchmarkAnnounce50(b *testing.B) {
	const nodes, degree, size = 50, 3, 1800
	rng := rand.New(rand.NewPCG(1, 2))
	all := make([]*node, nodes)
	var mu sync.Mutex // guards arrived
	arrived := map[string][]time.Time{}
	for i := range all {
		all[i] = newNode(b)
		seen := map[string]bool{} // guarded by mu
		all[i].topic.on = func(_ context.Context, _ gossip.PeerID, _ gossip.Kind, payload []byte) gossip.Verdict {
			mu.Lock()
			defer mu.Unlock()
			key := string(payload[:20])
			if seen[key] {
				return gossip.Ignore
			}
			seen[key] = true
			arrived[key] = append(arrived[key], time.Now())
			return gossip.Accept
		}
	}
	for i := 1; i < nodes; i++ {
		for range degree {
			connect(b, all[i], all[rng.IntN(i)])
		}
	}
	var took []time.Duration
	for round := 0; b.Loop(); round++ {
		key := fmt.Sprintf("%020d", round)
		payload := key + strings.Repeat("x", size-len(key))
		start := time.Now()
		publish(b, all[rng.IntN(nodes)], payload)
		eventually(b, func() bool {
			mu.Lock()
			defer mu.Unlock()
			return len(arrived[key]) >= nodes
		})
		mu.Lock()
		for _, at := range arrived[key] {
			took = append(took, at.Sub(start))
		}
		mu.Unlock()
	}
	slices.Sort(took)
	at := func(q float64) float64 { return float64(took[int(q*float64(len(took)-1))].Microseconds()) / 1000 }
	b.ReportMetric(at(0.5), "p50-ms")
	b.ReportMetric(at(0.99), "p99-ms")
	b.ReportMetric(at(1), "max-ms")
}
