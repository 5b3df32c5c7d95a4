package export

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"swarmnode/content"
	"swarmnode/content/store"
)

func TestGet(t *testing.T) {
	tree := map[string]node{
		"empty":                             file(""),
		"a/one":                             file("one"),
		"a/big":                             {data: letters(5000, 3), mode: 0o755, mtime: 1},
		"a/same as big":                     {data: letters(5000, 3), mode: 0o600, mtime: 2},
		"a/read only":                       {data: "xyz", mode: 0o444, mtime: -5},
		"b/empty dir":                       {dir: true, mode: 0o700},
		"b/locked":                          {dir: true, mode: 0o555},
		"b/locked/file":                     file("in a read-only directory"),
		"b/link":                            {target: "../a/one"},
		"b/dangling":                        {target: "no such file"},
		"odd/a b%20%2F+c":                   file("percent"),
		"odd/ leading and trailing ":        file("spaces"),
		"odd/é ü 日本 \u202e":                 file("utf-8"),
		"odd/-rf":                           file("dash"),
		"odd/back\\slash":                   file("backslash"),
		"odd/" + strings.Repeat("n", 255):   file("long"),
		"case/xt_MARK.h":                    file("upper"),
		"case/xt_mark.h":                    file("lower"),
		"case.x/sorted behind case/x":       file("dot"),
		strings.Repeat("d/", 60) + "bottom": file("deep"),
	}
	if runtime.GOOS != "linux" {
		t.Skip("some of these names are for file systems of Linux")
	}
	p := newPublisher(16)
	entries := p.release(tree)
	dir := filepath.Join(tempDir(t), "new", "target")
	plan := p.plan(t, dir, entries, "")
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Fatalf("NewPlan has made %s", dir)
	}
	var last atomic.Int64
	needed, err := plan.Prepare(context.Background(), func(done, total int64) { last.Store(done) })
	if err != nil {
		t.Fatal(err)
	}
	need := refs(needed)
	if len(need) != len(p.data) {
		t.Errorf("%d chunks are needed, want each of %d once", len(need), len(p.data))
	}
	slices.Reverse(need)
	p.put(t, plan, need)
	finish(t, plan)
	checkTree(t, dir, tree)
	checkNoParts(t, dir)
	s, bytes := plan.Stats(), int64(0)
	for _, c := range p.data {
		bytes += int64(len(c))
	}
	if s.Fetched != bytes || s.ToFetch != bytes || s.Kept != 0 || s.Finished != s.Files || s.Bytes != last.Load() {
		t.Errorf("got %+v and progress %d, want %d bytes fetched", s, last.Load(), bytes)
	}

	// Again: nothing is needed, and what is right is not touched.
	before, _ := os.Stat(filepath.Join(dir, "a/big"))
	if again := p.get(t, dir, entries, ""); len(again) != 0 {
		t.Errorf("the second time %d chunks are needed, want 0", len(again))
	}
	if after, _ := os.Stat(filepath.Join(dir, "a/big")); !os.SameFile(before, after) {
		t.Error("a right file was replaced")
	}
	report, err := Verify(context.Background(), dir, append([]content.Entry{{Mode: content.ModeDir}}, entries...), "", nil)
	if err != nil || !report.OK() || len(report.Extra)+len(report.WrongMode)+len(report.WrongTime) > 0 {
		t.Errorf("Verify: got %+v, %v", report, err)
	}
}

