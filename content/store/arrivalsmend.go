package store

import (
	"errors"
	"fmt"
	"os"

	"swarmnode/content"
)

// Holds reports whether the file of a segment of a release has the bytes of chunk i of its table, whatever References say.
func (a *Arrivals) Holds(number uint32, t *content.Table, i uint32) bool {
	f, err := os.Open(a.path(ArrivalFile(number)))
	if err != nil {
		return false
	}
	defer f.Close()
	c := t.Chunk(i)
	data := make([]byte, c.Size)
	_, err = f.ReadAt(data, int64(t.Offset(i)))
	return err == nil && content.Sum(data) == c.Digest
}

// Mend writes the bytes of chunk i of a segment of a release to their place again, durably: what is there is damaged, perhaps the
// whole file is gone. To refer to the chunk anew is the caller's. The error is ErrWrongBytes if data is not the chunk, and a
// *BudgetError if there is no room.
func (a *Arrivals) Mend(number uint32, t *content.Table, i uint32, data []byte) (err error) {
	c := t.Chunk(i)
	if len(data) != int(c.Size) || content.Sum(data) != c.Digest {
		return fmt.Errorf("mend chunk %d of segment %d: %w", i, number, ErrWrongBytes)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return ErrClosed
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("mend chunk %d of segment %d: %w", i, number, full(err))
		}
	}()
	f, err := a.cfg.FS.OpenFile(a.path(ArrivalFile(number)), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	before, err := f.Stat()
	if err != nil {
		return err
	}
	if before.Size() == 0 || allocated(before) < before.Size() { // what has room already takes none
		if err := a.checkBudget(int64(len(data))); err != nil {
			return err
		}
	}
	if _, err := a.cfg.FS.WriteAt(f, data, int64(t.Offset(i))); err != nil {
		return err
	}
	if err := a.cfg.FS.SyncData(f); err != nil {
		return err
	}
	after, err := f.Stat()
	if err != nil {
		return err
	}
	a.take(max(0, allocated(after)-allocated(before)))
	if before.Size() == 0 {
		return syncDir(a.cfg.FS, a.dir)
	}
	return nil
}
