package p2p

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/pnet"
	"github.com/libp2p/go-libp2p/core/transport"
	libp2pquic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/quicreuse"
	"github.com/marcopolo/simnet"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/quic-go/quic-go"
)

// nat is how a router translates addresses.
type nat int

const (
	noNAT     nat = iota
	cone          // one outer port for one inner port; lets in who was written to, by address and port
	symmetric     // another outer port for each who is written to
	forwarded     // as cone, and lets everybody in at the port that the machine listens on, once it was asked to
)

// mappingTime is how long a router keeps what it has not seen in use (RFC 4787, REQ-5: not less than two minutes).
const mappingTime = 2 * time.Minute

// listenPort is where machines listen, and what a router that passes it on calls it as well.
const listenPort = 4101

// internet is a simulated network of QUIC, for a bubble of synctest.
type internet struct {
	sim   simnet.Simnet
	mu    sync.Mutex // guards what follows, and sim.NewEndpoint
	sites byte
	lan   []string  // the places that are not on the Internet and to which somebody has written
	opens time.Time // when the router of the next site does what it was asked
}

// newInternet makes a network in which a packet takes so long from anywhere to anywhere.
func newInternet(t *testing.T, delay time.Duration) *internet {
	n := &internet{sim: simnet.Simnet{LatencyFunc: simnet.StaticLatency(delay), Logger: slog.New(slog.DiscardHandler)}}
	n.sim.Start()
	t.Cleanup(func() {
		n.sim.Close()
		time.Sleep(time.Minute) // what the library leaves to its own time-outs
	})
	return n
}

