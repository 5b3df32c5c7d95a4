//go:build unix

package publish

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"swarmnode/content"
	"swarmnode/content/origin"
)

// TestPrior looks paths up in what a listing has said.
func TestPrior(t *testing.T) {
	name := filepath.Join(t.TempDir(), "listing")
	w, err := createSnapshot(name)
	if err != nil {
		t.Fatal(err)
	}
	memo := []byte(`{"a":"b"}`)
	w.addMemo(memo)
	want := map[string]origin.Entry{}
	for i := range 3*stride + 7 {
		e := origin.Entry{Path: fmt.Sprintf("d/%05d", i), Mode: content.ModeFile | 0o644, Size: int64(i) - 1, Mtime: int64(i), Stamp: fmt.Sprint("s", i%7)}
		if i%5 == 0 {
			e.Fetch, e.SHA256, e.Last = "by-hash/x", content.Sum([]byte(e.Path)), true
		}
		f := listed(e)
		w.add(&f, i%2 == 0, i%4 == 0)
		want[e.Path] = e
	}
	if err := w.finish(content.Digest{}, false); err != nil {
		t.Fatal(err)
	}
	s, err := openSnapshot(name)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := s.memo(); err != nil || !bytes.Equal(got, memo) {
		t.Errorf("memo %q, %v", got, err)
	}
	n := 0
	for rec, err := range s.records() {
		if err != nil || rec.entry() != want[rec.Path] || rec.changed != (n%2 == 0) || rec.kept != (n%4 == 0) {
			t.Fatalf("record %d: %+v, %v", n, rec, err)
		}
		n++
	}
	p := &prior{snapshot: s}
	rng := rand.New(rand.NewPCG(1, 1))
	for range 500 {
		path := fmt.Sprintf("d/%05d", rng.IntN(4*stride))
		e, ok := want[path]
		if got, found := p.find(path); found != ok || got != e {
			t.Fatalf("%s: got %+v, %v; want %+v, %v", path, got, found, e, ok)
		}
	}
	for _, path := range []string{"", "a", "z"} {
		if got, found := p.find(path); found {
			t.Errorf("%q: got %+v", path, got)
		}
	}
	p.close()
	if _, found := p.find("d/00001"); found {
		t.Error("something is found after the listing")
	}
}

// TestSeenLog tears the log at each byte: what is before is still there, and it goes on.
func TestSeenLog(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, seenName)
	l, err := openSeen(name)
	if err != nil {
		t.Fatal(err)
	}
	var ends []int64
	for i, rec := range []seenRecord{
		{Path: "a", Offset: 5, Sizes: []uint32{5}, Digests: make([]byte, 32)},
		{Path: "a", Offset: 8, Sizes: []uint32{3}, Digests: bytes.Repeat([]byte{1}, 32), Done: true, Sum: make([]byte, 32)},
		{Path: "b", Done: true, Sum: make([]byte, 32), Sizes: []uint32{}},
	} {
		if err := l.add(rec, i != 1); err != nil {
			t.Fatal(err)
		}
		ends = append(ends, l.end)
	}
	l.close()
	whole, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for n := range len(whole) + 1 {
		if err := os.WriteFile(name, whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		l, err := openSeen(name)
		if err != nil {
			t.Fatal(err)
		}
		a, err := l.read("a")
		if err != nil {
			t.Fatal(err)
		}
		b, err := l.read("b")
		if err != nil || (b != nil) != (int64(n) >= ends[2]) {
			t.Fatalf("%d bytes: b is %+v, %v", n, b, err)
		}
		chunks := 0
		if a != nil {
			chunks = len(a.chunks)
		}
		want := 0
		for _, end := range ends[:2] {
			if int64(n) >= end {
				want++
			}
		}
		if chunks != want || a != nil && a.Done != (want == 2) {
			t.Fatalf("%d bytes: %d chunks, want %d", n, chunks, want)
		}
		if err := l.add(seenRecord{Path: "c", Done: true, Sum: make([]byte, 32)}, true); err != nil {
			t.Fatal(err)
		}
		if c, err := l.read("c"); err != nil || c == nil {
			t.Fatalf("%d bytes: what came after is %+v, %v", n, c, err)
		}
		l.close()
	}
}

