package store

import (
	"errors"
	"fmt"
	"io/fs"

	"swarmnode/content"
	"swarmnode/content/guard"
)

// Remove unlinks a segment's file and forgets the segment. Readers that are under way finish. The number can be added
// again. Removing what is not here does nothing. It works on a full disk.
func (d *Disk) Remove(number uint32) error {
	d.syncing.Lock()
	defer d.syncing.Unlock()
	s := d.segment(number)
	if s == nil {
		return nil
	}
	if err := d.journalNow(appendRecord(nil, record{kind: recordRemoved, number: number})); err != nil {
		d.mu.Lock() // the record may be on the disk all the same: what is here has to be acknowledged anew
		s.put, s.synced = s.have.Clone(), nil
		s.pending, s.added = s.bytes, true
		d.dirty[s] = struct{}{}
		d.mu.Unlock()
		return fmt.Errorf("remove segment %d: %w", number, err)
	}
	var t *content.Table
	if s.moved.Count() > 0 {
		t, _ = d.table(s) // without it too much stays accounted for, until the next start
	}
	s.use.Lock() // nobody reads or writes; a Put that waits for this sees removed
	defer s.use.Unlock()
	d.mu.Lock()
	s.removed, s.have = true, nil
	delete(d.segments, number)
	delete(d.numbers, s.table)
	delete(d.dirty, s)
	d.used -= s.bytes
	d.unmove(s, t)
	d.unsynced = max(0, d.unsynced-s.pending)
	d.mu.Unlock()
	d.files.drop(s.table)
	if err := d.cfg.FS.RemoveIn(d.root, s.table.BlockCID().String()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove segment %d: %w", number, full(err))
	}
	return nil
}

// journalNow writes records at once. A full disk is no error here: what follows frees space, a crash before the
// journal is rewritten costs a missing file or chunks that fail their first hash, and both are handled.
func (d *Disk) journalNow(recs []byte) error {
	if d.journal.broken {
		err := d.rewriteJournal()
		if errors.Is(err, ErrDiskFull) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	err := d.journal.append(recs)
	if errors.Is(err, ErrDiskFull) {
		d.journal.broken = true
		return nil
	}
	return err
}

// Punch drops dead chunks and gives the file-system blocks that lie wholly inside them back, those of a chunk that is lent when
// it is given back. Other chunks keep every byte. Chunks past the end of the segment are ignored.
func (d *Disk) Punch(number uint32, dead content.Bitmap) error {
	d.syncing.Lock()
	defer d.syncing.Unlock()
	s := d.segment(number)
	if s == nil {
		return nil
	}
	t, err := d.table(s)
	if err != nil {
		return err
	}
	d.mu.Lock()
	for i := range members(dead, s.chunks) {
		if s.have.Has(i) {
			d.drop(s, t, i)
		}
	}
	gone, known, durable := s.dropped.Clone(), !s.added, uint64(max(0, s.bytes-s.pending))
	d.mu.Unlock()
	if known && len(gone) > 0 && guard.On(guard.PunchOrder) {
		// Before the bytes go: else a crash leaves a journal that promises what was destroyed.
		rec := record{kind: recordInvalid, number: number, bytes: durable, set: gone}
		if err := d.journalNow(appendRecord(nil, rec)); err != nil {
			return fmt.Errorf("punch segment %d: %w", number, err)
		}
	}
	s.use.Lock()
	defer s.use.Unlock()
	return d.punchHoles(s, t, dead)
}

// punchHoles frees the blocks inside runs of chunks that are dead and were not put again. It needs s.use.
func (d *Disk) punchHoles(s *segment, t *content.Table, dead content.Bitmap) error {
	d.mu.Lock()
	free, needed := dead.Clone(), s.have.Clone()
	needed.AndNot(s.moved)
	free.AndNot(needed)
	s.spare(&free)
	d.mu.Unlock()
	f, err := d.files.get(s.table, false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("punch segment %d: %w", s.number, err)
	}
	defer d.files.put(f)
	for i := uint32(0); i < t.Len(); i++ {
		if !free.Has(i) {
			continue
		}
		from := roundUp(int64(t.Offset(i)))
		for i+1 < t.Len() && free.Has(i+1) {
			i++
		}
		to := int64(t.Offset(i + 1))
		if i+1 == t.Len() {
			to = roundUp(to) // nothing of the last block lies behind the end
		}
		if to = to / blockSize * blockSize; from >= to {
			continue
		}
		if err := d.cfg.FS.Punch(f.File, from, to-from); err != nil {
			return fmt.Errorf("punch segment %d: %w", s.number, full(err))
		}
	}
	return nil
}

func roundUp(n int64) int64 { return (n + blockSize - 1) / blockSize * blockSize }

// Used is how many bytes the chunks here have, with what Config.Overhead says.
func (d *Disk) Used() int64 {
	d.mu.RLock()
	used := d.used
	d.mu.RUnlock()
	return used + d.cfg.Overhead()
}

// Budget is how many bytes the store may hold, with what Config.Overhead says; 0 means that only the disk limits it.
func (d *Disk) Budget() int64 { return d.cfg.Budget }

// CheckBudget asks before fetching whether need more bytes fit into the budget and on the disk. The error is a
// *BudgetError.
func (d *Disk) CheckBudget(need int64) error {
	if d.cfg.Budget > 0 && guard.On(guard.Budget) {
		if left := max(0, d.cfg.Budget-d.Used()); need > left {
			return &BudgetError{Need: need, Free: left, Budget: d.cfg.Budget}
		}
	}
	free, ok := freeSpace(d.dir)
	if !ok {
		return nil
	}
	if left := d.toSpare(free); need > left {
		return &BudgetError{Need: need, Free: left}
	}
	return nil
}

// toSpare is how much of the free space may be planned with: all but a little of it when the operator gave a budget,
// else a share of it stays free for everything else on that disk.
func (d *Disk) toSpare(free int64) int64 {
	keep := int64(keepFree)
	if d.cfg.Budget == 0 {
		keep = max(keep, free/keepShare)
	}
	return max(0, free-keep)
}

// DiskStats are the figures of a Disk.
type DiskStats struct {
	Segments  int
	Used      int64 // bytes, without Config.Overhead
	Unsynced  int64 // bytes put since the last Sync began
	Bad       int64 // chunks quarantined since the start
	Syncs     int64 // syncs with something to do since the start
	OpenFiles int
}

// Stats gives the figures.
func (d *Disk) Stats() DiskStats {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return DiskStats{
		Segments: len(d.segments), Used: d.used, Unsynced: d.unsynced, Bad: d.bad, Syncs: d.syncs, OpenFiles: d.files.len(),
	}
}
