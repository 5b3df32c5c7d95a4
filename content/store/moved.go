package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"swarmnode/content"
)

// inTreeTries is how often a chunk is read through its reference while that changes under the reader: files are renamed one after
// the other, so twice is rare.
const inTreeTries = 3

// Moved says that chunks of a segment have a place in Config.Tree now, durably: the room that they took in the segment's file is given
// back. They count as before, and are read, and hashed, in their new place.
func (d *Disk) Moved(number uint32) error {
	d.syncing.Lock()
	defer d.syncing.Unlock()
	s := d.segment(number)
	if s == nil || d.cfg.Tree == nil {
		return nil
	}
	t, err := d.table(s)
	if err != nil {
		return err
	}
	there := d.cfg.Tree.Have(number)
	s.use.Lock()
	defer s.use.Unlock()
	var all content.Bitmap
	d.mu.Lock()
	for i := range s.chunks {
		all.Set(i)
		if there.Has(i) && s.have.Has(i) && !s.moved.Has(i) {
			s.moved.Set(i)
			s.verified.Clear(i)
			d.moved += int64(t.Chunk(i).Size)
		}
	}
	d.mu.Unlock()
	return d.punchHoles(s, t, all)
}

// Back writes chunks of a segment that lie in Config.Tree into the segment's file again and drops their references, durably: what lies
// in their places is going to be something else. What is not here stays so.
func (d *Disk) Back(ctx context.Context, refs []content.Ref) error {
	buf := make([]byte, content.MaxChunkSize)
	for _, ref := range refs {
		s := d.segment(ref.Segment)
		if s == nil || !d.Has(ref) {
			continue
		}
		t, err := d.table(s)
		if err != nil {
			return err
		}
		data, err := d.inTree(ref, buf)
		if errors.Is(err, ErrNotHere) {
			continue
		}
		if err == nil {
			err = d.back(s, t, ref.Index, data)
		}
		if err != nil {
			return fmt.Errorf("put chunk %d of segment %d back: %w", ref.Index, ref.Segment, full(err))
		}
	}
	if err := d.Sync(ctx); err != nil {
		return err
	}
	for _, ref := range refs {
		if err := d.cfg.Tree.Unrefer(ref); err != nil {
			return err
		}
	}
	return d.cfg.Tree.Sync(ctx)
}

func (d *Disk) back(s *segment, t *content.Table, i uint32, data []byte) error {
	s.use.RLock()
	defer s.use.RUnlock()
	if err := d.write(s, t, i, data); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if !s.have.Has(i) {
		return nil
	}
	size := int64(len(data))
	if s.moved.Has(i) {
		s.moved.Clear(i)
		d.moved -= size
	}
	if !s.put.Has(i) {
		s.put.Set(i)
		s.pending, d.unsynced = s.pending+size, d.unsynced+size
	}
	d.dirty[s] = struct{}{}
	return nil
}

// MovedBytes is how many of the bytes of Used are in Config.Tree.
func (d *Disk) MovedBytes() int64 {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.moved
}

// unmove counts out what a segment has in Config.Tree. The caller holds mu.
func (d *Disk) unmove(s *segment, t *content.Table) {
	for i := range members(s.moved, s.chunks) {
		if t != nil {
			d.moved -= int64(t.Chunk(i).Size)
		}
	}
	s.moved = nil
}

// inTree reads a chunk from its place in Config.Tree. ErrNotHere if it has none that holds.
func (d *Disk) inTree(ref content.Ref, buf []byte) ([]byte, error) {
	if d.cfg.Tree == nil {
		return nil, ErrNotHere
	}
	for range inTreeTries {
		data, err := d.cfg.Tree.Chunk(ref, buf)
		if !errors.Is(err, ErrNotHere) {
			return data, err
		}
		if _, _, ok, err := d.cfg.Tree.Place(ref); err != nil || !ok {
			return nil, ErrNotHere
		}
	}
	return nil, ErrNotHere
}

// Place gives the path and offset, in bytes, of a chunk as Refer has set it, whether or not it holds; ok is false if there is none.
func (r *References) Place(ref content.Ref) (path string, offset int64, ok bool, err error) {
	if err := r.enter(); err != nil {
		return "", 0, false, err
	}
	defer r.using.RUnlock()
	p, ok, err := r.spot(ref)
	return p.path, p.offset, ok, err
}

// Unrefer drops the place of a chunk. Durable after Sync.
func (r *References) Unrefer(ref content.Ref) error {
	return r.call(func() error {
		r.flushing.Lock()
		defer r.flushing.Unlock()
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.waiting, ref)
		if err := r.db.Delete(placeKey(ref), pebble.NoSync); err != nil {
			return fmt.Errorf("write the publisher's index: %w", full(err))
		}
		if s := r.segments[ref.Segment]; s != nil {
			s.have.Clear(ref.Index)
		}
		return nil
	})
}

// CloseFiles closes the files that were kept open, so that those that were removed give their room back.
func (r *References) CloseFiles() {
	r.files.mu.Lock()
	defer r.files.mu.Unlock()
	for _, f := range r.files.byKey {
		r.files.forget(f)
	}
}
