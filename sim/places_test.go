package sim

import (
	"slices"
	"testing"
	"time"
)

// TestNearest compares the latency model with what it was fitted to: the RTT to the nearest of k holders at random
// (notes/simulation.md, without the delay of the access lines).
func TestNearest(t *testing.T) {
	const nodes = 2000
	w := newWorld(nodes, 1)
	for i := range w.places {
		w.places[i].access = 0
	}
	rng := w.rng(0)
	for _, c := range []struct {
		holders  int
		p50, p90 float64 // ms
	}{{1, 142, 277}, {5, 49, 163}, {20, 26, 102}, {50, 17, 70}, {200, 11, 48}} {
		var got []float64
		for range 2000 {
			i, best := rng.IntN(nodes), time.Hour
			for range c.holders {
				if j := rng.IntN(nodes); j != i {
					best = min(best, w.rtt(i, j))
				}
			}
			got = append(got, best.Seconds()*1000)
		}
		slices.Sort(got)
		for i, want := range []float64{c.p50, c.p90} {
			if q := quantile(got, []float64{.5, .9}[i]); q < 0.55*want || q > 1.3*want {
				t.Errorf("nearest of %d: got %.0f ms, want about %.0f", c.holders, q, want)
			}
		}
		t.Logf("nearest of %3d: p50 %3.0f ms (fit %3.0f), p90 %3.0f ms (fit %3.0f)", c.holders, quantile(got, .5), c.p50, quantile(got, .9), c.p90)
	}
}
