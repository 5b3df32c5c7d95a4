package trust

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"swarmnode/content"
	"swarmnode/gossip"
)

// with is a copy of a bundle in which one file is replaced, or left out if data is nil.
func with(b gossip.Bundle, name string, data []byte) gossip.Bundle {
	c := gossip.Bundle{Files: maps.Clone(b.Files)}
	if c.Files[name] = data; data == nil {
		delete(c.Files, name)
	}
	return c
}

// only keeps the timestamp.
func only(b gossip.Bundle) gossip.Bundle {
	return gossip.Bundle{Files: map[string][]byte{timestampFile: b.Files[timestampFile]}}
}

func replaced(b gossip.Bundle, old, now string) gossip.Bundle {
	return with(b, timestampFile, bytes.Replace(b.Files[timestampFile], []byte(old), []byte(now), 1))
}

// forged signs any timestamp with the publisher's own key.
func (p *publisher) forged(version int64, change func(*metadata.TimestampType)) gossip.Bundle {
	p.t.Helper()
	m, err := metadata.Timestamp().FromBytes(p.signer.set.files[timestampFile])
	if err != nil {
		p.t.Fatal(err)
	}
	m.Signed.Version = version
	change(&m.Signed)
	raw, err := sign(m, p.keys.first(roleTimestamp))
	if err != nil {
		p.t.Fatal(err)
	}
	return gossip.Bundle{Files: map[string][]byte{timestampFile: raw}}
}

// refusal is a bundle that a repository at release 3 refuses.
type refusal struct {
	name   string
	bundle gossip.Bundle
	at     time.Time
	want   error
	panics uint64
}

// refusals makes the repository, the bundles that it refuses and the one that it takes.
func refusals(t *testing.T) (*Repository, []refusal, gossip.Bundle) {
	p := newPublisher(t, Lifetimes{})
	first := p.sign(start, 1, "one")
	atOne, again := p.twin(), p.twin()
	second := p.sign(start, 2, "two")
	third := p.sign(start, 3, "three")
	r := p.joined(start)
	fourth := p.sign(start, 4, "four")
	stranger := newPublisher(t, Lifetimes{})
	foreign := stranger.sign(start, 9, "nine")
	for range 6 {
		foreign = stranger.heartbeat(start)
	}

	// What a publisher does who restored a backup.
	atOne.signer.made.Timestamp = 50
	behind := atOne.sign(start, 2, "two") // snapshot 2 after 3
	atOne.signer.made.Snapshot, atOne.signer.made.Delegated = 50, 50
	forkThree := atOne.sign(start, 3, "another three")
	again.signer.made.Timestamp, again.signer.made.Snapshot, again.signer.made.Delegated = 50, 50, 50
	two := again.sign(start, 2, "two")
	again.signer.made.Timestamp = versionOf(third)
	again.signer.made.Timestamp--
	twinTimestamp := again.heartbeat(start)

	rootless := func(s *metadata.TimestampType) { delete(s.UnrecognizedFields, fieldRoot) }
	ahead := func(s *metadata.TimestampType) { s.UnrecognizedFields[fieldRoot] = 2 }
	tests := []refusal{
		{name: "equal", bundle: third, want: gossip.ErrOld},
		{name: "old", bundle: second, want: gossip.ErrOld},
		{name: "older", bundle: first, want: gossip.ErrOld},
		{name: "empty", bundle: gossip.Bundle{}, want: gossip.ErrMalformed},
		{name: "no timestamp", bundle: with(fourth, timestampFile, nil), want: gossip.ErrMalformed},
		{name: "a file without a place", bundle: with(fourth, "9.snapshot.json", third.Files["3.snapshot.json"]), want: gossip.ErrMalformed},
		{name: "a file is missing", bundle: only(fourth), want: gossip.ErrIncomplete},
		{name: "old snapshot under a new name", bundle: with(fourth, "4.snapshot.json", third.Files["3.snapshot.json"]), want: gossip.ErrMalformed},
		{name: "old release under a new name", bundle: with(fourth, "4.release.json", third.Files["3.release.json"]), want: gossip.ErrMalformed},
		{name: "another first root", bundle: with(fourth, "1.root.json", stranger.keys.roots[0]), want: gossip.ErrMalformed},
		{name: "root from nowhere", bundle: with(fourth, "3.root.json", stranger.keys.roots[0]), want: gossip.ErrUnknownRoot},
		{name: "stranger's root", bundle: with(fourth, "2.root.json", strangersRoot(stranger)), want: gossip.ErrBadSignature},
		{name: "stranger's keys", bundle: foreign, want: gossip.ErrBadSignature},
		{name: "keys of an unknown root", bundle: stranger.forged(60, rootless), want: gossip.ErrUnknownRoot},
		{name: "under a newer root", bundle: p.forged(60, ahead), want: gossip.ErrUnknownRoot},
		{name: "expired", bundle: fourth, at: start.Add(366 * day), want: gossip.ErrExpired},
		{name: "root expired", bundle: fourth, at: start.Add(1000 * day), want: gossip.ErrUnknownRoot},
		{name: "snapshot goes back", bundle: behind, want: gossip.ErrRollback},
		{name: "release goes back", bundle: two, want: gossip.ErrRollback},
		{name: "another release 3", bundle: forkThree, want: gossip.ErrFork},
		{name: "another timestamp 3", bundle: twinTimestamp, want: gossip.ErrFork},
	}
	return r, append(tests, malformed(p, fourth)...), fourth
}

