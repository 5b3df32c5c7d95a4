package store

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"swarmnode/content"
	"swarmnode/content/durable"
	"swarmnode/content/guard"
)

// Disk is the store of a mirror: one sparse file per segment, named by the CID of its table, in which each chunk lies
// at the offset that the table gives, and a journal of the chunks that are valid. It is safe for concurrent use.
//
// The life of a chunk: Put hashes it, writes it and shows it to Chunk at once. Sync makes the file's data durable, then
// the names of new files, then the journal's record; only then it is in Synced. On its first read after a start it is
// hashed again. A chunk that fails is quarantined: no longer in Have, never served, to be fetched and put again.
type Disk struct {
	cfg     Config
	dir     string
	root    *os.Root // the directory of the segment files
	files   *files[content.Digest]
	tables  *tables
	crowded chan struct{} // tells Run that SyncBytes are unsynced

	// syncing serialises Sync, Remove and Punch and owns the journal. It is taken before segment.use and mu.
	syncing sync.Mutex
	journal *journal

	mu sync.RWMutex // guards the state and the fields of every segment
	diskState
}

// diskState is what Disk.mu guards.
type diskState struct {
	segments map[uint32]*segment
	numbers  map[content.Digest]uint32 // table -> segment number
	dirty    map[*segment]struct{}     // segments for which Sync has something to do
	unnamed  []content.Digest          // tables whose files were made since the directory was last synced
	used     int64                     // bytes in all Have sets
	moved    int64                     // of these, bytes in Config.Tree
	unsynced int64                     // bytes put since the last Sync began
	doubted  map[content.Digest]bool   // tables whose files have names that can never count, see loseNew
	bad      int64
	syncs    int64
	closed   bool
}

// segment is one file. Everything but use is guarded by Disk.mu or does not change.
type segment struct {
	number uint32
	table  content.Digest
	size   uint32
	chunks uint32

	// use is held for reading while chunks are read or written, and for writing while bytes are destroyed or doubted.
	use sync.RWMutex

	added   bool // the journal does not know the segment yet
	removed bool
	bytes   int64          // of the chunks in have
	pending int64          // of the chunks in put
	taken   int64          // of the chunks in flushing
	lent    map[uint32]int // how many send a chunk straight from the file, see Lend
	chunkSets
}

// chunkSets says what is known of the chunks of a segment.
type chunkSets struct {
	have     content.Bitmap // chunks that Chunk serves
	synced   content.Bitmap // of these, the durable ones
	put      content.Bitmap // put since the last Sync began
	flushing content.Bitmap // taken up by the Sync that is under way
	dropped  content.Bitmap // no longer valid, and the journal does not know it yet
	verified content.Bitmap // hashed since the start
	moved    content.Bitmap // in Config.Tree, and no longer in the file
	owed     content.Bitmap // dropped, and their bytes go when nobody sends them any more
}

// OpenDisk opens the store in dir, or makes an empty one.
func OpenDisk(dir string, cfg Config) (*Disk, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	names := filepath.Join(dir, SegmentsDir)
	if err := durable.MkdirAll(cfg.FS, names, 0o755); err != nil {
		return nil, fmt.Errorf("open store: %w", full(err))
	}
	root, err := os.OpenRoot(names)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	d := &Disk{cfg: cfg, dir: dir, root: root, crowded: make(chan struct{}, 1)}
	d.doubted = map[content.Digest]bool{}
	d.segments, d.numbers, d.dirty = map[uint32]*segment{}, map[content.Digest]uint32{}, map[*segment]struct{}{}
	d.files = newFiles(MaxOpenFiles, d.openFile)
	d.tables = newTables(maxCachedChunks, cfg.Tables)
	if err := d.load(); err != nil {
		return nil, errors.Join(fmt.Errorf("open store %s: %w", dir, full(err)), root.Close())
	}
	return d, nil
}

