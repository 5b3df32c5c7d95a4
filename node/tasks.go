package node

import (
	"context"
	"log/slog"
	"sync"
)

// tasks are the goroutines of a node: it waits for all of them.
type tasks struct {
	ctx  context.Context
	stop context.CancelCauseFunc
	log  *slog.Logger
	wg   sync.WaitGroup
}

func newTasks(ctx context.Context, stop context.CancelCauseFunc, log *slog.Logger) *tasks {
	return &tasks{ctx: ctx, stop: stop, log: log}
}

// must runs a part without which the node cannot go on.
func (t *tasks) must(what string, run func(context.Context) error) {
	t.wg.Go(func() {
		if err := run(t.ctx); t.ctx.Err() == nil {
			t.log.Error("stopped because a part failed", "part", what, "error", err)
			t.stop(err)
		}
	})
}

// run runs a part of a collection, until ctx ends. Its failure is told, the rest goes on.
func (t *tasks) run(ctx context.Context, what string, run func(context.Context) error) {
	t.wg.Go(func() {
		if err := run(ctx); ctx.Err() == nil && err != nil {
			t.log.Error("a part failed", "part", what, "error", err)
		}
	})
}

func (t *tasks) wait() { t.wg.Wait() }
