package gateway

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// defaultConns is the default of ServerConfig.Conns: twice the 2,000 slow clients that memory is measured with.
	defaultConns = 4096
	// defaultConnsPerAddress is the default of ServerConfig.ConnsPerAddress: eight aria2 with all of their 16 connections.
	defaultConnsPerAddress = 128
	// lingering is how many refused connections may wait for their client to read why. More are closed at once. Chosen.
	lingering = 64
	// lingerTimeout is how long each of them may. Chosen: a round trip across the world, twice.
	lingerTimeout = time.Second

	// refusedFor is the seconds after which a refused client may come back: time for some downloads to end. Chosen.
	refusedFor = "10"

	// slowWindow and slowBytes say who reads too slowly: who takes less than that in so much time spent waiting for it. dnf gives up
	// below 1000 B/s over 30 s, so nobody who is still there is dropped.
	slowWindow = 30 * time.Second
	slowBytes  = 30_000
)

// errSlow ends a connection whose client reads too slowly.
var errSlow = errors.New("the client reads less than 1000 bytes a second")

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
			return &conn{Conn: c, leave: leave, slow: &l.s.counts.slow}, nil
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

// conn drops a client that reads too slowly. What counts is the time that writes wait for it, not the time between them, in which
// the gateway may wait for peers. Writing is done by one goroutine at a time, as net/http and crypto/tls do.
type conn struct {
	net.Conn
	leave func()
	slow  *atomic.Uint64

	limit atomic.Int64 // write deadline that somebody else set, in ns since 1970; 0: none
	// The window: time spent in writes and bytes they wrote, and what the client had acknowledged at its beginning.
	spent time.Duration
	bytes int64
	acked int64
}

// write calls once with a deadline until the whole is written, and gives up when a window is over with too little.
func (c *conn) write(once func() (n int64, whole bool, err error)) (n int64, err error) {
	for {
		start := time.Now()
		c.setDeadline(start.Add(slowWindow - c.spent))
		m, whole, err := once()
		n += m
		c.bytes += m
		c.spent += time.Since(start)
		if c.spent >= slowWindow && !c.nextWindow() {
			c.slow.Add(1)
			return n, fmt.Errorf("%w, it is dropped", errSlow)
		}
		if whole || !errors.Is(err, os.ErrDeadlineExceeded) || c.passed() {
			return n, err
		}
	}
}

// nextWindow begins a new window, and reports whether the client took enough in the last. Buffers of the kernel are large: it may
// have taken much while nothing could be written, so that what it has acknowledged counts as well.
func (c *conn) nextWindow() bool {
	acked := acknowledged(c.Conn)
	enough := c.bytes >= slowBytes || acked-c.acked >= slowBytes
	c.spent, c.bytes, c.acked = 0, 0, acked
	return enough
}

func (c *conn) setDeadline(t time.Time) {
	if limit := c.limit.Load(); limit != 0 && limit < t.UnixNano() {
		t = time.Unix(0, limit)
	}
	c.Conn.SetWriteDeadline(t)
}

// passed reports whether the write deadline that somebody else set is over.
func (c *conn) passed() bool {
	limit := c.limit.Load()
	return limit != 0 && limit <= time.Now().UnixNano()
}

func (c *conn) Write(p []byte) (int, error) {
	done := 0
	n, err := c.write(func() (int64, bool, error) {
		n, err := c.Conn.Write(p[done:])
		done += n
		return int64(n), done == len(p), err
	})
	return int(n), err
}

// ReadFrom sends a part of a file without copying it; net/http calls it.
func (c *conn) ReadFrom(r io.Reader) (int64, error) {
	if part, ok := r.(*filePart); ok {
		return c.write(func() (int64, bool, error) { return part.sendTo(c.Conn) })
	}
	return io.Copy(struct{ io.Writer }{c}, r)
}

// SetWriteDeadline and SetDeadline keep what net/http and crypto/tls ask for beside the window.
func (c *conn) SetWriteDeadline(t time.Time) error {
	var limit int64
	if !t.IsZero() {
		limit = t.UnixNano()
	}
	c.limit.Store(limit)
	return c.Conn.SetWriteDeadline(t)
}

func (c *conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// CloseWrite tells the client that no more comes; net/http does so before it closes.
func (c *conn) CloseWrite() error {
	if t, ok := c.Conn.(*net.TCPConn); ok {
		return t.CloseWrite()
	}
	return nil
}

func (c *conn) Close() error {
	c.leave()
	return c.Conn.Close()
}
