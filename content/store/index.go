package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"swarmnode/content"
)

// The index of References is a pebble database with these keys, numbers big-endian so that they sort:
//
//	s number          -> table digest, size, chunks: a segment known
//	r number index    -> offset (uvarint), path: where a chunk lies in the published tree
//	d digest          -> number, index: where a chunk has its place in the collection
//	l path 0 link     -> nothing, or the release that replaced the file: a hard link made of the file at path
//	g release path 0 link -> nothing: the same by release, for those that have one
//	m path            -> seconds: the last mtime that path was published with
const (
	keySegment = 's'
	keyPlace   = 'r'
	keyDigest  = 'd'
	keyLink    = 'l'
	keyGone    = 'g'
	keyMtime   = 'm'
)

// Sizes of the index, small because a publisher with 3,000,000 chunks must fit into 150 MB of memory with all else.
const (
	indexCache    = 4 << 20
	indexMemTable = 4 << 20
	indexFiles    = 64
)

type silence struct{}

func (silence) Infof(string, ...any)         {}
func (silence) Errorf(string, ...any)        {} // what matters comes back as an error
func (silence) Fatalf(f string, args ...any) { panic("store: index: " + fmt.Sprintf(f, args...)) }

// openIndex opens the database in dir/index.
func openIndex(dir string, p *patience) (*pebble.DB, error) {
	name := filepath.Join(dir, "index")
	var db *pebble.DB
	done := make(chan error, 1)
	go func() {
		cache := pebble.NewCache(indexCache)
		defer cache.Unref()
		var err error
		db, err = pebble.Open(name, &pebble.Options{
			Cache: cache, MemTableSize: indexMemTable, MaxOpenFiles: indexFiles, Logger: silence{},
			FormatMajorVersion: pebble.FormatNewest, FS: patientFS{vfs.Default, p},
			// A damaged file is no reason to die: whoever reads it gets an error.
			EventListener: &pebble.EventListener{DataCorruption: func(pebble.DataCorruptionInfo) {}},
		})
		done <- err
	}()
	select {
	case err := <-done:
		if err != nil {
			return nil, fmt.Errorf("open the publisher's index %s (it can be deleted, then it is built again): %w", name, full(err))
		}
		return db, nil
	case <-p.until():
		return nil, fmt.Errorf("open the publisher's index %s: %w", name, ErrDiskFull)
	}
}

// close waits for the writes under way and closes the database, but not for room on a full disk.
func (x *index) close() error {
	done := make(chan error, 1)
	go func() {
		x.writes.Wait()
		// What is flushed now need not be replayed by the next open.
		done <- errors.Join(x.db.Flush(), x.db.Close())
	}()
	select {
	case err := <-done:
		return err
	case <-x.patience.until():
		return fmt.Errorf("close the publisher's index: %w", ErrDiskFull)
	}
}

func segmentKey(kind byte, number uint32) []byte {
	return binary.BigEndian.AppendUint32([]byte{kind}, number)
}

func placeKey(ref content.Ref) []byte {
	return binary.BigEndian.AppendUint32(segmentKey(keyPlace, ref.Segment), ref.Index)
}

func digestKey(d content.Digest) []byte { return append([]byte{keyDigest}, d[:]...) }

func pathKey(kind byte, path string) []byte { return append([]byte{kind}, path...) }

func linkKey(path, link string) []byte { return append(append(pathKey(keyLink, path), 0), link...) }

func parseLink(key []byte) (madeLink, bool) {
	path, name, ok := strings.Cut(string(key[1:]), "\x00")
	return madeLink{path, name}, ok
}

func goneKey(release uint64, l madeLink) []byte {
	return append(append(append(binary.BigEndian.AppendUint64([]byte{keyGone}, release), l.path...), 0), l.name...)
}

func parseGone(key []byte) (release uint64, l madeLink, ok bool) {
	if len(key) < 9 {
		return 0, l, false
	}
	l, ok = parseLink(key[8:])
	return binary.BigEndian.Uint64(key[1:]), l, ok
}

func segmentValue(s *placed) []byte {
	v := binary.BigEndian.AppendUint32(append([]byte(nil), s.table[:]...), s.size)
	return binary.BigEndian.AppendUint32(v, s.chunks)
}

func parseSegment(key, v []byte) (uint32, *placed, bool) {
	if len(key) != 5 || len(v) != 40 {
		return 0, nil, false
	}
	s := &placed{table: content.Digest(v[:32]), size: binary.BigEndian.Uint32(v[32:]), chunks: binary.BigEndian.Uint32(v[36:])}
	return binary.BigEndian.Uint32(key[1:]), s, s.chunks > 0 && s.chunks <= content.MaxSegmentChunks
}

func spotValue(p spot) []byte { return append(binary.AppendUvarint(nil, uint64(p.offset)), p.path...) }

func parseSpot(v []byte) (spot, bool) {
	off, n := binary.Uvarint(v)
	if n <= 0 || int64(off) < 0 {
		return spot{}, false
	}
	return spot{path: string(v[n:]), offset: int64(off)}, true
}

func refValue(ref content.Ref) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, ref.Segment), ref.Index)
}

func parseRef(v []byte) (content.Ref, bool) {
	if len(v) != 8 {
		return content.Ref{}, false
	}
	return content.Ref{Segment: binary.BigEndian.Uint32(v), Index: binary.BigEndian.Uint32(v[4:])}, true
}

// lookup copies a value out of the database; nil if there is none.
func lookup(db *pebble.DB, key []byte) ([]byte, error) {
	v, closer, err := db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the publisher's index: %w", err)
	}
	v = append([]byte{}, v...)
	return v, closer.Close()
}

// scan hands every key with this prefix to each, in order, until each says stop. Key and value are valid during the call.
func scan(db *pebble.DB, prefix []byte, each func(key, value []byte) (goOn bool)) error {
	it, err := db.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: after(prefix)})
	if err != nil {
		return fmt.Errorf("read the publisher's index: %w", err)
	}
	for ok := it.First(); ok && each(it.Key(), it.Value()); ok = it.Next() {
	}
	if err := it.Close(); err != nil {
		return fmt.Errorf("read the publisher's index: %w", err)
	}
	return nil
}

// after gives the first key behind all keys with this prefix.
func after(prefix []byte) []byte {
	end := append([]byte(nil), prefix...)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i]++; end[i] != 0 {
			return end[:i+1]
		}
	}
	return nil
}