// load reads the journal and brings it and the directory of segment files into agreement.
func (d *Disk) load() error {
	journal, whole, err := openJournal(filepath.Join(d.dir, "journal"), d.cfg.FS, d.apply)
	if err != nil {
		return err
	}
	d.journal = journal
	found, err := d.root.Open(".")
	if err != nil {
		return err
	}
	listed, err := found.Readdirnames(-1)
	found.Close()
	if err != nil {
		return err
	}
	there := make(map[string]bool, len(listed))
	for _, name := range listed {
		there[name] = true
	}
	for _, s := range d.segments {
		name := s.table.BlockCID().String()
		if !there[name] && len(s.have) > 0 {
			d.cfg.Log.Warn("the file of a segment is gone, it is fetched again: look at the disk, and whether somebody else deletes files there", "segment", s.number, "file", name)
			s.have, s.synced, s.bytes = nil, nil, 0
		}
		if !whole {
			d.recount(s)
		}
		d.used += s.bytes
		if len(s.have) > 0 || !whole {
			delete(there, name) // else nothing in it counts, perhaps because its name could not be synced
		}
	}
	if !whole && len(listed) > 0 {
		// The files may be good although the journal is not: Add looks into them.
		d.cfg.Log.Warn("the journal of the store is damaged, segments that it lost are read again: look at the disk", "store", d.dir)
	} else {
		for name := range there {
			if err := d.cfg.FS.RemoveIn(d.root, name); err != nil {
				d.cfg.Log.Warn("a file that holds nothing stays: delete it, or look at the disk", "store", d.dir, "file", name, "error", err)
			}
		}
	}
	if err := syncDir(d.cfg.FS, d.root.Name()); err != nil {
		return err // a killed process may have made files and not come to this
	}
	if !whole {
		return d.rewriteJournal()
	}
	d.journal.clean = min(d.liveSize(), d.journal.end)
	d.tidyJournal()
	return nil
}

// apply replays one journal record. Records that make no sense are ignored; see journal.go why that is safe.
func (d *Disk) apply(r record) {
	s := d.segments[r.number]
	switch r.kind {
	case recordSegment:
		_, twice := d.numbers[r.table]
		if s != nil || twice || r.number >= content.MaxSegments || r.size > content.MaxSegmentSize ||
			r.chunks == 0 || r.chunks > content.MaxSegmentChunks {
			return
		}
		d.segments[r.number] = &segment{number: r.number, table: r.table, size: r.size, chunks: r.chunks}
		d.numbers[r.table] = r.number
	case recordValid:
		if s != nil {
			for i := range members(r.set, s.chunks) {
				s.have.Set(i)
				s.synced.Set(i)
			}
			s.bytes = int64(min(r.bytes, uint64(s.size)))
		}
	case recordInvalid:
		if s != nil {
			s.have.AndNot(r.set)
			s.synced.AndNot(r.set)
			s.bytes = int64(min(r.bytes, uint64(s.size)))
		}
	case recordRemoved:
		if s != nil {
			delete(d.segments, r.number)
			delete(d.numbers, s.table)
		}
	}
}

// openFile opens a segment's file and, if create is set and there is none, makes it.
func (d *Disk) openFile(table content.Digest, create bool) (*os.File, error) {
	name := table.BlockCID().String()
	if err := d.undoubt(table, name); err != nil {
		return nil, err
	}
	f, err := d.cfg.FS.OpenIn(d.root, name, os.O_RDWR, 0)
	if !create || !errors.Is(err, fs.ErrNotExist) {
		return f, err
	}
	if f, err = d.cfg.FS.OpenIn(d.root, name, os.O_RDWR|os.O_CREATE, 0o644); err != nil {
		return nil, full(err)
	}
	d.mu.Lock()
	d.unnamed = append(d.unnamed, table)
	d.mu.Unlock()
	return f, nil
}

// Add says that this node wants to hold a segment. t may be nil, then Config.Tables is asked. It is durable after the
// next Sync. Adding the same segment again does nothing; another table for a known number is ErrOtherTable.
func (d *Disk) Add(number uint32, info content.SegmentInfo, t *content.Table) error {
	t, err := d.tables.check(number, info, t)
	if err != nil {
		return err
	}
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return ErrClosed
	}
	s, other := d.segments[number], false
	if n, ok := d.numbers[info.Table]; ok {
		other = n != number
	}
	if other || s != nil && s.table != info.Table {
		d.mu.Unlock()
		return fmt.Errorf("add segment %d: %w", number, ErrOtherTable)
	}
	if s != nil {
		d.mu.Unlock()
		return nil
	}
	s = &segment{number: number, table: info.Table, size: info.Size, chunks: info.Chunks, added: true}
	d.segments[number], d.numbers[info.Table], d.dirty[s] = s, number, struct{}{}
	d.mu.Unlock()
	return d.adopt(s, t)
}

// segment gives a registered segment, nil if there is none.
func (d *Disk) segment(number uint32) *segment {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.segments[number]
}

