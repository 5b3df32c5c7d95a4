package policy

import (
	"slices"

	"swarmnode/content"
)

// Sizes gives the size in bytes of each chunk of a segment, as its table has it.
type Sizes func(index uint32) uint32

// want is a segment of which chunks are needed. It holds one of the dense slot numbers, which the slotSets index.
type want struct {
	seg   uint32
	slot  uint32
	sizes Sizes
	end   uint32         // one more than the largest index ever needed
	grain uint32         // chunks to about one smallest run: where runs like to begin
	need  content.Bitmap // not here yet
	free  content.Bitmap // of these, not asked of anybody
	needs int
	frees int

	holders
	bucket  int  // index into wantIndex.buckets; -1 when nothing is free
	stuck   bool // something is free and supply is zero
	touched bool // for Holds
}

// holders is who has a want.
type holders struct {
	parts  *parts // Transfer.parts of the segment
	lack   []lack // by source
	whole  int    // sources that have all of it
	supply int    // sources that may have a free chunk
}

// rarest is the number of buckets: segments with this many whole holders or more count as equally common.
const rareBuckets = 32

// wantIndex finds the rarest wanted segment that a source can serve.
type wantIndex struct {
	bySegment map[uint32]*want
	slots     []*want // nil: not in use
	unused    []uint32
	buckets   [rareBuckets]slotSet // slots with free chunks, by whole holders
	begun     slotSet              // slots of which something was asked: finished before others as rare are begun
	left      int                  // sum of needs
	open      int                  // slots with free chunks
	stuck     int                  // of these, without a source
}

// reindex puts w where its counts say it belongs. Every change of frees, whole or supply is followed by it.
func (t *Transfer) reindex(w *want) {
	x := &t.wants
	bucket := -1
	if w.frees > 0 {
		bucket = min(w.whole, rareBuckets-1)
	}
	if bucket != w.bucket {
		if w.bucket >= 0 {
			x.buckets[w.bucket].clear(w.slot)
		}
		if bucket >= 0 {
			x.buckets[bucket].set(w.slot)
		}
		if w.bucket < 0 {
			x.open++
		}
		if bucket < 0 {
			x.open--
		}
		if bucket >= 0 && (w.bucket < 0 || bucket < w.bucket) {
			for _, s := range t.order {
				if s.useful.has(w.slot) {
					s.rarest = min(s.rarest, int32(bucket))
				}
			}
		}
		w.bucket = bucket
	}
	if stuck := w.frees > 0 && w.supply == 0; stuck != w.stuck {
		w.stuck = stuck
		if stuck {
			x.stuck++
		} else {
			x.stuck--
		}
	}
}

func (x *wantIndex) add(seg uint32) *want {
	w := &want{seg: seg, bucket: -1, grain: 1}
	if n := len(x.unused); n > 0 {
		w.slot, x.unused = x.unused[n-1], x.unused[:n-1]
		x.slots[w.slot] = w
	} else {
		w.slot = uint32(len(x.slots))
		x.slots = append(x.slots, w)
	}
	x.bySegment[seg] = w
	return w
}

// Want adds chunks of a segment to what is wanted. Chunks already wanted stay as they are; a chunk that was obtained
// before and is needed again may be given again. The sizes are asked during the call and later; need is copied.
func (t *Transfer) Want(seg uint32, sizes Sizes, need content.Bitmap) {
	fresh := need.Clone()
	w := t.wants.bySegment[seg]
	if w != nil {
		fresh.AndNot(w.need)
	}
	fresh = fresh.Trim()
	count := fresh.Count()
	if count == 0 {
		return
	}
	if w == nil {
		w = t.wants.add(seg)
		w.parts = t.parts[seg]
		defer t.findHolders(w)
	}
	w.sizes = sizes
	w.end = max(w.end, uint32(len(fresh))*8)
	for w.end > 0 && !fresh.Has(w.end-1) && !w.need.Has(w.end-1) {
		w.end--
	}
	w.need.Or(fresh)
	w.free.Or(fresh)
	w.needs += count
	w.frees += count
	t.wants.left += count
	var bytes uint64
	for i := next(fresh, 0); i < w.end; i = next(fresh, i+1) {
		bytes += uint64(sizes(i))
	}
	if bytes > 0 {
		w.grain = uint32(max(1, uint64(count)*t.cfg.MinRun/bytes))
	}
	t.reindex(w)
	t.offerAll(w)
}

