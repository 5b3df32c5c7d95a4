package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"golang.org/x/sync/errgroup"

	"swarmnode/content"
	"swarmnode/content/guard"
)

// syncItem is what one Sync does for one segment. The chunks to acknowledge are in segment.flushing, where a chunk
// that is dropped meanwhile disappears from.
type syncItem struct {
	s       *segment
	flush   bool
	added   bool
	dropped content.Bitmap
}

// Sync makes everything durable that was added, put or quarantined before the call. After an error, what could be
// made durable is, and the rest stays as it was; only chunks of a file whose own sync failed, or that of its name, are
// dropped, for nobody can know what became of them.
func (d *Disk) Sync(ctx context.Context) error {
	d.syncing.Lock()
	defer d.syncing.Unlock()
	d.mu.RLock()
	closed := d.closed
	d.mu.RUnlock()
	if closed {
		return ErrClosed
	}
	return d.sync(ctx)
}

func (d *Disk) sync(ctx context.Context) error {
	batch := d.take()
	if len(batch) == 0 && !d.journal.broken {
		return nil
	}
	err := d.flush(ctx, batch)
	err = errors.Join(err, d.syncNames())
	if jerr := d.acknowledge(batch); jerr != nil {
		d.putBack(batch)
		return errors.Join(err, jerr)
	}
	d.tidyJournal()
	return err
}

// tidyJournal rewrites a journal that has grown far beyond its content. If that fails the long one does as well.
func (d *Disk) tidyJournal() {
	if !d.journal.bloated() {
		return
	}
	if err := d.rewriteJournal(); err != nil {
		d.cfg.Log.Warn("the journal of the store could not be shortened: look at the disk", "store", d.dir, "error", err)
		d.journal.clean = d.journal.end // not at every Sync
	}
}

// take collects what there is to do and marks it as under way.
func (d *Disk) take() []syncItem {
	d.mu.Lock()
	defer d.mu.Unlock()
	batch := make([]syncItem, 0, len(d.dirty))
	for s := range d.dirty {
		batch = append(batch, syncItem{s: s, flush: len(s.put) > 0, added: s.added, dropped: s.dropped})
		s.flushing, s.put, s.dropped = s.put, nil, nil
		s.taken, s.pending = s.pending, 0
	}
	clear(d.dirty)
	d.unsynced = 0
	return batch
}

// putBack undoes take for what is not done.
func (d *Disk) putBack(batch []syncItem) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, it := range batch {
		it.s.dropped.Or(it.dropped)
		d.retake(it.s)
	}
}

// retake gives the chunks of a segment that a Sync took up to the next one, under d.mu.
func (d *Disk) retake(s *segment) {
	s.put.Or(s.flushing)
	s.pending += s.taken
	s.flushing, s.taken = nil, 0
	d.dirty[s] = struct{}{}
}

// flush makes the data of the files durable.
func (d *Disk) flush(ctx context.Context, batch []syncItem) error {
	var g errgroup.Group
	g.SetLimit(parallelSyncs)
	for _, it := range batch {
		if !it.flush {
			continue
		}
		g.Go(func() error {
			if err := ctx.Err(); err != nil {
				d.mu.Lock()
				d.retake(it.s)
				d.mu.Unlock()
				return err
			}
			f, err := d.files.get(it.s.table, false)
			if err == nil {
				if guard.On(guard.DataSync) {
					err = d.cfg.FS.SyncData(f.File)
				}
				d.files.put(f)
			}
			if err != nil {
				if guard.On(guard.DataLoss) {
					d.lose(it.s)
				}
				return fmt.Errorf("sync segment %d: %w", it.s.number, full(err))
			}
			return nil
		})
	}
	return g.Wait()
}

// lose drops the chunks whose data could not be made durable: all that were written before the sync failed, also those
// that only the next one would have acknowledged, for it would not find out.
func (d *Disk) lose(s *segment) {
	t, err := d.table(s)
	s.use.Lock() // what is being written is noted before, and lost too
	defer s.use.Unlock()
	d.mu.Lock()
	defer d.mu.Unlock()
	lost := s.flushing.Clone()
	lost.Or(s.put)
	for i := range members(lost, s.chunks) {
		if err == nil {
			d.drop(s, t, i)
			continue
		}
		s.have.Clear(i) // without the table the bytes stay accounted for: too much rather than too little
		s.verified.Clear(i)
	}
	if err != nil {
		s.flushing, s.taken, s.put, s.pending = nil, 0, nil, 0
	}
}

// syncNames makes the names of new files durable. If that fails, nothing of what is in them can be.
func (d *Disk) syncNames() error {
	d.mu.Lock()
	names := d.unnamed
	d.unnamed = nil
	d.mu.Unlock()
	if len(names) == 0 {
		return nil
	}
	err := syncDir(d.cfg.FS, d.root.Name())
	if err != nil {
		d.loseNew(names)
	}
	return err
}

