package origin

import (
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"sync"
	"time"

	"swarmnode/content"
)

const (
	// retries is how often a request is tried in all: a restart of the server takes a few seconds.
	retries = 5
	// firstPause is how long the first pause between two tries is; each is twice the one before, and a random half less or more.
	firstPause = 500 * time.Millisecond
	// MaxRetryAfter is how long a run waits because the origin asks for it. If it asks for more, the run ends and the next one comes by
	// its own time.
	MaxRetryAfter = 2 * time.Minute
)

// Retry calls try until it gives no error, one that trying again does not change, or ctx ends. What it waits for between two tries
// is what a BusyError asks for, else a pause that doubles.
func Retry(ctx context.Context, try func() error) error {
	pause := firstPause
	for n := 1; ; n++ {
		err := try()
		if err == nil || n == retries || ctx.Err() != nil || final(err) {
			return err
		}
		wait := pause/2 + rand.N(pause)
		pause *= 2
		if busy := (*BusyError)(nil); errors.As(err, &busy) {
			if busy.After > MaxRetryAfter {
				return err
			}
			wait = max(wait, busy.After)
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(wait):
		}
	}
}

// final reports whether trying again changes nothing.
func final(err error) bool {
	refused := (*RefusedError)(nil)
	return errors.As(err, &refused) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || errors.Is(err, context.Canceled) ||
		errors.Is(err, ErrUnchanged) || errors.Is(err, content.ErrPath)
}

// gate holds all requests to an origin back while it asks to be left alone: else each connection would find that out by itself.
type gate struct {
	mu    sync.Mutex
	until time.Time // guarded by mu
}

// shut keeps it shut for so long. What is longer than a run waits for is not: then the run ends.
func (g *gate) shut(d time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if until := time.Now().Add(d); d > 0 && d <= MaxRetryAfter && until.After(g.until) {
		g.until = until
	}
}

// wait returns when it is open.
func (g *gate) wait(ctx context.Context) error {
	for {
		g.mu.Lock()
		left := time.Until(g.until)
		g.mu.Unlock()
		if left <= 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(left):
		}
	}
}
