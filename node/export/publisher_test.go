package export

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"swarmnode/content"
)

// testing.T and rapid.T have this in common.
type tester interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// node is what a test wants at a path: a file unless target is set or dir is.
type node struct {
	data   string
	mode   uint32
	mtime  int64
	target string
	dir    bool
}

// publisher cuts files every size bytes and gives each new chunk the next place, in segments of 20 chunks.
type publisher struct {
	size   int
	places map[content.Digest]content.Ref
	chunks [][]content.Chunk // of each segment
	data   map[content.Ref]string
	blocks content.Blocks
}

func newPublisher(size int) *publisher {
	return &publisher{size: size, places: map[content.Digest]content.Ref{}, data: map[content.Ref]string{}, blocks: content.Blocks{}}
}

func (p *publisher) add(chunk string) content.Ref {
	d := content.Sum([]byte(chunk))
	if ref, ok := p.places[d]; ok {
		return ref
	}
	if n := len(p.chunks); n == 0 || len(p.chunks[n-1]) == 20 {
		p.chunks = append(p.chunks, nil)
	}
	last := len(p.chunks) - 1
	ref := content.Ref{Segment: uint32(last), Index: uint32(len(p.chunks[last]))}
	p.chunks[last] = append(p.chunks[last], content.Chunk{Digest: d, Size: uint32(len(chunk))})
	p.places[d], p.data[ref] = ref, chunk
	return ref
}

func (p *publisher) release(tree map[string]node) []content.Entry {
	all := maps.Clone(tree)
	for name := range tree {
		for d := path.Dir(name); d != "."; d = path.Dir(d) {
			if _, ok := all[d]; !ok {
				all[d] = node{dir: true, mode: 0o755}
			}
		}
	}
	var out []content.Entry
	for name, n := range all {
		e := content.Entry{Path: name, Mode: content.ModeFile | n.mode, Mtime: n.mtime}
		switch {
		case n.dir:
			e.Mode, e.Mtime = content.ModeDir|n.mode, 0
		case n.target != "":
			e.Mode, e.Target = content.ModeLink|0o777, n.target
		default:
			e.Size, e.SHA256 = uint64(len(n.data)), content.Sum([]byte(n.data))
			var runs []content.Run
			for c := range slices.Chunk([]byte(n.data), p.size) {
				runs = content.AppendRef(runs, p.add(string(c)))
			}
			if err := e.SetRuns(runs, func(b []byte) (content.Digest, error) { return p.blocks.Put(b), nil }); err != nil {
				panic(err)
			}
		}
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b content.Entry) int { return content.ComparePaths(a.Path, b.Path) })
	return out
}

func (p *publisher) runs(e content.Entry) ([]content.Run, error) {
	return content.EntryRuns(e, p.blocks)
}

func (p *publisher) table(segment uint32) (*content.Table, error) {
	if int(segment) >= len(p.chunks) {
		return nil, fmt.Errorf("no segment %d", segment)
	}
	return content.NewTable(slices.Clone(p.chunks[segment])), nil
}

func (p *publisher) plan(t tester, dir string, entries []content.Entry, strip string) *Plan {
	t.Helper()
	plan, err := NewPlan(dir, entries, strip, p.runs, p.table)
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

func prepare(t tester, plan *Plan) []content.Ref {
	t.Helper()
	need, err := plan.Prepare(context.Background(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return refs(need)
}

func refs(need map[uint32]content.Bitmap) []content.Ref {
	var out []content.Ref
	for _, s := range slices.Sorted(maps.Keys(need)) {
		for i := range uint32(8 * len(need[s])) {
			if need[s].Has(i) {
				out = append(out, content.Ref{Segment: s, Index: i})
			}
		}
	}
	return out
}

func (p *publisher) put(t tester, plan *Plan, need []content.Ref) {
	t.Helper()
	for _, r := range need {
		if err := plan.Put(r, []byte(p.data[r])); err != nil {
			t.Fatal(err)
		}
	}
}

// get does all of it and gives the chunks that were needed.
func (p *publisher) get(t tester, dir string, entries []content.Entry, strip string) []content.Ref {
	t.Helper()
	plan := p.plan(t, dir, entries, strip)
	need := prepare(t, plan)
	p.put(t, plan, need)
	finish(t, plan)
	return need
}

func finish(t tester, plan *Plan) {
	t.Helper()
	if err := plan.Finish(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// readTree reads a directory the dumb way, without PartDir.
func readTree(t tester, dir string) map[string]node {
	t.Helper()
	out := map[string]node{}
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == dir {
			return err
		}
		if d.Name() == PartDir {
			return fs.SkipDir
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, name)
		n := node{mode: uint32(info.Mode().Perm()), mtime: info.ModTime().Unix()}
		switch {
		case d.IsDir():
			n.dir, n.mtime = true, 0
		case info.Mode()&fs.ModeSymlink != 0:
			n.target, err = os.Readlink(name)
			n.mode, n.mtime = 0, 0
		default:
			var data []byte
			data, err = os.ReadFile(name)
			n.data = string(data)
		}
		out[filepath.ToSlash(rel)] = n
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// checkTree wants dir to hold exactly tree and the directories around it.
func checkTree(t tester, dir string, tree map[string]node) {
	t.Helper()
	got := readTree(t, dir)
	for name, want := range tree {
		if want.target != "" {
			want = node{target: want.target}
		}
		if got[name] != want {
			t.Fatalf("%q: got %+v, want %+v", name, got[name], want)
		}
	}
	for name, n := range got {
		_, ok := tree[name]
		for other := range tree {
			ok = ok || n.dir && strings.HasPrefix(other, name+"/")
		}
		if !ok {
			t.Fatalf("%q is there and should not: %+v", name, n)
		}
	}
}

func checkNoParts(t tester, dir string) {
	t.Helper()
	if _, err := os.Lstat(filepath.Join(dir, PartDir)); !os.IsNotExist(err) {
		t.Fatalf("%s is still there: %v", PartDir, err)
	}
}

func file(data string) node {
	return node{data: data, mode: 0o644, mtime: 1700000000 + int64(len(data))}
}

func write(t testing.TB, name, data string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(data), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(name, time.Time{}, time.Unix(1600000000, 0)); err != nil {
		t.Fatal(err)
	}
}

func letters(n int, seed byte) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = 'a' + (seed+byte(i%251)*7+byte(i/16)*13)%26
	}
	return string(bytes.Clone(b))
}

// tempDir is t.TempDir for trees with read-only directories, which cannot be removed as they are.
func tempDir(t testing.TB) string {
	dir := t.TempDir()
	t.Cleanup(func() {
		_ = filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
			if d != nil && d.IsDir() {
				return os.Chmod(name, 0o700)
			}
			return err
		})
	})
	return dir
}
