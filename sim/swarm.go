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

// swarmConfig is what a swarm consists of. Node 0 is the master.
type swarmConfig struct {
	sizes    [][]uint32           // of the chunks, by segment
	up, down []float64            // of the nodes, bytes/s
	kinds    []kind               // of the nodes; nil: all honest
	serving  policy.ServingConfig // zero: as the real node
	inFlight uint64               // most bytes that a node has asked for and not got; 0: as policy.InFlight says
	tell     time.Duration        // least time between two messages about holdings; 0: holdingsInterval
}

// kind is how a node behaves.
type kind uint8

const (
	honest kind = iota
	liar        // says that it has everything and sends wrong bytes
	slow        // serves at slowRate
)

// slowRate is the uplink of a slow node in bytes/s.
const slowRate = 1000

func (k kind) String() string { return [...]string{"honest", "liar", "slow"}[k] }

// swarm is a master and nodes that share one collection.
type swarm struct {
	swarmConfig
	w        *World
	nodes    []*node
	byID     map[gossip.PeerID]*node
	wanting  int // nodes that are to get all, without the master
	complete int // of these, those that have it
}

// node is one simulated node: the real decisions, with the network and the store left out.
type node struct {
	s          *swarm
	index      int
	kind       kind
	up, down   *link
	inbox      *gossip.Inbox
	neighbours []neighbour
	server     server
	store      store
	news       newsheet
	box        mailbox
	report     NodeReport
	asking
}

// asking is what a node decides with, and when it does next.
type asking struct {
	transfer *policy.Transfer
	room     policy.InFlight
	wakeAt   time.Duration // when the next step is planned; 0: not
	full     bool          // the last step asked for all that may be in flight: nothing but an answer changes anything
}

// id names the node to the others.
func (n *node) id() gossip.PeerID { return gossip.PeerID(n.report.Name) }

// neighbour is another node that there is a connection to.
type neighbour struct {
	*node
	rtt time.Duration
}

// store is what a node has.
type store struct {
	have    []content.Bitmap // by segment
	missing []int            // chunks, by segment
	left    int              // segments not complete
}

// newsheet is what a node has got and not yet told its neighbours.
type newsheet struct {
	chunks  []content.Bitmap // by segment
	waiting bool
	last    time.Duration
}

func newSwarm(w *World, c swarmConfig) *swarm {
	if c.tell == 0 {
		c.tell = holdingsInterval
	}
	s := &swarm{swarmConfig: c, w: w, byID: map[gossip.PeerID]*node{}}
	for i := range c.up {
		n := &node{s: s, index: i, up: newLink(c.up[i]), down: newLink(c.down[i]), server: newServer(c.serving)}
		if c.kinds != nil {
			n.kind = c.kinds[i]
		}
		n.report = NodeReport{Name: fmt.Sprintf("node%d", i), Kind: n.kind.String(), UpRate: c.up[i], DownRate: c.down[i],
			Heard: math.NaN(), Complete: math.NaN()}
		n.store = store{have: make([]content.Bitmap, len(c.sizes)), missing: make([]int, len(c.sizes)), left: len(c.sizes)}
		for seg := range c.sizes {
			n.store.missing[seg] = len(c.sizes[seg])
		}
		n.news.last = -c.tell
		n.box.check = n.check
		n.inbox = gossip.NewInbox(&verifier{}, gossip.Head{})
		n.transfer = policy.NewTransfer(policy.TransferConfig{InFlight: c.inFlight, Progress: n.progress}, w.rng(i))
		if i > 0 && n.kind != liar {
			s.wanting++
		}
		s.nodes = append(s.nodes, n)
		s.byID[n.id()] = n
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
					peers[i].Learned(o.id())
					peers[i].RTT(o.id(), s.w.rtt(i, o.index))
				}
			}
			continue
		}
		for range maxKnown {
			if o := s.nodes[rng.IntN(len(s.nodes))]; o != n {
				peers[i].Learned(o.id())
				peers[i].RTT(o.id(), s.w.rtt(i, o.index))
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
				peers[o.index].Connected(n.id(), rtt)
				if !n.knows(o) {
					n.neighbours = append(n.neighbours, neighbour{o, rtt})
					o.neighbours = append(o.neighbours, neighbour{n, rtt})
				}
				dialed = true
			}
		}
	}
	for _, n := range s.nodes {
		for _, o := range n.neighbours {
			n.transfer.Found(s.w.time(), o.id(), o.rtt)
		}
	}
}

