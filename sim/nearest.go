package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"swarmnode/gossip"
	"swarmnode/node/policy"
)

func nearestScenario() Scenario {
	return Scenario{
		Name: "nearest",
		Doc: "a node looks for the nearest of some holders, by coordinates and a few probes; it is met where at least 95 % of the " +
			"choices are within 10 ms of the best RTT",
		Settings: []Setting{
			{"nodes", "1000", "nodes"},
			{"holders", "20", "holders to choose among"},
			{"probes", "3", "holders whose RTT is measured before one is chosen"},
			{"rounds", "60", "minutes of learning before that: from each neighbour, and from one that was never met, which policy.Peers tries"},
			{"told", "1", "minutes between two claims of a node"},
			{"liars", "0", "percent of the nodes that claim a random place with the least error; the best is that of the honest"},
			{"trials", "2000", "choices"},
		},
		run: runNearest,
	}
}

// mapped is a network whose nodes have learned where they are.
type mapped struct {
	w      *World
	swarm  *swarm
	here   []policy.Coordinate
	claims []gossip.Coordinate // as they were told last
	met    []map[int]bool      // whose RTT a node knows
	liars  int                 // the last of the nodes
}

func runNearest(set *settings, seed uint64) (Report, error) {
	nodes := int(set.number("nodes", 2, 100_000))
	holders := int(set.number("holders", 1, 1000))
	probes := int(set.number("probes", 1, 1000))
	rounds := int(set.number("rounds", 1, 10_000))
	told := int(set.number("told", 1, 10_000))
	liars := nodes * int(set.number("liars", 0, 50)) / 100
	trials := int(set.number("trials", 1, 1_000_000))
	if set.err != nil {
		return Report{}, set.err
	}
	if nodes-liars < 2 {
		return Report{}, fmt.Errorf("%d nodes without %d liars are too few to choose among", nodes, liars)
	}
	rng := rand.New(rand.NewPCG(seed, nearestStream))
	m := newMapped(newWorld(nodes, seed), liars, rng)
	asked := m.settle(rounds, told, rng)

	var blind, guess, probed []float64
	for range trials {
		i := rng.IntN(nodes - liars)
		them := make([]int, holders)
		best := time.Hour
		for k := range them { // the first is honest; who lies about its place is not missed
			among := nodes
			if k == 0 {
				among -= liars
			}
			for them[k] = rng.IntN(among); them[k] == i; {
				them[k] = rng.IntN(among)
			}
			if them[k] < nodes-liars {
				best = min(best, m.w.rtt(i, them[k]))
			}
		}
		excess := func(rtt time.Duration) float64 { return max(0, rtt-best).Seconds() * 1000 }
		blind = append(blind, excess(m.w.rtt(i, them[0])))
		guess = append(guess, excess(m.choose(i, them, 1, rng)))
		probed = append(probed, excess(m.choose(i, them, probes, rng)))
	}
	return Report{Events: asked, Facts: []Setting{
		fact("random", blind, "any holder"),
		fact("coordinates", guess, "of neighbours and the one with the least expected RTT"),
		fact("coordinates and probes", probed, fmt.Sprintf("the nearest by measure of neighbours and the %d with the least expected RTT", probes)),
	}}, nil
}

// fact tells how some excesses over the best RTT are distributed.
func fact(name string, excess []float64, doc string) Setting {
	sum, within := 0.0, 0
	for _, e := range excess {
		sum += e
		if e <= 10 {
			within++
		}
	}
	slices.Sort(excess)
	return Setting{name, fmt.Sprintf("%.1f", sum/float64(len(excess))), fmt.Sprintf(
		"mean ms over the best; median %.1f, 90 %% %.1f, 99 %% %.1f, within 10 ms %.1f %%: %s", quantile(excess, .5), quantile(excess, .9),
		quantile(excess, .99), 100*float64(within)/float64(len(excess)), doc)}
}

// newMapped gives all nodes neighbours as policy.Peers chooses them.
func newMapped(w *World, liars int, rng *rand.Rand) *mapped {
	n := len(w.places)
	rates := make([]float64, n)
	m := &mapped{w: w, swarm: newSwarm(w, swarmConfig{up: rates, down: rates}), here: make([]policy.Coordinate, n),
		claims: make([]gossip.Coordinate, n), met: make([]map[int]bool, n), liars: liars}
	m.swarm.connect()
	for i, node := range m.swarm.nodes {
		m.here[i] = policy.NewCoordinate(rng)
		m.met[i] = map[int]bool{}
		for _, o := range node.neighbours {
			m.met[i][o.index] = true
		}
	}
	return m
}

// settle lets all nodes learn where they are. Each hears of the others only what they claim, every so many rounds.
func (m *mapped) settle(rounds, told int, rng *rand.Rand) (samples uint64) {
	n := len(m.here)
	for r := range rounds {
		if r%told == 0 {
			for i := range m.here {
				m.claims[i] = m.claim(i, rng)
			}
		}
		for i, node := range m.swarm.nodes {
			for _, o := range node.neighbours {
				m.here[i].Learn(m.claims[o.index], o.rtt)
				samples++
			}
			if j := rng.IntN(n); j != i {
				m.here[i].Learn(m.claims[j], m.w.rtt(i, j))
				samples++
			}
		}
	}
	for i := range m.here {
		m.claims[i] = m.claim(i, rng)
	}
	return samples
}

// liarReach is how far from the origin liars claim to be on each axis, in ms: as far as honest nodes are from each other.
const liarReach = 200

func (m *mapped) claim(i int, rng *rand.Rand) gossip.Coordinate {
	if i < len(m.here)-m.liars {
		return m.here[i].Claim()
	}
	lie := gossip.Coordinate{Error: 1}
	for k := range lie.At {
		lie.At[k] = int32(10 * liarReach * (2*rng.Float64() - 1)) // 0.1 ms
	}
	return lie
}

// choose gives the RTT of the holder that a node takes: policy.Peers says whom to try, as for a node that wants so many
// neighbours more; the nearest by measure is taken.
func (m *mapped) choose(i int, them []int, probes int, rng *rand.Rand) time.Duration {
	best := time.Hour
	neighbours := map[gossip.PeerID]bool{}
	for _, j := range them {
		if m.met[i][j] {
			best = min(best, m.w.rtt(i, j))
			neighbours[m.swarm.nodes[j].id()] = true
		}
	}
	wanted := len(neighbours) + probes
	peers := policy.NewPeers(policy.PeersConfig{Low: wanted, High: wanted, Dials: probes, Random: -1}, rng)
	peers.Here(m.here[i])
	for _, j := range them {
		id := m.swarm.nodes[j].id()
		peers.Learned(id)
		peers.Claimed(id, m.claims[j])
		if neighbours[id] {
			peers.Connected(id, m.w.rtt(i, j))
		}
	}
	for _, id := range peers.Next(epoch).Dial {
		best = min(best, m.w.rtt(i, m.swarm.byID[id].index))
	}
	return best
}
