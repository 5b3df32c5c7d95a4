package policy

import (
	"time"

	"swarmnode/content"
)

const (
	// lookAfter is how long after an answer began its peer is judged by what has come: a share of an uplink of 20 Mbit/s brings
	// a whole chunk of 1 MiB in that time, and what is thrown away of a slow one is little.
	lookAfter = 3 * time.Second
	// lookAgain is the time between two looks at an answer that goes on though it is slow: others may have the chunk since.
	lookAgain = 10 * time.Second
	// slowChunk is how long the rest of a chunk takes at a peer that is slow: several times what it takes at most others, and
	// little beside the minutes that a release takes where such a time is usual.
	slowChunk = 20 * time.Second
	// muchFaster is how many times faster another has to be: what has come is thrown away, and it shares its uplink with others.
	muchFaster = 8
	// crawlRun is how long a smallest request takes, or longer, at a peer that is asked only for what no faster one has.
	crawlRun = time.Minute
	// crawlShare bounds what is asked of such peers to a part of what may be in flight: each of them keeps its part for minutes.
	crawlShare = 8
	// crawlPause is how long such a peer is let be that has nothing which a faster one does not have.
	crawlPause = 5 * time.Second
	// crawlTries is how many wants are looked through for something that only such a peer has.
	crawlTries = 8
)

// Began says that the first byte of an answer is here: the request does not wait for its turn at the peer any more, and is not
// moved to another. A driver that never says so gets no moves: what is half sent would be cancelled.
// It reports whether the time of the next step may be sooner now.
func (t *Transfer) Began(now time.Time, id RequestID) (sooner bool) {
	t.tellsBegan = true
	r := t.requests[id]
	if r == nil || r.begun {
		return false
	}
	t.answered(now, r)
	if t.cfg.Progress == nil || r.s.meter.rate*slowChunk.Seconds() >= float64(t.cfg.MinRun) {
		return false
	}
	r.began, r.look = now, now.Add(lookAfter)
	t.deadlines.sooner(r)
	return true
}

// lookAt judges a peer by what has come of the chunk that it is sending. If it is slow and a much faster one has the chunk, the
// request is taken back; else it goes on, for as long as something comes.
func (t *Transfer) lookAt(now time.Time, r *request) {
	r.look = time.Time{}
	i := next(r.open, 0)
	if i >= r.Run.Count {
		return
	}
	came := t.cfg.Progress(r.ID)
	if came > r.came {
		r.came = came
		t.extend(r, now)
	}
	rate := max(float64(came)/now.Sub(r.began).Seconds(), 1)
	if float64(r.w.sizes(r.Run.First+i)) < float64(came)+rate*slowChunk.Seconds() {
		return
	}
	if r.s.meter.rate == 0 || rate < r.s.meter.rate {
		r.s.meter.rate = rate
	}
	if t.fasterHas(now, r, i, rate*muchFaster) {
		t.stats.Slow++
		t.news.cancel = append(t.news.cancel, r.ID)
		t.giveBack(r)
		t.penalise(now, r.s)
		return
	}
	r.look = now.Add(lookAgain)
}

// fasterHas reports whether a peer that is known to be so fast has chunk i of the run of r.
func (t *Transfer) fasterHas(now time.Time, r *request, i uint32, rate float64) bool {
	for _, o := range t.order {
		if o != r.s && o.meter.rate >= rate && o.paused <= t.since(now) && t.has(o, r.w, r.Run.First+i) {
			return true
		}
	}
	return false
}

// fastest is the rate of the fastest peer.
func (t *Transfer) fastest() float64 {
	rate := 0.0
	for _, s := range t.order {
		rate = max(rate, s.meter.rate)
	}
	return rate
}

// crawls reports whether s is so slow that it is asked only for what no faster peer has. Where all are slow, nobody crawls; and
// now and then one is tried like any other, for it may be faster now.
func (t *Transfer) crawls(s *source, now time.Time) bool {
	return s.meter.rate > 0 && s.meter.rate*crawlRun.Seconds() < float64(t.cfg.MinRun) &&
		t.since(now) < s.tried+maxPause && t.scratch.fastest >= s.meter.rate*muchFaster
}

// askCrawlers asks a peer that crawls for what no faster one has; nil if there is nothing.
func (t *Transfer) askCrawlers(now time.Time) *request {
	var bytes uint64
	for _, s := range t.order {
		if t.crawls(s, now) {
			bytes += s.inFlight
		}
	}
	if bytes+t.cfg.MinRun > max(t.cfg.InFlight/crawlShare, t.cfg.MinRun) || t.inFlight+t.cfg.MinRun > t.cfg.InFlight {
		return nil
	}
	for _, s := range t.order {
		if s.useful.count == 0 || len(s.asked) > 0 || s.paused > t.since(now) || !t.crawls(s, now) {
			continue
		}
		if r := t.askCrawler(now, s); r != nil {
			return r
		}
		t.rest(s, now.Add(crawlPause))
	}
	return nil
}

func (t *Transfer) askCrawler(now time.Time, s *source) *request {
	at := t.rng.Uint32N(uint32(len(t.wants.slots)))
	for range crawlTries {
		slot, ok := common(at, &s.useful)
		if !ok {
			return nil
		}
		w := t.wants.slots[slot]
		at = slot + 1
		if run, bytes := t.lonely(w, s, now); run.Count > 0 {
			return t.issue(now, w, s, run, bytes)
		}
	}
	return nil
}

// lonely is a run of chunks of w that s has and no peer that does not crawl.
func (t *Transfer) lonely(w *want, s *source, now time.Time) (run content.Run, bytes uint64) {
	set := t.usable(w, s, t.scratch.free)
	if set == nil {
		return run, 0
	}
	t.scratch.free = set
	for i := next(set, 0); i < w.end; i = next(set, i+1) {
		if run.Count > 0 && i != run.First+run.Count {
			break
		}
		size := uint64(w.sizes(i))
		if bytes+size > t.cfg.MinRun {
			break
		}
		if t.othersHave(w, i, now) {
			continue
		}
		if run.Count == 0 {
			run = content.Run{Segment: w.seg, First: i}
		}
		run.Count++
		bytes += size
	}
	return run, bytes
}

// othersHave reports whether a peer that does not crawl has chunk i of w.
func (t *Transfer) othersHave(w *want, i uint32, now time.Time) bool {
	for _, o := range t.order {
		if !t.crawls(o, now) && t.has(o, w, i) {
			return true
		}
	}
	return false
}
