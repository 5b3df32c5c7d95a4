package p2p

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	"github.com/libp2p/go-libp2p/p2p/protocol/holepunch"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"swarmnode/gossip"
)

// Way says how others get to a node.
type Way string

// The ways, the best first.
const (
	WayPublic   Way = "public"   // anybody can connect to it
	WayRelay    Way = "relay"    // through a relay, by which the two routers are made to let a direct connection through
	WayOutbound Way = "outbound" // only over the connections that it opens itself
	WayUnknown  Way = "unknown"  // not found out yet, or there is nobody to find it out with
)

// Reach is how a node is reached. Content never passes a relay: a relay only helps two nodes to open a direct connection.
type Reach struct {
	Way       Way
	Since     time.Time       // of Way
	Confirmed []string        // public addresses at which another node has reached this one
	Forwarded bool            // one of these is a router's, which passes connections on: by UPnP, or set by hand
	Relays    []gossip.PeerID // that hold a place for this node
	Punched   uint64          // direct connections opened through two routers, with the help of a relay
	Unpunched uint64          // attempts at that which failed
	PunchTime time.Duration   // of the last one that succeeded, from the connection through the relay to the direct one
}

// reach collects what AutoNAT, AutoRelay and hole punching find out.
type reach struct {
	behind atomic.Bool // a router, which translates addresses: what dials begin with depends on it

	mu        sync.Mutex // guards what follows
	v1        network.Reachability
	confirmed []ma.Multiaddr // by AutoNAT version 2
	relays    []peer.ID
	way       Way
	since     time.Time
	punched   uint64
	unpunched uint64
	took      time.Duration
}

func newReach() *reach { return &reach{way: WayUnknown, since: time.Now()} }

// Trace is called by the library for each step of hole punching; both nodes call it at the end of an attempt.
func (r *reach) Trace(e *holepunch.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch end, ok := e.Evt.(*holepunch.EndHolePunchEvt); {
	case !ok:
	case end.Success:
		r.punched++
		r.took = end.EllapsedTime
	default:
		r.unpunched++
	}
}

// note takes an event of the library. It reports whether version 2 of AutoNAT has found the node public where version 1 has
// nothing to say: in a swarm where all others are behind routers that one never does.
func (r *reach) note(ev any, now time.Time) (public bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch e := ev.(type) {
	case event.EvtLocalReachabilityChanged:
		r.v1 = e.Reachability
	case event.EvtHostReachableAddrsChanged:
		r.confirmed = e.Reachable
	case event.EvtAutoRelayAddrsUpdated:
		r.relays = nil
		for _, a := range e.RelayAddrs {
			if id, err := relayOf(a); err == nil && !slices.Contains(r.relays, id) {
				r.relays = append(r.relays, id)
			}
		}
	}
	way := WayUnknown
	switch {
	case r.v1 == network.ReachabilityPublic, len(r.confirmed) > 0:
		way = WayPublic
	case len(r.relays) > 0:
		way = WayRelay
	case r.v1 == network.ReachabilityPrivate:
		way = WayOutbound
	}
	if way != WayUnknown {
		r.behind.Store(way != WayPublic)
	}
	if way != r.way {
		r.way, r.since = way, now
	}
	return len(r.confirmed) > 0 && r.v1 == network.ReachabilityUnknown
}

// guess takes a node that listens, but not on a public IPv4 address, for one behind a router until more is known: that takes
// a quarter of a minute, and its first connections last longer.
func (r *reach) guess(listening []ma.Multiaddr) {
	r.behind.Store(len(listening) > 0 && !slices.ContainsFunc(listening, func(a ma.Multiaddr) bool {
		ip, _, _, ok := endpoint(a)
		return ok && ip.To4() != nil && manet.IsPublicAddr(a)
	}))
}

// relayOf names the relay in an address through one.
func relayOf(a ma.Multiaddr) (peer.ID, error) {
	relay, _ := ma.SplitFunc(a, func(c ma.Component) bool { return c.Protocol().Code == ma.P_CIRCUIT })
	text, err := relay.ValueForProtocol(ma.P_P2P)
	if err != nil {
		return "", err
	}
	return peer.Decode(text)
}

// watchReach follows the library's events until ctx ends.
func (h *Host) watchReach(ctx context.Context) error {
	bus := h.host.EventBus()
	events, err := bus.Subscribe([]any{new(event.EvtLocalReachabilityChanged), new(event.EvtHostReachableAddrsChanged),
		new(event.EvtAutoRelayAddrsUpdated)}, eventbus.BufSize(64), eventbus.Name("swarmnode-reach"))
	if err != nil {
		return fmt.Errorf("subscribe to events of reachability: %w", err)
	}
	tell, err := bus.Emitter(new(event.EvtLocalReachabilityChanged), eventbus.Stateful)
	if err != nil {
		events.Close()
		return fmt.Errorf("tell of reachability: %w", err)
	}
	h.wg.Go(func() {
		defer events.Close()
		defer tell.Close()
		for {
			select {
			case <-ctx.Done():
				return
			case e, ok := <-events.Out():
				if !ok {
					return
				}
				before := h.Reach().Way
				if h.reach.note(e, time.Now()) {
					// The relay service, AutoRelay and the DHT's mode listen to this event only.
					if err := tell.Emit(event.EvtLocalReachabilityChanged{Reachability: network.ReachabilityPublic}); err != nil {
						h.cfg.Log.Debug("reachability is not told", "error", err)
					}
				}
				if now := h.Reach().Way; now != before {
					h.cfg.Log.Debug("how this node is reached has changed", "way", now, "before", before)
				}
			}
		}
	})
	return nil
}

// Reach tells how others get to this node.
func (h *Host) Reach() Reach {
	own, err := h.host.Network().InterfaceListenAddresses()
	if err != nil {
		h.cfg.Log.Debug("the addresses of this machine are not known", "error", err)
	}
	return h.reach.tell(own)
}

// tell gives what is known, on a machine with these addresses.
func (r *reach) tell(own []ma.Multiaddr) Reach {
	r.mu.Lock()
	defer r.mu.Unlock()
	x := Reach{Way: r.way, Since: r.since, Punched: r.punched, Unpunched: r.unpunched, PunchTime: r.took}
	for _, a := range r.confirmed {
		x.Confirmed = append(x.Confirmed, a.String())
		x.Forwarded = x.Forwarded || !slices.ContainsFunc(own, a.Equal)
	}
	for _, id := range r.relays {
		x.Relays = append(x.Relays, gossip.PeerID(id.String()))
	}
	return x
}
