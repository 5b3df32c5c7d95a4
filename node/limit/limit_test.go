package limit

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"swarmnode/node/policy"
)

var far, near = netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("::ffff:192.168.1.7")

func open(t *testing.T, cfg Config) *Limiter {
	t.Helper()
	l, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// begin runs l until stop is called.
func begin(t *testing.T, l *Limiter) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- l.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// send sends as fast as it may until ctx ends and says how much it was.
func send(ctx context.Context, l *Limiter, to netip.Addr) (all int64) {
	for {
		n, err := l.Send(ctx, to, 64<<10)
		if err != nil {
			return all
		}
		all += onWire(n)
	}
}

// Fifty who send at once in four networks keep the rate together, and a change acts within 5 s.
func TestUploadKeepsTheRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := open(t, Config{Limits: policy.Limits{Upload: 2_500_000}})
		defer begin(t, l)()
		var sent atomic.Int64
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		for i := range 50 {
			all.Go(func() {
				to := netip.AddrFrom4([4]byte{198, 51, byte(i % 4), byte(i)})
				for {
					n, err := l.Send(ctx, to, 1<<20)
					if err != nil {
						return
					}
					sent.Add(onWire(n))
				}
			})
		}
		time.Sleep(time.Minute)
		if got := sent.Load(); got < 0.99*150e6 || got > 1.01*150e6 {
			t.Errorf("in a minute at 2.5 MB/s %d bytes were sent", got)
		}
		if err := l.Set(map[string]string{"upload": "800kbit"}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		before := sent.Load()
		time.Sleep(10 * time.Second)
		if got := sent.Load() - before; got < 0.97e6 || got > 1.03e6 {
			t.Errorf("in ten seconds after a change to 100 kB/s %d bytes were sent", got)
		}
		cancel()
		all.Wait()
		if n := l.Stats().Waiting; n != 0 {
			t.Errorf("%d wait after all have gone", n)
		}
	})
}

func TestScheduleActs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // it begins on Saturday, 2000-01-01 00:00 UTC
		schedule, err := policy.ParseSchedule([]string{"Sat 00:01-00:02 upload=800kbit"})
		if err != nil {
			t.Fatal(err)
		}
		l := open(t, Config{Limits: policy.Limits{Upload: 1_000_000}, Schedule: schedule, Now: func() time.Time { return time.Now().UTC() }})
		defer begin(t, l)()
		for i, want := range []float64{1e6, 1e5, 1e6} {
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Second)
			if got := float64(send(ctx, l, far)) / 50; got < 0.98*want || got > 1.02*want {
				t.Errorf("in minute %d: %.0f bytes a second, want %.0f", i, got, want)
			}
			cancel()
			time.Sleep(12 * time.Second) // into the next minute, and what may be late by a second
		}
	})
}

// A clock that is set back, or wrong for a while, neither stops those who wait nor gives them more, and takes nothing from the month.
func TestClockIsSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var set atomic.Int64
		now := func() time.Time { return time.Now().UTC().Add(time.Duration(set.Load())) }
		l := open(t, Config{Limits: policy.Limits{Upload: 1_000_000}, Now: now})
		defer begin(t, l)()
		for _, by := range []time.Duration{0, -time.Hour, -90 * 24 * time.Hour, time.Hour, 0} {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			go func() { // while somebody waits
				time.Sleep(5 * time.Second)
				set.Store(int64(by))
			}()
			if got := send(ctx, l, far); got < 19.5e6 || got > 20.5e6 {
				t.Errorf("set by %s: %d bytes in 20 s at 1 MB/s", by, got)
			}
			cancel()
		}
		if got := l.Stats().Month; got.Name != "2000-01" || got.Sent < 55e6 {
			t.Errorf("in the end: %+v", got)
		}
	})
}

