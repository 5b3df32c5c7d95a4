package gateway

import (
	"strings"
	"testing"
	"time"
)

// What nobody asks for any more is forgotten, also where there is room.
func TestRecentAges(t *testing.T) {
	now := time.Unix(1e9, 0)
	c := newAging[int, int](1000, func() time.Time { return now })
	for n := range 50 {
		now = now.Add(recentLife / 5)
		c.put(n, n, 1)
		if _, ok := c.get(0); !ok {
			t.Fatalf("what is asked for again and again was forgotten after %d steps", n)
		}
	}
	if len(c.byKey) != 6 || c.order.Len() != 6 || c.weight != 6 {
		t.Errorf("%d are remembered, %d in order, of weight %d; want the last five and the one that is asked for", len(c.byKey), c.order.Len(), c.weight)
	}
	for n := 45; n < 50; n++ {
		if v, ok := c.get(n); !ok || v != n {
			t.Errorf("%d: %d, %v", n, v, ok)
		}
	}
	old := newRecent[int, string](1000)
	old.put(1, strings.Repeat("x", 100), 1)
	old.put(2, "", 1)
	if _, ok := old.get(1); !ok {
		t.Error("a cache without a clock forgot")
	}
}
