package policy

import (
	"time"

	"swarmnode/content"
)

const (
	// stealGain is how many times sooner a thief has to deliver: rates are estimates of a shared link, off by a third easily,
	// and a chunk that is stolen twice has been sent for nothing.
	stealGain = 2
	// stealLeast is the least time that a theft has to save: more than the cancel and the request take on most paths
	// (RTT to the nearest of 5 random holders: p90 163 ms, notes/simulation.md).
	stealLeast = 200 * time.Millisecond
	// stealWaste bounds what theft may throw away: one part in so many of what was received (DESIGN section 8: 2 %), …
	stealWaste = 50
	// … and so many bytes more, without which a transfer of some MiB could not steal at all.
	stealFree = 256 << 10
	// stealPiece is what a sender has given to its system and cannot take back, p2p writes pieces of 64 KiB.
	stealPiece = 64 << 10
)

// theft is a part of what one peer was asked for, to be asked of another.
type theft struct {
	thief *source
	from  *request
	run   content.Run
	bytes uint64
	all   bool          // nothing is left of from
	gain  time.Duration // how much sooner it is here
}

// steal ends a bulk transfer: everything is here or asked for, a peer has nothing to do, and another would take
// much longer for its rest. The last chunks of that rest, as many as both finish at the same time, are asked of the idle one.
// The slow peer goes on with the others and its request is cancelled after them. It gives nil when there is nothing to
// gain, and then notes in t.stealAt when it may be different. Requests after before have not left yet and are let be.
func (t *Transfer) steal(now time.Time, before RequestID) *request {
	t.stealAt = time.Time{}
	if len(t.requests) == 0 || t.wants.open != t.wants.stuck {
		return nil
	}
	var best theft
	for _, s := range t.order {
		if t.spare(s, now) == 0 {
			continue
		}
		for _, v := range t.order {
			if v == s || len(v.asked) == 0 {
				continue
			}
			left := v.remaining(now)
			if !t.worth(s.expected(1, defaultRate), v, left) {
				continue
			}
			for _, r := range v.asked {
				if r.ID > before {
					break
				}
				if th := t.theft(now, s, r, left); th.bytes > 0 && th.gain > best.gain {
					best = th
				}
			}
		}
	}
	if best.bytes == 0 {
		return nil
	}
	return t.carryOut(now, best)
}

// spare is the room of a peer, also of one that has nothing free to offer.
func (t *Transfer) spare(s *source, now time.Time) uint64 {
	if len(s.asked) >= t.cfg.PeerAsks || s.paused > t.since(now) {
		return 0
	}
	if window := t.window(s); s.inFlight+t.cfg.MinRun <= window {
		return window - s.inFlight
	}
	return 0
}

// remaining is how long a peer will take for all it was asked for: by its rate, if one is known, and at least as long again
// as it has been silent.
func (s *source) remaining(now time.Time) time.Duration {
	silent := max(now.Sub(s.meter.since), 0)
	if s.meter.rate == 0 {
		return silent
	}
	return max(s.expected(0, defaultRate)-s.rtt, silent)
}

// theft looks at what s could take of r, whose peer will have delivered it after left.
func (t *Transfer) theft(now time.Time, s *source, r *request, left time.Duration) theft {
	rate, slow := s.meter.orElse(defaultRate), float64(r.s.inFlight)/max(left.Seconds(), 1e-3)
	share := (left - s.expected(0, defaultRate)).Seconds() * rate * slow / (rate + slow)
	limit := min(uint64(max(share, 0)), t.spare(s, now), t.cfg.MaxRun)
	th := theft{thief: s, from: r, run: content.Run{Segment: r.Run.Segment}}
	i := r.Run.Count
	for i > 0 && !r.open.Has(i-1) {
		i--
	}
	for ; i > 0 && r.open.Has(i-1) && t.has(s, r.w, r.Run.First+i-1); i-- {
		size := uint64(r.w.sizes(r.Run.First + i - 1))
		if th.bytes > 0 && th.bytes+size > limit {
			break
		}
		th.bytes += size
		th.run.Count++
	}
	if th.bytes == 0 {
		return theft{}
	}
	th.run.First = r.Run.First + i
	th.all = next(r.open, 0) >= i
	in := s.expected(th.bytes, defaultRate)
	th.gain = left - in
	if !t.worth(in, r.s, left) {
		return theft{}
	}
	if t.risk+th.waste(now) > (t.stats.Received+t.inFlight)/stealWaste+stealFree {
		return theft{}
	}
	return th
}

// worth reports whether it pays to have what v will bring after left from somebody who brings it after in. If not, the silence
// of v alone can still make it worth while: then is when to look again.
func (t *Transfer) worth(in time.Duration, v *source, left time.Duration) bool {
	need := max(stealGain*in, in+stealLeast)
	if left >= need {
		return true
	}
	if at := v.meter.since.Add(need); t.stealAt.IsZero() || at.Before(t.stealAt) {
		t.stealAt = at
	}
	return false
}

// waste is what the robbed peer will probably have sent for nothing.
func (th theft) waste(now time.Time) uint64 {
	v := th.from.s
	last := uint64(th.from.w.sizes(th.run.First))
	if !th.all {
		return min(last, stealPiece+uint64(v.meter.rate*v.rtt.Seconds()))
	}
	if v.meter.rate == 0 {
		return last / 16 // it never finished one: mostly it is silent or very slow
	}
	return min(last, stealPiece+uint64(v.meter.rate*max(now.Sub(v.meter.since), 0).Seconds()))
}

// carryOut moves the chunks from the one request into a new one.
func (t *Transfer) carryOut(now time.Time, th theft) *request {
	r, v := th.from, th.from.s
	t.risk += th.waste(now)
	t.stats.Stolen += th.bytes
	slow := float64(v.inFlight) / max(v.remaining(now).Seconds(), 1e-3)
	for i := th.run.First; i < th.run.First+th.run.Count; i++ {
		r.open.Clear(i - r.Run.First)
		r.w.free.Set(i)
		r.w.frees++
	}
	v.inFlight -= th.bytes
	t.inFlight -= th.bytes
	r.robbed = true
	if th.all {
		v.meter.rate = max(min(v.meter.orElse(slow), slow), 1) // else it would be the next thief
	}
	t.endRobbed(r)
	stolen := t.issue(now, r.w, th.thief, th.run, th.bytes)
	stolen.From, stolen.Urgent = r.ID, r.Urgent
	return stolen
}

// endRobbed cancels a request of which the last chunk that was left to it is here: what it would send now is asked of
// another.
func (t *Transfer) endRobbed(r *request) {
	if r.robbed && len(r.open) == 0 && !r.ended {
		t.end(r)
		t.news.cancel = append(t.news.cancel, r.ID)
	}
}
