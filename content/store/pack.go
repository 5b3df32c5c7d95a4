package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"swarmnode/content"
	"swarmnode/content/durable"
	"swarmnode/content/guard"
)

// Pack keeps the metadata blocks of a collection in one file that only grows, with an index in memory of about 80
// bytes a block. Every read is hashed. It is safe for concurrent use; reads wait for nothing but the file itself.
type Pack struct {
	path string
	fs   durable.FS

	write    sync.Mutex // serialises Put, Sync and Compact, and guards the next four
	end      int64      // where the next block goes
	unsynced []content.Digest
	synced   int64 // everything before this offset is durable, if not dirty
	dirty    bool  // a sync is needed
	unnamed  bool  // a Compact could not make the new file's name durable

	mu      sync.RWMutex // guards what follows
	f       *packFile
	index   map[content.Digest]place
	skipped int64
	bad     int64
}

// packFile is the open file, which a Compact replaces under the readers: the last user closes it.
type packFile struct {
	*os.File
	users sync.WaitGroup
}

// OpenPack opens the pack at path or makes an empty one. A torn end is cut off; damage before the end is stepped over.
func OpenPack(path string) (*Pack, error) { return OpenPackOn(durable.OS{}, path) }

// OpenPackOn is OpenPack with writes through fsys.
func OpenPackOn(fsys durable.FS, path string) (*Pack, error) {
	p := &Pack{path: path, fs: fsys, index: map[content.Digest]place{}}
	if err := fsys.Remove(path + ".new"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open pack: %w", err)
	}
	_, err := os.Stat(path)
	created := errors.Is(err, fs.ErrNotExist)
	f, err := fsys.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open pack: %w", err)
	}
	if err := p.load(f); err != nil {
		return nil, errors.Join(fmt.Errorf("open pack %s: %w", path, full(err)), f.Close())
	}
	// Also what was there already: a killed process may not have come to it.
	if err := syncDir(fsys, filepath.Dir(path)); err != nil {
		err = errors.Join(err, f.Close())
		if created {
			err = errors.Join(err, fsys.Remove(path)) // to sync the same name again would prove nothing
		}
		return nil, err
	}
	p.f = &packFile{File: f}
	return p, nil
}

// load fills the index from the file and makes it end behind its last good block.
func (p *Pack) load(f *os.File) error {
	st, err := f.Stat()
	if err != nil {
		return err
	}
	end, skipped, err := scanPack(f, st.Size(), func(d content.Digest, at place) { p.index[d] = at })
	if err != nil {
		return err
	}
	header := make([]byte, len(packHeader))
	if _, err := f.ReadAt(header, 0); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if string(header) != packHeader { // there is none yet, or it is damaged: the blocks have marks of their own
		if _, err := p.fs.WriteAt(f, []byte(packHeader), 0); err != nil {
			return err
		}
		end = max(end, int64(len(packHeader)))
	}
	p.end, p.synced, p.skipped = end, end, skipped
	if err := p.fs.Truncate(f, end); err != nil {
		return err
	}
	return p.fs.SyncData(f) // a killed process may not have come to it
}

// Put adds a block unless it is there already, and gives its digest. It is readable at once and durable after Sync.
func (p *Pack) Put(block []byte) (content.Digest, error) {
	d := content.Sum(block)
	if len(block) == 0 || len(block) > content.MaxBlockSize {
		return d, fmt.Errorf("put block: %w: %d bytes, at most %d are allowed", content.ErrFormat, len(block), content.MaxBlockSize)
	}
	if p.Has(d) {
		return d, nil
	}
	p.write.Lock()
	defer p.write.Unlock()
	if p.Has(d) {
		return d, nil
	}
	f := p.acquire()
	if f == nil {
		return d, ErrClosed
	}
	defer f.users.Done()
	rec := appendBlock(make([]byte, 0, blockHead+len(block)), d, block)
	if p.end+int64(len(rec)) > maxPack {
		return d, fmt.Errorf("put block: the pack %s has reached its limit of %d bytes", p.path, int64(maxPack))
	}
	if _, err := p.fs.WriteAt(f.File, rec, p.end); err != nil {
		// What a failed truncate leaves behind is overwritten by the next block, or cut off as a torn end.
		return d, errors.Join(fmt.Errorf("put block in %s: %w", p.path, full(err)), p.fs.Truncate(f.File, p.end))
	}
	p.mu.Lock()
	p.index[d] = newPlace(p.end, len(block))
	p.mu.Unlock()
	p.end += int64(len(rec))
	p.unsynced, p.dirty = append(p.unsynced, d), true
	return d, nil
}

