package gateway

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"swarmnode/content"
)

// fakeSource has chunks in memory. It can be told to miss some.
type fakeSource struct {
	mu      sync.Mutex
	chunks  map[content.Ref][]byte
	missing map[content.Ref]bool
	asked   int
	ahead   map[uint64][]content.Ref
	file    *os.File // all chunks one after the other, if sendfile is tried
	offsets map[content.Ref]int64
}

func (s *fakeSource) Chunk(ctx context.Context, _ *Release, ref content.Ref, buf []byte) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	data, ok := s.chunks[ref]
	if !ok || s.missing[ref] {
		return nil, fmt.Errorf("chunk %v: %w", ref, ErrUnavailable)
	}
	return append(buf[:0], data...), ctx.Err()
}

func (s *fakeSource) File(ref content.Ref) (*os.File, int64, func(), bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	off, ok := s.offsets[ref]
	if !ok || s.file == nil || s.missing[ref] {
		return nil, 0, nil, false
	}
	f, err := os.Open(s.file.Name())
	return f, off, func() { f.Close() }, err == nil
}

func (s *fakeSource) Ahead(reader uint64, _ *Release, refs []content.Ref) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ahead[reader] = refs
}

func (s *fakeSource) Here(ref content.Ref) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.chunks[ref] != nil && !s.missing[ref]
}

// fakeCatalogue is one collection whose releases a test makes.
type fakeCatalogue struct {
	mu sync.Mutex
	c  *Collection
}

func (f *fakeCatalogue) Collections() []*Collection {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := *f.c
	return []*Collection{&c}
}

// blocks is a BlockSource in memory.
type blocks map[content.Digest][]byte

func (b blocks) Block(d content.Digest) ([]byte, bool) { data, ok := b[d]; return data, ok }

// file is one entry of a test release: a regular file, a symlink (Target) or a directory (path ends with "/").
type file struct {
	Path, Data, Target string
	Mtime              int64
}

var testID = content.NewID([]byte("a collection of the tests"))

const testMtime = 1_700_000_000

// newFake makes a catalogue with one collection "test" that has nothing yet.
func newFake(t testing.TB) (*fakeCatalogue, *fakeSource) {
	t.Helper()
	src := &fakeSource{chunks: map[content.Ref][]byte{}, missing: map[content.Ref]bool{}, ahead: map[uint64][]content.Ref{}, offsets: map[content.Ref]int64{}}
	f, err := os.Create(filepath.Join(t.TempDir(), "chunks"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	src.file = f
	now := time.Now()
	return &fakeCatalogue{c: &Collection{ID: testID, Name: "test", Fresh: now, Expires: now.Add(time.Hour), Source: src,
		Metadata: func(name string) ([]byte, error) { return nil, os.ErrNotExist }, Mirrors: func() []Mirror { return nil }}}, src
}

// chunkSize of the test releases is small, so that a file of some bytes has several.
const chunkSize = 1000

// publish adds a release with these files and makes it the served one; the one before is kept.
func (f *fakeCatalogue) publish(t testing.TB, src *fakeSource, number uint64, files ...file) *Release {
	t.Helper()
	store := blocks{}
	put := func(b []byte) (content.Digest, error) { d := content.Sum(b); store[d] = b; return d, nil }
	f.mu.Lock()
	defer f.mu.Unlock()
	first := uint32(0)
	if f.c.Served != nil {
		first = uint32(len(f.c.Served.Infos))
	}
	infos := make([]content.SegmentInfo, first)
	builder := content.NewSegmentBuilder(first, func(_ uint32, table *content.Table) error {
		d, err := put(table.Encode())
		infos = append(infos, content.SegmentInfo{Table: d, Size: table.Size(), Chunks: table.Len()})
		return err
	})
	var entries []content.Entry
	for _, x := range files {
		entries = append(entries, src.add(t, builder, x))
	}
	if err := builder.Flush(); err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(entries, func(a, b content.Entry) int { return content.ComparePaths(a.Path, b.Path) })
	tree, totals, err := content.BuildTree(func(yield func(content.Entry, error) bool) {
		for _, e := range entries {
			if !yield(e, nil) {
				return
			}
		}
	}, put)
	if err != nil {
		t.Fatal(err)
	}
	directory, err := content.BuildDirectory(infos, put)
	if err != nil {
		t.Fatal(err)
	}
	r := &Release{Infos: infos, Blocks: store, Manifest: &content.Manifest{Collection: testID, Name: "test",
		Release: number, Created: testMtime, Tree: tree, Directory: directory, Totals: totals}}
	if f.c.Served != nil {
		f.c.Kept = append([]*Release{f.c.Served}, f.c.Kept...)
	}
	f.c.Served, f.c.Newest = r, number
	return r
}

// add cuts a file into chunks and keeps them.
func (s *fakeSource) add(t testing.TB, builder *content.SegmentBuilder, x file) content.Entry {
	t.Helper()
	if p, ok := strings.CutSuffix(x.Path, "/"); ok {
		return content.Entry{Path: p, Mode: content.ModeDir | 0o755}
	}
	e := content.Entry{Path: x.Path, Mode: content.ModeFile | 0o644, Mtime: cmp.Or(x.Mtime, testMtime)}
	if x.Target != "" {
		e.Mode, e.Target = content.ModeLink|0o777, x.Target
		return e
	}
	e.Size, e.SHA256 = uint64(len(x.Data)), content.Sum([]byte(x.Data))
	for part := range slices.Chunk([]byte(x.Data), chunkSize) {
		ref, err := builder.Add(content.Chunk{Digest: content.Sum(part), Size: uint32(len(part))})
		if err != nil {
			t.Fatal(err)
		}
		s.keep(t, ref, part)
		if n := len(e.Runs); n > 0 && e.Runs[n-1].Segment == ref.Segment && e.Runs[n-1].First+e.Runs[n-1].Count == ref.Index {
			e.Runs[n-1].Count++
		} else {
			e.Runs = append(e.Runs, content.Run{Segment: ref.Segment, First: ref.Index, Count: 1})
		}
	}
	return e
}

func (s *fakeSource) keep(t testing.TB, ref content.Ref, data []byte) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	end, err := s.file.Seek(0, io.SeekEnd)
	if err == nil {
		_, err = s.file.Write(data)
	}
	if err != nil {
		t.Fatal(err)
	}
	s.chunks[ref], s.offsets[ref] = slices.Clone(data), end
}

func TestFake(t *testing.T) {
	f, src := newFake(t)
	r := f.publish(t, src, 1, file{Path: "a/"}, file{Path: "a/b", Data: strings.Repeat("x", 2500)}, file{Path: "link", Target: "a/b"})
	e, err := content.Lookup(r.Manifest.Tree, r.Blocks, "a/b")
	if err != nil || e.Size != 2500 {
		t.Fatalf("%+v, %v", e, err)
	}
	data, err := src.Chunk(t.Context(), r, content.Ref{Segment: e.Runs[0].Segment, Index: e.Runs[0].First}, nil)
	if err != nil || len(data) != chunkSize {
		t.Errorf("%d bytes, %v", len(data), err)
	}
}
