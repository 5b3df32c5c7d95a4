package control

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

const (
	// soonExpired is when the end of a publisher's signature is worth a word: time enough to reach the publisher.
	soonExpired = 3 * 24 * time.Hour
	// missedHeartbeats are worth a word: the same as in the verdict.
	missedHeartbeats = 3
	// nearlyFull is the share of a disk budget, in percent, beyond which a release may not fit beside the one before.
	nearlyFull = 95
)

// need is something that wants attention.
type need struct {
	Bad  bool   // somebody has to act; else it is good to know
	What string // what is the matter
	Do   string // what to do about it; "" where that is said or nothing can be done
}

// needs lists what wants attention, the worst first. It is never empty when the verdict is not fine.
func needs(s Status, now time.Time) []need {
	var list []need
	for _, c := range s.Collections {
		list = append(list, needsOf(c, now)...)
	}
	if s.Limits.Over {
		list = append(list, need{true, "what may be sent this month is used up: nothing is given to others before " + s.Limits.Ends.Format(time.DateOnly), "swarmnode limits set monthly=… gives more."})
	}
	for _, b := range s.Bootstrap {
		if !b.Connected {
			what := "not connected to " + b.Addr
			if b.Error != "" {
				what += ": " + b.Error
			}
			list = append(list, need{len(s.Peers) == 0, what, "Is that node running, and reachable from here?"})
		}
	}
	if len(s.Peers) == 0 && len(s.Collections) > 0 {
		list = append(list, need{false, "no other node is connected", ""})
	}
	banned := 0
	for _, o := range s.Offenders {
		if o.BannedUntil.After(now) {
			banned++
		}
	}
	if banned > 0 {
		list = append(list, need{false, fmt.Sprintf("%d banned for what no honest node does", banned), "Nothing to do: swarmnode status lists them."})
	}
	slices.SortStableFunc(list, func(a, b need) int { return order(a) - order(b) })
	if !s.Fine && !slices.ContainsFunc(list, func(n need) bool { return n.Bad }) {
		list = slices.Insert(list, 0, need{true, s.Verdict, ""})
	}
	return list
}

// order puts what somebody has to do before what is good to know.
func order(n need) int {
	if n.Bad {
		return 0
	}
	return 1
}

func needsOf(c Collection, now time.Time) (list []need) {
	name := cmp.Or(c.Name, c.ID.String())
	add := func(bad bool, do, format string, args ...any) {
		list = append(list, need{bad, name + ": " + fmt.Sprintf(format, args...), do})
	}
	if c.Alarm != "" {
		add(true, "Look into it; then: swarmnode keys acknowledge "+c.ID.String(), "signed things contradict each other: %s", c.Alarm)
	}
	if c.Trouble != "" {
		add(true, "", "%s", c.Trouble)
	}
	switch left := c.Expires.Sub(now); {
	case c.Expires.IsZero():
	case left <= 0:
		add(true, "Is the publisher's node running, and the clock here right?", "the publisher's signature has ended")
	case left < soonExpired && !c.Published:
		add(false, "Tell the publisher.", "the publisher's signature ends in %s", left.Round(time.Hour))
	}
	if c.Lag >= missedHeartbeats && !c.Published {
		add(true, "Is the publisher's node running?", "the publisher was not heard %d times", c.Lag)
	}
	if c.Unobtainable > 0 {
		add(c.BytesInFlight == 0, "", "no connected node has %d of its segments", c.Unobtainable)
	}
	if c.Scrub.Missing > 0 {
		add(true, "They are fetched again by themselves; ask the disk for its health.", "%d damaged pieces are not repaired yet", c.Scrub.Missing)
	} else if c.Scrub.Bad > 0 {
		add(false, "Ask the disk for its health.", "%d damaged pieces were found since the start, all repaired", c.Scrub.Bad)
	}
	if c.Cache == nil && c.BytesBudget > 0 && share(c.BytesOnDisk, c.BytesBudget) >= nearlyFull {
		add(false, "Give it more with --disk.", "its disk space is nearly used up")
	}
	return list
}