// Block gives the block with this digest, in memory that belongs to the caller. A block that no longer hashes right is
// dropped and not here.
func (p *Pack) Block(d content.Digest) ([]byte, bool) {
	p.mu.RLock()
	at, ok := p.index[d]
	f := p.f
	if ok && f != nil {
		f.users.Add(1)
	}
	p.mu.RUnlock()
	if !ok || f == nil {
		return nil, false
	}
	block := make([]byte, at.size())
	_, err := f.ReadAt(block, at.data())
	f.users.Done()
	if err == nil && (!guard.On(guard.PackHash) || content.Sum(block) == d) {
		return block, true
	}
	if err == nil || damaged(err) {
		p.mu.Lock()
		if p.index[d] == at && p.f == f {
			delete(p.index, d)
			p.bad++
		}
		p.mu.Unlock()
	}
	return nil, false
}

// Has reports whether the block is listed. It does not read it.
func (p *Pack) Has(d content.Digest) bool {
	p.mu.RLock()
	defer p.mu.RUnlock()
	_, ok := p.index[d]
	return ok
}

// Sync makes everything put so far durable. If it fails, the blocks put since the last good Sync are no longer here:
// whether they reached the disk cannot be known.
func (p *Pack) Sync() error {
	p.write.Lock()
	defer p.write.Unlock()
	return p.sync()
}

func (p *Pack) sync() error {
	if p.unnamed {
		return p.compact(func(content.Digest) bool { return true }) // to sync the same name again would prove nothing
	}
	f := p.acquire()
	if f == nil {
		return ErrClosed
	}
	defer f.users.Done()
	if !p.dirty {
		return nil
	}
	err := error(nil)
	if guard.On(guard.PackSync) {
		err = p.fs.SyncData(f.File)
	}
	if err == nil {
		p.synced, p.unsynced, p.dirty = p.end, nil, false
		return nil
	}
	p.mu.Lock()
	for _, d := range p.unsynced {
		if !guard.On(guard.PackLoss) {
			break
		}
		delete(p.index, d)
	}
	p.mu.Unlock()
	p.end, p.unsynced = p.synced, nil
	return errors.Join(fmt.Errorf("sync pack %s: %w", p.path, full(err)), p.fs.Truncate(f.File, p.end))
}

// acquire gives the present file, or nil after Close. The caller ends its use with users.Done.
func (p *Pack) acquire() *packFile {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.f != nil {
		p.f.users.Add(1)
	}
	return p.f
}

// Compact writes the blocks that keep names into a new file, syncs it and puts it in the place of the present one. A
// kill at any moment leaves one of the two. Put and Sync wait for it, reads do not. keep must not call Put.
func (p *Pack) Compact(keep func(content.Digest) bool) error {
	p.write.Lock()
	defer p.write.Unlock()
	return p.compact(keep)
}

// compact is Compact, with write held.
func (p *Pack) compact(keep func(content.Digest) bool) error {
	old := p.acquire()
	if old == nil {
		return ErrClosed
	}
	f, err := p.fs.OpenFile(p.path+".new", os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		old.users.Done()
		return fmt.Errorf("compact pack: %w", full(err))
	}
	index, end, err := p.copyTo(f, keep)
	if err == nil {
		err = p.fs.SyncData(f)
	}
	if err == nil {
		err = p.fs.Rename(p.path+".new", p.path)
	}
	if err != nil {
		old.users.Done()
		return errors.Join(fmt.Errorf("compact pack %s: %w", p.path, full(err)), f.Close(), p.fs.Remove(p.path+".new"))
	}
	p.mu.Lock()
	p.f, p.index, p.skipped = &packFile{File: f}, index, 0
	p.mu.Unlock()
	p.end, p.synced, p.unsynced, p.dirty, p.unnamed = end, end, nil, false, true
	old.users.Done()
	old.users.Wait() // readers that began before the switch; none can begin now
	_ = old.Close()  // nothing in it counts any more
	if err := syncDir(p.fs, filepath.Dir(p.path)); err != nil {
		return err
	}
	p.unnamed = false
	return nil
}