// host makes a host of its own network, behind a router of that kind. The address to listen on is the configuration's business
// elsewhere, here the network's.
func (n *internet) host(t *testing.T, kind nat, cfg Config, handlers Handlers, more ...libp2p.Option) *Host {
	t.Helper()
	n.mu.Lock()
	n.sites++ // each in a /24 of its own: identify has limits by network
	s := &site{internet: n, kind: kind, outer: net.IPv4(11, 2, n.sites, 1).To16(), inner: net.IPv4(11, 2, n.sites, 1).To16(), next: 40000, opens: n.opens}
	if kind != noNAT {
		s.inner = net.IPv4(192, 168, n.sites, 2).To16()
	}
	n.mu.Unlock()
	if !cfg.Client {
		cfg.Listen = []string{fmt.Sprintf("/ip4/%s/udp/%d/quic-v1", s.inner, listenPort)}
	}
	h, err := newOver(t.Context(), cfg, handlers, wire{transports: append(more, s.transport()), probe: func(ma.Multiaddr) error { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	run(t, h)
	return h
}

// site is a machine, and the router before it.
type site struct {
	*internet
	kind         nat
	inner, outer net.IP
	next         int       // port
	opens        time.Time // from then on it passes listenPort on, if it is of that kind
}

func (s *site) freePort() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next++
	return s.next
}

// PreferredSourceIPForDestination is asked by the library.
func (s *site) PreferredSourceIPForDestination(*net.UDPAddr) (net.IP, error) { return s.inner, nil }

// transport is the whole of QUIC on the simulated network. Given in this way it is also that of the host with which AutoNAT dials
// back.
func (s *site) transport() libp2p.Option {
	return libp2p.Transport(func(key crypto.PrivKey, psk pnet.PSK, gater connmgr.ConnectionGater, rm network.ResourceManager,
		reset quic.StatelessResetKey, token quic.TokenGeneratorKey) (transport.Transport, error) {
		m, err := quicreuse.NewConnManager(reset, token, quicreuse.OverrideListenUDP(s.listen),
			quicreuse.OverrideSourceIPSelector(func() (quicreuse.SourceIPSelector, error) { return s, nil }))
		if err != nil {
			return nil, err
		}
		t, err := libp2pquic.NewTransport(key, m, psk, gater, rm)
		if err != nil {
			return nil, err
		}
		return &simTransport{t, m}, nil
	})
}

// simTransport closes its sockets with it.
type simTransport struct {
	transport.Transport
	sockets *quicreuse.ConnManager
}

func (t *simTransport) Close() error {
	return errors.Join(t.Transport.(io.Closer).Close(), t.sockets.Close())
}

func (s *site) listen(_ string, a *net.UDPAddr) (net.PacketConn, error) {
	port := a.Port
	if port == 0 {
		port = s.freePort()
	}
	c := &socket{site: s, local: &net.UDPAddr{IP: s.inner, Port: port}, in: make(chan packet, 256), closed: make(chan struct{}),
		written: map[string]time.Time{}, outers: map[string]*simnet.SimConn{}}
	c.outer = c.open(port)
	return c, nil
}

type packet struct {
	data []byte
	from net.Addr
}

// socket is a UDP socket of a machine, and what the router keeps for it.
type socket struct {
	site   *site
	local  *net.UDPAddr
	outer  *simnet.SimConn // of a symmetric router: for those who were never written to, so that it lets nothing in
	in     chan packet
	closed chan struct{}
	once   sync.Once

	mu       sync.Mutex // guards what follows
	written  map[string]time.Time
	outers   map[string]*simnet.SimConn // of a symmetric router, by who is written to
	deadline time.Time
}

// open takes an outer port.
func (c *socket) open(port int) *simnet.SimConn {
	c.site.mu.Lock()
	outer := c.site.sim.NewEndpoint(&net.UDPAddr{IP: c.site.outer, Port: port}, simnet.NodeBiDiLinkSettings{
		Uplink: simnet.LinkSettings{BitsPerSecond: 50e6}, Downlink: simnet.LinkSettings{BitsPerSecond: 50e6}})
	c.site.mu.Unlock()
	go func() { // ends with Close
		buf := make([]byte, 2048)
		for {
			n, from, err := outer.ReadFrom(buf)
			if err != nil {
				return
			}
			if !c.admits(from) {
				continue
			}
			select {
			case c.in <- packet{append([]byte(nil), buf[:n]...), from}:
			case <-c.closed:
				return
			}
		}
	}()
	return outer
}

func (c *socket) admits(from net.Addr) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	last, ok := c.written[from.String()]
	passed := c.site.kind == forwarded && c.local.Port == listenPort && !time.Now().Before(c.site.opens)
	return c.site.kind == noNAT || passed || ok && time.Since(last) <= mappingTime
}

func (c *socket) WriteTo(b []byte, to net.Addr) (int, error) {
	u := to.(*net.UDPAddr)
	u = &net.UDPAddr{IP: u.IP.To16(), Port: u.Port} // the simulator takes the short form for another node
	if u.IP[12] != 11 {
		c.site.mu.Lock()
		c.site.lan = append(c.site.lan, u.String())
		c.site.mu.Unlock()
	}
	return c.outerTo(u).WriteTo(b, u)
}

func (c *socket) outerTo(to *net.UDPAddr) *simnet.SimConn {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.written[to.String()] = time.Now()
	if c.site.kind != symmetric {
		return c.outer
	}
	if c.outers[to.String()] == nil {
		c.outers[to.String()] = c.open(c.site.freePort())
	}
	return c.outers[to.String()]
}

func (c *socket) ReadFrom(b []byte) (int, net.Addr, error) {
	c.mu.Lock()
	deadline := c.deadline
	c.mu.Unlock()
	var over <-chan time.Time
	if !deadline.IsZero() {
		t := time.NewTimer(time.Until(deadline))
		defer t.Stop()
		over = t.C
	}
	select {
	case p := <-c.in:
		return copy(b, p.data), p.from, nil
	case <-c.closed:
		return 0, nil, net.ErrClosed
	case <-over:
		return 0, nil, os.ErrDeadlineExceeded
	}
}

func (c *socket) Close() error {
	c.once.Do(func() {
		close(c.closed)
		c.outer.Close()
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, o := range c.outers {
			o.Close()
		}
	})
	return nil
}

// SetReadDeadline is called by quic-go with a time that is over, to end its loop: nothing reads again.
func (c *socket) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	c.deadline = t
	c.mu.Unlock()
	if !t.IsZero() && !t.After(time.Now()) {
		return c.Close()
	}
	return nil
}

func (c *socket) LocalAddr() net.Addr              { return c.local }
func (c *socket) SetDeadline(t time.Time) error    { return c.SetReadDeadline(t) }
func (c *socket) SetWriteDeadline(time.Time) error { return nil }
func (c *socket) SetReadBuffer(int) error          { return nil } // or quic-go complains
func (c *socket) SetWriteBuffer(int) error         { return nil }
