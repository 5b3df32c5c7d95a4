package sim

import (
	"fmt"
	"math"
	"slices"
	"time"

	"swarmnode/content"
	"swarmnode/gossip"
	"swarmnode/node/policy"
)

// holdingsInterval is the least time between two messages of a node about what it has (DESIGN section 6).
const holdingsInterval = 100 * time.Millisecond

// swarm is a master and nodes that share one collection. Node 0 is the master.
type swarm struct {
	w        *World
	nodes    []*node
	byID     map[gossip.PeerID]*node
	sizes    [][]uint32 // by segment and chunk
	slots    int        // peers that a node serves at a time; others wait
	complete int        // nodes that have all, without the master
}

// node is one simulated node: the real decisions, with the network and the store left out.
type node struct {
	s          *swarm
	index      int
	id         gossip.PeerID
	up, down   *link
	inbox      *gossip.Inbox
	transfer   *policy.Transfer
	neighbours []*node
	server     server
	have       []content.Bitmap
	missing    []int // chunks, by segment
	left       int   // segments not complete
	news       newsheet
	wakeAt     time.Time // when the next step is planned; zero: not
	report     NodeReport
}

// server is the side of a node that others ask.
type server struct {
	lines   map[int]*line   // to each neighbour that asked; looked up only
	queue   []*line         // lines that wait for a slot
	serving int             // slots taken
	seeding *policy.Seeding // of the master, if it seeds so
}

// newsheet is what a node has got and not yet told its neighbours.
type newsheet struct {
	chunks  []content.Bitmap // by segment
	waiting bool
	last    time.Duration
}

func newSwarm(w *World, sizes [][]uint32, slots int, up, down []float64) *swarm {
	s := &swarm{w: w, sizes: sizes, slots: slots, byID: map[gossip.PeerID]*node{}}
	for i := range up {
		n := &node{s: s, index: i, id: gossip.PeerID(fmt.Sprintf("node%d", i)), up: newLink(up[i]), down: newLink(down[i]),
			server: server{lines: map[int]*line{}}, have: make([]content.Bitmap, len(sizes)), missing: make([]int, len(sizes)), left: len(sizes)}
		n.news.chunks = make([]content.Bitmap, len(sizes))
		n.news.last = -holdingsInterval
		n.inbox = gossip.NewInbox(&verifier{}, gossip.Head{})
		n.transfer = policy.NewTransfer(policy.TransferConfig{}, w.rng(i))
		n.report = NodeReport{Name: string(n.id), UpRate: up[i], DownRate: down[i], Heard: math.NaN(), Complete: math.NaN()}
		for seg := range sizes {
			n.missing[seg] = len(sizes[seg])
		}
		s.nodes = append(s.nodes, n)
		s.byID[n.id] = n
	}
	return s
}

// maxKnown is how many others a node knows to choose neighbours from: enough that more would not change the choice much.
const maxKnown = 200

// connect lets every node choose neighbours by policy.Peers, until nobody wants another.
func (s *swarm) connect() {
	peers := make([]*policy.Peers, len(s.nodes))
	for i, n := range s.nodes {
		rng := s.w.rng(len(s.nodes) + i)
		peers[i] = policy.NewPeers(policy.PeersConfig{}, rng)
		if len(s.nodes) <= maxKnown {
			for _, o := range s.nodes {
				if o != n {
					peers[i].Learned(o.id)
					peers[i].RTT(o.id, s.w.rtt(i, o.index))
				}
			}
			continue
		}
		for range maxKnown {
			if o := s.nodes[rng.IntN(len(s.nodes))]; o != n {
				peers[i].Learned(o.id)
				peers[i].RTT(o.id, s.w.rtt(i, o.index))
			}
		}
	}
	for dialed := true; dialed; {
		dialed = false
		for i, n := range s.nodes {
			for _, id := range peers[i].Next(epoch).Dial {
				o := s.byID[id]
				if len(o.neighbours) >= maxNeighbours {
					peers[i].DialFailed(epoch, id)
					continue
				}
				rtt := s.w.rtt(i, o.index)
				peers[i].Connected(id, rtt)
				peers[o.index].Connected(n.id, rtt)
				if !slices.Contains(n.neighbours, o) {
					n.neighbours = append(n.neighbours, o)
					o.neighbours = append(o.neighbours, n)
				}
				dialed = true
			}
		}
	}
	for _, n := range s.nodes {
		for _, o := range n.neighbours {
			n.transfer.Found(s.w.time(), o.id, s.w.rtt(n.index, o.index))
		}
	}
}

// maxNeighbours is what policy.Peers keeps at most; a node with so many takes no more.
const maxNeighbours = 50

