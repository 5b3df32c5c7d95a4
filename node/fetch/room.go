package fetch

import (
	"sync"
	"sync/atomic"
	"time"

	"swarmnode/node/policy"
)

// Room bounds the bytes that a node has asked for and not received, over all its collections, by policy.InFlight. Those that want something
// get equal shares; what is above its share drains first. A Fetcher takes its part in [Room.step] only, so nobody holds room
// without a request.
type Room struct {
	fixed uint64       // the bound; 0: what rule says
	ahead atomic.Int64 // bytes that are read ahead

	mu     sync.Mutex // guards what follows
	rule   policy.InFlight
	shares map[*Fetcher]*share
}

type share struct {
	used   uint64
	active bool // it wants something
	short  bool // it could ask for more than it may
}

// NewRoom makes room for so many bytes; 0 means as many as the goodput of the node suggests.
func NewRoom(bytes uint64) *Room {
	return &Room{fixed: bytes, shares: map[*Fetcher]*share{}}
}

// size is how many bytes there is room for. The caller holds mu.
func (r *Room) size() uint64 {
	if r.fixed > 0 {
		return r.fixed
	}
	return r.rule.Limit()
}

// received counts bytes that arrived.
func (r *Room) received(now time.Time, bytes int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rule.Received(now, uint64(bytes))
}

// step lets next decide under the limit for f. The caller holds f.mu.
func (r *Room) step(now time.Time, f *Fetcher, next func(limit uint64) policy.Step) policy.Step {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.shares[f]
	if s == nil {
		s = &share{}
		r.shares[f] = s
	}
	was := *s
	s.active = f.transfer.Left() > 0
	active, others := uint64(1), uint64(0)
	for o, x := range r.shares {
		if o != f {
			others += x.used
			if x.active {
				active++
			}
		}
	}
	size := r.size()
	limit := min(size/active, size-min(others, size))
	step := next(limit)
	r.rule.Asked(now, others+step.InFlight)
	s.used, s.active = step.InFlight, !step.Done
	s.short = s.active && limit < size
	if s.used < was.used || was.active && !s.active {
		r.wakeShort(f)
	}
	return step
}

// leave gives back what f has.
func (r *Room) leave(f *Fetcher) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.shares, f)
	r.wakeShort(f)
}

// wakeShort has the others look again. The caller holds mu.
func (r *Room) wakeShort(f *Fetcher) {
	for o, x := range r.shares {
		if o != f && x.short {
			o.wake()
		}
	}
}
