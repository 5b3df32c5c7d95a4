package store

import (
	"errors"

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

// CloseFiles closes the files that were kept open, so that those that were removed give their room back.
func (r *References) CloseFiles() {
	r.files.mu.Lock()
	defer r.files.mu.Unlock()
	for _, f := range r.files.byKey {
		r.files.forget(f)
	}
}
