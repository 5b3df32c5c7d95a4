package trigger

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"swarmnode/content/origin"
)

// maxWaiters is how many may wait for runs of one collection; nobody has so many terminals.
const maxWaiters = 1000

var (
	errTooMany = errors.New("too many wait for this collection to be published: try again when they are done")
	// ErrEnded says that the runner has ended.
	ErrEnded = errors.New("the node stops, or publishes this in another way from now on; the next run goes on where this one ends")
)

// Config sets up a [Runner].
type Config[R any] struct {
	Every time.Duration // between the end of a run and the next; 0: only when something asks
	// First is when the first run begins if nothing asks for one before; 0: after Every.
	First time.Duration
	Do    func(ctx context.Context, c Cause) (R, error) // a run
	Rand  *rand.Rand                                    // for the jitter
	Log   *slog.Logger
}

// Runner runs one collection's publishes, one at a time.
type Runner[R any] struct {
	cfg  Config[R]
	wake chan struct{} // capacity 1

	mu      sync.Mutex // guards all below
	plan    schedule
	state   State
	waiters []chan outcome[R] // for a run that has not begun
	closed  bool
}

type outcome[R any] struct {
	result R
	err    error
}

// State is how a runner stands. Times are zero where there was none.
type State struct {
	Running  bool
	Cause    Cause     // of the run under way, or the last
	Begun    time.Time // the run under way, or the last
	Ended    time.Time // the last run
	Success  time.Time // the end of the last run without an error
	Next     time.Time // when the next run is due; zero: when something asks
	Runs     uint64    // that ended, since the start of the node
	Failures uint64    // how many of these failed
	Err      error     // of the last run
	Failing  time.Time // the end of the first failure in a row
}

// New makes a runner; Run has to be called.
func New[R any](cfg Config[R]) *Runner[R] {
	r := &Runner[R]{cfg: cfg, wake: make(chan struct{}, 1)}
	r.plan.every = cfg.Every
	return r
}

// Run runs until ctx ends, also in the middle of a run, which its owner can go on with later.
func (r *Runner[R]) Run(ctx context.Context) error {
	r.mu.Lock()
	if now := time.Now(); r.cfg.First > 0 {
		r.plan.next = now.Add(r.cfg.First)
	} else if r.plan.every > 0 {
		r.plan.next = now.Add(spread(r.plan.every, r.cfg.Rand.Float64()))
	}
	r.mu.Unlock()
	defer r.end()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		wait, cause, ok := r.wait()
		if ok && wait <= 0 {
			r.once(ctx, cause)
		}
		if ctx.Err() != nil {
			return nil
		}
		if ok && wait <= 0 {
			continue
		}
		timer.Stop()
		if ok {
			timer.Reset(wait)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-r.wake:
		case <-timer.C:
		}
	}
}

// wait tells how long it is until the next run.
func (r *Runner[R]) wait() (time.Duration, Cause, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	at, cause, ok := r.plan.due()
	return time.Until(at), cause, ok
}

// once makes one run.
func (r *Runner[R]) once(ctx context.Context, cause Cause) {
	r.mu.Lock()
	r.plan.began()
	waiters := r.waiters
	r.waiters = nil
	r.state.Running, r.state.Cause, r.state.Begun = true, cause, time.Now()
	r.mu.Unlock()

	res, err := r.cfg.Do(ctx, cause)

	r.mu.Lock()
	now := time.Now()
	s := &r.state
	s.Running = false
	if ctx.Err() == nil {
		s.Ended, s.Err = now, err
		s.Runs++
		if err == nil {
			s.Success, s.Failing = now, time.Time{}
		} else {
			s.Failures++
			if s.Failing.IsZero() {
				s.Failing = now
			}
		}
	}
	var after time.Duration
	if busy := (*origin.BusyError)(nil); errors.As(err, &busy) {
		after = busy.After
	}
	r.plan.ended(now, err != nil, after, r.cfg.Rand.Float64())
	next, _, _ := r.plan.due()
	r.mu.Unlock()
	for _, w := range waiters {
		w <- outcome[R]{res, err} // has room for it
	}
	if err != nil && ctx.Err() == nil && len(waiters) == 0 { // who waits is told
		r.cfg.Log.Warn("nothing was published: what to do is in the error; it is tried again", "trigger", string(cause), "error", err, "next", next.Round(time.Second))
	}
}

// end tells those who wait that nothing comes any more.
func (r *Runner[R]) end() {
	r.mu.Lock()
	r.closed = true
	waiters := r.waiters
	r.waiters = nil
	r.mu.Unlock()
	for _, w := range waiters {
		w <- outcome[R]{err: ErrEnded}
	}
}

// Trigger asks for a run. After one that is under way there is another.
func (r *Runner[R]) Trigger(c Cause) {
	r.mu.Lock()
	r.plan.ask(time.Now(), c)
	r.mu.Unlock()
	r.poke()
}

func (r *Runner[R]) poke() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Now asks for a run that begins from now on, and waits for its end.
func (r *Runner[R]) Now(ctx context.Context) (res R, err error) {
	w := make(chan outcome[R], 1)
	r.mu.Lock()
	switch {
	case r.closed:
		r.mu.Unlock()
		return res, ErrEnded
	case len(r.waiters) >= maxWaiters:
		r.mu.Unlock()
		return res, errTooMany
	}
	r.waiters = append(r.waiters, w)
	r.plan.ask(time.Now(), Asked)
	r.mu.Unlock()
	r.poke()
	select {
	case o := <-w:
		return o.result, o.err
	case <-ctx.Done():
		return res, context.Cause(ctx) // the run goes on, nobody reads what came of it
	}
}

// State tells how it stands.
func (r *Runner[R]) State() State {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.state
	if at, _, ok := r.plan.due(); ok {
		s.Next = at
	}
	return s
}