func (d *Disk) table(s *segment) (*content.Table, error) {
	return d.tables.get(s.table, s.chunks, s.size)
}

// Put stores a chunk of a segment that was added. It checks size and hash, and does nothing if the chunk is here. The
// chunk can be read when Put returns; it is durable after the next Sync. Errors: ErrWrongBytes, ErrOutOfRange,
// ErrNotHere for an unknown segment, ErrDiskFull.
func (d *Disk) Put(ref content.Ref, data []byte) error {
	s := d.segment(ref.Segment)
	if s == nil {
		return fmt.Errorf("put chunk %d of segment %d: %w: the segment was not added", ref.Index, ref.Segment, ErrNotHere)
	}
	if ref.Index >= s.chunks {
		return fmt.Errorf("put chunk %d of segment %d: %w", ref.Index, ref.Segment, ErrOutOfRange)
	}
	t, err := d.table(s)
	if err != nil {
		return err
	}
	if c := t.Chunk(ref.Index); uint32(len(data)) != c.Size || guard.On(guard.PutHash) && content.Sum(data) != c.Digest {
		return fmt.Errorf("put chunk %d of segment %d: %w", ref.Index, ref.Segment, ErrWrongBytes)
	}
	s.use.RLock()
	defer s.use.RUnlock()
	d.mu.RLock()
	here, removed, closed := s.have.Has(ref.Index), s.removed, d.closed
	d.mu.RUnlock()
	switch {
	case closed:
		return ErrClosed
	case removed:
		return fmt.Errorf("put chunk %d of segment %d: %w: the segment was removed", ref.Index, ref.Segment, ErrNotHere)
	case here:
		return nil
	}
	if err := d.write(s, t, ref.Index, data); err != nil {
		return fmt.Errorf("put chunk %d of segment %d: %w", ref.Index, ref.Segment, full(err))
	}
	d.note(s, ref.Index, uint32(len(data)))
	return nil
}

// write writes a chunk to its place in the file.
func (d *Disk) write(s *segment, t *content.Table, i uint32, data []byte) error {
	f, err := d.files.get(s.table, true)
	if err == nil {
		_, err = d.cfg.FS.WriteAt(f.File, data, int64(t.Offset(i)))
		d.files.put(f)
	}
	return err
}

// note lists a chunk as here and not yet durable.
func (d *Disk) note(s *segment, i, size uint32) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if s.have.Has(i) {
		return // somebody put the same chunk meanwhile
	}
	s.have.Set(i)
	s.put.Set(i)
	s.verified.Set(i)
	s.bytes, s.pending = s.bytes+int64(size), s.pending+int64(size)
	d.used, d.unsynced = d.used+int64(size), d.unsynced+int64(size)
	d.dirty[s] = struct{}{}
	if d.unsynced >= d.cfg.SyncBytes {
		select {
		case d.crowded <- struct{}{}:
		default:
		}
	}
}

// Chunk reads a chunk into buf, or into new memory if the capacity of buf is too small, and returns it. It gives
// ErrNotHere for every chunk that is not here, whatever the reason; every other error may be gone the next time.
func (d *Disk) Chunk(ref content.Ref, buf []byte) ([]byte, error) { return d.chunk(ref, buf, false) }

// Verify hashes a chunk on disk although it was hashed before: the work of a scrub. A bad one is quarantined and
// ErrNotHere. buf is used as by Chunk.
func (d *Disk) Verify(ref content.Ref, buf []byte) error {
	_, err := d.chunk(ref, buf, true)
	return err
}

func (d *Disk) chunk(ref content.Ref, buf []byte, always bool) ([]byte, error) {
	s := d.segment(ref.Segment)
	if s == nil {
		return nil, ErrNotHere
	}
	if here, _, _ := d.know(s, ref.Index); !here {
		return nil, ErrNotHere
	}
	if data, err := d.inTree(ref, buf); !errors.Is(err, ErrNotHere) {
		return data, err
	}
	t, err := d.table(s)
	if err != nil {
		return nil, err
	}
	s.use.RLock()
	here, verified, closed := d.know(s, ref.Index)
	if closed || !here {
		s.use.RUnlock()
		if closed {
			return nil, ErrClosed
		}
		return nil, ErrNotHere
	}
	data, err := d.read(s, t, ref.Index, buf, false)
	good := err == nil && (verified && !always || !guard.On(guard.ReadHash) || content.Sum(data) == t.Chunk(ref.Index).Digest)
	s.use.RUnlock()
	switch {
	case good && !verified:
		d.mu.Lock()
		if s.have.Has(ref.Index) && !s.moved.Has(ref.Index) {
			s.verified.Set(ref.Index)
		}
		d.mu.Unlock()
	case !good && (err == nil || damaged(err)):
		return d.doubt(s, t, ref, buf)
	}
	if err != nil {
		return nil, fmt.Errorf("read chunk %d of segment %d: %w", ref.Index, ref.Segment, err)
	}
	return data, nil
}

