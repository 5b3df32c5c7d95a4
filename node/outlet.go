package node

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"swarmnode/gossip"
	"swarmnode/node/gateway"
)

// errPaused is why a chunk is not given to a client of the gateway.
var errPaused = fmt.Errorf("%w: the operator has paused it", gateway.ErrUnavailable)

// outlet is whether a collection is given to others. Their watches of what is here end when that changes, and begin anew.
type outlet struct {
	closed atomic.Bool

	mu      sync.Mutex // guards watches, and closed against them
	watches map[*watching]struct{}
}

// watching is one watch of what is here.
type watching struct{ stop context.CancelFunc }

func newOutlet(shut bool) *outlet {
	o := &outlet{watches: map[*watching]struct{}{}}
	o.closed.Store(shut)
	return o
}

// shut reports whether nothing is given to others.
func (o *outlet) shut() bool { return o.closed.Load() }

// set shuts or opens the outlet and ends the watches if that is a change.
func (o *outlet) set(shut bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed.Swap(shut) == shut {
		return
	}
	for w := range o.watches {
		w.stop()
	}
}

// watch has stop called at the next change, until ctx ends. It reports whether nothing is given to others as long as it was not.
func (o *outlet) watch(ctx context.Context, stop context.CancelFunc) (shut bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	w := &watching{stop}
	o.watches[w] = struct{}{}
	context.AfterFunc(ctx, func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		delete(o.watches, w)
	})
	return o.shut()
}

// nothing tells a peer that nothing is here, and no more until ctx ends: it keeps listening and hears when that is over.
func nothing(ctx context.Context) <-chan gossip.Holdings {
	out := make(chan gossip.Holdings, 1)
	out <- gossip.Holdings{Reset: true}
	context.AfterFunc(ctx, func() { close(out) })
	return out
}
