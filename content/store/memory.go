package store

import (
	"context"
	"encoding/binary"
	"fmt"
	"iter"

	"github.com/cockroachdb/pebble/v2"

	"swarmnode/content"
)

// Find gives the place in the collection of the chunk with this digest: the newest one that Add listed. It says
// nothing about whether the bytes are here; to bring them back, Refer to them again.
func (r *References) Find(d content.Digest) (content.Ref, bool) {
	v := r.recall(digestKey(d))
	return parseRef(v)
}

// recall reads a value and takes an unreadable index for an empty one: the cost is a chunk published twice.
func (r *References) recall(key []byte) []byte {
	if r.enter() != nil {
		return nil
	}
	defer r.using.RUnlock()
	v, err := lookup(r.db, key)
	if err != nil {
		r.cfg.Log.Warn("the publisher's index cannot be read and is filled again: look at the disk", "error", err)
	}
	return v
}

// Forget makes Find not know a digest: the chunk is dead and its place must not be used for a new file.
func (r *References) Forget(d content.Digest) error {
	return r.change(func(b *pebble.Batch) { _ = b.Delete(digestKey(d), nil) })
}

// change applies one batch.
func (r *References) change(fill func(b *pebble.Batch)) error {
	return r.call(func() error {
		b := r.db.NewBatch()
		fill(b)
		return r.commit(b)
	})
}

// Remove forgets a retired segment: its references, and what Find knows of its chunks.
func (r *References) Remove(number uint32) error {
	r.mu.RLock()
	s := r.segments[number]
	r.mu.RUnlock()
	if s == nil {
		return nil
	}
	t, err := r.tables.get(s.table, s.chunks, s.size)
	if err != nil {
		return fmt.Errorf("remove segment %d: %w", number, err)
	}
	var moved []content.Digest
	for i := range t.Len() {
		d := t.Chunk(i).Digest
		if ref, ok := r.Find(d); ok && ref.Segment == number {
			moved = append(moved, d)
		}
	}
	return r.call(func() error {
		if err := r.flush(); err != nil {
			return err
		}
		b := r.db.NewBatch()
		for _, d := range moved {
			_ = b.Delete(digestKey(d), nil)
		}
		places := segmentKey(keyPlace, number)
		_ = b.DeleteRange(places, after(places), nil)
		_ = b.Delete(segmentKey(keySegment, number), nil)
		if err := r.commit(b); err != nil {
			return fmt.Errorf("remove segment %d: %w", number, err)
		}
		r.mu.Lock()
		delete(r.segments, number)
		r.mu.Unlock()
		return nil
	})
}

// SetMtime remembers the last mtime, in Unix seconds, that a path was published with before it went away, so that it
// does not come back older: a client that asks "modified since" would be told "no" about new content.
func (r *References) SetMtime(path string, mtime int64) error {
	return r.change(func(b *pebble.Batch) {
		_ = b.Set(pathKey(keyMtime, path), binary.BigEndian.AppendUint64(nil, uint64(mtime)), nil)
	})
}

// Mtime gives what SetMtime remembered.
func (r *References) Mtime(path string) (int64, bool) {
	v := r.recall(pathKey(keyMtime, path))
	if len(v) != 8 {
		return 0, false
	}
	return int64(binary.BigEndian.Uint64(v)), true
}

// Empty reports whether no segment is known: a new publisher, or an index that was deleted and needs Rebuild.
func (r *References) Empty() bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.segments) == 0
}

// Segment is a live segment of a release, for Rebuild.
type Segment struct {
	Number uint32
	Info   content.SegmentInfo
	Table  *content.Table // nil: Config.Tables is asked
}

// File is a regular file of a release, for Rebuild: its path and the runs of chunks that make it up. Of Arrivals it is the file of
// a segment, with one run of live chunks in it.
type File struct {
	Path string
	At   int64 // where in the file the first of them begins
	Runs []content.Run
}

// Rebuild fills an index again from the newest release: its segments in ascending order, then its files. Nothing in
// the tree is read: a file that has changed since shows when it is read. Mtimes of paths gone from that release are
// lost with the index. It is durable when it returns without an error; after an error it can be started again.
func (r *References) Rebuild(ctx context.Context, segments iter.Seq2[Segment, error], files iter.Seq2[File, error]) error {
	for s, err := range segments {
		if err == nil {
			err = ctx.Err()
		}
		if err == nil {
			err = r.Add(s.Number, s.Info, s.Table)
		}
		if err != nil {
			return fmt.Errorf("rebuild the publisher's index: %w", err)
		}
	}
	for f, err := range files {
		if err == nil {
			err = ctx.Err()
		}
		if err == nil {
			err = r.referFile(f)
		}
		if err != nil {
			return fmt.Errorf("rebuild the publisher's index: %w", err)
		}
	}
	return r.Sync(ctx)
}

// referFile refers to all chunks of a file, which lie in it one behind the other.
func (r *References) referFile(f File) error {
	offset := f.At
	for _, run := range f.Runs {
		r.mu.RLock()
		s := r.segments[run.Segment]
		r.mu.RUnlock()
		if s == nil || run.First >= s.chunks || run.Count > s.chunks-run.First {
			return fmt.Errorf("%s: chunks %d+%d of segment %d: %w", f.Path, run.First, run.Count, run.Segment, ErrOutOfRange)
		}
		t, err := r.tables.get(s.table, s.chunks, s.size)
		if err != nil {
			return err
		}
		for i := run.First; i < run.First+run.Count; i++ {
			if err := r.Refer(content.Ref{Segment: run.Segment, Index: i}, f.Path, offset); err != nil {
				return err
			}
			offset += int64(t.Chunk(i).Size)
		}
	}
	return nil
}
