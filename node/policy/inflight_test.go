package policy

import (
	"testing"
	"time"
)

// TestInFlight tells how much a node asks for as it gets to know its link.
func TestInFlight(t *testing.T) {
	var f InFlight
	now := time.Unix(0, 0)
	limit := func(what string, least, most uint64) {
		t.Helper()
		if got := f.Limit() >> 20; got < least || got > most {
			t.Errorf("%s: limit: got %d MiB, want %d to %d", what, got, least, most)
		}
	}
	// arrives has so many chunks of 1 MiB arrive each second, evenly.
	arrives := func(chunks, seconds int) {
		f.Asked(now, f.Limit())
		for range chunks * seconds {
			now = now.Add(time.Second / time.Duration(chunks))
			f.Received(now, 1<<20)
		}
	}
	limit("nothing is known", 8, 8)
	arrives(2, 10)
	limit("a slow link", 8, 8)
	arrives(10, 1)
	limit("10 MiB/s for a second", 17, 19)
	arrives(10, 10)
	limit("10 MiB/s", 29, 30)
	arrives(100, 10)
	limit("a fast link", 64, 64)
	f.Asked(now, 0)
	now = now.Add(time.Hour)
	limit("an hour without a wish", 64, 64)
	f.Asked(now, 1<<20)
	arrives(10, 1)
	limit("one poor second", 64, 64)
	arrives(10, 60)
	limit("a poor minute", 29, 31)
	f.Asked(now, 0)
	f.Received(now.Add(time.Hour), 1<<40)
	limit("what comes unasked does not count", 29, 31)
}
