package policy

import (
	"time"

	"swarmnode/content"
)

const (
	// sampleLook is the least time of a sample of the uplink's rate: a chunk at 20 Mbit/s takes 0.4 s.
	sampleLook = time.Second
	// sampleMost ends a sample in which little came.
	sampleMost = 4 * time.Second
	// bufferBytes is how much of an answer may not have left though the driver counts it, and the least request whose
	// time says anything.
	bufferBytes = 512 << 10
	// sampleFull is how many bytes for each place make a sample good: twice what may still lie in buffers.
	sampleFull = 2 * bufferBytes

	// chunkTime is how long a chunk takes at most when there is a place for each share of the uplink.
	chunkTime = 500 * time.Millisecond
	// startPlaces is how many places there are while the uplink is not known.
	startPlaces = 2
	// lowShare of the best rate known is clearly less than it: the receivers are the limit and one more is served.
	lowShare = 0.9
	// helpShare is what one more place has to add to the rate to be kept.
	helpShare = 1.05
	// holdSamples is how many samples there are between two trials of one place more or less.
	holdSamples = 8
	// forgetTime is how fast the best rate follows a lower one while others wait; while nobody waits forgetIdle.
	forgetTime = 30 * time.Second
	forgetIdle = 60 * time.Second
	// slowShare: who gets less than this part of a fair share of the uplink is a slow reader.
	slowShare = 4
)

// pace finds out how many requests have to be served at a time to use all of the uplink: as many as a chunk's time allows
// at the best rate that was seen, and more as long as that makes the rate clearly better, because then the receivers
// are the limit.
type pace struct {
	best  float64   // bytes/s; 0: not known
	since time.Time // where the present sample begins; zero: nothing is being sent
	bytes uint64    // sent in it by requests that have ended
	full  bool      // somebody waited when it began

	extra  int     // places beside those that the best rate gives
	move   int     // the last change of extra, on trial
	before float64 // the rate before it
	hold   int     // samples until the next trial
	down   bool    // which is of one place less
}

func (p *pace) begin(now time.Time) { p.since, p.bytes, p.full = now, 0, false }

// enough reports whether a sample says anything: many bytes, or clearly few.
func (p *pace) enough(bytes uint64, dt time.Duration) bool {
	return bytes >= uint64(p.places())*sampleFull || dt >= sampleMost || float64(bytes) < p.best*dt.Seconds()/2
}

// sample takes in a rate and begins the next sample.
func (p *pace) sample(now time.Time, rate float64, waiting bool) {
	dt, forget := now.Sub(p.since), forgetIdle
	if p.full && waiting {
		forget = forgetTime
	}
	switch {
	case p.best == 0:
		p.best = rate
	case rate > p.best:
		p.best = rate
	default:
		p.best += (rate - p.best) * min(dt.Seconds()/forget.Seconds(), 1)
	}
	if p.full && waiting {
		p.climb(rate)
	}
	p.begin(now)
	p.full = waiting
}

// climb tries one place more or less and keeps what is better.
func (p *pace) climb(rate float64) {
	moved := p.move
	p.move = 0
	p.hold--
	switch {
	case moved > 0 && rate < p.before*helpShare && rate >= lowShare*p.best:
		p.extra--
		p.hold = holdSamples
	case moved < 0 && rate*helpShare < p.before:
		p.extra++
		p.hold = holdSamples
	case rate < lowShare*p.best:
		p.extra = min(p.extra+1, maxPlaces)
	case moved > 0:
		p.try(1, rate)
	case p.hold > 0:
	case p.down && p.extra > 0:
		p.try(-1, rate)
		p.down = false
	default:
		p.try(1, rate)
		p.down = true
	}
}

func (p *pace) try(move int, rate float64) {
	if move > 0 && p.places() >= maxPlaces {
		return
	}
	p.extra += move
	p.move, p.before, p.hold = move, rate, holdSamples
}

// places is how many requests are served at a time now.
func (p *pace) places() int {
	n := startPlaces
	if p.best > 0 {
		n = max(1, int(p.best*chunkTime.Seconds()/content.MaxChunkSize))
	}
	return min(n+p.extra, maxPlaces)
}