// A new rate acts at once in both directions, also for those who wait already.
func TestNewRateActs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := open(t, Config{Limits: policy.Limits{Upload: 10_000_000, Download: 10_000_000}})
		defer begin(t, l)()
		for _, rate := range []struct {
			text  string
			bytes float64
		}{{"64kbit", 8e3}, {"80Mbit", 1e7}, {"64kbit", 8e3}, {"8Mbit", 1e6}} {
			var moved [2]atomic.Int64
			ctx, cancel := context.WithCancel(t.Context())
			var all sync.WaitGroup
			all.Go(func() {
				for n, err := l.Send(ctx, far, 64<<10); err == nil; n, err = l.Send(ctx, far, 64<<10) {
					moved[0].Add(onWire(n))
				}
			})
			all.Go(func() {
				for l.Receive(ctx, far, 4<<10) == nil {
					moved[1].Add(onWire(4 << 10))
				}
			})
			time.Sleep(2*time.Second + time.Millisecond) // some wait under the old rate
			synctest.Wait()                              // and nobody is in the middle of something
			if err := l.Set(map[string]string{"upload": rate.text, "download": rate.text}); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			up, down := moved[0].Load(), moved[1].Load()
			time.Sleep(20 * time.Second)
			for i, got := range []int64{moved[0].Load() - up, moved[1].Load() - down} {
				// A piece of 64 KiB may be let go, whole, just before the change or just after it.
				if want := 20 * rate.bytes; float64(got) < 0.95*want-70_000 || float64(got) > 1.05*want+70_000 {
					t.Errorf("%s, direction %d: then %d bytes in 20 s, want %.0f, a piece more or less", rate.text, i, got, want)
				}
			}
			cancel()
			all.Wait()
		}
	})
}

func TestLocalNetworkIsFree(t *testing.T) {
	l := open(t, Config{Limits: policy.Limits{Upload: policy.MinRate, Download: policy.MinRate, Monthly: 1}})
	if n, err := l.Send(t.Context(), near, 1<<30); n != 1<<30 || err != nil {
		t.Errorf("to the local network: %d, %v", n, err)
	}
	if err := l.Receive(t.Context(), near, 1<<30); err != nil {
		t.Error(err)
	}
	if s := l.Stats(); s.Month.Sent+s.Month.Received != 0 || s.Over {
		t.Errorf("it counts: %+v", s)
	}
	ended, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("gone")
	cancel(gone)
	if n, err := l.Send(ended, far, 1<<20); n != 0 || !errors.Is(err, gone) {
		t.Errorf("who is gone got %d, %v", n, err)
	}
	strict := open(t, Config{Limits: policy.Limits{Monthly: 1}, LAN: []netip.Prefix{}})
	strict.Send(t.Context(), near, 10)
	if _, closed := strict.Closed(near); !closed {
		t.Error("with no local network, one that was local is not closed")
	}
}

// What is spent never waits, counts for the month, and is paid for by those who wait.
func TestSpend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := open(t, Config{Limits: policy.Limits{Upload: 1_000_000, Download: 1_000_000, Monthly: 20_000_000}})
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		var others sync.WaitGroup
		others.Go(func() {
			for range 100 {
				before := time.Now()
				l.Spend(far, 50_000, 20_000)
				l.Spend(near, 1<<20, 1<<20)
				if waited := time.Since(before); waited != 0 {
					t.Errorf("it waited %s", waited)
				}
				time.Sleep(time.Second / 10)
			}
		})
		all := send(ctx, l, far)
		others.Wait()
		if all < 4.7e6 || all > 5.3e6 {
			t.Errorf("beside 5 MB at 1 MB/s %d bytes were sent in 10 s", all)
		}
		if m := l.Stats().Month; m.Sent != all+100*(50_000+talkHeaders+talkAnswer) || m.Received != 100*(20_000+talkHeaders+talkAnswer) {
			t.Errorf("counted %+v, with %d bytes that waited", m, all)
		}
		l.Spend(far, 15_000_000, 0)
		if _, closed := l.Closed(far); !closed {
			t.Error("what is spent does not use the month up")
		}
	})
}

func TestDownloadKeepsTheRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := open(t, Config{Limits: policy.Limits{Download: 1_000_000}})
		start := time.Now()
		for range 100 {
			if err := l.Receive(t.Context(), far, 300_000); err != nil { // more than the bucket holds
				t.Fatal(err)
			}
		}
		if took := time.Since(start); took < 30*time.Second || took > 32*time.Second {
			t.Errorf("31.2 MB at 1 MB/s took %s", took)
		}
		if got := l.Stats().Month; got.Received != 100*onWire(300_000) || got.Sent != 0 {
			t.Errorf("counted %+v", got)
		}
	})
}

