package origin

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// How old the metadata of a repository are. A server that has stopped following its own origin goes on giving out what it has, with good
// signatures: only its age tells. Metadata of rpm have no end of their validity, nor have those of many apt repositories.

// day is how long one is in max-age.
const day = 24 * time.Hour

// maxAge is how old metadata may be; 0: as old as they like.
type maxAge time.Duration

// parseMaxAge reads the value of the parameter max-age: days as 14d, or a time such as 36h.
func parseMaxAge(text string) (maxAge, error) {
	const longest = 100 * 365 // days; more than metadata have been there, and what a time.Duration can hold
	if number, ok := strings.CutSuffix(text, "d"); ok {
		if days, err := strconv.Atoi(number); err == nil && days > 0 && days <= longest {
			return maxAge(time.Duration(days) * day), nil
		}
	} else if d, err := time.ParseDuration(text); err == nil && d > 0 && d <= longest*day {
		return maxAge(d), nil
	}
	return 0, fmt.Errorf("max-age=%.40s is no age: write it like max-age=14d or max-age=36h", text)
}

// check refuses metadata that are older, and those that do not tell.
func (m maxAge) check(file string, made, now time.Time) error {
	switch age := now.Sub(made); {
	case m == 0 || !made.IsZero() && age <= time.Duration(m):
		return nil
	case made.IsZero():
		return &RefusedError{Reason: fmt.Sprintf("%s does not say when it was made, so that nobody can know how old it is: leave max-age out of the address", file)}
	default:
		return &RefusedError{Reason: fmt.Sprintf("%s is of %v, %v ago, and max-age=%s in the address takes none that is so old: the server does not follow its own origin any more, or nothing has changed there. Take another server, or allow more",
			file, made, inDays(age), inDays(time.Duration(m)))}
	}
}

// inDays writes an age as parseMaxAge reads it, in whole days or minutes.
func inDays(d time.Duration) string {
	if d >= 2*day {
		return fmt.Sprintf("%dd", d/day)
	}
	return strings.TrimSuffix(d.Round(time.Minute).String(), "0s")
}

// older gives the older of two times of which either may be unknown, which is zero.
func older(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
