package sim

import (
	"fmt"
	"math"
	"math/bits"
	"math/rand/v2"
	"time"
)

// oracle is the baseline that decisions with local knowledge are measured against: a tracker that knows at every moment
// and without delay what everybody has. Whoever has room to send is matched with somebody who lacks a chunk of his, the
// rarest of a few. Its state is a few hundred bytes a node, so it also shows what the engine alone can bear.
type oracle struct {
	swarmConfig
	w        *World
	rng      *rand.Rand
	sizes    []uint32
	nodes    []seeker
	copies   []int32   // by chunk: who has it or is getting it
	idle     []int32   // nodes with room to send for whom there was nothing; some may have gone since
	unused   []*parcel // for the next
	wanting  []int32   // nodes that lack something nobody is sending to them
	reports  []NodeReport
	complete int
	wanted   int // nodes that are to be complete
}

// seeker is a node under the oracle.
type seeker struct {
	have, coming []uint64 // bits by chunk; coming includes have
	up, down     *link
	left         int32 // chunks that are not here
	lacking      int32 // chunks that are not here nor coming
	place        int32 // index in oracle.wanting; -1: not there
	sending      int16
	getting      int16
	idle         bool
}

// parcel is one chunk under way.
type parcel struct {
	flow     flow
	from, to int32
	chunk    int32
}

const (
	oracleTries    = 32 // nodes looked at for one who lacks something
	oracleSamples  = 8  // chunks of which the rarest is sent
	oracleReceives = 8  // chunks that a node gets at a time
)

func newOracle(w *World, c swarmConfig) *oracle {
	o := &oracle{swarmConfig: c, w: w, rng: w.rng(0)}
	for _, s := range c.sizes {
		o.sizes = append(o.sizes, s...)
	}
	words := (len(o.sizes) + 63) / 64
	o.copies = make([]int32, len(o.sizes))
	o.nodes = make([]seeker, len(c.up))
	o.reports = make([]NodeReport, len(c.up))
	for i := range o.nodes {
		o.reports[i] = NodeReport{Name: fmt.Sprintf("node%d", i), Kind: c.kinds[i].String(), UpRate: c.up[i], DownRate: c.down[i], Complete: math.NaN()}
		n := &o.nodes[i]
		*n = seeker{have: make([]uint64, words), coming: make([]uint64, words), up: newLink(c.up[i]), down: newLink(c.down[i]), place: -1}
		switch {
		case i == 0:
			for k := range o.sizes {
				n.have[k/64] |= 1 << (k % 64)
			}
			copy(n.coming, n.have)
			o.reports[i].Complete = 0
		case c.kinds[i] != liar:
			n.left, n.lacking = int32(len(o.sizes)), int32(len(o.sizes))
			n.place = int32(len(o.wanting))
			o.wanting = append(o.wanting, int32(i))
		}
	}
	o.wanted = len(o.wanting)
	return o
}

// run lets the crowd get everything.
func (o *oracle) run(end time.Duration) []NodeReport {
	o.fill(0)
	o.w.run(end, func() bool { return o.complete == o.wanted })
	for i := range o.nodes {
		o.reports[i].Sent = o.nodes[i].up.sent
	}
	return o.reports
}

// fill gives i as much to send as it has room for.
func (o *oracle) fill(i int32) {
	n := &o.nodes[i]
	if o.kinds[i] == slow {
		return // the oracle knows
	}
	for int(n.sending) < max(1, o.serving.Places) {
		to, chunk := o.match(i)
		if to < 0 {
			if !n.idle {
				n.idle = true
				o.idle = append(o.idle, i)
			}
			return
		}
		o.send(i, to, chunk)
	}
}

// match finds somebody for i to send a chunk to; -1: nobody.
func (o *oracle) match(i int32) (to, chunk int32) {
	n := &o.nodes[i]
	for range min(oracleTries, 2*len(o.wanting)) {
		to = o.wanting[o.rng.IntN(len(o.wanting))]
		d := &o.nodes[to]
		if to == i || d.getting >= oracleReceives {
			continue
		}
		if chunk = o.rarest(n, d); chunk >= 0 {
			return to, chunk
		}
	}
	return -1, -1
}

// rarest is the rarest of a few chunks that n has and d lacks; -1: there is none.
func (o *oracle) rarest(n, d *seeker) int32 {
	best, least, seen := int32(-1), int32(math.MaxInt32), 0
	from := o.rng.IntN(len(n.have))
	for k := range n.have {
		w := (from + k) % len(n.have)
		for b := n.have[w] &^ d.coming[w]; b != 0; b &= b - 1 {
			chunk := int32(w*64 + bits.TrailingZeros64(b))
			if o.copies[chunk] < least {
				best, least = chunk, o.copies[chunk]
			}
			seen++
		}
		if seen >= oracleSamples {
			break
		}
	}
	return best
}

// send starts a chunk on its way.
func (o *oracle) send(from, to, chunk int32) {
	var p *parcel
	if last := len(o.unused) - 1; last >= 0 {
		p, o.unused = o.unused[last], o.unused[:last]
	} else {
		p = &parcel{}
		p.flow.done = func() { o.sent(p) }
	}
	p.from, p.to, p.chunk = from, to, chunk
	n, d := &o.nodes[from], &o.nodes[to]
	p.flow.up, p.flow.down = n.up, d.down
	n.sending++
	d.getting++
	d.coming[chunk/64] |= 1 << (chunk % 64)
	o.copies[chunk]++
	if d.lacking--; d.lacking == 0 {
		last := o.wanting[len(o.wanting)-1]
		o.wanting[d.place], o.nodes[last].place = last, d.place
		o.wanting = o.wanting[:len(o.wanting)-1]
		d.place = -1
	}
	o.w.net.start(&p.flow, float64(o.sizes[chunk]))
}

// sent is called when the last byte of a chunk has left.
func (o *oracle) sent(p *parcel) {
	o.w.net.stop(&p.flow)
	from, to, chunk := p.from, p.to, p.chunk
	o.unused = append(o.unused, p)
	n, d := &o.nodes[from], &o.nodes[to]
	n.sending--
	d.getting--
	d.have[chunk/64] |= 1 << (chunk % 64)
	o.reports[to].Received += uint64(o.sizes[chunk])
	if d.left--; d.left == 0 {
		o.complete++
		o.reports[to].Complete = (o.w.now + o.w.rtt(int(from), int(to))/2).Seconds()
	}
	o.fill(from)
	o.fill(to)
	for range min(2, len(o.idle)) { // there may be something for those who had nothing to send
		k := o.rng.IntN(len(o.idle))
		i := o.idle[k]
		o.idle[k] = o.idle[len(o.idle)-1]
		o.idle = o.idle[:len(o.idle)-1]
		o.nodes[i].idle = false
		o.fill(i)
	}
}
