package gateway

import (
	"context"
	"sync"
	"time"

	"swarmnode/content"
)

const (
	// pinIdle is how long a connection can be without a request and still see the release it saw before. A client in the middle of an
	// update pauses shorter: it checks a signature; a person who asks again wants what is new.
	pinIdle = 5 * time.Second
	// pinLife bounds how long a connection sees one release: behind a proxy, connections are shared and never idle. An update of
	// apt's lists takes seconds, over a slow line a minute or two.
	pinLife = 5 * time.Minute
	// pinned is how many collections one connection remembers; more than one is rare.
	pinned = 16
)

type pinKey struct{}

// pins says which release of a collection a connection has seen.
type pins struct {
	mu sync.Mutex // guards by
	by map[content.ID]*pin
}

type pin struct {
	tree        content.Digest
	number      uint64
	first, last time.Time
}

// WithConnection marks the context of one connection: its requests see one release, even while the served one changes (a client
// that has fetched the signed index must not get lists of the next release). Use it as http.Server.ConnContext and its like.
func WithConnection(ctx context.Context) context.Context {
	return context.WithValue(ctx, pinKey{}, &pins{by: map[content.ID]*pin{}})
}

// current gives the release that a request of this connection sees: the served one, or the one that earlier requests saw.
func (c *Collection) current(ctx context.Context, now time.Time) *Release {
	p, ok := ctx.Value(pinKey{}).(*pins)
	if !ok || c.Served == nil {
		return c.Served
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if seen := p.by[c.ID]; seen != nil && now.Sub(seen.last) < pinIdle && now.Sub(seen.first) < pinLife {
		if r := c.held(seen); r != nil {
			seen.last = now
			return r
		}
	}
	if len(p.by) >= pinned {
		clear(p.by)
	}
	p.by[c.ID] = &pin{c.Served.Manifest.Tree, c.Served.Manifest.Release, now, now}
	return c.Served
}

// held finds the release that a connection saw among those that can still be served.
func (c *Collection) held(p *pin) *Release {
	is := func(r *Release) bool { return r.Manifest.Release == p.number && r.Manifest.Tree == p.tree }
	if is(c.Served) {
		return c.Served
	}
	for _, r := range c.Kept {
		if is(r) {
			return r
		}
	}
	return nil
}
