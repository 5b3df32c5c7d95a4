package sim

import (
	"net/netip"
	"slices"
	"time"

	"swarmnode/content"
	"swarmnode/gossip"
	"swarmnode/node/policy"
)

// server is the side of a node that others ask: the real decisions, with the streams left out.
type server struct {
	serving *policy.Serving
	lines   map[int]*line          // to each neighbour that asked; looked up only
	jobs    map[policy.Ticket]*job // looked up only
	wakeAt  time.Time              // when serving is asked next; zero: with the next event
	seeding *policy.Seeding        // of the master, if it seeds so
}

// line is what one node serves to another: the requests that have a place one after the other, over one flow, as one
// connection does.
type line struct {
	from, to *node
	flow     *flow
	asked    []*job
	jobs     []*job // of these, those that have a place: the first is being served
	running  bool   // the flow is going
}

// job is a request at the one who serves it.
type job struct {
	l      *line
	r      policy.Request
	ticket policy.Ticket
	next   uint32 // index into the run of the chunk being sent
	sent   uint64 // bytes of those before it
	going  bool   // that chunk is being sent
	begun  bool   // something of it was sent
}

func newServer(c policy.ServingConfig) server {
	s := server{lines: map[int]*line{}, jobs: map[policy.Ticket]*job{}}
	c.Sent = func(t policy.Ticket) uint64 { return s.jobs[t].bytes() }
	s.serving = policy.NewServing(c)
	return s
}

// bytes is how many bytes of a job have been sent.
func (j *job) bytes() uint64 {
	if !j.going {
		return j.sent
	}
	j.l.from.s.w.net.settle(j.l.flow)
	return j.sent + uint64(float64(j.l.size(j))-j.l.flow.remaining)
}

// serve takes a request of another node.
func (n *node) serve(to *node, r policy.Request) {
	ticket := n.server.serving.Ask(n.s.w.time(), to.id(), netip.Prefix{})
	if ticket == 0 {
		n.fail(to, r.ID, policy.Reason{Kind: policy.Busy, RetryAfter: n.server.serving.RetryAfter()})
		return
	}
	l := n.server.lines[to.index]
	if l == nil {
		l = &line{from: n, to: to}
		l.flow = &flow{up: n.up, down: to.down, done: l.sent}
		n.server.lines[to.index] = l
	}
	j := &job{l: l, r: r, ticket: ticket}
	n.server.jobs[ticket] = j
	l.asked = append(l.asked, j)
	n.pump()
}

// fail ends a request of another node.
func (n *node) fail(to *node, id policy.RequestID, why policy.Reason) {
	n.send(to, func() {
		to.transfer.Failed(to.s.w.time(), id, why)
		to.step()
	})
}

// pump obeys policy.Serving.
func (n *node) pump() {
	step := n.server.serving.Next(n.s.w.time())
	for _, t := range step.Begin {
		if j := n.server.jobs[t]; j != nil {
			j.l.jobs = append(j.l.jobs, j)
			if len(j.l.jobs) == 1 {
				j.l.advance()
			}
		}
	}
	for _, t := range step.Refuse {
		j := n.server.jobs[t]
		j.l.forget(j)
		n.fail(j.l.to, j.r.ID, policy.Reason{Kind: policy.Busy, RetryAfter: n.server.serving.RetryAfter()})
	}
	for _, t := range step.Break {
		if j := n.server.jobs[t]; j != nil {
			j.l.drop(j)
			n.fail(j.l.to, j.r.ID, policy.Reason{Kind: policy.Broken})
		}
	}
	at := step.Wake
	if at.IsZero() || !n.server.wakeAt.IsZero() && !at.Before(n.server.wakeAt) {
		return
	}
	n.server.wakeAt = at
	n.s.w.after(at.Sub(n.s.w.time()), func() {
		if n.server.wakeAt.Equal(at) {
			n.server.wakeAt = time.Time{}
			n.pump()
		}
	})
}

// leave ends a job that is on the line or waits to be, and lets others have its place.
func (l *line) leave(j *job) {
	n := l.from
	n.server.serving.Leave(n.s.w.time(), j.ticket)
	l.forget(j)
	n.pump()
}