// malformed gives the bundles that are wrong in themselves; all but a few are variants of a good one.
func malformed(p *publisher, good gossip.Bundle) []refusal {
	ts := string(good.Files[timestampFile])
	sig := ts[strings.Index(ts, `"sig":"`)+7:][:128]
	null := func(s *metadata.TimestampType) { s.Meta["snapshot.json"] = nil }
	bare := func(s *metadata.TimestampType) { s.Meta["snapshot.json"].Hashes = nil }
	timeless := func(s *metadata.TimestampType) { delete(s.UnrecognizedFields, fieldSigned) }
	sigs := func(n int) gossip.Bundle {
		var all []string
		for i := range n {
			all = append(all, fmt.Sprintf(`{"keyid":"%064x","sig":"00"}`, i))
		}
		return with(good, timestampFile, []byte(ts[:strings.Index(ts, "[")+1]+strings.Join(all, ",")+ts[strings.LastIndex(ts, "]"):]))
	}
	return []refusal{
		{name: "null entry", bundle: p.forged(60, null), want: gossip.ErrMalformed},
		{name: "entry without a hash", bundle: p.forged(60, bare), want: gossip.ErrMalformed},
		{name: "no signing time", bundle: withFiles(p.forged(60, timeless), good), want: gossip.ErrMalformed},
		{name: "unsigned null entry", bundle: replaced(good, `"meta":{`, `"meta":{"a":null,`), want: gossip.ErrMalformed},
		{name: "another version", bundle: replaced(good, `"version":4}`, `"version":5}`), want: gossip.ErrBadSignature},
		{name: "upper-case hex", bundle: replaced(good, sig, strings.ToUpper(sig)), want: gossip.ErrMalformed},
		{name: "blank", bundle: replaced(good, `"signed":`, `"signed": `), want: gossip.ErrMalformed},
		{name: "unsigned field", bundle: replaced(good, `{"signatures"`, `{"a":1,"signatures"`), want: gossip.ErrMalformed},
		{name: "field in a signature", bundle: replaced(good, `{"keyid"`, `{"a":1,"keyid"`), want: gossip.ErrMalformed},
		{name: "trailing byte", bundle: with(good, timestampFile, []byte(ts+"\n")), want: gossip.ErrMalformed},
		{name: "no signature", bundle: sigs(0), want: gossip.ErrMalformed},
		{name: "strangers' signatures", bundle: sigs(2), want: gossip.ErrBadSignature},
		{name: "too many signatures", bundle: sigs(MaxSignatures + 1), want: gossip.ErrMalformed},
		{name: "too large", bundle: with(good, timestampFile, []byte(ts+strings.Repeat(" ", MaxTimestamp))), want: gossip.ErrMalformed},
		{name: "bundle too large", bundle: with(good, "1.targets.json", make([]byte, gossip.MaxBundle)), want: gossip.ErrMalformed},
		{name: "null", bundle: with(good, timestampFile, []byte("null")), want: gossip.ErrMalformed},
		{name: "deep", bundle: with(good, timestampFile, bytes.Repeat([]byte("["), MaxTimestamp)), want: gossip.ErrMalformed},
	}
}

