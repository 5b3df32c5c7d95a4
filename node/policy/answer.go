package policy

import (
	"slices"
	"time"

	"swarmnode/content"
	"swarmnode/content/guard"
	"swarmnode/gossip"
)

// request is a Request while it is open.
type request struct {
	Request
	s        *source
	w        *want
	open     content.Bitmap // chunks still expected, counted from the first of the run
	deadline time.Time      // cancelled then; every chunk that arrives moves it
	queued   time.Time      // the time at which it stands in the heap, due or earlier
	ended    bool           // not open any more; the heap may still hold it
	asked    time.Time      // when it was
	begun    bool           // the answer is coming: it does not wait for its turn at the peer any more
	robbed   bool           // its last chunks were given to another peer, see steal
	began    time.Time      // when the answer did, if its peer is looked at: see lookAt
	look     time.Time      // when that is next; zero: not
	came     uint64         // bytes that had come at the last look
}

// ReasonKind is why a request ended early.
type ReasonKind uint8

const (
	// NotHere: the peer has nothing of what is still expected of it.
	NotHere ReasonKind = iota + 1
	// Busy: the peer has no room now; Reason.RetryAfter says when to come back.
	Busy
	// Timeout: the driver saw it hang. Transfer keeps deadlines of its own, see [Step.Cancel].
	Timeout
	// Bad: a chunk, Reason.Ref, had the wrong bytes.
	Bad
	// Broken: the stream broke or could not be opened. Any other kind counts as this.
	Broken
)

// Reason says why a request ended early.
type Reason struct {
	Kind       ReasonKind
	RetryAfter time.Duration // with Busy
	Ref        content.Ref   // with Bad
}

// Got says that a chunk arrived, that its bytes are right and that it is stored. It is also welcome from a request
// that was cancelled. size is the size of the chunk in bytes.
func (t *Transfer) Got(now time.Time, id RequestID, ref content.Ref, size uint32) {
	if r := t.requests[id]; r != nil && t.close(r, ref) {
		t.answered(now, r)
		r.look = time.Time{}
		r.s.meter.add(now, uint64(size))
		r.s.pause = 0
		t.extend(r, now)
		t.endRobbed(r)
	}
	t.settled(ref, id)
	w := t.wants.bySegment[ref.Segment]
	if w != nil && t.arrived(w, ref.Index) {
		t.stats.Received += uint64(size)
	} else {
		t.stats.Wasted += uint64(size)
	}
}

// NotHere says that the peer does not have a chunk of a request that goes on. It loses that chunk, until it says again
// that it has it.
func (t *Transfer) NotHere(now time.Time, id RequestID, ref content.Ref) {
	r := t.requests[id]
	if r == nil || !t.close(r, ref) {
		return
	}
	t.stats.NotHere++
	t.extend(r, now)
	r.w.lose(r.s, ref.Index)
	t.release(r.w, ref.Index)
	t.endRobbed(r)
}

// Finished says that a request was answered to its end. A chunk of it that neither came nor was denied counts as
// denied.
func (t *Transfer) Finished(now time.Time, id RequestID) {
	if r := t.requests[id]; r != nil {
		t.denied(r)
		t.giveBack(r)
	}
}

// Failed says that a request ended early. Its chunks are asked of somebody else.
func (t *Transfer) Failed(now time.Time, id RequestID, why Reason) {
	r := t.requests[id]
	if r == nil {
		return
	}
	switch why.Kind {
	case NotHere:
		t.denied(r)
		t.giveBack(r)
	case Busy:
		t.stats.Busy++
		t.rest(r.s, now.Add(min(max(why.RetryAfter, 0), maxBusy)))
		t.giveBack(r)
	case Timeout:
		t.timedOut(now, r)
	case Bad:
		t.stats.Bad++
		if t.close(r, why.Ref) {
			t.stats.Wasted += uint64(r.w.sizes(why.Ref.Index))
			r.w.lose(r.s, why.Ref.Index)
			t.release(r.w, why.Ref.Index)
		}
		t.giveBack(r)
		t.wrong(now, r.s)
	default: // Broken
		t.stats.Broken++
		t.giveBack(r)
		t.penalise(now, r.s)
	}
}

