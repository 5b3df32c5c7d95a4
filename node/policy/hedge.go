package policy

import (
	"slices"
	"time"
)

const (
	// hedgeShare is the most that hedges may cost: one byte in so many of all that was received (DESIGN section 6: 1 %), …
	hedgeShare = 100
	// … and so much more, one largest metadata block, so that the first request of a short-lived client can be hedged.
	hedgeFree = 64 << 10
	// hedgeSamples is how many of the last answers say what is usual: enough that the 95th percentile is not the largest.
	hedgeSamples = 64
	// hedgeQuantile of the answers come in time, in percent: with p95 one request in twenty is hedged, which cuts the tail and
	// costs little (Dean and Barroso, The Tail at Scale, CACM 2013).
	hedgeQuantile = 95
	// hedgeFew answers say too little; before, an answer is late after hedgeUnknown: a far peer's RTT of 250 ms and as much
	// for its disk.
	hedgeFew     = 8
	hedgeUnknown = 500 * time.Millisecond
	// hedgeLeast is what a scheduler and a disk take now and then; a hedge sooner than that gains nothing that is felt.
	hedgeLeast = 20 * time.Millisecond
)

// Hedge decides when a small request that somebody waits for, of metadata blocks or the first bytes of a file, is made of a
// second peer as well, because the first is late. The zero value is ready.
type Hedge struct {
	answers  []time.Duration // the last ones, a ring
	at       int
	received uint64
	hedged   uint64
}

// Answered notes how long the first byte of an answer took that was not hedged, or that came in spite of it.
func (h *Hedge) Answered(d time.Duration) {
	if len(h.answers) < hedgeSamples {
		h.answers = append(h.answers, d)
		return
	}
	h.answers[h.at] = d
	h.at = (h.at + 1) % hedgeSamples
}

// Received counts bytes that arrived, of whatever kind: hedges may be a share of them.
func (h *Hedge) Received(bytes uint64) { h.received += bytes }

// After is how long to wait for the first byte before a second peer is asked.
func (h *Hedge) After() time.Duration {
	if len(h.answers) < hedgeFew {
		return hedgeUnknown
	}
	sorted := slices.Clone(h.answers)
	slices.Sort(sorted)
	return max(sorted[(len(sorted)-1)*hedgeQuantile/100], hedgeLeast)
}

// Take reports whether a second request of about so many bytes may be made, and counts it.
func (h *Hedge) Take(bytes uint64) bool {
	if h.hedged+bytes > h.received/hedgeShare+hedgeFree {
		return false
	}
	h.hedged += bytes
	return true
}

// Hedged is how many bytes were asked of a second peer.
func (h *Hedge) Hedged() uint64 { return h.hedged }
