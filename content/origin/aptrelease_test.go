package origin

import (
	"testing"
	"time"
)

// What releaseTime reads can be kept; a zone that carries it out of the years that can is refused, not a panic later on.
func TestReleaseTime(t *testing.T) {
	for s, want := range map[string]time.Time{
		"":                                {},
		"Mon, 23 Nov 2026 09:00:00 UTC":   time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC),
		"Mon, 23 Nov 2026 09:00:00 +0200": time.Date(2026, 11, 23, 7, 0, 0, 0, time.UTC),
		"Fri, 31 Dec 9999 23:59:59 UTC":   time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
		"Mon, 23 Nov 2026 09:00:00 +2400": time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC),
	} {
		got, err := releaseTime(s)
		if err != nil || !got.Equal(want) {
			t.Errorf("%q: %v, %v", s, got, err)
		}
		known{Date: got, Until: got}.text()
	}
	for _, s := range []string{"Fri, 31 Dec 9999 23:59:59 -0100", "Sat, 01 Jan 0000 00:00:00 +0100", "yesterday"} {
		if got, err := releaseTime(s); err == nil {
			t.Errorf("%q: %v", s, got)
		}
	}
}
