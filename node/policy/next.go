package policy

import (
	"slices"
	"time"

	"swarmnode/content"
)

// Next says what to do now. Its cost follows what it asks and cancels, not what is wanted.
func (t *Transfer) Next(now time.Time) Step {
	t.expire(now)
	t.scratch.fastest = t.fastest()
	var step Step
	before := t.lastID
	t.askUrgent(now, &step)
	for t.inFlight+t.cfg.MinRun <= t.cfg.InFlight {
		r := t.ask(now)
		if r == nil {
			break
		}
		step.Ask = append(step.Ask, r.Request)
	}
	if r := t.askCrawlers(now); r != nil {
		step.Ask = append(step.Ask, r.Request)
	}
	for range t.order { // each peer steals once at most
		r := t.steal(now, before)
		if r == nil {
			break
		}
		step.Ask = append(step.Ask, r.Request)
	}
	for range t.order { // nor is more than one moved to it
		r := t.move(now)
		if r == nil {
			break
		}
		step.Ask = append(step.Ask, r.Request)
	}
	step.Cancel, t.news.cancel = t.news.cancel, nil
	step.Complete, t.news.complete = t.news.complete, nil
	step.Banned, t.news.banned = t.news.banned, nil
	step.Unobtainable = t.wants.stuck
	step.InFlight = t.inFlight
	step.Done = t.wants.left == 0
	step.Wake = t.wake(now)
	return step
}

// expire cancels what made no progress for too long, and looks at answers that may be slow.
func (t *Transfer) expire(now time.Time) {
	for {
		r := t.soonest()
		if r == nil || r.due().After(now) {
			return
		}
		if !r.look.IsZero() && !r.look.After(now) {
			t.lookAt(now, r)
			continue
		}
		t.news.cancel = append(t.news.cancel, r.ID)
		t.timedOut(now, r)
	}
}

// soonest is the request that is due first; nil when nothing is in flight.
func (t *Transfer) soonest() *request {
	for len(t.deadlines) > 0 {
		r := t.deadlines[0]
		switch {
		case r.ended:
			t.deadlines.pop()
		case r.due().After(r.queued):
			r.queued = r.due()
			t.deadlines.down(0)
		default:
			return r
		}
	}
	return nil
}

// wake is when something changes by itself: a request is given up or a peer may be asked again.
func (t *Transfer) wake(now time.Time) time.Time {
	var at time.Time
	sooner := func(d time.Time) {
		if at.IsZero() || d.Before(at) {
			at = d
		}
	}
	if r := t.soonest(); r != nil {
		sooner(r.due())
	}
	if t.stealAt.After(now) {
		sooner(t.stealAt)
	}
	if t.reading.look.After(now) {
		sooner(t.reading.look)
	}
	if t.moveAt.After(now) {
		sooner(t.moveAt)
	}
	if t.inFlight+t.cfg.MinRun > t.cfg.InFlight {
		return at // a paused peer would not be asked: an answer has to come first
	}
	for _, s := range t.order {
		if s.paused > t.since(now) && !s.dry && s.useful.count > 0 {
			sooner(t.base.Add(s.paused))
		}
	}
	return at
}

// room is how many bytes may be asked of s now.
func (t *Transfer) room(s *source, now time.Time) uint64 {
	asks := t.cfg.PeerAsks
	if len(t.urgent) > 0 {
		asks = max(asks-urgentPlaces, 1)
	}
	if s.dry || len(s.asked) >= asks || s.paused > t.since(now) || t.crawls(s, now) {
		return 0
	}
	window := t.window(s)
	if s.inFlight+t.cfg.MinRun > window {
		return 0
	}
	return min(window-s.inFlight, t.cfg.InFlight-t.inFlight)
}

