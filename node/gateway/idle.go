package gateway

import (
	"context"
	"sync"
	"time"
)

type idleKey struct{}

// idle ends an HTTP/3 connection on which no request is being answered for idleTimeout. QUIC itself takes a connection for alive as
// long as the client pings, and streams that are opened and never say what they want would stay for ever.
type idle struct {
	mu    sync.Mutex // guards open
	open  int
	timer *time.Timer
}

// withIdle gives the context of a connection.
func withIdle(ctx context.Context, end func()) context.Context {
	i := &idle{timer: time.AfterFunc(idleTimeout, end)}
	context.AfterFunc(ctx, func() { i.timer.Stop() })
	return context.WithValue(ctx, idleKey{}, i)
}

// answering says that a request of the connection of ctx is answered until leave is called.
func answering(ctx context.Context) (leave func()) {
	i, ok := ctx.Value(idleKey{}).(*idle)
	if !ok {
		return func() {}
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.open++
	i.timer.Stop()
	return func() {
		i.mu.Lock()
		defer i.mu.Unlock()
		if i.open--; i.open == 0 {
			i.timer.Reset(idleTimeout)
		}
	}
}
