package policy

import (
	"math/rand/v2"
	"testing"
	"time"
)

// TestBucketHoldsItsRate: in every stretch of simulated time no more begins than the rate allows, and nothing waits in vain.
func TestBucketHoldsItsRate(t *testing.T) {
	type piece struct {
		at time.Time
		n  int64
	}
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 1))
		rate, burst := 1+rng.Int64N(64<<20), rng.Int64N(4<<20)
		b := NewBucket(rate, burst)
		now := time.Unix(1000, 0)
		begun, total, idle := now, int64(0), time.Duration(0)
		var all []piece
		for range 400 {
			n := 1 + rng.Int64N(1<<20)
			all, total = append(all, piece{now, n}), total+n
			now = now.Add(b.Take(now, n))
			if rng.IntN(10) == 0 {
				rest := time.Duration(rng.Int64N(int64(time.Second)))
				now, idle = now.Add(rest), idle+rest
			}
		}
		for i := range all {
			var sum int64
			for j := i; j < len(all); j++ {
				// The piece at j is the last of the stretch: it may leave a debt.
				if limit := float64(rate)*all[j].at.Sub(all[i].at).Seconds() + float64(burst) + 1; float64(sum) > limit {
					t.Fatalf("seed %d: %d bytes began from piece %d until %d, at most %.0f may", seed, sum, i, j, limit)
				}
				sum += all[j].n
			}
		}
		if least := float64(rate) * (now.Sub(begun) - idle).Seconds(); float64(total) < least-1 {
			t.Errorf("seed %d: %d bytes in the time of %.0f", seed, total, least)
		}
	}
}

func TestBucketClockGoesBack(t *testing.T) {
	b := NewBucket(1000, 0)
	now := time.Unix(1000, 0)
	if got := b.Take(now, 500); got != 500*time.Millisecond {
		t.Errorf("wait %s, want 500ms", got)
	}
	if got := b.Take(now.Add(-time.Hour), 500); got != time.Second {
		t.Errorf("wait %s after the clock went back, want 1s", got)
	}
	if got := b.Take(now.Add(-time.Hour+2*time.Second), 100); got != 100*time.Millisecond {
		t.Errorf("wait %s, want 100ms: nothing is saved up without a burst", got)
	}
}
