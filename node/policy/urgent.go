package policy

import (
	"slices"
	"time"

	"swarmnode/content"
)

const (
	// urgentPlaces is how many of the requests at a peer are left for chunks that somebody reads, as long as anybody reads: a whole
	// release that is fetched at the same time would take all eight.
	urgentPlaces = 2
	// overtakeWaste is what asking a second peer for a late chunk costs at most while the first has not begun: it is told to stop as
	// soon as the chunk is here, and has then given its system little more than a piece.
	overtakeWaste = stealPiece
)

// reading is what somebody reads or is about to read: it goes before everything else that is wanted.
type reading struct {
	urgent []*urgent // in the order in which they are asked for
	byRef  map[content.Ref]*urgent
	look   time.Time // when something may change that is not asked for or is late; zero: an event has to come first
	late   Hedge     // knows when an answer is
}

// urgent is one chunk of them.
type urgent struct {
	ref     content.Ref
	waiting bool       // somebody waits for it; else it will be read soon
	since   time.Time  // it has been waited for
	asked   []*request // that may still bring it
}

// Urge says which of the wanted chunks go before all others, in this order: those that somebody waits for, then those that will be
// read next. It replaces what was said before. The first are asked of the peer that is expected to bring them soonest, whatever
// else is on its way from it, and of another one when that one is late. What is read ahead keeps to a window of each peer of its
// own. Chunks that are not wanted are passed over. Without a reader Next decides as if there never had been one.
func (t *Transfer) Urge(now time.Time, waiting, ahead []content.Ref) {
	old := t.byRef
	t.urgent, t.byRef = nil, make(map[content.Ref]*urgent, len(waiting)+len(ahead))
	add := func(ref content.Ref, waits bool) {
		if t.byRef[ref] != nil {
			return
		}
		u := old[ref]
		if u == nil {
			u = &urgent{ref: ref}
		}
		if waits && !u.waiting {
			u.since = now
		}
		u.waiting = waits
		t.byRef[ref] = u
		t.urgent = append(t.urgent, u)
	}
	for _, ref := range waiting {
		add(ref, true)
	}
	for _, ref := range ahead {
		add(ref, false)
	}
}

// askUrgent asks for what somebody reads.
func (t *Transfer) askUrgent(now time.Time, step *Step) {
	t.reading.look = time.Time{}
	for _, u := range t.urgent {
		w := t.wants.bySegment[u.ref.Segment]
		if w == nil || !w.need.Has(u.ref.Index) {
			continue
		}
		var r *request
		switch {
		case w.free.Has(u.ref.Index):
			r = t.askFirst(now, w, u)
		case u.waiting:
			r = t.overtake(now, w, u)
		}
		if r != nil {
			step.Ask = append(step.Ask, r.Request)
		}
	}
}

// lookAtReading has askUrgent look again at a time.
func (t *Transfer) lookAtReading(at time.Time) {
	if t.reading.look.IsZero() || at.Before(t.reading.look) {
		t.reading.look = at
	}
}

// askFirst asks for a chunk that is asked of nobody, and for those after it that are urgent, too. It gives nil when no peer that
// has it may be asked now.
func (t *Transfer) askFirst(now time.Time, w *want, u *urgent) *request {
	size := uint64(w.sizes(u.ref.Index))
	s := t.soonestHolder(now, w, u)
	if s == nil {
		return nil
	}
	room := t.window(s)
	room -= min(room, s.urgentInFlight())
	if u.waiting {
		room = max(room, size)
	}
	if room < size {
		return nil
	}
	room = min(room, t.cfg.MinRun)
	run := content.Run{Segment: w.seg, First: u.ref.Index}
	var bytes uint64
	for i := u.ref.Index; i < w.end && w.free.Has(i) && t.has(s, w, i); i++ {
		if t.byRef[content.Ref{Segment: w.seg, Index: i}] == nil || run.Count > 0 && bytes+uint64(w.sizes(i)) > room {
			break
		}
		bytes += uint64(w.sizes(i))
		run.Count++
	}
	return t.issueUrgent(now, w, s, run, bytes)
}

// issueUrgent makes the request and notes it at its chunks.
func (t *Transfer) issueUrgent(now time.Time, w *want, s *source, run content.Run, bytes uint64) *request {
	r := t.issue(now, w, s, run, bytes)
	r.Urgent = true
	for i := run.First; i < run.First+run.Count; i++ {
		u := t.byRef[content.Ref{Segment: w.seg, Index: i}]
		u.asked = append(slices.DeleteFunc(u.asked, func(o *request) bool { return o.ended }), r)
	}
	return r
}

// urgentInFlight is how many bytes of what s was asked for are urgent.
func (s *source) urgentInFlight() (bytes uint64) {
	for _, r := range s.asked {
		if r.Urgent {
			bytes += r.Bytes
		}
	}
	return bytes
}

// soonestHolder is the peer that is expected to bring a chunk soonest, of those that were not asked for it. A peer that is left
// alone for a while is not asked; then the time is noted at which it may be.
func (t *Transfer) soonestHolder(now time.Time, w *want, u *urgent) *source {
	size := uint64(w.sizes(u.ref.Index))
	var best *source
	var in time.Duration
	for _, s := range t.order {
		if len(s.asked) >= t.cfg.PeerAsks || !t.has(s, w, u.ref.Index) || u.askedOf(s) {
			continue
		}
		if s.paused > t.since(now) {
			t.lookAtReading(t.base.Add(s.paused))
			continue
		}
		if d := s.expected(size, defaultRate); best == nil || d < in {
			best, in = s, d
		}
	}
	return best
}

