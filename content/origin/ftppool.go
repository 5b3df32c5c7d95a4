package origin

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"time"
)

// ftpPool has the connections. A server that allows fewer than were meant to be is asked for no more than it gave, until the next
// listing.
type ftpPool struct {
	mu     sync.Mutex // guards all below
	idle   []*ftpConn
	open   int // connections there are, or are being made
	limit  int // how many there may be
	most   int // how many there may ever be
	closed bool
	log    *slog.Logger
	told   bool          // that the server takes no more
	free   chan struct{} // closed, and another one made, when a connection or the room for one came free
}

// get gives an idle connection or makes one, waiting for room.
func (p *ftpPool) get(ctx context.Context, connect func(context.Context) (*ftpConn, error)) (*ftpConn, error) {
	for {
		c, room, wait, err := p.take()
		if c != nil || err != nil {
			return c, err
		}
		if !room {
			select {
			case <-wait:
				continue
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		if c, err = connect(ctx); err == nil {
			return c, nil
		}
		if !p.fewer(err) {
			return nil, err
		}
	}
}

// take gives a connection, or room to make one, or what to wait for.
func (p *ftpPool) take() (c *ftpConn, room bool, wait <-chan struct{}, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, false, nil, net.ErrClosed
	}
	for len(p.idle) > 0 {
		c = p.idle[len(p.idle)-1]
		p.idle = p.idle[:len(p.idle)-1]
		if time.Since(c.since) < ftpIdle {
			c.used = true
			return c, false, nil, nil
		}
		c.quit()
		p.open--
	}
	if p.open < p.limit {
		p.open++
		return nil, true, nil, nil
	}
	return nil, false, p.free, nil
}

// fewer takes back the room for a connection that could not be made. It reports whether to wait for one of the others instead. Why
// it could not be made is no matter then: servers that take no more of them say so in many words, such as those for a wrong
// password, or in none.
func (p *ftpPool) fewer(err error) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open--
	p.signal()
	if p.open == 0 {
		return false
	}
	p.limit = p.open
	if !p.told {
		p.log.Info("the server takes no more connections: those there are have to do; fewer --connections spare both sides the refusals", "error", err)
	}
	p.told = true
	return true
}

// put takes a connection back.
func (p *ftpPool) put(c *ftpConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	defer p.signal()
	if c.broken.Load() || p.closed {
		c.quit()
		p.open--
		return
	}
	c.since, c.lent = time.Now(), false
	p.idle = append(p.idle, c)
}

// drop ends those that are idle: one of them was found dead.
func (p *ftpPool) drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	defer p.signal()
	for _, c := range p.idle {
		c.quit()
		p.open--
	}
	p.idle = nil
}

func (p *ftpPool) reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.limit = p.most
}

func (p *ftpPool) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.drop()
}

// signal wakes those who wait; p.mu is held.
func (p *ftpPool) signal() {
	close(p.free)
	p.free = make(chan struct{})
}
