package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"swarmnode/content"
	"swarmnode/content/durable"
	"swarmnode/content/guard"
)

// Arrivals are the segments of a publisher that fetches what it publishes: files that grow while bytes arrive. Each segment is
// one file, in which each chunk lies at the offset that the table gives, so that nobody has to remember where it is;
// [References] over the same directory serve them. Beside the file of a segment that no release has yet is a log of its chunks:
// what Sync has acknowledged is there after a kill, what is behind it is cut off. It is safe for concurrent use.
//
// The life of a segment: Append fills it until it is closed, or Flush closes it. When a release has it, the next Start forgets its
// log. Punch frees what died in it, Remove takes it away.
type Arrivals struct {
	cfg Config
	dir string

	syncing sync.Mutex // held by whoever syncs or closes files; taken before mu

	mu     sync.Mutex // guards what follows, and serialises all writes but those of closed segments' logs
	next   uint32     // number of the segment that is filled
	open   *arriving  // it; nil: nothing of it has arrived
	full   []*arriving
	freed  map[uint32]content.Bitmap // what was punched since the start
	broken error                     // a write or sync that failed: nothing more is taken until Start has read what is there
	closed bool

	used atomic.Int64 // bytes on the disk; who counts all of a home asks without mu, which is held while others are asked
}

// arriving is a segment that no release has, as long as something of it is not synced.
type arriving struct {
	number uint32
	chunks []content.Chunk
	size   int64
	places map[content.Digest]uint32
	data   *os.File
	log    *os.File
	logged int  // chunks that the log has
	end    bool // it is closed
	marked bool // the log says so
}

const (
	arrivalSuffix = ".segment"
	logSuffix     = ".log"
	newSuffix     = ".new" // of a log that is not yet in force
)

// Arrived is a closed segment that no release has yet.
type Arrived struct {
	Number uint32
	Table  *content.Table
}

// ArrivalFile is the name of a segment's file in the directory of Arrivals.
func ArrivalFile(number uint32) string { return fmt.Sprintf("%07d%s", number, arrivalSuffix) }

func logFile(number uint32) string { return fmt.Sprintf("%07d%s", number, logSuffix) }

// OpenArrivals opens the arrivals in dir, or makes an empty directory. Of cfg it takes Budget, Overhead, FS and Log. Nothing can be appended
// before Start.
func OpenArrivals(dir string, cfg Config) (*Arrivals, error) {
	if cfg.Tables == nil {
		cfg.Tables = func(content.Digest) (*content.Table, error) { return nil, ErrNotHere }
	}
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	a := &Arrivals{cfg: cfg, dir: dir, broken: errors.New("Start was not called"), freed: map[uint32]content.Bitmap{}}
	if err := durable.MkdirAll(cfg.FS, dir, 0o755); err != nil {
		return nil, fmt.Errorf("open arrivals: %w", full(err))
	}
	if err := a.measure(); err != nil {
		return nil, fmt.Errorf("open arrivals: %w", err)
	}
	return a, nil
}

// measure finds out how much of the disk the segments take up.
func (a *Arrivals) measure() error {
	list, err := os.ReadDir(a.dir)
	if err != nil {
		return err
	}
	var used int64
	for _, e := range list {
		if st, err := e.Info(); err == nil && strings.HasSuffix(e.Name(), arrivalSuffix) {
			used += allocated(st)
		}
	}
	a.used.Store(used)
	return nil
}

// path gives the place of a file of the directory.
func (a *Arrivals) path(name string) string { return filepath.Join(a.dir, name) }

// Start begins to fill segments from number first on, or goes on with what arrived since the last release, which has those below
// first. It gives the closed ones, ascending; the one being filled goes on. Chunks that nobody wants any more: see Void.
func (a *Arrivals) Start(first uint32) ([]Arrived, error) {
	a.syncing.Lock()
	defer a.syncing.Unlock()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return nil, ErrClosed
	}
	a.drop()
	logs, err := a.tidy(first)
	if err != nil {
		return nil, fmt.Errorf("go on with what has arrived: %w", full(err))
	}
	var done []Arrived
	a.next = first
	for i, n := range logs {
		s, err := a.load(n, i+1 == len(logs))
		if err != nil {
			return nil, fmt.Errorf("go on with what has arrived: segment %d: %w", n, full(err))
		}
		if s == nil {
			break // cannot be: the rest was removed
		}
		if !s.end {
			a.open = s
			break
		}
		done = append(done, Arrived{n, content.NewTable(s.chunks)})
		a.next = n + 1
		if err := s.close(); err != nil {
			return nil, err
		}
	}
	a.broken = nil
	return done, a.measure()
}

