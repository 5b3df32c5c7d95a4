package p2p

import (
	"fmt"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/core/test"
	"github.com/libp2p/go-libp2p/p2p/protocol/holepunch"
	"github.com/libp2p/go-libp2p/p2p/protocol/holepunch/pb"
	"github.com/libp2p/go-msgio/pbio"
	ma "github.com/multiformats/go-multiaddr"
)

func TestDialRule(t *testing.T) {
	p, other := test.RandPeerIDFatal(t), test.RandPeerIDFatal(t)
	of := func(texts ...string) peer.AddrInfo { return peer.AddrInfo{ID: p, Addrs: addrs(texts...)} }
	const lan, lanQUIC = "/ip4/192.168.1.5/tcp/4101", "/ip4/192.168.1.5/udp/4101/quic-v1"
	here := ma.StringCast("/ip4/192.168.4.4/tcp/40404") // of this node
	// Nobody is led there, whatever is open below.
	never := addrs("/ip4/169.254.169.254/tcp/80", "/ip4/0.0.0.0/tcp/22", "/ip4/224.0.0.251/udp/5353/quic-v1", "/ip6/fe80::1/tcp/22",
		"/ip6zone/eth0/ip6/fe80::1/tcp/22", "/ip6/::ffff:172.16.0.1/tcp/22", "/ip6/64:ff9b::172.16.0.1/tcp/22", "/ip6/2002:ac10:1::1/tcp/22",
		"/ip6/64:ff9b:1::1/tcp/22", "/ip6/ff02::1/udp/22/quic-v1", "/ip4/172.16.0.1/tcp/4101")
	always := addrs("/ip4/11.1.1.1/tcp/22", "/ip6/2600::1/udp/22/quic-v1", "/dns4/example.org/tcp/4101", "/ip6/64:ff9b::11.1.1.1/tcp/22",
		relayedAddr, "/p2p/"+other.String()+"/p2p-circuit", lan+"/p2p/"+other.String()+"/p2p-circuit")
	for _, c := range []struct {
		what     string
		learn    func(*dialRule)
		yes, not []string // of p
		others   bool     // the same for another peer
	}{
		{"nothing known", func(*dialRule) {}, nil, []string{lan, "/ip4/127.0.0.1/tcp/4101", "/ip4/10.1.1.1/tcp/4101", "/ip6/fd00::1/tcp/4101"}, true},
		{"a bootstrap address on the Internet", func(r *dialRule) { r.choose(of("/ip4/11.1.1.1/tcp/4101")) }, nil, []string{lan}, true},
		{"one on the LAN", func(r *dialRule) { r.choose(of(lan)) },
			[]string{lan, lanQUIC, "/ip4/192.168.77.1/tcp/22", "/ip6/::ffff:192.168.1.1/tcp/22"}, []string{"/ip4/10.1.1.1/tcp/4101", "/ip4/127.0.0.1/tcp/4101"}, true},
		{"one on this machine", func(r *dialRule) { r.choose(of("/ip4/127.0.0.1/tcp/4101")) }, []string{"/ip4/127.0.0.1/tcp/22"}, []string{lan}, true},
		{"one for examples", func(r *dialRule) { r.choose(of("/ip4/192.0.2.1/tcp/4101")) }, []string{"/ip4/192.0.2.9/tcp/1"}, []string{"/ip4/198.51.100.1/tcp/1"}, true},
		{"a name", func(r *dialRule) { r.choose(of("/dns4/master.example/tcp/4101")) }, []string{lan, "/ip4/10.1.1.1/tcp/4101"}, []string{lanQUIC, "/ip4/192.168.1.5/tcp/22"}, false},
		{"a name that has led to the LAN", func(r *dialRule) {
			r.choose(of("/dns4/master.example/tcp/4101"))
			r.reached(other, here, ma.StringCast("/ip4/10.1.1.1/tcp/4101")) // another peer, which proves nothing
			r.reached(p, here, ma.StringCast("/ip4/172.16.1.1/tcp/22"))     // another port
			r.reached(p, here, ma.StringCast("/ip4/11.1.1.1/tcp/4101"))
			r.reached(p, here, ma.StringCast("/ip4/172.16.1.1/tcp/4101/p2p/"+other.String()+"/p2p-circuit"))
			r.reached(p, here, ma.StringCast(lan))
		}, []string{lan, "/ip4/192.168.9.9/tcp/22"}, []string{"/ip4/127.0.0.1/tcp/22"}, true},
		{"a service of a cluster, from a pod", func(r *dialRule) {
			r.choose(of("/ip4/10.96.0.7/tcp/4101"))
			r.reached(p, here, ma.StringCast("/ip4/10.96.0.7/tcp/4101"))
		}, []string{"/ip4/10.1.1.1/tcp/1", "/ip4/192.168.3.3/tcp/4101"}, []string{"/ip4/127.0.0.1/tcp/22"}, true},
		{"seen at many addresses", func(r *dialRule) {
			for i := range maxSpots + 1 {
				r.meet(of(fmt.Sprintf("/ip4/192.168.1.%d/tcp/4101", 100+i)))
			}
		}, []string{fmt.Sprintf("/ip4/192.168.1.%d/tcp/4101", 100+maxSpots)}, []string{"/ip4/192.168.1.100/tcp/4101"}, false},
		{"seen on the LAN", func(r *dialRule) { r.meet(of(lan, "/ip4/127.0.0.1/tcp/22", "/ip4/0.0.0.0/tcp/22")) },
			[]string{lan}, []string{lanQUIC, "/ip4/192.168.1.5/tcp/22", "/ip4/127.0.0.1/tcp/22"}, false},
		{"a node of one machine", func(r *dialRule) { r.listens(addrs("/ip4/127.0.0.1/tcp/4101", "/ip6/::1/tcp/4101")) },
			[]string{"/ip4/127.0.0.1/tcp/22", "/ip6/::1/tcp/22"}, []string{lan}, true},
		{"a node of all addresses", func(r *dialRule) { r.listens(anyAddrs(4101)); r.listens(nil) }, nil, []string{"/ip4/127.0.0.1/tcp/22", lan}, true},
	} {
		r := newDialRule()
		c.learn(r)
		for want, list := range map[bool][]string{true: c.yes, false: c.not} {
			for _, a := range addrs(list...) {
				if got := r.allows(p, a); got != want {
					t.Errorf("%s: %s is dialed: %v, want %v", c.what, a, got, want)
				}
				if got := r.allows(other, a); got != (want && c.others) {
					t.Errorf("%s: %s is dialed for another peer: %v, want %v", c.what, a, got, want && c.others)
				}
			}
		}
		for want, list := range map[bool][]ma.Multiaddr{true: always, false: never} {
			for _, a := range list {
				if got := r.allows(other, a); got != want {
					t.Errorf("%s: %s is dialed: %v, want %v", c.what, a, got, want)
				}
			}
		}
	}
}

