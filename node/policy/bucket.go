package policy

import "time"

// Bucket is a token bucket: it says how long to wait so that work never goes faster than a rate. What is taken may leave it in
// debt, so one large piece is never refused; the next waits for it. In any stretch of time no more begins than rate times its
// length, and the burst, and the last piece.
type Bucket struct {
	rate  float64 // bytes per second
	burst float64 // the most that is saved up while nothing is taken
	level float64
	last  time.Time
}

// NewBucket makes a full one. rate is in bytes per second, at least 1; burst in bytes.
func NewBucket(rate, burst int64) *Bucket {
	b := &Bucket{rate: float64(max(rate, 1)), burst: float64(max(burst, 0))}
	b.level = b.burst
	return b
}

// Take takes n bytes and says how long to wait before the next is taken. A clock that goes back adds nothing.
func (b *Bucket) Take(now time.Time, n int64) time.Duration {
	if d := now.Sub(b.last); !b.last.IsZero() && d > 0 {
		b.level = min(b.burst, b.level+b.rate*d.Seconds())
	}
	b.last = now
	b.level -= float64(max(n, 0))
	if b.level >= 0 {
		return 0
	}
	return time.Duration(-b.level / b.rate * float64(time.Second))
}
