package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"swarmnode/content"
	"swarmnode/content/guard"
)

// Void frees the room of chunks that are not wanted any more: of a closed segment with this table, or of the one that is filled
// with t nil, whose Find does not know them then. Only the file-system blocks that lie wholly inside them go. What References
// say of them is the caller's, before.
func (a *Arrivals) Void(number uint32, t *content.Table, dead content.Bitmap) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return ErrClosed
	}
	if s := a.open; t == nil && s != nil && s.number == number && len(s.chunks) > 0 {
		t = content.NewTable(s.chunks[:len(s.chunks):len(s.chunks)])
		for i := range members(dead, t.Len()) {
			if s.places[t.Chunk(i).Digest] == i {
				delete(s.places, t.Chunk(i).Digest)
			}
		}
	}
	fresh := dead.Clone()
	fresh.AndNot(a.freed[number])
	if t == nil || len(fresh) == 0 {
		return nil
	}
	freed := a.freed[number]
	freed.Or(dead)
	a.freed[number] = freed
	if err := a.punch(number, t, freed); err != nil {
		delete(a.freed, number)
		return fmt.Errorf("free what is dead in segment %d: %w", number, full(err))
	}
	return nil
}

// Freed reports whether the room of all these chunks was given back since the start.
func (a *Arrivals) Freed(number uint32, dead content.Bitmap) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	left := dead.Clone()
	left.AndNot(a.freed[number])
	return len(left) == 0
}

// punch frees the blocks inside runs of dead chunks. It also frees what an earlier call has: that costs nothing.
func (a *Arrivals) punch(number uint32, t *content.Table, dead content.Bitmap) error {
	f, err := a.cfg.FS.OpenFile(a.path(ArrivalFile(number)), os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	before, err := f.Stat()
	if err != nil {
		return err
	}
	for _, h := range holes(t, dead) {
		if err := a.cfg.FS.Punch(f, h.from, h.to-h.from); err != nil {
			return err
		}
	}
	after, err := f.Stat()
	if err != nil {
		return err
	}
	a.take(-max(0, allocated(before)-allocated(after)))
	return nil
}

// hole is a range of whole blocks, in bytes.
type hole struct{ from, to int64 }

// holes gives the blocks that lie wholly in chunks of the set. The end of the file may grow, so its last block stays if it is not
// full.
func holes(t *content.Table, dead content.Bitmap) (all []hole) {
	for i := uint32(0); i < t.Len(); i++ {
		if !dead.Has(i) {
			continue
		}
		from := roundUp(int64(t.Offset(i)))
		for i+1 < t.Len() && dead.Has(i+1) {
			i++
		}
		if to := int64(t.Offset(i+1)) / blockSize * blockSize; from < to {
			all = append(all, hole{from, to})
		}
	}
	return all
}

// Remove unlinks the file of a segment.
func (a *Arrivals) Remove(number uint32) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.removeData(number); err != nil {
		return fmt.Errorf("remove segment %d: %w", number, full(err))
	}
	return nil
}

// Growing gives the segment that is filled, as far as it is; without one the table is nil.
func (a *Arrivals) Growing() (number uint32, t *content.Table) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.open == nil || len(a.open.chunks) == 0 {
		return 0, nil
	}
	return a.open.number, content.NewTable(slices.Clone(a.open.chunks))
}

// Numbers lists the segments that have a file.
func (a *Arrivals) Numbers() ([]uint32, error) {
	list, err := os.ReadDir(a.dir)
	if err != nil {
		return nil, fmt.Errorf("list what has arrived: %w", err)
	}
	var all []uint32
	for _, e := range list {
		if n, ok := segmentNumber(e.Name(), arrivalSuffix); ok {
			all = append(all, n)
		}
	}
	return all, nil
}

// Used is how many bytes the segments take up, without Config.Overhead.
func (a *Arrivals) Used() int64 { return a.used.Load() }

// take counts bytes that the segments take up more. The caller holds mu.
func (a *Arrivals) take(more int64) { a.used.Store(max(0, a.used.Load()+more)) }

// Budget is how many bytes the arrivals may hold, with what Config.Overhead says; 0 means that only the disk limits it.
func (a *Arrivals) Budget() int64 { return a.cfg.Budget }

// CheckBudget asks before fetching whether need more bytes fit into the budget and on the disk. The error is a *BudgetError.
func (a *Arrivals) CheckBudget(need int64) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.checkBudget(need); err != nil {
		return err
	}
	return a.checkDisk(need)
}

// checkDisk leaves room on the disk for journals and logs.
func (a *Arrivals) checkDisk(need int64) error {
	free, ok := freeSpace(a.dir)
	if left := max(0, free-keepFree); ok && need > left {
		return &BudgetError{Need: need, Free: left}
	}
	return nil
}

// checkBudget looks at the budget alone: the disk is looked at when a segment begins.
func (a *Arrivals) checkBudget(need int64) error {
	if a.cfg.Budget == 0 || !guard.On(guard.Budget) {
		return nil
	}
	if left := max(0, a.cfg.Budget-a.Used()-a.cfg.Overhead()); need > left {
		return &BudgetError{Need: need, Free: left, Budget: a.cfg.Budget}
	}
	return nil
}

// Close closes the files. What was not synced may be lost.
func (a *Arrivals) Close() error {
	a.syncing.Lock()
	defer a.syncing.Unlock()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return nil
	}
	a.drop()
	a.closed = true
	return nil
}
