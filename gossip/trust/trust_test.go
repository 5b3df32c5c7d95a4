package trust

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"swarmnode/content"
	"swarmnode/gossip"
)

// start is when the tests begin.
var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// publisher is a collection under test with its directories.
type publisher struct {
	t      testing.TB
	dir    string
	life   Lifetimes
	keys   *Keys
	signer *Signer
}

func newPublisher(t testing.TB, life Lifetimes) *publisher {
	t.Helper()
	p := &publisher{t: t, dir: t.TempDir(), life: life}
	if _, _, err := Init(filepath.Join(p.dir, "keys"), start, life); err != nil {
		t.Fatal(err)
	}
	p.reopen()
	return p
}

func (p *publisher) reopen() {
	p.t.Helper()
	var err error
	if p.keys, err = OpenKeys(filepath.Join(p.dir, "keys")); err != nil {
		p.t.Fatal(err)
	}
	if p.signer, err = OpenSigner(p.keys, filepath.Join(p.dir, "signer"), p.life); err != nil {
		p.t.Fatal(err)
	}
}

// twin is the same publisher as it is now, from a backup.
func (p *publisher) twin() *publisher {
	p.t.Helper()
	q := &publisher{t: p.t, dir: filepath.Join(p.t.TempDir(), "copy"), life: p.life}
	if err := os.CopyFS(q.dir, os.DirFS(p.dir)); err != nil {
		p.t.Fatal(err)
	}
	q.reopen()
	return q
}

func release(number uint64, what string) Release {
	return Release{Name: "debian", Number: number, Manifest: content.Sum([]byte(what)), Size: 100, Bytes: 1000, Files: 10}
}

func (p *publisher) sign(now time.Time, number uint64, what string) gossip.Bundle {
	p.t.Helper()
	b, err := p.signer.Sign(now, release(number, what))
	if err != nil {
		p.t.Fatal(err)
	}
	return b
}

func (p *publisher) heartbeat(now time.Time) gossip.Bundle {
	p.t.Helper()
	b, err := p.signer.Heartbeat(now)
	if err != nil {
		p.t.Fatal(err)
	}
	return b
}

// repository is an empty one.
func (p *publisher) repository() *Repository {
	p.t.Helper()
	r, err := Open(p.t.TempDir(), p.keys.ID())
	if err != nil {
		p.t.Fatal(err)
	}
	return r
}

// joined is one that has what the publisher has.
func (p *publisher) joined(now time.Time) *Repository {
	p.t.Helper()
	r := p.repository()
	if err := r.Refresh(context.Background(), now, p.signer.Source); err != nil {
		p.t.Fatal(err)
	}
	return r
}

func reopened(t testing.TB, r *Repository) *Repository {
	t.Helper()
	again, err := Open(r.folder.dir, r.id)
	if err != nil {
		t.Fatal(err)
	}
	return again
}

func TestReleaseTravels(t *testing.T) {
	t.Parallel()
	p := newPublisher(t, Lifetimes{Timestamp: FollowedTimestampLife})
	r := p.repository()
	first := p.sign(start, 1, "one")
	if _, err := r.Verify(start, first); !errors.Is(err, gossip.ErrUnknownRoot) {
		t.Fatalf("Verify without roots = %v, want ErrUnknownRoot", err)
	}
	if err := r.Refresh(context.Background(), start, p.signer.Source); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Verify(start, first); !errors.Is(err, gossip.ErrOld) {
		t.Errorf("the same bundle again = %v, want ErrOld", err)
	}
	later := start.Add(time.Hour)
	raw, err := gossip.EncodeBundle(p.sign(later, 2, "two"))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("a release takes %d bytes", len(raw))
	second, err := gossip.DecodeBundle(raw)
	if err != nil {
		t.Fatal(err)
	}
	got, err := r.Verify(later, second)
	if err != nil {
		t.Fatal(err)
	}
	want := gossip.Head{Collection: p.keys.ID(), Name: "debian", Release: 2, Manifest: content.Sum([]byte("two")), Signed: later,
		Expires: later.Add(FollowedTimestampLife), Root: 1, TimestampVersion: 2, Bytes: 1000, Files: 10}
	for _, h := range []gossip.Head{got, r.Head(), reopened(t, r).Head(), p.signer.Head()} {
		if d := cmp.Diff(want, h); d != "" {
			t.Errorf("head (-want +got):\n%s", d)
		}
	}
	if s := reopened(t, r).Stats(); s != (Stats{}) {
		t.Errorf("stats after reopening = %+v", s)
	}
}

