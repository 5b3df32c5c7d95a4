package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/cockroachdb/pebble/v2"

	"swarmnode/content"
	"swarmnode/content/durable"
)

const (
	// maxWaiting is how many references wait in memory for one write to the index.
	maxWaiting = 1024
	// maxNamed is how many bad paths are remembered so that each is named once.
	maxNamed = 10_000
)

// References is the store of a publisher: its segments are places in the published tree, which nobody copies and
// somebody may change at any time. So a read is hashed, unless this process hashed the same chunk within the last hour
// and the file's times, size and inode say that nobody has written to it since. A reference that no longer gives its
// chunk, neither from the tree nor from a hard link, is dropped and its path named once. It is safe for concurrent use.
//
// Beside the places it keeps the publisher's memory: which chunk has which place in the collection (Find), whether or
// not its bytes are still here, and the mtimes of paths that are gone.
type References struct {
	cfg    Config
	dir    string
	tree   *os.Root
	links  *links // nil: none
	files  *files[string]
	proofs *proofs
	tables *tables
	index

	// using is held for reading by every call and for writing by Close, for pebble panics when used after it. It guards closed.
	using  sync.RWMutex
	closed bool
	adding sync.Mutex // serialises Add

	mu       sync.RWMutex // guards what follows
	segments map[uint32]*placed
	pending
	damage
}

// damage is what became of the tree.
type damage struct {
	named map[string]struct{} // bad paths told to OnBad
	bad   int64
}

// index is the database and what stands between it and a full disk.
type index struct {
	db       *pebble.DB
	patience *patience
	reserve  int64 // indexReserve
	writes   sync.WaitGroup
	left     atomic.Int32 // writes under way whose callers were told that the disk is full
	flushing sync.Mutex   // serialises flush and lose
}

// placed is a segment known to References.
type placed struct {
	table  content.Digest
	size   uint32
	chunks uint32
	have   content.Bitmap // valid once loaded
	loaded bool
}

// spot is where the bytes of a chunk are: a path in the published tree and an offset in bytes.
type spot struct {
	path   string
	offset int64
}

// OpenReferences opens the publisher's store in dir over the published tree at root. linkDir is where Link puts hard
// links of published files; "" means nowhere. The index is dir/index; it may be deleted, see Empty.
func OpenReferences(dir, root, linkDir string, cfg Config) (*References, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	r := &References{cfg: cfg, dir: dir, proofs: newProofs(), tables: newTables(maxCachedChunks, cfg.Tables),
		segments: map[uint32]*placed{}}
	r.waiting, r.named = map[content.Ref]spot{}, map[string]struct{}{}
	r.files = newFiles(MaxOpenFiles, func(path string, _ bool) (*os.File, error) { return openRegular(r.tree, path) })
	if r.tree, err = os.OpenRoot(root); err != nil {
		return nil, fmt.Errorf("open published tree: %w", err)
	}
	if linkDir != "" {
		if r.links, err = openLinks(cfg.FS, linkDir); err != nil {
			return nil, errors.Join(err, r.tree.Close())
		}
	}
	if err = durable.MkdirAll(cfg.FS, dir, 0o755); err == nil {
		r.patience, r.reserve = newPatience(), indexReserve
		r.db, err = openIndex(dir, r.patience)
	}
	if err == nil {
		err = scan(r.db, []byte{keySegment}, func(key, v []byte) bool {
			if n, s, ok := parseSegment(key, v); ok {
				r.segments[n] = s
			}
			return true
		})
	}
	if err != nil {
		return nil, errors.Join(err, r.close())
	}
	return r, nil
}

