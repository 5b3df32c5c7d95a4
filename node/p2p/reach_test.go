package p2p

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/p2p/protocol/holepunch"
	ma "github.com/multiformats/go-multiaddr"

	"swarmnode/gossip"
)

const relayedAddr = "/ip4/11.1.1.1/tcp/4101/p2p/12D3KooWFtJs1Yo4V24Za491Zv2oYgKxKPyfb2L2aPX4exVUNMHb/p2p-circuit"

func addrs(texts ...string) (list []ma.Multiaddr) {
	for _, s := range texts {
		list = append(list, ma.StringCast(s))
	}
	return list
}

func TestReachFollowsEvents(t *testing.T) {
	start := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	r := newReach()
	own := addrs("/ip4/192.168.1.2/tcp/4101")
	v1 := func(x network.Reachability) any { return event.EvtLocalReachabilityChanged{Reachability: x} }
	relays := func(texts ...string) any { return event.EvtAutoRelayAddrsUpdated{RelayAddrs: addrs(texts...)} }
	confirmed := func(texts ...string) any { return event.EvtHostReachableAddrsChanged{Reachable: addrs(texts...)} }
	for i, c := range []struct {
		what  string
		event any
		want  Way
		tell  bool // version 1 has nothing to say
	}{
		{"behind a router", v1(network.ReachabilityPrivate), WayOutbound, false},
		{"a relay", relays(relayedAddr, "/ip4/11.1.1.1/udp/4101/quic-v1"+relayedAddr[len("/ip4/11.1.1.1/tcp/4101"):]), WayRelay, false},
		{"the relay is gone", relays(), WayOutbound, false},
		{"the router passes a port on", confirmed("/ip4/11.2.2.2/tcp/4101"), WayPublic, false},
		{"no longer", confirmed(), WayOutbound, false},
		{"everybody has left", v1(network.ReachabilityUnknown), WayUnknown, false},
		{"only version 2 knows", confirmed("/ip4/11.2.2.2/tcp/4101"), WayPublic, true},
		{"that is not known any more", confirmed(), WayUnknown, true},
		{"again", confirmed("/ip4/11.2.2.2/tcp/4101"), WayPublic, true},
		{"version 1 as well", v1(network.ReachabilityPublic), WayPublic, false},
	} {
		tell := r.note(c.event, start.Add(time.Duration(i)*time.Second))
		if v, ok := r.toSay(); ok != tell || ok && r.note(v1(v), start.Add(time.Duration(i)*time.Second)) {
			t.Errorf("%s: %v is said: %v, and comes back", c.what, v, ok)
		}
		got := r.tell(own)
		if got.Way != c.want || tell != c.tell {
			t.Errorf("%s: %s, to be told %v; want %s, %v", c.what, got.Way, tell, c.want, c.tell)
		}
		if c.want == WayRelay && (len(got.Relays) != 1 || got.Relays[0] != "12D3KooWFtJs1Yo4V24Za491Zv2oYgKxKPyfb2L2aPX4exVUNMHb") {
			t.Errorf("%s: relays %v, want the one with two addresses", c.what, got.Relays)
		}
	}
	if got := r.tell(own); !got.Since.Equal(start.Add(8*time.Second)) || !got.Forwarded {
		t.Errorf("public since %s, forwarded %v; want since the ninth event, at an address that is not this machine's", got.Since, got.Forwarded)
	}
}

