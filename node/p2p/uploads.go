package p2p

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"

	"swarmnode/gossip"
	"swarmnode/node/policy"
)

// uploads obeys policy.Serving: it lets those who want chunks in, makes them wait or sends them away.
type uploads struct {
	mu       sync.Mutex // guards what follows
	serving  *policy.Serving
	requests map[policy.Ticket]*upload
	timer    *time.Timer // runs next while somebody waits
}

// upload is one answer of chunks. sent and end are called with the mutex of uploads.
type upload struct {
	ticket policy.Ticket
	ready  chan bool     // capacity 1: true when it has its place, false when it waited too long
	sent   func() uint64 // bytes of it
	end    func()        // breaks it
}

// newUploads makes uploads without askers; Sent of cfg is its own.
func newUploads(cfg policy.ServingConfig) *uploads {
	u := &uploads{requests: map[policy.Ticket]*upload{}}
	cfg.Sent = func(t policy.Ticket) uint64 { return u.requests[t].sent() }
	u.serving = policy.NewServing(cfg)
	return u
}

// enter waits for a place. If it gets none, busy says when to ask again; else it is to be given back with leave.
func (u *uploads) enter(ctx context.Context, peer gossip.PeerID, group netip.Prefix, sent func() uint64, end func()) (_ *upload, busy time.Duration) {
	u.mu.Lock()
	t := u.serving.Ask(time.Now(), peer, group)
	if t == 0 {
		defer u.mu.Unlock()
		return nil, u.serving.RetryAfter()
	}
	r := &upload{ticket: t, ready: make(chan bool, 1), sent: sent, end: end}
	u.requests[t] = r
	u.next()
	u.mu.Unlock()
	select {
	case ok := <-r.ready:
		if ok {
			return r, 0
		}
	case <-ctx.Done():
		u.leave(r)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	return nil, u.serving.RetryAfter()
}

// leave gives a place back.
func (u *uploads) leave(r *upload) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.serving.Leave(time.Now(), r.ticket)
	delete(u.requests, r.ticket)
	u.next()
}

// turn reports whether the answer had better end at the end of a chunk.
func (u *uploads) turn(r *upload) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.serving.Turn(time.Now(), r.ticket)
}

// next does what policy.Serving says. The caller holds mu.
func (u *uploads) next() {
	now := time.Now()
	step := u.serving.Next(now)
	for _, t := range step.Begin {
		u.requests[t].ready <- true
	}
	for _, t := range step.Refuse {
		u.requests[t].ready <- false
		delete(u.requests, t)
	}
	for _, t := range step.Break {
		u.requests[t].end()
	}
	switch {
	case step.Wake.IsZero() && u.timer != nil:
		u.timer.Stop()
	case step.Wake.IsZero():
	case u.timer == nil:
		u.timer = time.AfterFunc(step.Wake.Sub(now), func() {
			u.mu.Lock()
			defer u.mu.Unlock()
			u.next()
		})
	default:
		u.timer.Reset(step.Wake.Sub(now))
	}
}

// groupOf is the network that a peer belongs to; the zero value for those without an address, behind relays.
func groupOf(c network.Conn) netip.Prefix { return policy.Group(addrOf(c)) }
