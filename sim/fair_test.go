package sim

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// regimes are the ways in which links can be scarce, as capacities in bytes/s.
var regimes = []struct {
	name             string
	up, down         float64
	upSigma, downSig float64
}{
	{"uplink-bound", 1e6, 10e6, 0.7, 0.7},
	{"downlink-bound", 10e6, 1e6, 0.7, 0.7},
	{"mixed", 1e6, 1.5e6, 1, 1},
}

// exact computes max-min fair rates by filling all links at once, the slow and plain way.
func exact(flows []*flow) map[*flow]float64 {
	rates := map[*flow]float64{}
	used := map[*link]float64{}
	for len(rates) < len(flows) {
		open := map[*link]int{}
		for _, f := range flows {
			if _, fixed := rates[f]; !fixed {
				open[f.up]++
				open[f.down]++
			}
		}
		least := math.Inf(1)
		for l, n := range open {
			least = min(least, (l.capacity-used[l])/float64(n))
		}
		var fixed []*flow
		for _, f := range flows {
			if _, done := rates[f]; done {
				continue
			}
			for _, l := range []*link{f.up, f.down} {
				if (l.capacity-used[l])/float64(open[l]) <= least*(1+1e-9) {
					fixed = append(fixed, f)
					break
				}
			}
		}
		for _, f := range fixed {
			rates[f] = least
			used[f.up] += least
			used[f.down] += least
		}
	}
	return rates
}

// someLinks draws n pairs of links.
func someLinks(rng *rand.Rand, n, regime int) (ups, downs []*link) {
	r := regimes[regime]
	for range n {
		ups = append(ups, newLink(r.up*lognormal(rng, r.upSigma)))
		downs = append(downs, newLink(r.down*lognormal(rng, r.downSig)))
	}
	return ups, downs
}

// TestFairRates compares the cached water levels with exact max-min while flows come and go.
func TestFairRates(t *testing.T) {
	for k, r := range regimes {
		t.Run(r.name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(5, 5))
			w := newWorld(0, 1)
			ups, downs := someLinks(rng, 40, k)
			var flows []*flow
			var off []float64
			sum := 0.0
			for range 1500 {
				if len(flows) > 0 && (len(flows) > 250 || rng.IntN(2) == 0) {
					k := rng.IntN(len(flows))
					w.net.stop(flows[k])
					flows[k] = flows[len(flows)-1]
					flows = flows[:len(flows)-1]
				} else {
					f := &flow{up: ups[rng.IntN(40)], down: downs[rng.IntN(40)]}
					w.net.start(f, 1e12)
					flows = append(flows, f)
				}
				if rng.IntN(30) > 0 {
					continue
				}
				want := exact(flows)
				for _, f := range flows {
					e := math.Abs(f.rate-want[f]) / want[f]
					off, sum = append(off, e), sum+e
				}
			}
			slices.Sort(off)
			mean := sum / float64(len(off))
			t.Logf("error of %d rates: mean %.4f %%, 99 %% of them under %.3f %%, worst %.2f %%", len(off), 100*mean, 100*quantile(off, .99), 100*quantile(off, 1))
			if p99 := quantile(off, .99); mean > 0.005 || p99 > 0.015 {
				t.Errorf("error of rates: got mean %.3f %%, 99 %% under %.3f %%; want at most 0.5 %% and 1.5 %%", 100*mean, 100*p99)
			}
		})
	}
}

// TestFairCompletion: the mean time that transfers take is that of exact max-min. Every source keeps a few flows going
// to receivers at random; the exact solver runs the same plan, all rates computed anew at each change.
func TestFairCompletion(t *testing.T) {
	for k, r := range regimes {
		t.Run(r.name, func(t *testing.T) {
			fast, slow := completions(k, false), completions(k, true)
			off := math.Abs(fast-slow) / slow
			t.Logf("mean completion %.4f s, exactly %.4f s: %.3f %% off", fast, slow, 100*off)
			if off > 0.02 {
				t.Errorf("mean completion: got %.4f s, want %.4f s within 2 %%", fast, slow)
			}
		})
	}
}

// completions gives the mean time of transfers in seconds, by the network as it is or with exact rates.
func completions(regime int, exactly bool) float64 {
	const nodes, each, flowsOfEach = 16, 12, 3
	rng := rand.New(rand.NewPCG(9, 9))
	w := newWorld(0, 1)
	ups, downs := someLinks(rng, nodes, regime)
	var active []*flow
	var total time.Duration
	count := 0
	again := func() {
		if !exactly {
			return
		}
		rates := exact(active)
		for _, f := range active {
			w.net.settle(f)
			f.rate = rates[f]
			w.net.schedule(f)
		}
	}
	for i := range nodes {
		for range flowsOfEach {
			plan := rand.New(rand.NewPCG(rng.Uint64(), 1))
			f := &flow{up: ups[i]}
			left, began := each, time.Duration(0)
			begin := func() {
				began = w.now
				f.down = downs[plan.IntN(nodes)]
				active = append(active, f)
				w.net.start(f, 1e6*lognormal(plan, 0.5))
				again()
			}
			f.done = func() {
				total, count = total+w.now-began, count+1
				active = slices.DeleteFunc(active, func(o *flow) bool { return o == f })
				w.net.stop(f)
				again()
				if left--; left > 0 {
					begin()
				}
			}
			begin()
		}
	}
	if !w.run(1000*time.Hour, func() bool { return count == nodes*flowsOfEach*each }) {
		panic(fmt.Sprintf("sim: only %d transfers ended", count))
	}
	return total.Seconds() / float64(count)
}
