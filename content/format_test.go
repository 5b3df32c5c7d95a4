package content

import (
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "write the golden vectors anew: a change of format, which needs a new version")

// samples gives one block of each kind.
func samples(t testing.TB) map[string][]byte {
	t.Helper()
	blocks := Blocks{}
	put := Put(nil).blocks(blocks)
	m := model{}
	m.add(fileEntry("pool/main/a/apt_1.deb", 1))
	e := fileEntry("pool/main/z", 2)
	e.Attrs = Attributes{"x": []byte("1"), "later": []byte("kept")}
	m.add(e)
	m.add(Entry{Path: "latest", Mode: ModeLink | 0o777, Mtime: 5, Target: "pool/main"})
	refs, err := leafRefs(build(t, m, blocks), blocks)
	if err != nil {
		t.Fatal(err)
	}
	leaf := refs[len(refs)-1].digest
	for i := range 300 {
		m.add(fileEntry(fmt.Sprintf("f%03d", i), uint64(i)))
	}
	root := build(t, m, blocks)
	table := NewTable([]Chunk{{Sum([]byte("a")), 1}, {Sum([]byte("bc")), 2}, {Sum([]byte("def")), MaxChunkSize}})
	infos := []SegmentInfo{{Table: Sum(table.Encode()), Size: table.Size(), Chunks: 3, Dead: Bitmap{0b010}}, {}}
	dir, err := BuildDirectory(infos, put)
	if err != nil {
		t.Fatal(err)
	}
	_, pages, err := DecodeDirectory(blocks[dir])
	if err != nil {
		t.Fatal(err)
	}
	delta := EncodeDelta(Delta{
		Edits: Edits{Upserts: []Entry{fileEntry("a", 3)}, Deletes: []string{"b", "c"}}, First: 2,
		Segments: []NewSegment{{Table: Sum([]byte("t")), Size: 10, Chunks: 2}}, Dead: []Run{{0, 0, 1}},
	})
	manifest := &Manifest{
		Collection: NewID([]byte("root")), Name: "parsix", Release: 7, Created: 1700000000, Tree: root, Directory: dir, Previous: leaf,
		Delta: []Digest{Sum(delta[0])}, Chunking: []byte{0xa0}, Totals: Totals{Files: 3, Bytes: 9}, LiveBytes: 9,
		Attrs: Attributes{"note": []byte("x")},
	}
	runs := Encode(runBlock{Version: Version, Runs: []uint32{1, 2, 3, 4, 5, 6}})
	return map[string][]byte{
		"leaf": blocks[leaf], "inner": blocks[root], "table": table.Encode(), "directory": blocks[dir], "page": blocks[pages[0]],
		"delta": delta[0], "manifest": manifest.Encode(), "runs": runs,
	}
}

// decoders reads each kind of block and encodes it again.
var decoders = map[string]func([]byte) ([]byte, error){
	"leaf": func(b []byte) ([]byte, error) {
		n, err := decodeNode(b)
		if err != nil || n.height != 0 {
			return nil, errors.Join(err, errors.New("not a leaf"))
		}
		out := leafBlock{Version: Version}
		for _, e := range n.entries {
			out.Entries = append(out.Entries, e.block())
		}
		return Encode(out), nil
	},
	"inner": func(b []byte) ([]byte, error) {
		n, err := decodeNode(b)
		if err != nil || n.height == 0 {
			return nil, errors.Join(err, errors.New("not an inner node"))
		}
		out := innerBlock{Version: Version, Height: n.height}
		for _, c := range n.children {
			out.Children = append(out.Children, childBlock{First: c.first, Node: Link(c.digest)})
		}
		return Encode(out), nil
	},
	"table": func(b []byte) ([]byte, error) {
		t, err := DecodeTable(b)
		if err != nil {
			return nil, err
		}
		return t.Encode(), nil
	},
	"directory": func(b []byte) ([]byte, error) {
		n, pages, err := DecodeDirectory(b)
		out := directoryBlock{Version: Version, Count: n}
		for _, p := range pages {
			out.Pages = append(out.Pages, Link(p))
		}
		return Encode(out), err
	},
	"page": func(b []byte) ([]byte, error) {
		first, infos, err := DecodePage(b)
		out := pageBlock{Version: Version, First: first}
		for _, s := range infos {
			sb := segmentBlock{Size: s.Size, Chunks: s.Chunks, Dead: s.Dead}
			if !s.Retired() {
				sb.Table = s.Table[:]
			}
			out.Segments = append(out.Segments, sb)
		}
		return Encode(out), err
	},
	"delta": func(b []byte) ([]byte, error) {
		d, err := DecodeDelta([][]byte{b})
		if err != nil {
			return nil, err
		}
		return EncodeDelta(d)[0], nil
	},
	"manifest": func(b []byte) ([]byte, error) {
		m, err := DecodeManifest(b)
		if err != nil {
			return nil, err
		}
		return m.Encode(), nil
	},
	"runs": func(b []byte) ([]byte, error) {
		r, err := DecodeRuns(b)
		return Encode(runBlock{Version: Version, Runs: flatten(r)}), err
	},
}