// openRegular opens a file of the tree for reading. What is not a regular file has no bytes to give, and opening a pipe
// must not wait for its writer.
func openRegular(root *os.Root, path string) (*os.File, error) {
	f, err := root.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// enter begins a call; the caller ends it with using.RUnlock when err is nil.
func (r *References) enter() error {
	r.using.RLock()
	if r.closed {
		r.using.RUnlock()
		return ErrClosed
	}
	return nil
}

// Add makes a segment known and lists the places of its live chunks for Find. t may be nil, then Config.Tables is
// asked. Durable after Sync. Another table for a known number is ErrOtherTable.
func (r *References) Add(number uint32, info content.SegmentInfo, t *content.Table) error {
	t, err := r.tables.check(number, info, t)
	if err != nil {
		return err
	}
	return r.call(func() error { return r.add(number, info, t) })
}

func (r *References) add(number uint32, info content.SegmentInfo, t *content.Table) error {
	r.adding.Lock()
	defer r.adding.Unlock()
	r.mu.RLock()
	s := r.segments[number]
	r.mu.RUnlock()
	if s != nil && s.table != info.Table {
		return fmt.Errorf("add segment %d: %w", number, ErrOtherTable)
	}
	if s != nil {
		return nil
	}
	s = &placed{table: info.Table, size: info.Size, chunks: info.Chunks}
	b := r.db.NewBatch()
	for i := range t.Len() {
		if !info.Dead.Has(i) {
			d := t.Chunk(i).Digest
			_ = b.Set(digestKey(d), refValue(content.Ref{Segment: number, Index: i}), nil) // a batch in memory does not fail
		}
	}
	_ = b.Set(segmentKey(keySegment, number), segmentValue(s), nil)
	if err := r.commit(b); err != nil {
		return fmt.Errorf("add segment %d: %w", number, err)
	}
	r.mu.Lock()
	r.segments[number] = s
	r.mu.Unlock()
	return nil
}

// Chunk reads a chunk into buf, or into new memory if the capacity of buf is too small, and returns it.
// ErrNotHere if there is no such reference or it no longer holds; every other error may be gone the next time.
func (r *References) Chunk(ref content.Ref, buf []byte) ([]byte, error) {
	if err := r.enter(); err != nil {
		return nil, err
	}
	defer func() { r.using.RUnlock() }()
	r.mu.RLock()
	s := r.segments[ref.Segment]
	r.mu.RUnlock()
	if s == nil || ref.Index >= s.chunks {
		return nil, ErrNotHere
	}
	p, ok, err := r.spot(ref)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, ErrNotHere
	}
	t, err := r.tables.get(s.table, s.chunks, s.size)
	if err != nil {
		return nil, err
	}
	c := t.Chunk(ref.Index)
	data, cause := r.read(p, c, fit(buf, c.Size))
	switch {
	case cause == nil:
		return data, nil
	case !errors.Is(cause, ErrWrongBytes) && !damaged(cause):
		return nil, fmt.Errorf("read chunk %d of segment %d from %s: %w", ref.Index, ref.Segment, p.path, cause)
	}
	name, err := r.lose(ref, p)
	if name {
		r.cfg.Log.Warn("a published file no longer has the bytes it was published with: they have to be published, or fetched, again", "path", p.path, "error", cause)
		r.using.RUnlock()
		r.cfg.OnBad(ref, p.path)
		r.using.RLock()
	}
	if err != nil {
		return nil, err
	}
	return nil, ErrNotHere
}

// Read reads the chunk c from its place, also where its segment is still being filled and Chunk knows nothing of it. Nothing is
// concluded from an error.
func (r *References) Read(ref content.Ref, c content.Chunk, buf []byte) ([]byte, error) {
	if err := r.enter(); err != nil {
		return nil, err
	}
	defer r.using.RUnlock()
	p, ok, err := r.spot(ref)
	if err == nil && !ok {
		err = ErrNotHere
	}
	if err != nil {
		return nil, err
	}
	return r.read(p, c, fit(buf, c.Size))
}

// read tries the open file, the file that has the path now, and the links made of earlier ones.
func (r *References) read(p spot, c content.Chunk, buf []byte) ([]byte, error) {
	data, err := r.readFrom(r.files, p.path, p.offset, c, buf)
	if errors.Is(err, ErrWrongBytes) || err != nil && damaged(err) {
		r.files.drop(p.path) // the open file may be one that was replaced since
		data, err = r.readFrom(r.files, p.path, p.offset, c, buf)
	}
	if err == nil || r.links == nil {
		return data, err
	}
	for _, link := range r.linksOf(p.path) {
		if data, lerr := r.readFrom(r.links.files, link, p.offset, c, buf); lerr == nil {
			return data, nil
		}
	}
	return nil, err
}

// readFrom reads a chunk from a file and sees to it that its bytes are right.
func (r *References) readFrom(open *files[string], name string, offset int64, c content.Chunk, buf []byte) ([]byte, error) {
	f, err := open.get(name, false)
	if err != nil {
		return nil, err
	}
	defer open.put(f)
	return r.proofs.read(f.File, offset, c, buf)
}