// findHolders looks through what the sources said before w was wanted.
func (t *Transfer) findHolders(w *want) {
	for _, s := range t.order {
		t.found(s, w)
	}
}

// Drop takes a segment out of what is wanted. Its requests are cancelled.
func (t *Transfer) Drop(seg uint32) {
	w := t.wants.bySegment[seg]
	if w == nil {
		return
	}
	t.remove(w)
}

// remove forgets a want of which nothing is needed any more. A request that still expects chunks of it is cancelled.
func (t *Transfer) remove(w *want) {
	for _, s := range t.order {
		for _, r := range slices.Clone(s.asked) {
			if r.w == w && len(r.open) > 0 {
				t.end(r)
				t.news.cancel = append(t.news.cancel, r.ID)
			}
		}
	}
	t.wants.left -= w.needs
	w.needs, w.frees = 0, 0
	w.need, w.free = nil, nil
	for _, s := range t.order {
		if s.useful.has(w.slot) {
			t.withdraw(s, w)
		}
	}
	w.lack = nil
	t.reindex(w)
	t.wants.begun.clear(w.slot)
	t.wants.slots[w.slot] = nil
	t.wants.unused = append(t.wants.unused, w.slot)
	delete(t.wants.bySegment, w.seg)
}

// release makes a chunk free again after a request that did not bring it.
func (t *Transfer) release(w *want, i uint32) {
	if !w.need.Has(i) || w.free.Has(i) {
		return
	}
	w.free.Set(i)
	w.frees++
	t.reindex(w)
	for _, s := range t.order {
		whole, row := s.whole(w.seg), w.parts.row(s)
		if !whole && row == nil {
			continue
		}
		s.dry = false // looked at again even if it lacks the chunk: then it turns out to have nothing to offer
		if (whole || row.Has(i)) && !w.lacks(s).Has(i) {
			t.offer(s, w)
		}
	}
}

// arrived notes that a chunk is here. It reports whether it was needed.
func (t *Transfer) arrived(w *want, i uint32) bool {
	if !w.need.Has(i) {
		return false
	}
	w.need.Clear(i)
	w.needs--
	t.wants.left--
	if w.free.Has(i) {
		w.free.Clear(i)
		w.frees--
		t.reindex(w)
	}
	if w.needs == 0 {
		t.news.complete = append(t.news.complete, w.seg)
		t.remove(w)
	}
	return true
}

// offer notes that s may have a free chunk of w; withdraw that it has none.
func (t *Transfer) offer(s *source, w *want) {
	s.dry = false
	if !s.useful.has(w.slot) {
		s.useful.set(w.slot)
		w.supply++
		t.reindex(w)
	}
	if w.bucket >= 0 {
		s.rarest = min(s.rarest, int32(w.bucket))
	}
}

func (t *Transfer) withdraw(s *source, w *want) {
	s.useful.clear(w.slot)
	w.supply--
	t.reindex(w)
}

func (t *Transfer) offerAll(w *want) {
	for _, s := range t.order {
		if t.holds(s, w) {
			t.offer(s, w)
		}
	}
}

// next is the first member of b at or after i, or a number past every index.
func next(b content.Bitmap, i uint32) uint32 {
	for int(i/8) < len(b) {
		if rest := b[i/8] >> (i % 8); rest != 0 {
			for ; rest&1 == 0; rest >>= 1 {
				i++
			}
			return i
		}
		i = (i/8 + 1) * 8
	}
	return 1<<32 - 1
}