// drop closes what is being filled.
func (a *Arrivals) drop() {
	for _, s := range append(a.full, a.open) {
		if s != nil {
			s.close()
		}
	}
	a.full, a.open, a.broken = nil, nil, errors.New("what has arrived is not known")
}

// tidy removes the logs of segments below first and all that cannot count, and gives the numbers that go on without a gap.
func (a *Arrivals) tidy(first uint32) (numbers []uint32, err error) {
	list, err := os.ReadDir(a.dir)
	if err != nil {
		return nil, err
	}
	data, logs := map[uint32]bool{}, map[uint32]bool{}
	for _, e := range list {
		if n, ok := segmentNumber(e.Name(), arrivalSuffix); ok {
			data[n] = true
		} else if n, ok := segmentNumber(e.Name(), logSuffix); ok {
			logs[n] = true
		} else if strings.HasSuffix(e.Name(), logSuffix+newSuffix) {
			if err := a.remove(e.Name()); err != nil {
				return nil, err
			}
		}
	}
	for n := first; logs[n] && data[n]; n++ {
		chunks, _, err := a.readLog(n)
		if err != nil {
			return nil, err
		}
		st, err := os.Stat(a.path(ArrivalFile(n)))
		if err != nil {
			return nil, err
		}
		if len(chunks) == 0 || st.Size() < sizeOf(chunks) {
			break // nothing of it, or of what came after it, counts
		}
		numbers = append(numbers, n)
		delete(logs, n)
		delete(data, n)
	}
	for n := range logs {
		if err := a.remove(logFile(n)); err != nil {
			return nil, err
		}
	}
	for n := range data {
		if n < first {
			continue
		}
		if err := a.removeData(n); err != nil {
			return nil, err
		}
	}
	// A killed process may have made or removed files and not come to this.
	return numbers, syncDir(a.cfg.FS, a.dir)
}

func segmentNumber(name, suffix string) (uint32, bool) {
	name, ok := strings.CutSuffix(name, suffix)
	n, err := strconv.ParseUint(name, 10, 32)
	return uint32(n), ok && err == nil && n < content.MaxSegments
}

func sizeOf(chunks []content.Chunk) (size int64) {
	for _, c := range chunks {
		size += int64(c.Size)
	}
	return size
}