// lose drops a reference unless it has a new place by now, and says whether its path is to be named.
func (r *References) lose(ref content.Ref, was spot) (name bool, err error) {
	first := false
	err = r.write(func() error {
		r.flushing.Lock()
		defer r.flushing.Unlock()
		r.mu.Lock()
		defer r.mu.Unlock()
		now, waits := r.waiting[ref]
		if !waits {
			v, err := lookup(r.db, placeKey(ref))
			if err != nil {
				return err
			}
			now, _ = parseSpot(v)
		}
		if now != was {
			return nil
		}
		delete(r.waiting, ref)
		if err := r.db.Delete(placeKey(ref), pebble.NoSync); err != nil {
			return fmt.Errorf("write the publisher's index: %w", full(err))
		}
		if s := r.segments[ref.Segment]; s != nil {
			s.have.Clear(ref.Index)
		}
		r.bad++
		if _, told := r.named[was.path]; !told && len(r.named) < maxNamed {
			r.named[was.path] = struct{}{}
			first = true
		}
		return nil
	})
	return err == nil && first, err
}

// Have gives the chunks of a segment that have a reference. Whether it still holds shows when it is read.
func (r *References) Have(number uint32) content.Bitmap {
	if r.enter() != nil {
		return nil
	}
	defer r.using.RUnlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.segments[number]
	if s == nil {
		return nil
	}
	if !s.loaded {
		if err := r.loadHave(number, s); err != nil {
			r.cfg.Log.Warn("the references of a segment cannot be listed: look at the disk of the home directory", "segment", number, "error", err)
			return nil
		}
	}
	return s.have.Trim().Clone()
}

func (r *References) loadHave(number uint32, s *placed) error {
	s.have = nil
	err := scan(r.db, segmentKey(keyPlace, number), func(key, _ []byte) bool {
		if len(key) == 9 {
			if i := uint32(key[5])<<24 | uint32(key[6])<<16 | uint32(key[7])<<8 | uint32(key[8]); i < s.chunks {
				s.have.Set(i)
			}
		}
		return true
	})
	for _, refs := range []map[content.Ref]spot{r.waiting, r.moving} {
		for ref := range refs {
			if ref.Segment == number && ref.Index < s.chunks {
				s.have.Set(ref.Index)
			}
		}
	}
	s.loaded = err == nil
	return err
}

// Segments lists the numbers of the segments known, ascending.
func (r *References) Segments() []uint32 {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return slices.Sorted(maps.Keys(r.segments))
}

// Sync makes everything so far durable.
func (r *References) Sync(context.Context) error {
	return r.call(r.sync)
}

func (r *References) sync() error {
	if err := r.flush(); err != nil {
		return err
	}
	if r.links != nil {
		if err := r.links.sync(); err != nil {
			return err
		}
	}
	if err := r.db.LogData(nil, pebble.Sync); err != nil { // syncs the log up to here
		return fmt.Errorf("sync the publisher's index: %w", full(err))
	}
	return nil
}

// ReferenceStats are the figures of References.
type ReferenceStats struct {
	Segments  int
	Bad       int64 // references dropped since the start
	Proven    int64 // reads that were not hashed
	OpenFiles int
}

// Stats gives the figures.
func (r *References) Stats() ReferenceStats {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return ReferenceStats{Segments: len(r.segments), Bad: r.bad, Proven: r.proofs.uses(), OpenFiles: r.files.len()}
}

// Close syncs and closes the store, after the calls under way. Later calls are ErrClosed or find nothing. If the disk is
// full it gives ErrDiskFull, and the index stays locked until there is room or the process ends: nothing in it is harmed.
func (r *References) Close() error {
	if r.enter() != nil {
		return nil
	}
	err := r.writeNow(r.sync) // into the reserve, if need be
	r.using.RUnlock()
	r.using.Lock()
	defer r.using.Unlock()
	if r.closed {
		return nil
	}
	return errors.Join(err, r.close())
}

func (r *References) close() error {
	r.closed = true
	r.files.close()
	var errs []error
	if r.db != nil {
		errs = append(errs, r.index.close())
	}
	if r.links != nil {
		errs = append(errs, r.links.close())
	}
	return errors.Join(append(errs, r.tree.Close())...)
}
