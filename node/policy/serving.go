package policy

import (
	"net/netip"
	"slices"
	"time"

	"swarmnode/gossip"
)

const (
	// maxPlaces is how many answers of chunks are sent at a time, slow readers left out. BitTorrent clients use 4 to 10 for
	// home uplinks; a server's needs a few more.
	maxPlaces = 12
	// maxSlow is how many answers more there may be to readers that are slow: about what the memory for answers has room for.
	maxSlow = 12
	// maxWaiting is how many peers wait for a place: so many that one is always there when a place gets free, and so few
	// that each gets it before it had better asked somebody else.
	maxWaiting = 4
	// waitMost is how long a peer waits for a place; a stream on which nothing comes for 20 s counts as stalled.
	waitMost = 10 * time.Second
	// turnTime is after how long an answer is cut at the end of a chunk when others wait: the rest is asked for again.
	turnTime = 10 * time.Second

	busyLeast   = 250 * time.Millisecond // no sooner is a refused peer asked to come back: less costs more than it gains,
	busyMost    = 10 * time.Second       // nor later: much will have changed by then
	askedBytes  = 1 << 20                // is asked for at a time at least, see TransferConfig
	forever     = 1e6                    // seconds; more would be too much for a Duration
	busyUnknown = 500 * time.Millisecond // when no request has been served yet
)

// Ticket names one request at this node. No request has the ticket 0.
type Ticket uint64

// ServingConfig says how chunks are served. The zero value, with Sent, is what the node does.
type ServingConfig struct {
	Places  int                 // this many answers at a time; 0: as many as the uplink can use
	Waiting int                 // peers that may wait; 0: maxWaiting, less than 0: all
	Busy    time.Duration       // what a refused peer is told; 0: as long as the queue is likely to take
	Sent    func(Ticket) uint64 // bytes sent so far of a request that has a place
}

// Serving decides who of the peers that ask for chunks gets a place now, who waits, and who is told "busy" and for how
// long. A slow uplink has few places: chunks sent one after the other get to the first peers, who pass them on, much sooner
// than chunks sent side by side. Of those who wait the network (IPv4 /24, IPv6 /48) with the fewest places is next, so that
// a site with many nodes gets no more than one with a single one; then the peer with the fewest, then the one whose turn
// is longest ago. Places are of requests; those of one peer wait for each other only if there is no room for more.
type Serving struct {
	cfg     ServingConfig
	last    Ticket
	active  []*serve // have a place
	waiting []*serve // the first one's turn is longest ago
	took    time.Duration
	pace    pace
}

// serve is one request.
type serve struct {
	ticket Ticket
	peer   gossip.PeerID
	group  netip.Prefix
	since  time.Time // of asking; later of getting its place
	seen   uint64    // bytes sent when the present sample began
	slow   bool      // reads so slowly that its place does not count
}

// Served is what a driver does next: begin to serve, refuse those who have waited too long, break those that hold up
// everybody, and come back at Wake (zero: with the next event).
type Served struct {
	Begin, Refuse, Break []Ticket
	Wake                 time.Time
}

// NewServing makes a Serving without requests.
func NewServing(cfg ServingConfig) *Serving {
	if cfg.Waiting == 0 {
		cfg.Waiting = maxWaiting
	}
	return &Serving{cfg: cfg}
}

// Ask takes a request: it waits for [Serving.Next] to begin it. Ticket 0 means that it is refused, until RetryAfter.
func (s *Serving) Ask(now time.Time, peer gossip.PeerID, group netip.Prefix) Ticket {
	s.look(now)
	if s.cfg.Waiting > 0 && !s.has(s.waiting, peer) && !s.room() && !s.has(s.active, peer) {
		if queue := s.queue(); queue >= s.cfg.Waiting || s.wait(queue+1) > waitMost {
			return 0
		}
	}
	s.last++
	s.waiting = append(s.waiting, &serve{ticket: s.last, peer: peer, group: group, since: now})
	return s.last
}

// Leave ends a request, served or not.
func (s *Serving) Leave(now time.Time, t Ticket) {
	s.look(now)
	if i := index(s.waiting, t); i >= 0 {
		s.waiting = slices.Delete(s.waiting, i, i+1)
		return
	}
	i := index(s.active, t)
	if i < 0 {
		return
	}
	r := s.active[i]
	sent := s.cfg.Sent(t)
	s.pace.bytes += sent - r.seen
	s.active = slices.Delete(s.active, i, i+1)
	if took := now.Sub(r.since); !r.slow && sent >= bufferBytes { // less is no request that others wait for
		if s.took == 0 {
			s.took = took
		}
		s.took += (took - s.took) / 4
	}
	var others, own []*serve // what else the peer asked for goes behind the others
	for _, o := range s.waiting {
		if o.peer == r.peer {
			own = append(own, o)
		} else {
			others = append(others, o)
		}
	}
	s.waiting = append(others, own...)
}

