package publish

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"iter"
	"math"
	"os"
	"sync"

	"swarmnode/content"
)

// A seen log says what has arrived of the files of an origin since the last release: which chunks in which order. Each record adds
// to one before it of the same file, so that one that was cut goes on at its last chunk, after a kill too. It names chunks by their
// digest: what it says counts as far as the bytes are here, and without it all is fetched again.
//
//	magic | records: length (4 bytes), CRC-32C of length and what follows, a seenRecord in CBOR
const (
	seenName  = "fetched"
	seenMagic = "swarmf1\n"
	seenHead  = 8
	// maxSeen is how long a record may be: the chunks of one batch, of the smallest size, two paths.
	maxSeen = 1 << 20
)

// seenRecord is what the log says of a file, or a part of it.
type seenRecord struct {
	_       struct{} `cbor:",toarray"`
	Prev    int64    // where the record before is; 0: the file begins here
	Path    string
	Listed  []byte // how it was listed, see listedAs
	Version string // of the origin
	Offset  int64  // bytes up to here
	Mtime   int64  // nanoseconds; 0 if nobody said
	Done    bool   // the file ends here
	Sum     []byte // its SHA-256, or the state of the hash
	Digests []byte // of the chunks that this record adds
	Sizes   []uint32
}

// listedAs identifies what a listing says of the content of a file.
func listedAs(f *File) []byte {
	sum := content.Sum(fmt.Appendf(nil, "%d %d %q %q %x", f.Size, f.Mtime, f.Stamp, f.Fetch, f.Listed.SHA256))
	return sum[:16]
}

// seenLog is an open log. It is safe for concurrent use.
type seenLog struct {
	path string

	mu   sync.Mutex // guards what follows
	file *os.File
	end  int64
	last map[uint64]int64 // path, hashed -> its last record
}

// openSeen opens the log at path, or makes an empty one. What is behind a damaged record is cut off.
func openSeen(path string) (*seenLog, error) {
	l := &seenLog{path: path, last: map[uint64]int64{}}
	err := l.open(path)
	if err != nil {
		return nil, fmt.Errorf("open what was fetched: %w", errors.Join(err, l.close()))
	}
	return l, nil
}

func (l *seenLog) open(path string) (err error) {
	if l.file, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return err
	}
	r := bufio.NewReaderSize(io.NewSectionReader(l.file, 0, math.MaxInt64), 256<<10)
	magic := make([]byte, len(seenMagic))
	if _, err := io.ReadFull(r, magic); err != nil || string(magic) != seenMagic {
		if err := l.file.Truncate(0); err != nil {
			return err
		}
		l.end = int64(len(seenMagic))
		_, err = l.file.WriteAt([]byte(seenMagic), 0)
		return err
	}
	l.end = int64(len(seenMagic))
	for {
		rec, n, err := readSeen(r)
		if errors.Is(err, errSeen) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return l.file.Truncate(l.end)
		}
		if err != nil {
			return err
		}
		l.last[pathHash(rec.Path)] = l.end
		l.end += n
	}
}

// errSeen is the cause when a record is not what this code wrote.
var errSeen = errors.New("broken record of what was fetched")

// readSeen reads one record and says how long it is.
func readSeen(r io.Reader) (rec seenRecord, n int64, err error) {
	var head [seenHead]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return rec, 0, err
	}
	size := binary.LittleEndian.Uint32(head[:])
	if size > maxSeen {
		return rec, 0, errSeen
	}
	data := make([]byte, size)
	if _, err := io.ReadFull(r, data); err != nil {
		return rec, 0, err
	}
	if binary.LittleEndian.Uint32(head[4:]) != seenSum(head[:4], data) {
		return rec, 0, errSeen
	}
	if err := content.Decode(data, maxSeen, &rec); err != nil {
		return rec, 0, fmt.Errorf("%w: %w", errSeen, err)
	}
	if len(rec.Digests) != len(rec.Sizes)*len(content.Digest{}) || rec.Prev < 0 || rec.Offset < 0 || rec.Done && len(rec.Sum) != len(content.Digest{}) {
		return rec, 0, errSeen
	}
	return rec, seenHead + int64(size), nil
}

