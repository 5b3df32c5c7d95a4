package store

import (
	"os"

	"swarmnode/content"
)

// maxSpares is how many files a store keeps open for [Disk.Lend] while nobody has them: as many senders as are in the midst
// of a file at a time on a busy mirror, and few against the usual limit of 1,024 files a process.
const maxSpares = 64

// Lend gives a chunk as a place in an open file, so that the kernel can send it without a copy. The file is the caller's alone,
// its position too, until release is called, once; the bytes of the chunk stay as they are as long. ok is false for what is
// not here and for what was not hashed since the start: Chunk hashes it. What sendfile(2) was given before release and the other side has not
// got yet still are the pages of the file: lend for it only what is not punched soon after.
func (d *Disk) Lend(ref content.Ref) (f *os.File, offset int64, release func(), ok bool) {
	s := d.segment(ref.Segment)
	if s == nil {
		return nil, 0, nil, false
	}
	t, err := d.table(s)
	if err != nil {
		return nil, 0, nil, false
	}
	s.use.RLock() // the file under the name stays the same one
	defer s.use.RUnlock()
	if !d.lend(s, ref.Index) {
		return nil, 0, nil, false
	}
	cached, err := d.files.get(s.table, false)
	if err == nil {
		if f, err = d.files.borrow(cached); err != nil {
			d.files.put(cached)
		}
	}
	if err != nil {
		d.giveBack(s, ref.Index)
		return nil, 0, nil, false
	}
	return f, int64(t.Offset(ref.Index)), func() {
		d.files.giveBack(cached, f)
		if d.giveBack(s, ref.Index) {
			d.punchOwed(s, t)
		}
	}, true
}

// lend counts a reader of a chunk in the file, if the chunk is here and was hashed.
func (d *Disk) lend(s *segment, i uint32) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed || !s.have.Has(i) || !s.verified.Has(i) || s.moved.Has(i) {
		return false
	}
	if s.lent == nil {
		s.lent = map[uint32]int{}
	}
	s.lent[i]++
	return true
}

// giveBack counts it out again and reports whether bytes are to be freed that waited for it.
func (d *Disk) giveBack(s *segment, i uint32) (owed bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if s.lent[i]--; s.lent[i] == 0 {
		delete(s.lent, i)
	}
	return s.owed.Has(i) && s.lent[i] == 0
}

// punchOwed frees the bytes of dropped chunks that somebody was still sending when they were to go.
func (d *Disk) punchOwed(s *segment, t *content.Table) {
	s.use.Lock()
	defer s.use.Unlock()
	d.mu.Lock()
	owed, gone := s.owed, s.removed || d.closed
	s.owed = nil
	d.mu.Unlock()
	if gone {
		return
	}
	if err := d.punchHoles(s, t, owed); err != nil {
		d.cfg.Log.Warn("the room of chunks that are gone is not given back: look at the disk", "segment", s.number, "error", err)
	}
}

// spare leaves out of free the chunks that are being sent, and notes that they are owed.
func (s *segment) spare(free *content.Bitmap) {
	for i := range s.lent {
		if free.Has(i) {
			free.Clear(i)
			s.owed.Set(i)
		}
	}
}

// borrow gives an open file of the same name that nobody else reads. The caller has f in use.
func (c *files[K]) borrow(f *file[K]) (*os.File, error) {
	c.mu.Lock()
	if n := len(f.spares); n > 0 {
		own := f.spares[n-1]
		f.spares = f.spares[:n-1]
		c.spares--
		c.mu.Unlock()
		return own, nil
	}
	c.mu.Unlock()
	return c.open(f.key, false)
}

// giveBack takes a borrowed file back and hands f back as put does.
func (c *files[K]) giveBack(f *file[K], own *os.File) {
	c.mu.Lock()
	keep := !f.gone && c.spares < maxSpares
	if keep {
		f.spares = append(f.spares, own)
		c.spares++
	}
	c.mu.Unlock()
	if !keep {
		own.Close()
	}
	c.put(f)
}

// closeSpares closes what was borrowed of f before. The caller holds mu.
func (c *files[K]) closeSpares(f *file[K]) {
	for _, own := range f.spares {
		own.Close()
	}
	c.spares -= len(f.spares)
	f.spares = nil
}
