// Package store keeps the content of one collection on disk. A [Pack] holds metadata blocks, a [Disk] holds the
// segments of a mirror in files of its own, and [References] serve a publisher's segments out of the published tree
// without a copy, or out of [Arrivals], which take what comes from elsewhere. All of them give bytes only after their
// hash matched, and all survive a kill at any moment: what a Sync has acknowledged is there afterwards, what it has not
// is simply not there. What to keep, what to fetch and whom to tell is decided elsewhere.
package store

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"syscall"
	"time"

	"github.com/dustin/go-humanize"

	"swarmnode/content"
	"swarmnode/content/durable"
	"swarmnode/content/guard"
)

// The limits of a store.
const (
	// DefaultSyncBytes is how much may be put before it is synced. Below 64 MiB the syncs cost throughput; above
	// 256 MiB a crash loses more than a second of a fast line for nothing (notes of the storage measurements).
	DefaultSyncBytes = 128 << 20
	// DefaultSyncInterval is how long something put stays unsynced at most while [Disk.Run] runs.
	DefaultSyncInterval = 2 * time.Second
	// MaxOpenFiles is how many idle files a store keeps open: a quarter of the usual limit of 1,024 a process.
	MaxOpenFiles = 256
	// maxCachedChunks bounds the tables in memory by the chunks in them: 40 bytes each, so 5 MiB.
	maxCachedChunks = 1 << 17
	// parallelSyncs is how many files are synced at a time: a disk merges their commits.
	parallelSyncs = 4
	// keepFree is how much of the disk is never planned for, so that journals and logs still find room.
	keepFree = 64 << 20
	// keepShare is the share of the free space, one in so many, that is not planned for without a budget.
	keepShare = 10
	// blockSize is the file-system block that hole punching frees; every common file system has it or a smaller one.
	blockSize = 4096
)

// SegmentsDir is where a [Disk] has the files of segments, in its directory.
const SegmentsDir = "segments"

var (
	// ErrNotHere says that the store does not hold the chunk. It is a normal answer.
	ErrNotHere = errors.New("not here")
	// ErrWrongBytes says that what was put is not the chunk it was said to be.
	ErrWrongBytes = errors.New("the bytes are not those of the chunk")
	// ErrOutOfRange says that a reference points past the end of its segment.
	ErrOutOfRange = errors.New("the segment has no such chunk")
	// ErrOtherTable says that a segment number is known with another table, or a table with another number: the
	// publisher's releases contradict each other.
	ErrOtherTable = errors.New("the segment is known with another table")
	// ErrDiskFull says that the file system or its quota is full. What was acknowledged before is still there.
	ErrDiskFull = errors.New("the disk is full")
	// ErrClosed says that the store was used after Close.
	ErrClosed = errors.New("the store is closed")
)

// Config sets up a [Disk] or [References].
type Config struct {
	// Budget is how many bytes the store may hold; 0 means that only the disk limits it.
	Budget int64
	// Overhead gives bytes kept outside the segments that count against the budget, e.g. those of the pack. May be nil.
	Overhead func() int64
	// SyncBytes is how much may be put before Run syncs it; 0 means DefaultSyncBytes.
	SyncBytes int64
	// SyncInterval is how long Run leaves something unsynced; 0 means DefaultSyncInterval.
	SyncInterval time.Duration
	// FS does the writes; nil means durable.OS. The index of References has a file system of its own.
	FS durable.FS
	// Log takes what an operator has to know; nil means silence.
	Log *slog.Logger
	// Tables gives the table with this digest. Required. It is called without locks held, from many goroutines.
	Tables func(content.Digest) (*content.Table, error)
	// Tree has the places of chunks that a Disk does not keep in its own files, see [Disk.Moved]. It stays the caller's and must
	// be open as long as the Disk is. May be nil.
	Tree *References
	// OnBad hears of a chunk that no longer has its bytes and was dropped. path is the published path for
	// References (each path is named once) and the segment's file for a Disk. It is called without locks held. May be nil.
	OnBad func(ref content.Ref, path string)
}

func (c Config) withDefaults() (Config, error) {
	if c.Tables == nil {
		return c, errors.New("open store: Config.Tables is required")
	}
	if c.Budget < 0 {
		return c, fmt.Errorf("open store: a budget of %d bytes", c.Budget)
	}
	if c.SyncBytes <= 0 {
		c.SyncBytes = DefaultSyncBytes
	}
	if c.SyncInterval <= 0 {
		c.SyncInterval = DefaultSyncInterval
	}
	if c.FS == nil {
		c.FS = durable.OS{}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Overhead == nil {
		c.Overhead = func() int64 { return 0 }
	}
	if c.OnBad == nil {
		c.OnBad = func(content.Ref, string) {}
	}
	return c, nil
}

// BudgetError says that something does not fit, with the figures in bytes.
type BudgetError struct {
	Need   int64 // what was asked for
	Free   int64 // what is left
	Budget int64 // what was given; 0 when it is the disk that has no room
}

func (e *BudgetError) Error() string {
	need, free := humanize.IBytes(uint64(e.Need)), humanize.IBytes(uint64(e.Free))
	if e.Budget == 0 {
		return fmt.Sprintf("%s are needed, but the disk has only %s to spare", need, free)
	}
	return fmt.Sprintf("%s are needed, but only %s of the %s given are left", need, free, humanize.IBytes(uint64(e.Budget)))
}

// full marks err as ErrDiskFull when that is its cause.
func full(err error) error {
	if !errors.Is(err, ErrDiskFull) && (errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)) {
		return fmt.Errorf("%w: %w", ErrDiskFull, err)
	}
	return err
}

// damaged reports whether a failed read says that the bytes are gone, as against a read that may work later.
func damaged(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, fs.ErrNotExist) ||
		errors.Is(err, syscall.EIO) || errors.Is(err, syscall.EBADMSG)
}

// syncDir makes the names in a directory durable.
func syncDir(fsys durable.FS, path string) error {
	if !guard.On(guard.StoreNameSync) {
		return nil
	}
	if err := fsys.SyncDir(path); err != nil {
		return fmt.Errorf("sync directory %s: %w", path, full(err))
	}
	return nil
}

// fit gives a slice of n bytes, buf's own memory if it is large enough.
func fit(buf []byte, n uint32) []byte {
	if uint32(cap(buf)) >= n || cap(buf) > content.MaxChunkSize {
		return buf[:n]
	}
	return make([]byte, n)
}

// members gives the numbers in b that are below n, ascending.
func members(b content.Bitmap, n uint32) func(yield func(uint32) bool) {
	return func(yield func(uint32) bool) {
		for i := range min(n, uint32(len(b))*8) {
			if b.Has(i) && !yield(i) {
				return
			}
		}
	}
}
