package sim

import (
	"slices"
	"time"

	"swarmnode/content"
	"swarmnode/gossip"
	"swarmnode/node/policy"
)

// line is what one node serves to another: its requests one after the other, over one flow.
type line struct {
	from, to *node
	flow     *flow
	jobs     []*job // the first is served next, or is being served
	running  bool   // the flow is going: one of the slots of from is taken
	waiting  bool   // for a slot
}

// job is a request at the one who serves it.
type job struct {
	r     policy.Request
	begun bool   // something of it was sent
	next  uint32 // index into the run of the chunk being sent
}

// serve takes a request of another node.
func (n *node) serve(to *node, r policy.Request) {
	l := n.server.lines[to.index]
	if q := n.s.swarmConfig.queue; l == nil && q > 0 && len(n.server.queue) >= q {
		n.send(to, func() {
			to.transfer.Failed(to.s.w.time(), r.ID, policy.Reason{Kind: policy.Busy, RetryAfter: n.retryAfter(r)})
			to.step()
		})
		return
	}
	if l == nil {
		l = &line{from: n, to: to}
		l.flow = &flow{up: n.up, down: to.down, done: l.sent}
		n.server.lines[to.index] = l
	}
	l.jobs = append(l.jobs, &job{r: r})
	l.begin()
}

// begin takes a slot for l, or its place among those who wait for one.
func (l *line) begin() {
	n := l.from
	switch {
	case l.running || l.waiting:
	case n.server.serving < n.s.slots:
		l.advance()
	default:
		l.waiting = true
		n.server.queue = append(n.server.queue, l)
	}
}

// end gives the slot of l to the next who waits. If l has more to do it takes its place behind them.
func (l *line) end() {
	n := l.from
	if l.running {
		l.running = false
		n.server.serving--
		n.s.w.net.stop(l.flow)
	}
	for len(n.server.queue) > 0 && n.server.serving < n.s.slots {
		o := n.server.queue[0]
		n.server.queue = n.server.queue[1:]
		o.waiting = false
		o.advance()
	}
	if len(l.jobs) > 0 {
		l.begin()
	} else {
		delete(n.server.lines, l.to.index)
	}
}

const (
	busyLeast = 250 * time.Millisecond
	busyMost  = 10 * time.Second
	busyShare = 0.7 // of the time that a request like the refused one takes: some came before and are nearer to their end
)

// retryAfter is when a node without room wants to be asked again.
func (n *node) retryAfter(r policy.Request) time.Duration {
	if n.s.swarmConfig.busy > 0 {
		return n.s.swarmConfig.busy
	}
	seconds := busyShare * float64(r.Bytes) / n.up.capacity
	return max(busyLeast, min(busyMost, time.Duration(seconds*float64(time.Second))))
}

func (l *line) has(id policy.RequestID) bool {
	return slices.ContainsFunc(l.jobs, func(j *job) bool { return j.r.ID == id })
}

// cancel forgets a request. What has left of its present chunk is wasted.
func (l *line) cancel(id policy.RequestID) {
	k := slices.IndexFunc(l.jobs, func(j *job) bool { return j.r.ID == id })
	if k < 0 {
		return
	}
	size := l.size(l.jobs[k])
	l.jobs = slices.Delete(l.jobs, k, k+1)
	if k == 0 && l.running {
		l.from.s.w.net.settle(l.flow)
		l.to.report.Wasted += uint64(float64(size) - l.flow.remaining)
		l.advance()
	}
}

func (l *line) size(j *job) uint32 {
	return l.from.s.sizes[j.r.Run.Segment][j.r.Run.First+j.next]
}

// sent is called when the last byte of a chunk has left.
func (l *line) sent() {
	j, to := l.jobs[0], l.to
	ref := content.Ref{Segment: j.r.Run.Segment, Index: j.r.Run.First + j.next}
	j.next++
	right := l.from.kind != liar
	l.from.send(to, func() { to.arrived(j.r.ID, ref, right) })
	if !right {
		l.jobs = l.jobs[1:] // whom it lied to breaks the stream
	}
	l.advance()
}

// advance goes on with the next chunk that is here, or gives the slot away: after each request, if others wait.
func (l *line) advance() {
	net, to := &l.from.s.w.net, l.to
	for len(l.jobs) > 0 {
		j := l.jobs[0]
		if j.next == j.r.Run.Count {
			l.jobs = l.jobs[1:]
			l.from.send(to, func() {
				to.transfer.Finished(to.s.w.time(), j.r.ID)
				to.step()
			})
			if len(l.from.server.queue) > 0 {
				break
			}
			continue
		}
		ref := content.Ref{Segment: j.r.Run.Segment, Index: j.r.Run.First + j.next}
		if !l.from.gives(ref) {
			j.next++
			l.from.send(to, func() {
				to.transfer.NotHere(to.s.w.time(), j.r.ID, ref)
				to.step()
			})
			continue
		}
		if !j.begun {
			j.begun = true
			l.from.send(to, func() { to.transfer.Began(j.r.ID) })
		}
		if l.running {
			net.more(l.flow, float64(l.size(j)))
		} else {
			l.running = true
			l.from.server.serving++
			net.start(l.flow, float64(l.size(j)))
		}
		return
	}
	l.end()
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
