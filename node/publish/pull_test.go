//go:build unix

package publish

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"swarmnode/content"
	"swarmnode/content/origin"
	"swarmnode/content/store"
	"swarmnode/gossip"
)

// newPuller is a master that publishes an origin.
func newPuller(t testing.TB, files map[string]fakeFile) *master {
	base := t.TempDir()
	m := &master{t: t, dir: filepath.Join(base, "state"), tree: filepath.Join(base, "arrivals"), now: later(), origin: newFake(files)}
	if err := os.MkdirAll(m.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	m.initKeys()
	m.open()
	t.Cleanup(m.close)
	return m
}

// pull publishes with options.
func (m *master) pull(o PullOptions) (Result, error) {
	m.t.Helper()
	m.now = m.now.Add(time.Minute)
	res, err := m.pub.Publish(context.Background(), m.now, Options{PullOptions: o, ScanOptions: ScanOptions{AllowEmpty: true}}, nil)
	res.Bundle = gossip.Bundle{} // long
	return res, err
}

func (m *master) mustPull() Result {
	m.t.Helper()
	res, err := m.pull(PullOptions{AllowShrink: true})
	if err != nil {
		m.t.Fatalf("publish: %v", err)
	}
	return res
}

// wantOrigin compares the release with the origin the dumb way: every byte through the references, all totals and dead chunks
// counted, and the delta applied.
func (m *master) wantOrigin() {
	m.t.Helper()
	man := m.manifest()
	infos, err := content.LoadDirectory(man.Directory, m.pack)
	if err != nil {
		m.t.Fatal(err)
	}
	used := dying{}
	var totals content.Totals
	var got []string
	err = content.Walk(man.Tree, m.pack, "", func(e content.Entry) error {
		totals.Add(e)
		got = append(got, e.Path)
		f := m.origin.files[e.Path]
		if want := f.entry(e.Path); e.Mode != want.Mode || e.Target != want.Target {
			m.t.Errorf("%s: mode %o to %q, want %o to %q", e.Path, e.Mode, e.Target, want.Mode, want.Target)
		}
		if !e.IsFile() {
			return nil
		}
		runs, err := content.EntryRuns(e, m.pack)
		if err != nil {
			return err
		}
		used.add(runs)
		data, err := m.bytes(runs)
		if string(data) != f.text || content.Sum(data) != e.SHA256 || uint64(len(data)) != e.Size {
			m.t.Errorf("%s: the release has %d bytes, the origin %d other ones", e.Path, len(data), len(f.text))
		}
		if !f.silent && e.Mtime < f.mtime {
			m.t.Errorf("%s: mtime %d, want at least %d", e.Path, e.Mtime, f.mtime)
		}
		return err
	})
	if err != nil {
		m.t.Fatal(err)
	}
	if want := m.origin.paths(); !slices.Equal(got, want) || totals != man.Totals {
		m.t.Errorf("release %d: %q with totals %+v; want %q with %+v", man.Release, got, man.Totals, want, totals)
	}
	m.checkDead(man, infos, used)
	m.checkDelta(man)
}

// bytes reads chunks through the references.
func (m *master) bytes(runs []content.Run) (data []byte, err error) {
	for _, r := range runs {
		for i := r.First; i < r.First+r.Count; i++ {
			c, err := m.refs.Chunk(content.Ref{Segment: r.Segment, Index: i}, nil)
			if err != nil {
				return nil, fmt.Errorf("chunk %d of segment %d: %w", i, r.Segment, err)
			}
			data = append(data, c...)
		}
	}
	return data, nil
}

func (m *master) wantOpened(why string, want ...string) {
	m.t.Helper()
	if got := m.origin.opened(); !slices.Equal(got, want) {
		m.t.Errorf("%s: opened %q, want %q", why, got, want)
	}
}

func TestPull(t *testing.T) {
	big := string(random(1, 5<<20))
	m := newPuller(t, map[string]fakeFile{
		"a/one": {text: "1", mtime: 1000}, "a/same": {text: "1", mtime: 1001}, "a/empty": {mtime: 5}, "image.iso": {text: big, mtime: 7, vague: true},
		"x.deb": {text: string(random(2, 3<<20)), mtime: 8, signed: true}, "link": {link: "a/one", mtime: 3}, "d": {dir: true}, "run": {text: "#!", mode: 0o755, silent: true},
	})
	var stages []string
	res, err := m.pub.Publish(context.Background(), m.now, Options{}, func(p Progress) {
		if !slices.Contains(stages, p.Stage) {
			stages = append(stages, p.Stage)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	res.Bundle = gossip.Bundle{}
	m.wantOrigin()
	if res.Release != 1 || res.Unchanged || res.Segments != 1 || res.NewBytes != 8<<20+3 || res.Pulled.Files != 6 || res.Pulled.Rounds != 2 || res.Pulled.Bytes != 8<<20+4 {
		t.Errorf("first release: %+v", res)
	}
	if want := []string{"list", "fetch", "tree", "sign"}; !slices.Equal(stages, want) {
		t.Errorf("stages %q, want %q", stages, want)
	}
	m.wantOpened("first run", "a/empty@0", "a/one@0", "a/same@0", "image.iso@0", "run@0", "x.deb@0")
	if e := m.entry("run"); e.Mtime != m.now.Unix() {
		t.Errorf("a file without a time has %d, want that of the run, %d", e.Mtime, m.now.Unix())
	}
	if e := m.entry("a/one"); e.Mtime != 1000 {
		t.Errorf("a file has the time %d, want that of the origin", e.Mtime)
	}
	m.close()
	m.open()
	if res = m.mustPull(); !res.Unchanged || res.Release != 1 || res.Pulled.Rounds != 1 {
		t.Errorf("nothing changed: %+v", res)
	}
	m.wantOpened("nothing changed")
	m.origin.edit(func() {
		m.origin.put("image.iso", fakeFile{text: big[:2<<20] + "inserted" + big[2<<20:], mtime: 9})
		m.origin.put("run", fakeFile{text: "#!", mode: 0o700, silent: true}) // the stamp is the same
		m.origin.remove("x.deb")
	})
	res = m.mustPull()
	m.wantOrigin()
	m.wantOpened("two changed", "image.iso@0")
	if res.Release != 2 || res.NewBytes > 2<<20 || res.DeadBytes < 3<<20 || res.DeltaBytes == 0 || res.DeltaBytes > 4096 {
		t.Errorf("second release: %+v", res)
	}
}

func TestPullAsksOnceIfNothingChanged(t *testing.T) {
	m := newPuller(t, map[string]fakeFile{"a": {text: "1", mtime: 1}, "b": {text: "2", mtime: 1, plain: true}})
	m.origin.cond = true
	if res := m.mustPull(); res.Pulled.Rounds != 2 {
		t.Errorf("first run: %+v", res.Pulled)
	}
	m.origin.opened()
	for range 2 {
		if res := m.mustPull(); !res.Unchanged || res.Pulled.Rounds != 1 || res.Pulled.Requests != 1 {
			t.Errorf("nothing changed: %+v", res)
		}
		m.wantOpened("nothing changed")
		m.close()
		m.open()
	}
	m.origin.edit(func() { m.origin.put("a", fakeFile{text: "one", mtime: 2}) })
	m.mustPull()
	m.wantOrigin()
	m.wantOpened("one changed, and one is vouched for by nothing", "a@0", "b@0")
	// A listing that has changed without a change of the tree is remembered, too.
	m.origin.edit(func() { m.origin.put("a", fakeFile{text: "one", mtime: 3}) })
	if res := m.mustPull(); res.Unchanged {
		t.Errorf("another time: %+v", res)
	}
}

func TestPullResumes(t *testing.T) {
	big := string(random(1, 9<<20))
	for i := range 4 {
		kill, compare := i&1 > 0, i&2 > 0
		t.Run(fmt.Sprint("kill=", kill, " compare=", compare), func(t *testing.T) {
			m := newPuller(t, map[string]fakeFile{"big.deb": {text: big, mtime: 1}, "small": {text: "1", mtime: 1}, "z.iso": {text: big[:2<<20], mtime: 1}})
			m.compare = compare
			m.close()
			m.open()
			m.origin.edit(func() { m.origin.cut["big.deb"] = 5<<20 + 100 })
			if kill {
				m.origin.onOpen = func(_ string, n int) error { return errIf(n > 0, errCut) }
				if _, err := m.pull(PullOptions{Connections: 1}); !errors.Is(err, errCut) || !strings.Contains(err.Error(), "big.deb") {
					t.Fatalf("got %v, want %v", err, errCut)
				}
				m.close()
				m.open()
				m.origin.opened()
				m.origin.onOpen = nil
			}
			res, err := m.pull(PullOptions{Connections: 1})
			if err != nil {
				t.Fatal(err)
			}
			m.wantOrigin()
			want := []string{"big.deb@0", "big.deb@5242880", "small@0", "z.iso@0"}
			if kill {
				want = want[1:]
			}
			m.wantOpened("cut off once", want...)
			if res.NewBytes != 11<<20+1 && res.NewBytes != 9<<20+1+2<<20 {
				t.Errorf("new bytes: %+v", res)
			}
		})
	}
}

// TestPullIsKilled cuts a publish off at each point, changes the origin or not, and publishes again. Nothing that arrived in whole
// is fetched again unless it has changed.
func TestPullIsKilled(t *testing.T) {
	crash := errors.New("crash")
	for _, first := range []bool{true, false} {
		for _, point := range []string{"scanned", "fetched", "segment", "hashed", "tree", "referred", "packed", "signed", "snapshot"} {
			for _, change := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s first=%v change=%v", point, first, change), func(t *testing.T) {
					t.Parallel()
					m := newPuller(t, map[string]fakeFile{"a": {text: "1", mtime: 1}, "b/c": {text: "2", mtime: 1}, "gone": {text: "3", mtime: 1}, "idx": {text: "i", mtime: 1, last: true}})
					release := uint64(1)
					if !first {
						m.mustPull()
						m.origin.edit(func() {
							m.origin.put("b/c", fakeFile{text: "two", mtime: 2})
							m.origin.put("new", fakeFile{text: "4", mtime: 2})
							m.origin.remove("gone")
						})
						release = 2
					}
					m.pub.crash = func(p string) error {
						if p == point {
							return crash
						}
						return nil
					}
					_, err := m.pull(PullOptions{})
					if (err == nil) != (point == "snapshot") || err != nil && !errors.Is(err, crash) {
						t.Fatalf("got %v, want the crash", err)
					}
					m.close()
					m.open()
					m.origin.opened()
					done := point == "signed" || point == "snapshot"
					var want []string
					if change {
						m.origin.edit(func() {
							m.origin.put("a", fakeFile{text: "one", mtime: 9})
							m.origin.put("more", fakeFile{text: "5", mtime: 9})
						})
						want = []string{"a@0", "more@0"}
						if done {
							release++
						}
					}
					res := m.mustPull()
					m.wantOrigin()
					if res.Release != release || res.Unchanged != (done && !change) {
						t.Errorf("release %d, unchanged %v; want %d, %v", res.Release, res.Unchanged, release, done && !change)
					}
					if point != "scanned" {
						m.wantOpened("after the crash", want...)
					}
					if res := m.mustPull(); !res.Unchanged {
						t.Errorf("publishing again: %+v, want nothing changed", res)
					}
				})
			}
		}
	}
}

func TestPullFaults(t *testing.T) {
	files := map[string]fakeFile{"a": {text: "one", mtime: 1}, "b": {text: "two", mtime: 1}, "sub/c": {text: "three", mtime: 1, signed: true}, "idx": {text: "index", mtime: 1, last: true}}
	down := errors.New("no route to host")
	for name, c := range map[string]struct {
		fault func(o *fakeOrigin)
		err   any    // nil: a release comes of it
		says  string // in the error
	}{
		"listing fails":     {func(o *fakeOrigin) { o.onList = func(int) error { return down } }, down, "list fake://origin/"},
		"second list fails": {func(o *fakeOrigin) { o.onList = func(n int) error { return errIf(n > 0, down) } }, down, ""},
		"file fails":        {func(o *fakeOrigin) { o.onOpen = func(p string, _ int) error { return errIf(p == "b", down) } }, down, `"b"`},
		"fails once":        {func(o *fakeOrigin) { o.onOpen = func(_ string, n int) error { return errIf(n == 0, down) } }, nil, ""},
		"busy once": {func(o *fakeOrigin) {
			o.onOpen = func(_ string, n int) error { return errIf(n == 0, &origin.BusyError{}) }
		}, nil, ""},
		"refused": {func(o *fakeOrigin) {
			o.onOpen = func(string, int) error { return &origin.RefusedError{Reason: "no key"} }
		}, new(*origin.RefusedError), "no key"},
		"torn once":      {func(o *fakeOrigin) { o.torn["a"] = true }, nil, ""},
		"always torn":    {func(o *fakeOrigin) { o.onOpen = func(p string, _ int) error { o.torn[p] = true; return nil } }, new(*ChangedError), "changed while it was read"},
		"size lies":      {func(o *fakeOrigin) { o.files["a"] = fakeFile{text: "one", lie: "longer", mtime: 1} }, new(*UnsettledError), "listed with 3 bytes and has 6"},
		"hash lies":      {func(o *fakeOrigin) { o.files["sub/c"] = fakeFile{text: "three", lie: "eerht", signed: true} }, new(*UnsettledError), `"sub/c" (its SHA-256 is`},
		"too much comes": {func(o *fakeOrigin) { o.files["a"] = fakeFile{text: "one", lie: strings.Repeat("x", 9), mtime: 1} }, new(*UnsettledError), "bytes"},
		"grows once":     {func(o *fakeOrigin) { o.onOpen = changeOnce(o, "a", fakeFile{text: "one and more", mtime: 3}) }, nil, ""},
		"gone once":      {func(o *fakeOrigin) { o.onOpen = func(p string, _ int) error { o.remove("b"); return nil } }, nil, ""},
		"promised and gone": {func(o *fakeOrigin) {
			o.onOpen = func(p string, _ int) error { return errIf(p == "sub/c", origin.ErrGone) }
		}, new(*UnsettledError), "gone since"},
		"never still": {func(o *fakeOrigin) {
			o.onList = func(n int) error { o.put("a", fakeFile{text: fmt.Sprint("t", n), mtime: int64(n)}); return nil }
		}, new(*UnsettledError), "did not hold still"},
		"changes in between": {func(o *fakeOrigin) {
			o.onList = func(n int) error {
				if n == 1 {
					o.put("b", fakeFile{text: "2", mtime: 5})
					o.put("n", fakeFile{text: "n"})
				}
				return nil
			}
		}, nil, ""},
		"out of order": {func(o *fakeOrigin) { o.files["b/../../x"] = fakeFile{text: "1"} }, content.ErrPath, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newPuller(t, files)
			c.fault(m.origin)
			res, err := m.pull(PullOptions{})
			switch want := c.err.(type) {
			case nil:
				if err != nil {
					t.Fatal(err)
				}
				m.wantOrigin()
				return
			case error:
				if !errors.Is(err, want) {
					t.Errorf("got %+v, %v; want %v", res, err, want)
				}
			default:
				if err == nil || !errors.As(err, want) {
					t.Fatalf("got %+v, %v; want a %T", res, err, want)
				}
			}
			if err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("the error does not say %q: %v", c.says, err)
			}
			if h := m.signer.Head(); h.Release != 0 {
				t.Errorf("release %d was signed", h.Release)
			}
			m.origin.edit(func() { m.origin.onList, m.origin.onOpen, m.origin.files = nil, nil, newFake(files).files })
			m.mustPull()
			m.wantOrigin()
		})
	}
}

