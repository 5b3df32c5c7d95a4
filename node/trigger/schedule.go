package trigger

import "time"

const (
	// MinEvery is the shortest interval. Chosen: what is more urgent has a webhook or a watched directory.
	MinEvery = 5 * time.Second
	// firstBackoff is the pause after the first failure; it doubles with each. Chosen: a restart of the origin is over by then.
	firstBackoff = 15 * time.Second
	// maxBackoff is the longest pause, unless the interval is shorter.
	maxBackoff = time.Hour
	// maxAfter is how long an origin is left alone because it asks for it. One wrong Retry-After could end all following else: it may say
	// 68 years.
	maxAfter = 24 * time.Hour
	// settle is how long a run waits after the first hint that a directory has changed: files come in bunches.
	settle = 500 * time.Millisecond
	// jitter is how much of the interval the next run may be earlier or later, so that followers of one origin do not come together.
	jitter = 0.1
)

// schedule is when the next run is due. It is plain data: now and chance come in.
type schedule struct {
	every time.Duration // 0: only when something asks

	next     time.Time // by the interval; zero: never
	pause    time.Time // no run before, unless the operator wants one; zero: none
	asked    Cause     // what has asked since the last run began; "": nothing
	askedFor time.Time // when that run is to begin
	failures int       // in a row
}

// ask notes a trigger. Several before a run are one; the most urgent gives its name.
func (s *schedule) ask(now time.Time, c Cause) {
	at := now
	if c == Watch {
		at = now.Add(settle)
	}
	if s.asked == "" || at.Before(s.askedFor) || c.byOperator() && !s.asked.byOperator() {
		s.asked, s.askedFor = c, at
	}
}

// due gives when the next run begins and why; ok is false if nothing asks for one.
func (s *schedule) due() (at time.Time, c Cause, ok bool) {
	if s.asked.byOperator() {
		return s.askedFor, s.asked, true
	}
	switch {
	case s.asked != "" && (s.next.IsZero() || !s.askedFor.After(s.next)):
		at, c = s.askedFor, s.asked
	case !s.next.IsZero():
		at, c = s.next, Interval
	default:
		return time.Time{}, "", false
	}
	if at.Before(s.pause) {
		at = s.pause
	}
	return at, c, true
}

// began notes that a run begins: what was asked for until now is done by it.
func (s *schedule) began() { s.asked = "" }

// ended notes how a run ended. after is how long the origin asked to be left alone; chance is from [0, 1).
func (s *schedule) ended(now time.Time, failed bool, after time.Duration, chance float64) {
	s.pause = time.Time{}
	s.next = time.Time{}
	if s.every > 0 {
		s.next = now.Add(spread(s.every, chance))
	}
	if !failed {
		s.failures = 0
		return
	}
	s.failures++
	wait := max(spread(s.backoff(), chance), min(after, maxAfter))
	s.pause = now.Add(wait)
	s.next = s.pause // also without an interval: what was begun is to be finished
}

// backoff is how long to wait after the failures so far.
func (s *schedule) backoff() time.Duration {
	most := maxBackoff
	if s.every > 0 {
		most = min(most, s.every)
	}
	wait := firstBackoff
	for n := 1; n < s.failures && wait < most; n++ {
		wait *= 2
	}
	return min(wait, most)
}

// spread makes a duration up to jitter longer or shorter.
func spread(d time.Duration, chance float64) time.Duration {
	return d + time.Duration(float64(d)*jitter*(2*chance-1))
}
