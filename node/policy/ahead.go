package policy

import "time"

const (
	// aheadTime is how much of its rate a reader is kept ahead of: more than the RTT and the queue at a peer take, mostly.
	aheadTime = 2 * time.Second
	// aheadMost is the most bytes ahead of one reader: 2 s at 64 Mbit/s, and as many as may be in flight at one peer.
	aheadMost = 16 << 20
	// aheadSample is how long a reader is watched for one sample of its rate.
	aheadSample = 200 * time.Millisecond
	// aheadRise and aheadFall are the weights of a sample above or below the rate so far: who read fast will do so again.
	aheadRise, aheadFall = 0.5, 0.25
)

// Ahead says how far to read ahead of one reader. A reader who takes one chunk and goes away costs one chunk more; who goes on is
// soon ahead by what it takes in two seconds. The zero value is a reader who has taken nothing.
type Ahead struct {
	window uint64
	rate   float64   // bytes/s; 0: not known
	since  time.Time // where the sample being taken begins; zero: nothing was taken
	bytes  uint64    // of that sample
}

// Took says that the reader has been given so many bytes.
func (a *Ahead) Took(now time.Time, bytes uint64) {
	if a.since.IsZero() {
		a.since, a.window = now, bytes
		return
	}
	a.bytes += bytes
	took := max(now.Sub(a.since), time.Millisecond) // a clock is good for that
	rate := float64(a.bytes) / took.Seconds()
	if took >= aheadSample {
		weight := aheadFall
		if rate > a.rate {
			weight = aheadRise
		}
		if a.rate == 0 {
			weight = 1
		}
		a.rate += weight * (rate - a.rate)
		a.since, a.bytes = now, 0
		rate = a.rate
	}
	most := min(max(rate, a.rate)*aheadTime.Seconds(), aheadMost)
	a.window = max(min(2*a.window, uint64(most)), 1)
}

// Window is how many bytes after those that the reader has been given may be asked for. It is always good for one chunk.
func (a *Ahead) Window() uint64 { return a.window }
