package sim

import (
	"math"
	"math/rand/v2"
	"time"
)

// epoch is when every simulation starts; pure code wants a time of day.
var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// World is the clock, the places and the network of one simulation. Everything in it happens in one order that
// depends on the seed alone.
type World struct {
	now    time.Duration // since the start
	events queue
	net    network
	seed   uint64
	places []place
}

// place is where a node is, for latency.
type place struct {
	x, y, z float64       // on the unit sphere
	spread  float64       // how much its paths differ from what distance suggests, as an exponent
	access  time.Duration // delay of the access line, there and back
}

// Streams of random numbers, so that one more draw in one place changes nothing elsewhere.
const (
	placesStream = 1 + iota
	pairStream
	nodeStream // plus the number of the node: the last
)

// newWorld makes a world with n places.
func newWorld(n int, seed uint64) *World {
	w := &World{seed: seed, places: make([]place, n)}
	w.net.w = w
	rng := rand.New(rand.NewPCG(seed, placesStream))
	for i := range w.places {
		z, a := 2*rng.Float64()-1, 2*math.Pi*rng.Float64()
		r := math.Sqrt(1 - z*z)
		w.places[i] = place{
			x: r * math.Cos(a), y: r * math.Sin(a), z: z,
			spread: 0.15 * rng.NormFloat64(),
			access: time.Duration(9e6 * math.Exp(0.7*rng.NormFloat64())), // lognormal, median 9 ms
		}
	}
	return w
}

// rtt is the round-trip time between two places: the fit of notes/simulation.md over the great circle. The places are
// spread evenly over the globe, which makes distances larger than between real cities.
func (w *World) rtt(i, j int) time.Duration {
	if i > j {
		i, j = j, i
	}
	a, b := w.places[i], w.places[j]
	cos := max(-1, min(1, a.x*b.x+a.y*b.y+a.z*b.z))
	km := 6371 * math.Acos(cos)
	pair := rand.New(rand.NewPCG(w.seed^pairStream<<56, uint64(i)<<32|uint64(j)))
	ms := (7.5 + 0.01703*km) * math.Exp(0.14+a.spread+b.spread+0.27*pair.NormFloat64())
	return time.Duration(ms*float64(time.Millisecond)) + a.access + b.access
}

// lognormal draws a factor with median 1.
func lognormal(rng *rand.Rand, sigma float64) float64 { return math.Exp(sigma * rng.NormFloat64()) }

// time is the time of day.
func (w *World) time() time.Time { return epoch.Add(w.now) }

// after lets something happen later.
func (w *World) after(d time.Duration, do func()) { w.events.push(w.now+max(d, 0), do) }

// run lets time pass until done, or the end, or nothing more happens. It reports whether it ended by done.
func (w *World) run(end time.Duration, done func() bool) bool {
	for !done() {
		e, ok := w.events.pop()
		if !ok || e.at > end {
			return false
		}
		w.now = e.at
		e.do()
	}
	return true
}

// rng is the source of random numbers of a node.
func (w *World) rng(node int) *rand.Rand {
	return rand.New(rand.NewPCG(w.seed, nodeStream+uint64(node)))
}