// TestGolden: the bytes of each kind of block are those in testdata.
func TestGolden(t *testing.T) {
	for kind, data := range samples(t) {
		path := filepath.Join("testdata", "golden", kind+".hex")
		if *update {
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(hex.EncodeToString(data)+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := hex.EncodeToString(data); got != strings.TrimSpace(string(want)) {
			t.Errorf("%s: the format has changed\n got %s\nwant %s", kind, got, want)
		}
		again, err := decoders[kind](data)
		if err != nil || !slices.Equal(again, data) {
			t.Errorf("%s does not come back from its decoder: %v", kind, err)
		}
	}
}

// TestStrict: every truncation and every changed byte of a block is refused or is another valid block with its own bytes.
func TestStrict(t *testing.T) {
	for kind, data := range samples(t) {
		for n := range min(len(data), 600) {
			if _, err := decoders[kind](data[:n]); err == nil {
				t.Errorf("%s cut to %d bytes is accepted", kind, n)
			}
			changed := slices.Clone(data)
			changed[n] ^= 0x10
			if again, err := decoders[kind](changed); err == nil && !slices.Equal(again, changed) {
				t.Errorf("%s with byte %d changed decodes to something else", kind, n)
			}
		}
		if _, err := decoders[kind](append(slices.Clone(data), 0)); err == nil {
			t.Errorf("%s with a byte behind it is accepted", kind)
		}
	}
}

func TestNewerVersionSaysSo(t *testing.T) {
	b := Encode(map[string]any{"v": 2, "unheard": "of"})
	var newer *NewerError
	if _, err := DecodeManifest(b); !errors.As(err, &newer) || newer.Version != 2 {
		t.Errorf("manifest of version 2: %v", err)
	}
}

func TestIDText(t *testing.T) {
	id := NewID([]byte("root"))
	got, err := ParseID(id.String())
	if err != nil || got != id || !strings.HasPrefix(id.String(), "bafkrei") {
		t.Errorf("ParseID(%s) = %s, %v", id, got, err)
	}
	for _, s := range []string{"", "x", "QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG", Digest(id).BlockCID().String(), "../etc"} {
		if _, err := ParseID(s); err == nil {
			t.Errorf("ParseID(%q) is accepted", s)
		}
	}
}

// TestDeltaApplied: for any change, the delta applied to the old release gives the new one, and a delta for something
// else is refused.
func TestDeltaApplied(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		from, to := drawTree(rt, "from"), drawTree(rt, "to")
		blocks := Blocks{}
		put := Put(nil).blocks(blocks)
		infos := drawInfos(rt)
		prev, next := &Manifest{Tree: build(t, from, blocks)}, &Manifest{Tree: build(t, to, blocks), Release: 2}
		prev.Directory, _ = BuildDirectory(infos, put)
		d := Delta{Edits: diff(from, to), First: uint32(len(infos))}
		for i := range rapid.IntRange(0, 5).Draw(rt, "new") {
			d.Segments = append(d.Segments, NewSegment{Table: Sum([]byte{byte(i)}), Size: 50, Chunks: 9})
		}
		if len(d.Segments) == 0 {
			d.First = 0
		}
		for i, s := range infos {
			if !s.Retired() && rapid.Bool().Draw(rt, "dies") {
				d.Dead = append(d.Dead, deadRuns(uint32(i), s, rapid.Uint64().Draw(rt, "which"))...)
			}
		}
		after, err := d.ApplyDirectory(infos)
		if err != nil {
			rt.Fatal(err)
		}
		for i, s := range infos { // what stays keeps its number and its table
			if !after[i].Retired() && after[i].Table != s.Table {
				rt.Fatalf("segment %d has moved", i)
			}
		}
		if next.Directory, err = BuildDirectory(after, put); err != nil {
			rt.Fatal(err)
		}
		got, err := DecodeDelta(EncodeDelta(d))
		if err != nil {
			rt.Fatal(err)
		}
		here := Blocks{}
		for _, root := range []Digest{prev.Tree} {
			if err := NodeBlocks(root, blocks, func(d Digest) { here[d] = blocks[d] }); err != nil {
				rt.Fatal(err)
			}
		}
		_, pages, _ := DecodeDirectory(blocks[prev.Directory])
		for _, p := range append(pages, prev.Directory) {
			here[p] = blocks[p]
		}
		if err := ApplyDelta(prev, next, got, here, Put(nil).blocks(here)); err != nil {
			rt.Fatal(err)
		}
		if missing, err := MissingNodes(next.Tree, here, 10); err != nil || len(missing) > 0 {
			rt.Fatalf("after the delta %d nodes are missing (%v)", len(missing), err)
		}
		loaded, err := LoadDirectory(next.Directory, here)
		if err != nil || !cmp.Equal(loaded, after, cmpopts.EquateEmpty()) {
			rt.Fatalf("directory: %v\n%s", err, cmp.Diff(after, loaded))
		}
		got.Upserts = append(got.Upserts, fileEntry("zzz1", 1))
		got.Sort()
		if err := ApplyDelta(prev, next, got, here, func([]byte) (Digest, error) { panic("put of a wrong delta") }); !errors.Is(err, ErrDelta) {
			rt.Fatalf("a wrong delta: %v", err)
		}
	})
}

