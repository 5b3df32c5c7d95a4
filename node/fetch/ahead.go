package fetch

import (
	"slices"
	"time"

	"swarmnode/content"
	"swarmnode/node/policy"
)

const (
	// maxAhead is the most bytes that are read ahead of all readers of a node together: four fast ones, or hundreds of slow ones.
	maxAhead = 64 << 20
	// maxHint is the most chunks of one hint that are looked at: 16 MiB of chunks of 4 KiB.
	maxHint = 4096
)

// reader is somebody who reads chunk after chunk.
type reader struct {
	pace   policy.Ahead
	table  func(segment uint32) (*content.Table, error)
	rest   []content.Ref // what it will read, after the window
	window []ahead       // what it will read next
	bytes  uint64        // of the window, counted in the room
	last   segmentTable  // that was looked up
}

type segmentTable struct {
	segment uint32
	*content.Table
}

// find gives the table of a segment: mostly that of the chunk before.
func (r *reader) find(segment uint32) (*content.Table, error) {
	if r.last.Table == nil || r.last.segment != segment {
		t, err := r.table(segment)
		if err != nil {
			return nil, err
		}
		r.last = segmentTable{segment, t}
	}
	return r.last.Table, nil
}

// ahead is a chunk of a window.
type ahead struct {
	ref     content.Ref
	size    uint32
	counted bool // in the room
}

// Ahead says that a reader will read these chunks next, in this order, so that they are fetched before it asks. It replaces the reader's
// last hint; nil ends it. How many are fetched follows the reader's rate: one at first, then up to policy.Ahead's limits. What
// is here already, as Config.Here says, is not fetched. table gives the tables of the segments.
func (f *Fetcher) Ahead(id uint64, refs []content.Ref, table func(segment uint32) (*content.Table, error)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := f.readers[id]
	switch {
	case r == nil && len(refs) == 0:
		return
	case r == nil:
		r = &reader{}
		f.readers[id] = r
		f.order = append(f.order, r)
		f.count.Store(int32(len(f.order)))
	}
	kept := 0 // chunks of the window that the new hint begins with
	for drop := 0; drop < len(r.window); drop++ {
		if n := common(r.window[drop:], refs); n == len(r.window)-drop {
			kept = n
			break
		}
	}
	passed := r.window[:len(r.window)-kept]
	if len(passed) > 0 && (kept > 0 || len(refs) > 0 && len(r.rest) > 0 && refs[0] == r.rest[0]) {
		r.pace.Took(time.Now(), sum(passed))
	}
	f.shrink(r, len(passed))
	r.rest, r.table = slices.Clone(refs[kept:min(len(refs), kept+maxHint)]), table
	if len(refs) == 0 {
		delete(f.readers, id)
		f.order = slices.DeleteFunc(f.order, func(o *reader) bool { return o == r })
		f.count.Store(int32(len(f.order)))
		return
	}
	f.grow(r)
}

// common is how many chunks of a window are those that a hint begins with.
func common(window []ahead, refs []content.Ref) int {
	n := 0
	for n < len(window) && n < len(refs) && window[n].ref == refs[n] {
		n++
	}
	return n
}

func sum(window []ahead) (bytes uint64) {
	for _, a := range window {
		bytes += uint64(a.size)
	}
	return bytes
}

// Took says that a chunk has been given to somebody who reads: a reader who was to read it is that much further. Read says so itself.
func (f *Fetcher) Took(ref content.Ref) {
	if f.count.Load() == 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range slices.Clone(f.windows[ref]) {
		n := 1 + slices.IndexFunc(r.window, func(a ahead) bool { return a.ref == ref })
		r.pace.Took(time.Now(), sum(r.window[:n]))
		f.shrink(r, n)
		f.grow(r)
	}
}

// shrink takes the first chunks out of a window. The caller holds mu.
func (f *Fetcher) shrink(r *reader, n int) {
	for _, a := range r.window[:n] {
		if a.counted {
			r.bytes -= uint64(a.size)
			f.cfg.Room.ahead.Add(-int64(a.size))
		}
		rest := slices.DeleteFunc(f.windows[a.ref], func(o *reader) bool { return o == r })
		if f.windows[a.ref] = rest; len(rest) == 0 {
			delete(f.windows, a.ref)
		}
		if p := f.chunks[a.ref]; p != nil && p.hinted(r) {
			f.abandon(a.ref, p)
		}
	}
	r.window = slices.Delete(r.window, 0, n)
	f.urged = false
}

// grow takes in what comes next, up to the window of the reader and the room for all of them, and wants what is not here. The
// first chunk is always in the window, but not wanted if there is no room: the reader itself will ask for it.
func (f *Fetcher) grow(r *reader) {
	for len(r.rest) > 0 {
		ref := r.rest[0]
		t, err := r.find(ref.Segment)
		if err != nil || ref.Index >= t.Len() {
			return // the reader will find out
		}
		size := t.Chunk(ref.Index).Size
		if len(r.window) > 0 && (r.bytes+uint64(size) > r.pace.Window() || !r.window[len(r.window)-1].counted) {
			return
		}
		counted := f.cfg.Room.ahead.Add(int64(size)) <= maxAhead
		if !counted {
			f.cfg.Room.ahead.Add(-int64(size))
			if len(r.window) > 0 {
				return
			}
		}
		r.rest = r.rest[1:]
		r.window = append(r.window, ahead{ref, size, counted})
		f.windows[ref] = append(f.windows[ref], r)
		if !counted {
			return
		}
		r.bytes += uint64(size)
		if !f.cfg.Here(ref) {
			f.pending(t, ref).hint(r)
			f.urged = false
			f.wake()
		}
	}
}

// hint notes that a reader will read the chunk.
func (p *pending) hint(r *reader) { p.hints = append(p.hints, r) }

// hinted takes a reader that would read the chunk out, and reports whether it was one.
func (p *pending) hinted(r *reader) bool {
	i := slices.Index(p.hints, r)
	if i < 0 {
		return false
	}
	p.hints = slices.Delete(p.hints, i, i+1)
	return true
}
