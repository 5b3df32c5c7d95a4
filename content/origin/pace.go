package origin

import (
	"fmt"
	"time"
)

const (
	// slowest is how many bytes a second an origin has to send of a file while somebody waits for them, on the average of a timeout: a
	// server that sends a byte every minute is as dead as a silent one.
	slowest = 1000
	// slowestList is the same for a listing, which a server whose disk is busy makes from one look at each file: less than one name a
	// second.
	slowestList = 50
)

// pace is how fast an origin sends, while somebody waits.
type pace struct {
	waited time.Duration
	got    int64
}

// check takes what came in a while, and says whether it is enough on the average of a timeout.
func (p *pace) check(n int, took, within time.Duration, least int) error {
	p.waited += took
	p.got += int64(n)
	if p.waited < within {
		return nil
	}
	if float64(p.got) < p.waited.Seconds()*float64(least) {
		return fmt.Errorf("the origin sent %d bytes in %v: less than %d a second is as good as nothing (with --connections 1 nothing else takes of the line; a mirror of the origin may be faster)",
			p.got, p.waited.Round(time.Second), least)
	}
	*p = pace{}
	return nil
}
