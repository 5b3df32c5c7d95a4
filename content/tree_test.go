package content

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// model is the deliberately dumb second version of the tree: a map.
type model map[string]Entry

func (m model) sorted() []Entry {
	return slices.SortedFunc(maps.Values(m), func(a, b Entry) int { return ComparePaths(a.Path, b.Path) })
}

func (m model) seq() iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		for _, e := range m.sorted() {
			if !yield(e, nil) {
				return
			}
		}
	}
}

// add puts an entry and the directories that hold it.
func (m model) add(e Entry) {
	for d := parent(e.Path); d != ""; d = parent(d) {
		m[d] = Entry{Path: d, Mode: ModeDir | 0o755}
	}
	m[e.Path] = e
}

func fileEntry(path string, seed uint64) Entry {
	var d Digest
	r := rand.New(rand.NewPCG(seed, 1))
	for i := range d {
		d[i] = byte(r.Uint32())
	}
	return Entry{
		Path: path, Mode: ModeFile | 0o644, Size: 1 + seed%5000, Mtime: 1700000000 + int64(seed%100000), SHA256: d,
		Runs: []Run{{Segment: uint32(seed % 1000), First: uint32(seed % 200), Count: 1}},
	}
}

// drawTree draws file paths whose directories are never files: names of files end in a digit, those of directories do not.
func drawTree(t *rapid.T, label string) model {
	m := model{}
	part := rapid.SampledFrom([]string{"a", "b", "a.b", "a-b", "é", "z z", "%41"})
	n := rapid.IntRange(0, 300).Draw(t, label)
	for range n {
		depth := rapid.IntRange(0, 3).Draw(t, "depth")
		var parts []string
		for range depth {
			parts = append(parts, part.Draw(t, "part"))
		}
		parts = append(parts, fmt.Sprintf("f%d", rapid.IntRange(0, 400).Draw(t, "file")))
		m.add(fileEntry(strings.Join(parts, "/"), rapid.Uint64().Draw(t, "seed")))
	}
	return m
}

func build(t testing.TB, m model, blocks Blocks) Digest {
	t.Helper()
	root, _, err := BuildTree(m.seq(), func(b []byte) (Digest, error) { return blocks.Put(b), nil })
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func diff(from, to model) Edits {
	var d Edits
	for p, e := range to {
		if old, ok := from[p]; !ok || !cmp.Equal(old, e) {
			d.Upserts = append(d.Upserts, e)
		}
	}
	for p := range from {
		if _, ok := to[p]; !ok {
			d.Deletes = append(d.Deletes, p)
		}
	}
	d.Sort()
	return d
}

// Sort brings both lists into order.
func (d *Edits) Sort() {
	slices.SortFunc(d.Upserts, func(a, b Entry) int { return ComparePaths(a.Path, b.Path) })
	slices.SortFunc(d.Deletes, ComparePaths)
}

func (p Put) blocks(b Blocks) Put {
	return func(data []byte) (Digest, error) { return b.Put(data), nil }
}

// TestUpdateIsRebuild: edits applied to one tree give the same root as building the other.
func TestUpdateIsRebuild(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		from, to := drawTree(rt, "from"), drawTree(rt, "to")
		for p, e := range from { // make them overlap
			if rapid.Bool().Draw(rt, "keep") {
				to.add(e)
				_ = p
			}
		}
		blocks := Blocks{}
		a, b := build(t, from, blocks), build(t, to, blocks)
		got, err := UpdateTree(a, blocks, diff(from, to), Put(nil).blocks(blocks))
		if err != nil {
			rt.Fatal(err)
		}
		if got != b {
			rt.Fatalf("update of %d entries to %d gives another root than a rebuild", len(from), len(to))
		}
	})
}