func errIf(is bool, err error) error {
	if is {
		return err
	}
	return nil
}

func changeOnce(o *fakeOrigin, path string, f fakeFile) func(string, int) error {
	return func(_ string, n int) error {
		if n == 0 {
			o.put(path, f)
		}
		return nil
	}
}

func TestPullIndexesLast(t *testing.T) {
	m := newPuller(t, map[string]fakeFile{"a/Packages": {text: "p", mtime: 1, last: true}, "z/1.deb": {text: "1", mtime: 1}, "z/2.deb": {text: "2", mtime: 1}})
	if _, err := m.pull(PullOptions{Connections: 1}); err != nil {
		t.Fatal(err)
	}
	if last := m.origin.opens[2]; last != "a/Packages@0" {
		t.Errorf("opened last: %s", last)
	}
	m.origin.edit(func() {
		m.origin.opens = nil
		m.origin.put("a/Packages", fakeFile{text: "pp", mtime: 2, last: true})
		m.origin.put("z/3.deb", fakeFile{text: "3", mtime: 2})
		m.origin.onOpen = func(p string, _ int) error { return errIf(p == "z/3.deb", origin.ErrGone) }
	})
	res, err := m.pull(PullOptions{})
	if err == nil { // a file of nobody's metadata that stays gone is left out, but the index comes after the listing that says so
		m.origin.remove("z/3.deb")
		m.wantOrigin()
	}
	if err != nil || len(res.Skipped) != 1 || res.Pulled.Rounds < 3 {
		t.Errorf("got %+v, %v", res, err)
	}
}