func drawInfos(rt *rapid.T) []SegmentInfo {
	var infos []SegmentInfo
	for i := range rapid.IntRange(0, 1100).Draw(rt, "segments") {
		if i%7 == 3 {
			infos = append(infos, SegmentInfo{})
			continue
		}
		infos = append(infos, SegmentInfo{Table: Sum([]byte(fmt.Sprint(i))), Size: 100, Chunks: 20})
	}
	return infos
}

func deadRuns(n uint32, s SegmentInfo, which uint64) []Run {
	var runs []Run
	for i := range s.Chunks {
		if which&(1<<i) != 0 {
			runs = AppendRef(runs, Ref{n, i})
		}
	}
	return runs
}

func TestSegmentBuilder(t *testing.T) {
	var tables []*Table
	b := NewSegmentBuilder(5, func(n uint32, tb *Table) error {
		if n != 5+uint32(len(tables)) {
			t.Errorf("segment %d where %d should come", n, 5+len(tables))
		}
		tables = append(tables, tb)
		return nil
	})
	var want []Chunk
	for i := range 70000 { // many small, then large ones
		c := Chunk{Sum([]byte(fmt.Sprint(i))), 10}
		if i >= 69900 {
			c.Size = MaxChunkSize
		}
		ref, err := b.Add(c)
		if err != nil {
			t.Fatal(err)
		}
		if ref.Segment < 5 || len(want) == 0 && ref != (Ref{5, 0}) {
			t.Fatalf("chunk %d is at %v", i, ref)
		}
		want = append(want, c)
	}
	if err := b.Flush(); err != nil {
		t.Fatal(err)
	}
	var got []Chunk
	for _, tb := range tables {
		if tb.Size() > MaxSegmentSize || tb.Len() > MaxSegmentChunks || tb.Offset(tb.Len()) != tb.Size() {
			t.Errorf("segment of %d bytes in %d chunks", tb.Size(), tb.Len())
		}
		for i := range tb.Len() {
			got = append(got, tb.Chunk(i))
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("%d chunks came back of %d", len(got), len(want))
	}
}

func TestBitmapAgainstMap(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var b Bitmap
		m := map[uint32]bool{}
		for _, op := range rapid.SliceOf(rapid.Int32Range(-200, 200)).Draw(rt, "ops") {
			if op >= 0 {
				b.Set(uint32(op))
				m[uint32(op)] = true
			} else {
				b.Clear(uint32(-op))
				delete(m, uint32(-op))
			}
		}
		if b.Count() != len(m) || !b.Trim().canonical(201) {
			rt.Fatalf("%d in the bitmap, %d in the map", b.Count(), len(m))
		}
		for i := range uint32(220) {
			if b.Has(i) != m[i] {
				rt.Fatalf("bit %d", i)
			}
		}
	})
}

func fuzzDecoder(f *testing.F, kind string) {
	for _, data := range samples(f) {
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if again, err := decoders[kind](data); err == nil && !slices.Equal(again, data) {
			t.Errorf("accepted %x, which encodes as %x", data, again)
		}
	})
}

func FuzzLeaf(f *testing.F)      { fuzzDecoder(f, "leaf") }
func FuzzInner(f *testing.F)     { fuzzDecoder(f, "inner") }
func FuzzTable(f *testing.F)     { fuzzDecoder(f, "table") }
func FuzzDirectory(f *testing.F) { fuzzDecoder(f, "directory") }
func FuzzPage(f *testing.F)      { fuzzDecoder(f, "page") }
func FuzzManifest(f *testing.F)  { fuzzDecoder(f, "manifest") }
func FuzzRuns(f *testing.F)      { fuzzDecoder(f, "runs") }

// FuzzDelta cannot ask for the same bytes again: where a delta is cut into parts is free.
func FuzzDelta(f *testing.F) {
	for _, data := range samples(f) {
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := DecodeDelta([][]byte{data})
		if err != nil {
			return
		}
		got, err := DecodeDelta(EncodeDelta(d))
		if err != nil || !cmp.Equal(got, d, cmpopts.EquateEmpty()) {
			t.Errorf("%x decodes to %v and that to %v (%v)", data, d, got, err)
		}
	})
}

func FuzzID(f *testing.F) {
	f.Add(NewID(nil).String())
	f.Fuzz(func(t *testing.T, s string) {
		if id, err := ParseID(s); err == nil {
			if again, err := ParseID(id.String()); err != nil || again != id {
				t.Errorf("%q: %v", s, err)
			}
		}
	})
}