func TestHeartbeat(t *testing.T) {
	t.Parallel()
	p := newPublisher(t, Lifetimes{})
	p.sign(start, 1, "one")
	r := p.joined(start)
	later := start.Add(time.Hour)
	beat := p.heartbeat(later)
	if len(beat.Files) != 1 || beat.Files[timestampFile] == nil {
		t.Fatalf("a heartbeat has %d files, want the timestamp alone", len(beat.Files))
	}
	t.Logf("a heartbeat takes %d bytes", len(beat.Files[timestampFile]))
	h, err := r.Verify(later, beat)
	if err != nil {
		t.Fatal(err)
	}
	if h.Release != 1 || !h.Signed.Equal(later) || h.TimestampVersion != 2 {
		t.Errorf("head = %+v", h)
	}
	// A clock that went back does not make signing times go back.
	if h, err = r.Verify(later, p.heartbeat(start.Add(-time.Hour))); err != nil || !h.Signed.Equal(later) {
		t.Errorf("after the publisher's clock went back: %v, %v", h.Signed, err)
	}
}

func TestRenewal(t *testing.T) {
	t.Parallel()
	p := newPublisher(t, Lifetimes{Timestamp: FollowedTimestampLife, Others: 300 * day})
	p.sign(start, 1, "one")
	r := p.joined(start)
	for now := start; now.Before(start.Add(1000 * day)); now = now.Add(30 * day) {
		if _, err := r.Verify(now, p.heartbeat(now)); err != nil {
			t.Fatalf("after %s: %v", now.Sub(start), err)
		}
	}
	if v := p.keys.RootVersion(); v < 4 || v > 7 {
		t.Errorf("root version after 1000 days of a life of 300 = %d", v)
	}
	if got := p.joined(start.Add(1000 * day)).Head(); got.Release != 1 {
		t.Errorf("late joiner's head = %+v", got)
	}
}

func TestLateJoinerThroughRotations(t *testing.T) {
	t.Parallel()
	p := newPublisher(t, Lifetimes{})
	p.sign(start, 1, "one")
	early := p.joined(start)
	for i, roles := range [][]string{{roleRoot, roleTimestamp, roleRelease}, {roleRoot, roleSnapshot, roleTargets}} {
		if err := p.keys.Rotate(start, p.life, roles...); err != nil {
			t.Fatal(err)
		}
		p.sign(start, uint64(i+2), "more")
		p.reopen()
	}
	r := p.joined(start)
	if h := r.Head(); h.Release != 3 || r.set.rootVersion() != 3 {
		t.Fatalf("late joiner: release %d, root %d, want 3 and 3", h.Release, r.set.rootVersion())
	}
	var names []string
	files, _ := os.ReadDir(r.folder.dir)
	for _, f := range files {
		names = append(names, f.Name())
	}
	want := "1.root.json 2.root.json 3.release.json 3.root.json 3.snapshot.json 3.targets.json state.json timestamp.json"
	if got := strings.Join(names, " "); got != want {
		t.Errorf("files = %s, want %s", got, want)
	}
	// The one that slept through both hears the newest bundle: it does not know the keys and is not to blame anybody.
	beat := p.heartbeat(start)
	if _, err := early.Verify(start, beat); !errors.Is(err, gossip.ErrUnknownRoot) {
		t.Errorf("Verify two roots behind = %v, want ErrUnknownRoot", err)
	}
	if err := early.Refresh(context.Background(), start, r.source); err != nil {
		t.Fatal(err)
	}
	if h, err := early.Verify(start, beat); err != nil || h.Release != 3 {
		t.Errorf("after the roots were pulled: release %d, %v", h.Release, err)
	}
	if h := reopened(t, early).Head(); h.Release != 3 {
		t.Errorf("reopened at release %d, want 3", h.Release)
	}
}

func (r *Repository) source(_ context.Context, name string, _ int64) ([]byte, error) {
	return r.File(name)
}

func TestRotationInOneBundle(t *testing.T) {
	t.Parallel()
	p := newPublisher(t, Lifetimes{})
	p.sign(start, 1, "one")
	r := p.joined(start)
	if err := p.keys.Rotate(start, p.life, roleTimestamp); err != nil {
		t.Fatal(err)
	}
	if h, err := r.Verify(start, p.heartbeat(start)); err != nil || h.TimestampVersion != 2 {
		t.Errorf("heartbeat with its new root: %+v, %v", h, err)
	}
	if _, err := r.Verify(start, p.heartbeat(start)); err != nil {
		t.Error(err)
	}
}

func TestFiles(t *testing.T) {
	t.Parallel()
	p := newPublisher(t, Lifetimes{})
	r := p.repository()
	if _, err := r.File(BundleFile); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("bundle of an empty repository: %v", err)
	}
	p.sign(start, 1, "one")
	r = p.joined(start)
	for _, name := range []string{"1.root.json", "timestamp.json", "1.snapshot.json", "1.targets.json", "1.release.json"} {
		if _, err := r.File(name); err != nil {
			t.Errorf("File(%s): %v", name, err)
		}
	}
	for _, name := range []string{"2.root.json", "../signer.json", "state.json", "", "/etc/passwd"} {
		if _, err := r.File(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("File(%q) = %v, want fs.ErrNotExist", name, err)
		}
	}
	raw, err := r.File(BundleFile)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := gossip.DecodeBundle(raw); err != nil || len(b.Files) != 4 {
		t.Errorf("bundle: %d files, %v", len(b.Files), err)
	}
}