// FuzzSeen reads any bytes as a record.
func FuzzSeen(f *testing.F) {
	l, err := openSeen(filepath.Join(f.TempDir(), seenName))
	if err != nil {
		f.Fatal(err)
	}
	if err := l.add(seenRecord{Path: "a", Offset: 5, Sizes: []uint32{5}, Digests: make([]byte, 32)}, true); err != nil {
		f.Fatal(err)
	}
	data, err := os.ReadFile(l.path)
	l.close()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data[len(seenMagic):])
	f.Fuzz(func(t *testing.T, data []byte) {
		rec, n, err := readSeen(bytes.NewReader(data))
		if err == nil && (n > int64(len(data)) || len(rec.list()) != len(rec.Sizes)) {
			t.Fatalf("%+v of %d bytes", rec, n)
		}
	})
}

func TestPullPrepareIsNotLost(t *testing.T) {
	m := newPuller(t, map[string]fakeFile{"a": {text: "1", mtime: 1}, "b": {text: "2", mtime: 1}})
	m.mustPull()
	m.origin.edit(func() { m.origin.put("a", fakeFile{text: "one", mtime: 2}) })
	m.origin.opened()
	m.pub.crash = func(p string) error { return errIf(p == "packed", errors.New("not signed yet")) } // as a prepared one is
	if _, err := m.pull(PullOptions{}); err == nil {
		t.Fatal("it was signed")
	}
	m.pub.crash = func(string) error { return nil }
	m.wantOpened("first", "a@0")
	m.origin.edit(func() { m.origin.put("b", fakeFile{text: "two", mtime: 2}) })
	m.mustPull()
	m.wantOpened("second", "b@0")
	m.wantOrigin()
}

// TestPullAgain makes a release although nothing has changed.
func TestPullAgain(t *testing.T) {
	m := newPuller(t, map[string]fakeFile{"a": {text: "1", mtime: 1}})
	m.origin.cond = true
	m.mustPull()
	res, err := m.pub.Publish(context.Background(), m.now.Add(time.Minute), Options{Again: true}, nil)
	if err != nil || res.Release != 2 || res.Unchanged {
		t.Errorf("release %d, unchanged %v, %v", res.Release, res.Unchanged, err)
	}
	m.wantOrigin()
}

// TestPullWithoutSnapshot believes no stamp, but what the metadata promise.
func TestPullWithoutSnapshot(t *testing.T) {
	m := newPuller(t, map[string]fakeFile{"a": {text: "1", mtime: 1}, "b.deb": {text: "2", mtime: 1, signed: true}, "l": {link: "a"}})
	m.origin.cond = true
	m.mustPull()
	m.origin.opened()
	if err := os.WriteFile(filepath.Join(m.dir, "publish", snapshotName), []byte("rubbish"), 0o600); err != nil {
		t.Fatal(err)
	}
	if res := m.mustPull(); !res.Unchanged {
		t.Errorf("got %+v, want nothing changed", res)
	}
	m.wantOpened("without a snapshot", "a@0")
	if res := m.mustPull(); !res.Unchanged || res.Pulled.Files != 0 {
		t.Errorf("with a new one: %+v", res)
	}
}

// TestPullLosesTheIndex fills the index again from the last release.
func TestPullLosesTheIndex(t *testing.T) {
	m := newPuller(t, map[string]fakeFile{"a": {text: "1", mtime: 1}, "b.iso": {text: string(random(3, 3<<20)), mtime: 1}})
	m.mustPull()
	m.origin.edit(func() { m.origin.remove("a"); m.origin.put("c", fakeFile{text: "3", mtime: 1}) })
	m.mustPull()
	m.close()
	if err := os.RemoveAll(filepath.Join(m.dir, "index")); err != nil {
		t.Fatal(err)
	}
	m.open()
	if res := m.mustPull(); !res.Unchanged {
		t.Errorf("got %+v, want nothing changed", res)
	}
	m.wantOrigin()
}

// TestPullGivesRoomBack replaces content and lets it go after the grace time.
func TestPullGivesRoomBack(t *testing.T) {
	m := newPuller(t, map[string]fakeFile{"a.deb": {text: string(random(1, 3<<20)), mtime: 1}, "b.deb": {text: string(random(2, 3<<20)), mtime: 1}, "keep": {text: "k", mtime: 1}})
	m.mustPull()
	first := m.contents()
	m.origin.edit(func() { m.origin.put("a.deb", fakeFile{text: string(random(3, 1<<20)), mtime: 2}) })
	m.mustPull()
	second := m.contents()
	clean := func(d time.Duration) int64 {
		t.Helper()
		if err := m.pub.Clean(m.now.Add(d), testGrace); err != nil {
			t.Fatal(err)
		}
		return m.arrivals.Used()
	}
	if used := clean(testGrace - time.Second); used < 7<<20 {
		t.Errorf("%d bytes are left within the grace time, want 7 MiB", used)
	}
	m.wantContents(first)
	if used := clean(testGrace); used > 5<<20 {
		t.Errorf("%d bytes are left after it, want 4 MiB", used)
	}
	m.wantContents(second)
	m.origin.edit(func() { m.origin.remove("b.deb"); m.origin.put("keep", fakeFile{text: "kept", mtime: 2}) })
	m.mustPull()
	clean(testGrace)
	if n, err := m.arrivals.Numbers(); err != nil || slices.Contains(n, 0) {
		t.Errorf("segments %v are here, %v; want the first one gone", n, err)
	}
	m.wantOrigin()
	if st := m.refs.Stats(); st.Bad != 0 {
		t.Errorf("%d chunks were bad", st.Bad)
	}
}

