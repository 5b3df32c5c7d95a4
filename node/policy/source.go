package policy

import (
	"slices"
	"time"

	"swarmnode/content"
	"swarmnode/gossip"
)

// source is a connected peer as a place to get chunks from.
type source struct {
	id       gossip.PeerID
	rtt      time.Duration
	reach    float64 // seconds that a window covers: RTT and TransferConfig.WindowTime
	meter    meter
	inFlight uint64
	asked    []*request // in the order of asking
	shelf
	useful slotSet // wants of which it may have a free chunk
	rarest int32   // none of these is in a bucket below this one, see wantIndex.buckets
	rows   uint16  // segments that it has in parts
	number uint16  // in parts.who, its own as long as it is here
	dry    bool    // the last look found nothing to ask it for; an offer ends that

	paused time.Duration // left alone until so long after Transfer.base
	tried  time.Duration // when it was asked last
	pause  time.Duration // how long the next pause for a timeout or a break is
}

// since is a time as a source holds it: a third of a time.Time, and there are hundreds of sources.
// The last answer is kept, as every source is asked at one time.
func (t *Transfer) since(now time.Time) time.Duration {
	if now != t.scratch.now {
		t.scratch.now, t.scratch.since = now, now.Sub(t.base)
	}
	return t.scratch.since
}

// record is what is remembered of a peer that sent wrong chunks.
type record struct {
	bad   int
	until time.Time // banned until then; zero: not banned
}

// meter measures the goodput of one peer while something is in flight.
type meter struct {
	rate  float64   // bytes/s, exponentially weighted; 0: not known
	since time.Time // where the sample being taken begins
	bytes uint64    // of that sample
}

const (
	sampleTime  = 100 * time.Millisecond // a sample lasts this long,
	sampleBytes = 1 << 20                // or as long as so many bytes take,
	sampleMin   = 2 * time.Millisecond   // but no shorter than a clock is good for
	memoryTime  = 3 * time.Second        // older samples weigh half of what a sample of this length does
)

// slowRun is how long a smallest request takes at a peer that is asked for one at a time.
const slowRun = 4 * time.Second

// start begins a sample when the first request goes out: the answer cannot be here before one RTT.
func (m *meter) start(now time.Time, rtt time.Duration) { m.since, m.bytes = now.Add(rtt), 0 }

func (m *meter) add(now time.Time, bytes uint64) {
	m.bytes += bytes
	dt := now.Sub(m.since)
	if dt < sampleMin || (dt < sampleTime && m.bytes < sampleBytes) {
		return
	}
	rate := float64(m.bytes) / dt.Seconds()
	if m.rate == 0 {
		m.rate = rate
	} else {
		weight := dt.Seconds() / (dt + memoryTime).Seconds()
		if rate > m.rate {
			weight = max(weight, 0.25) // windows open as fast as the path shows that it bears more
		}
		m.rate += weight * (rate - m.rate)
	}
	m.since, m.bytes = now, 0
}

// orElse is the rate, or def while none is known.
func (m *meter) orElse(def float64) float64 {
	if m.rate == 0 {
		return def
	}
	return max(m.rate, 1)
}

// window is how many bytes may be in flight at s: always room for one of the smallest requests, and for a second to
// follow it unless s takes so long for one that the pause between two hardly counts.
func (t *Transfer) window(s *source) uint64 {
	if s.meter.rate == 0 {
		return t.cfg.StartWindow
	}
	least := t.cfg.MinRun
	if s.meter.rate*slowRun.Seconds() >= float64(least) {
		least *= 2
	}
	w := s.meter.rate * s.reach
	return uint64(min(max(w, float64(least)), float64(t.cfg.MaxWindow)))
}

// expected is how long size bytes more from s would take.
func (s *source) expected(size uint64, unknown float64) time.Duration {
	seconds := float64(s.inFlight+size) / s.meter.orElse(unknown)
	return s.rtt + time.Duration(min(seconds, 1e6)*float64(time.Second))
}

// patience is how long a request at s may go without progress.
func (t *Transfer) patience(s *source) time.Duration {
	return max(t.cfg.Patience, min(patienceOver*s.expected(0, slowRate), maxPatience))
}

