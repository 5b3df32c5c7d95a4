// Package storetest is the contract of every store of chunks, as one suite of tests, and the segments it works with.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"swarmnode/content"
	"swarmnode/content/store"
)

// Store is what both kinds of store have in common.
type Store interface {
	Add(number uint32, info content.SegmentInfo, t *content.Table) error
	Chunk(ref content.Ref, buf []byte) ([]byte, error)
	Have(number uint32) content.Bitmap
	Segments() []uint32
	Sync(ctx context.Context) error
	Close() error
}

// Subject is an empty store under test, opened with [Tables] as its Config.Tables, and what its kind does differently.
type Subject struct {
	Store
	// Put gives the store a chunk. It may refuse wrong bytes at once or only never serve them.
	Put func(ref content.Ref, data []byte) error
	// Corrupt changes the bytes of a chunk where the store keeps them.
	Corrupt func(t *testing.T, ref content.Ref)
	// Reopen closes the store and opens it again.
	Reopen func(t *testing.T) Store
	// Bad gives the chunks that the store told OnBad about so far, over all reopens.
	Bad func() []content.Ref
}

// Segment is a segment to test with, with the bytes of its chunks.
type Segment struct {
	Number uint32
	Info   content.SegmentInfo
	Table  *content.Table
	Data   [][]byte
}

// Ref gives the place of a chunk.
func (s Segment) Ref(i uint32) content.Ref { return content.Ref{Segment: s.Number, Index: i} }

// NewSegment makes a segment of chunks of the given sizes, the same for the same arguments.
func NewSegment(number uint32, sizes ...int) Segment {
	rng := rand.New(rand.NewPCG(uint64(number), uint64(len(sizes))))
	s := Segment{Number: number}
	var chunks []content.Chunk
	for _, size := range sizes {
		data := make([]byte, size)
		for i := range data {
			data[i] = byte(rng.Uint32())
		}
		s.Data = append(s.Data, data)
		chunks = append(chunks, content.Chunk{Digest: content.Sum(data), Size: uint32(size)})
	}
	s.Table = content.NewTable(chunks)
	s.Info = content.SegmentInfo{Table: content.Sum(s.Table.Encode()), Size: s.Table.Size(), Chunks: s.Table.Len()}
	return s
}

// Segments are the segments of the suite: small chunks, chunks around the block size, one chunk, many chunks.
var Segments = sync.OnceValue(func() []Segment {
	many := make([]int, 3000)
	for i := range many {
		many[i] = 1 + i%7
	}
	return []Segment{
		NewSegment(0, 1, 100, 5000, 4096, 4095, 4097, 70_000, 3),
		NewSegment(1, 20_000, 9000, 1, 1, 1, 12_288, 65_536),
		NewSegment(7, content.MaxChunkSize),
		NewSegment(content.MaxSegments-1, many...),
	}
})

// Tables gives the tables of Segments by their digest.
func Tables(d content.Digest) (*content.Table, error) {
	for _, s := range Segments() {
		if s.Info.Table == d {
			return s.Table, nil
		}
	}
	return nil, fmt.Errorf("table %s is none of the suite", d)
}

// Run checks that the stores which open makes keep the contract. open is called once for each test.
func Run(t *testing.T, open func(t *testing.T) Subject) {
	for _, c := range []struct {
		name string
		test func(t *testing.T, s Subject)
	}{
		{"holds nothing", holdsNothing},
		{"gives what was put", givesWhatWasPut},
		{"keeps over a reopen", keepsOverReopen},
		{"never serves wrong bytes", neverServesWrongBytes},
		{"never serves corrupted bytes", neverServesCorrupted},
		{"refuses what is out of range", refusesOutOfRange},
		{"refuses contradictions", refusesContradictions},
		{"serves many readers", servesManyReaders},
		{"is closed", isClosed},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.test(t, open(t))
		})
	}
}

func holdsNothing(t *testing.T, s Subject) {
	for _, seg := range Segments() {
		wantNotHere(t, s, seg.Ref(0))
		if got := s.Have(seg.Number); len(got) != 0 {
			t.Errorf("Have(%d) of an unknown segment = %x, want none", seg.Number, got)
		}
		add(t, s, seg)
		wantNotHere(t, s, seg.Ref(0))
		if got := s.Have(seg.Number); len(got) != 0 {
			t.Errorf("Have(%d) = %x before anything was put, want none", seg.Number, got)
		}
	}
	if got, want := fmt.Sprint(s.Segments()), fmt.Sprint([]uint32{0, 1, 7, content.MaxSegments - 1}); got != want {
		t.Errorf("Segments = %s, want %s", got, want)
	}
}

