package sim

import (
	"testing"
	"time"
)

// TestFourHolders: from four holders with capped uplinks, even unequal ones, a node gets nearly the sum of the caps.
func TestFourHolders(t *testing.T) {
	for name, ups := range map[string][]float64{
		"equal":   {20, 20, 20, 20},
		"unequal": {5, 20, 40, 80},
		"fast":    {150, 150, 150, 150},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(5, 1)
			up, down, sum := []float64{mbit}, []float64{10_000 * mbit}, 0.0
			for _, u := range ups {
				up, down, sum = append(up, u*mbit), append(down, mbit), sum+u*mbit
			}
			const bytes = 1 << 30
			s := newSwarm(w, swarmConfig{sizes: cut(bytes, 64<<20, 1<<20), up: up, down: down})
			s.connect()
			raw, err := announcement{Release: 1, Version: 1}.encode()
			if err != nil {
				t.Fatal(err)
			}
			for _, n := range s.nodes[1:] {
				n.publish(raw, false)
			}
			w.run(time.Hour, func() bool { return s.complete > 0 })
			got, least := s.nodes[0].report.Complete, bytes/sum
			t.Logf("%.1f s, %.1f %% of the sum of the caps; %+v", got, 100*least/got, s.nodes[0].transfer.Stats())
			if !(got <= least/0.9) {
				t.Errorf("complete after %.1f s, want at most %.1f: 90 %% of the sum of the caps", got, least/0.9)
			}
		})
	}
}