func TestDialRuleIsBounded(t *testing.T) {
	r := newDialRule()
	var many []string
	for port := range 10 * maxSpots {
		many = append(many, fmt.Sprintf("/ip4/192.168.1.5/tcp/%d", port+1))
	}
	for range maxNear + 9 {
		r.meet(peer.AddrInfo{ID: test.RandPeerIDFatal(t), Addrs: addrs(many...)})
	}
	if len(r.near) != maxNear {
		t.Errorf("the addresses of %d peers are kept, want %d", len(r.near), maxNear)
	}
	for _, list := range r.near {
		if len(list) != maxSpots {
			t.Errorf("%d addresses of a peer are kept, want %d", len(list), maxSpots)
		}
	}
}

// A service of this machine hears nothing from a node to which a stranger names it, in any of the ways in which addresses come.
func TestStrangersNameNoPortsOfThisMachine(t *testing.T) {
	stranger := newHost(t, Config{}, Handlers{})
	for _, c := range []struct {
		what   string
		listen string
		want   bool
	}{{"a node of the Internet", ":0", false}, {"a node of this machine", "127.0.0.1:0", true}} {
		service, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer service.Close()
		where := fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", service.Addr().(*net.TCPAddr).Port)
		first := make(chan string, 1)
		go func() { // ends with the listener
			c, err := service.Accept()
			if err != nil {
				return
			}
			first <- c.RemoteAddr().String()
			c.Close()
			service.Close() // who else has come is sent away
		}()
		h := newHost(t, Config{Listen: []string{c.listen}}, Handlers{})
		if err := h.ConnectAny(t.Context(), stranger.ID(), []string{where}); err == nil {
			t.Errorf("%s: connected to what is no node", c.what)
		}
		h.host.Peerstore().AddAddrs(stranger.host.ID(), addrs(where), peerstore.TempAddrTTL) // as the DHT and identify do
		if _, err := h.host.NewStream(t.Context(), stranger.host.ID(), chunksProtocol); err == nil {
			t.Errorf("%s: a stream to what is no node", c.what)
		}
		if err := h.Close(); err != nil {
			t.Error(err)
		}
		own := ""
		if last, err := net.Dial("tcp4", service.Addr().String()); err == nil { // connections are accepted in the order in which they come
			own = last.LocalAddr().String()
			last.Close()
		}
		if got := <-first != own; got != c.want {
			t.Errorf("%s: the service heard of it: %v, want %v", c.what, got, c.want)
		}
	}
}

