// Package trigger decides when a collection is published again: by an interval, or because a webhook, a watched directory, the
// operator or a signal says that something has changed. [Runner] is one loop for one collection, which never has two runs at once;
// when the next one is due is decided in schedule.go, without a clock. [Hooks] takes webhooks. What a run does is its owner's.
package trigger

// Cause is what begins a run.
type Cause string

// The causes.
const (
	Interval Cause = "interval" // its time has come
	Webhook  Cause = "webhook"  // somebody who has the secret says so
	Watch    Cause = "watch"    // the watched directory has changed
	Asked    Cause = "asked"    // by `publish --now`, or by publish itself
	Signal   Cause = "signal"   // SIGHUP
)

// byOperator reports whether somebody sits there and wants it now: then a pause after failures is cut short.
func (c Cause) byOperator() bool { return c == Asked || c == Signal }