// TestReadsAgreeWithMap: Walk, List and Lookup say what a map and a sort say.
func TestReadsAgreeWithMap(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := drawTree(rt, "entries")
		blocks := Blocks{}
		root := build(t, m, blocks)
		dir := rapid.SampledFrom(append([]string{"", "nowhere"}, slices.Sorted(maps.Keys(m))...)).Draw(rt, "dir")
		var wantAll, wantList []Entry
		for _, e := range m.sorted() {
			if dir == "" || e.Path == dir || strings.HasPrefix(e.Path, dir+"/") {
				wantAll = append(wantAll, e)
			}
			if parent(e.Path) == dir && e.Path != dir {
				wantList = append(wantList, e)
			}
		}
		var all []Entry
		err := Walk(root, blocks, dir, func(e Entry) error { all = append(all, e); return nil })
		if dir == "nowhere" {
			if !errors.Is(err, ErrNoEntry) {
				rt.Fatalf("walk of a path that is not there: %v", err)
			}
		} else if err != nil {
			rt.Fatal(err)
		}
		if d := cmp.Diff(wantAll, all); d != "" {
			rt.Fatalf("walk %q: %s", dir, d)
		}
		list, err := List(root, blocks, dir)
		if err != nil {
			rt.Fatal(err)
		}
		if d := cmp.Diff(wantList, list); d != "" {
			rt.Fatalf("list %q: %s", dir, d)
		}
		most := rapid.IntRange(0, len(wantList)+1).Draw(rt, "most")
		first, err := ListFirst(root, blocks, dir, most)
		if err != nil || len(first) != min(most, len(list)) || len(first) > 0 && !cmp.Equal(list[:len(first)], first) {
			rt.Fatalf("the first %d of %q are %d, %v", most, dir, len(first), err)
		}
		e, err := Lookup(root, blocks, dir)
		if want, ok := m[dir]; ok != (err == nil) || ok && !cmp.Equal(want, e) {
			rt.Fatalf("lookup %q: %v, %v", dir, e, err)
		}
	})
}

// keeper remembers all nodes and counts how often a block is read.
type keeper struct {
	Blocks
	nodes map[Digest]Node
	reads map[Digest]int
}

func (k *keeper) Block(d Digest) ([]byte, bool) { k.reads[d]++; return k.Blocks.Block(d) }

func (k *keeper) KeptNode(d Digest) (Node, bool) { n, ok := k.nodes[d]; return n, ok }

func (k *keeper) KeepNode(d Digest, n Node, size int) {
	if size != len(k.Blocks[d]) {
		panic("the size is not that of the block")
	}
	k.nodes[d] = n
}

// TestNodeKeeper: lookups through kept nodes give the same and read each block once; a node that is missing is asked for again.
func TestNodeKeeper(t *testing.T) {
	m := model{}
	for i := range 3000 {
		m.add(fileEntry(fmt.Sprintf("pool/%c/p%04d/f%d", 'a'+i%20, i, i), uint64(i)))
	}
	k := &keeper{Blocks: Blocks{}, nodes: map[Digest]Node{}, reads: map[Digest]int{}}
	root := build(t, m, k.Blocks)
	rootBlock := k.Blocks[root]
	delete(k.Blocks, root)
	var missing *Missing
	if _, err := Lookup(root, k, "pool"); !errors.As(err, &missing) {
		t.Fatalf("without the root: %v", err)
	}
	k.Blocks[root] = rootBlock
	clear(k.reads)
	for range 2 {
		for p, want := range m {
			if got, err := Lookup(root, k, p); err != nil || !cmp.Equal(want, got) {
				t.Fatalf("%s: %v, %v", p, got, err)
			}
		}
	}
	if list, err := List(root, k, "pool"); err != nil || len(list) != 20 {
		t.Errorf("%d entries, %v", len(list), err)
	}
	for d, n := range k.reads {
		if n != 1 {
			t.Errorf("block %s was read %d times", d, n)
		}
	}
	if len(k.reads) < 90 {
		t.Errorf("%d blocks were read: the tree is too small for this test", len(k.reads))
	}
}

