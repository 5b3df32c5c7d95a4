package export

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"swarmnode/content"
	"swarmnode/content/store"
)

func TestListingRefuses(t *testing.T) {
	dirOf := func(p string) content.Entry { return content.Entry{Path: p, Mode: content.ModeDir | 0o755} }
	empty := func(p string) content.Entry {
		return content.Entry{Path: p, Mode: content.ModeFile | 0o644, SHA256: content.Sum(nil)}
	}
	link := func(p, to string) content.Entry {
		return content.Entry{Path: p, Mode: content.ModeLink | 0o777, Target: to}
	}
	cases := []struct {
		name, strip, want string
		entries           []content.Entry
	}{
		{"order", "", "not in tree order", []content.Entry{empty("b"), empty("a")}},
		{"twice", "", "not in tree order", []content.Entry{empty("a"), empty("a")}},
		{"no directory", "", "in no directory", []content.Entry{empty("a/b")}},
		{"through a symlink", "", "in no directory", []content.Entry{link("a", "b"), empty("a/b")}},
		{"through a file", "", "in no directory", []content.Entry{empty("a"), empty("a/b")}},
		{"another directory", "", "in no directory", []content.Entry{dirOf("a"), empty("ab/c")}},
		{"up", "", "not allowed", []content.Entry{empty("../a")}},
		{"absolute", "", "not allowed", []content.Entry{empty("/a")}},
		{"symlink out", "", "leads out", []content.Entry{link("a", "../b")}},
		{"not below strip", "pool", "is not in", []content.Entry{empty("poo")}},
		{"strip is a file", "pool", "is not in", []content.Entry{empty("pool")}},
		{"our name", "", "name is taken", []content.Entry{dirOf(".SwarmNode-part"), empty(".SwarmNode-part/a")}},
		{"top twice", "p", "not in tree order", []content.Entry{dirOf("p"), empty("p/a"), dirOf("p"), empty("p/a")}},
	}
	for _, c := range cases {
		_, err := NewPlan(t.TempDir(), c.entries, c.strip, nil, nil)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
	if _, err := NewPlan(t.TempDir(), []content.Entry{dirOf("a"), empty("a/" + PartDir)}, "", nil, nil); err != nil {
		t.Errorf("our name further down: got %v", err)
	}
}

func TestBrokenRelease(t *testing.T) {
	p := newPublisher(16)
	good := p.release(map[string]node{"f": file(letters(64, 1))})[0]
	for name, c := range map[string]struct {
		change func(e *content.Entry)
		want   string
	}{
		"too long":      {func(e *content.Entry) { e.Size = 63 }, "its chunks have more"},
		"too short":     {func(e *content.Entry) { e.Size = 65 }, "its chunks have 64"},
		"out of range":  {func(e *content.Entry) { e.Runs = []content.Run{{First: 3, Count: 2}} }, store.ErrOutOfRange.Error()},
		"no such table": {func(e *content.Entry) { e.Runs = []content.Run{{Segment: 9, Count: 4}} }, "no segment 9"},
	} {
		e := good
		c.change(&e)
		plan := p.plan(t, t.TempDir(), []content.Entry{e}, "")
		if _, err := plan.Prepare(context.Background(), nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
		plan.Close()
	}
}

func TestNames(t *testing.T) {
	for name, ok := range map[string]bool{
		"a/b.txt": true, "con.d": false, "d/NUL": false, "d/nul.tar.gz": false, "com1": false, "com10": true, "comma": true, "lpt²": false, "aux .x": false,
		"a\\b": false, "a:b": false, "what?": false, "end.": false, "end /x": false, ".hidden": true, "CONIN$": false, "é": true,
	} {
		if err := checkWindowsPath(name); (err == nil) != ok {
			t.Errorf("%q: got %v, want ok %v", name, err, ok)
		}
	}
	p := newPublisher(16)
	twins := p.release(map[string]node{"d/É.h": file("1"), "d/é.h": file("2")})
	plan := p.plan(t, t.TempDir(), twins, "")
	plan.calls.folds = func(*os.Root) (bool, error) { return true, nil }
	_, err := plan.Prepare(context.Background(), nil)
	if n := (*NameError)(nil); !errors.As(err, &n) || !strings.Contains(err.Error(), "same name") {
		t.Errorf("case twins where case does not count: got %v", err)
	}
	plan.Close()
	root, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if _, err := folds(root); err != nil {
		t.Error(err)
	}
	if names, _ := listDir(root, "."); len(names) > 0 {
		t.Errorf("the probe left %q", names)
	}
}

// TestVanishedPart: when somebody removes a part file under our hands, no file with holes gets a name.
func TestVanishedPart(t *testing.T) {
	p := newPublisher(16)
	dir := t.TempDir()
	plan := p.plan(t, dir, p.release(map[string]node{"f": file(letters(64, 1))}), "")
	defer plan.Close()
	need := prepare(t, plan)
	p.put(t, plan, need[:2])
	if err := os.Remove(filepath.Join(dir, PartDir, partName("f"))); err != nil {
		t.Fatal(err)
	}
	if err := plan.Put(need[2], []byte(p.data[need[2]])); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want %v", err, os.ErrNotExist)
	}
	if need := prepare(t, plan); len(need) != 4 { // and one can start again
		t.Errorf("%d chunks are needed, want 4", len(need))
	}
}

func TestCancel(t *testing.T) {
	p := newPublisher(16)
	entries := p.release(map[string]node{"f": file(letters(64, 1))})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	dir := t.TempDir()
	plan := p.plan(t, dir, entries, "")
	defer plan.Close()
	if _, err := plan.Prepare(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("Prepare: got %v", err)
	}
	p.put(t, plan, prepare(t, plan))
	if err := plan.Finish(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Finish: got %v", err)
	}
	if _, err := Verify(ctx, dir, entries, "", nil); !errors.Is(err, context.Canceled) {
		t.Errorf("Verify: got %v", err)
	}
	finish(t, plan)
}

func TestVerify(t *testing.T) {
	p := newPublisher(16)
	tree := map[string]node{}
	for _, n := range []string{"right", "content", "size", "mode", "time", "missing", "kind", "d/f", "lost/a", "lost/b/c", "asfile/x"} {
		tree[n] = file(letters(40, byte(len(n))))
	}
	tree["link"], tree["link2"] = node{target: "right"}, node{target: "right"}
	entries := p.release(tree)
	dir := t.TempDir()
	p.get(t, dir, entries, "")
	at := func(name string) string { return filepath.Join(dir, name) }
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	write(t, at("content"), strings.ToUpper(letters(40, 7)))
	write(t, at("size"), "x")
	must(os.Chmod(at("mode"), 0o600))
	must(os.Chtimes(at("time"), time.Time{}, time.Unix(5, 0)))
	must(os.Remove(at("missing")))
	must(os.Remove(at("kind")))
	must(os.Symlink("right", at("kind")))
	must(os.Remove(at("link")))
	must(os.Symlink("time", at("link")))
	must(os.RemoveAll(at("lost")))
	must(os.RemoveAll(at("asfile")))
	write(t, at("asfile"), "x")
	write(t, at("d/extra\xff"), "x")
	write(t, at("new/a/b"), "x")
	top := append([]content.Entry{{Mode: content.ModeDir | 0o755}}, entries...)
	got, err := Verify(context.Background(), dir, top, "", nil)
	must(err)
	for _, c := range []struct {
		name      string
		got, want []string
	}{
		{"missing", got.Missing, []string{"asfile/x", "lost", "lost/a", "lost/b", "lost/b/c", "missing"}},
		{"changed", got.Changed, []string{"asfile", "content", "kind", "link", "size"}},
		{"extra", got.Extra, []string{"d/extra\xff", "new"}},
		{"mode", got.WrongMode, []string{"mode"}},
		{"time", got.WrongTime, []string{"time"}},
		{"unreadable", got.Unreadable, nil},
	} {
		if !slices.Equal(c.got, c.want) {
			t.Errorf("%s: got %q, want %q", c.name, c.got, c.want)
		}
	}
	if got.OK() || got.Files != 11 {
		t.Errorf("OK is %v, files %d", got.OK(), got.Files)
	}
	got, err = Verify(context.Background(), dir, entries, "", nil)
	if must(err); !slices.Equal(got.Extra, []string{"d/extra\xff"}) {
		t.Errorf("without the top directory, extra: got %q", got.Extra)
	}
}