func seenSum(size, data []byte) uint32 {
	return crc32.Update(crc32.Checksum(size, castagnoli), castagnoli, data)
}

func pathHash(path string) uint64 {
	sum := content.Sum([]byte(path))
	return binary.BigEndian.Uint64(sum[:])
}

// add appends a record; Prev is set here. With begin it does not add to what is known of the file.
func (l *seenLog) add(rec seenRecord, begin bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	key := pathHash(rec.Path)
	rec.Prev = l.last[key]
	if begin {
		rec.Prev = 0
	}
	data := content.Encode(rec)
	frame := binary.LittleEndian.AppendUint32(nil, uint32(len(data)))
	frame = binary.LittleEndian.AppendUint32(frame, seenSum(frame, data))
	frame = append(frame, data...)
	if len(data) > maxSeen {
		return fmt.Errorf("note what was fetched of %q: %w: %d bytes", rec.Path, errSeen, len(data))
	}
	if _, err := l.file.WriteAt(frame, l.end); err != nil {
		return fmt.Errorf("note what was fetched: %w", diskFull(err))
	}
	l.last[key] = l.end
	l.end += int64(len(frame))
	return nil
}

// at reads the record at an offset. The caller holds mu.
func (l *seenLog) at(offset int64) (seenRecord, error) {
	rec, _, err := readSeen(bufio.NewReaderSize(io.NewSectionReader(l.file, offset, maxSeen+seenHead), 1<<10))
	if err != nil {
		err = fmt.Errorf("read what was fetched: %w", err)
	}
	return rec, err
}

// has reports whether a file is here as it is listed.
func (l *seenLog) has(f *File) (bool, error) {
	rec, err := l.newest(f.Path)
	return rec.Done && string(rec.Listed) == string(listedAs(f)), err
}

// newest gives the last record of a path; nothing is an empty one.
func (l *seenLog) newest(path string) (seenRecord, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	offset, ok := l.last[pathHash(path)]
	if !ok {
		return seenRecord{}, nil
	}
	rec, err := l.at(offset)
	if err != nil || rec.Path != path {
		return seenRecord{}, err
	}
	return rec, nil
}

// seenFile is all that the log says of a file: its last record, and all chunks.
type seenFile struct {
	seenRecord
	chunks []content.Chunk
}

// read gives what the log says of a path; nothing is nil.
func (l *seenLog) read(path string) (*seenFile, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	chain, _, err := l.chain(path)
	if err != nil || len(chain) == 0 {
		return nil, err
	}
	f := &seenFile{seenRecord: chain[len(chain)-1]}
	for _, rec := range chain {
		f.chunks = append(f.chunks, rec.list()...)
	}
	return f, nil
}

// chain gives the records of a file in order, and where they are. The caller holds mu.
func (l *seenLog) chain(path string) (chain []seenRecord, offsets []int64, err error) {
	for offset := l.last[pathHash(path)]; offset != 0; {
		rec, err := l.at(offset)
		if err != nil {
			return nil, nil, err
		}
		if rec.Path != path {
			return nil, nil, nil // another path with the same hash
		}
		chain, offsets = append(chain, rec), append(offsets, offset)
		if rec.Prev >= offset {
			return nil, nil, fmt.Errorf("read what was fetched: %w", errSeen)
		}
		offset = rec.Prev
	}
	for i, j := 0, len(chain)-1; i < j; i, j = i+1, j-1 {
		chain[i], chain[j], offsets[i], offsets[j] = chain[j], chain[i], offsets[j], offsets[i]
	}
	return chain, offsets, nil
}

