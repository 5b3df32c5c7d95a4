package fetch

import (
	"sync"

	"swarmnode/node/policy"
)

// defaultRoom is the most bytes in flight of a node: 1 Gbit/s at 500 ms, and no more than a small server can spare for
// windows and buffers (DESIGN section 6).
const defaultRoom = 64 << 20

// Room bounds the bytes that a node has asked for and not received, over all its collections. Those that want something
// get equal shares; what is above its share drains first. A Fetcher takes its part in [Room.step] only, so nobody holds room
// without a request.
type Room struct {
	bytes uint64

	mu     sync.Mutex // guards what follows
	shares map[*Fetcher]*share
}

type share struct {
	used   uint64
	active bool // it wants something
	short  bool // it could ask for more than it may
}

// NewRoom makes room for so many bytes; 0 means 64 MiB.
func NewRoom(bytes uint64) *Room {
	if bytes == 0 {
		bytes = defaultRoom
	}
	return &Room{bytes: bytes, shares: map[*Fetcher]*share{}}
}

// step lets next decide under the limit for f. The caller holds f.mu.
func (r *Room) step(f *Fetcher, next func(limit uint64) policy.Step) policy.Step {
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
	limit := min(r.bytes/active, r.bytes-min(others, r.bytes))
	step := next(limit)
	s.used, s.active = step.InFlight, !step.Done
	s.short = s.active && limit < r.bytes
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
