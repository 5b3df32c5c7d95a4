package mirror

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"swarmnode/content"
	"swarmnode/content/store"
)

// shelf is a cache with segments of which any chunk can be put.
type shelf struct {
	*Cache
	t     *testing.T
	infos []content.SegmentInfo
	data  map[content.Ref][]byte
	table map[content.Digest]*content.Table
	dir   string
	told  map[uint32]int
}

// newShelf makes one with segments of so many chunks of so many bytes.
func newShelf(t *testing.T, budget int64, segments, chunks int, size int) *shelf {
	s := &shelf{t: t, data: map[content.Ref][]byte{}, table: map[content.Digest]*content.Table{}, dir: t.TempDir(), told: map[uint32]int{}}
	for n := range uint32(segments) {
		var list []content.Chunk
		for i := range uint32(chunks) {
			b := bytes.Repeat(fmt.Appendf(nil, "%d/%d;", n, i), size)[:size]
			s.data[content.Ref{Segment: n, Index: i}] = b
			list = append(list, content.Chunk{Digest: content.Sum(b), Size: uint32(size)})
		}
		table := content.NewTable(list)
		d := content.Sum(table.Encode())
		s.table[d] = table
		s.infos = append(s.infos, content.SegmentInfo{Table: d, Chunks: table.Len(), Size: table.Size()})
	}
	s.open(budget)
	t.Cleanup(func() { s.disk.Close() })
	return s
}

func (s *shelf) open(budget int64) {
	s.Cache = NewCache(must(store.OpenDisk(s.dir, store.Config{Budget: budget, Tables: func(d content.Digest) (*content.Table, error) {
		return s.table[d], nil
	}})), nil)
	s.info = func(n uint32) (content.SegmentInfo, bool) { return s.infos[n], true }
	s.tell = func(n uint32) { s.told[n]++ }
}

func (s *shelf) put(refs ...content.Ref) {
	s.t.Helper()
	for _, ref := range refs {
		if err := s.Put(ref, s.data[ref]); err != nil {
			s.t.Fatalf("put %v: %v", ref, err)
		}
	}
}

// here lists the chunks of segment 0.
func (s *shelf) here() (list []uint32) {
	for i := range s.infos[0].Chunks {
		if s.disk.Has(content.Ref{Index: i}) {
			list = append(list, i)
		}
	}
	return list
}

func (s *shelf) wantHere(what string, want ...uint32) {
	s.t.Helper()
	if got := s.here(); !slices.Equal(got, want) {
		s.t.Errorf("%s: %v are here, want %v", what, got, want)
	}
}