// TestUpdate: a newer release over an older tree needs only the chunks that changed; size and time prove nothing.
func TestUpdate(t *testing.T) {
	p := newPublisher(16)
	old := letters(1600, 1)
	changed := old[:800] + "################" + old[816:]
	dir := t.TempDir()
	p.get(t, dir, p.release(map[string]node{
		"big": file(old), "gone": file("old file"), "kind": file("a file"), "link": {target: "big"},
		"kept": file("kept"), "shrinks": file(letters(400, 9)), "dir": {dir: true, mode: 0o700},
	}), "")
	write(t, filepath.Join(dir, "mine"), "not of the release")
	tree := map[string]node{
		"big": file(changed), "kind": {target: "big"}, "link": file("now a file"), "kept": {data: "kept", mode: 0o600, mtime: 7},
		"shrinks": file(letters(400, 9)[:100]), "dir": {data: "was a directory", mode: 0o644},
		"copy": file(old), // nearly all of it is on disk, if only in a file that is to be replaced
	}
	plan := p.plan(t, dir, p.release(tree), "")
	need := prepare(t, plan)
	var got []string
	for _, r := range need {
		got = append(got, p.data[r])
	}
	// The chunk of "copy" that "big" no longer has is not looked for; the short one at the end of "shrinks" is in its place.
	want := []string{"################", old[800:816], "now a file", "was a directory"}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Fatalf("needed: got %q, want %q", got, want)
	}
	if b, _ := os.ReadFile(filepath.Join(dir, "big")); string(b) != old {
		t.Error("the old file is not whole while the new one is being made")
	}
	p.put(t, plan, need)
	finish(t, plan)
	tree["gone"], tree["mine"] = file("old file"), node{data: "not of the release", mode: 0o644, mtime: 1600000000}
	checkTree(t, dir, tree)
	checkNoParts(t, dir)

	// Same size, same time, other bytes.
	name := filepath.Join(dir, "big")
	info, _ := os.Stat(name)
	if err := os.WriteFile(name, []byte(strings.ToUpper(changed)), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(name, info.ModTime(), info.ModTime()); err != nil {
		t.Fatal(err)
	}
	delete(tree, "gone")
	delete(tree, "mine")
	p.get(t, dir, p.release(tree), "")
	if b, _ := os.ReadFile(name); string(b) != changed {
		t.Error("a changed file of the right size and time was kept")
	}
}

func TestResume(t *testing.T) {
	p := newPublisher(1 << 16)
	tree := map[string]node{"iso": file(letters(40<<16, 1) + strings.Repeat("\x00", 1<<16) + "end"), "small": file("small")}
	entries := p.release(tree)
	dir := t.TempDir()
	plan := p.plan(t, dir, entries, "")
	need := prepare(t, plan)
	half := need[len(need)/2:]
	p.put(t, plan, half)
	if err := plan.Finish(context.Background()); err == nil || !strings.Contains(err.Error(), "still missing") {
		t.Errorf("Finish before the end: got %v", err)
	}
	if err := plan.Close(); err != nil { // all that a kill leaves is the part file
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "iso")); !os.IsNotExist(err) {
		t.Error("a file appeared before it was whole")
	}
	plan = p.plan(t, dir, entries, "")
	if got, want := prepare(t, plan), need[:len(need)/2]; !slices.Equal(got, want) {
		t.Errorf("after a kill: got %v, want %v", got, want)
	}
	if s := plan.Stats(); s.Kept+s.ToFetch != s.Bytes {
		t.Errorf("kept %d, to fetch %d, of %d bytes", s.Kept, s.ToFetch, s.Bytes)
	}
	plan.Close()

	// A chunk of the part file rots, its end is lost.
	part := filepath.Join(dir, PartDir, partName("iso"))
	info, err := os.Stat(part)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(part, info.Size()-5); err != nil {
		t.Fatal(err)
	}
	got := p.get(t, dir, entries, "")
	if len(got) <= len(need)/2 {
		t.Errorf("after the part file was cut: %d chunks are needed, want more than %d", len(got), len(need)/2)
	}
	checkTree(t, dir, tree)
	checkNoParts(t, dir)
}

func TestPutRefuses(t *testing.T) {
	p := newPublisher(16)
	entries := p.release(map[string]node{"f": file(letters(64, 1))})
	plan := p.plan(t, t.TempDir(), entries, "")
	if err := plan.Put(content.Ref{}, nil); !errors.Is(err, errNotOpen) {
		t.Errorf("before Prepare: got %v", err)
	}
	need := prepare(t, plan)
	defer plan.Close()
	for _, c := range []struct {
		ref  content.Ref
		data string
		want error
	}{
		{need[0], p.data[need[1]], store.ErrWrongBytes},
		{need[0], "short", store.ErrWrongBytes},
		{content.Ref{Index: 77}, "x", store.ErrOutOfRange},
	} {
		if err := plan.Put(c.ref, []byte(c.data)); !errors.Is(err, c.want) {
			t.Errorf("Put(%v, %q): got %v, want %v", c.ref, c.data, err, c.want)
		}
	}
}