// loseNew drops the chunks in files whose names could not be made durable, and removes these files: another sync of the
// same names would prove nothing. Those that cannot be removed now are before they are opened again.
func (d *Disk) loseNew(names []content.Digest) {
	for _, table := range names {
		d.mu.Lock()
		n, known := d.numbers[table]
		s := d.segments[n]
		if !known { // removed since, but perhaps not its file
			d.doubted[table] = true
		}
		d.mu.Unlock()
		if !known {
			_ = d.undoubt(table, table.BlockCID().String())
			continue
		}
		t, err := d.table(s)
		s.use.Lock()
		d.files.drop(table)
		d.mu.Lock()
		d.doubted[table] = true
		for i := range members(s.have, s.chunks) {
			if err == nil {
				d.drop(s, t, i)
			}
		}
		if err != nil { // as in lose
			s.have, s.verified, s.flushing, s.taken, s.put, s.pending = nil, nil, nil, 0, nil, 0
		}
		d.mu.Unlock()
		s.use.Unlock()
		_ = d.undoubt(table, table.BlockCID().String()) // else the next time it is opened
	}
}

// undoubt removes a file whose name could not be made durable.
func (d *Disk) undoubt(table content.Digest, name string) error {
	d.mu.Lock() // for so long, that nobody makes a new file meanwhile
	defer d.mu.Unlock()
	if !d.doubted[table] {
		return nil
	}
	if err := d.cfg.FS.RemoveIn(d.root, name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return full(err)
	}
	delete(d.doubted, table)
	return nil
}

// acknowledge writes the journal's records for a batch, and the chunks count as durable.
func (d *Disk) acknowledge(batch []syncItem) error {
	if d.journal.broken {
		if err := d.rewriteJournal(); err != nil {
			return err
		}
	}
	var recs []byte
	done := make([]content.Bitmap, len(batch))
	d.mu.RLock()
	for i, it := range batch {
		s := it.s
		if it.added {
			recs = appendRecord(recs, segmentRecord(s))
		}
		durable := uint64(max(0, s.bytes-s.pending))
		gone := it.dropped.Clone()
		gone.Or(s.dropped) // since take: durable is without them, and the next Sync says it again
		if len(gone) > 0 {
			// The figure is that before the next record, for of a torn write perhaps only this one is there.
			before := uint64(max(0, s.bytes-s.pending-s.taken))
			recs = appendRecord(recs, record{kind: recordInvalid, number: s.number, bytes: before, set: gone})
		}
		if done[i] = s.flushing.Trim().Clone(); len(done[i]) > 0 {
			recs = appendRecord(recs, record{kind: recordValid, number: s.number, bytes: durable, set: done[i]})
		}
	}
	d.mu.RUnlock()
	if len(recs) > 0 {
		if err := d.journal.append(recs); err != nil {
			return err
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.syncs++
	for i, it := range batch {
		done[i].AndNot(it.s.dropped) // dropped while the record was written
		it.s.synced.Or(done[i])
		it.s.flushing, it.s.taken = nil, 0
		if it.added {
			it.s.added = false
		}
	}
	return nil
}

func segmentRecord(s *segment) record {
	return record{kind: recordSegment, number: s.number, table: s.table, size: s.size, chunks: s.chunks}
}

// rewriteJournal replaces the journal by what it says at present.
func (d *Disk) rewriteJournal() error {
	var recs []byte
	d.mu.RLock()
	for _, s := range d.segments {
		if s.added {
			continue
		}
		recs = appendRecord(recs, segmentRecord(s))
		if len(s.synced.Trim()) > 0 {
			recs = appendRecord(recs, record{kind: recordValid, number: s.number,
				bytes: uint64(max(0, s.bytes-s.pending-s.taken)), set: s.synced})
		}
	}
	d.mu.RUnlock()
	return d.journal.rewrite(recs)
}

// liveSize is about how large a journal of the present state is.
func (d *Disk) liveSize() (n int64) {
	for _, s := range d.segments {
		n += 2*recordHead + 58 + int64(len(s.synced))
	}
	return n
}

// Run syncs whenever SyncBytes have been put or SyncInterval has passed, until ctx ends; then once more, and closes the files that
// nobody needs any more. A failed sync is logged and tried again; only the error of the last one is returned.
func (d *Disk) Run(ctx context.Context) error {
	tick := time.NewTicker(d.cfg.SyncInterval)
	defer tick.Stop()
	told := ""
	for {
		select {
		case <-ctx.Done():
			return d.Sync(context.WithoutCancel(ctx))
		case <-tick.C:
			d.files.rest()
		case <-d.crowded:
		}
		switch err := d.Sync(context.WithoutCancel(ctx)); {
		case errors.Is(err, ErrClosed):
			return err
		case err == nil:
			told = ""
		case err.Error() != told: // not every two seconds
			told = err.Error()
			d.cfg.Log.Warn("what was fetched could not be synced and counts as missing: look at the disk", "store", d.dir, "error", err)
		}
	}
}

// Close syncs and closes the store. Later calls are ErrClosed.
func (d *Disk) Close() error {
	d.syncing.Lock()
	defer d.syncing.Unlock()
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return nil
	}
	d.closed = true
	d.mu.Unlock()
	err := d.sync(context.Background())
	d.files.close()
	return errors.Join(err, d.journal.close(), d.root.Close())
}
