package p2p

import (
	"context"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
)

// told is what the relay service, AutoRelay and the DHT's mode have been told: they listen to one event only, which version 1 of AutoNAT
// sends when it has another opinion, and which this node sends when it knows better, or no longer does.
type told struct {
	v1   network.Reachability         // what version 1 said last
	goal network.Reachability         // what they are to have heard last
	own  map[network.Reachability]int // sent by this node, and not come back yet
	next bool                         // goal is to be sent
}

// heard takes an event that was sent, and reports whether it is the opinion of version 1.
func (t *told) heard(v network.Reachability) bool {
	if t.own[v] == 0 {
		t.v1, t.goal, t.next = v, v, false
		return true
	}
	if t.own[v]--; v != t.goal {
		t.next = true // it was on its way when version 1 said something else
	}
	return false
}

// want has v said if that is new, and reports whether something is to be sent.
func (t *told) want(v network.Reachability) bool {
	if v != t.goal {
		t.goal, t.next = v, true
	}
	return t.next
}

// toSay gives what is to be sent, once.
func (r *reach) toSay() (v network.Reachability, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if ok = r.told.next; ok {
		r.told.next = false
		r.told.own[r.told.goal]++
	}
	return r.told.goal, ok
}

// sayReach sends what this node has to say until ctx ends. It is a goroutine of its own: what it sends comes back to [Host.followReach],
// which must not wait for that.
func (h *Host) sayReach(ctx context.Context, something <-chan struct{}, to event.Emitter) {
	defer to.Close()
	for {
		select {
		case <-ctx.Done():
			return
		case <-something:
		}
		v, ok := h.reach.toSay()
		if !ok {
			continue
		}
		if err := to.Emit(event.EvtLocalReachabilityChanged{Reachability: v}); err != nil {
			h.cfg.Log.Debug("reachability is not told", "error", err)
		}
	}
}

// poke lets whoever waits for ch look again.
func poke(ch chan<- struct{}) {
	select {
	case ch <- struct{}{}:
	default: // it will
	}
}
