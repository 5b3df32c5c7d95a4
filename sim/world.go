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
	now      time.Duration // since the start
	events   queue
	net      network
	seed     uint64
	places   []place
	happened uint64 // events so far
	turn     uint64 // queue.seq of what happens now
}

// Streams of random numbers, so that one more draw in one place changes nothing elsewhere.
const (
	placesStream = 1 + iota
	pairStream
	linksStream
	kindsStream
	nearestStream
	nodeStream // plus the number of the node: the last
)

// newWorld makes a world with n places.
func newWorld(n int, seed uint64) *World {
	w := &World{seed: seed}
	w.places = newPlaces(n, rand.New(rand.NewPCG(seed, placesStream)))
	w.net.w = w
	return w
}

// time is the time of day.
func (w *World) time() time.Time { return epoch.Add(w.now) }

// after lets something happen later.
func (w *World) after(d time.Duration, do func()) { w.events.push(w.now+max(d, 0), do) }

// run lets time pass until done, or the end, or nothing more happens. It reports whether it ended by done. What is
// scheduled comes before the end of a flow at the same time.
func (w *World) run(end time.Duration, done func() bool) bool {
	for !done() {
		flows := len(w.net.ends) > 0
		if len(w.events.heap) > 0 && (!flows || w.events.heap[0].at <= w.net.ends[0].end) {
			if w.events.heap[0].at > end {
				return false
			}
			e, _ := w.events.pop()
			w.now, w.turn = e.at, e.seq
			e.do()
		} else if flows && w.net.ends[0].end <= end {
			w.now, w.turn = w.net.ends[0].end, math.MaxUint64
			w.net.finish()
		} else {
			return false
		}
		w.happened++
	}
	return true
}

// rng is the source of random numbers of a node.
func (w *World) rng(node int) *rand.Rand {
	return rand.New(rand.NewPCG(w.seed, nodeStream+uint64(node)))
}
