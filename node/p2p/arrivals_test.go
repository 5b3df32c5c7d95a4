package p2p

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"

	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

func TestSilentConnections(t *testing.T) {
	a := newHost(t, Config{}, Handlers{})
	var addr net.Addr
	for _, l := range listening(a) {
		if _, err := l.ValueForProtocol(ma.P_TCP); err == nil {
			addr = must(manet.ToNetAddr(l))
		}
	}
	old := newHost(t, Config{}, Handlers{})
	connect(t, old, a)
	for range 2 * maxTransient {
		c, err := net.Dial("tcp", addr.String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	young := newHost(t, Config{Client: true}, Handlers{})
	if _, err := young.Connect(t.Context(), must(manet.FromNetAddr(addr)).String()+"/p2p/"+string(a.ID())); err != nil {
		t.Errorf("an honest peer is kept out: %v", err)
	}
	if len(a.host.Network().ConnsToPeer(old.host.ID())) == 0 {
		t.Error("the connection from before is gone")
	}
	list := a.peers.bad.arrivals
	list.mu.Lock()
	all := list.all
	list.mu.Unlock()
	if all > maxArrivingPerIP {
		t.Errorf("%d connections from one address wait for their handshake, the limit is %d", all, maxArrivingPerIP)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	within(t, "the list is empty", func() bool {
		list.mu.Lock()
		defer list.mu.Unlock()
		return list.all == 0 && len(list.byIP) == 0
	})
}

// arriving is a connection from an address.
type arriving struct {
	manet.Conn
	from   string
	closed bool
}

func (c *arriving) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(must(netip.ParseAddrPort(c.from)))
}
func (c *arriving) Read(b []byte) (int, error) { return len(b), nil }
func (c *arriving) Close() error               { c.closed = true; return nil }

func TestArrivals(t *testing.T) {
	l := newArrivals()
	add := func(from string) *arriving { c := &arriving{from: from}; l.add(c); return c }
	spoken := &arriving{from: "192.0.2.1:7"}
	l.add(spoken).Read(make([]byte, 1))
	first := add("192.0.2.1:8")
	for range maxArrivingPerIP - 2 {
		add("192.0.2.1:9")
	}
	other := add("198.51.100.1:1")
	if first.closed || spoken.closed {
		t.Fatal("closed before the address had too many")
	}
	add("192.0.2.1:10")
	if !first.closed || spoken.closed || other.closed {
		t.Errorf("closed: the oldest silent %v, one that spoke %v, one of another address %v", first.closed, spoken.closed, other.closed)
	}
	for i := range maxArriving - 3 { // then the crowd still has two
		add(net.JoinHostPort(net.IPv4(203, 0, 113, byte(i)).String(), "1"))
	}
	if l.all != maxArriving || other.closed || spoken.closed {
		t.Errorf("%d are there, want %d; of the address with one connection closed: %v", l.all, maxArriving, other.closed)
	}
	// One customer of an IPv6 provider has 2^72 addresses.
	same := add("[2001:db8::1]:1")
	for i := range maxArrivingPerIP {
		add(net.JoinHostPort("2001:db8::"+string("abcdef"[i%6]), "1"))
	}
	if !same.closed {
		t.Error("the addresses of one /56 count as many")
	}
	for _, of := range l.byIP {
		for len(of) > 0 {
			n := len(of)
			l.done(of[0])
			of = of[:n-1]
		}
	}
	if l.all != 0 {
		t.Errorf("%d are left after their handshakes", l.all)
	}
}

// TestLimitsTable checks that what the package says of its limits is what they are.
func TestLimitsTable(t *testing.T) {
	raw, err := os.ReadFile("p2p.go")
	if err != nil {
		t.Fatal(err)
	}
	doc, _, ok := strings.Cut(string(raw), "\npackage p2p")
	if !ok {
		t.Fatal("no package doc")
	}
	defaults := Timeouts{}.withDefaults()
	for _, want := range []string{
		fmt.Sprintf("%d inbound, %d (maxConns)", maxInbound, maxConns),
		fmt.Sprintf("over %d (maxPeers)", maxPeers),
		fmt.Sprintf("%d, %d of one address (maxArriving)", maxArriving, maxArrivingPerIP),
		fmt.Sprintf("%d s (maxSilence)", int(maxSilence.Seconds())),
		fmt.Sprintf("connections, one address     %d, %d new ones a second", maxConnsPerIP, maxConnRatePerIP),
		fmt.Sprintf("%d (maxPeerStreams)", maxPeerStreams),
		fmt.Sprintf("over %d reset", hardStreamsPerPeer),
		fmt.Sprintf("streams, in all, protocol    %d ", maxHoldingsStreams),
		fmt.Sprintf("%d bytes (maxRequest)", maxRequest),
		fmt.Sprintf("%d s (Timeouts.Open)", int(defaults.Open.Seconds())),
		fmt.Sprintf("%d s; %d min in all", int(defaults.Progress.Seconds()), int(defaults.Total.Minutes())),
		fmt.Sprintf("%d MiB (MaxRunBytes)", MaxRunBytes>>20),
		fmt.Sprintf("%d blocks, %d MiB", MaxBlocksPerRequest, maxBlockBytes>>20),
		fmt.Sprintf("%d MiB each way (MemoryBytes)", defaultMemory>>20),
		fmt.Sprintf("%d (maxProviders)", maxProviders),
		fmt.Sprintf("%d (maxOffenders), %d log lines/min", maxOffenders, maxNamed),
		fmt.Sprintf("ban: %d min, %d h", int(offenceBan.Minutes()), int(maxBan.Hours())),
	} {
		if !strings.Contains(doc, want) {
			t.Errorf("the table of limits does not say %q", want)
		}
	}
}
