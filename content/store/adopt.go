package store

import (
	"fmt"

	"swarmnode/content"
	"swarmnode/content/guard"
)

// recount adds up the bytes of a segment whose records may be incomplete. Without its table the last figure stands.
func (d *Disk) recount(s *segment) {
	t, err := d.table(s)
	if err != nil {
		return
	}
	s.bytes = 0
	for i := range members(s.have, s.chunks) {
		s.bytes += int64(t.Chunk(i).Size)
	}
}

// adopt takes the chunks out of a file that a damaged journal lost, or that could not be removed. It writes them once
// more where they are: an earlier sync of the file may have failed, then only the kernel has them and the next would not
// find out.
func (d *Disk) adopt(s *segment, t *content.Table) error {
	if _, err := d.root.Stat(s.table.BlockCID().String()); err != nil {
		return nil
	}
	buf := make([]byte, content.MaxChunkSize)
	for i := range t.Len() {
		c := t.Chunk(i)
		if _, err := d.inTree(content.Ref{Segment: s.number, Index: i}, buf); err == nil {
			d.note(s, i, c.Size)
			continue
		}
		data, err := d.read(s, t, i, buf, false)
		if err != nil && !damaged(err) {
			return fmt.Errorf("read segment %d: %w", s.number, err)
		}
		if err == nil && (!guard.On(guard.AdoptHash) || content.Sum(data) == c.Digest) && d.write(s, t, i, data) == nil {
			d.note(s, i, c.Size) // else it is fetched again
		}
	}
	return nil
}