// Next gives the places that are free. It is asked after each event and when its Wake has come.
func (s *Serving) Next(now time.Time) Served {
	s.look(now)
	var step Served
	for len(s.waiting) > 0 && s.room() {
		r := s.next()
		r.since, r.seen = now, 0
		if s.pace.since.IsZero() {
			s.pace.begin(now)
		}
		s.active = append(s.active, r)
		step.Begin = append(step.Begin, r.ticket)
	}
	s.waiting = slices.DeleteFunc(s.waiting, func(r *serve) bool {
		late := s.cfg.Waiting > 0 && now.Sub(r.since) >= waitMost
		if late {
			step.Refuse = append(step.Refuse, r.ticket)
		}
		return late
	})
	if len(s.active) == 0 {
		s.pace.since = time.Time{}
	}
	if len(s.waiting) > 0 {
		if r := s.worst(now); r != nil {
			step.Break = append(step.Break, r.ticket)
		}
		step.Wake = s.pace.since.Add(sampleLook)
		if !step.Wake.After(now) {
			step.Wake = now.Add(sampleLook / 2)
		}
	}
	return step
}

// RetryAfter is when a peer that is refused now had better come back: when about half of those who wait have been served.
func (s *Serving) RetryAfter() time.Duration {
	if s.cfg.Busy > 0 {
		return s.cfg.Busy
	}
	d := s.wait(s.queue()+1) / 2
	if d == 0 {
		return busyUnknown
	}
	return min(max(d, busyLeast), busyMost)
}

// wait is how long the peer at this place in the queue is likely to wait; 0: unknown.
func (s *Serving) wait(place int) time.Duration {
	took := s.took
	if took == 0 && s.pace.best > 0 {
		took = time.Duration(min(askedBytes/s.pace.best, forever) * float64(time.Second))
	}
	return took * time.Duration(place) / time.Duration(s.places())
}

// Turn reports whether an answer had better end, at the end of a chunk: it had its turn and others wait.
func (s *Serving) Turn(now time.Time, t Ticket) bool {
	i := index(s.active, t)
	return i >= 0 && now.Sub(s.active[i].since) >= turnTime &&
		slices.ContainsFunc(s.waiting, func(o *serve) bool { return o.peer != s.active[i].peer })
}

// next takes the request off the queue that gets the next place.
func (s *Serving) next() *serve {
	best, group, peer := 0, 0, 0
	for i, r := range s.waiting {
		g, p := 0, 0
		for _, a := range s.active {
			if a.group == r.group {
				g++
			}
			if a.peer == r.peer {
				p++
			}
		}
		if i == 0 || g < group || g == group && p < peer {
			best, group, peer = i, g, p
		}
	}
	r := s.waiting[best]
	s.waiting = slices.Delete(s.waiting, best, best+1)
	return r
}

// room reports whether one more may be served.
func (s *Serving) room() bool {
	slow := 0
	for _, r := range s.active {
		if r.slow {
			slow++
		}
	}
	if len(s.active)-slow < s.places() && len(s.active) < s.places()+maxSlow {
		return true
	}
	return s.cfg.Places == 0 && len(s.active) < maxPlaces && s.alone()
}

// alone reports whether all requests are of one peer: it is nobody's loss if they are served side by side.
func (s *Serving) alone() bool {
	other := func(r *serve) bool { return r.peer != s.active[0].peer }
	return len(s.active) > 0 && !slices.ContainsFunc(s.active, other) && !slices.ContainsFunc(s.waiting, other)
}

// places is how many requests are served at a time.
func (s *Serving) places() int {
	if s.cfg.Places > 0 {
		return s.cfg.Places
	}
	return s.pace.places()
}

// queue is how many peers wait that have no place.
func (s *Serving) queue() int {
	n := 0
	for i, r := range s.waiting {
		if !s.has(s.waiting[:i], r.peer) && !s.has(s.active, r.peer) {
			n++
		}
	}
	return n
}

// worst is a slow reader to be broken off since slow ones have taken all there is; nil if not.
func (s *Serving) worst(now time.Time) *serve {
	if len(s.active) < s.places()+maxSlow {
		return nil
	}
	for _, r := range s.active { // the first has been here longest
		if r.slow && now.Sub(r.since) >= turnTime {
			return r
		}
	}
	return nil
}

// look takes a sample of the rates when it is time.
func (s *Serving) look(now time.Time) {
	p := &s.pace
	if len(s.active) == 0 || now.Sub(p.since) < sampleLook {
		return
	}
	bytes := p.bytes
	for _, r := range s.active {
		bytes += s.cfg.Sent(r.ticket) - r.seen
	}
	dt := now.Sub(p.since)
	if !p.enough(bytes, dt) {
		return
	}
	for _, r := range s.active {
		sent := s.cfg.Sent(r.ticket)
		rate := float64(sent-r.seen) / dt.Seconds()
		if r.since.Before(p.since) {
			r.slow = s.cfg.Places == 0 && rate*slowShare*float64(p.places()) < p.best
		}
		r.seen = sent
	}
	p.sample(now, float64(bytes)/dt.Seconds(), len(s.waiting) > 0)
}

func (s *Serving) has(list []*serve, peer gossip.PeerID) bool {
	return slices.ContainsFunc(list, func(r *serve) bool { return r.peer == peer })
}

func index(list []*serve, t Ticket) int {
	return slices.IndexFunc(list, func(r *serve) bool { return r.ticket == t })
}