// maxNeighbours is what policy.Peers keeps at most; a node with so many takes no more.
const maxNeighbours = 50

func (n *node) knows(o *node) bool {
	return slices.ContainsFunc(n.neighbours, func(k neighbour) bool { return k.node == o })
}

// part ends the connection of two neighbours.
func (n *node) part(o *node) {
	for _, side := range [2][2]*node{{n, o}, {o, n}} {
		from, other := side[0], side[1]
		from.read()
		from.neighbours = slices.DeleteFunc(from.neighbours, func(k neighbour) bool { return k.node == other })
		from.transfer.Gone(from.s.w.time(), other.id())
		if l := from.server.lines[other.index]; l != nil {
			for len(l.asked) > 0 {
				l.drop(l.asked[0])
			}
		}
	}
}

// send lets something happen at another node after the time a message takes.
func (n *node) send(to *node, do func()) {
	n.s.w.after(n.s.w.rtt(n.index, to.index)/2, func() {
		to.read()
		do()
	})
}

// publish makes n the holder of everything and announces it.
func (n *node) publish(raw []byte, seed bool) {
	if seed {
		n.server.seeding = policy.NewSeeding()
	}
	for seg, sizes := range n.s.sizes {
		n.store.have[seg] = content.Full(uint32(len(sizes)))
		if seed {
			n.server.seeding.Add(uint32(seg), n.store.have[seg])
		}
		n.store.missing[seg] = 0
	}
	n.store.left = 0
	n.report.Heard, n.report.Complete = 0, 0
	n.tellAll()
	for _, o := range n.neighbours {
		n.send(o.node, func() { o.receive(n, raw) })
	}
}

// tellAll tells the neighbours that n has everything.
func (n *node) tellAll() {
	n.broadcast(&gossip.Holdings{Reset: true, Below: uint32(len(n.s.sizes))})
}

// receive judges an announcement, forwards it and begins to fetch what is new.
func (n *node) receive(from *node, raw []byte) {
	d := n.inbox.Receive(n.s.w.time(), from.id(), raw)
	if d.Verdict == gossip.Accept {
		for _, o := range n.neighbours {
			if o.node != from {
				n.send(o.node, func() { o.receive(n, raw) })
			}
		}
	}
	if d.News == nil || n.store.left == 0 {
		return
	}
	n.report.Heard = n.s.w.now.Seconds()
	if n.kind == liar {
		n.tellAll()
		return
	}
	n.s.w.after(n.s.w.rtt(n.index, from.index), func() { // the tables, from the one who told; they are small
		n.read()
		for seg, sizes := range n.s.sizes {
			n.transfer.Want(uint32(seg), func(i uint32) uint32 { return sizes[i] }, content.Full(uint32(len(sizes))))
		}
		n.step()
	})
}

// step obeys policy.Transfer: the simulator's counterpart of node/fetch.
func (n *node) step() {
	now := n.s.w.time()
	n.transfer.Limit(n.inFlight())
	st := n.transfer.Next(now)
	n.room.Asked(now, st.InFlight)
	for _, id := range st.Banned {
		n.part(n.s.byID[id])
	}
	for _, id := range st.Cancel {
		for _, o := range n.neighbours {
			if l := o.server.lines[n.index]; l != nil && l.has(id) {
				n.send(o.node, func() { l.cancel(id) })
			}
		}
	}
	for _, r := range st.Ask {
		o := n.s.byID[r.Peer]
		n.send(o, func() {
			if o.knows(n) {
				o.serve(n, r)
			}
		})
	}
	n.full = len(st.Ask) == 0 && st.InFlight+content.MaxChunkSize > n.inFlight()
	if !st.Wake.IsZero() {
		n.planWake(st.Wake.Sub(epoch))
	}
	n.lookAgain()
}