func TestPullUnreadable(t *testing.T) {
	m := newPuller(t, map[string]fakeFile{"a": {text: "1", mtime: 1}, "secret": {text: "2", mtime: 1}})
	denied := fmt.Errorf("403 Forbidden: %w", fs.ErrPermission)
	m.origin.onOpen = func(p string, _ int) error { return errIf(p == "secret", denied) }
	var refused *ScanError
	if _, err := m.pull(PullOptions{Strict: true}); !errors.As(err, &refused) || !strings.Contains(err.Error(), "secret") {
		t.Errorf("strict: got %v", err)
	}
	for i := range 2 {
		res, err := m.pull(PullOptions{})
		if err != nil || len(res.Skipped) != 1 || res.Totals.Files != 1 || res.Unchanged != (i == 1) {
			t.Fatalf("run %d: got %+v, %v", i, res, err)
		}
	}
	m.origin.onOpen = nil
	m.mustPull()
	m.wantOrigin()
	m.origin.edit(func() {
		m.origin.put("secret", fakeFile{text: "new", mtime: 5})
		m.origin.onOpen = func(p string, _ int) error { return errIf(p == "secret", denied) }
	})
	if _, err := m.pull(PullOptions{}); !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "--exclude") {
		t.Errorf("a file that was readable before: got %v", err)
	}
	m.origin.onOpen = nil
	m.origin.bad = []origin.Bad{{Path: "x\ny", Err: errors.New("a bad name")}}
	if res, err := m.pull(PullOptions{}); err != nil || len(res.Skipped) != 1 {
		t.Errorf("a bad name: got %+v, %v", res, err)
	}
	if _, err := m.pull(PullOptions{Strict: true}); !errors.As(err, &refused) {
		t.Errorf("a bad name, strict: got %v", err)
	}
}

