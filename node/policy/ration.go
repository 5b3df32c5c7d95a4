package policy

import (
	"container/heap"
	"net/netip"
	"time"
)

const (
	// burstShare is how much of its rate a Ration saves up while nothing is asked for, and grants at a time at most: what comes in an
	// eighth of a second. Enough for timers that are late, and 0.2 % of a minute. Twelve who take turns wait less than two seconds
	// each, and none of their readers takes them for dead.
	burstShare = 8
	// minPiece and maxPiece bound a piece in bytes. Less than 4 KiB is mostly headers; 64 KiB is what a stream writes at once.
	minPiece, maxPiece = 4 << 10, 64 << 10
	// mostDebt is how many seconds of its rate a Ration owes at most for what was spent without asking: a new rate has to act within five.
	mostDebt = 4
	// prefixV4 and prefixV6 are the bits of an address that name its network: what a provider gives to one site.
	prefixV4, prefixV6 = 24, 48
)

// Group is the network that an address is counted with where bandwidth is shared: its /24 or /48. The zero Prefix stands for those
// without an address, behind relays.
func Group(addr netip.Addr) netip.Prefix {
	addr = addr.Unmap().WithZone("")
	bits := prefixV6
	if addr.Is4() {
		bits = prefixV4
	}
	group, _ := addr.Prefix(bits) // the zero Prefix for the zero Addr
	return group
}

// Ration gives bytes out of one token bucket to all who want some, the networks in fair turns: whoever has more connections or
// peers in one network gets no more for it (start-time fair queueing: Goyal, Vin and Cheng, SIGCOMM 1996). A network that asks late
// catches up on as much as the burst: one connection cannot ask again before it has written what it got, fifty always do. Within a
// network the first to ask is the first to be served. In any stretch of time no more is granted than rate times its length, and the burst, and
// one piece that is larger than the burst.
type Ration struct {
	rate   float64 // bytes per second; 0: there is no limit
	burst  float64
	level  float64
	last   time.Time
	ticket Ticket
	clock  float64                  // virtual time: where in its network's line what was granted last began
	ends   map[netip.Prefix]float64 // where the line of a network ends, in virtual time
	queue  wishes
	byName map[Ticket]*wish
}

// wish is a request that waits.
type wish struct {
	ticket Ticket
	bytes  float64
	begins float64 // in virtual time
	at     int     // in the queue
}

// NewRation makes one without a limit.
func NewRation() *Ration {
	return &Ration{ends: map[netip.Prefix]float64{}, byName: map[Ticket]*wish{}}
}

// SetRate changes the limit, in bytes per second; 0: none. What was granted too much under the old one still has to be waited for.
func (r *Ration) SetRate(now time.Time, rate int64) {
	r.refill(now)
	if r.rate == float64(max(rate, 0)) {
		return
	}
	r.rate = float64(max(rate, 0))
	r.burst = max(r.rate/burstShare, minPiece)
	r.level = min(r.level, r.burst)
	if r.rate == 0 {
		r.level = 0
	}
}

// Piece is how many bytes had better be asked for at a time; 0 when there is no limit.
func (r *Ration) Piece() int64 {
	if r.rate == 0 {
		return 0
	}
	return int64(min(max(r.rate/burstShare, minPiece), maxPiece))
}

// Ask wants bytes for a network; [Ration.Next] grants them.
func (r *Ration) Ask(now time.Time, group netip.Prefix, bytes int64) Ticket {
	r.ticket++
	w := &wish{ticket: r.ticket, bytes: float64(max(bytes, 0)), begins: max(r.clock-r.burst, r.ends[group])}
	r.ends[group] = w.begins + w.bytes
	r.byName[w.ticket] = w
	heap.Push(&r.queue, w)
	return w.ticket
}

// Cancel ends the wait of a request. Its network's turn goes with it.
func (r *Ration) Cancel(t Ticket) {
	if w := r.byName[t]; w != nil {
		heap.Remove(&r.queue, w.at)
		delete(r.byName, t)
	}
}

// Spend takes bytes that have moved without being asked for: they are too few and too urgent to wait. Those who ask wait for them
// instead, and get nothing for as long as all of the rate is spent like this.
func (r *Ration) Spend(now time.Time, bytes int64) {
	if r.refill(now); r.rate > 0 {
		r.level = max(r.level-float64(max(bytes, 0)), min(r.level, -mostDebt*r.rate))
	}
}

// Next grants what can be granted now, in its order, and says when to come back; the zero Time: after the next Ask.
func (r *Ration) Next(now time.Time) (granted []Ticket, wake time.Time) {
	r.refill(now)
	for len(r.queue) > 0 {
		w := r.queue[0]
		if need := min(w.bytes, r.burst); r.rate > 0 && r.level < need {
			wait := time.Duration((need-r.level)/r.rate*float64(time.Second)) + time.Nanosecond // rounded up
			return granted, now.Add(wait)
		}
		heap.Pop(&r.queue)
		delete(r.byName, w.ticket)
		r.clock = max(r.clock, w.begins)
		if r.rate > 0 {
			r.level -= w.bytes
		}
		granted = append(granted, w.ticket)
		r.forget()
	}
	return granted, time.Time{}
}

// Waiting is how many requests wait.
func (r *Ration) Waiting() int { return len(r.queue) }

// forget drops networks that have no more than others without a request, so that there are no more than about twice those that wait.
func (r *Ration) forget() {
	const few = 16
	if len(r.queue) == 0 {
		clear(r.ends)
		r.clock = 0
		return
	}
	if len(r.ends) <= 2*len(r.queue)+few {
		return
	}
	for group, end := range r.ends {
		if end <= r.clock-r.burst {
			delete(r.ends, group)
		}
	}
}

// refill adds what has come since the last look. A clock that goes back adds nothing.
func (r *Ration) refill(now time.Time) {
	if d := now.Sub(r.last); !r.last.IsZero() && d > 0 {
		r.level = min(r.burst, r.level+r.rate*d.Seconds())
	}
	r.last = now
}

// wishes is a heap: the one that begins first, then the one that asked first.
type wishes []*wish

func (q wishes) Len() int { return len(q) }

func (q wishes) Less(i, j int) bool {
	if q[i].begins != q[j].begins {
		return q[i].begins < q[j].begins
	}
	return q[i].ticket < q[j].ticket
}

func (q wishes) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].at, q[j].at = i, j
}

// Push and Pop are for container/heap.
func (q *wishes) Push(x any) {
	w := x.(*wish)
	w.at = len(*q)
	*q = append(*q, w)
}

// Pop is the other.
func (q *wishes) Pop() any {
	old := *q
	w := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	return w
}
