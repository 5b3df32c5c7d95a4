package gateway

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// defaultConns is the default of ServerConfig.Conns: at the 46 to 78 KiB that a slow client was measured to cost, about 300 MiB.
	defaultConns = 4096
	// defaultConnsPerAddress is the default of ServerConfig.ConnsPerAddress: eight aria2 with all of their 16 connections.
	defaultConnsPerAddress = 128
	// lingering is how many refused connections may wait for their client to read why. More are closed at once. Chosen.
	lingering = 64
	// lingerTimeout is how long each of them may. Chosen: a round trip across the world, twice.
	lingerTimeout = time.Second

	// refusedFor is the seconds after which a refused client may come back: time for some downloads to end. Chosen.
	refusedFor = "10"
)

// limiter counts connections, in all and by network, and requests. An address stands for its /32 or /64: that is what one
// subscriber has.
type limiter struct {
	conns, perAddress int
	local             bool // this machine itself is limited like any address
	requests          atomic.Int64

	mu      sync.Mutex // guards what follows
	all     int
	by      map[netip.Prefix]int
	refused uint64
}

func newLimiter(conns, perAddress int) *limiter {
	return &limiter{conns: cmp.Or(conns, defaultConns), perAddress: cmp.Or(perAddress, defaultConnsPerAddress), local: perAddress != 0,
		by: map[netip.Prefix]int{}}
}

// enter counts a connection until leave is called. ok is false when there are too many.
func (l *limiter) enter(a net.Addr) (leave func(), ok bool) {
	from := subscriber(a)
	l.mu.Lock()
	defer l.mu.Unlock()
	limited := l.local || !from.Addr().IsLoopback()
	if l.all >= l.conns || limited && l.by[from] >= l.perAddress {
		l.refused++
		return nil, false
	}
	l.all++
	l.by[from]++
	return sync.OnceFunc(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.all--
		if l.by[from]--; l.by[from] == 0 {
			delete(l.by, from)
		}
	}), true
}

// refuse counts a request that was refused.
func (l *limiter) refuse() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refused++
}

// busy reports whether half of the connections are taken: from then on an address has to be proved before QUIC spends more on it.
func (l *limiter) busy() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all >= l.conns/2
}

// subscriber gives the network that an address is counted with.
func subscriber(a net.Addr) netip.Prefix {
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.Prefix{}
	}
	return network(ap.Addr(), 32, 64)
}

// network cuts an address to so many bits.
func network(ip netip.Addr, v4, v6 int) netip.Prefix {
	ip = ip.Unmap().WithZone("")
	bits := v6
	if ip.Is4() {
		bits = v4
	}
	p, err := ip.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}

// listener hands out connections within the limits. Others are told so and closed.
type listener struct {
	net.Listener
	s       *Server
	waiting atomic.Int64 // refused connections that linger
}

func (l *listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		leave, ok := l.s.limiter.enter(c.RemoteAddr())
		if ok {
			boundUnsent(c)
			ctx, stop := context.WithCancel(context.Background())
			return &conn{Conn: c, leave: leave, slow: &l.s.counts.slow, meter: newMeter(ctx, l.s.cfg.Limit, c.RemoteAddr().String()), stop: stop}, nil
		}
		if l.s.pair != nil || l.waiting.Add(1) > lingering {
			c.Close()
			continue
		}
		l.s.accepting.Go(func() { l.refuse(c) })
	}
}

// tooMany is the whole answer to a connection that is one too many.
func tooMany() string {
	const why = "There are too many connections from your network or in all; try again in some seconds.\n"
	return "HTTP/1.1 503 Service Unavailable\r\nRetry-After: " + refusedFor + "\r\nConnection: close\r\nContent-Type: text/plain; charset=utf-8\r\n" +
		fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(why), why)
}

// refuse says why, and waits a little for the client to have read it: closing at once would take the answer back.
func (l *listener) refuse(c net.Conn) {
	defer l.waiting.Add(-1)
	defer c.Close()
	c.SetDeadline(time.Now().Add(lingerTimeout))
	if _, err := io.WriteString(c, tooMany()); err != nil {
		return
	}
	if t, ok := c.(*net.TCPConn); ok {
		t.CloseWrite()
	}
	io.CopyN(io.Discard, c, maxHeaderBytes)
}
