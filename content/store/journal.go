package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"

	"swarmnode/content"
	"swarmnode/content/durable"
	"swarmnode/content/guard"
)

// The journal of a Disk says which chunks of which segments are valid. After a header come records, each with a mark,
// a length and a CRC-32C over length and payload:
//
//	segment  number table size chunks   the node wants to hold this segment
//	valid    number bytes bitmap        these chunks are durable; the segment then holds so many bytes
//	invalid  number bytes bitmap        these are not, or no longer
//	removed  number                     the segment is gone
//
// A reader skips what is damaged and goes on at the next good record. To miss a record is safe in each case: a chunk
// is hashed on its first read, a missing file holds nothing, a chunk that is not listed is fetched again.
const (
	journalHeader = "swarmj1\n"
	recordMark    = "\xf5jr\x01"
	recordHead    = 12
	// maxRecord is the largest payload: a bitmap of all chunks of a segment behind number and bytes.
	maxRecord = 13 + content.MaxSegmentChunks/8
	// bloat is how much larger than its content a journal may grow, beside a factor of two, before it is rewritten.
	bloat = 1 << 20
)

type recordKind byte

const (
	recordSegment recordKind = iota + 1
	recordValid
	recordInvalid
	recordRemoved
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// record is one entry of the journal; which fields count depends on the kind.
type record struct {
	kind   recordKind
	number uint32
	table  content.Digest
	size   uint32
	chunks uint32
	bytes  uint64
	set    content.Bitmap
}

// appendRecord adds the encoding of r to b.
func appendRecord(b []byte, r record) []byte {
	start := len(b)
	b = append(b, recordMark+"\x00\x00\x00\x00\x00\x00\x00\x00"...)
	b = append(b, byte(r.kind))
	b = binary.LittleEndian.AppendUint32(b, r.number)
	switch r.kind {
	case recordSegment:
		b = append(b, r.table[:]...)
		b = binary.LittleEndian.AppendUint32(b, r.size)
		b = binary.LittleEndian.AppendUint32(b, r.chunks)
	case recordValid, recordInvalid:
		b = binary.LittleEndian.AppendUint64(b, r.bytes)
		b = append(b, r.set.Trim()...)
	}
	head := b[start:]
	binary.LittleEndian.PutUint32(head[4:], uint32(len(head)-recordHead))
	binary.LittleEndian.PutUint32(head[8:], recordSum(head))
	return b
}

// recordSum is the checksum over the length and the payload of a whole record.
func recordSum(rec []byte) uint32 {
	return crc32.Update(crc32.Checksum(rec[4:8], castagnoli), castagnoli, rec[recordHead:])
}

// parseRecord reads the record at the beginning of b and says how long it is.
func parseRecord(b []byte) (r record, n int, ok bool) {
	if len(b) < recordHead || string(b[:4]) != recordMark {
		return r, 0, false
	}
	size := binary.LittleEndian.Uint32(b[4:])
	if size < 5 || size > maxRecord || int(size) > len(b)-recordHead {
		return r, 0, false
	}
	n = recordHead + int(size)
	if guard.On(guard.JournalSum) && recordSum(b[:n]) != binary.LittleEndian.Uint32(b[8:]) {
		return r, 0, false
	}
	p := b[recordHead:n]
	r.kind, r.number = recordKind(p[0]), binary.LittleEndian.Uint32(p[1:])
	p = p[5:]
	switch {
	case r.kind == recordSegment && len(p) == 40:
		r.table = content.Digest(p[:32])
		r.size, r.chunks = binary.LittleEndian.Uint32(p[32:]), binary.LittleEndian.Uint32(p[36:])
	case (r.kind == recordValid || r.kind == recordInvalid) && len(p) >= 8:
		r.bytes, r.set = binary.LittleEndian.Uint64(p), content.Bitmap(p[8:])
	case r.kind == recordRemoved && len(p) == 0:
	default:
		return record{}, 0, false
	}
	return r, n, true
}

// replay hands every good record to each. It says where the last one ends and how many bytes before that end were
// not readable. The record's memory is that of data.
func replay(data []byte, each func(record)) (end, skipped int) {
	if bytes.HasPrefix(data, []byte(journalHeader)) {
		end = len(journalHeader)
	}
	for at := end; at < len(data); {
		if r, n, ok := parseRecord(data[at:]); ok {
			skipped += at - end
			at += n
			end = at
			each(r)
			continue
		}
		next := bytes.Index(data[at+1:], []byte(recordMark))
		if next < 0 {
			break
		}
		at += 1 + next
	}
	return end, skipped
}

// journal is the open journal file. Its user serialises the calls.
type journal struct {
	path   string
	fs     durable.FS
	f      *os.File
	end    int64
	clean  int64 // size after the last rewrite
	broken bool  // what is on disk is not known: the next use rewrites it
}

// openJournal reads the journal at path, cuts a torn end off and makes an empty one if there is none.
// whole is false if there was none or a part of it was unreadable.
func openJournal(path string, fsys durable.FS, each func(record)) (j *journal, whole bool, err error) {
	if err := fsys.Remove(path + ".new"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, false, err
	}
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, false, err
	}
	if len(data) >= len(journalHeader) && otherVersion(string(data[:len(journalHeader)]), journalHeader) {
		return nil, false, fmt.Errorf("open journal %s: its format is that of another version: use the swarmnode that wrote it", path)
	}
	end, skipped := replay(data, each)
	j = &journal{path: path, fs: fsys, end: int64(end), clean: int64(end)}
	whole = skipped == 0 && bytes.HasPrefix(data, []byte(journalHeader))
	if !whole {
		j.broken = true
		return j, false, nil
	}
	if j.f, err = fsys.OpenFile(path, os.O_RDWR, 0); err != nil {
		return nil, false, err
	}
	err = fsys.Truncate(j.f, j.end)
	if err == nil {
		err = fsys.SyncData(j.f) // a killed process may have written the last records and not come to this
	}
	if err != nil {
		return nil, false, errors.Join(full(err), j.f.Close())
	}
	j.broken = true // an earlier process may have failed to sync its name: the first use puts a new one in its place
	return j, true, nil
}