// know says what is known of a chunk.
func (d *Disk) know(s *segment, i uint32) (here, verified, closed bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return s.have.Has(i), s.verified.Has(i), d.closed
}

// read reads a chunk from its place in the file, whatever is there. fresh opens the file anew.
func (d *Disk) read(s *segment, t *content.Table, i uint32, buf []byte, fresh bool) ([]byte, error) {
	if fresh {
		d.files.drop(s.table)
	}
	f, err := d.files.get(s.table, false)
	if err != nil {
		return nil, err
	}
	defer d.files.put(f)
	data := fit(buf, t.Chunk(i).Size)
	if _, err := f.ReadAt(data, int64(t.Offset(i))); err != nil {
		return nil, err
	}
	return data, nil
}

// doubt reads a chunk that seemed bad once more, with nobody else at the segment, and quarantines it if it still is.
func (d *Disk) doubt(s *segment, t *content.Table, ref content.Ref, buf []byte) ([]byte, error) {
	c := t.Chunk(ref.Index)
	s.use.Lock()
	if data, err := d.inTree(ref, buf); err == nil { // it was moved in this moment
		s.use.Unlock()
		return data, nil
	}
	data, err := d.read(s, t, ref.Index, buf, true)
	if err == nil && content.Sum(data) == c.Digest {
		s.use.Unlock()
		return data, nil
	}
	if err != nil && !damaged(err) {
		s.use.Unlock()
		return nil, fmt.Errorf("read chunk %d of segment %d: %w", ref.Index, ref.Segment, err)
	}
	d.mu.Lock()
	news := s.have.Has(ref.Index)
	if news {
		d.drop(s, t, ref.Index)
		d.bad++
	}
	d.mu.Unlock()
	s.use.Unlock()
	if news {
		path := filepath.Join(d.dir, SegmentsDir, s.table.BlockCID().String())
		d.cfg.Log.Warn("a chunk was damaged on disk and is no longer served: look at the disk", "segment", ref.Segment, "chunk", ref.Index,
			"file", path, slog.Any("error", err))
		d.cfg.OnBad(ref, path)
	}
	return nil, ErrNotHere
}

// drop takes a chunk out of have, under d.mu. The journal hears of it at the next Sync.
func (d *Disk) drop(s *segment, t *content.Table, i uint32) {
	size := int64(t.Chunk(i).Size)
	if s.put.Has(i) {
		s.pending -= size
		d.unsynced = max(0, d.unsynced-size)
	}
	if s.flushing.Has(i) {
		s.taken -= size
	}
	if s.moved.Has(i) {
		d.moved -= size
	}
	for _, set := range []*content.Bitmap{&s.have, &s.synced, &s.put, &s.flushing, &s.verified, &s.moved} {
		set.Clear(i)
	}
	s.dropped.Set(i)
	s.bytes, d.used = s.bytes-size, d.used-size
	d.dirty[s] = struct{}{}
}

// Has reports whether Chunk serves a chunk.
func (d *Disk) Has(ref content.Ref) bool {
	d.mu.RLock()
	defer d.mu.RUnlock()
	s := d.segments[ref.Segment]
	return s != nil && s.have.Has(ref.Index)
}

// Have gives the chunks of a segment that Chunk serves.
func (d *Disk) Have(number uint32) content.Bitmap {
	return d.set(number, func(s *segment) content.Bitmap { return s.have })
}

// Synced gives the chunks of a segment that survive a crash.
func (d *Disk) Synced(number uint32) content.Bitmap {
	return d.set(number, func(s *segment) content.Bitmap { return s.synced })
}

func (d *Disk) set(number uint32, which func(*segment) content.Bitmap) content.Bitmap {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if s := d.segments[number]; s != nil {
		return which(s).Trim().Clone()
	}
	return nil
}

// Segments lists the numbers of the segments added, ascending.
func (d *Disk) Segments() []uint32 {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return slices.Sorted(maps.Keys(d.segments))
}