// timedOut takes back a request that made no progress. The peer is believed to be slower than it was.
func (t *Transfer) timedOut(now time.Time, r *request) {
	t.stats.Timeouts++
	t.giveBack(r)
	r.s.meter.rate = r.s.meter.orElse(slowRate) / 2
	t.penalise(now, r.s)
}

// penalise leaves a peer alone for a while, twice as long each time until it delivers.
func (t *Transfer) penalise(now time.Time, s *source) {
	s.pause = min(max(2*s.pause, firstPause), maxPause)
	t.rest(s, now.Add(s.pause))
}

func (t *Transfer) rest(s *source, until time.Time) {
	s.paused = max(s.paused, t.since(until))
}

// wrong counts a wrong chunk against its sender and bans it at the limit.
func (t *Transfer) wrong(now time.Time, s *source) {
	t.penalise(now, s)
	if t.cfg.Exempt != nil && t.cfg.Exempt(s.id) {
		return
	}
	rec, known := t.records[s.id]
	if !known && len(t.records) >= maxRecords {
		t.forgetRecords(now)
	}
	rec.bad++
	if rec.bad >= t.cfg.BadLimit && guard.On(guard.Ban) {
		rec = record{until: now.Add(t.cfg.BanTime)}
		t.news.banned = append(t.news.banned, s.id)
		t.Gone(now, s.id)
	}
	t.records[s.id] = rec
}

// forgetRecords makes room: everything but bans in force, and those too if they alone fill it.
func (t *Transfer) forgetRecords(now time.Time) {
	for id, rec := range t.records {
		if !rec.until.After(now) {
			delete(t.records, id)
		}
	}
	if len(t.records) >= maxRecords {
		clear(t.records)
	}
}

func (t *Transfer) isBanned(now time.Time, peer gossip.PeerID) bool {
	return t.records[peer].until.After(now)
}

// Banned lists the peers that are banned at this time, in order of their names.
func (t *Transfer) Banned(now time.Time) []gossip.PeerID {
	var ids []gossip.PeerID
	for id, rec := range t.records {
		if rec.until.After(now) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// close takes a chunk off what is expected of a request. It reports whether it was expected.
func (t *Transfer) close(r *request, ref content.Ref) bool {
	i := ref.Index - r.Run.First
	if ref.Segment != r.Run.Segment || ref.Index < r.Run.First || !r.open.Has(i) {
		return false
	}
	r.open.Clear(i)
	size := uint64(r.w.sizes(ref.Index))
	r.s.inFlight -= size
	t.inFlight -= size
	return true
}

// denied makes the peer of r lose every chunk that r still expects.
func (t *Transfer) denied(r *request) {
	for i := next(r.open, 0); i < r.Run.Count; i = next(r.open, i+1) {
		t.stats.NotHere++
		r.w.lose(r.s, r.Run.First+i)
	}
}

// giveBack ends r and frees the chunks that it still expected.
func (t *Transfer) giveBack(r *request) {
	open := r.open.Clone()
	t.end(r)
	for i := next(open, 0); i < r.Run.Count; i = next(open, i+1) {
		t.release(r.w, r.Run.First+i)
	}
}

// end forgets r. Its chunks stay taken.
func (t *Transfer) end(r *request) {
	for i := next(r.open, 0); i < r.Run.Count; i = next(r.open, i+1) {
		size := uint64(r.w.sizes(r.Run.First + i))
		r.s.inFlight -= size
		t.inFlight -= size
	}
	r.open, r.ended = nil, true
	delete(t.requests, r.ID)
	r.s.asked = slices.DeleteFunc(r.s.asked, func(o *request) bool { return o == r })
}

// extend moves the deadline of r after progress.
func (t *Transfer) extend(r *request, now time.Time) { r.deadline = now.Add(t.patience(r.s)) }