// What version 2 of AutoNAT cannot say is asked about, and everything once more when version 1 says the opposite.
func TestReachAsks(t *testing.T) {
	start := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	r, now := newReach(), start
	one, two := addrs("/ip4/11.2.2.2/tcp/4101")[0], addrs("/ip4/11.2.2.2/udp/4101/quic-v1")[0]
	nobody := errors.New("nobody can say")
	due := func(what string, want ma.Multiaddr) {
		t.Helper()
		if got, ok, again := r.due(now); ok != (want != nil) || ok && !got.Equal(want) || again.After(now.Add(maxRetryReach)) {
			t.Errorf("%s: to ask about %v (%v), next at %s; want %v", what, got, ok, again.Sub(now), want)
		}
	}
	answered := func(what string, a ma.Multiaddr, reached bool, err error, tell bool, way Way) {
		t.Helper()
		if got := r.answered(a, reached, err, now); got != tell || r.tell(nil).Way != way {
			t.Errorf("%s: to be told %v, %s; want %v, %s", what, got, r.tell(nil).Way, tell, way)
		}
	}
	v1 := func(x network.Reachability) { r.note(event.EvtLocalReachabilityChanged{Reachability: x}, now) }
	changed := func(reachable, unknown []ma.Multiaddr) {
		r.note(event.EvtHostReachableAddrsChanged{Reachable: reachable, Unknown: unknown}, now)
	}
	said := func(what string, want network.Reachability) {
		t.Helper()
		if v, ok := r.toSay(); !ok || v != want {
			t.Errorf("%s: %v is said (%v), want %v", what, v, ok, want)
		}
		v1(want) // it comes back
	}
	due("nothing known", nil)
	changed(nil, []ma.Multiaddr{one, two})
	due("two addresses", one)
	answered("nobody there", one, false, nobody, false, WayUnknown)
	due("the other one", two)
	answered("not reached", two, false, nil, false, WayUnknown)
	due("both asked", nil)
	now = now.Add(askPause)
	due("soon again", one)
	answered("reached", one, true, nil, true, WayPublic)
	said("reached", network.ReachabilityPublic)
	due("one is known, the other not due", nil)
	now = now.Add(retryReach)
	due("the other one again", two)
	answered("reached as well", two, true, nil, false, WayPublic)
	now = now.Add(time.Hour)
	due("all known", nil)

	v1(network.ReachabilityPrivate)
	due("the opposite is said", one)
	now = now.Add(time.Second)
	answered("reached all the same", one, true, nil, true, WayPublic)
	said("reached all the same", network.ReachabilityPublic)
	due("one of them is settled", two)
	answered("the other as well", two, true, nil, false, WayPublic)
	due("settled", nil)
	changed([]ma.Multiaddr{one}, nil)
	now = now.Add(time.Second)
	v1(network.ReachabilityPrivate)
	due("what the library has confirmed is asked about, too", one)
	answered("no longer", one, false, nil, false, WayPublic)
	changed(nil, []ma.Multiaddr{one})
	if v, ok := r.toSay(); ok {
		t.Errorf("%v is said again, as version 1 has said", v)
	}
	if got := r.tell(nil); got.Way != WayOutbound || len(got.Confirmed) != 0 {
		t.Errorf("%+v, want a node that nobody reaches", got)
	}
	changed(nil, nil)
	answered("an address that is gone", one, true, nil, false, WayOutbound)
	due("nothing left", nil)
	if len(r.asked) > 0 {
		t.Errorf("%d addresses that are gone are remembered", len(r.asked))
	}
}