// Who asks for hole punching names addresses: none of the LAN is tried.
func TestHolesArePunchedOnTheInternetOnly(t *testing.T) {
	for _, open := range []bool{false, true} { // opened, the same writes there: the test can see it
		synctest.Test(t, func(t *testing.T) {
			n, master, two := neighbours(t, cone, Handlers{}, nil)
			victim := two[0]
			if open {
				victim.peers.bad.dials.choose(peer.AddrInfo{ID: master.host.ID(), Addrs: addrs("/ip4/192.168.200.1/udp/4101/quic-v1")})
			}
			n.mu.Lock()
			n.lan = nil
			n.mu.Unlock()
			client := n.host(t, noNAT, Config{Client: true}, Handlers{})
			if _, err := client.Connect(t.Context(), master.Addrs()[0]); err != nil {
				t.Fatal(err)
			}
			untilVirtual(t, time.Minute, "hole punching", client.canPunch)
			asked := make(chan struct{}, 8)
			client.host.SetStreamHandler(holepunch.Protocol, func(s network.Stream) {
				defer s.Close()
				var msg pb.HolePunch
				r, w := pbio.NewDelimitedReader(s, maxAnswer), pbio.NewDelimitedWriter(s)
				if err := r.ReadMsg(&msg); err != nil {
					t.Error(err)
				}
				answer := pb.HolePunch{Type: pb.HolePunch_CONNECT.Enum(), ObsAddrs: [][]byte{addrs("/ip4/192.168.200.9/udp/53/quic-v1")[0].Bytes()}}
				if err := w.WriteMsg(&answer); err != nil {
					t.Error(err)
				}
				_ = r.ReadMsg(&msg) // SYNC
				asked <- struct{}{}
			})
			relayed := ma.StringCast(master.Addrs()[0] + "/p2p-circuit")
			client.host.Peerstore().AddAddrs(victim.host.ID(), []ma.Multiaddr{relayed}, peerstore.PermanentAddrTTL)
			if _, err := client.host.Network().DialPeer(t.Context(), victim.host.ID()); err != nil {
				t.Fatal(err)
			}
			<-asked
			time.Sleep(10 * time.Second) // of the bubble: an attempt takes 5
			n.mu.Lock()
			defer n.mu.Unlock()
			if got := slices.Contains(n.lan, "192.168.200.9:53"); got != open || !open && len(n.lan) > 0 {
				t.Errorf("open %v: it was written to %v", open, n.lan)
			}
		})
	}
}