func TestVerifyRefuses(t *testing.T) {
	t.Parallel()
	r, tests, fourth := refusals(t)
	head := r.Head()
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			before := r.Stats().Panics
			at := tc.at
			if at.IsZero() {
				at = start
			}
			if _, err := r.Verify(at, tc.bundle); !errors.Is(err, tc.want) {
				t.Errorf("Verify = %v, want %v", err, tc.want)
			}
			if got := r.Stats().Panics - before; got != tc.panics {
				t.Errorf("%d panics, want %d", got, tc.panics)
			}
			if r.Head() != head {
				t.Errorf("the head changed to %+v", r.Head())
			}
		})
	}
	if h := reopened(t, r).Head(); h.Release != 3 {
		t.Errorf("reopened at release %d, want 3", h.Release)
	}
	if h, err := r.Verify(start, fourth); err != nil || h.Release != 4 {
		t.Errorf("the good one after all these: %+v, %v", h, err)
	}
}

// versionOf reads the version of a bundle's timestamp.
func versionOf(b gossip.Bundle) int64 {
	p, err := peek(b.Files[timestampFile], roleTimestamp, MaxTimestamp)
	if err != nil {
		panic(err)
	}
	return p.version
}

// withFiles adds the files of another bundle that are not there.
func withFiles(b, more gossip.Bundle) gossip.Bundle {
	for name, raw := range more.Files {
		if b.Files[name] == nil {
			b.Files[name] = raw
		}
	}
	return b
}

func strangersRoot(p *publisher) []byte {
	if err := p.keys.Rotate(start, p.life); err != nil {
		panic(err)
	}
	return p.keys.roots[1]
}

// TestReopenedRefuses shows that floors are durable: a restart does not make old things new.
func TestReopenedRefuses(t *testing.T) {
	t.Parallel()
	p := newPublisher(t, Lifetimes{})
	first := p.sign(start, 1, "one")
	p.sign(start, 2, "two")
	r := reopened(t, p.joined(start))
	if _, err := r.Verify(start, first); !errors.Is(err, gossip.ErrOld) {
		t.Errorf("old bundle after reopening = %v, want ErrOld", err)
	}
}

// TestClockFloor is the freeze attack on a node whose clock was set back: what expired stays expired.
func TestClockFloor(t *testing.T) {
	t.Parallel()
	p := newPublisher(t, Lifetimes{Timestamp: FollowedTimestampLife})
	p.sign(start, 1, "one")
	r := p.joined(start)
	stale := p.heartbeat(start.Add(time.Hour))
	later := start.Add(20 * day)
	fresh := p.heartbeat(later)
	if _, err := r.Verify(later, fresh); err != nil {
		t.Fatal(err)
	}
	r = reopened(t, r)
	// Make it forget everything but the floor, as after a rotation of stolen keys.
	r.set.timestamp, r.head = nil, gossip.Head{}
	delete(r.set.files, timestampFile)
	if _, err := r.Verify(start, stale); !errors.Is(err, gossip.ErrExpired) {
		t.Errorf("stale heartbeat with the clock set back = %v, want ErrExpired", err)
	}
	if h := reopened(t, r).Head(); !h.Expires.Equal(later.Add(FollowedTimestampLife)) {
		t.Errorf("head expires %s", h.Expires)
	}
	// A publisher whose clock is years ahead does not take the receivers along.
	ahead := newPublisher(t, Lifetimes{})
	ahead.sign(start.Add(300*day), 1, "one")
	r = ahead.joined(start)
	if want := start.Add(MaxClockStep); !r.clock.Equal(want) {
		t.Errorf("floor = %s, want %s", r.clock, want)
	}
}