func TestPullShrinks(t *testing.T) {
	files := map[string]fakeFile{}
	for i := range 30 {
		files[fmt.Sprint("d/", i)] = fakeFile{text: fmt.Sprint(i), mtime: 1}
	}
	m := newPuller(t, files)
	m.mustPull()
	m.origin.edit(func() {
		for i := range 16 {
			m.origin.remove(fmt.Sprint("d/", i))
		}
	})
	var shrink *ShrinkError
	if _, err := m.pull(PullOptions{}); !errors.As(err, &shrink) || shrink.Had != 30 || shrink.Gone != 16 {
		t.Fatalf("got %v", err)
	}
	if m.signer.Head().Release != 1 {
		t.Error("a shrunk listing was published")
	}
	if res, err := m.pull(PullOptions{AllowShrink: true}); err != nil || res.Totals.Files != 14 {
		t.Errorf("got %+v, %v", res, err)
	}
	m.wantOrigin()
	m.origin.edit(func() {
		for i := 16; i < 26; i++ {
			m.origin.remove(fmt.Sprint("d/", i))
		}
	})
	if _, err := m.pull(PullOptions{}); err != nil {
		t.Errorf("a handful: %v", err)
	}
}

func TestPullBudget(t *testing.T) {
	m := newPuller(t, map[string]fakeFile{"a.deb": {text: string(random(1, 2<<20)), mtime: 1}, "b.deb": {text: string(random(2, 3<<20)), mtime: 1}})
	m.close()
	m.budget = 4 << 20
	m.open()
	var full *store.BudgetError
	if _, err := m.pull(PullOptions{}); !errors.As(err, &full) || full.Need != 5<<20 || full.Free != 4<<20 || !strings.Contains(err.Error(), "--disk") {
		t.Errorf("got %v", err)
	}
	m.wantOpened("too large")
	m.origin.edit(func() {
		for p, f := range m.origin.files {
			f.vague = true
			m.origin.files[p] = f
		}
	})
	if _, err := m.pull(PullOptions{}); !errors.As(err, &full) {
		t.Errorf("found out while fetching: got %v", err)
	}
	m.close()
	m.budget = 6 << 20
	m.open()
	m.mustPull()
	m.wantOrigin()
}

