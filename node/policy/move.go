package policy

import "time"

const (
	// moveAfter is how long a request waits for its turn, over the RTT, before it is moved. The sooner, the more moves, and each
	// costs: with 200 equal nodes (`swarmnode sim run flash-crowd`, seed 1) and no bound on the waste, after 250 ms the last was at
	// 1.083 of Mundinger with 3.0 % wasted, after 600 ms at 1.079 with 2.0 %; without moves at 1.147 with 0.3 %.
	moveAfter = 750 * time.Millisecond
	// moveWhen is the share of what may be in flight, in percent, up to which requests are moved: with more a node has enough to
	// wait for (after 250 ms and without this limit 6.4 % were wasted).
	moveWhen = 80
	// moveWaste is what a move costs at least, for the peer can begin before the cancel is there. Three nodes of 150 wasted about
	// 20 KiB for each move; it is twice that so that a release of 48 MiB keeps to 2 % too (TestFlashCrowd).
	moveWaste = 40 << 10
	// moveShare bounds what moves and thefts waste before anything more is moved: one part in so many of what was received. Most
	// of what may be wasted (stealWaste) is left for the tail.
	moveShare = 150
)

// move takes a request that waits for its turn at a busy peer to one that has nothing to do, if a node may ask for more
// but all that its peers have is asked for. So it is above all in the first minute of a release: few chunks are out, and a request
// in the queue of one of the first holders keeps a chunk from those who got it since. It gives nil when there is nothing to
// move, and then notes in t.moveAt when it may be different.
func (t *Transfer) move(now time.Time) *request {
	if t.moveAt.After(now) {
		return nil
	}
	t.moveAt = time.Time{}
	if !t.tellsBegan || len(t.requests) == 0 || t.inFlight*100 > t.cfg.InFlight*moveWhen ||
		t.risk+moveWaste > (t.stats.Received+t.inFlight)/moveShare+stealFree {
		return nil
	}
	waiting, at := t.waiting(now)
	for _, s := range t.order {
		if len(s.asked) > 0 || s.paused > t.since(now) || t.crawls(s, now) {
			continue
		}
		t.moveAt = at
		var last *request // it has probably the longest way to go in its queue
		for _, r := range waiting {
			if (last == nil || r.ID > last.ID) && t.hasAll(s, r) {
				last = r
			}
		}
		if last != nil {
			return t.moveTo(now, s, last)
		}
	}
	return nil
}

// waiting lists the requests that have waited long enough to be moved, and says when the next one will have; zero: none.
func (t *Transfer) waiting(now time.Time) (waiting []*request, at time.Time) {
	waiting = t.scratch.waiting[:0]
	for _, s := range t.order {
		for _, r := range s.asked {
			due := r.asked.Add(s.rtt + moveAfter)
			switch {
			case r.begun || r.robbed:
			case !due.After(now):
				waiting = append(waiting, r)
			case at.IsZero() || due.Before(at):
				at = due
			}
		}
	}
	t.scratch.waiting = waiting[:0]
	return waiting, at
}

// hasAll reports whether s could bring all that r asked for, and all of it is still to come.
func (t *Transfer) hasAll(s *source, r *request) bool {
	for i := range r.Run.Count {
		if chunk := r.Run.First + i; !r.open.Has(i) || !r.w.need.Has(chunk) || !t.has(s, r.w, chunk) {
			return false
		}
	}
	return true
}

// moveTo cancels r and asks s for the same.
func (t *Transfer) moveTo(now time.Time, s *source, r *request) *request {
	t.giveBack(r)
	t.news.cancel = append(t.news.cancel, r.ID)
	t.risk += min(r.Bytes, max(moveWaste, uint64(r.s.meter.orElse(defaultRate)*r.s.rtt.Seconds()/3)))
	t.stats.Moved++
	moved := t.issue(now, r.w, s, r.Run, r.Bytes)
	moved.Urgent = r.Urgent
	return moved
}
