package export

import (
	"fmt"
	"sync"

	"swarmnode/content"
	"swarmnode/content/store"
)

// source asks the caller for runs and tables, one question at a time, and remembers the last tables.
type source struct {
	runs  func(content.Entry) ([]content.Run, error)
	table func(segment uint32) (*content.Table, error)

	mu     sync.Mutex // guards the calls of runs and table, and what follows
	tables map[uint32]*content.Table
	order  []uint32 // the keys of tables, the oldest first
	held   uint32   // chunks in tables
}

func (s *source) runsOf(e content.Entry) ([]content.Run, error) {
	if len(e.RunBlocks) == 0 {
		return e.Runs, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.runs(e)
}

func (s *source) tableOf(segment uint32) (*content.Table, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.tables[segment]; t != nil {
		return t, nil
	}
	t, err := s.table(segment)
	if err != nil {
		return nil, fmt.Errorf("table of segment %d: %w", segment, err)
	}
	for len(s.order) > 0 && s.held+t.Len() > maxCachedChunks {
		s.held -= s.tables[s.order[0]].Len()
		delete(s.tables, s.order[0])
		s.order = s.order[1:]
	}
	s.tables[segment], s.order, s.held = t, append(s.order, segment), s.held+t.Len()
	return t, nil
}

// chunk gives the digest and size of one chunk.
func (s *source) chunk(ref content.Ref) (content.Chunk, error) {
	t, err := s.tableOf(ref.Segment)
	if err != nil {
		return content.Chunk{}, err
	}
	if ref.Index >= t.Len() {
		return content.Chunk{}, fmt.Errorf("chunk %d of segment %d: %w", ref.Index, ref.Segment, store.ErrOutOfRange)
	}
	return t.Chunk(ref.Index), nil
}

// each calls fn for the chunks of a file in order, with the place of each in the file. A file whose chunks are not as
// long as it is, together, is refused.
func (s *source) each(e content.Entry, fn func(ref content.Ref, c content.Chunk, offset int64) error) error {
	runs, err := s.runsOf(e)
	if err != nil {
		return fmt.Errorf("chunks of %q: %w", e.Path, err)
	}
	offset := int64(0)
	for _, r := range runs {
		t, err := s.tableOf(r.Segment)
		if err != nil {
			return fmt.Errorf("chunks of %q: %w", e.Path, err)
		}
		if r.First > t.Len() || r.Count > t.Len()-r.First {
			return fmt.Errorf("chunks of %q: %d from %d in segment %d: %w", e.Path, r.Count, r.First, r.Segment, store.ErrOutOfRange)
		}
		for i := r.First; i < r.First+r.Count; i++ {
			c := t.Chunk(i)
			if int64(c.Size) > int64(e.Size)-offset {
				return fmt.Errorf("%q has %d bytes, but its chunks have more: the release is broken", e.Path, e.Size)
			}
			if err := fn(content.Ref{Segment: r.Segment, Index: i}, c, offset); err != nil {
				return err
			}
			offset += int64(c.Size)
		}
	}
	if offset != int64(e.Size) {
		return fmt.Errorf("%q has %d bytes, but its chunks have %d: the release is broken", e.Path, e.Size, offset)
	}
	return nil
}