// TestPullOnceMoreWithoutRoom: a file that is read again only because it had just been written fits where it is already, in the same
// run and in the next one. One that has changed does not.
func TestPullOnceMoreWithoutRoom(t *testing.T) {
	m := newPuller(t, map[string]fakeFile{"a.deb": {text: string(random(1, 3<<20)), mtime: 1, young: true}})
	m.close()
	m.budget = 4 << 20
	m.open()
	m.origin.onList = func(n int) error {
		if n == 1 { // the file has been fetched meanwhile
			m.origin.put("a.deb", fakeFile{text: m.origin.files["a.deb"].text, mtime: 1})
		}
		return nil
	}
	m.mustPull()
	m.wantOpened("grown old meanwhile", "a.deb@0", "a.deb@0")
	m.origin.onList = nil
	m.origin.edit(func() { m.origin.put("a.deb", fakeFile{text: m.origin.files["a.deb"].text, mtime: 1, young: true}) })
	m.mustPull()
	m.wantOpened("in the next run", "a.deb@0")
	m.wantOrigin()
	m.origin.edit(func() { m.origin.put("a.deb", fakeFile{text: string(random(2, 3<<20)), mtime: 2}) })
	var full *store.BudgetError
	if _, err := m.pull(PullOptions{}); !errors.As(err, &full) || full.Need != 3<<20 {
		t.Errorf("got %v", err)
	}
	m.wantOpened("another one")
}

