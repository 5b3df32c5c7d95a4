package trigger

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"swarmnode/content/origin"
)

// task is what a runner runs: it takes a second and gives how many there were, and what was last in fail.
type task struct {
	mu   sync.Mutex
	runs int
	fail error
}

func (k *task) do(ctx context.Context, _ Cause) (int, error) {
	k.mu.Lock()
	k.runs++
	n, err := k.runs, k.fail
	k.mu.Unlock()
	select {
	case <-ctx.Done():
		return n, ctx.Err()
	case <-time.After(time.Second):
	}
	return n, err
}

func (k *task) set(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.fail = err
}

// running gives a runner that runs until the end of the test.
func running(t *testing.T, k *task, every, first time.Duration) *Runner[int] {
	r := New(Config[int]{Every: every, First: first, Do: k.do, Rand: rand.New(rand.NewPCG(1, 1)), Log: slog.New(slog.DiscardHandler)})
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return r
}

func TestRunnerInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &task{}
		r := running(t, k, time.Minute, time.Second)
		time.Sleep(10 * time.Minute)
		if s := r.State(); s.Runs < 9 || s.Runs > 12 || s.Failures > 0 || s.Success.IsZero() || s.Next.IsZero() {
			t.Errorf("after ten minutes of one a minute: %+v", s)
		}
	})
}

func TestRunnerCoalesces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &task{}
		r := running(t, k, 0, 0)
		for range 10 {
			r.Trigger(Webhook)
		}
		time.Sleep(500 * time.Millisecond) // in the middle of the run
		if s := r.State(); !s.Running || s.Runs != 0 || s.Cause != Webhook {
			t.Errorf("%+v, want the first run", s)
		}
		r.Trigger(Webhook)
		r.Trigger(Signal)
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				if n, err := r.Now(t.Context()); n != 2 || err != nil {
					t.Errorf("waited for run %d and %v, want the second", n, err)
				}
			})
		}
		wg.Wait()
		time.Sleep(time.Hour)
		if s := r.State(); s.Runs != 2 {
			t.Errorf("%d runs, want 2: %+v", s.Runs, s)
		}
	})
}

func TestRunnerFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("connection refused")
		k := &task{fail: broken}
		r := running(t, k, time.Hour, time.Second)
		time.Sleep(2 * time.Hour)
		s := r.State()
		if s.Runs < 8 || s.Runs > 14 || s.Failures != s.Runs || !errors.Is(s.Err, broken) || time.Since(s.Failing) < time.Hour {
			t.Errorf("after two hours: %+v", s)
		}
		k.set(nil)
		if _, err := r.Now(t.Context()); err != nil {
			t.Error(err)
		}
		if s := r.State(); s.Err != nil || !s.Failing.IsZero() {
			t.Errorf("after a success: %+v", s)
		}
		k.set(&origin.BusyError{After: 6 * time.Hour})
		if _, err := r.Now(t.Context()); err == nil {
			t.Error("no error of a busy origin")
		}
		was := r.State().Runs
		time.Sleep(5 * time.Hour)
		if got := r.State().Runs; got != was {
			t.Errorf("%d runs before the origin wants one", got-was)
		}
		time.Sleep(2 * time.Hour)
		if got := r.State().Runs; got == was {
			t.Error("no run after that")
		}
	})
}

// Who waits hears of the end in the middle of a run, and after.
func TestRunnerStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &task{}
		r := New(Config[int]{Do: k.do, Rand: rand.New(rand.NewPCG(1, 1)), Log: slog.New(slog.DiscardHandler)})
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- r.Run(ctx) }()
		first, second := make(chan error, 1), make(chan error, 1)
		go func() { _, err := r.Now(t.Context()); first <- err }()
		time.Sleep(time.Second / 2)
		go func() { _, err := r.Now(t.Context()); second <- err }()
		synctest.Wait()
		stop()
		if err := <-first; !errors.Is(err, context.Canceled) {
			t.Errorf("the run under way: %v", err)
		}
		if err := <-second; !errors.Is(err, ErrEnded) {
			t.Errorf("the one after: %v", err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		if _, err := r.Now(t.Context()); !errors.Is(err, ErrEnded) {
			t.Errorf("afterwards: %v", err)
		}
		if s := r.State(); s.Running || s.Failures > 0 {
			t.Errorf("being stopped is no failure: %+v", s)
		}
	})
}