// copyTo writes the wanted blocks that are still good to f, in the order of the old file.
func (p *Pack) copyTo(f *os.File, keep func(content.Digest) bool) (map[content.Digest]place, int64, error) {
	wanted := p.inOrder()
	index := make(map[content.Digest]place, len(wanted))
	end := int64(len(packHeader))
	if _, err := p.fs.WriteAt(f, []byte(packHeader), 0); err != nil {
		return nil, 0, err
	}
	var buf []byte
	flush := func() error {
		n, err := p.fs.WriteAt(f, buf, end)
		end, buf = end+int64(n), buf[:0]
		return err
	}
	for _, d := range wanted {
		if !keep(d) {
			continue
		}
		block, ok := p.Block(d)
		if !ok {
			continue
		}
		index[d] = newPlace(end+int64(len(buf)), len(block))
		if buf = appendBlock(buf, d, block); len(buf) > content.MaxBlockSize {
			if err := flush(); err != nil {
				return nil, 0, err
			}
		}
	}
	err := flush()
	return index, end, err
}

// Bytes is the size of the file.
func (p *Pack) Bytes() int64 {
	p.write.Lock()
	defer p.write.Unlock()
	return p.end
}

// PackStats are the counters of a Pack.
type PackStats struct {
	Blocks  int   // blocks listed
	Bad     int64 // blocks dropped since the start because their bytes had changed
	Skipped int64 // damaged bytes stepped over at open
}

// Stats gives the counters.
func (p *Pack) Stats() PackStats {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return PackStats{Blocks: len(p.index), Bad: p.bad, Skipped: p.skipped}
}

// Close syncs and closes the pack. It waits for readers; later calls find nothing here.
func (p *Pack) Close() error {
	p.write.Lock()
	defer p.write.Unlock()
	err := p.sync()
	if errors.Is(err, ErrClosed) {
		return nil
	}
	p.mu.Lock()
	f := p.f
	p.f, p.index = nil, nil
	p.mu.Unlock()
	f.users.Wait()
	return errors.Join(err, f.Close())
}

// place is where a block lies, in 8 bytes: 41 bits for the offset of its record and 23 for its length.
type place uint64

const placeBits = 23 // 2^23 > content.MaxBlockSize

func newPlace(at int64, size int) place { return place(at)<<placeBits | place(size) }
func (p place) record() int64           { return int64(p >> placeBits) }
func (p place) data() int64             { return p.record() + blockHead }
func (p place) size() int               { return int(p & (1<<placeBits - 1)) }

// A pack is a header and records: a mark, the length, the digest, a CRC-32C over these, and the block itself. The CRC
// covers only the head, so that an open reads heads and no blocks; a torn block shows when it is read.
const (
	packHeader = "swarmp1\n"
	blockMark  = "\xf5pb\x01"
	blockHead  = 44
	maxPack    = 1 << (64 - placeBits)
)

func appendBlock(b []byte, d content.Digest, block []byte) []byte {
	start := len(b)
	b = append(b, blockMark...)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(block)))
	b = append(b, d[:]...)
	b = binary.LittleEndian.AppendUint32(b, headSum(b[start:]))
	return append(b, block...)
}

// scanPack reads the heads of a pack of size bytes. end is behind its last complete block, 0 if not even the header
// is there.
func scanPack(f io.ReaderAt, size int64, each func(content.Digest, place)) (end, skipped int64, err error) {
	head := make([]byte, blockHead)
	if n, err := f.ReadAt(head[:len(packHeader)], 0); err != nil && !errors.Is(err, io.EOF) {
		return 0, 0, err
	} else if got := string(head[:n]); len(got) == len(packHeader) && otherVersion(got, packHeader) {
		return 0, 0, fmt.Errorf("its format %q is that of another version: use the swarmnode that wrote it", got)
	} else if len(got) < len(packHeader) {
		return 0, 0, nil
	}
	end = int64(len(packHeader))
	for at := end; at+blockHead <= size; {
		if _, err := f.ReadAt(head, at); err != nil {
			return 0, 0, err
		}
		d, n, ok := parseHead(head)
		if ok && at+blockHead+int64(n) <= size {
			each(d, newPlace(at, n))
			skipped += at - end
			at += blockHead + int64(n)
			end = at
			continue
		}
		if at, err = nextMark(f, at+1, size); err != nil {
			return 0, 0, err
		}
	}
	return end, skipped, nil
}
