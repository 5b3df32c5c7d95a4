package publish

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"iter"
	"os"
	"path/filepath"

	"swarmnode/content"
	"swarmnode/content/durable"
)

// A snapshot is what the last publish saw: one record per path, in the order of content.ComparePaths, front-coded.
//
//	magic | [flag, length, memo] | records: flags, shared prefix, rest of the path, mode, [mtime, ctime, inode, size], [target],
//	[stamp, path to fetch, SHA-256] | 0
//	| number of records (8 bytes) | digest of the file tree that it belongs to | CRC-32C of all before
//
// It is only a cache: one that is missing, broken or of another release costs hashing all files again.
const (
	snapshotMagic   = "swarmnode snapshot 1\n"
	snapshotTrailer = 8 + len(content.Digest{}) + 4

	recordHere    = 1 << 0 // set in every record
	recordChanged = 1 << 1 // the scan that wrote it found it new or changed
	recordListed  = 1 << 2 // an origin listed it: stamp, path and SHA-256 are there
	recordLast    = 1 << 3 // an index of an origin
	recordKept    = 1 << 4 // of those changed: the origin vouches for the content being as it was
	recordMemo    = 1 << 5 // no record of a path, but what the origin's next listing wants to know; the first one
	recordHeavy   = 1 << 6 // see Listed.Heavy

	// maxMemo is how many bytes of a memo are kept: validators of 200,000 directories.
	maxMemo = 32 << 20
)

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)

	// errSnapshot is the cause when a snapshot is not what this code wrote.
	errSnapshot = errors.New("broken snapshot")
)

// record is a File in a snapshot.
type record struct {
	File
	changed bool
	kept    bool
	memo    []byte // nothing else counts then
}

// snapshotWriter writes a snapshot; nothing is durable before the caller syncs the file.
type snapshotWriter struct {
	file  *os.File
	w     *bufio.Writer
	crc   uint32
	count uint64
	last  string
	buf   []byte
	size  int64
}

func createSnapshot(path string) (*snapshotWriter, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("create snapshot: %w", err)
	}
	s := &snapshotWriter{file: f, w: bufio.NewWriterSize(f, 256<<10)}
	s.write([]byte(snapshotMagic))
	return s, nil
}

// write keeps errors in the buffered writer: finish reports them.
func (s *snapshotWriter) write(b []byte) {
	s.crc = crc32.Update(s.crc, castagnoli, b)
	s.w.Write(b)
	s.size += int64(len(b))
}

// addMemo adds the memo of an origin's listing, before all else.
func (s *snapshotWriter) addMemo(memo []byte) {
	if len(memo) == 0 || len(memo) > maxMemo {
		return
	}
	s.write(binary.AppendUvarint([]byte{recordMemo}, uint64(len(memo))))
	s.write(memo)
}

func (s *snapshotWriter) add(f *File, changed, kept bool) {
	shared := 0
	for shared < min(len(s.last), len(f.Path)) && s.last[shared] == f.Path[shared] {
		shared++
	}
	flags := byte(recordHere)
	if changed {
		flags |= recordChanged
	}
	if kept {
		flags |= recordKept
	}
	if f.Last {
		flags |= recordLast
	}
	if f.Heavy {
		flags |= recordHeavy
	}
	if f.Listed != (Listed{Last: f.Last, Heavy: f.Heavy}) {
		flags |= recordListed
	}
	b := append(s.buf[:0], flags)
	b = binary.AppendUvarint(b, uint64(shared))
	b = binary.AppendUvarint(b, uint64(len(f.Path)-shared))
	b = append(b, f.Path[shared:]...)
	b = binary.AppendUvarint(b, uint64(f.Mode))
	if !f.isDir() {
		b = binary.AppendVarint(b, f.Mtime)
		b = binary.AppendVarint(b, f.Ctime)
		b = binary.AppendUvarint(b, f.Inode)
		b = binary.AppendUvarint(b, uint64(f.Size))
	}
	if f.kind() == content.ModeLink {
		b = binary.AppendUvarint(b, uint64(len(f.Target)))
		b = append(b, f.Target...)
	}
	if flags&recordListed != 0 {
		b = append(binary.AppendUvarint(b, uint64(len(f.Stamp))), f.Stamp...)
		b = append(binary.AppendUvarint(b, uint64(len(f.Fetch))), f.Fetch...)
		b = append(b, f.Listed.SHA256[:]...)
	}
	s.write(b)
	s.last, s.buf = f.Path, b
	s.count++
}

// finish ends the snapshot as that of the release with this file tree and closes it.
func (s *snapshotWriter) finish(tree content.Digest, sync bool) error {
	s.write([]byte{0})
	b := binary.BigEndian.AppendUint64(nil, s.count)
	s.write(append(b, tree[:]...))
	s.w.Write(binary.BigEndian.AppendUint32(nil, s.crc))
	err := s.w.Flush()
	if err == nil && sync {
		err = s.file.Sync()
	}
	if err := errors.Join(err, s.file.Close()); err != nil {
		return fmt.Errorf("write snapshot: %w", err)
	}
	return nil
}

// snapshot is one that was read through and found whole.
type snapshot struct {
	path  string
	count uint64
	tree  content.Digest
}