// Found says that a peer is connected, or that its RTT is known better. A zero rtt means unknown.
func (t *Transfer) Found(now time.Time, peer gossip.PeerID, rtt time.Duration) {
	if t.isBanned(now, peer) {
		return
	}
	s := t.sources[peer]
	if s == nil {
		number, ok := t.freeNumber()
		if !ok {
			return
		}
		s = &source{id: peer, rtt: defaultRTT, dry: true, number: number}
		if t.base.IsZero() {
			t.base, t.scratch.now = now, time.Time{}
		}
		t.sources[peer] = s
		t.order = append(t.order, s)
	}
	if rtt > 0 {
		s.rtt = rtt
	}
	s.reach = (s.rtt + t.cfg.WindowTime).Seconds()
}

// freeNumber finds the number of a new source.
func (t *Transfer) freeNumber() (uint16, bool) {
	if len(t.order) >= maxSources {
		return 0, false
	}
	if n := len(t.numbers); n > 0 {
		number := t.numbers[n-1]
		t.numbers = t.numbers[:n-1]
		return number, true
	}
	return uint16(len(t.order)), true
}

// Gone says that a peer is not connected any more. Its requests come to be cancelled and their chunks are free again.
func (t *Transfer) Gone(now time.Time, peer gossip.PeerID) {
	s := t.sources[peer]
	if s == nil {
		return
	}
	delete(t.sources, peer)
	t.order = slices.DeleteFunc(t.order, func(o *source) bool { return o == s })
	for _, w := range t.wants.slots {
		if w == nil {
			continue
		}
		if s.whole(w.seg) {
			w.whole--
		}
		w.lack = slices.DeleteFunc(w.lack, func(l lack) bool { return l.s == s })
		if s.useful.has(w.slot) {
			t.withdraw(s, w)
		}
		t.reindex(w)
	}
	s.shelf = shelf{}
	t.dropRows(s, func(uint32) bool { return true })
	t.numbers = append(t.numbers, s.number)
	for _, r := range slices.Clone(s.asked) {
		t.news.cancel = append(t.news.cancel, r.ID)
		t.giveBack(r)
	}
}

// Holds says what a peer has, as it told. It is believed again of chunks that it names and once turned out not to
// have. Peers that are not found or are banned are passed over.
func (t *Transfer) Holds(now time.Time, peer gossip.PeerID, h gossip.Holdings) {
	s := t.sources[peer]
	if s == nil {
		return
	}
	touched := t.scratch.touched[:0]
	touch := func(w *want) {
		if w == nil || w.touched {
			return
		}
		w.touched = true
		if s.whole(w.seg) {
			w.whole--
		}
		touched = append(touched, w)
	}
	if h.Reset || h.Below > 0 || len(h.Segments) > manySegments/8 {
		for _, w := range t.wants.slots {
			touch(w)
		}
	} else {
		for seg := next(h.Segments, 0); int(seg/8) < len(h.Segments); seg = next(h.Segments, seg+1) {
			touch(t.wants.bySegment[seg])
		}
		for _, seg := range h.Gone {
			touch(t.wants.bySegment[seg])
		}
		for _, p := range h.Partial {
			touch(t.wants.bySegment[p.Segment])
		}
	}
	t.apply(s, h)
	for _, p := range h.Partial {
		if w := t.wants.bySegment[p.Segment]; w != nil {
			w.believe(s, p.Chunks)
		}
	}
	for _, w := range touched {
		w.touched = false
		if h.Reset || w.seg < h.Below || h.Segments.Has(w.seg) {
			w.believe(s, content.Full(w.end))
		}
		t.found(s, w)
	}
	clear(touched)
	t.scratch.touched = touched[:0]
}

// manySegments is the number up to which segments are looked up one by one; past it all wants are gone through.
const manySegments = 32 << 10

// found counts s among the holders of w if it is one. It is not counted yet.
func (t *Transfer) found(s *source, w *want) {
	if s.whole(w.seg) {
		w.whole++
	}
	switch {
	case t.holds(s, w):
		t.reindex(w)
		t.offer(s, w)
	case s.useful.has(w.slot):
		t.withdraw(s, w)
	default:
		t.reindex(w)
	}
}
