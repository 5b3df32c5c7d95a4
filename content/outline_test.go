package content

import (
	"fmt"
	"slices"
	"testing"
)

// TestOutline: it comes to every block of a release once, and to none whose parent is not here.
func TestOutline(t *testing.T) {
	blocks := Blocks{}
	put := func(b []byte) (Digest, error) { return blocks.Put(b), nil }
	var infos []SegmentInfo
	for i := range segmentsPerPage + 1 { // two pages
		table := NewTable([]Chunk{{Digest: Sum([]byte(fmt.Sprint(i))), Size: 1}})
		infos = append(infos, SegmentInfo{Table: blocks.Put(table.Encode()), Size: 1, Chunks: 1})
	}
	infos[3] = SegmentInfo{} // retired: nothing of it is needed
	directory, err := BuildDirectory(infos, put)
	if err != nil {
		t.Fatal(err)
	}
	var runs []Run
	for i := range MaxInlineRuns + 1 {
		runs = append(runs, Run{Segment: uint32(i + 4), Count: 1})
	}
	tree, _, err := BuildTree(func(yield func(Entry, error) bool) {
		for i := range 200 { // more than one node
			e := Entry{Path: fmt.Sprintf("f%03d", i), Mode: ModeFile | 0o644, Size: uint64(len(runs)), SHA256: Sum(nil)}
			if err := e.SetRuns(runs, put); err != nil {
				t.Fatal(err)
			}
			if !yield(e, nil) {
				return
			}
		}
	}, put)
	if err != nil {
		t.Fatal(err)
	}
	m := Manifest{Collection: ID{1}, Name: "x", Release: 1, Tree: tree, Directory: directory, Chunking: []byte{1}}
	manifest := blocks.Put(m.Encode())

	walk := func(src Blocks) (order []Digest) {
		o := NewOutline(manifest)
		for d, below, ok := o.Next(); ok; d, below, ok = o.Next() {
			data, here := src[d]
			if !here {
				continue
			}
			if err := below(data); err != nil {
				t.Fatal(err)
			}
			order = append(order, d)
		}
		return order
	}
	want := []Digest{manifest, directory}
	_, pages, err := DecodeDirectory(blocks[directory])
	if err != nil {
		t.Fatal(err)
	}
	want = append(want, pages...)
	for _, s := range infos {
		if !s.Retired() {
			want = append(want, s.Table)
		}
	}
	seen := map[Digest]bool{}
	if err := NodeBlocks(tree, blocks, func(d Digest) { seen[d] = true }); err != nil {
		t.Fatal(err)
	}
	for d := range seen {
		want = append(want, d)
	}
	got := walk(blocks)
	if got[0] != manifest || got[1] != directory || got[2] != tree {
		t.Error("it does not begin with the manifest and what that names")
	}
	compare := func(a, b Digest) int { return slices.Compare(a[:], b[:]) }
	slices.SortFunc(got, compare)
	slices.SortFunc(want, compare)
	if !slices.Equal(got, want) {
		t.Errorf("got %d blocks, want %d", len(got), len(want))
	}
	delete(blocks, pages[0])
	delete(blocks, tree)
	if got := walk(blocks); len(got) != 4 { // manifest, directory, the other page and its table
		t.Errorf("without a page and the tree: got %d blocks, want 4", len(got))
	}
	if err := NewOutline(manifest).add(manifestKind, []byte("garbage")); err == nil {
		t.Error("garbage is taken for a manifest")
	}
}