// TestCleanWorksBesideAFetch: what is past its grace gives its room back while a run fetches, and not when it makes a release.
func TestCleanWorksBesideAFetch(t *testing.T) {
	m := newPuller(t, map[string]fakeFile{"a.deb": {text: string(random(1, 3<<20)), mtime: 1}, "b.deb": {text: string(random(2, 3<<20)), mtime: 1}})
	m.mustPull()
	m.origin.edit(func() { m.origin.put("a.deb", fakeFile{text: string(random(3, 1<<20)), mtime: 2}) })
	m.mustPull()
	clean := func() int64 {
		before := m.arrivals.Used()
		if err := m.pub.Clean(m.now.Add(testGrace), testGrace); err != nil {
			t.Error(err)
		}
		return before - m.arrivals.Used()
	}
	freed := int64(0)
	m.origin.edit(func() {
		m.origin.put("c.deb", fakeFile{text: string(random(1, 3<<20)), mtime: 3}) // as what goes meanwhile
		m.origin.onOpen = func(string, int) error { freed += clean(); return nil }
	})
	m.pub.crash = func(point string) error {
		if n := clean(); n != 0 && point != "fetched" {
			t.Errorf("%d bytes are freed at %s", n, point)
		}
		return nil
	}
	m.mustPull()
	m.wantOrigin()
	if freed < 3<<20 {
		t.Errorf("%d bytes are freed while something is fetched, want 3 MiB", freed)
	}
}

// TestPullVoidsTornBytes fails over and over on an origin that never holds still: what is of no use does not pile up.
func TestPullVoidsTornBytes(t *testing.T) {
	m := newPuller(t, map[string]fakeFile{"good.deb": {text: string(random(9, 1<<20)), mtime: 1}})
	n := 0
	m.origin.onList = func(int) error {
		n++
		m.origin.put("log.deb", fakeFile{text: string(random(byte(n), 2<<20)), mtime: int64(n)})
		return nil
	}
	for range 4 {
		var unsettled *UnsettledError
		if _, err := m.pull(PullOptions{}); !errors.As(err, &unsettled) || unsettled.Path != "log.deb" {
			t.Fatalf("got %v", err)
		}
	}
	if used := m.arrivals.Used(); used > 8<<20 {
		t.Errorf("%d bytes after 4 runs of 3 rounds, want those of one run", used)
	}
	m.origin.opened()
	m.origin.onList = nil
	m.mustPull()
	m.wantOrigin()
	m.wantOpened("at last", "log.deb@0")
}

func TestPullAtARate(t *testing.T) {
	m := newPuller(t, map[string]fakeFile{"a.deb": {text: string(random(1, 300<<10)), mtime: 1}})
	if _, err := m.pull(PullOptions{Rate: 8 << 20}); err != nil {
		t.Fatal(err)
	}
	m.wantOrigin()
	ctx, cancel := context.WithCancel(context.Background())
	m.origin.edit(func() {
		m.origin.put("a.deb", fakeFile{text: string(random(2, 300<<10)), mtime: 2})
		m.origin.onOpen = func(string, int) error { cancel(); return nil }
	})
	if _, err := m.pub.Publish(ctx, m.now, Options{PullOptions: PullOptions{Rate: 1}}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("at one byte a second, cancelled: %v", err)
	}
}

// TestPullOverABadLine gets a file although the connection is cut after each part of it.
func TestPullOverABadLine(t *testing.T) {
	m := newPuller(t, map[string]fakeFile{"a.deb": {text: string(random(1, 12<<20)), mtime: 1}})
	m.origin.cut["a.deb"] = 1<<20 + 5
	m.mustPull()
	m.wantOrigin()
	if n := len(m.origin.opened()); n != 12 {
		t.Errorf("opened %d times, want once for each part", n)
	}
}
