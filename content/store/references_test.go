package store_test

import (
	"bytes"
	"errors"
	"iter"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"swarmnode/content"
	"swarmnode/content/store"
	"swarmnode/content/store/storetest"
)

func openReferences(t testing.TB, dir, tree, links string, cfg store.Config) *store.References {
	t.Helper()
	if cfg.Tables == nil {
		cfg.Tables = storetest.Tables
	}
	r, err := store.OpenReferences(dir, tree, links, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// publish writes a segment as one file and refers to it.
func publish(t testing.TB, r *store.References, tree, path string, s storetest.Segment) {
	t.Helper()
	ok := errors.Join(os.MkdirAll(filepath.Dir(filepath.Join(tree, path)), 0o755),
		os.WriteFile(filepath.Join(tree, path), bytes.Join(s.Data, nil), 0o644))
	for i := range s.Info.Chunks {
		ok = errors.Join(ok, r.Refer(s.Ref(i), path, int64(s.Table.Offset(i))))
	}
	if err := errors.Join(ok, r.Add(s.Number, s.Info, s.Table)); err != nil {
		t.Fatal(err)
	}
}

func wantSegment(t testing.TB, s interface {
	Chunk(content.Ref, []byte) ([]byte, error)
}, seg storetest.Segment) {
	t.Helper()
	for i := range seg.Info.Chunks {
		if got, err := s.Chunk(seg.Ref(i), nil); err != nil || !bytes.Equal(got, seg.Data[i]) {
			t.Fatalf("chunk %d of segment %d: %d bytes, %v", i, seg.Number, len(got), err)
		}
	}
}

// link links a file of the tree as a publisher does.
func link(r *store.References, tree, path string) (bool, error) {
	dir, err := os.Open(filepath.Dir(filepath.Join(tree, path)))
	if err != nil {
		return false, err
	}
	defer dir.Close()
	inode, err := inodeOf(filepath.Join(tree, path))
	if err != nil {
		return false, err
	}
	return r.Link(dir, path, inode)
}

func inodeOf(path string) (uint64, error) {
	st, err := os.Lstat(path)
	if err != nil {
		return 0, err
	}
	return reflect.Indirect(reflect.ValueOf(st.Sys())).FieldByName("Ino").Uint(), nil
}

// countLinks counts the files in a directory.
func countLinks(t *testing.T, dir string) int {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

func TestReferencesLinksOutliveTheTree(t *testing.T) {
	t.Parallel()
	dir, tree, links, h := t.TempDir(), t.TempDir(), t.TempDir(), &heard{}
	cfg := store.Config{OnBad: h.onBad}
	r := openReferences(t, dir, tree, links, cfg)
	old, next := storetest.Segments()[0], storetest.Segments()[1]
	publish(t, r, tree, "dists/Packages", old)
	for i := range 2 {
		if ok, err := link(r, tree, "dists/Packages"); err != nil || ok != (i == 0) {
			t.Fatalf("Link = %t, %v", ok, err)
		}
	}
	wantSegment(t, r, old)
	if err := os.Remove(filepath.Join(tree, "dists/Packages")); err != nil {
		t.Fatal(err)
	}
	publish(t, r, tree, "dists/Packages", next) // replaced: old refs go to the link, new ones to the file
	wantSegment(t, r, next)
	wantSegment(t, r, old)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	r = openReferences(t, dir, tree, links, cfg)
	wantSegment(t, r, old)
	wantSegment(t, r, next)
	if ok, err := link(r, tree, "dists/Packages"); err != nil || !ok {
		t.Fatalf("Link = %t, %v", ok, err)
	}
	inode, err := inodeOf(filepath.Join(tree, "dists/Packages"))
	if err := errors.Join(err, r.Retire("dists/Packages", inode, 2), r.DropLinks(1)); err != nil {
		t.Fatal(err)
	}
	wantSegment(t, r, old) // release 1 still has it
	if err := r.DropLinks(2); err != nil {
		t.Fatal(err)
	}
	wantSegment(t, r, next)
	for i := range old.Info.Chunks {
		if _, err := r.Chunk(old.Ref(i), nil); !errors.Is(err, store.ErrNotHere) {
			t.Errorf("chunk %d after Unlink: %v", i, err)
		}
	}
	if len(h.paths) != 1 || h.paths[0] != "dists/Packages" {
		t.Errorf("OnBad named %q, want the path once", h.paths)
	}
	if n := countLinks(t, links); n != 1 {
		t.Errorf("%d links are left, want that of the present file", n)
	}
}

func TestReferencesSweepLinks(t *testing.T) {
	t.Parallel()
	dir, tree, links := t.TempDir(), t.TempDir(), t.TempDir()
	r := openReferences(t, dir, tree, links, store.Config{})
	for _, name := range []string{"kept", "gone", "back"} {
		err := os.WriteFile(filepath.Join(tree, name), []byte(name), 0o644)
		if _, lerr := link(r, tree, name); err != nil || lerr != nil {
			t.Fatal(err, lerr)
		}
	}
	inode, err := inodeOf(filepath.Join(tree, "back"))
	must(t, errors.Join(err, os.Rename(filepath.Join(tree, "back"), filepath.Join(tree, "away")), r.Retire("back", 0, 5),
		os.Rename(filepath.Join(tree, "away"), filepath.Join(tree, "back"))))
	if made, err := link(r, tree, "back"); err != nil || made {
		t.Errorf("Link of a file that came back = %t, %v; want the old link", made, err)
	}
	must(t, errors.Join(r.Retire("back", inode, 6), os.Remove(filepath.Join(tree, "gone")), os.WriteFile(filepath.Join(links, "stray"), nil, 0o600)))
	for _, step := range []struct {
		what string
		do   func() error
		want int
	}{
		{"sweep", func() error { return r.SweepLinks(7) }, 3},
		{"sweep again", func() error { return r.SweepLinks(8) }, 3},
		{"drop before 6", func() error { return r.DropLinks(6) }, 3},
		{"drop before 7", func() error { return r.DropLinks(7) }, 2},
	} {
		must(t, step.do())
		if n := countLinks(t, links); n != step.want {
			t.Errorf("%s: %d links, want %d", step.what, n, step.want)
		}
	}
	must(t, errors.Join(r.Close(), os.RemoveAll(filepath.Join(dir, "index"))))
	r = openReferences(t, dir, tree, links, store.Config{})
	must(t, r.SweepLinks(9))
	if n := countLinks(t, links); n != 0 {
		t.Errorf("%d links that a new index does not know are left", n)
	}
}

func TestReferencesMemory(t *testing.T) {
	t.Parallel()
	dir, tree := t.TempDir(), t.TempDir()
	r := openReferences(t, dir, tree, "", store.Config{})
	if !r.Empty() {
		t.Error("a new index is not empty")
	}
	s := storetest.Segments()[0]
	info := s.Info
	info.Dead.Set(3)
	if err := r.Add(0, info, s.Table); err != nil {
		t.Fatal(err)
	}
	if err := r.SetMtime("a/b", -5); err != nil {
		t.Fatal(err)
	}
	if err := r.Forget(s.Table.Chunk(1).Digest); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	r = openReferences(t, dir, tree, "", store.Config{})
	t.Logf("opened in %v", time.Since(start))
	if r.Empty() {
		t.Error("the index is empty after a reopen")
	}
	for i := range s.Info.Chunks {
		ref, ok := r.Find(s.Table.Chunk(i).Digest)
		if want := i != 1 && i != 3; ok != want || ok && ref != s.Ref(i) {
			t.Errorf("Find chunk %d = %v, %t; want found = %t", i, ref, ok, want)
		}
	}
	if m, ok := r.Mtime("a/b"); !ok || m != -5 {
		t.Errorf("Mtime = %d, %t", m, ok)
	}
	if _, ok := r.Mtime("a"); ok {
		t.Error("Mtime knows a path that was never set")
	}
	if err := r.Remove(0); err != nil {
		t.Fatal(err)
	}
	if _, ok := r.Find(s.Table.Chunk(0).Digest); ok || !r.Empty() {
		t.Error("a removed segment is still known")
	}
}

func each[T any](all ...T) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for _, v := range all {
			if !yield(v, nil) {
				return
			}
		}
	}
}

func TestReferencesRebuild(t *testing.T) {
	t.Parallel()
	dir, tree := t.TempDir(), t.TempDir()
	r := openReferences(t, dir, tree, "", store.Config{})
	a, b := storetest.Segments()[0], storetest.Segments()[3]
	publish(t, r, tree, "iso/a", a)
	publish(t, r, tree, "b", b)
	if err := errors.Join(r.Close(), os.RemoveAll(filepath.Join(dir, "index"))); err != nil {
		t.Fatal(err)
	}
	r = openReferences(t, dir, tree, "", store.Config{})
	if !r.Empty() {
		t.Fatal("a deleted index is not empty")
	}
	run := func(s storetest.Segment) []content.Run {
		return []content.Run{{Segment: s.Number, Count: 2}, {Segment: s.Number, First: 2, Count: s.Info.Chunks - 2}}
	}
	segs := each(store.Segment{Number: a.Number, Info: a.Info, Table: a.Table}, store.Segment{Number: b.Number, Info: b.Info})
	if err := r.Rebuild(t.Context(), segs, each(store.File{Path: "iso/a", Runs: run(a)}, store.File{Path: "b", Runs: run(b)})); err != nil {
		t.Fatal(err)
	}
	wantSegment(t, r, a)
	wantSegment(t, r, b)
	if ref, ok := r.Find(a.Table.Chunk(4).Digest); !ok || ref != a.Ref(4) {
		t.Errorf("Find = %v, %t", ref, ok)
	}
	bad := store.File{Path: "x", Runs: []content.Run{{Segment: 0, First: 7, Count: 1<<32 - 1}}}
	if err := r.Rebuild(t.Context(), segs, each(bad)); !errors.Is(err, store.ErrOutOfRange) {
		t.Errorf("a run past the end: %v", err)
	}
}

func TestReferencesStayInTheTree(t *testing.T) {
	t.Parallel()
	dir, tree, outside := t.TempDir(), t.TempDir(), t.TempDir()
	r := openReferences(t, dir, tree, t.TempDir(), store.Config{})
	s := storetest.Segments()[2]
	if err := os.WriteFile(filepath.Join(outside, "f"), s.Data[0], 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(tree, "out")); err != nil {
		t.Fatal(err)
	}
	if err := r.Add(s.Number, s.Info, s.Table); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"", ".", "/etc/passwd", "../f", "a/../../f", "a//b"} {
		if r.Refer(s.Ref(0), path, 0) == nil {
			t.Errorf("Refer to %q was not refused", path)
		}
		if _, err := r.Link(nil, path, 1); err == nil {
			t.Errorf("Link of %q was not refused", path)
		}
	}
	if err := r.Refer(s.Ref(0), "out/f", 0); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Chunk(s.Ref(0), nil); err == nil {
		t.Error("a chunk was read from outside the tree")
	}
}
