package gateway

import (
	"container/list"
	"sync"
)

// recent remembers what was used last, up to a total weight. What it holds is never changed, so it is handed to many at once.
type recent[K comparable, V any] struct {
	limit int

	mu     sync.Mutex // guards the rest
	weight int
	order  list.List // of *remembered, the one used last in front
	byKey  map[K]*list.Element
}

type remembered[K comparable, V any] struct {
	key    K
	value  V
	weight int
}

func newRecent[K comparable, V any](limit int) *recent[K, V] {
	return &recent[K, V]{limit: limit, byKey: map[K]*list.Element{}}
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
	return e.Value.(*remembered[K, V]).value, true
}

// put remembers a value and forgets the oldest ones. A value heavier than an eighth of the limit is not remembered: it would push out
// too many others.
func (c *recent[K, V]) put(key K, v V, weight int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byKey[key] != nil || weight > c.limit/8 {
		return
	}
	c.byKey[key] = c.order.PushFront(&remembered[K, V]{key, v, weight})
	c.weight += weight
	for c.weight > c.limit {
		last := c.order.Back()
		old := c.order.Remove(last).(*remembered[K, V])
		delete(c.byKey, old.key)
		c.weight -= old.weight
	}
}