// TestPullRandomHistory makes releases of an origin that changes at random, also while it is read, with faults and kills, and checks
// each against the origin. What was replaced less than the grace time ago can be read.
func TestPullRandomHistory(t *testing.T) {
	seeds, steps := uint64(4), 12
	if os.Getenv("SWARMNODE_E2E") == "1" {
		seeds, steps = 20, 40
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(seed, 1))
			m := newPuller(t, nil)
			m.origin.cond = seed%2 == 0
			var past []*contents
			for step := range steps {
				m.origin.edit(func() { randomOrigin(m.origin, rng, step) })
				m.faults(rng, step)
				cleaned := m.cleanBeside(rng)
				head := m.signer.Head().Release
				_, err := m.pull(PullOptions{AllowShrink: true, Connections: 1 + rng.IntN(4)})
				cleaned()
				m.origin.edit(func() { m.origin.onList, m.origin.onOpen = nil, nil; clear(m.origin.cut); clear(m.origin.torn) })
				if rng.IntN(3) == 0 {
					m.close()
					m.open()
				} else {
					m.pub.crash = func(string) error { return nil }
				}
				if err != nil && m.signer.Head().Release != head && !strings.Contains(err.Error(), "crash") {
					t.Fatalf("an error and a release: %v", err)
				}
				if _, err = m.pull(PullOptions{AllowShrink: true}); err != nil {
					t.Fatal(err)
				}
				m.wantOrigin()
				if m.signer.Head().Release != head {
					for i := range past {
						if past[i].gone.IsZero() {
							past[i].gone = m.now
						}
					}
					past = append(past, m.contents())
				}
				m.now = m.now.Add(time.Duration(rng.IntN(12)) * time.Hour)
				if rng.IntN(2) == 0 {
					if err := m.pub.Clean(m.now, testGrace); err != nil {
						t.Fatal(err)
					}
				}
				for _, c := range past {
					if c.gone.IsZero() || m.now.Sub(c.gone) < testGrace {
						m.wantContents(c)
					}
				}
			}
			if err := m.pub.Clean(m.now.Add(testGrace), testGrace); err != nil {
				t.Fatal(err)
			}
			m.wantOrigin()
			if res := m.mustPull(); !res.Unchanged && !m.unvouched() {
				t.Errorf("at the end: %+v", res)
			}
		})
	}
}