func TestDiskFull(t *testing.T) {
	p := newPublisher(16)
	tree := map[string]node{"a": file(letters(160, 1)), "b": file(letters(160, 1) + "more")}
	dir := t.TempDir()
	plan := p.plan(t, dir, p.release(tree), "")
	need := prepare(t, plan)
	writes := 0
	plan.calls.writeAt = func(f *os.File, b []byte, off int64) (int, error) {
		if writes++; writes%3 == 0 {
			n, _ := f.WriteAt(b[:len(b)/2], off)
			return n, &os.PathError{Op: "write", Path: f.Name(), Err: syscall.ENOSPC}
		}
		return f.WriteAt(b, off)
	}
	failed := 0
	for _, r := range need {
		err := plan.Put(r, []byte(p.data[r]))
		for ; err != nil; err = plan.Put(r, []byte(p.data[r])) {
			if failed++; !errors.Is(err, store.ErrDiskFull) {
				t.Fatalf("got %v, want %v", err, store.ErrDiskFull)
			}
		}
	}
	if failed == 0 {
		t.Error("no write failed")
	}
	finish(t, plan)
	checkTree(t, dir, tree)

	plan = p.plan(t, t.TempDir(), p.release(tree), "")
	plan.calls.freeSpace = func(string) (int64, bool) { return 100, true }
	_, err := plan.Prepare(context.Background(), nil)
	if b := (*store.BudgetError)(nil); !errors.As(err, &b) || b.Need != 324 || b.Free != 100 {
		t.Errorf("without room: got %v", err)
	}
	if err := plan.Finish(context.Background()); !errors.Is(err, errNotOpen) {
		t.Errorf("Finish after a failed Prepare: got %v", err)
	}
	plan.Close()
}

func TestHostileSymlinks(t *testing.T) {
	outside, dir := t.TempDir(), t.TempDir()
	write(t, filepath.Join(outside, "precious"), "precious")
	p := newPublisher(16)
	tree := map[string]node{"d/f": file(letters(100, 1)), "e/sub/f": file(letters(50, 2)), "f": file("f"), "same": file("precious"), "l": {target: "f"}}
	link := func(target, name string) {
		t.Helper()
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	link(outside, "d")
	link("../../../../../../../../../../../../tmp", "e")
	link(filepath.Join(outside, "precious"), "f")
	link(filepath.Join(outside, "precious"), "same")
	link(filepath.Join(outside, "precious"), "l")
	if err := os.Mkdir(filepath.Join(dir, PartDir), 0o755); err != nil {
		t.Fatal(err)
	}
	link(filepath.Join(outside, "precious"), PartDir+"/"+partName("f"))
	link(filepath.Join(outside, "new"), PartDir+"/"+partName("d/f"))
	p.get(t, dir, p.release(tree), "")
	checkTree(t, dir, tree)
	checkTree(t, outside, map[string]node{"precious": {data: "precious", mode: 0o644, mtime: 1600000000}})

	dir = t.TempDir()
	link(outside, PartDir)
	p.get(t, dir, p.release(tree), "")
	checkTree(t, dir, tree)
	checkTree(t, outside, map[string]node{"precious": {data: "precious", mode: 0o644, mtime: 1600000000}})
}

func TestBadTargets(t *testing.T) {
	p := newPublisher(16)
	entries := p.release(map[string]node{"d/f": file("f")})
	top := t.TempDir()
	write(t, filepath.Join(top, "file"), "x")
	if _, err := NewPlan(filepath.Join(top, "file"), entries, "", p.runs, p.table); err == nil || !strings.Contains(err.Error(), "not a directory") {
		t.Errorf("a file as target: got %v", err)
	}
	if _, err := Verify(context.Background(), filepath.Join(top, "none"), entries, "", nil); !os.IsNotExist(errors.Unwrap(err)) {
		t.Errorf("verify of nothing: got %v", err)
	}
	write(t, filepath.Join(top, "busy/d/f/deeper"), "x")
	plan := p.plan(t, filepath.Join(top, "busy"), entries, "")
	if _, err := plan.Prepare(context.Background(), nil); err == nil || !strings.Contains(err.Error(), "in the way") {
		t.Errorf("a directory in the way: got %v", err)
	}
	plan.Close()
}

// TestLockedTarget: a directory that this user may not write to. Root may write everywhere, so root runs it as nobody.
func TestLockedTarget(t *testing.T) {
	if asNobody(t) {
		return
	}
	p := newPublisher(16)
	entries := p.release(map[string]node{"d/f": file("f")})
	top := t.TempDir()
	if err := os.Mkdir(filepath.Join(top, "locked"), 0o555); err != nil {
		t.Fatal(err)
	}
	plan := p.plan(t, filepath.Join(top, "locked"), entries, "")
	if _, err := plan.Prepare(context.Background(), nil); !errors.Is(err, os.ErrPermission) {
		t.Errorf("a directory that is not ours: got %v", err)
	}
}

func TestBusy(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("directories are not locked on Windows")
	}
	p := newPublisher(16)
	entries := p.release(map[string]node{"f": file("f")})
	dir := t.TempDir()
	first, second := p.plan(t, dir, entries, ""), p.plan(t, dir, entries, "")
	need := prepare(t, first)
	if _, err := second.Prepare(context.Background(), nil); !errors.Is(err, ErrBusy) {
		t.Errorf("got %v, want %v", err, ErrBusy)
	}
	p.put(t, first, need)
	finish(t, first)
	if got := prepare(t, second); len(got) != 0 {
		t.Errorf("%d chunks are needed, want 0", len(got))
	}
	finish(t, second)
}

