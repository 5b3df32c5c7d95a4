package limit

import (
	"context"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"swarmnode/node/policy"
)

// line carries out policy.Ration: those who want bytes wait in it.
type line struct {
	now     func() time.Time
	limited *atomic.Bool

	*queue
}

// queue is what its mutex guards.
type queue struct {
	mu     sync.Mutex
	ration *policy.Ration
	ready  map[policy.Ticket]chan struct{} // of those who wait; closed when they may go
	timer  *time.Timer                     // runs next while somebody waits
}

func newLine(now func() time.Time) line {
	return line{now: now, limited: new(atomic.Bool), queue: &queue{ration: policy.NewRation(), ready: map[policy.Ticket]chan struct{}{}}}
}

// set changes the rate; 0: no limit.
func (l *line) set(rate int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ration.SetRate(l.now(), rate)
	l.limited.Store(rate > 0)
	l.next()
}

// take waits for some of n bytes and says how many there are.
func (l *line) take(ctx context.Context, addr netip.Addr, n int) (int, error) {
	if !l.limited.Load() {
		return min(n, freePiece), nil
	}
	l.mu.Lock()
	if piece := l.ration.Piece(); piece > 0 {
		n = int(min(int64(n), piece))
	} else {
		n = min(n, freePiece)
	}
	return l.wait(ctx, addr, n)
}

// takeAll waits for n bytes, however many they are.
func (l *line) takeAll(ctx context.Context, addr netip.Addr, n int) error {
	if !l.limited.Load() {
		return nil
	}
	l.mu.Lock()
	_, err := l.wait(ctx, addr, n)
	return err
}

// spend takes n bytes that have moved already, and waits for nothing.
func (l *line) spend(n int) {
	if !l.limited.Load() {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ration.Spend(l.now(), int64(n))
}

// wait waits for n bytes. The caller holds mu, which it gives back.
func (l *line) wait(ctx context.Context, addr netip.Addr, n int) (int, error) {
	t := l.ration.Ask(l.now(), policy.Group(addr), int64(n))
	ready := make(chan struct{})
	l.ready[t] = ready
	l.next()
	l.mu.Unlock()
	select {
	case <-ready:
		return n, nil
	case <-ctx.Done():
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-ready:
		return n, nil
	default:
	}
	l.ration.Cancel(t)
	delete(l.ready, t)
	l.next()
	return 0, context.Cause(ctx)
}

// next lets those go on who may. The caller holds mu.
func (l *line) next() {
	now := l.now()
	granted, wake := l.ration.Next(now)
	for _, t := range granted {
		close(l.ready[t])
		delete(l.ready, t)
	}
	switch {
	case wake.IsZero() && l.timer != nil:
		l.timer.Stop()
	case wake.IsZero():
	case l.timer == nil:
		l.timer = time.AfterFunc(wake.Sub(now), func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.next()
		})
	default:
		l.timer.Reset(wake.Sub(now))
	}
}

func (l *line) waiting() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ration.Waiting()
}