func TestKeyFiles(t *testing.T) {
	t.Parallel()
	p := newPublisher(t, Lifetimes{})
	dir := filepath.Join(p.dir, "keys")
	if info, _ := os.Stat(dir); info.Mode().Perm() != 0o700 {
		t.Errorf("mode of the directory is %v, want 0700", info.Mode())
	}
	for _, role := range roles() {
		if info, err := os.Stat(filepath.Join(dir, keyFile(role))); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v, want 0600", role, info, err)
		}
	}
	if _, _, err := Init(dir, start, p.life); !errors.Is(err, fs.ErrExist) {
		t.Errorf("second Init = %v, want fs.ErrExist", err)
	}
	p.sign(start, 1, "one")
	for _, role := range []string{roleRoot, roleTargets} { // taken to a safe
		if err := os.Remove(filepath.Join(dir, keyFile(role))); err != nil {
			t.Fatal(err)
		}
	}
	p.reopen()
	p.sign(start, 2, "two")
	if err := p.keys.Rotate(start, p.life, roleTimestamp); err == nil {
		t.Error("rotated without the root key")
	}
}

func TestSignRefuses(t *testing.T) {
	t.Parallel()
	p := newPublisher(t, Lifetimes{})
	p.sign(start, 5, "five")
	for name, tc := range map[string]struct {
		r    Release
		want error
	}{
		"same again":    {release(5, "five"), gossip.ErrOld},
		"other content": {release(5, "other"), gossip.ErrOld},
		"smaller":       {release(4, "four"), gossip.ErrOld},
		"zero":          {release(0, "zero"), gossip.ErrOld},
		"slash":         {Release{Name: "a/b", Number: 6, Manifest: content.Sum(nil), Size: 1}, errName},
	} {
		if _, err := p.signer.Sign(start, tc.r); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
	}
	q := newPublisher(t, Lifetimes{})
	if _, err := q.signer.Heartbeat(start); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("heartbeat without a release = %v", err)
	}
}

func TestAdopt(t *testing.T) {
	t.Parallel()
	p := newPublisher(t, Lifetimes{})
	lost := p.twin()
	p.sign(start, 1, "one")
	p.sign(start, 2, "two")
	p.heartbeat(start)
	r := p.joined(start)
	if err := lost.signer.Adopt(r); err != nil {
		t.Fatal(err)
	}
	lost.reopen()
	if _, err := lost.signer.Sign(start, release(2, "other two")); !errors.Is(err, gossip.ErrOld) {
		t.Errorf("signed release 2 again: %v", err)
	}
	if h, err := r.Verify(start, lost.sign(start, 3, "three")); err != nil || h.Release != 3 {
		t.Errorf("release after adoption: %+v, %v", h, err)
	}
}

func TestClaims(t *testing.T) {
	t.Parallel()
	p := newPublisher(t, Lifetimes{})
	p.sign(start, 1, "one")
	other := newPublisher(t, Lifetimes{})
	other.sign(start, 1, "one")
	r := p.joined(start)
	good := p.signer.Claim("12D3KooWpeer", start)
	change := func(f func(*gossip.Claim)) gossip.Claim { c := good; f(&c); return c }
	for name, tc := range map[string]struct {
		c    gossip.Claim
		now  time.Time
		want error
	}{
		"good":             {good, start, nil},
		"expired":          {good, start.Add(MaxClaimLife + time.Second), gossip.ErrExpired},
		"another peer":     {change(func(c *gossip.Claim) { c.Peer = "12D3KooWthief" }), start, gossip.ErrBadSignature},
		"longer":           {change(func(c *gossip.Claim) { c.Expires++ }), start, gossip.ErrBadSignature},
		"far too long":     {change(func(c *gossip.Claim) { c.Expires = 1 << 60 }), start, gossip.ErrMalformed},
		"another name":     {change(func(c *gossip.Claim) { c.Name = "x" }), start, gossip.ErrBadSignature},
		"stranger":         {change(func(c *gossip.Claim) { c.KeyID = other.keys.first(roleRelease).id }), start, gossip.ErrBadSignature},
		"other collection": {other.signer.Claim("12D3KooWpeer", start), start, gossip.ErrMalformed},
	} {
		if err := r.VerifyClaim(tc.now, tc.c); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
	}
	if err := p.repository().VerifyClaim(start, good); !errors.Is(err, gossip.ErrIncomplete) {
		t.Errorf("empty repository: %v, want ErrIncomplete", err)
	}
}

// TestConcurrentUse is for the race detector: gossip, serving and refreshing at once.
func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	p := newPublisher(t, Lifetimes{})
	p.sign(start, 1, "one")
	r := p.joined(start)
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for range 3 {
				b, err := p.signer.Heartbeat(start)
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := r.Verify(start, b); err != nil && !errors.Is(err, gossip.ErrOld) {
					t.Error(err)
				}
				if err := r.Refresh(t.Context(), start, p.signer.Source); err != nil {
					t.Error(err)
				}
				if _, err := r.File(BundleFile); err != nil || r.Head().Release != 1 {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}