// ask makes one request, of the rarest segment that a peer with room can serve; nil if there is none.
func (t *Transfer) ask(now time.Time) *request {
	for {
		w := t.rarest(now)
		if w == nil {
			return nil
		}
		s := t.bestHolder(w)
		if s == nil {
			panic("policy: a segment was chosen for a peer that is not among its holders")
		}
		run, bytes := t.run(w, s, now)
		if run.Count == 0 {
			t.withdraw(s, w) // everything it has of it is here or asked for
			continue
		}
		return t.issue(now, w, s, run, bytes)
	}
}

// rarest chooses the segment to go on with. Peers without room do not count; peers with room and nothing to give are
// marked dry on the way.
func (t *Transfer) rarest(now time.Time) *want {
	x := &t.wants
	open := t.scratch.open[:0]
	for _, s := range t.order {
		if !s.dry && t.room(s, now) > 0 {
			open = append(open, s)
		}
	}
	t.scratch.open = open
	if len(open) == 0 || len(x.slots) == 0 {
		return nil
	}
	from := t.rng.Uint32N(uint32(len(x.slots)))
	if t.stats.Asked < randomFirst {
		if w := t.anySegment(open, from); w != nil {
			return w
		}
	}
	for b := range x.buckets {
		if x.buckets[b].count == 0 {
			continue
		}
		for _, s := range open {
			if int(s.rarest) > b {
				continue
			}
			if slot, ok := common(from, &x.buckets[b], &x.begun, &s.useful); ok {
				return x.slots[slot]
			}
		}
		for _, s := range open {
			if int(s.rarest) > b {
				continue
			}
			if slot, ok := common(from, &x.buckets[b], &s.useful); ok {
				return x.slots[slot]
			}
			s.rarest = int32(b + 1)
		}
	}
	for _, s := range open {
		s.dry = true
	}
	return nil
}

// anySegment chooses without regard to rarity: the next after a random one.
func (t *Transfer) anySegment(open []*source, from uint32) *want {
	for _, s := range open {
		at := from
		for range 8 {
			slot, ok := common(at, &s.useful)
			if !ok {
				break
			}
			if w := t.wants.slots[slot]; w.frees > 0 {
				return w
			}
			at = slot + 1
		}
	}
	return nil
}

// bestHolder chooses among the holders of w that have room: the better of two that are drawn from the best four, by
// expected completion; now and then any.
func (t *Transfer) bestHolder(w *want) *source {
	type candidate struct {
		s  *source
		in time.Duration
	}
	var best [bestHolders]candidate
	n, open := 0, 0
	explore := t.rng.Uint32N(exploreOneIn) == 0
	var explored *source
	for _, s := range t.scratch.open { // those with room: it is as rarest left it
		if !s.useful.has(w.slot) {
			continue
		}
		open++
		if explore && t.rng.Uint32N(uint32(open)) == 0 {
			explored = s
		}
		c := candidate{s, s.expected(t.cfg.MinRun, defaultRate)}
		i := n
		for ; i > 0 && c.in < best[i-1].in; i-- {
			if i < len(best) {
				best[i] = best[i-1]
			}
		}
		if i < len(best) {
			best[i] = c
			n = min(n+1, len(best))
		}
	}
	switch {
	case n == 0:
		return nil
	case explore:
		return explored
	case n == 1:
		return best[0].s
	}
	a := t.rng.IntN(n)
	b := t.rng.IntN(n - 1)
	if b >= a {
		b++
	}
	return best[min(a, b)].s // best is in order
}

