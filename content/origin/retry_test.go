package origin

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// All requests wait for as long as one was told to, but not for what a run does not wait for.
func TestGate(t *testing.T) {
	for _, c := range []struct {
		name string
		shut []time.Duration
		want time.Duration
	}{
		{"open", nil, 0},
		{"a while", []time.Duration{3 * time.Second}, 3 * time.Second},
		{"the longest counts", []time.Duration{5 * time.Second, 2 * time.Second}, 5 * time.Second},
		{"the longest there is", []time.Duration{MaxRetryAfter}, MaxRetryAfter},
		{"longer than a run waits", []time.Duration{MaxRetryAfter + 1}, 0},
		{"nothing was said", []time.Duration{0}, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			var g gate
			for _, d := range c.shut {
				g.shut(d)
			}
			began := time.Now()
			if err := g.wait(t.Context()); err != nil || time.Since(began) != c.want {
				t.Errorf("%s: %v, %v, want %v", c.name, time.Since(began), err, c.want)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		var g gate
		g.shut(2 * time.Second)
		time.AfterFunc(time.Second, func() { g.shut(3 * time.Second) })
		began := time.Now()
		if err := g.wait(t.Context()); err != nil || time.Since(began) != 4*time.Second {
			t.Errorf("shut again while somebody waits: %v, %v", time.Since(began), err)
		}
		g.shut(time.Minute)
		ctx, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		if err := g.wait(ctx); err != context.DeadlineExceeded {
			t.Errorf("the end of the context: %v", err)
		}
	})
}
