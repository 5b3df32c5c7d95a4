package sim

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"swarmnode/content"
)

func flashCrowdScenario() Scenario {
	return Scenario{
		Name: "flash-crowd",
		Doc:  "everybody wants one new release at once; some lie, some are slow",
		Settings: []Setting{
			{"nodes", "200", "nodes beside the master"},
			{"chunks", "256", "chunks of the release"},
			{"chunk", "1024", "size of a chunk, KiB"},
			{"segment", "64", "chunks of a segment"},
			{"links", "equal", "equal, mixed (5-500 Mbit/s) or countries"},
			{"up", "20", "uplink of the master and, with links=equal, of everybody, Mbit/s"},
			{"ratio", "5", "downlink over uplink, but with links=countries"},
			{"liars", "0", "% of the nodes that say they have everything and send wrong bytes"},
			{"slow", "0", "% of the nodes that serve at 1 kB/s"},
			{"decide", "transfer", "transfer (as the real node does) or oracle (everybody knows everything at once)"},
			{"slots", "0", "requests that a node serves at a time (0: as many as the uplink can use, as the real node does; the oracle: 1)"},
			{"queue", "0", "peers that may wait to be served; more are told \"busy\" (0: as at the real node, -1: all may wait)"},
			{"busy", "0", "ms after which a node that was told \"busy\" asks again (0: as the real node says)"},
			{"inflight", "0", "most MiB that a node has asked for and not got (0: what its goodput suggests, as the real node does)"},
			{"tell", "100", "least ms between two messages of a node about what it has"},
			{"seeding", "1", "the master sends nothing twice before everything once (0: what it is asked for)"},
			{"hours", "24", "give up after so much simulated time"},
		},
		run: runFlashCrowd,
	}
}

// flashCrowd is the scenario with its settings read.
type flashCrowd struct {
	nodes   int
	bytes   uint64
	up      float64 // of the master, bytes/s
	ratio   float64
	liars   float64 // share
	slow    float64 // share
	swarm   swarmConfig
	seeding bool
	end     time.Duration
}

func readFlashCrowd(set *settings) (flashCrowd, error) {
	c := flashCrowd{
		nodes:   int(set.number("nodes", 1, 1_000_000)),
		up:      set.number("up", 0.01, 1e6) * mbit,
		ratio:   set.number("ratio", 1, 1e6),
		liars:   set.number("liars", 0, 90) / 100,
		slow:    set.number("slow", 0, 90) / 100,
		seeding: set.number("seeding", 0, 1) > 0,
		end:     time.Duration(set.number("hours", 0, 10_000) * float64(time.Hour)),
	}
	chunks, size := set.number("chunks", 1, 1<<20), set.number("chunk", 4, content.MaxChunkSize>>10)*1024
	segment := set.number("segment", 1, content.MaxSegmentChunks)
	c.swarm.serving.Places = int(set.number("slots", 0, 1000))
	c.swarm.serving.Waiting = int(set.number("queue", -1, 1000))
	c.swarm.serving.Busy = time.Duration(set.number("busy", 0, 1e6) * float64(time.Millisecond))
	c.swarm.inFlight = uint64(set.number("inflight", 0, 4096) * (1 << 20))
	c.swarm.tell = time.Duration(set.number("tell", 100, 1e6) * float64(time.Millisecond))
	if set.err != nil {
		return c, set.err
	}
	c.bytes = uint64(chunks) * uint64(size)
	c.swarm.sizes = cut(c.bytes, uint64(segment)*uint64(size), uint64(size))
	if c.liars+c.slow > 0.9 {
		return c, fmt.Errorf("%.0f %% liars and %.0f %% slow nodes: at most 90 %% in all", 100*c.liars, 100*c.slow)
	}
	return c, nil
}

func runFlashCrowd(set *settings, seed uint64) (Report, error) {
	c, err := readFlashCrowd(set)
	if err != nil {
		return Report{}, err
	}
	w := newWorld(c.nodes+1, seed)
	if c.swarm.up, c.swarm.down, err = newLinks(w, set.word("links"), c.up/mbit, c.ratio); err != nil {
		return Report{}, err
	}
	c.swarm.up[0], c.swarm.down[0] = c.up, max(c.swarm.down[0], c.up)
	c.misbehave(w)
	var reports []NodeReport
	switch decide := set.word("decide"); decide {
	case "transfer":
		reports, err = c.transfer(w)
	case "oracle":
		reports = newOracle(w, c.swarm).run(c.end)
	default:
		err = fmt.Errorf("decide=%q: want transfer or oracle", decide)
	}
	if err != nil {
		return Report{}, err
	}
	rep := Report{Bytes: c.bytes, Events: w.happened, Master: reports[0], Nodes: reports[1:]}
	c.bounds(&rep)
	return rep, nil
}

// misbehave chooses the liars and the slow nodes.
func (c *flashCrowd) misbehave(w *World) {
	rng := rand.New(rand.NewPCG(w.seed, kindsStream))
	c.swarm.kinds = make([]kind, c.nodes+1)
	order := rng.Perm(c.nodes)
	liars, slows := int(c.liars*float64(c.nodes)), int(c.slow*float64(c.nodes))
	for _, i := range order[:liars] {
		c.swarm.kinds[i+1] = liar
	}
	for _, i := range order[liars : liars+slows] {
		c.swarm.kinds[i+1] = slow
		c.swarm.up[i+1] = slowRate
	}
}

// transfer runs the crowd with the decisions of the real node.
func (c *flashCrowd) transfer(w *World) ([]NodeReport, error) {
	s := newSwarm(w, c.swarm)
	s.connect()
	raw, err := announcement{Release: 1, Version: 1}.encode()
	if err != nil {
		return nil, err
	}
	s.nodes[0].publish(raw, c.seeding)
	w.run(c.end, func() bool { return s.complete == s.wanting })
	var reports []NodeReport
	for _, n := range s.nodes {
		reports = append(reports, n.finish())
	}
	return reports, nil
}

// bounds fills in what no scheme can beat. Liars neither give nor take.
func (c *flashCrowd) bounds(rep *Report) {
	var up, down []float64
	for i, k := range c.swarm.kinds[1:] {
		if k != liar {
			up, down = append(up, c.swarm.up[i+1]), append(down, c.swarm.down[i+1])
		}
	}
	f := float64(c.bytes)
	rep.Bound = kumarRoss(f, c.up, up, down)
	common := kumarRoss(f, c.up, up, []float64{math.Inf(1)})
	for i := range rep.Nodes {
		rep.Nodes[i].Bound = max(common, f/rep.Nodes[i].DownRate)
	}
	n := 0
	for _, s := range c.swarm.sizes {
		n += len(s)
	}
	rep.Chunked = mundinger(f, c.up, len(up), n)
}

// mundinger is the least time in seconds in which n equal nodes can give each other a whole of so many chunks, one after
// the other, with a source as fast as they are (Mundinger, Weber and Weiss, "Optimal scheduling of peer-to-peer file
// dissemination", 2008). With other links it is not a bound.
func mundinger(bytes, up float64, n, chunks int) float64 {
	return bytes / up * (1 + math.Floor(math.Log2(float64(n)))/float64(chunks))
}