// run chooses which chunks of w to ask of s: as many in a row as its window suggests. Chunks that nobody else has come
// first, so that what one holder alone has spreads soonest; otherwise the run begins at the rarest of a few places.
func (t *Transfer) run(w *want, s *source, now time.Time) (content.Run, uint64) {
	target := min(max(t.window(s)/4, t.cfg.MinRun), t.cfg.MaxRun, t.room(s, now))
	set := t.usable(w, s, t.scratch.free)
	if set == nil {
		return content.Run{}, 0
	}
	t.scratch.free = set
	samples := startSamples
	if t.only(w, s, set) {
		samples = 1
	}
	first, least := uint32(0), -1
	for range samples {
		i := next(set, t.rng.Uint32N(w.end))
		if i >= w.end {
			i = next(set, 0)
		}
		if n := t.copies(w, i); least < 0 || n < least {
			first, least = i, n
		}
	}
	for first%w.grain != 0 && set.Has(first-1) {
		first--
	}
	run := content.Run{Segment: w.seg, First: first}
	var bytes uint64
	for i := first; i < w.end && set.Has(i); i++ {
		size := uint64(w.sizes(i))
		if bytes+size > target {
			break
		}
		bytes += size
		run.Count++
	}
	return run, bytes
}

// issue makes the request and takes its chunks.
func (t *Transfer) issue(now time.Time, w *want, s *source, run content.Run, bytes uint64) *request {
	t.lastID++
	r := &request{Request: Request{ID: t.lastID, Peer: s.id, Run: run, Bytes: bytes}, s: s, w: w, open: content.Full(run.Count), asked: now}
	for i := run.First; i < run.First+run.Count; i++ {
		w.free.Clear(i)
	}
	w.frees -= int(run.Count)
	t.wants.begun.set(w.slot)
	t.reindex(w)
	if s.inFlight == 0 {
		s.meter.start(now, s.rtt)
	}
	s.inFlight += bytes
	t.inFlight += bytes
	s.asked = append(s.asked, r)
	s.tried = t.since(now)
	t.requests[r.ID] = r
	t.stats.Asked++
	t.extend(r, now)
	r.queued = r.deadline
	if len(t.deadlines) >= len(t.requests)*5/4+deadlinesSpare {
		t.deadlines.tidy()
	}
	t.deadlines.push(r)
	return r
}

// deadlines is a binary heap of requests by queued. Those that have ended go when they come to the top, or when they are
// many beside the others.
type deadlines []*request

// deadlinesSpare is how many ended requests are kept whatever the number of the others: fewer are not worth a look.
const deadlinesSpare = 4

// tidy takes the ended requests out.
func (d *deadlines) tidy() {
	*d = slices.DeleteFunc(*d, func(r *request) bool { return r.ended })
	for i := len(*d)/2 - 1; i >= 0; i-- {
		d.down(i)
	}
}

func (d *deadlines) push(r *request) {
	*d = append(*d, r)
	d.up(len(*d) - 1)
}

// sooner moves a request up that is due sooner than it was. It is looked for: that is done once for an answer, if at all, and
// few are open.
func (d deadlines) sooner(r *request) {
	if i := slices.Index(d, r); i >= 0 && r.due().Before(r.queued) {
		r.queued = r.due()
		d.up(i)
	}
}

func (d deadlines) up(i int) {
	for i > 0 {
		up := (i - 1) / 2
		if !d[i].before(d[up]) {
			return
		}
		d[i], d[up] = d[up], d[i]
		i = up
	}
}

func (d *deadlines) pop() {
	last := len(*d) - 1
	(*d)[0] = (*d)[last]
	(*d)[last] = nil
	*d = (*d)[:last]
	d.down(0)
}

func (d deadlines) down(i int) {
	for {
		least := i
		for c := 2*i + 1; c <= 2*i+2 && c < len(d); c++ {
			if d[c].before(d[least]) {
				least = c
			}
		}
		if least == i {
			return
		}
		d[i], d[least] = d[least], d[i]
		i = least
	}
}

// due is when something has to be done about r: its deadline, or a look before it.
func (r *request) due() time.Time {
	if !r.look.IsZero() && r.look.Before(r.deadline) {
		return r.look
	}
	return r.deadline
}

// before orders by time, then by age, so that the order is the same in every run.
func (r *request) before(o *request) bool {
	if !r.queued.Equal(o.queued) {
		return r.queued.Before(o.queued)
	}
	return r.ID < o.ID
}