// openSnapshot checks the file at path. The error is fs.ErrNotExist, errSnapshot or one of reading.
func openSnapshot(path string) (*snapshot, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open snapshot: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("open snapshot: %w", err)
	}
	body := st.Size() - 4
	if body < int64(len(snapshotMagic)+1+snapshotTrailer-4) {
		return nil, fmt.Errorf("%s: %w: %d bytes", path, errSnapshot, st.Size())
	}
	sum := crc32.New(castagnoli)
	if _, err := io.Copy(sum, io.LimitReader(f, body)); err != nil {
		return nil, fmt.Errorf("read snapshot: %w", err)
	}
	trailer := make([]byte, snapshotTrailer)
	if _, err := f.ReadAt(trailer, st.Size()-int64(len(trailer))); err != nil {
		return nil, fmt.Errorf("read snapshot: %w", err)
	}
	magic := make([]byte, len(snapshotMagic))
	if _, err := f.ReadAt(magic, 0); err != nil {
		return nil, fmt.Errorf("read snapshot: %w", err)
	}
	if string(magic) != snapshotMagic || binary.BigEndian.Uint32(trailer[snapshotTrailer-4:]) != sum.Sum32() {
		return nil, fmt.Errorf("%s: %w", path, errSnapshot)
	}
	return &snapshot{path: path, count: binary.BigEndian.Uint64(trailer), tree: content.Digest(trailer[8:40])}, nil
}

// records gives all records in order.
func (s *snapshot) records() iter.Seq2[record, error] {
	return func(yield func(record, error) bool) {
		f, err := os.Open(s.path)
		if err != nil {
			yield(record{}, fmt.Errorf("open snapshot: %w", err))
			return
		}
		defer f.Close()
		r := bufio.NewReaderSize(f, 256<<10)
		if _, err := r.Discard(len(snapshotMagic)); err != nil {
			yield(record{}, fmt.Errorf("read snapshot: %w", err))
			return
		}
		var path []byte
		for {
			var rec record
			more, err := readRecord(r, &rec, &path)
			if err != nil {
				yield(rec, fmt.Errorf("read snapshot: %w", err))
				return
			}
			if !more || rec.memo == nil && !yield(rec, nil) {
				return
			}
		}
	}
}

// memo gives what the origin's listing wants to know again, if there is something.
func (s *snapshot) memo() ([]byte, error) {
	f, err := os.Open(s.path)
	if err != nil {
		return nil, fmt.Errorf("open snapshot: %w", err)
	}
	defer f.Close()
	r := bufio.NewReader(f)
	var rec record
	if _, err = r.Discard(len(snapshotMagic)); err == nil {
		_, err = readRecord(r, &rec, new([]byte))
	}
	return rec.memo, err
}

// files gives the records as the files they tell of.
func (s *snapshot) files() iter.Seq2[File, error] {
	return func(yield func(File, error) bool) {
		for r, err := range s.records() {
			if !yield(r.File, err) {
				return
			}
		}
	}
}

// readRecord reads the next record; more is false at the end. path is the last one's, and becomes this one's.
func readRecord(r *bufio.Reader, rec *record, path *[]byte) (more bool, err error) {
	flags, err := r.ReadByte()
	if err != nil || flags == 0 {
		return false, err
	}
	var failed error
	num := func() uint64 {
		n, err := binary.ReadUvarint(r)
		failed = errors.Join(failed, err)
		return n
	}
	signed := func() int64 {
		n, err := binary.ReadVarint(r)
		failed = errors.Join(failed, err)
		return n
	}
	text := func(b []byte, n uint64) []byte {
		if failed != nil || n > content.MaxPath {
			failed = errors.Join(failed, errSnapshot)
			return b
		}
		at := len(b)
		b = append(b, make([]byte, n)...)
		_, err := io.ReadFull(r, b[at:])
		failed = errors.Join(failed, err)
		return b
	}
	if flags&recordMemo != 0 {
		n := num()
		if failed == nil && n > maxMemo {
			failed = errSnapshot
		}
		if failed == nil {
			rec.memo = make([]byte, n)
			_, failed = io.ReadFull(r, rec.memo)
		}
		return failed == nil, failed
	}
	shared := num()
	if shared > uint64(len(*path)) {
		return false, errSnapshot
	}
	*path = text((*path)[:shared], num())
	rec.Path, rec.Mode = string(*path), uint32(num())
	rec.changed, rec.kept = flags&recordChanged != 0, flags&recordKept != 0
	rec.Last, rec.Heavy = flags&recordLast != 0, flags&recordHeavy != 0
	if !rec.isDir() {
		rec.Mtime, rec.Ctime, rec.Inode, rec.Size = signed(), signed(), num(), int64(num())
	}
	if rec.kind() == content.ModeLink {
		rec.Target = string(text(nil, num()))
	}
	if flags&recordListed != 0 {
		rec.Stamp, rec.Fetch = string(text(nil, num())), string(text(nil, num()))
		if failed == nil {
			_, failed = io.ReadFull(r, rec.Listed.SHA256[:])
		}
	}
	return failed == nil, failed
}

// replaceFile moves a synced file over another and makes that durable.
func replaceFile(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return fmt.Errorf("replace %s: %w", to, err)
	}
	if err := durable.SyncDir(filepath.Dir(to)); err != nil {
		return fmt.Errorf("replace %s: sync its directory: %w", to, err)
	}
	return nil
}