func TestMonthIsUsedUp(t *testing.T) {
	now := time.Date(2026, 11, 30, 23, 30, 0, 0, time.UTC)
	told := 0
	l := open(t, Config{Limits: policy.Limits{Monthly: 1_000_000}, Now: func() time.Time { return now }, Changed: func() { told++ }})
	for range 4 {
		l.Send(t.Context(), far, 240_000)
	}
	if _, closed := l.Closed(far); closed {
		t.Error("closed with 1,600 bytes left")
	}
	l.Send(t.Context(), far, 1_600)
	if after, closed := l.Closed(far); !closed || after != 30*time.Minute {
		t.Errorf("used up half an hour before the month ends: %s, %v", after, closed)
	}
	if _, closed := l.Closed(near); closed {
		t.Error("the local network is closed")
	}
	if s := l.Stats(); !s.Over || s.Month.Sent != 4*onWire(240_000)+onWire(1_600) || told != 1 {
		t.Errorf("%+v, told %d times", s, told)
	}
	if err := l.Set(map[string]string{"monthly": "2MB"}); err != nil || l.Over() || told != 2 {
		t.Errorf("with a second megabyte: %v, over %v, told %d times", err, l.Over(), told)
	}
	l.Send(t.Context(), far, 1<<20)
	for range 3 {
		l.Send(t.Context(), far, 1<<20)
	}
	if l.Stats(); !l.Over() || told != 3 {
		t.Errorf("after that: over %v, told %d times", l.Over(), told)
	}
	now = now.Add(time.Hour)
	if l.Stats(); l.Over() || told != 4 {
		t.Errorf("in December: over %v, told %d times", l.Over(), told)
	}
	for _, bad := range []map[string]string{{"monthly": "much"}, {"disk": "5GB"}, {"upload": "1MB", "download": "?"}} {
		if err := l.Set(bad); err == nil {
			t.Errorf("%v was taken", bad)
		}
	}
	if got := l.Stats().Given; got != (policy.Limits{Monthly: 2_000_000}) {
		t.Errorf("after bad values: %+v", got)
	}
}

// After a kill at any moment the month has what was sent, and some megabytes more at most; after an orderly end exactly that.
func TestMonthSurvives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := Config{File: filepath.Join(t.TempDir(), "months.json")}
		l := open(t, cfg)
		stop := begin(t, l)
		sent := int64(0)
		for second := range 200 {
			for range 4 { // 1 MiB a second
				n, _ := l.Send(t.Context(), far, 256<<10)
				sent += onWire(n)
			}
			l.Receive(t.Context(), far, 100)
			time.Sleep(time.Second + time.Millisecond)
			killed := open(t, cfg)
			if got := killed.Stats().Month.Sent; got < sent-1<<20 || got > sent+16<<20 {
				t.Fatalf("killed after %d seconds: %d of %d are remembered", second, got, sent)
			}
		}
		stop()
		if got := open(t, cfg).Stats().Month; got.Sent != sent || got.Received != 200*onWire(100) {
			t.Errorf("after the end: %+v, want %d sent", got, sent)
		}
	})
	file := filepath.Join(t.TempDir(), "months.json")
	for _, bad := range []string{"", "{}", `[{"month":"2026-11","sent":-5}]`} {
		if err := os.WriteFile(file, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := New(Config{File: file}); err == nil {
			t.Errorf("a file with %q was taken", bad)
		}
	}
}

func TestParseNetworks(t *testing.T) {
	if got, err := ParseNetworks([]string{"192.168.7.1/16", "fd00::/8"}); err != nil || len(got) != 2 || got[0].String() != "192.168.0.0/16" {
		t.Errorf("got %v, %v", got, err)
	}
	if got, err := ParseNetworks([]string{"none"}); err != nil || got == nil || len(got) != 0 {
		t.Errorf("none: got %v, %v", got, err)
	}
	for _, bad := range [][]string{{"192.168.0.0"}, {"none", "10.0.0.0/8"}, {""}} {
		if got, err := ParseNetworks(bad); err == nil {
			t.Errorf("%q was taken as %v", bad, got)
		}
	}
}
