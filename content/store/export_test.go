package store

import (
	"os"
	"time"

	"swarmnode/content"
	"swarmnode/content/durable"
)

// FailWith makes the writes and syncs of data and journal ask these functions first.
func (d *Disk) FailWith(write, sync func(name string) error) {
	d.cfg.FS = failing{d.cfg.FS, write, sync}
	d.journal.fs = d.cfg.FS
}

// FailWith makes the writes and syncs of the pack ask these functions first.
func (p *Pack) FailWith(write, sync func(name string) error) { p.fs = failing{p.fs, write, sync} }

type failing struct {
	durable.FS
	write, sync func(name string) error
}

func (c failing) WriteAt(f *os.File, b []byte, off int64) (int, error) {
	if err := c.write(f.Name()); err != nil {
		n, _ := c.FS.WriteAt(f, b[:len(b)/2], off) // a full disk takes a part
		return n, err
	}
	return c.FS.WriteAt(f, b, off)
}

func (c failing) SyncData(f *os.File) error {
	if err := c.sync(f.Name()); err != nil {
		return err
	}
	return c.FS.SyncData(f)
}

// FailWith makes every write of the index ask fault first. No space is kept in reserve.
func (r *References) FailWith(fault func() error) {
	r.patience.fault, r.reserve = fault, 0
}

// SetClock makes References take the time from now.
func (r *References) SetClock(now func() time.Time) { r.proofs.now = now }

// The times of proofs.
const (
	Settled   = settled
	ProofLife = proofLife
)

// Replay is replay, for the fuzzer.
func Replay(data []byte) (records, end, skipped int) {
	end, skipped = replay(data, func(record) { records++ })
	return records, end, skipped
}

// Files is the cache of open files.
type Files struct{ c *files[string] }

// NewFiles makes a cache with this limit.
func NewFiles(limit int, open func(string, bool) (*os.File, error)) Files {
	return Files{newFiles(limit, open)}
}

func (f Files) Get(name string) (*file[string], error) { return f.c.get(name, false) }
func (f Files) Put(of *file[string])                   { f.c.put(of) }
func (f Files) Drop(name string)                       { f.c.drop(name) }

// Rest is rest.
func (f Files) Rest() { f.c.rest() }

// SetClock makes it take the time from now.
func (f Files) SetClock(now func() time.Time) { f.c.now = now }

// IdleFile is idleFile.
const IdleFile = idleFile

func (f Files) Len() int { return f.c.len() }

// LimitFiles sets how many files a Disk keeps open.
func (d *Disk) LimitFiles(n int) { d.files.limit = n }

// LimitTables makes a Disk keep so few tables that it asks for them again.
func (d *Disk) LimitTables(chunks int) { d.tables = newTables(chunks, d.cfg.Tables) }

// ToSpare is how much of so much free space is planned with.
func (d *Disk) ToSpare(free int64) int64 { return d.toSpare(free) }

// SumUsed adds up what Used should be.
func (d *Disk) SumUsed() (n int64) {
	for _, s := range d.segments {
		t, err := d.table(s)
		if err != nil {
			panic(err)
		}
		for i := range members(s.have, s.chunks) {
			n += int64(t.Chunk(i).Size)
		}
	}
	return n
}

var _ content.BlockSource = (*Pack)(nil)

// RewriteJournal replaces the journal as a bloated one is replaced.
func (d *Disk) RewriteJournal() error {
	d.syncing.Lock()
	defer d.syncing.Unlock()
	return d.rewriteJournal()
}

// Closed reports whether Close was called.
func (d *Disk) Closed() bool {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.closed
}

// PunchForTest, AllocatedForTest, ParseArrivalsForTest and ArrivalsLogForTest are what arrivals do on the disk.
func PunchForTest(f *os.File, off, length int64) error { return durable.OS{}.Punch(f, off, length) }

func AllocatedForTest(st os.FileInfo) int64 { return allocated(st) }

func ParseArrivalsForTest(number uint32, data []byte) ([]content.Chunk, bool) {
	return parseArrivals(number, data)
}

func ArrivalsLogForTest(number uint32, chunks []content.Chunk) []byte {
	log := []byte(arrivalsHeader)
	for i, c := range chunks {
		log = appendArrival(log, number, i, c)
	}
	return appendArrival(log, number, len(chunks), content.Chunk{})
}