func (a *Arrivals) remove(name string) error {
	if err := a.cfg.FS.Remove(a.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (a *Arrivals) removeData(number uint32) error {
	if st, err := os.Stat(a.path(ArrivalFile(number))); err == nil {
		if err := a.remove(ArrivalFile(number)); err != nil {
			return err
		}
		a.take(-allocated(st))
	}
	delete(a.freed, number)
	return nil
}

// load opens a segment that no release has, and cuts off what no sync has acknowledged. Only the last one can grow.
func (a *Arrivals) load(number uint32, last bool) (*arriving, error) {
	chunks, end, err := a.readLog(number)
	if err != nil {
		return nil, err
	}
	s := &arriving{number: number, chunks: chunks, size: sizeOf(chunks), places: map[content.Digest]uint32{}, logged: len(chunks), marked: end}
	s.end = end || !last || s.full()
	for i, c := range chunks {
		s.places[c.Digest] = uint32(i)
	}
	if s.data, err = a.cfg.FS.OpenFile(a.path(ArrivalFile(number)), os.O_RDWR, 0); err != nil {
		return nil, err
	}
	if err = a.cfg.FS.Truncate(s.data, s.size); err == nil && last {
		err = a.rewriteLog(s) // a sync of the old one may have failed
	}
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func (s *arriving) full() bool {
	return s.size >= content.SegmentSize || len(s.chunks) >= content.MaxSegmentChunks
}

func (s *arriving) close() error {
	var errs []error
	for _, f := range []*os.File{s.data, s.log} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	s.data, s.log = nil, nil
	return errors.Join(errs...)
}

// Find gives the place of a chunk in the segment that is filled.
func (a *Arrivals) Find(d content.Digest) (content.Ref, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.open == nil {
		return content.Ref{}, false
	}
	i, ok := a.open.places[d]
	return content.Ref{Segment: a.open.number, Index: i}, ok
}

// Append writes a chunk behind the last one and gives its place and the offset in its file. closed is not nil if that was the last
// one of its segment. It is durable after Sync. The caller has hashed the data. The error is a *BudgetError if there is no room.
func (a *Arrivals) Append(c content.Chunk, data []byte) (ref content.Ref, offset int64, closed *content.Table, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.closed:
		return ref, 0, nil, ErrClosed
	case a.broken != nil:
		return ref, 0, nil, fmt.Errorf("take in a chunk: %w", a.broken)
	case len(data) != int(c.Size) || len(data) == 0 || len(data) > content.MaxChunkSize:
		return ref, 0, nil, fmt.Errorf("take in a chunk of %d bytes that has %d: %w", c.Size, len(data), ErrWrongBytes)
	}
	if err := a.checkBudget(int64(len(data))); err != nil {
		return ref, 0, nil, err
	}
	if a.open == nil {
		if err := a.checkDisk(content.MaxSegmentSize); err != nil {
			return ref, 0, nil, err
		}
		if err := a.create(); err != nil {
			return ref, 0, nil, a.fail("begin", err)
		}
	}
	s := a.open
	if _, err := a.cfg.FS.WriteAt(s.data, data, s.size); err != nil {
		return ref, 0, nil, a.fail("write", err)
	}
	ref, offset = content.Ref{Segment: s.number, Index: uint32(len(s.chunks))}, s.size
	s.places[c.Digest] = ref.Index
	s.chunks = append(s.chunks, c)
	s.size += int64(len(data))
	a.take(int64(len(data)))
	if s.full() {
		closed = a.end()
	}
	return ref, offset, closed, nil
}

// fail notes that what is on the disk is not known any more.
func (a *Arrivals) fail(what string, err error) error {
	a.broken = fmt.Errorf("%s segment %d: %w", what, a.next, full(err))
	return a.broken
}

// create makes the files of the next segment.
func (a *Arrivals) create() (err error) {
	if a.next >= content.MaxSegments {
		return fmt.Errorf("the collection has used all of its %d segment numbers: publish it under a new name", content.MaxSegments)
	}
	s := &arriving{number: a.next, places: map[content.Digest]uint32{}}
	if s.data, err = a.cfg.FS.OpenFile(a.path(ArrivalFile(a.next)), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644); err == nil {
		err = a.rewriteLog(s) // syncs both names
	}
	if err != nil {
		return errors.Join(err, s.close())
	}
	a.open = s
	return nil
}

// end closes the segment that is filled.
func (a *Arrivals) end() *content.Table {
	s := a.open
	s.end = true
	a.full, a.open, a.next = append(a.full, s), nil, a.next+1
	return content.NewTable(slices.Clone(s.chunks))
}

// Flush closes the segment that is filled; without one the table is nil. It never grows again, once Sync has acknowledged that.
func (a *Arrivals) Flush() (Arrived, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.broken != nil || a.closed {
		return Arrived{}, errors.Join(a.broken, errIf(a.closed, ErrClosed))
	}
	if a.open == nil {
		return Arrived{}, nil
	}
	n := a.open.number
	return Arrived{n, a.end()}, nil
}

func errIf(is bool, err error) error {
	if is {
		return err
	}
	return nil
}

// Sync makes what has arrived durable: first the bytes, then the logs that say so.
func (a *Arrivals) Sync(ctx context.Context) error {
	a.syncing.Lock()
	defer a.syncing.Unlock()
	for more := true; more; {
		if err := ctx.Err(); err != nil {
			return err
		}
		var err error
		if more, err = a.syncFirst(); err != nil {
			return err
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.usable(); err != nil {
		return err
	}
	for len(a.full) > 0 { // closed since then
		if err := a.finish(a.full[0]); err != nil {
			return a.fail("sync", err)
		}
		a.full = a.full[1:]
	}
	if a.open == nil {
		return nil
	}
	if err := a.sync(a.open); err != nil {
		return a.fail("sync", err)
	}
	return nil
}

// SyncFull is Sync of the closed segments alone, which Append does not wait for.
func (a *Arrivals) SyncFull() error {
	a.syncing.Lock()
	defer a.syncing.Unlock()
	for {
		if more, err := a.syncFirst(); err != nil || !more {
			return err
		}
	}
}

// syncFirst makes the first of the closed segments durable, whose files are those of whoever holds syncing. more is false if there was none.
func (a *Arrivals) syncFirst() (more bool, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.usable(); err != nil || len(a.full) == 0 {
		return false, err
	}
	s := a.full[0]
	a.mu.Unlock()
	err = a.finish(s)
	a.mu.Lock()
	if err != nil {
		return false, a.fail("sync", err)
	}
	a.full = a.full[1:]
	return true, nil
}

// usable is the reason why nothing can be synced; nil: there is none.
func (a *Arrivals) usable() error {
	if a.closed {
		return ErrClosed
	}
	if a.broken != nil {
		return fmt.Errorf("sync what has arrived: %w", a.broken)
	}
	return nil
}

// finish makes a closed segment durable and closes its files.
func (a *Arrivals) finish(s *arriving) error {
	if err := a.sync(s); err != nil {
		return err
	}
	return s.close()
}

func (a *Arrivals) sync(s *arriving) error {
	if s.logged == len(s.chunks) && s.marked == s.end {
		return nil
	}
	if guard.On(guard.DataSync) {
		if err := a.cfg.FS.SyncData(s.data); err != nil {
			return err
		}
	}
	return a.appendLog(s)
}
