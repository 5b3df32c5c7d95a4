package node

import (
	"context"
	"errors"
	"log/slog"
	"sync"
)

// errEnded is why the node stops when a part ends that should not.
var errEnded = errors.New("it ended by itself")

// tasks are the goroutines of a node or of a collection: who owns them stops them and waits for all of them.
type tasks struct {
	ctx  context.Context // of all of them
	stop context.CancelCauseFunc
	log  *slog.Logger

	mu   sync.Mutex // guards done, and wg.Add against wg.Wait
	done bool       // wait has begun: nothing more begins
	wg   sync.WaitGroup
}

func newTasks(ctx context.Context, log *slog.Logger) *tasks {
	ctx, stop := context.WithCancelCause(ctx)
	return &tasks{ctx: ctx, stop: stop, log: log}
}

// begin registers something that is waited for; wg.Done ends it. It refuses once the end has come.
func (t *tasks) begin() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.done || t.ctx.Err() != nil {
		return false
	}
	t.wg.Add(1)
	return true
}

// must runs a part without which nothing can go on: its end is the end of all.
func (t *tasks) must(what string, run func(context.Context) error) {
	if !t.begin() {
		return
	}
	go func() {
		defer t.wg.Done()
		err := run(t.ctx)
		if t.ctx.Err() != nil {
			return
		}
		if err == nil {
			err = errEnded
		}
		t.log.Error("stopped because a part failed: start the node again, report it if the error is not of this machine", "part", what, "error", err)
		t.stop(err)
	}()
}

// run runs a part until ctx ends. Its failure is logged and told to failed, if that is not nil; the rest goes on.
func (t *tasks) run(ctx context.Context, what string, run func(context.Context) error, failed func(error)) {
	if !t.begin() {
		return
	}
	go func() {
		defer t.wg.Done()
		if err := run(ctx); ctx.Err() == nil && err != nil {
			t.log.Error("a part failed: start the node again, report it if the error is not of this machine", "part", what, "error", err)
			if failed != nil {
				failed(err)
			}
		}
	}()
}

// end stops what runs and waits for it.
func (t *tasks) end() {
	t.stop(context.Canceled)
	t.wait()
}

// wait waits for what runs, and lets nothing more begin.
func (t *tasks) wait() {
	t.mu.Lock()
	t.done = true
	t.mu.Unlock()
	t.wg.Wait()
}
