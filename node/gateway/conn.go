package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"
)

const (
	// slowWindow and slowBytes say who reads too slowly: who takes less than that in so much time spent waiting for it. dnf gives up
	// below 1000 B/s over 30 s, so nobody who is still there is dropped.
	slowWindow = 30 * time.Second
	slowBytes  = 30_000
	// unsentBytes is how much the kernel holds for a client beyond what is under way to it. Without that bound it was 4 MB for each that
	// does not read, over loopback, and some hundreds of them took all of the machine's memory for TCP. With it a client cost 0.25 MB, and
	// 256 MiB over loopback as much time and processor as before; a long line is not slower, for what is under way is not bounded.
	unsentBytes = 256 << 10
)

// errSlow ends a connection whose client reads too slowly.
var errSlow = errors.New("the client reads less than 1000 bytes a second")

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

	meter meter
	stop  context.CancelFunc // ends a wait for the meter; may be nil

	// While an answer is made, its beginning is held back, so that a small one goes out in one piece: net/http alone cuts every 4 KiB.
	holding bool
	held    *[copySize]byte // nil when nothing is held
	length  int             // of what is held
}

type connKey struct{}

// connOf gives the connection of a request if it is one of HTTP/1.1 without TLS.
func connOf(ctx context.Context) *conn {
	c, _ := ctx.Value(connKey{}).(*conn)
	return c
}

// hold begins to hold back what is written.
func (c *conn) hold() { c.holding = true }

// release ends that and sends what is held.
func (c *conn) release() error {
	c.holding = false
	return c.flush()
}

// flush sends what is held.
func (c *conn) flush() error {
	if c.held == nil {
		return nil
	}
	_, err := c.writeOut(c.held[:c.length])
	copyBuffers.Put(c.held)
	c.held, c.length = nil, 0
	return err
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
	if c.holding && c.length+len(p) <= copySize {
		if c.held == nil {
			c.held = copyBuffers.Get().(*[copySize]byte)
		}
		c.length += copy(c.held[c.length:], p)
		return len(p), nil
	}
	if err := c.flush(); err != nil {
		return 0, err
	}
	return c.writeOut(p)
}

func (c *conn) writeOut(p []byte) (done int, err error) {
	for done < len(p) && err == nil {
		var piece int
		if piece, err = c.meter.send(len(p) - done); err != nil {
			return done, err
		}
		end := done + piece
		_, err = c.write(func() (int64, bool, error) {
			n, err := c.Conn.Write(p[done:end])
			done += n
			return int64(n), done == end, err
		})
	}
	return done, err
}

// sendPart sends a part of a file, as much at a time as may be sent.
func (c *conn) sendPart(part *filePart) (n int64, err error) {
	for all := part.left; n < all; {
		piece, err := c.meter.send(int(min(all-n, maxSend)))
		if err != nil {
			return n, err
		}
		part.left = int64(piece)
		m, err := c.write(func() (int64, bool, error) { return part.sendTo(c.Conn) })
		n += m
		part.left = all - n
		if err != nil || m < int64(piece) {
			return n, err
		}
	}
	return n, nil
}

// ReadFrom sends a part of a file without copying it; net/http calls it.
func (c *conn) ReadFrom(r io.Reader) (int64, error) {
	if part, ok := r.(*filePart); ok {
		if err := c.flush(); err != nil {
			return 0, err
		}
		return c.sendPart(part)
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
	if c.stop != nil {
		c.stop()
	}
	return c.Conn.Close()
}