// progress is how many bytes of an answer have been sent to n.
func (n *node) progress(id policy.RequestID) uint64 {
	for _, o := range n.neighbours {
		if l := o.server.lines[n.index]; l != nil {
			if i := slices.IndexFunc(l.asked, func(j *job) bool { return j.r.ID == id }); i >= 0 {
				return l.asked[i].bytes()
			}
		}
	}
	return 0
}

// inFlight is the most that n may have asked for.
func (n *node) inFlight() uint64 {
	if n.s.swarmConfig.inFlight == 0 {
		return n.room.Limit()
	}
	return max(n.s.swarmConfig.inFlight, content.MaxChunkSize) // or nothing could be asked for
}

// arrived takes a chunk: it is kept if it is right.
func (n *node) arrived(id policy.RequestID, ref content.Ref, right bool) {
	size := n.s.sizes[ref.Segment][ref.Index]
	n.room.Received(n.s.w.time(), uint64(size))
	switch {
	case !right: // as the hash shows
		n.transfer.Failed(n.s.w.time(), id, policy.Reason{Kind: policy.Bad, Ref: ref})
		n.report.Bad++
	case n.store.have[ref.Segment].Has(ref.Index):
		n.transfer.Got(n.s.w.time(), id, ref, size)
	default:
		n.transfer.Got(n.s.w.time(), id, ref, size)
		n.keep(ref, right)
	}
	n.step()
}

// keep stores a chunk.
func (n *node) keep(ref content.Ref, right bool) {
	if !right {
		n.report.BadKept++
	}
	st := &n.store
	st.have[ref.Segment].Set(ref.Index)
	if st.missing[ref.Segment]--; st.missing[ref.Segment] == 0 {
		st.left--
	}
	if st.left == 0 {
		n.s.complete++
		n.report.Complete = n.s.w.now.Seconds()
	}
	if n.news.chunks == nil {
		n.news.chunks = make([]content.Bitmap, len(n.s.sizes))
	}
	n.news.chunks[ref.Segment].Set(ref.Index)
	n.tell()
}

// tell plans the next message about holdings, no sooner than the interval after the last.
func (n *node) tell() {
	if n.news.waiting {
		return
	}
	n.news.waiting = true
	n.s.w.after(n.news.last+n.s.swarmConfig.tell-n.s.w.now, func() {
		n.news.waiting, n.news.last = false, n.s.w.now
		h := &gossip.Holdings{}
		for seg, chunks := range n.news.chunks {
			switch {
			case len(chunks) == 0:
				continue
			case n.store.missing[seg] == 0:
				h.Segments.Set(uint32(seg))
			default:
				h.Partial = append(h.Partial, gossip.PartialSegment{Segment: uint32(seg), Chunks: chunks})
			}
		}
		n.news.chunks = nil
		n.broadcast(h)
	})
}

// broadcast tells the neighbours what n has. Those who have everything need not know.
func (n *node) broadcast(h *gossip.Holdings) {
	for _, o := range n.neighbours {
		if o.store.left == 0 || o.kind == liar {
			continue
		}
		n.post(o.node, o.rtt/2, h)
	}
}

// cares reports whether h can change what n does: it names something that n does not have.
func (n *node) cares(h *gossip.Holdings) bool {
	if n.store.left == 0 {
		return false
	}
	for _, p := range h.Partial {
		have := n.store.have[p.Segment]
		for i, x := range p.Chunks {
			if i >= len(have) || x&^have[i] != 0 {
				return true
			}
		}
	}
	if h.Below > 0 {
		return true
	}
	for seg, missing := range n.store.missing {
		if missing > 0 && h.Segments.Has(uint32(seg)) {
			return true
		}
	}
	return false
}

// lookDelay is how long a node waits for more news of holdings before it thinks about them.
const lookDelay = 10 * time.Millisecond

// finish writes down what came of n.
func (n *node) finish() NodeReport {
	st := n.transfer.Stats()
	n.report.Sent = n.up.sent
	n.report.Banned = len(n.transfer.Banned(n.s.w.time()))
	n.report.Received, n.report.Timeouts = st.Received, st.Timeouts
	n.report.Wasted += st.Wasted
	return n.report
}
