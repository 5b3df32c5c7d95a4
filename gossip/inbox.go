package gossip

import (
	"errors"
	"fmt"
	"time"

	"swarmnode/content"
	"swarmnode/content/guard"
)

const (
	// Heartbeat is how often a publisher signs a new timestamp when nothing changes (DESIGN section 5).
	Heartbeat = time.Hour
	// PullInterval is the least time between two pulls from one peer that messages of that peer cause.
	PullInterval = 30 * time.Second
	// PullWindow and MaxPulls limit the pulls that messages of all peers together cause: MaxPulls in PullWindow.
	PullWindow = 10 * time.Second
	// MaxPulls is the number of pulls in one PullWindow.
	MaxPulls = 4
	// maxSeen is how many raw messages an inbox remembers to answer a replay without the verifier.
	maxSeen = 256
	// retryAfter is how long a bundle that could not be judged is not judged again: what it lacks is being pulled.
	retryAfter = 5 * time.Second
	// maxFresh is of how many releases an inbox remembers when they were last said to be current. A node that serves an
	// older one than these is hopelessly behind anyway.
	maxFresh = 16
)

// Decision is what a received announcement means for this node.
type Decision struct {
	Verdict Verdict // what to do with the message
	News    *Head   // the newer release that it announces, or nil
	Fresh   bool    // it confirms the release that was current already
	Pull    bool    // ask the sender for the files that are missing here; the rate of this is limited
	Alarm   string  // what the operator must be told: the publisher's keys contradict themselves; or ""
	Err     error   // why it was not accepted; nil for a replay of a message that was accepted
}

// InboxStats counts what an inbox has seen.
type InboxStats struct {
	Received, Accepted, Ignored, Rejected uint64 // Received is the sum of the others
	Replays                               uint64 // answered without the verifier; part of Ignored or Rejected
	News, Fresh                           uint64 // Accepted, split
	Pulls, PullsHeld                      uint64 // asked for, and not asked for because of the limit
	Alarms                                uint64
	Troubles                              uint64 // errors of this node, not of the message
}

// Inbox decides what to believe of the announcements of one collection, as DESIGN section 5 says: forward only what is
// new and valid, blame a neighbour only for what no honest node sends.
type Inbox struct {
	verifier Verifier
	head     Head
	seen     seenCache
	pulls    []pull // the recent ones, oldest first
	fresh    []freshness
	stats    InboxStats
}

type pull struct {
	peer PeerID
	at   time.Time
}

type freshness struct {
	release uint64
	signed  time.Time
}

// NewInbox starts from the newest verified head, which is the zero Head when nothing is known but the collection's ID.
func NewInbox(v Verifier, head Head) *Inbox {
	in := &Inbox{verifier: v, head: head}
	in.noteFresh(head)
	return in
}

// Head is the newest verified head.
func (in *Inbox) Head() Head { return in.head }

// Stats gives the counters.
func (in *Inbox) Stats() InboxStats { return in.stats }

// Receive judges the payload of an announcement that the peer from forwarded.
func (in *Inbox) Receive(now time.Time, from PeerID, raw []byte) Decision {
	in.stats.Received++
	d := in.judge(now, from, raw)
	switch d.Verdict {
	case Accept:
		in.stats.Accepted++
	case Reject:
		in.stats.Rejected++
	default:
		in.stats.Ignored++
	}
	return d
}

func (in *Inbox) judge(now time.Time, from PeerID, raw []byte) Decision {
	if guard.On(guard.BundleLimit) && len(raw) > MaxBundle {
		return Decision{Verdict: Reject, Err: fmt.Errorf("bundle: %w: %d bytes", ErrMalformed, len(raw))}
	}
	key := content.Sum(raw)
	if s := in.seen.get(key, now); s != nil {
		in.stats.Replays++
		d := Decision{Verdict: s.verdict, Err: s.err}
		if s.pull {
			d.Pull = in.mayPull(now, from)
		}
		return d
	}
	b, err := DecodeBundle(raw)
	var h Head
	if err == nil {
		h, err = in.verifier.Verify(now, b)
	}
	if err == nil {
		d := in.take(h)
		replay := Ignore // it was forwarded once
		in.seen.put(key, seenMessage{verdict: replay, err: d.Err})
		return d
	}
	return in.refuse(now, from, key, err)
}

// refuse maps an error to a decision and remembers it.
func (in *Inbox) refuse(now time.Time, from PeerID, key content.Digest, err error) Decision {
	d, s := Decision{Err: err}, seenMessage{err: err}
	var newer *content.NewerError
	switch {
	case errors.Is(err, ErrFork), errors.Is(err, ErrRollback), errors.Is(err, ErrLeap):
		d.Alarm = err.Error()
		in.stats.Alarms++
	case errors.Is(err, ErrUnknownRoot), errors.Is(err, ErrIncomplete):
		d.Pull, s.pull = in.mayPull(now, from), true
		s.until = now.Add(retryAfter)
	case errors.Is(err, ErrOld), errors.Is(err, ErrExpired), errors.As(err, &newer):
	case errors.Is(err, ErrMalformed), errors.Is(err, ErrBadSignature):
		d.Verdict, s.verdict = Reject, Reject
	default: // this node is in trouble; the message may be good
		in.stats.Troubles++
		s.until = now.Add(retryAfter)
	}
	in.seen.put(key, s)
	return d
}

