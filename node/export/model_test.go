package export

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"swarmnode/content"
)

// drawRelease draws a small tree in which chunks repeat within files and between them. Names of directories, d…, are never those of
// files. No chunk is all zeros: holes are a test of their own.
func drawRelease(t *rapid.T, base map[string]node) map[string]node {
	tree := map[string]node{}
	for name, n := range base {
		if rapid.Bool().Draw(t, "keep") {
			tree[name] = n
		}
	}
	for range rapid.IntRange(1, 8).Draw(t, "changes") {
		name := rapid.SampledFrom([]string{"", "d1/", "d1/d 2/", "d%/", "dé/d3/"}).Draw(t, "dir") + rapid.SampledFrom([]string{"f", "F", "f.x", "g h"}).Draw(t, "name")
		n := node{mode: rapid.SampledFrom([]uint32{0o644, 0o600, 0o444, 0o755}).Draw(t, "mode"), mtime: rapid.Int64Range(0, 1<<32).Draw(t, "mtime")}
		if rapid.IntRange(0, 5).Draw(t, "kind") == 0 {
			n = node{target: "d1/x"}
		} else {
			var b strings.Builder
			for range rapid.IntRange(0, 12).Draw(t, "chunks") {
				b.WriteString(strings.Repeat(string(rune('a'+rapid.IntRange(0, 12).Draw(t, "chunk"))), 4))
			}
			n.data = b.String() + "abc"[:rapid.IntRange(0, 3).Draw(t, "rest")]
		}
		tree[name] = n
	}
	for _, d := range []string{"d1", "d%/d4"} {
		tree[d] = node{dir: true, mode: rapid.SampledFrom([]uint32{0o755, 0o555, 0o700}).Draw(t, "dir mode")}
	}
	return tree
}

// lacking is the deliberately dumb second version of Prepare: the chunks of the release that no file, nor part file, has where
// the release has them.
func lacking(p *publisher, dir string, entries []content.Entry) []content.Ref {
	all, there := map[content.Ref]bool{}, map[content.Ref]bool{}
	for _, e := range entries {
		final := filepath.Join(dir, e.Path)
		var whole, part []byte
		if info, err := os.Lstat(final); err == nil && info.Mode().IsRegular() && realDirs(dir, e.Path) {
			whole, _ = os.ReadFile(final)
		}
		name := filepath.Join(dir, PartDir, partName(e.Path))
		if info, err := os.Lstat(name); err == nil && info.Mode().IsRegular() {
			part, _ = os.ReadFile(name)
		}
		runs, _ := p.runs(e)
		offset := 0
		for _, r := range runs {
			for i := range r.Count {
				ref := content.Ref{Segment: r.Segment, Index: r.First + i}
				end := offset + len(p.data[ref])
				all[ref] = true
				for _, b := range [][]byte{whole, part} {
					if len(b) >= end && string(b[offset:end]) == p.data[ref] {
						there[ref] = true
					}
				}
				offset = end
			}
		}
	}
	maps.DeleteFunc(all, func(r content.Ref, _ bool) bool { return there[r] })
	return slices.SortedFunc(maps.Keys(all), compareRefs)
}

// realDirs reports whether no directory on the way to name is a symlink: what lies behind one does not count.
func realDirs(dir, name string) bool {
	for d := filepath.Dir(name); d != "."; d = filepath.Dir(d) {
		if info, err := os.Lstat(filepath.Join(dir, d)); err != nil || !info.IsDir() {
			return false
		}
	}
	return true
}

// spoil does something nasty to what lies in dir. Directories are made writable first.
func spoil(t *rapid.T, rng *rand.Rand, dir, outside string) {
	var names []string
	_ = filepath.WalkDir(dir, func(name string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			err = os.Chmod(name, 0o700)
		}
		if name != dir && filepath.Base(name) != PartDir {
			names = append(names, name)
		}
		return err
	})
	if len(names) == 0 {
		return
	}
	name := names[rng.IntN(len(names))]
	info, err := os.Lstat(name)
	if err != nil {
		t.Fatal(err)
	}
	switch how := rng.IntN(5); {
	case how == 0:
		err = os.RemoveAll(name)
	case how == 1:
		if err = os.RemoveAll(name); err == nil {
			err = os.Symlink(outside, name)
		}
	case !info.Mode().IsRegular():
	case how == 2 && os.Chmod(name, 0o600) == nil:
		err = os.Truncate(name, info.Size()*2/3)
	case how == 3 && os.Chmod(name, 0o600) == nil:
		err = os.WriteFile(name, []byte(strings.Repeat("zq", rng.IntN(20))), 0o600)
	default:
		if data, rerr := os.ReadFile(name); rerr == nil && len(data) > 0 && os.Chmod(name, 0o600) == nil {
			data[rng.IntN(len(data))] ^= 1
			err = os.WriteFile(name, data, 0o600)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestModel: whatever earlier runs, other releases and vandals left, Prepare asks for exactly what is lacking and
// the end is the release; nothing outside changes.
func TestModel(t *testing.T) {
	t.Parallel()
	top := tempDir(t)
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		dir, outside := filepath.Join(top, fmt.Sprint(n), "in"), filepath.Join(top, fmt.Sprint(n), "out")
		write(t, filepath.Join(outside, "f"), "aaaa")
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 1))
		p := newPublisher(4)
		tree := drawRelease(rt, nil)
		for range rapid.IntRange(0, 5).Draw(rt, "rounds") {
			switch rapid.IntRange(0, 3).Draw(rt, "what") {
			case 0:
				tree = drawRelease(rt, tree)
			case 1:
				spoil(rt, rng, dir, outside)
			}
			p.round(rt, rng, dir, p.release(tree), rapid.Bool().Draw(rt, "to the end"))
		}
		entries := append([]content.Entry{{Mode: content.ModeDir}}, p.release(tree)...)
		p.round(rt, rng, dir, entries, true)
		got := readTree(rt, dir)
		for name, want := range tree {
			if want.target != "" {
				want = node{target: want.target}
			}
			if got[name] != want {
				rt.Fatalf("%q: got %+v, want %+v", name, got[name], want)
			}
		}
		report, err := Verify(context.Background(), dir, entries, "", nil)
		if err != nil || !report.OK() || len(report.WrongMode)+len(report.WrongTime) > 0 {
			rt.Fatalf("Verify: got %+v, %v", report, err)
		}
		checkNoParts(rt, dir)
		checkTree(rt, outside, map[string]node{"f": {data: "aaaa", mode: 0o644, mtime: 1600000000}})
	})
}

// round prepares, puts chunks from two goroutines and, unless it is killed, finishes.
func (p *publisher) round(t *rapid.T, rng *rand.Rand, dir string, entries []content.Entry, toTheEnd bool) {
	want := lacking(p, dir, entries)
	plan := p.plan(t, dir, entries, "")
	defer plan.Close()
	need := prepare(t, plan)
	if !slices.Equal(need, want) {
		t.Fatalf("needed: got %v, want %v", need, want)
	}
	rng.Shuffle(len(need), func(i, j int) { need[i], need[j] = need[j], need[i] })
	if !toTheEnd && len(need) > 0 {
		need = need[:rng.IntN(len(need))]
	}
	var errs [2]error
	var group sync.WaitGroup
	for w := range errs {
		group.Go(func() {
			for i, r := range need {
				if i%3 == 2 || i%3 == w { // some by both
					if err := plan.Put(r, []byte(p.data[r])); err != nil {
						errs[w] = err
					}
				}
			}
		})
	}
	group.Wait()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
	if toTheEnd {
		finish(t, plan)
	}
}