// What a node says of itself comes back to it among all that it hears, and neither waits for the other.
func TestReachHearsItself(t *testing.T) {
	h := newHost(t, Config{}, Handlers{})
	bus := h.host.EventBus()
	found, err := bus.Emitter(new(event.EvtHostReachableAddrsChanged))
	if err != nil {
		t.Fatal(err)
	}
	defer found.Close()
	relayed, err := bus.Emitter(new(event.EvtAutoRelayAddrsUpdated))
	if err != nil {
		t.Fatal(err)
	}
	defer relayed.Close()
	for range 50 {
		for _, public := range []bool{true, false} {
			var e event.EvtHostReachableAddrsChanged
			if public {
				e.Reachable = addrs("/ip4/11.2.2.2/tcp/4101")
			}
			if err := found.Emit(e); err != nil {
				t.Fatal(err)
			}
			for range 100 {
				if err := relayed.Emit(event.EvtAutoRelayAddrsUpdated{}); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	if err := found.Emit(event.EvtHostReachableAddrsChanged{Reachable: addrs("/ip4/11.2.2.2/tcp/4101")}); err != nil {
		t.Fatal(err)
	}
	within(t, "the relay service of a public node", func() bool {
		return slices.Contains(h.host.Mux().Protocols(), "/libp2p/circuit/relay/0.2.0/hop")
	})
}

func TestReachCountsHolePunching(t *testing.T) {
	r := newReach()
	for _, e := range []any{&holepunch.StartHolePunchEvt{}, &holepunch.EndHolePunchEvt{Error: "no"},
		&holepunch.EndHolePunchEvt{Success: true, EllapsedTime: 300 * time.Millisecond}, &holepunch.HolePunchAttemptEvt{Attempt: 1}} {
		r.Trace(&holepunch.Event{Evt: e})
	}
	if got := r.tell(nil); got.Punched != 1 || got.Unpunched != 1 || got.PunchTime != 300*time.Millisecond {
		t.Errorf("%d punched, %d not, the last in %s; want 1, 1, 300ms", got.Punched, got.Unpunched, got.PunchTime)
	}
}

func TestConnectAny(t *testing.T) {
	a, b := newHost(t, Config{}, Handlers{}), newHost(t, Config{}, Handlers{})
	where := []string{"/ip4/127.0.0.1/tcp/1", "nonsense"}
	if err := a.ConnectAny(t.Context(), b.ID(), where[1:]); err == nil {
		t.Error("connected without an address")
	}
	if err := a.ConnectAny(t.Context(), "nobody", where); err == nil {
		t.Error("connected to an ID that is none")
	}
	for _, l := range listening(b) {
		where = append(where, l.String())
	}
	if err := a.ConnectAny(t.Context(), b.ID(), where); err != nil || len(a.Peers()) != 1 || a.Peers()[0].ID != b.ID() {
		t.Errorf("%v, peers %v, want a connection to %s", err, a.Peers(), b.ID())
	}
	a.Close()
	if err := a.ConnectAny(t.Context(), gossip.PeerID(b.ID()), where); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v, want %v", err, ErrClosed)
	}
}

func TestBehindRouterQUICFirst(t *testing.T) {
	const tcp, quic, relay = "/ip4/11.1.1.1/tcp/4101", "/ip4/11.1.1.1/udp/4101/quic-v1", relayedAddr
	private, public := addrs("/ip4/127.0.0.1/tcp/4101", "/ip4/192.168.1.2/tcp/4101", "/ip6/2600::1/tcp/4101"), addrs("/ip4/11.3.3.3/tcp/4101")
	r := newReach()
	first := func(list ...string) string {
		ranked := r.rank(addrs(list...))
		for _, a := range ranked {
			if a.Delay == 0 {
				return a.Addr.String()
			}
		}
		return fmt.Sprint(ranked)
	}
	for _, c := range []struct {
		what  string
		learn func()
		want  string
	}{
		{"nothing known", func() {}, tcp},
		{"no public IPv4 address", func() { r.guess(private) }, quic},
		{"a public one", func() { r.guess(append(private, public...)) }, tcp},
		{"AutoNAT says private", func() {
			r.note(event.EvtLocalReachabilityChanged{Reachability: network.ReachabilityPrivate}, time.Time{})
		}, quic},
		{"it says nothing any more", func() { r.note(event.EvtLocalReachabilityChanged{}, time.Time{}) }, quic},
		{"it says public", func() {
			r.note(event.EvtLocalReachabilityChanged{Reachability: network.ReachabilityPublic}, time.Time{})
		}, tcp},
		{"not listening", func() { r.guess(nil) }, tcp},
	} {
		c.learn()
		if got := first(tcp, quic, relay); got != c.want {
			t.Errorf("%s: begins with %s, want %s", c.what, got, c.want)
		}
	}
	r.guess(private)
	if got := first("/ip4/192.168.1.3/tcp/4101", "/ip4/192.168.1.3/udp/4101/quic-v1"); got != "/ip4/192.168.1.3/tcp/4101" {
		t.Errorf("on the LAN: begins with %s, want TCP", got)
	}
	got := alsoQUIC(addrs(tcp, relay, "/ip4/192.168.1.3/tcp/4101", "/ip6/2600::1/tcp/4101", "/ip4/11.3.3.3/tcp/1", "/ip4/11.3.3.3/udp/1/quic-v1"))
	if len(got) != 7 || got[6].String() != quic {
		t.Errorf("with QUIC: %v, want only %s in addition", got, quic)
	}
}
