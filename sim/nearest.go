package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

func nearestScenario() Scenario {
	return Scenario{
		Name: "nearest",
		Doc:  "a node looks for the nearest of some holders it has not met, by coordinates and a few probes",
		Settings: []Setting{
			{"nodes", "1000", "nodes"},
			{"holders", "20", "holders to choose among"},
			{"probes", "3", "holders whose RTT is measured before one is chosen"},
			{"rounds", "40", "times that each node learns from the RTT of each neighbour"},
			{"trials", "2000", "choices"},
		},
		run: runNearest,
	}
}

func runNearest(set *settings, seed uint64) (Report, error) {
	nodes := int(set.number("nodes", 2, 100_000))
	holders := int(set.number("holders", 1, 1000))
	probes := int(set.number("probes", 0, 1000))
	rounds := int(set.number("rounds", 1, 10_000))
	trials := int(set.number("trials", 1, 1_000_000))
	if set.err != nil {
		return Report{}, set.err
	}
	w := newWorld(nodes, seed)
	rng := rand.New(rand.NewPCG(seed, nearestStream))
	coordinates, asked := settle(w, rounds, rng)

	var guess, probed, blind []float64
	for range trials {
		i := rng.IntN(nodes)
		them := make([]int, holders)
		best := time.Hour
		for k := range them {
			for them[k] = rng.IntN(nodes); them[k] == i; {
				them[k] = rng.IntN(nodes)
			}
			best = min(best, w.rtt(i, them[k]))
		}
		excess := func(rtt time.Duration) float64 { return (rtt - best).Seconds() * 1000 }
		blind = append(blind, excess(w.rtt(i, them[0])))
		slices.SortStableFunc(them, func(a, b int) int {
			if coordinates[i].to(&coordinates[a]) < coordinates[i].to(&coordinates[b]) {
				return -1
			}
			return 1
		})
		guess = append(guess, excess(w.rtt(i, them[0])))
		chosen := w.rtt(i, them[0])
		for _, j := range them[1:max(1, min(probes, holders))] {
			chosen = min(chosen, w.rtt(i, j))
		}
		probed = append(probed, excess(chosen))
	}
	return Report{Events: asked, Facts: []Setting{
		fact("random", blind, "any holder"),
		fact("coordinates", guess, "the one with the least expected RTT"),
		fact("coordinates and probes", probed, fmt.Sprintf("the nearest by measure of the %d with the least expected RTT", probes)),
	}}, nil
}

// fact tells the mean of some excesses over the best RTT.
func fact(name string, excess []float64, doc string) Setting {
	sum, within := 0.0, 0
	for _, e := range excess {
		sum += e
		if e <= 10 {
			within++
		}
	}
	slices.Sort(excess)
	return Setting{name, fmt.Sprintf("%.1f", sum/float64(len(excess))), fmt.Sprintf("mean ms over the best; median %.1f, 90 %% %.1f, within 10 ms %.0f %%: %s",
		quantile(excess, .5), quantile(excess, .9), 100*float64(within)/float64(len(excess)), doc)}
}

// settle gives all nodes neighbours as policy.Peers chooses them and lets them learn their coordinates from these alone.
func settle(w *World, rounds int, rng *rand.Rand) (coordinates []coordinate, samples uint64) {
	n := len(w.places)
	rates := make([]float64, n)
	s := newSwarm(w, swarmConfig{up: rates, down: rates})
	s.connect()
	coordinates = make([]coordinate, n)
	for i := range coordinates {
		coordinates[i] = newCoordinate(rng)
	}
	for range rounds {
		for i, node := range s.nodes {
			for _, o := range node.neighbours {
				coordinates[i].learn(&coordinates[o.index], o.rtt)
				samples++
			}
		}
	}
	return coordinates, samples
}