// TestCacheEvictsWhatWasNotUsedForLongest fills a cache of 20 chunks: one of them is spare, and two when it was cleared.
func TestCacheEvictsWhatWasNotUsedForLongest(t *testing.T) {
	const size = 64 << 10
	s := newShelf(t, 20*size, 1, 40, size)
	for i := range uint32(19) {
		s.put(content.Ref{Index: i})
	}
	if err := s.Evict(); err != nil {
		t.Fatal(err)
	}
	if n := len(s.here()); n != 18 && n != 19 {
		t.Errorf("%d chunks stay of 19, want all but what has to be spare", n)
	}
	for _, i := range []uint32{0, 2, 4} {
		s.Hit(content.Ref{Index: i})
	}
	for i := uint32(20); i < 26; i++ {
		for s.Put(content.Ref{Index: i}, s.data[content.Ref{Index: i}]) != nil {
			if err := s.Evict(); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, i := range []uint32{0, 2, 4, 20, 25} {
		if !s.disk.Has(content.Ref{Index: i}) {
			t.Errorf("chunk %d, used lately, is gone; %v are here", i, s.here())
		}
	}
	for _, i := range []uint32{1, 3, 5} {
		if s.disk.Has(content.Ref{Index: i}) {
			t.Errorf("chunk %d, not used for longest, is here: %v", i, s.here())
		}
	}
	if s.told[0] == 0 {
		t.Error("nobody was told that chunks are gone")
	}
}

// TestCacheEvictsTheDeadFirst has the newest release do without chunks that were used last.
func TestCacheEvictsTheDeadFirst(t *testing.T) {
	const size = 64 << 10
	s := newShelf(t, 10*size, 1, 20, size)
	for i := range uint32(10) {
		s.put(content.Ref{Index: i})
	}
	for i := uint32(7); i < 10; i++ {
		s.infos[0].Dead.Set(i)
	}
	if err := s.Evict(); err != nil {
		t.Fatal(err)
	}
	s.wantHere("after three died", 0, 1, 2, 3, 4, 5, 6)

	// Of the whole segment nothing is left when the release does not have it: it is forgotten, and comes back when it is live again.
	live := s.infos[0]
	s.infos[0] = content.SegmentInfo{}
	s.wish.Store(10 * size)
	if err := s.Evict(); err != nil {
		t.Fatal(err)
	}
	if n := len(s.disk.Segments()); n != 0 {
		t.Errorf("%d segments stay", n)
	}
	if err := s.Put(content.Ref{}, s.data[content.Ref{}]); !errors.Is(err, store.ErrNotHere) {
		t.Errorf("put of a segment that no release has: %v", err)
	}
	s.infos[0] = live
	s.put(content.Ref{Index: 1})
	s.wantHere("live again", 1)
}

// TestCacheWithALargerPast opens a cache with less room than what is in it: it fits from the first moment.
func TestCacheWithALargerPast(t *testing.T) {
	const size = 64 << 10
	s := newShelf(t, 40*size, 2, 20, size)
	for i := range uint32(18) {
		s.put(content.Ref{Index: i}, content.Ref{Segment: 1, Index: i})
	}
	if err := s.disk.Close(); err != nil {
		t.Fatal(err)
	}
	s.open(10 * size)
	if err := s.Evict(); err != nil {
		t.Fatal(err)
	}
	if used := s.disk.Used(); used > 10*size || used < 8*size {
		t.Errorf("%d bytes are used of %d", used, 10*size)
	}
	if n := s.disk.Have(1).Count(); n < 8 {
		t.Errorf("%d chunks of the newer segment are here, want what fits", n)
	}
}

// TestCacheThatIsTooSmall takes nothing larger than its budget, and does not throw away what it has for it.
func TestCacheThatIsTooSmall(t *testing.T) {
	s := newShelf(t, 100<<10, 1, 3, 64<<10)
	s.put(content.Ref{})
	if err := s.Put(content.Ref{Index: 1}, s.data[content.Ref{Index: 1}]); !errors.Is(err, errNoRoom) {
		t.Errorf("put of what finds no room: %v", err)
	}
	if err := s.Evict(); err != nil {
		t.Fatal(err)
	}
	s.put(content.Ref{Index: 1})
	s.wantHere("after room was made", 1)
}

// TestCacheRun has a cache free what it has to in the background, as long as it runs.
func TestCacheRun(t *testing.T) {
	const size = 64 << 10
	s := newShelf(t, 20*size, 4, 40, size)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	for n := range uint32(4) {
		for i := range uint32(40) {
			ref := content.Ref{Segment: n, Index: i}
			for tries := 0; s.Put(ref, s.data[ref]) != nil; tries++ { // nobody waits for room in the node; a test may
				if tries > 1000 {
					t.Fatalf("no room for %v", ref)
				}
				time.Sleep(time.Millisecond)
			}
			if used := s.disk.Used(); used > 20*size {
				t.Fatalf("%d bytes are used of %d", used, 20*size)
			}
		}
	}
	stop()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("Run gave %v", err)
	}
	if !s.disk.Has(content.Ref{Segment: 3, Index: 39}) {
		t.Error("what came last is not here")
	}
}

// TestCacheAgainstAModel makes 1,000 random reads, as a gateway does: what is not here is put, if there is room. The budget holds
// after each, and every byte is right.
func TestCacheAgainstAModel(t *testing.T) {
	const budget, size = 1 << 20, 50_000 // not a multiple of what file systems free
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 1))
	s := newShelf(t, budget, 5, 30, size)
	hits, misses := 0, 0
	var model []content.Ref // what a plain list of the last used would hold if it were never full to the brim
	ideal := 0
	for k := range 1000 {
		ref := content.Ref{Segment: uint32(min(rng.ExpFloat64(), 4)), Index: uint32(min(8*rng.ExpFloat64(), 29))}
		if i := slices.Index(model, ref); i >= 0 {
			ideal++
			model = slices.Delete(model, i, i+1)
		}
		model = append(model, ref)
		model = model[max(0, len(model)-budget*9/10/size):]
		got, err := s.disk.Chunk(ref, nil)
		switch {
		case err == nil && bytes.Equal(got, s.data[ref]):
			s.Hit(ref)
			hits++
		case errors.Is(err, store.ErrNotHere):
			misses++
			if err := s.Put(ref, s.data[ref]); err == nil {
				s.Hit(ref) // it goes to the reader: that is no hit
			} else if !errors.Is(err, errNoRoom) {
				t.Fatalf("seed %d, read %d: put %v: %v", seed, k, ref, err)
			}
		default:
			t.Fatalf("seed %d, read %d: %v: %d bytes, %v", seed, k, ref, len(got), err)
		}
		if used := s.disk.Used(); used > budget {
			t.Fatalf("seed %d, read %d: %d bytes are used of %d", seed, k, used, int64(budget))
		}
		select { // as Run does, now and then a little late
		case <-s.crowded:
			if err := s.Evict(); err != nil {
				t.Fatal(err)
			}
		default:
		}
		if k%300 == 299 {
			if err := s.disk.Close(); err != nil {
				t.Fatal(err)
			}
			stats := s.Stats()
			s.open(budget)
			s.hits.Store(stats.Hits)
			s.misses.Store(stats.Misses)
		}
	}
	if st := s.Stats(); st.Hits != uint64(hits) || st.Misses != uint64(misses) || st.Budget != budget || st.Used != s.disk.Used() {
		t.Errorf("seed %d: figures %+v, want %d hits and %d misses", seed, st, hits, misses)
	}
	if hits < ideal*3/4 { // the order is lost at each start, and a chunk that finds no room is not kept
		t.Errorf("seed %d: %d of 1,000 reads were hits, a plain list would have had %d", seed, hits, ideal)
	}
}