// TestFetchByMissing: a reader that starts with nothing and fetches what the errors name gets the whole tree.
func TestFetchByMissing(t *testing.T) {
	m := model{}
	for i := range 5000 {
		m.add(fileEntry(fmt.Sprintf("pool/%c/p%04d/f%d", 'a'+i%20, i, i), uint64(i)))
	}
	big := fileEntry("big1", 7)
	all := Blocks{}
	var runs []Run
	for i := range uint32(70000) {
		runs = append(runs, Run{Segment: i % 100, First: 2 * (i % 999), Count: 1})
	}
	if err := big.SetRuns(runs, Put(nil).blocks(all)); err != nil {
		t.Fatal(err)
	}
	m.add(big)
	root := build(t, m, all)
	if len(big.RunBlocks) != 2 {
		t.Fatalf("%d run blocks, want 2", len(big.RunBlocks))
	}
	here, rounds := Blocks{}, 0
	for {
		missing, err := MissingNodes(root, here, 256)
		if err != nil {
			t.Fatal(err)
		}
		if len(missing) == 0 {
			break
		}
		if rounds++; rounds > 10 {
			t.Fatal("more than 10 rounds for a small tree")
		}
		for _, d := range missing {
			here[d] = all[d]
		}
	}
	n := 0
	if err := NodeBlocks(root, here, func(Digest) { n++ }); err != nil || n != len(here) {
		t.Fatalf("%d blocks in the tree, %d fetched (%v)", n, len(here), err)
	}
	got, err := EntryRuns(big, here)
	if err != nil || !slices.Equal(got, runs) {
		t.Fatalf("runs of the big file differ: %d of %d, %v", len(got), len(runs), err)
	}

	// A walk of one directory fetches only that part.
	here, rounds = Blocks{}, 0
	for {
		err := Walk(root, here, "pool/c", func(Entry) error { return nil })
		missing := (*Missing)(nil)
		if !errors.As(err, &missing) {
			if err != nil {
				t.Fatal(err)
			}
			break
		}
		if rounds++; rounds > 20 {
			t.Fatal("more than 20 rounds for one directory")
		}
		for _, d := range missing.Blocks {
			here[d] = all[d]
		}
	}
	if len(here) > len(all)/8 {
		t.Errorf("walking a twentieth of the tree fetched %d of %d blocks", len(here), len(all))
	}
}

// TestSmallChangeIsLocal: one changed file changes one node a level.
func TestSmallChangeIsLocal(t *testing.T) {
	m := model{}
	for i := range 20000 {
		m.add(fileEntry(fmt.Sprintf("d%d/f%d", i%50, i), uint64(i)))
	}
	blocks := Blocks{}
	root := build(t, m, blocks)
	before := len(blocks)
	fresh := 0
	_, err := UpdateTree(root, blocks, Edits{Upserts: []Entry{fileEntry("d7/f7", 999999)}}, func(b []byte) (Digest, error) {
		if _, ok := blocks[Sum(b)]; !ok {
			fresh++
		}
		return blocks.Put(b), nil
	})
	if err != nil || fresh > 5 {
		t.Fatalf("one changed file of %d made %d new blocks of %d (%v)", len(m), fresh, before, err)
	}
	for d, b := range blocks {
		if len(b) > MaxNodeSize {
			t.Errorf("node %s has %d bytes", d, len(b))
		}
	}
}