func TestConcurrentPut(t *testing.T) {
	p := newPublisher(16)
	tree := map[string]node{}
	for i := range 100 {
		tree[fmt.Sprintf("d%d/f%d", i%7, i)] = file(letters(i*13, byte(i%3)))
	}
	dir := t.TempDir()
	plan := p.plan(t, dir, p.release(tree), "")
	need := prepare(t, plan)
	var group sync.WaitGroup
	for w := range 8 {
		group.Go(func() {
			for i := range need { // every chunk comes twice
				if i%4 == w%4 {
					if err := plan.Put(need[i], []byte(p.data[need[i]])); err != nil {
						t.Error(err)
					}
					plan.Stats()
				}
			}
		})
	}
	group.Wait()
	finish(t, plan)
	checkTree(t, dir, tree)
	if s := plan.Stats(); s.Fetched != s.ToFetch {
		t.Errorf("got %d bytes fetched, want %d", s.Fetched, s.ToFetch)
	}
}

func TestParts(t *testing.T) {
	p := newPublisher(16)
	tree := map[string]node{
		"pool/a/f": file("f"), "pool/a/g": file(letters(99, 1)), "pool/a/in": {target: "f"}, "pool/a/out": {target: "../b/h"}, "pool/b/h": file("h"),
	}
	all := p.release(tree)
	part := func(prefix string) (out []content.Entry) {
		for _, e := range all {
			if e.Path == prefix || strings.HasPrefix(e.Path, prefix+"/") {
				out = append(out, e)
			}
		}
		return out
	}
	dir := t.TempDir()
	p.get(t, dir, part("pool/a/g"), "pool/a")
	checkTree(t, dir, map[string]node{"g": tree["pool/a/g"]})

	dir = t.TempDir()
	plan := p.plan(t, dir, part("pool/a"), "pool")
	p.put(t, plan, prepare(t, plan))
	finish(t, plan)
	checkTree(t, dir, map[string]node{"a/f": tree["pool/a/f"], "a/g": tree["pool/a/g"], "a/in": {target: "f"}, "a/out": {target: "../b/h"}})

	dir = t.TempDir()
	plan = p.plan(t, dir, part("pool/a"), "pool/a") // without a directory of its own: the symlink would lead out
	p.put(t, plan, prepare(t, plan))
	finish(t, plan)
	checkTree(t, dir, map[string]node{"f": tree["pool/a/f"], "g": tree["pool/a/g"], "in": {target: "f"}})
	if s := plan.Stats(); s.LinksLeft != 1 || !slices.Equal(s.LinksNamed, []string{"out"}) {
		t.Errorf("links left out: got %+v", s)
	}
	if r, err := Verify(context.Background(), dir, part("pool/a"), "pool/a", nil); err != nil || !r.OK() {
		t.Errorf("Verify: got %+v, %v", r, err)
	}
}

// TestSweep: part files of what the release no longer has go away, those of something else stay.
func TestSweep(t *testing.T) {
	p := newPublisher(16)
	old := p.release(map[string]node{"d/gone": file(letters(64, 1)), "d/f": file("f"), "other": file(letters(64, 2))})
	dir := t.TempDir()
	plan := p.plan(t, dir, old, "")
	for _, r := range prepare(t, plan) {
		if len(p.data[r]) == 16 && p.data[r] != letters(64, 1)[:16] && p.data[r] != letters(64, 2)[:16] {
			p.put(t, plan, []content.Ref{r})
		}
	}
	plan.Close()
	p.get(t, dir, p.release(map[string]node{"d/f": file("f")}), "")
	names, err := os.ReadDir(filepath.Join(dir, PartDir))
	if err != nil || len(names) != 1 || names[0].Name() != partName("other") {
		t.Errorf("got %v, %v, want the part file of %q", names, err, "other")
	}
	top := content.Entry{Mode: content.ModeDir | 0o755}
	p.get(t, dir, append([]content.Entry{top}, p.release(map[string]node{"d/f": file("f")})...), "")
	checkNoParts(t, dir)
}
