package sim

import (
	"math"
	"time"
)

const (
	levelEpsilon = 1e-3 // a level that changes by less is not told to the next link
	levelHops    = 3    // how many links away from a change levels are computed anew
)

// link is one direction of a node's access line, the only bottlenecks there are.
type link struct {
	capacity float64 // bytes/s
	level    float64 // the most a flow gets here: flows limited elsewhere get less, all others exactly this
	flows    []*flow // in no order that means anything, but the same for the same seed
	sent     float64 // bytes carried by flows that ended or were settled
	pending  bool    // in network.dirty and not looked at yet
}

// flow is a stream of bytes from one node to another. It shares links fairly with others (max-min).
type flow struct {
	up, down  *link
	place     [2]int32 // its index among the flows of up and of down
	heap      int32    // its index in network.ends, plus one; 0 when it is not there
	rate      float64  // bytes/s
	remaining float64  // bytes until done is called
	settled   time.Duration
	end       time.Duration // when done is called at the present rate
	seq       uint64        // the order of ends of one time
	done      func()
}

// network shares links among flows by cached water levels: a flow's rate is the lower level of its two ends, and when a
// flow starts or stops only links near it are filled anew. That is within about one percent of exact max-min
// fairness (notes/simulation.md), at a cost that does not depend on the size of the network.
type network struct {
	w     *World
	ends  ends
	seq   uint64
	dirty []dirtyLink
}

type dirtyLink struct {
	l    *link
	hops int
}

func newLink(bytesPerSecond float64) *link {
	return &link{capacity: bytesPerSecond, level: bytesPerSecond}
}

// start begins to carry bytes; done is called when the last of them has left. It may set the flow going again with more.
func (n *network) start(f *flow, bytes float64) {
	n.join(f, bytes)
	n.rebalance(f.up, f.down)
}

// join puts f on its links; the rates are not right until these are rebalanced.
func (n *network) join(f *flow, bytes float64) {
	f.remaining, f.settled = bytes, n.w.now
	f.place[0], f.place[1] = int32(len(f.up.flows)), int32(len(f.down.flows))
	f.up.flows = append(f.up.flows, f)
	f.down.flows = append(f.down.flows, f)
}

// more gives a flow that is done the next bytes without stopping it.
func (n *network) more(f *flow, bytes float64) {
	n.settle(f)
	f.remaining = bytes
	n.schedule(f)
}

// stop takes a flow out of its links.
func (n *network) stop(f *flow) {
	n.leave(f)
	n.rebalance(f.up, f.down)
}

// leave takes f off its links; the rates of the others are not right until these are rebalanced.
func (n *network) leave(f *flow) {
	n.settle(f)
	n.ends.remove(f)
	for side, l := range [2]*link{f.up, f.down} {
		last := len(l.flows) - 1
		moved := l.flows[last]
		l.flows[f.place[side]] = moved
		moved.place[side] = f.place[side]
		l.flows[last] = nil
		l.flows = l.flows[:last]
	}
	f.rate = 0
}

// settle books what f carried since it was last looked at.
func (n *network) settle(f *flow) {
	carried := min(f.rate*(n.w.now-f.settled).Seconds(), f.remaining)
	f.remaining -= carried
	f.up.sent += carried
	f.down.sent += carried
	f.settled = n.w.now
}

// schedule plans the end of f at its present rate.
func (n *network) schedule(f *flow) {
	n.seq++
	f.seq = n.seq
	f.end = n.w.now + time.Duration(min(math.Ceil(f.remaining/f.rate*float64(time.Second)), maxWait))
	n.ends.put(f)
}

// maxWait is about 250 years in nanoseconds: later than anybody waits, and no overflow.
const maxWait = 8e18

// finish ends the flow whose end is next.
func (n *network) finish() {
	f := n.ends[0]
	n.ends.remove(f)
	n.settle(f)
	f.done()
}

// rebalance fills the links anew that a change concerns and gives their flows their new rates.
func (n *network) rebalance(links ...*link) {
	n.dirty = n.dirty[:0]
	for _, l := range links {
		if !l.pending {
			n.dirty = append(n.dirty, dirtyLink{l, 0})
			l.pending = true
		}
	}
	for k := 0; k < len(n.dirty); k++ {
		d := n.dirty[k]
		old := d.l.level
		d.l.level, d.l.pending = n.fill(d.l), false
		if d.hops == levelHops || math.Abs(d.l.level-old) <= levelEpsilon*old {
			continue
		}
		for _, f := range d.l.flows {
			if o := f.other(d.l); !o.pending {
				o.pending = true
				n.dirty = append(n.dirty, dirtyLink{o, d.hops + 1})
			}
		}
	}
	for _, d := range n.dirty {
		for _, f := range d.l.flows {
			rate := min(f.up.level, f.down.level)
			if math.Abs(rate-f.rate) > levelEpsilon/2*f.rate || f.rate == 0 {
				n.settle(f)
				f.rate = rate
				n.schedule(f)
			}
		}
	}
}

func (f *flow) other(l *link) *link {
	if l == f.up {
		return f.down
	}
	return f.up
}

// fill is the level at which the flows of l use all of it, given what the other ends let through: equal shares first,
// then again and again what is left over by those that cannot use their share.
func (n *network) fill(l *link) float64 {
	for share := l.capacity / float64(max(1, len(l.flows))); ; {
		rest, open := l.capacity, 0
		for _, f := range l.flows {
			if limit := f.other(l).level; limit <= share {
				rest -= limit
			} else {
				open++
			}
		}
		if open == 0 {
			return l.capacity // not full: no limit here
		}
		next := rest / float64(open)
		if next <= share*(1+1e-12) {
			return share
		}
		share = next
	}
}
