package gateway

import (
	"container/list"
	"sync"
	"time"
)

// recentLife is how long something is remembered that nobody asks for. Each release brings pages, paths and tree nodes of its own; nobody
// asks for those of the one before once the connections that it was pinned for are gone (pinLife), and they would stay until the cache is full.
const recentLife = 2 * pinLife

// recent remembers what was used last, up to a total weight. What it holds is never changed, so it is handed to many at once.
type recent[K comparable, V any] struct {
	limit int
	now   func() time.Time // nil: age does not count

	mu     sync.Mutex // guards the rest
	weight int
	order  list.List // of *remembered, the one used last in front
	byKey  map[K]*list.Element
}

type remembered[K comparable, V any] struct {
	key    K
	value  V
	weight int
	used   time.Time
}

func newRecent[K comparable, V any](limit int) *recent[K, V] {
	return &recent[K, V]{limit: limit, byKey: map[K]*list.Element{}}
}

// newAging makes a cache that also forgets what was not used for recentLife, when something new comes.
func newAging[K comparable, V any](limit int, now func() time.Time) *recent[K, V] {
	c := newRecent[K, V](limit)
	c.now = now
	return c
}

// get gives what was put under the key, if it is still here.
func (c *recent[K, V]) get(key K) (v V, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.byKey[key]
	if !ok {
		return v, false
	}
	c.order.MoveToFront(e)
	r := e.Value.(*remembered[K, V])
	r.used = c.time()
	return r.value, true
}

// put remembers a value and forgets the oldest ones. A value heavier than an eighth of the limit is not remembered: it would push out
// too many others.
func (c *recent[K, V]) put(key K, v V, weight int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byKey[key] != nil || weight > c.limit/8 {
		return
	}
	now := c.time()
	c.byKey[key] = c.order.PushFront(&remembered[K, V]{key, v, weight, now})
	c.weight += weight
	for {
		last := c.order.Back()
		old := last.Value.(*remembered[K, V])
		if c.weight <= c.limit && now.Sub(old.used) < recentLife {
			return
		}
		c.order.Remove(last)
		delete(c.byKey, old.key)
		c.weight -= old.weight
	}
}

func (c *recent[K, V]) time() time.Time {
	if c.now == nil {
		return time.Time{}
	}
	return c.now()
}
