package store

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/dustin/go-humanize"
)

const (
	// indexReserve is how much of the disk must be free before the index is written: its log and a flush of its memory fit.
	indexReserve = 4 * indexMemTable
	// retryFull is how often a write that found the disk full is tried again.
	retryFull = 250 * time.Millisecond
)

// patience stands between pebble and a full disk. pebble panics, or asks its logger to end the process, when its log
// or manifest cannot be written, for what it has in memory is then ahead of the disk. So it is never told: the write
// waits, and with it what pebble has locked, until there is room again or the process ends, as if the disk were very
// slow. Whoever called References meanwhile is told ErrDiskFull at once. Reads go on.
type patience struct {
	mu      sync.Mutex    // guards waiting and stuck
	waiting int           // writes that found the disk full
	stuck   chan struct{} // closed while waiting > 0
	full    atomic.Bool   // waiting > 0

	// fault is asked before each operation. Only tests set it.
	fault func() error
}

func newPatience() *patience {
	return &patience{stuck: make(chan struct{}), fault: func() error { return nil }}
}

// do tries op until the disk is not full. op has to go on where it has stopped.
func (p *patience) do(op func() error) error {
	err := p.try(op)
	if !errors.Is(err, ErrDiskFull) {
		return err
	}
	p.enter()
	defer p.leave()
	for errors.Is(err, ErrDiskFull) {
		time.Sleep(retryFull)
		err = p.try(op)
	}
	return err
}

func (p *patience) try(op func() error) error {
	err := p.fault()
	if err == nil {
		err = op()
	}
	return full(err)
}

func (p *patience) enter() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waiting++; p.waiting == 1 {
		p.full.Store(true)
		close(p.stuck)
	}
}

func (p *patience) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waiting--; p.waiting == 0 {
		p.full.Store(false)
		p.stuck = make(chan struct{})
	}
}

// until gives a channel that is closed while a write waits.
func (p *patience) until() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stuck
}

// patientFS is a file system whose writes wait for room.
type patientFS struct {
	vfs.FS
	p *patience
}

func (f patientFS) open(op func() (vfs.File, error)) (file vfs.File, err error) {
	err = f.p.do(func() error { file, err = op(); return err })
	if err != nil {
		return nil, err
	}
	return &patientFile{file, f.p}, nil
}

// Create is that of vfs.FS, as are the others.
func (f patientFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return f.open(func() (vfs.File, error) { return f.FS.Create(name, c) })
}

func (f patientFS) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	return f.open(func() (vfs.File, error) { return f.FS.OpenReadWrite(name, c, o...) })
}

func (f patientFS) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return f.open(func() (vfs.File, error) { return f.FS.ReuseForWrite(from, to, c) })
}

func (f patientFS) OpenDir(name string) (vfs.File, error) {
	return f.open(func() (vfs.File, error) { return f.FS.OpenDir(name) })
}

func (f patientFS) Link(from, to string) error {
	return f.p.do(func() error { return f.FS.Link(from, to) })
}

func (f patientFS) Rename(from, to string) error {
	return f.p.do(func() error { return f.FS.Rename(from, to) })
}

func (f patientFS) MkdirAll(dir string, perm os.FileMode) error {
	return f.p.do(func() error { return f.FS.MkdirAll(dir, perm) })
}

// patientFile is a file whose writes wait for room.
type patientFile struct {
	vfs.File
	p *patience
}

func (f *patientFile) Write(b []byte) (done int, err error) {
	err = f.p.do(func() error {
		n, err := f.File.Write(b[done:])
		done += n
		return err
	})
	return done, err
}

func (f *patientFile) WriteAt(b []byte, off int64) (done int, err error) {
	err = f.p.do(func() error {
		n, err := f.File.WriteAt(b[done:], off+int64(done))
		done += n
		return err
	})
	return done, err
}

func (f *patientFile) Preallocate(off, n int64) error {
	return f.p.do(func() error { return f.File.Preallocate(off, n) })
}

func (f *patientFile) Sync() error { return f.p.do(f.File.Sync) }

func (f *patientFile) SyncData() error { return f.p.do(f.File.SyncData) }

func (f *patientFile) SyncTo(n int64) (whole bool, err error) {
	err = f.p.do(func() error { whole, err = f.File.SyncTo(n); return err })
	return whole, err
}

// room refuses a write to the index while the disk is full or nearly so.
func (r *References) room() error {
	if r.patience.full.Load() || r.left.Load() > 0 {
		return fmt.Errorf("write the publisher's index: %w: an earlier write still waits for room", ErrDiskFull)
	}
	if free, ok := freeSpace(r.dir); ok && free < r.reserve {
		return fmt.Errorf("write the publisher's index: %w: only %s are free in %s, and %s are kept in reserve",
			ErrDiskFull, humanize.IBytes(uint64(free)), r.dir, humanize.IBytes(uint64(r.reserve)))
	}
	return nil
}

// call is write between enter and the end of a call.
func (r *References) call(op func() error) error {
	if err := r.enter(); err != nil {
		return err
	}
	defer r.using.RUnlock()
	return r.write(op)
}

// write does what changes the index, in whole: if the disk is found full on the way the caller is told so at once,
// and the rest happens when there is room again. Until then no other write begins, and Close does not wait.
func (r *References) write(op func() error) error {
	if err := r.room(); err != nil {
		return err
	}
	return r.writeNow(op)
}

// writeNow is write without a reserve.
func (r *References) writeNow(op func() error) error {
	done := make(chan error, 1)
	r.writes.Add(1)
	go func() {
		defer r.writes.Done()
		done <- op()
	}()
	select {
	case err := <-done:
		return err
	case <-r.patience.until():
		r.left.Add(1)
		go func() {
			<-done
			r.left.Add(-1)
		}()
		return fmt.Errorf("write the publisher's index: %w", ErrDiskFull)
	}
}

// CheckRoom refuses, before a publish begins, when the disk is so full that it might not end. The error is ErrDiskFull.
func (r *References) CheckRoom() error {
	if err := r.room(); err != nil {
		return err
	}
	if free, ok := freeSpace(r.dir); ok && free < keepFree {
		return fmt.Errorf("%w: only %s are free in %s, and %s are needed", ErrDiskFull, humanize.IBytes(uint64(free)), r.dir,
			humanize.IBytes(keepFree))
	}
	return nil
}