// send lets something happen at another node after the time a message takes.
func (n *node) send(to *node, do func()) { n.s.w.after(n.s.w.rtt(n.index, to.index)/2, do) }

// publish makes n the holder of everything and announces it.
func (n *node) publish(raw []byte, seed bool) {
	if seed {
		n.server.seeding = policy.NewSeeding()
	}
	for seg, sizes := range n.s.sizes {
		n.have[seg] = content.Full(uint32(len(sizes)))
		if seed {
			n.server.seeding.Add(uint32(seg), n.have[seg])
		}
		n.missing[seg] = 0
	}
	n.left = 0
	n.report.Heard, n.report.Complete = 0, 0
	for _, o := range n.neighbours {
		n.send(o, func() {
			o.transfer.Holds(n.s.w.time(), n.id, gossip.Holdings{Reset: true, Below: uint32(len(n.s.sizes))})
		})
		n.send(o, func() { o.receive(n, raw) })
	}
}

// receive judges an announcement, forwards it and begins to fetch what is new.
func (n *node) receive(from *node, raw []byte) {
	d := n.inbox.Receive(n.s.w.time(), from.id, raw)
	if d.Verdict == gossip.Accept {
		for _, o := range n.neighbours {
			if o != from {
				n.send(o, func() { o.receive(n, raw) })
			}
		}
	}
	if d.News == nil || n.left == 0 {
		return
	}
	n.report.Heard = n.s.w.now.Seconds()
	n.s.w.after(n.s.w.rtt(n.index, from.index), func() { // the tables, from the one who told; they are small
		for seg, sizes := range n.s.sizes {
			n.transfer.Want(uint32(seg), func(i uint32) uint32 { return sizes[i] }, content.Full(uint32(len(sizes))))
		}
		n.step()
	})
}

// step obeys policy.Transfer: the simulator's counterpart of node/fetch.
func (n *node) step() {
	w := n.s.w
	st := n.transfer.Next(w.time())
	for _, id := range st.Cancel {
		for _, o := range n.neighbours {
			if l := o.server.lines[n.index]; l != nil && l.has(id) {
				n.send(o, func() { l.cancel(id) })
			}
		}
	}
	for _, r := range st.Ask {
		o := n.s.byID[r.Peer]
		n.send(o, func() { o.serve(n, r) })
	}
	n.planWake(st.Wake)
}

// planWake plans the next step. One that is planned for sooner stays: it will plan again.
func (n *node) planWake(at time.Time) {
	if at.IsZero() || !n.wakeAt.IsZero() && !at.Before(n.wakeAt) {
		return
	}
	n.wakeAt = at
	n.s.w.after(at.Sub(n.s.w.time()), func() {
		if n.wakeAt.Equal(at) {
			n.wakeAt = time.Time{}
			n.step()
		}
	})
}

// got stores a chunk.
func (n *node) got(id policy.RequestID, ref content.Ref) {
	n.transfer.Got(n.s.w.time(), id, ref, n.s.sizes[ref.Segment][ref.Index])
	if !n.have[ref.Segment].Has(ref.Index) {
		n.have[ref.Segment].Set(ref.Index)
		if n.missing[ref.Segment]--; n.missing[ref.Segment] == 0 {
			n.left--
		}
		if n.left == 0 {
			n.s.complete++
			n.report.Complete = n.s.w.now.Seconds()
		}
		n.news.chunks[ref.Segment].Set(ref.Index)
		n.tell()
	}
	n.step()
}

// tell plans the next message about holdings, no sooner than the interval after the last.
func (n *node) tell() {
	if n.news.waiting {
		return
	}
	n.news.waiting = true
	n.s.w.after(n.news.last+holdingsInterval-n.s.w.now, func() {
		n.news.waiting, n.news.last = false, n.s.w.now
		var h gossip.Holdings
		for seg, chunks := range n.news.chunks {
			switch {
			case len(chunks) == 0:
				continue
			case n.missing[seg] == 0:
				h.Segments.Set(uint32(seg))
			default:
				h.Partial = append(h.Partial, gossip.PartialSegment{Segment: uint32(seg), Chunks: chunks})
			}
			n.news.chunks[seg] = nil
		}
		n.broadcast(h)
	})
}

// broadcast tells the neighbours what n has.
func (n *node) broadcast(h gossip.Holdings) {
	for _, o := range n.neighbours {
		n.send(o, func() {
			o.transfer.Holds(n.s.w.time(), n.id, h)
			if o.transfer.Left() > 0 {
				o.step()
			}
		})
	}
}

// finish writes down what came of n.
func (n *node) finish() NodeReport {
	st := n.transfer.Stats()
	n.report.Sent = n.up.sent
	n.report.Received, n.report.Timeouts = st.Received, st.Timeouts
	n.report.Wasted += st.Wasted
	return n.report
}