func givesWhatWasPut(t *testing.T, s Subject) {
	for _, seg := range Segments() {
		add(t, s, seg)
		fill(t, s, seg, func(i uint32) bool { return i%2 == 0 })
		wantChunks(t, s, seg, func(i uint32) bool { return i%2 == 0 })
		fill(t, s, seg, func(uint32) bool { return true })
		wantChunks(t, s, seg, func(uint32) bool { return true })
		if got := s.Have(seg.Number); !bytes.Equal(got, content.Full(seg.Info.Chunks)) {
			t.Errorf("Have(%d) = %d chunks, want all %d", seg.Number, got.Count(), seg.Info.Chunks)
		}
	}
	seg := Segments()[0]
	if got, err := s.Chunk(seg.Ref(2), nil); err != nil || !bytes.Equal(got, seg.Data[2]) {
		t.Errorf("Chunk without a buffer: %d bytes, %v", len(got), err)
	}
	buf := make([]byte, 0, content.MaxChunkSize)
	if got, err := s.Chunk(seg.Ref(2), buf); err != nil || &got[0] != &buf[:1][0] {
		t.Errorf("Chunk did not read into the buffer given (%v)", err)
	}
}

func keepsOverReopen(t *testing.T, s Subject) {
	third := func(i uint32) bool { return i%3 == 0 }
	for _, seg := range Segments() {
		add(t, s, seg)
		fill(t, s, seg, third)
	}
	if err := s.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		s.Store = s.Reopen(t)
		for _, seg := range Segments() {
			wantChunks(t, s, seg, third)
			add(t, s, seg)
		}
	}
	for _, seg := range Segments() {
		fill(t, s, seg, func(uint32) bool { return true })
	}
	s.Store = s.Reopen(t)
	for _, seg := range Segments() {
		wantChunks(t, s, seg, func(uint32) bool { return true })
	}
}

func neverServesWrongBytes(t *testing.T, s Subject) {
	seg := Segments()[0]
	add(t, s, seg)
	wrong := bytes.Clone(seg.Data[2])
	wrong[0] ^= 1
	for _, data := range [][]byte{wrong, seg.Data[2][:4999], nil} {
		_ = s.Put(seg.Ref(2), data)
		wantNotHere(t, s, seg.Ref(2))
		if s.Have(0).Has(2) {
			t.Error("Have lists a chunk of which only wrong bytes were put")
		}
	}
	fill(t, s, seg, func(uint32) bool { return true })
	wantChunks(t, s, seg, func(uint32) bool { return true })
}

func neverServesCorrupted(t *testing.T, s Subject) {
	seg := Segments()[0]
	add(t, s, seg)
	fill(t, s, seg, func(uint32) bool { return true })
	if err := s.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.Store = s.Reopen(t)
	s.Corrupt(t, seg.Ref(6))
	good := func(i uint32) bool { return i != 6 }
	wantNotHere(t, s, seg.Ref(6))
	wantChunks(t, s, seg, good)
	if bad := s.Bad(); len(bad) != 1 || bad[0] != seg.Ref(6) {
		t.Errorf("OnBad heard of %v, want once of %v", bad, seg.Ref(6))
	}
	if err := s.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.Store = s.Reopen(t)
	wantChunks(t, s, seg, good)
	fill(t, s, seg, func(i uint32) bool { return i == 6 }) // it is fetched again
	wantChunks(t, s, seg, func(uint32) bool { return true })
}

func refusesOutOfRange(t *testing.T, s Subject) {
	seg := Segments()[0]
	add(t, s, seg)
	fill(t, s, seg, func(uint32) bool { return true })
	for _, ref := range []content.Ref{
		{Index: 8}, {Index: 1 << 31}, {Index: 1<<32 - 1}, {Segment: 1<<32 - 1}, {Segment: content.MaxSegments}, {Segment: 3},
		{Segment: 1<<32 - 1, Index: 1<<32 - 1},
	} {
		wantNotHere(t, s, ref)
		if s.Have(ref.Segment).Has(ref.Index) {
			t.Errorf("Have lists %v", ref)
		}
	}
	for _, ref := range []content.Ref{{Index: 8}, {Index: 1<<32 - 1}, {Segment: 1<<32 - 1}} {
		if err := s.Put(ref, seg.Data[0]); err == nil {
			t.Errorf("Put of %v was not refused", ref)
		}
	}
	for _, n := range []uint32{content.MaxSegments, 1<<32 - 1} {
		if err := s.Add(n, seg.Info, seg.Table); err == nil {
			t.Errorf("Add of segment %d was not refused", n)
		}
	}
	wantChunks(t, s, seg, func(uint32) bool { return true })
}