func TestTreeRefusals(t *testing.T) {
	ok := fileEntry("a", 1)
	dir := Entry{Path: "d", Mode: ModeDir | 0o755}
	cases := []struct {
		name    string
		entries []Entry
	}{
		{"out of order", []Entry{fileEntry("b", 1), ok}},
		{"twice", []Entry{ok, ok}},
		{"no directory", []Entry{fileEntry("x/y", 1)}},
		{"in a file", []Entry{ok, fileEntry("a/b", 1)}},
		{"absolute", []Entry{fileEntry("/a", 1)}},
		{"dots", []Entry{dir, fileEntry("d/../e", 1)}},
		{"newline", []Entry{fileEntry("a\nb", 1)}},
		{"not UTF-8", []Entry{fileEntry("a\xff", 1)}},
		{"long name", []Entry{fileEntry(strings.Repeat("n", 256), 1)}},
		{"link out", []Entry{{Path: "l", Mode: ModeLink | 0o777, Target: "../x"}}},
		{"link absolute", []Entry{{Path: "l", Mode: ModeLink | 0o777, Target: "/etc/passwd"}}},
		{"size without chunks", []Entry{{Path: "f", Mode: ModeFile, Size: 3, SHA256: ok.SHA256}}},
		{"device", []Entry{{Path: "f", Mode: 0o020000}}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, _, err := BuildTree(func(yield func(Entry, error) bool) {
				for _, e := range c.entries {
					if !yield(e, nil) {
						return
					}
				}
			}, Put(nil).blocks(Blocks{}))
			if !errors.Is(err, ErrPath) && !errors.Is(err, ErrFormat) {
				t.Errorf("accepted: %v", err)
			}
		})
	}
}

func TestTargets(t *testing.T) {
	for _, c := range []struct {
		path, target string
		ok           bool
	}{
		{"a/b", "c", true}, {"a/b", "../c", true}, {"a/b", "../../c", false}, {"a", "b/../../c", false}, {"a", ".", true},
		{"a/b", "..", true}, {"a", "..", false}, {"a/b", "/c", false}, {"a", "", false}, {"a", "x\x00y", false}, {"a/b/c", "../../d/./e", true},
	} {
		if err := CheckTarget(c.path, c.target); (err == nil) != c.ok {
			t.Errorf("CheckTarget(%q, %q) = %v, want ok %v", c.path, c.target, err, c.ok)
		}
	}
}

func BenchmarkUpdate200Of2M(b *testing.B) {
	blocks := Blocks{}
	put := Put(nil).blocks(blocks)
	const n = 2_000_000
	entries := func(yield func(Entry, error) bool) {
		for i := range 2000 {
			dir := Entry{Path: fmt.Sprintf("pool%04d", i), Mode: ModeDir | 0o755}
			if !yield(dir, nil) {
				return
			}
			for j := range n / 2000 {
				e := fileEntry(fmt.Sprintf("pool%04d/package-name_%04d-1.0_amd64.deb", i, j), uint64(i*1000+j))
				if !yield(e, nil) {
					return
				}
			}
		}
	}
	root, _, err := BuildTree(entries, put)
	if err != nil {
		b.Fatal(err)
	}
	dir, err := BuildDirectory([]SegmentInfo{{Table: Sum(nil), Size: 100, Chunks: 10}}, put)
	if err != nil {
		b.Fatal(err)
	}
	var d Delta
	for i := range 200 {
		d.Upserts = append(d.Upserts, fileEntry(fmt.Sprintf("pool%04d/package-name_%04d-1.0_amd64.deb", i*10, i), uint64(1e9)+uint64(i)))
	}
	d.First, d.Segments = 1, []NewSegment{{Table: Sum(nil), Size: 100, Chunks: 10}}
	d.Sort()
	next := &Manifest{}
	if next.Tree, err = UpdateTree(root, blocks, d.Edits, put); err != nil {
		b.Fatal(err)
	}
	infos, _ := LoadDirectory(dir, blocks)
	infos, _ = d.ApplyDirectory(infos)
	next.Directory, _ = BuildDirectory(infos, put)
	parts := EncodeDelta(d)
	size := 0
	for _, p := range parts {
		size += len(p)
	}
	b.ResetTimer()
	for b.Loop() {
		got, err := DecodeDelta(parts)
		if err != nil {
			b.Fatal(err)
		}
		if err := ApplyDelta(&Manifest{Tree: root, Directory: dir}, next, got, blocks, func(block []byte) (Digest, error) { return Sum(block), nil }); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(size), "delta-bytes")
}
