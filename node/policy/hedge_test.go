package policy

import (
	"testing"
	"time"
)

// TestHedge tells when a second peer is asked, and how often that can be.
func TestHedge(t *testing.T) {
	var h Hedge
	after := func(what string, want time.Duration) {
		t.Helper()
		if got := h.After(); got != want {
			t.Errorf("%s: after: got %v, want %v", what, got, want)
		}
	}
	after("nothing is known", hedgeUnknown)
	for i := range 100 {
		h.Answered(time.Duration(i) * time.Millisecond)
	}
	after("the last 64 of 0 to 99 ms", 95*time.Millisecond)
	for range hedgeSamples {
		h.Answered(time.Microsecond)
	}
	after("all near", hedgeLeast)

	take := func(what string, bytes uint64, want bool) {
		t.Helper()
		if got := h.Take(bytes); got != want {
			t.Errorf("%s: take %d: got %v, want %v", what, bytes, got, want)
		}
	}
	take("at first, one block", 64<<10, true)
	take("and no more", 1, false)
	h.Received(10 << 20)
	take("1 % of what came", 100<<10, true)
	take("and no more", 100<<10, false)
	if got, want := h.Hedged(), uint64(164<<10); got != want {
		t.Errorf("hedged: got %d, want %d", got, want)
	}
}