// cleanBeside has Clean called over and over, or not, until the function that it gives is called. What is past its grace then was so when
// it began.
func (m *master) cleanBeside(rng *rand.Rand) (end func()) {
	if rng.IntN(2) == 0 {
		return func() {}
	}
	pub, now, stop, ended := m.pub, m.now, make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(time.Millisecond) // without a pause it has a processor for itself
		defer tick.Stop()
		for {
			if err := pub.Clean(now, testGrace); err != nil {
				m.t.Errorf("clean beside a run: %v", err)
			}
			select {
			case <-stop:
				return
			case <-tick.C:
			}
		}
	}()
	return func() { close(stop); <-ended }
}

// unvouched reports whether there is a file that no stamp vouches for.
func (m *master) unvouched() bool {
	for _, f := range m.origin.files {
		if f.plain {
			return true
		}
	}
	return false
}

// faults makes the next run fail in some way, or the origin change under it.
func (m *master) faults(rng *rand.Rand, step int) {
	o := m.origin
	n := rng.IntN(8)
	switch rng.IntN(6) {
	case 0:
		o.onOpen = func(string, int) error {
			if n--; n < 0 {
				return errCut
			}
			return nil
		}
	case 1:
		for p := range o.files {
			o.cut[p] = 1 + rng.IntN(1<<20)
		}
	case 2:
		o.onList = func(k int) error { randomOrigin(o, rng, 100+step); return nil }
	case 3:
		once := true
		o.onOpen = func(string, int) error {
			if once {
				randomOrigin(o, rng, 200+step)
			}
			once = false
			return nil
		}
	case 4:
		m.pub.crash = func(string) error {
			if n--; n < 0 {
				return errors.New("crash")
			}
			return nil
		}
	}
}

// randomOrigin changes a few of a small number of paths with few different contents.
func randomOrigin(o *fakeOrigin, rng *rand.Rand, step int) {
	for range 1 + rng.IntN(6) {
		name := fmt.Sprintf("%c/%c.%s", 'a'+rng.IntN(3), 'a'+rng.IntN(4), []string{"iso", "deb"}[rng.IntN(2)])
		if f, ok := o.files[name[:1]]; ok && !f.dir {
			o.remove(name[:1])
		}
		switch rng.IntN(6) {
		case 0:
			o.remove(name)
		case 1:
			o.remove(name[:1])
		case 2:
			o.remove(name[:1])
			o.put(name[:1], fakeFile{link: "b", mtime: int64(step)})
		default:
			text := string(random(byte(rng.IntN(3)), []int{0, 10, 5000, 2 << 20}[rng.IntN(4)]))
			o.put(name, fakeFile{text: text, mtime: int64(rng.IntN(1 << 20)), vague: rng.IntN(4) == 0, signed: rng.IntN(4) == 0,
				plain: rng.IntN(8) == 0, silent: rng.IntN(8) == 0, last: rng.IntN(4) == 0})
		}
	}
}
