package trust

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"swarmnode/content/durable"
	"swarmnode/gossip"
)

// ForkError is the proof that the publisher's keys signed two different things under one number: somebody else has them, or
// the publisher went on from an old backup. It is gossip.ErrFork.
type ForkError struct {
	Name  string // what there are two of: "timestamp.json", "3.snapshot.json", "release 3"
	Here  string // SHA-256 (of a release: its manifest) of the one that was here first
	There string // of the other
}

func (e *ForkError) Error() string {
	return fmt.Sprintf("%s is %s here and %s there: %v", e.Name, e.Here, e.There, gossip.ErrFork)
}

// Is makes the error one of gossip.ErrFork.
func (e *ForkError) Is(target error) bool { return target == gossip.ErrFork }

// Alarm is a fork that was seen: evidence that outlives a restart.
type Alarm struct {
	Seen    time.Time
	Fork    ForkError
	Release uint64   // the newest release then
	Keys    []string // IDs of the online keys then, of which at least one is in wrong hands
}

// String says what was seen and when.
func (a *Alarm) String() string {
	return fmt.Sprintf("%v (seen %s)", &a.Fork, a.Seen.UTC().Format(time.RFC3339))
}

// over reports whether set ends the alarm: a newer release, and none of the keys of then signs any more.
func (a *Alarm) over(set *trusted) bool {
	return set.head.Release > a.Release && !slices.ContainsFunc(set.onlineKeys(), func(id string) bool { return slices.Contains(a.Keys, id) })
}

// onlineKeys gives the IDs of the keys that may sign timestamp, snapshot and release.
func (t *trusted) onlineKeys() []string {
	var ids []string
	if t.root != nil {
		for _, role := range []string{roleTimestamp, roleSnapshot} {
			if r := t.root.Signed.Roles[role]; r != nil {
				ids = append(ids, r.KeyIDs...)
			}
		}
	}
	if targets := t.targets[roleTargets]; targets != nil {
		if r, err := releaseDelegation(targets); err == nil {
			ids = append(ids, r.KeyIDs...)
		}
	}
	return ids
}

// note keeps the evidence if err is a fork: the first one, as a thief could make any number. The caller holds mu.
func (r *Repository) note(now time.Time, err error) error {
	var f *ForkError
	if r.alarm != nil || !errors.As(err, &f) {
		return err
	}
	r.alarm = &Alarm{Seen: now, Fork: *f, Release: r.head.Release, Keys: r.set.onlineKeys()}
	return errors.Join(err, r.keepState(r.state()))
}

// state is what stateFile holds now. The caller holds mu.
func (r *Repository) state() state {
	head := r.head
	return state{Clock: r.clock, Head: &head, Alarm: r.alarm, Seen: r.seen}
}

// keepState writes the state file.
func (r *Repository) keepState(st state) error {
	raw, err := json.Marshal(st)
	if err != nil {
		return err
	}
	return r.folder.write(stateFile, durable.Seal(raw), 0o644)
}

// Alarm is the first fork that was seen and that no release under new keys has ended; nil if there is none.
func (r *Repository) Alarm() *Alarm {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.alarm
}

// Acknowledge ends the alarm: the operator knows.
func (r *Repository) Acknowledge() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.alarm == nil {
		return nil
	}
	st := r.state()
	st.Alarm = nil
	if err := r.keepState(st); err != nil {
		return fmt.Errorf("acknowledge the alarm of %s: %w", r.id, err)
	}
	r.alarm = nil
	return nil
}

func fork(name string, here, there []byte) error {
	return &ForkError{Name: name, Here: digestOf(here), There: digestOf(there)}
}

func digestOf(raw []byte) string {
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:])
}
