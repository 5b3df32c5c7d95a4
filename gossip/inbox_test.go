package gossip

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"swarmnode/content"
)

// fakeVerifier answers what the bundle's timestamp.json says.
type fakeVerifier struct {
	heads map[string]Head
	errs  map[string]error
	calls int
}

func (f *fakeVerifier) Verify(_ time.Time, b Bundle) (Head, error) {
	f.calls++
	raw := b.Files["timestamp.json"]
	return f.heads[string(raw)], f.errs[string(raw)]
}

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func rawBundle(t testing.TB, timestamp string) []byte {
	t.Helper()
	raw, err := EncodeBundle(Bundle{Files: map[string][]byte{"timestamp.json": []byte(timestamp)}})
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func head(release uint64, timestamp int64, manifest byte) Head {
	return Head{Collection: testID, Release: release, TimestampVersion: timestamp, Manifest: content.Digest{manifest},
		Signed: start.Add(time.Duration(timestamp) * time.Minute)}
}

var testID = content.NewID([]byte("test"))

func TestInboxVerdicts(t *testing.T) {
	broken := errors.New("disk is full")
	f := &fakeVerifier{
		heads: map[string]Head{"news": head(8, 21, 2), "fresh": head(7, 22, 1), "fork": head(7, 23, 9), "old": head(7, 20, 1),
			"back": head(6, 30, 6), "foreign": {Collection: content.NewID([]byte("x")), Release: 9, TimestampVersion: 99}},
		errs: map[string]error{"ErrOld": ErrOld, "ErrExpired": fmt.Errorf("x: %w", ErrExpired), "ErrUnknownRoot": ErrUnknownRoot,
			"ErrIncomplete": ErrIncomplete, "ErrMalformed": ErrMalformed, "ErrBadSignature": ErrBadSignature,
			"ErrRollback": ErrRollback, "ErrFork": ErrFork, "broken": broken},
	}
	for _, c := range []struct {
		bundle       string
		verdict      Verdict
		news         bool
		fresh        bool
		pull, alarms bool
	}{
		{bundle: "news", verdict: Accept, news: true},
		{bundle: "fresh", verdict: Accept, fresh: true},
		{bundle: "old", verdict: Ignore},
		{bundle: "fork", verdict: Ignore, alarms: true},
		{bundle: "back", verdict: Ignore, alarms: true},
		{bundle: "foreign", verdict: Ignore, alarms: true},
		{bundle: "ErrOld", verdict: Ignore},
		{bundle: "ErrExpired", verdict: Ignore},
		{bundle: "ErrUnknownRoot", verdict: Ignore, pull: true},
		{bundle: "ErrIncomplete", verdict: Ignore, pull: true},
		{bundle: "ErrMalformed", verdict: Reject},
		{bundle: "ErrBadSignature", verdict: Reject},
		{bundle: "ErrRollback", verdict: Ignore, alarms: true},
		{bundle: "ErrFork", verdict: Ignore, alarms: true},
		{bundle: "broken", verdict: Ignore},
	} {
		in := NewInbox(f, head(7, 20, 1))
		d := in.Receive(start, "p", rawBundle(t, c.bundle))
		if d.Verdict != c.verdict || (d.News != nil) != c.news || d.Fresh != c.fresh || d.Pull != c.pull || (d.Alarm != "") != c.alarms {
			t.Errorf("%s: got %+v, want %+v", c.bundle, d, c)
		}
		if (d.Verdict == Accept) != (d.Err == nil) {
			t.Errorf("%s: verdict %s with error %v", c.bundle, d.Verdict, d.Err)
		}
		calls := f.calls
		again := in.Receive(start, "q", rawBundle(t, c.bundle))
		if f.calls != calls {
			t.Errorf("%s: the verifier was asked about a replay", c.bundle)
		}
		if want := c.verdict; (want == Reject) != (again.Verdict == Reject) || again.Verdict == Accept || again.News != nil || again.Alarm != "" {
			t.Errorf("%s: replay got %+v", c.bundle, again)
		}
	}
}

func TestInboxRefusesGarbageWithoutTheVerifier(t *testing.T) {
	f := &fakeVerifier{}
	in := NewInbox(f, Head{})
	for _, raw := range [][]byte{nil, {1, 2, 3}, make([]byte, MaxBundle+1)} {
		if d := in.Receive(start, "p", raw); d.Verdict != Reject || !errors.Is(d.Err, ErrMalformed) {
			t.Errorf("%d bytes: %+v", len(raw), d)
		}
	}
	later := content.Encode([]any{uint64(content.Version + 1), "anything", 1})
	if d := in.Receive(start, "p", later); d.Verdict != Ignore {
		t.Errorf("a bundle of a later program: %+v, want it ignored", d)
	}
	if f.calls != 0 {
		t.Errorf("verifier was called %d times", f.calls)
	}
}

func TestInboxJudgesAgainAfterAPull(t *testing.T) {
	f := &fakeVerifier{heads: map[string]Head{"x": head(1, 1, 1)}, errs: map[string]error{"x": ErrIncomplete}}
	in := NewInbox(f, Head{})
	raw := rawBundle(t, "x")
	if d := in.Receive(start, "p", raw); !d.Pull {
		t.Fatalf("%+v, want a pull", d)
	}
	if d := in.Adopt(head(1, 0, 1)); d.Verdict == Accept { // a timestamp version of zero is nothing new
		t.Fatalf("%+v", d)
	}
	delete(f.errs, "x")
	if d := in.Receive(start, "p", raw); d.News == nil {
		t.Fatalf("%+v, want news", d)
	}
}

func TestInboxLimitsPulls(t *testing.T) {
	f := &fakeVerifier{errs: map[string]error{"x": ErrUnknownRoot}}
	in := NewInbox(f, Head{})
	raw := rawBundle(t, "x")
	got := 0
	for i := range 10 {
		if in.Receive(start, PeerID(fmt.Sprint("p", i)), raw).Pull {
			got++
		}
	}
	if got != MaxPulls {
		t.Errorf("%d pulls at once, want %d", got, MaxPulls)
	}
	later := start.Add(PullWindow)
	if in.Receive(later, "p0", raw).Pull {
		t.Error("a second pull from one peer within PullInterval")
	}
	if !in.Receive(later, "p9", raw).Pull {
		t.Error("no pull from another peer after PullWindow")
	}
	if !in.Receive(start.Add(PullInterval), "p0", raw).Pull {
		t.Error("no pull after PullInterval")
	}
	if s := in.Stats(); s.Pulls != MaxPulls+2 || s.Received != 13 || s.Ignored != 13 {
		t.Errorf("stats %+v", s)
	}
}

func TestInboxFreshness(t *testing.T) {
	f := &fakeVerifier{heads: map[string]Head{"1": head(1, 1, 1), "2": head(2, 5, 2), "3": head(2, 60, 2)}}
	in := NewInbox(f, Head{})
	if in.Lag(start) != 0 || !in.FreshAsOf(1).IsZero() {
		t.Error("an empty inbox is behind or fresh")
	}
	for _, b := range []string{"1", "2", "3"} {
		in.Receive(start, "p", rawBundle(t, b))
	}
	if got, want := in.FreshAsOf(1), start.Add(time.Minute); !got.Equal(want) {
		t.Errorf("release 1 fresh as of %v, want %v", got, want)
	}
	if got, want := in.FreshAsOf(2), start.Add(time.Hour); !got.Equal(want) {
		t.Errorf("release 2 fresh as of %v, want %v", got, want)
	}
	for after, want := range map[time.Duration]int{0: 0, 119 * time.Minute: 0, 2 * time.Hour: 1, 4 * time.Hour: 3} {
		if got := in.Lag(start.Add(after)); got != want {
			t.Errorf("lag after %v is %d, want %d", after, got, want)
		}
	}
}

func TestSeenCacheIsBounded(t *testing.T) {
	in := NewInbox(&fakeVerifier{errs: map[string]error{}}, head(5, 5, 5))
	for i := range 3 * maxSeen {
		in.Receive(start, "p", rawBundle(t, fmt.Sprint(i)))
	}
	if len(in.seen.byKey) != maxSeen || len(in.seen.order) != maxSeen {
		t.Errorf("remembers %d and %d", len(in.seen.byKey), len(in.seen.order))
	}
}

func BenchmarkReplay(b *testing.B) {
	in := NewInbox(&fakeVerifier{}, head(5, 5, 5))
	raw := rawBundle(b, string(make([]byte, 1800)))
	for b.Loop() {
		in.Receive(start, "p", raw)
	}
}
