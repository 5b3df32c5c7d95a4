package trigger

import (
	"testing"
	"time"
)

// at is the time so long after the begin of a test.
func at(d time.Duration) time.Time { return time.Unix(1_000_000, 0).Add(d) }

const middle = 0.5 // chance that changes nothing

func (s *schedule) want(t *testing.T, what string, when time.Duration, cause Cause) {
	t.Helper()
	got, c, ok := s.due()
	if !ok || c != cause || !got.Equal(at(when)) {
		t.Errorf("%s: due after %v by %q (%t), want after %v by %q", what, got.Sub(at(0)), c, ok, when, cause)
	}
}

func TestSchedule(t *testing.T) {
	s := schedule{}
	if _, _, ok := s.due(); ok {
		t.Error("a run is due, and nothing asks for one")
	}
	s = schedule{every: time.Minute}
	s.ended(at(0), false, 0, middle)
	s.want(t, "interval", time.Minute, Interval)
	s.ask(at(time.Second), Watch)
	s.ask(at(time.Second+settle/2), Watch)
	s.want(t, "two hints", time.Second+settle, Watch)
	s.ask(at(time.Second), Webhook)
	s.want(t, "a webhook does not wait", time.Second, Webhook)
	s.began()
	s.ask(at(3*time.Second), Webhook) // during the run
	s.ended(at(5*time.Second), false, 0, middle)
	s.want(t, "a trigger during the run makes one more", 3*time.Second, Webhook)
	s.began()
	s.ended(at(10*time.Second), false, 0, middle)
	s.want(t, "then the interval", 70*time.Second, Interval)
}

func TestScheduleFailures(t *testing.T) {
	s := schedule{every: time.Minute}
	s.began()
	s.ended(at(0), true, 0, middle)
	s.want(t, "first failure", firstBackoff, Interval)
	s.ask(at(time.Second), Webhook)
	s.want(t, "a trigger waits and is not lost", firstBackoff, Webhook)
	s.ask(at(2*time.Second), Asked)
	s.want(t, "the operator does not wait", 2*time.Second, Asked)
	s.began()
	s.ended(at(2*time.Second), true, 0, middle)
	s.want(t, "second failure", 2*time.Second+2*firstBackoff, Interval)
	for range 100 {
		s.began()
		s.ended(at(0), true, 0, middle)
	}
	s.want(t, "many failures", time.Minute, Interval)
	s.began()
	s.ended(at(0), true, 10*time.Minute, middle)
	s.want(t, "Retry-After", 10*time.Minute, Interval)
	s.ended(at(0), true, 68*365*24*time.Hour, 0.5)
	s.want(t, "Retry-After of 68 years", maxAfter, Interval)
	s.began()
	s.ended(at(0), false, 0, middle)
	s.want(t, "success", time.Minute, Interval)
	s.began()
	s.ended(at(0), true, 0, middle)
	s.want(t, "a failure after a success", firstBackoff, Interval)

	s = schedule{}
	for range 100 {
		s.began()
		s.ended(at(0), true, 0, middle)
	}
	s.want(t, "without an interval it is tried again, too", maxBackoff, Interval)
}

func TestSpread(t *testing.T) {
	for chance, want := range map[float64]time.Duration{0: 90 * time.Second, 0.5: 100 * time.Second, 1: 110 * time.Second} {
		if got := spread(100*time.Second, chance); got.Round(time.Millisecond) != want {
			t.Errorf("chance %v: got %v, want %v", chance, got, want)
		}
	}
}