func (u *urgent) askedOf(s *source) bool {
	return slices.ContainsFunc(u.asked, func(r *request) bool { return !r.ended && r.s == s })
}

// overtake asks another peer for a chunk that somebody waits for and that is late. The first request goes on: whoever is sooner
// brings it, and the other is cancelled then. It gives nil when the chunk is in time, when nobody else has it, or when more than a
// small part of all bytes would be wasted.
func (t *Transfer) overtake(now time.Time, w *want, u *urgent) *request {
	r := t.bringer(w, u)
	if r == nil {
		return nil
	}
	s := t.soonestHolder(now, w, u)
	if s == nil || s == r.s {
		return nil
	}
	size := uint64(w.sizes(u.ref.Index))
	if !t.isLate(now, r, u, s.expected(size, defaultRate)) {
		return nil
	}
	waste := min(size, overtakeWaste)
	if r.begun {
		waste = size
	}
	if t.risk+waste > (t.stats.Received+t.inFlight)/stealWaste+stealFree {
		return nil
	}
	t.risk += waste
	t.stats.Stolen += size
	if !slices.Contains(u.asked, r) {
		u.asked = append(u.asked, r)
	}
	r.open.Clear(u.ref.Index - r.Run.First)
	w.free.Set(u.ref.Index)
	w.frees++
	r.s.inFlight -= size
	t.inFlight -= size
	run := content.Run{Segment: w.seg, First: u.ref.Index, Count: 1}
	return t.issueUrgent(now, w, s, run, size)
}

// bringer is the request that a chunk is expected of; nil if there is none.
func (t *Transfer) bringer(w *want, u *urgent) *request {
	expects := func(r *request) bool {
		return !r.ended && r.w == w && u.ref.Index >= r.Run.First && r.open.Has(u.ref.Index-r.Run.First)
	}
	for _, r := range u.asked {
		if expects(r) {
			return r
		}
	}
	for _, s := range t.order {
		for _, r := range s.asked {
			if expects(r) {
				return r
			}
		}
	}
	return nil
}

// isLate reports whether a chunk is late that another peer would bring after in: its answer has not begun when most have, or what
// the peer has to send before it takes much longer. If it is not, the time is noted at which it may be.
func (t *Transfer) isLate(now time.Time, r *request, u *urgent, in time.Duration) bool {
	if !r.begun {
		since := r.asked
		if u.since.After(since) {
			since = u.since
		}
		at := since.Add(t.late.After())
		if !at.After(now) {
			return true
		}
		t.lookAtReading(at)
	}
	left := max(now.Sub(r.s.meter.since), 0) // at least as long again as it has been silent
	if r.s.meter.rate > 0 {
		left = max(left, time.Duration(float64(t.before(r, u.ref.Index))/r.s.meter.rate*float64(time.Second)))
	}
	need := max(stealGain*in, in+stealLeast)
	if left >= need {
		return true
	}
	t.lookAtReading(r.s.meter.since.Add(need))
	return false
}

// before is how many bytes a peer was asked for up to chunk i of r, with it.
func (t *Transfer) before(r *request, i uint32) (bytes uint64) {
	for _, o := range r.s.asked {
		for k := next(o.open, 0); k < o.Run.Count && (o != r || o.Run.First+k <= i); k = next(o.open, k+1) {
			bytes += uint64(o.w.sizes(o.Run.First + k))
		}
		if o == r {
			break
		}
	}
	return bytes
}

// settled takes an urgent chunk that is here off all other requests, which are cancelled if nothing is left of them.
func (t *Transfer) settled(ref content.Ref, by RequestID) {
	u := t.byRef[ref]
	if u == nil {
		return
	}
	for _, r := range u.asked {
		if r.ended || r.ID == by {
			continue
		}
		t.close(r, ref)
		if len(r.open) == 0 {
			t.end(r)
			t.news.cancel = append(t.news.cancel, r.ID)
		}
	}
	u.asked = nil
}

// Unwant takes chunks of a segment out of what is wanted. A request of which nothing else is expected is cancelled.
func (t *Transfer) Unwant(seg uint32, chunks content.Bitmap) {
	w := t.wants.bySegment[seg]
	if w == nil {
		return
	}
	for i := next(chunks, 0); i < w.end; i = next(chunks, i+1) {
		if !w.need.Has(i) {
			continue
		}
		w.need.Clear(i)
		w.needs--
		t.wants.left--
		if w.free.Has(i) {
			w.free.Clear(i)
			w.frees--
			continue
		}
		t.unask(w, i)
	}
	t.reindex(w)
	if w.needs == 0 {
		t.remove(w)
	}
}

// unask takes a chunk off the requests that may bring it.
func (t *Transfer) unask(w *want, i uint32) {
	ref := content.Ref{Segment: w.seg, Index: i}
	t.settled(ref, 0)
	for _, s := range t.order {
		for _, r := range s.asked {
			if r.w == w && t.close(r, ref) {
				if len(r.open) == 0 {
					t.end(r)
					t.news.cancel = append(t.news.cancel, r.ID)
				}
				return
			}
		}
	}
}

// answered notes that the answer to a request has begun.
func (t *Transfer) answered(now time.Time, r *request) {
	if r.Urgent && !r.begun {
		t.late.Answered(now.Sub(r.asked))
	}
	r.begun = true
}
