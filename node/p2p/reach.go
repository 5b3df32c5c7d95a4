package p2p

import (
	"context"
	"fmt"
	"maps"
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
	told      told
	doubt     time.Time         // when version 1 of AutoNAT last said that nobody reaches this node
	confirmed []ma.Multiaddr    // by version 2
	unknown   []ma.Multiaddr    // public ones of which version 2 cannot say yet
	asked     map[string]*asked // both of these, by address: what came of our own questions
	relays    []peer.ID
	way       Way
	since     time.Time
	punched   uint64
	unpunched uint64
	took      time.Duration
}

// asked is what is known of an address by asking.
type asked struct {
	reached bool
	at      time.Time     // of the last answer
	next    time.Time     // not asked before
	wait    time.Duration // before that, to be doubled
}

const (
	// An address that was not reached is tried again after retryReach, twice that and so on; one of which nobody could say after
	// askPause; both at least every maxRetryReach, as often as the library looks.
	retryReach, maxRetryReach = 30 * time.Second, 5 * time.Minute
)

func newReach() *reach {
	return &reach{way: WayUnknown, since: time.Now(), asked: map[string]*asked{}, told: told{own: map[network.Reachability]int{}}}
}

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

// note takes an event of the library. It reports whether there is something to say: that version 2 of AutoNAT has found the node public
// where version 1 has no opinion, which it never has in a swarm where all others are behind routers; or that this is over.
func (r *reach) note(ev any, now time.Time) (say bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch e := ev.(type) {
	case event.EvtLocalReachabilityChanged:
		if r.told.heard(e.Reachability) && e.Reachability == network.ReachabilityPrivate {
			r.doubt = now
		}
	case event.EvtHostReachableAddrsChanged:
		r.confirmed, r.unknown = e.Reachable, e.Unknown
		maps.DeleteFunc(r.asked, func(a string, _ *asked) bool {
			is := func(b ma.Multiaddr) bool { return b.String() == a }
			return !slices.ContainsFunc(r.confirmed, is) && !slices.ContainsFunc(r.unknown, is)
		})
	case event.EvtAutoRelayAddrsUpdated:
		r.relays = nil
		for _, a := range e.RelayAddrs {
			if id, err := relayOf(a); err == nil && !slices.Contains(r.relays, id) {
				r.relays = append(r.relays, id)
			}
		}
	}
	return r.settle(now)
}

// reachable lists the addresses at which another node has reached this one. The caller holds mu.
func (r *reach) reachable() []ma.Multiaddr {
	list := slices.Clone(r.confirmed)
	for _, a := range r.unknown {
		if x := r.asked[a.String()]; x != nil && x.reached {
			list = append(list, a)
		}
	}
	return list
}

// settle decides which way others get here, and reports whether there is something to say. The caller holds mu.
func (r *reach) settle(now time.Time) (say bool) {
	way, reached := WayUnknown, len(r.reachable()) > 0
	switch {
	case r.told.v1 == network.ReachabilityPublic, reached:
		way = WayPublic
	case len(r.relays) > 0:
		way = WayRelay
	case r.told.v1 == network.ReachabilityPrivate:
		way = WayOutbound
	}
	if way != WayUnknown {
		r.behind.Store(way != WayPublic)
	}
	if way != r.way {
		r.way, r.since = way, now
	}
	switch {
	case !reached:
		return r.told.want(r.told.v1)
	case r.told.v1 == network.ReachabilityUnknown:
		return r.told.want(network.ReachabilityPublic)
	}
	return r.told.next
}

// due gives an address to ask about now, or says when to look again: those of which version 2 cannot say, and the others when
// version 1 says that nobody reaches this node.
func (r *reach) due(now time.Time) (a ma.Multiaddr, ok bool, again time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	again = now.Add(maxRetryReach)
	list := r.unknown
	if r.told.v1 == network.ReachabilityPrivate {
		list = slices.Concat(list, r.confirmed)
	}
	for _, a := range list {
		x := r.asked[a.String()]
		switch {
		case x == nil, !x.next.After(now) && (!x.reached || r.told.v1 == network.ReachabilityPrivate && x.at.Before(r.doubt)):
			return a, true, now
		case !x.reached && x.next.Before(again):
			again = x.next
		}
	}
	return nil, false, again
}

// answered takes what a peer said of an address; err says that it could not say. It reports whether there is something to say: that the
// node is public although version 1 does not say so, or that it is no longer.
func (r *reach) answered(a ma.Multiaddr, reached bool, err error, now time.Time) (say bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.ContainsFunc(r.unknown, a.Equal) && !slices.ContainsFunc(r.confirmed, a.Equal) {
		return false // the address is gone
	}
	x := r.asked[a.String()]
	if x == nil {
		x = &asked{}
		r.asked[a.String()] = x
	}
	first := retryReach
	if err != nil {
		first = askPause
	} else {
		x.reached, x.at = reached, now
	}
	if err == nil && reached {
		x.wait, x.next = 0, now
	} else {
		x.wait = min(max(2*x.wait, first), maxRetryReach)
		x.next = now.Add(x.wait)
	}
	if err == nil && reached {
		r.told.want(network.ReachabilityPublic)
	}
	return r.settle(now)
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
		new(event.EvtAutoRelayAddrsUpdated), new(event.EvtPeerIdentificationCompleted)}, eventbus.BufSize(64), eventbus.Name("swarmnode-reach"))
	if err != nil {
		return fmt.Errorf("subscribe to events of reachability: %w", err)
	}
	say, err := bus.Emitter(new(event.EvtLocalReachabilityChanged), eventbus.Stateful)
	if err != nil {
		events.Close()
		return fmt.Errorf("tell of reachability: %w", err)
	}
	var backs *dialBacks // a client is reached by nobody, and a public node need not ask
	if !h.cfg.Client && !h.cfg.Public {
		if backs, err = newDialBacks(h.host); err != nil {
			events.Close()
			say.Close()
			return err
		}
	}
	wake, something := make(chan struct{}, 1), make(chan struct{}, 1)
	if backs != nil {
		h.wg.Go(func() { h.keepAsking(ctx, backs, wake, something) })
	}
	h.wg.Go(func() { h.followReach(ctx, events, wake, something) })
	h.wg.Go(func() { h.sayReach(ctx, something, say) })
	return nil
}

// followReach takes the events until ctx ends, and has those addresses asked about that become known or can be asked about.
func (h *Host) followReach(ctx context.Context, events event.Subscription, wake, something chan<- struct{}) {
	defer events.Close()
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
				poke(something)
			}
			if now := h.Reach().Way; now != before {
				h.cfg.Log.Debug("how this node is reached has changed", "way", now, "before", before)
			}
			poke(wake)
		}
	}
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
	for _, a := range r.reachable() {
		x.Confirmed = append(x.Confirmed, a.String())
		x.Forwarded = x.Forwarded || !slices.ContainsFunc(own, a.Equal)
	}
	for _, id := range r.relays {
		x.Relays = append(x.Relays, gossip.PeerID(id.String()))
	}
	return x
}