// Adopt takes in a head that was verified elsewhere: after a pull, or from this node's own signer. What it means is in
// News, Fresh and Alarm.
func (in *Inbox) Adopt(h Head) Decision {
	in.seen.forgetUndecided()
	return in.take(h)
}

// take compares a verified head with the one that is known. The verifier has done so before; but two answers to one
// question must never both be believed, so this does not rest on it.
func (in *Inbox) take(h Head) Decision {
	old := in.head
	switch {
	case !old.Collection.IsZero() && h.Collection != old.Collection:
		return in.alarm(fmt.Errorf("%w: head of collection %s in the inbox of %s", ErrFork, h.Collection, old.Collection))
	case guard.On(guard.InboxFork) && h.Release == old.Release && old.Release != 0 && h.Manifest != old.Manifest:
		return in.alarm(fmt.Errorf("%w: release %d is %s here and %s there", ErrFork, h.Release, old.Manifest, h.Manifest))
	case !h.After(old):
		return Decision{Err: ErrOld}
	case guard.On(guard.InboxRollback) && h.Release < old.Release:
		return in.alarm(fmt.Errorf("%w: release %d after release %d", ErrRollback, h.Release, old.Release))
	}
	in.head = h
	in.noteFresh(h)
	if h.Release > old.Release {
		in.stats.News++
		return Decision{Verdict: Accept, News: &h}
	}
	in.stats.Fresh++
	return Decision{Verdict: Accept, Fresh: true}
}

func (in *Inbox) alarm(err error) Decision {
	in.stats.Alarms++
	return Decision{Alarm: err.Error(), Err: err}
}

// mayPull keeps the limits on pulls. A pull from the future (the clock was set back) does not count.
func (in *Inbox) mayPull(now time.Time, from PeerID) bool {
	recent, inWindow, asked := in.pulls[:0], 0, false
	for _, p := range in.pulls {
		age := now.Sub(p.at)
		if age < 0 || age >= PullInterval {
			continue
		}
		recent = append(recent, p)
		asked = asked || p.peer == from
		if age < PullWindow {
			inWindow++
		}
	}
	in.pulls = recent
	if guard.On(guard.PullRate) && (asked || inWindow >= MaxPulls) {
		in.stats.PullsHeld++
		return false
	}
	in.pulls = append(in.pulls, pull{peer: from, at: now})
	in.stats.Pulls++
	return true
}

func (in *Inbox) noteFresh(h Head) {
	if h.Release == 0 {
		return
	}
	if n := len(in.fresh); n > 0 && in.fresh[n-1].release == h.Release {
		in.fresh[n-1].signed = h.Signed
		return
	}
	if len(in.fresh) == maxFresh {
		in.fresh = append(in.fresh[:0], in.fresh[1:]...)
	}
	in.fresh = append(in.fresh, freshness{release: h.Release, signed: h.Signed})
}

// FreshAsOf is when the newest verified timestamp that names a release was signed: the release that a node serves is
// fresh as of then. It is the zero time if this inbox never heard of the release.
func (in *Inbox) FreshAsOf(release uint64) time.Time {
	for _, f := range in.fresh {
		if f.release == release {
			return f.signed
		}
	}
	return time.Time{}
}

// Lag is how many heartbeats were missed since the head was signed; 0 while nothing is known.
func (in *Inbox) Lag(now time.Time) int {
	if in.head.Signed.IsZero() {
		return 0
	}
	return max(0, int(now.Sub(in.head.Signed)/Heartbeat))
}

// seenMessage is what was decided about a raw message.
type seenMessage struct {
	verdict Verdict
	pull    bool      // it lacked a file
	until   time.Time // when it may be judged again; zero for never
	err     error
}

// seenCache remembers the last maxSeen raw messages. The zero value is empty.
type seenCache struct {
	byKey map[content.Digest]seenMessage
	order []content.Digest // a ring; next is the place of the oldest
	next  int
}

// get gives what was decided, or nil if the message has to be judged.
func (c *seenCache) get(key content.Digest, now time.Time) *seenMessage {
	s, ok := c.byKey[key]
	if !ok || !s.until.IsZero() && !now.Before(s.until) {
		return nil
	}
	return &s
}

func (c *seenCache) put(key content.Digest, s seenMessage) {
	if c.byKey == nil {
		c.byKey = map[content.Digest]seenMessage{}
	}
	if _, ok := c.byKey[key]; !ok {
		if len(c.order) < maxSeen {
			c.order = append(c.order, key)
		} else {
			delete(c.byKey, c.order[c.next])
			c.order[c.next] = key
			c.next = (c.next + 1) % maxSeen
		}
	}
	c.byKey[key] = s
}

// forgetUndecided lets messages be judged again that waited for a file.
func (c *seenCache) forgetUndecided() {
	for key, s := range c.byKey {
		if !s.until.IsZero() {
			s.until = time.Unix(0, 1) // long ago, but not zero, which means never
			c.byKey[key] = s
		}
	}
}