func (l *line) forget(j *job) {
	is := func(o *job) bool { return o == j }
	delete(l.from.server.jobs, j.ticket)
	l.asked, l.jobs = slices.DeleteFunc(l.asked, is), slices.DeleteFunc(l.jobs, is)
}

// drop forgets a job. What has left of its present chunk is wasted.
func (l *line) drop(j *job) {
	if j.going {
		l.to.report.Wasted += j.bytes() - j.sent
		j.sent, j.going = j.bytes(), false
		if ref := l.ref(j); l.from.server.seeding != nil {
			l.from.server.seeding.Return(ref)
		}
		l.from.s.w.net.stop(l.flow)
		l.running = false
	}
	l.leave(j)
	l.advance()
}

func (l *line) has(id policy.RequestID) bool {
	return slices.ContainsFunc(l.asked, func(j *job) bool { return j.r.ID == id })
}

// cancel ends a request early.
func (l *line) cancel(id policy.RequestID) {
	if i := slices.IndexFunc(l.asked, func(j *job) bool { return j.r.ID == id }); i >= 0 {
		l.drop(l.asked[i])
	}
}

func (l *line) ref(j *job) content.Ref {
	return content.Ref{Segment: j.r.Run.Segment, Index: j.r.Run.First + j.next}
}

func (l *line) size(j *job) uint32 {
	ref := l.ref(j)
	return l.from.s.sizes[ref.Segment][ref.Index]
}

// sent is called when the last byte of a chunk has left.
func (l *line) sent() {
	j, to := l.jobs[0], l.to
	ref := l.ref(j)
	j.sent += uint64(l.size(j))
	j.next++
	j.going = false
	right := l.from.kind != liar
	l.from.send(to, func() { to.arrived(j.r.ID, ref, right) })
	switch {
	case !right:
		l.leave(j) // whom it lied to breaks the stream
	case j.next < j.r.Run.Count && l.from.server.serving.Turn(l.from.s.w.time(), j.ticket):
		l.from.fail(to, j.r.ID, policy.Reason{Kind: policy.Busy})
		l.leave(j)
	}
	l.advance()
}

// advance goes on with the next chunk that is here.
func (l *line) advance() {
	net, to := &l.from.s.w.net, l.to
	for len(l.jobs) > 0 && !l.jobs[0].going {
		j := l.jobs[0]
		if j.next == j.r.Run.Count {
			l.from.send(to, func() {
				to.transfer.Finished(to.s.w.time(), j.r.ID)
				to.step()
			})
			is := func(o *job) bool { return o == j }
			l.asked, l.jobs = slices.DeleteFunc(l.asked, is), slices.DeleteFunc(l.jobs, is)
			l.from.s.w.after(l.from.s.w.rtt(l.from.index, to.index), func() { l.leave(j) }) // its place is free when it says that all has come
			continue
		}
		ref := l.ref(j)
		if !l.from.gives(ref) {
			j.next++
			l.from.send(to, func() {
				to.transfer.NotHere(to.s.w.time(), j.r.ID, ref)
				to.step()
			})
			continue
		}
		j.going = true
		if !j.begun {
			j.begun = true
			l.from.send(to, func() {
				if to.transfer.Began(to.s.w.time(), j.r.ID) {
					to.step()
				}
			})
		}
		if l.running {
			net.more(l.flow, float64(l.size(j)))
		} else {
			l.running = true
			net.start(l.flow, float64(l.size(j)))
		}
	}
	if len(l.jobs) == 0 && l.running {
		l.running = false
		net.stop(l.flow)
	}
	if len(l.asked) == 0 && l.from.server.lines[to.index] == l {
		delete(l.from.server.lines, to.index)
	}
}

// gives reports whether n sends a chunk: it has it and, as a publisher, does not hold it back.
func (n *node) gives(ref content.Ref) bool {
	if n.kind == liar {
		return true
	}
	if !n.store.have[ref.Segment].Has(ref.Index) || n.server.seeding == nil {
		return n.store.have[ref.Segment].Has(ref.Index)
	}
	now := n.s.w.time()
	given := n.server.seeding.Give(now, ref)
	if again := n.server.seeding.Again(now); len(again) > 0 {
		n.broadcast(&gossip.Holdings{Segments: again})
	}
	return given
}