// list gives the chunks that a record adds.
func (r *seenRecord) list() []content.Chunk {
	chunks := make([]content.Chunk, len(r.Sizes))
	for i, size := range r.Sizes {
		chunks[i] = content.Chunk{Digest: content.Digest(r.Digests[i*32:]), Size: size}
	}
	return chunks
}

// whole reports whether all of the file is known as it is listed.
func (f *seenFile) whole(as *File) bool {
	return f != nil && f.Done && string(f.Listed) == string(listedAs(as))
}

// renew writes the log anew with what it says of the given files as far as they are still listed as they were, and gives the
// chunks of those. What no stamp or checksum vouches for is not believed to be the same in another run.
func (l *seenLog) renew(files iter.Seq2[File, error]) (wanted, error) {
	fresh := &seenLog{path: l.path + ".new", last: map[uint64]int64{}}
	os.Remove(fresh.path)
	keep := wanted{}
	err := fresh.open(fresh.path)
	for f, ferr := range files {
		if err = errors.Join(err, ferr); err != nil {
			break
		}
		if f.Stamp == "" && f.Listed.SHA256.IsZero() || len(l.last) == 0 {
			continue
		}
		if err = l.copyTo(fresh, &f, keep); err != nil {
			break
		}
	}
	if err == nil {
		err = fresh.sync()
	}
	if err == nil {
		err = replaceFile(fresh.path, l.path)
	}
	if err != nil {
		return nil, fmt.Errorf("sift what was fetched: %w", errors.Join(diskFull(err), fresh.close()))
	}
	l.file.Close()
	l.file, l.end, l.last = fresh.file, fresh.end, fresh.last
	return keep, nil
}

func (l *seenLog) copyTo(fresh *seenLog, f *File, keep wanted) error {
	chain, _, err := l.chain(f.Path)
	if err != nil || len(chain) == 0 || string(chain[0].Listed) != string(listedAs(f)) {
		return err
	}
	for i, rec := range chain {
		if err := fresh.add(rec, i == 0); err != nil {
			return err
		}
		for _, c := range rec.list() {
			keep[short(c.Digest)] = struct{}{}
		}
	}
	return nil
}

// check believes the log only as far as the chunks are known, and make up all of what has come.
func (l *seenLog) check(known func(content.Digest) bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for key, offset := range l.last {
		rec, err := l.at(offset)
		if err != nil {
			return err
		}
		chain, offsets, err := l.chain(rec.Path)
		if err != nil {
			return err
		}
		whole, size := int64(0), int64(0)
	records:
		for i, rec := range chain {
			for _, c := range rec.list() {
				if size += int64(c.Size); !known(c.Digest) {
					break records
				}
			}
			if size != rec.Offset {
				break
			}
			whole = offsets[i]
		}
		if l.last[key] = whole; whole == 0 {
			delete(l.last, key)
		}
	}
	return nil
}

// sync makes the log durable.
func (l *seenLog) sync() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.file.Sync(); err != nil {
		return fmt.Errorf("sync what was fetched: %w", diskFull(err))
	}
	return nil
}

// forget removes the log: a release has what it tells of.
func (l *seenLog) forget() { os.Remove(l.path) }

func (l *seenLog) close() error {
	if l.file == nil {
		return nil
	}
	err := l.file.Close()
	if errors.Is(err, fs.ErrClosed) {
		return nil
	}
	return err
}

// wanted is a set of chunks, by the beginning of their digests: hardly one is kept for nothing. nil wants all.
type wanted map[uint64]struct{}

// void gives the chunks of a table that are not wanted.
func (w wanted) void(t *content.Table) (set content.Bitmap) {
	if w == nil {
		return nil
	}
	for i := range t.Len() {
		if _, ok := w[short(t.Chunk(i).Digest)]; !ok {
			set.Set(i)
		}
	}
	return set
}

func short(d content.Digest) uint64 { return binary.BigEndian.Uint64(d[:]) }
