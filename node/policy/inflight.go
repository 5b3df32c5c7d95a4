package policy

import "time"

const (
	// inFlightTime is how long what a node has asked for should take to arrive: several windows of 0.75 s, so that peers which turn
	// out slower than they were leave no gap, and not so long that what is asked for cannot follow what others have.
	inFlightTime = 3 * time.Second
	// inFlightLeast is for a node that knows nothing of its link, and for slow ones: eight smallest requests, for a slow link is
	// filled by many peers with little each. Twenty simulated mirrors with 20 Mbit/s have median T/T* 1.16 with 8 MiB and 1.18 with
	// 16; 200 nodes with 100 Mbit/s down and 20 up have 1.17 and 1.23, for what waits in a queue keeps a chunk from those who got it
	// since.
	inFlightLeast = 8 << 20
	// inFlightMost is for the fastest: 1 Gbit/s at 500 ms, and no more than a small server can spare for windows and buffers
	// (DESIGN section 6).
	inFlightMost = 64 << 20
	// inFlightSample is how long the goodput is counted for one sample: on slow links, some chunks of 1 MiB.
	inFlightSample = time.Second
	// inFlightRise and inFlightFall are the weights of a new sample that is above or below the goodput so far: a link is as fast as
	// it was seen to be, and one sample that is low says little.
	inFlightRise, inFlightFall = 0.5, 0.125
)

// InFlight says how many bytes a node may have asked for and not got, of all peers together: as many as arrive in a few seconds.
// More would only wait in the queues of peers, and late at that when something better to ask for turns up. The zero value is
// ready.
type InFlight struct {
	rate  float64   // goodput in bytes/s; 0: not known
	since time.Time // where the sample being taken begins; zero: nothing is in flight
	bytes uint64    // of that sample
}

// Asked says how many bytes are in flight after a step. A time in which nothing is says nothing about the link.
func (f *InFlight) Asked(now time.Time, inFlight uint64) {
	switch {
	case inFlight == 0:
		f.since, f.bytes = time.Time{}, 0
	case f.since.IsZero():
		f.since = now
	}
}

// Received counts bytes that arrived.
func (f *InFlight) Received(now time.Time, bytes uint64) {
	if f.since.IsZero() {
		return
	}
	f.bytes += bytes
	took := now.Sub(f.since)
	if took < inFlightSample {
		return
	}
	rate, weight := float64(f.bytes)/took.Seconds(), inFlightFall
	if rate > f.rate {
		weight = inFlightRise
	}
	if f.rate == 0 {
		weight = 1
	}
	f.rate += weight * (rate - f.rate)
	f.since, f.bytes = now, 0
}

// Limit is the most bytes in flight.
func (f *InFlight) Limit() uint64 {
	return uint64(min(max(f.rate*inFlightTime.Seconds(), inFlightLeast), inFlightMost))
}