// TestExpiredHeadIsTold: callers decide what to do at expiry, so it has to be known, also after a restart.
func TestExpiredHeadIsTold(t *testing.T) {
	t.Parallel()
	p := newPublisher(t, Lifetimes{Timestamp: FollowedTimestampLife})
	p.sign(start, 1, "one")
	r := reopened(t, p.joined(start))
	if h := r.Head(); h.Release != 1 || !h.Expires.Equal(start.Add(FollowedTimestampLife)) {
		t.Errorf("head = %+v", h)
	}
	err := p.repository().Refresh(context.Background(), start.Add(15*day), p.signer.Source)
	if !errors.Is(err, gossip.ErrExpired) {
		t.Errorf("late joiner of an expired collection: %v, want ErrExpired", err)
	}
}

func TestRefreshPinsTheID(t *testing.T) {
	t.Parallel()
	p, q := newPublisher(t, Lifetimes{}), newPublisher(t, Lifetimes{})
	q.sign(start, 1, "one")
	if err := p.repository().Refresh(context.Background(), start, q.signer.Source); !errors.Is(err, gossip.ErrMalformed) {
		t.Errorf("roots of another collection: %v, want ErrMalformed", err)
	}
	if _, err := Open(t.TempDir(), content.ID{}); err != nil {
		t.Error(err)
	}
}

// TestFlippedBits changes every single bit of, and cuts at every byte, a bundle that would be accepted: none of it may be. That is
// 10 s of processor time, so all of it is for .ci/run; else about every second byte has one of its bits changed, and each bit of a
// byte has its turn.
func TestFlippedBits(t *testing.T) {
	t.Parallel()
	p := newPublisher(t, Lifetimes{})
	p.sign(start, 1, "one")
	r := p.joined(start)
	good := p.sign(start, 2, "two")
	raw, err := gossip.EncodeBundle(good)
	if err != nil {
		t.Fatal(err)
	}
	try := func(what string, data []byte) {
		b, err := gossip.DecodeBundle(data)
		if err != nil {
			return
		}
		if _, err := r.Verify(start, b); err == nil {
			t.Fatalf("%s accepted: %s", what, hex.EncodeToString(data))
		}
	}
	step := 15
	switch {
	case thorough:
		step = 1
	case testing.Short():
		step = 61 // the race detector costs ten times as much here and finds nothing: one goroutine does it all
	}
	for i := 0; i < len(raw)*8; i += step {
		data := bytes.Clone(raw)
		data[i/8] ^= 1 << (i % 8)
		try(fmt.Sprintf("bit %d flipped", i), data)
	}
	for i := 0; i < len(raw); i += step {
		try(fmt.Sprintf("cut at %d", i), raw[:i])
	}
	for name, file := range good.Files {
		for i := 0; i < len(file); i += step {
			if _, err := r.Verify(start, with(good, name, file[:i:i])); err == nil {
				t.Fatalf("%s cut at %d accepted", name, i)
			}
		}
	}
	if s := r.Stats(); s.Panics != 0 {
		t.Errorf("%d panics", s.Panics)
	}
	try("", raw[:0])
	if _, err := r.Verify(start, good); err != nil {
		t.Errorf("the good one: %v", err)
	}
}