// append writes records and makes them durable. After an error none of them counts.
func (j *journal) append(recs []byte) error {
	if _, err := j.fs.WriteAt(j.f, recs, j.end); err != nil {
		// Cut off for good: behind a shorter record what was written of these would count after a power cut.
		if j.fs.Truncate(j.f, j.end) != nil || j.fs.SyncData(j.f) != nil {
			j.broken = true
		}
		return fmt.Errorf("write journal %s: %w", j.path, full(err))
	}
	err := error(nil)
	if guard.On(guard.JournalSync) {
		err = j.fs.SyncData(j.f)
	}
	if err != nil {
		j.broken = true // the kernel may have thrown the pages away, so a second sync would prove nothing
		return fmt.Errorf("sync journal %s: %w", j.path, full(err))
	}
	j.end += int64(len(recs))
	return nil
}

// bloated reports whether the journal is worth a rewrite.
func (j *journal) bloated() bool { return j.end > 2*j.clean+bloat }

// rewrite puts a journal with only these records in the place of the present one. Until it returns without an error
// the old one stays in force.
func (j *journal) rewrite(recs []byte) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("rewrite journal %s: %w", j.path, full(err))
		}
	}()
	f, err := j.fs.OpenFile(j.path+".new", os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	all := append([]byte(journalHeader), recs...)
	if _, err = j.fs.WriteAt(f, all, 0); err == nil {
		err = j.fs.SyncData(f)
	}
	if err == nil {
		err = j.fs.Rename(j.path+".new", j.path)
	}
	if err != nil {
		return errors.Join(err, f.Close(), j.fs.Remove(j.path+".new"))
	}
	if j.f != nil {
		j.f.Close() // replaced: nothing in it counts any more
	}
	j.f, j.end, j.clean = f, int64(len(all)), int64(len(all))
	j.broken = true // until the name is durable, a power cut can bring the old file back
	if err = syncDir(j.fs, filepath.Dir(j.path)); err != nil {
		return err
	}
	j.broken = false
	return nil
}

func (j *journal) close() error {
	if j.f == nil {
		return nil
	}
	return j.f.Close()
}