func refusesContradictions(t *testing.T, s Subject) {
	a, b := Segments()[0], Segments()[1]
	add(t, s, a)
	if err := s.Add(a.Number, b.Info, b.Table); !errors.Is(err, store.ErrOtherTable) {
		t.Errorf("Add with the table of another segment: %v, want ErrOtherTable", err)
	}
	if err := s.Add(b.Number, b.Info, a.Table); !errors.Is(err, store.ErrOtherTable) {
		t.Errorf("Add with a table that is not the one named: %v, want ErrOtherTable", err)
	}
	if err := s.Add(3, content.SegmentInfo{}, nil); err == nil {
		t.Error("Add of a retired segment was not refused")
	}
	unknown := NewSegment(5, 10)
	if err := s.Add(5, unknown.Info, nil); err == nil {
		t.Error("Add without a table that can be had was not refused")
	}
	if err := s.Add(b.Number, b.Info, nil); err != nil {
		t.Errorf("Add with the table from Config.Tables: %v", err)
	}
}

func servesManyReaders(t *testing.T, s Subject) {
	var readers sync.WaitGroup
	defer readers.Wait()
	for _, seg := range Segments()[:3] {
		add(t, s, seg)
		for range 3 {
			readers.Go(func() {
				buf := make([]byte, content.MaxChunkSize)
				for n := 0; n < 40; n++ {
					for i := range seg.Info.Chunks {
						got, err := s.Chunk(seg.Ref(i), buf)
						if err != nil && !errors.Is(err, store.ErrNotHere) || err == nil && !bytes.Equal(got, seg.Data[i]) {
							t.Errorf("chunk %d of segment %d: %d bytes, %v", i, seg.Number, len(got), err)
							return
						}
						_ = s.Have(seg.Number)
					}
				}
			})
		}
		readers.Go(func() {
			for i := range seg.Info.Chunks {
				if err := s.Put(seg.Ref(i), seg.Data[i]); err != nil {
					t.Errorf("put chunk %d of segment %d: %v", i, seg.Number, err)
				}
				if i%4 == 0 {
					if err := s.Sync(t.Context()); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
}

func isClosed(t *testing.T, s Subject) {
	seg := Segments()[0]
	add(t, s, seg)
	fill(t, s, seg, func(uint32) bool { return true })
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Chunk(seg.Ref(0), nil); err == nil {
		t.Error("Chunk after Close gives no error")
	}
	if err := s.Add(1, Segments()[1].Info, Segments()[1].Table); err == nil {
		t.Error("Add after Close gives no error")
	}
	if err := s.Sync(t.Context()); err == nil {
		t.Error("Sync after Close gives no error")
	}
	_ = s.Have(0)
}

func add(t *testing.T, s Subject, seg Segment) {
	t.Helper()
	if err := s.Add(seg.Number, seg.Info, seg.Table); err != nil {
		t.Fatal(err)
	}
}

func fill(t *testing.T, s Subject, seg Segment, which func(i uint32) bool) {
	t.Helper()
	for i := range seg.Info.Chunks {
		if which(i) {
			if err := s.Put(seg.Ref(i), seg.Data[i]); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func wantNotHere(t *testing.T, s Subject, ref content.Ref) {
	t.Helper()
	if got, err := s.Chunk(ref, nil); !errors.Is(err, store.ErrNotHere) {
		t.Errorf("Chunk(%v) = %d bytes, %v; want ErrNotHere", ref, len(got), err)
	}
}

// wantChunks checks every chunk of a segment, read and listed.
func wantChunks(t *testing.T, s Subject, seg Segment, which func(i uint32) bool) {
	t.Helper()
	buf := make([]byte, content.MaxChunkSize)
	have := s.Have(seg.Number)
	for i := range seg.Info.Chunks {
		if have.Has(i) != which(i) {
			t.Fatalf("Have(%d) lists chunk %d: %t, want %t", seg.Number, i, have.Has(i), which(i))
		}
		if !which(i) {
			wantNotHere(t, s, seg.Ref(i))
			continue
		}
		if got, err := s.Chunk(seg.Ref(i), buf); err != nil || !bytes.Equal(got, seg.Data[i]) {
			t.Fatalf("chunk %d of segment %d: %d bytes, %v; want its %d bytes", i, seg.Number, len(got), err, len(seg.Data[i]))
		}
	}
}
