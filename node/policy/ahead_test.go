package policy

import (
	"testing"
	"time"
)

func TestAheadFollowsTheReader(t *testing.T) {
	const chunk = 256 << 10
	for name, c := range map[string]struct {
		pause       time.Duration // between two chunks
		chunks      int
		least, most uint64 // the window after them
	}{
		"nothing taken":          {0, 0, 0, 0},
		"one chunk":              {time.Second, 1, chunk, chunk},
		"it doubles":             {10 * time.Millisecond, 3, 4 * chunk, 4 * chunk},
		"a fast reader":          {10 * time.Millisecond, 100, aheadMost, aheadMost},
		"a slow reader":          {2 * time.Second, 100, chunk, chunk},
		"one of two chunks in 1": {500 * time.Millisecond, 100, 4 * chunk, 4 * chunk},
	} {
		t.Run(name, func(t *testing.T) {
			var a Ahead
			now := epoch
			for range c.chunks {
				a.Took(now, chunk)
				now = now.Add(c.pause)
			}
			if got := a.Window(); got < c.least || got > c.most {
				t.Errorf("a window of %d bytes, want %d to %d", got, c.least, c.most)
			}
		})
	}
}

// TestAheadForgetsSlowly has a fast reader become a slow one: the window follows.
func TestAheadForgetsSlowly(t *testing.T) {
	const chunk = 1 << 20
	var a Ahead
	now := epoch
	for range 100 {
		a.Took(now, chunk)
		now = now.Add(20 * time.Millisecond)
	}
	if got := a.Window(); got != aheadMost {
		t.Fatalf("a window of %d bytes at 50 MiB/s, want %d", got, uint64(aheadMost))
	}
	for range 30 {
		a.Took(now, chunk)
		now = now.Add(time.Second)
	}
	if got, most := a.Window(), uint64(5*chunk/2); got > most || got < chunk {
		t.Errorf("a window of %d bytes at 1 MiB/s, want 1 MiB to %d bytes", got, most)
	}
}
