package store

import (
	"fmt"
	"io/fs"
	"maps"

	"github.com/cockroachdb/pebble/v2"

	"swarmnode/content"
)

// pending is what is not yet in the index, or on its way there.
type pending struct {
	waiting, moving       map[content.Ref]spot
	newLinks, movingLinks []madeLink
}

// Refer says that the bytes of a chunk are at offset in the file at path, slash-separated and relative to the tree. The
// segment need not be known yet. It replaces an earlier place; it is visible at once and durable after Sync.
func (r *References) Refer(ref content.Ref, path string, offset int64) error {
	if !fs.ValidPath(path) || path == "." || offset < 0 {
		return fmt.Errorf("refer to %q at %d: not a place in the tree", path, offset)
	}
	if ref.Segment >= content.MaxSegments || ref.Index >= content.MaxSegmentChunks {
		return fmt.Errorf("refer to %q: chunk %d of segment %d: %w", path, ref.Index, ref.Segment, ErrOutOfRange)
	}
	if err := r.enter(); err != nil {
		return err
	}
	defer r.using.RUnlock()
	full, err := r.note(ref, spot{path: path, offset: offset})
	if err == nil && full {
		err = r.write(r.flush)
	}
	return err
}

// note keeps a reference in memory; full says that it is time to flush.
func (r *References) note(ref content.Ref, p spot) (full bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.segments[ref.Segment]
	if s != nil && ref.Index >= s.chunks {
		return false, fmt.Errorf("refer to %q: chunk %d of segment %d: %w", p.path, ref.Index, ref.Segment, ErrOutOfRange)
	}
	r.waiting[ref] = p
	delete(r.named, p.path)
	if s != nil && s.loaded {
		s.have.Set(ref.Index)
	}
	return len(r.waiting) >= maxWaiting, nil
}

// UnreferAll forgets the places of chunks of a segment, before their bytes go.
func (r *References) UnreferAll(number uint32, chunks content.Bitmap) error {
	return r.call(func() error {
		if err := r.flush(); err != nil {
			return err
		}
		r.flushing.Lock()
		defer r.flushing.Unlock()
		b := r.db.NewBatch()
		for i := range members(chunks, content.MaxSegmentChunks) {
			_ = b.Delete(placeKey(content.Ref{Segment: number, Index: i}), nil)
		}
		if err := r.commit(b); err != nil {
			return err
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		for i := range members(chunks, content.MaxSegmentChunks) {
			delete(r.waiting, content.Ref{Segment: number, Index: i})
		}
		if s := r.segments[number]; s != nil {
			s.have.AndNot(chunks)
		}
		return nil
	})
}

// CloseFile closes a file of the tree that is kept open, once nobody reads it: its room is free then if it was removed.
func (r *References) CloseFile(path string) { r.files.drop(path) }

// flush writes what is pending to the index. Readers see it all the time.
func (r *References) flush() error {
	r.flushing.Lock()
	defer r.flushing.Unlock()
	r.mu.Lock()
	if len(r.waiting)+len(r.newLinks) == 0 {
		r.mu.Unlock()
		return nil
	}
	r.moving, r.movingLinks = r.waiting, r.newLinks
	r.waiting, r.newLinks = map[content.Ref]spot{}, nil
	r.mu.Unlock()
	b := r.db.NewBatch()
	for ref, p := range r.moving {
		_ = b.Set(placeKey(ref), spotValue(p), nil)
	}
	for _, l := range r.movingLinks {
		_ = b.Set(linkKey(l.path, l.name), nil, nil)
	}
	err := r.commit(b)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		maps.Copy(r.moving, r.waiting) // what came since is newer
		r.waiting, r.newLinks = r.moving, append(r.movingLinks, r.newLinks...)
	}
	r.moving, r.movingLinks = nil, nil
	return err
}

// spot finds where the bytes of a chunk should be.
func (r *References) spot(ref content.Ref) (spot, bool, error) {
	r.mu.RLock()
	p, ok := r.waiting[ref]
	if !ok {
		p, ok = r.moving[ref]
	}
	r.mu.RUnlock()
	if ok {
		return p, true, nil
	}
	v, err := lookup(r.db, placeKey(ref))
	if err != nil || v == nil {
		return spot{}, false, err
	}
	p, ok = parseSpot(v)
	return p, ok, nil
}

// commit applies a batch; it is visible at once and durable after Sync.
func (r *References) commit(b *pebble.Batch) error {
	err := r.db.Apply(b, pebble.NoSync)
	if cerr := b.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("write the publisher's index: %w", full(err))
	}
	return nil
}
