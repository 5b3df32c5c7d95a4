//go:build unix

package publish

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"swarmnode/content"
)

// writeTree makes files under dir: a name with '/' at its end is a directory, content "-> x" a symlink.
func writeTree(t testing.TB, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		p := filepath.Join(dir, filepath.FromSlash(name))
		var err error
		switch {
		case strings.HasSuffix(name, "/"):
			err = os.MkdirAll(p, 0o755)
		case strings.HasPrefix(text, "-> "):
			if err = os.MkdirAll(filepath.Dir(p), 0o755); err == nil {
				err = os.Symlink(text[3:], p)
			}
		default:
			if err = os.MkdirAll(filepath.Dir(p), 0o755); err == nil {
				err = os.WriteFile(p, []byte(text), 0o644)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func openTree(t testing.TB, dir string) *os.Root {
	t.Helper()
	root, err := OpenTree(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return root
}

// later is a time at which files made by the test are no longer racy.
func later() time.Time { return time.Now().Add(time.Minute) }

// scan scans dir against the snapshot of the scan before, if there is one at dir's side, and keeps its own there.
func scan(t testing.TB, now time.Time, dir string, o ScanOptions) (*Changes, []File) {
	t.Helper()
	spill := filepath.Join(t.TempDir(), "spill")
	var previous iter.Seq2[File, error]
	if s, err := openSnapshot(dir + ".snapshot"); err == nil {
		previous = s.files()
	}
	c, err := Scan(context.Background(), now, openTree(t, dir), previous, spill, o)
	if err != nil {
		t.Fatalf("scan: %v", err)
	}
	var files []File
	for f, err := range c.Files() {
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	if err := os.Rename(spill, dir+".snapshot"); err != nil {
		t.Fatal(err)
	}
	if len(files) != c.Upserts {
		t.Errorf("%d files, want the %d counted", len(files), c.Upserts)
	}
	return c, files
}

func paths(files []File) []string {
	var out []string
	for _, f := range files {
		out = append(out, f.Path)
	}
	return out
}

func TestScanFindsWhatChanged(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tree")
	writeTree(t, dir, map[string]string{
		"a": "1", "a.txt": "2", "a-b/x": "3", "b/c/d": "4", "b/link": "-> c/d", "empty/": "", "b.d": "5", "gone/x": "6",
	})
	_, files := scan(t, later(), dir, ScanOptions{})
	want := []string{"a", "a-b", "a-b/x", "a.txt", "b", "b/c", "b/c/d", "b/link", "b.d", "empty", "gone", "gone/x"}
	if got := paths(files); !slices.Equal(got, want) {
		t.Fatalf("first scan: got %q, want %q", got, want)
	}
	if !slices.IsSortedFunc(want, content.ComparePaths) {
		t.Fatal("the test's own order is wrong")
	}
	if f := files[7]; f.Target != "c/d" || f.kind() != content.ModeLink {
		t.Errorf("symlink: got %+v", f)
	}
	c, files := scan(t, later(), dir, ScanOptions{})
	if len(files) != 0 || len(c.Deletes) != 0 || c.Unchanged != 12 {
		t.Errorf("second scan: got %q, %q, %d, want nothing changed of 12", paths(files), c.Deletes, c.Unchanged)
	}
	writeTree(t, dir, map[string]string{"a.txt": "new", "b/c/e": "7"})
	if err := os.RemoveAll(filepath.Join(dir, "gone")); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, "empty"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(filepath.Join(dir, "b.d"), time.Time{}, time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	c, files = scan(t, later(), dir, ScanOptions{})
	if got, want := paths(files), []string{"a.txt", "b/c/e", "b.d", "empty"}; !slices.Equal(got, want) {
		t.Errorf("third scan: got %q, want %q", got, want)
	}
	if want := []string{"gone", "gone/x"}; !slices.Equal(c.Deletes, want) {
		t.Errorf("third scan: deleted %q, want %q", c.Deletes, want)
	}
}

func TestScanDoesNotTrustFreshFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tree")
	writeTree(t, dir, map[string]string{"a": "1", "d/b": "2"})
	c, _ := scan(t, time.Now(), dir, ScanOptions{})
	if c.Racy != 2 {
		t.Errorf("%d racy files, want 2", c.Racy)
	}
	_, files := scan(t, later(), dir, ScanOptions{})
	if got, want := paths(files), []string{"a", "d/b"}; !slices.Equal(got, want) {
		t.Errorf("after a racy scan: got %q, want %q", got, want)
	}
	if _, files = scan(t, later(), dir, ScanOptions{}); len(files) != 0 {
		t.Errorf("after a scan much later: got %q, want nothing", paths(files))
	}
}

func TestScanRefusals(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tree")
	files := map[string]string{
		"good": "1", "line\nbreak": "2", "bad\xffutf8": "3", "out": "-> ../x", "absolute": "-> /etc/passwd", "d/in": "-> ../good", "d/out": "-> ../../good",
	}
	for i := range 9 {
		files[fmt.Sprintf("tab\t%d/inside", i)] = "4"
	}
	writeTree(t, dir, files)
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o644); err != nil {
		t.Fatal(err)
	}
	short, err := os.MkdirTemp("/tmp", "s") // the path of a socket is at most 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(short)
	l, err := net.Listen("unix", filepath.Join(short, "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := os.Rename(filepath.Join(short, "s"), filepath.Join(dir, "socket")); err != nil {
		t.Fatal(err)
	}
	_, err = Scan(context.Background(), later(), openTree(t, dir), nil, filepath.Join(t.TempDir(), "spill"), ScanOptions{})
	var refused *ScanError
	if !errors.As(err, &refused) {
		t.Fatalf("got %v, want a *ScanError", err)
	}
	var got []string
	for _, b := range refused.Bad {
		got = append(got, b.Path)
	}
	slices.Sort(got)
	want := []string{"absolute", "bad\xffutf8", "d/out", "line\nbreak", "out", "pipe", "socket"}
	for i := range 9 {
		want = append(want, fmt.Sprintf("tab\t%d", i))
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("refused paths, -want +got:\n%s", diff)
	}
	text := err.Error()
	for _, part := range []string{"16 paths in " + dir, "and 6 more", "--skip-bad"} {
		if !strings.Contains(text, part) {
			t.Errorf("text lacks %q:\n%s", part, text)
		}
	}
	if n := strings.Count(text, "\n"); n != 12 {
		t.Errorf("text has %d lines, want 13:\n%s", n+1, text)
	}
	c, rest := scan(t, later(), dir, ScanOptions{SkipBad: true})
	if got, want := paths(rest), []string{"d", "d/in", "good"}; !slices.Equal(got, want) || len(c.Skipped) != 16 {
		t.Errorf("with SkipBad: got %q and %d skipped, want %q and 16", got, len(c.Skipped), want)
	}
}

func TestScanUnreadable(t *testing.T) {
	if asNobody(t) { // root may read all
		return
	}
	dir := filepath.Join(t.TempDir(), "tree")
	writeTree(t, dir, map[string]string{"a": "1", "d/b": "2"})
	for _, p := range []string{"a", "d"} {
		if err := os.Chmod(filepath.Join(dir, p), 0); err != nil {
			t.Fatal(err)
		}
	}
	defer os.Chmod(filepath.Join(dir, "d"), 0o755)
	_, err := Scan(context.Background(), later(), openTree(t, dir), nil, filepath.Join(t.TempDir(), "spill"), ScanOptions{})
	var refused *ScanError
	if !errors.As(err, &refused) || len(refused.Bad) != 2 {
		t.Fatalf("got %v, want both named", err)
	}
}

func TestScanRoots(t *testing.T) {
	tmp := t.TempDir()
	writeTree(t, tmp, map[string]string{"file": "1", "empty/": ""})
	if _, err := OpenTree(filepath.Join(tmp, "none")); err == nil || !strings.Contains(err.Error(), "no such directory") {
		t.Errorf("missing root: %v", err)
	}
	if _, err := OpenTree(filepath.Join(tmp, "file")); err == nil || !strings.Contains(err.Error(), "is a file") {
		t.Errorf("file as root: %v", err)
	}
	empty, spill := openTree(t, filepath.Join(tmp, "empty")), filepath.Join(tmp, "spill")
	if _, err := Scan(context.Background(), later(), empty, nil, spill, ScanOptions{}); !errors.Is(err, ErrEmpty) {
		t.Errorf("empty root: got %v, want %v", err, ErrEmpty)
	}
	if c, err := Scan(context.Background(), later(), empty, nil, spill, ScanOptions{AllowEmpty: true}); err != nil || c.Upserts != 0 {
		t.Errorf("empty root that is meant: %v", err)
	}
	if _, err := Scan(context.Background(), later(), empty, nil, spill, ScanOptions{Exclude: []string{"["}}); err == nil {
		t.Error("a broken pattern is taken")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Scan(ctx, later(), openTree(t, tmp), nil, spill, ScanOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got %v", err)
	}
}

func TestScanExclude(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tree")
	writeTree(t, dir, map[string]string{"a.tmp": "1", "d/b.tmp": "2", "d/keep": "3", "top/x": "4", "d/top/x": "5"})
	_, files := scan(t, later(), dir, ScanOptions{Exclude: []string{"*.tmp", "/top"}})
	if got, want := paths(files), []string{"d", "d/keep", "d/top", "d/top/x"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestWalkOrder walks random trees: the same as a plain recursive walk, sorted.
func TestWalkOrder(t *testing.T) {
	base := t.TempDir()
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		dir := filepath.Join(base, fmt.Sprint(n))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			rt.Fatal(err)
		}
		for _, p := range rapid.SliceOfN(rapid.StringMatching(`[ab.0é-]{1,2}(/[ab.0é-]{1,2}){0,3}`), 1, 20).Draw(rt, "paths") {
			if content.CheckPath(p) != nil {
				continue
			}
			if os.MkdirAll(filepath.Join(dir, filepath.Dir(p)), 0o755) == nil {
				os.WriteFile(filepath.Join(dir, p), nil, 0o644)
			}
		}
		var want []string
		filepath.WalkDir(dir, func(p string, _ fs.DirEntry, err error) error {
			if err == nil && p != dir {
				want = append(want, p[len(dir)+1:])
			}
			return err
		})
		slices.SortFunc(want, content.ComparePaths)
		root, err := OpenTree(dir)
		if err != nil {
			rt.Fatal(err)
		}
		defer root.Close()
		var got []string
		if _, err := walk(context.Background(), root, nil, func(f *File) error { got = append(got, f.Path); return nil }); err != nil {
			rt.Fatal(err)
		}
		if !slices.Equal(got, want) {
			rt.Fatalf("got %q, want %q", got, want)
		}
	})
}

func TestSnapshotKeepsAndChecks(t *testing.T) {
	p := filepath.Join(t.TempDir(), "s")
	files := []File{
		{Path: "a", Mode: content.ModeDir | 0o755}, {Path: "a/b", Mode: content.ModeFile | 0o644, Size: 1 << 40, Mtime: -5, Ctime: 1 << 60, Inode: 1 << 63},
		{Path: "a/c", Mode: content.ModeLink | 0o777, Target: "b", Mtime: 7}, {Path: strings.Repeat("x", 4096), Mode: content.ModeFile},
	}
	w, err := createSnapshot(p)
	if err != nil {
		t.Fatal(err)
	}
	for i := range files {
		w.add(&files[i], i%2 == 0, false)
	}
	if err := w.finish(content.Digest{1}, true); err != nil {
		t.Fatal(err)
	}
	s, err := openSnapshot(p)
	if err != nil || s.count != 4 || s.tree != (content.Digest{1}) {
		t.Fatalf("got %+v, %v", s, err)
	}
	i := 0
	for r, err := range s.records() {
		if err != nil || r.File != files[i] || r.changed != (i%2 == 0) {
			t.Errorf("record %d: got %+v, %v, want %+v", i, r, err, files[i])
		}
		i++
	}
	whole, err := os.ReadFile(p)
	if err != nil {
		t.Fatal(err)
	}
	for at := range whole[:200] {
		broken := slices.Clone(whole)
		broken[at] ^= 0x10
		os.WriteFile(p, broken, 0o600)
		if _, err := openSnapshot(p); !errors.Is(err, errSnapshot) {
			t.Fatalf("byte %d flipped: got %v, want a refusal", at, err)
		}
		os.WriteFile(p, whole[:at], 0o600)
		if _, err := openSnapshot(p); !errors.Is(err, errSnapshot) {
			t.Fatalf("cut to %d bytes: got %v, want a refusal", at, err)
		}
	}
}
