package export

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sort"
	"time"

	"swarmnode/content"
	"swarmnode/content/guard"
	"swarmnode/content/store"
)

// errNotOpen is a mistake of the caller, but a late answer of a peer can cause it.
var errNotOpen = errors.New("the plan is not prepared, or closed")

// Put writes a chunk to every place that lacks it and finishes the files that are whole then. A chunk that nothing lacks
// is checked and dropped. The error is store.ErrWrongBytes if data is not the chunk, store.ErrOutOfRange if there is no
// such chunk, store.ErrDiskFull; after an error in writing the chunk can be put again. Calls may be concurrent; data is
// not kept.
func (p *Plan) Put(ref content.Ref, data []byte) error {
	p.using.RLock()
	defer p.using.RUnlock()
	if !p.ready {
		return fmt.Errorf("put into %s: %w", p.dir, errNotOpen)
	}
	c, err := p.source.chunk(ref)
	if err != nil {
		return fmt.Errorf("put into %s: %w", p.dir, err)
	}
	if len(data) != int(c.Size) || guard.On(guard.ExportHash) && content.Sum(data) != c.Digest {
		return fmt.Errorf("chunk %d of segment %d: %w", ref.Index, ref.Segment, store.ErrWrongBytes)
	}
	fresh, err := p.write(ref, data)
	if fresh {
		p.mu.Lock()
		p.stats.Fetched += int64(len(data))
		p.mu.Unlock()
	}
	return err
}

// group gives the places that lacked a chunk when Prepare looked; none if no file did.
func (p *Plan) group(ref content.Ref) []place {
	i := sort.Search(len(p.places), func(i int) bool { return compareRefs(p.places[i].ref, ref) >= 0 })
	if i == len(p.places) || p.places[i].ref != ref {
		return nil
	}
	return p.places[i : i+sameRef(p.places[i:])]
}

// sameRef is how many places at the beginning are of one chunk.
func sameRef(places []place) int {
	n := 1
	for n < len(places) && places[n].ref == places[0].ref {
		n++
	}
	return n
}

// write puts a checked chunk where it is lacking. fresh says that it was; of two calls at the same time only one writes.
func (p *Plan) write(ref content.Ref, data []byte) (fresh bool, err error) {
	group := p.group(ref)
	if len(group) == 0 {
		return false, nil
	}
	p.mu.Lock()
	if group[0].state != wanted {
		p.mu.Unlock()
		return false, nil
	}
	group[0].state = writing
	p.mu.Unlock()

	err = p.writePlaces(group, data)

	var whole []int
	p.mu.Lock()
	if err != nil {
		group[0].state = wanted
		p.mu.Unlock()
		return false, err
	}
	group[0].state = written
	p.open--
	for _, at := range group {
		if p.left[at.file]--; p.left[at.file] == 0 {
			whole = append(whole, int(at.file))
		}
	}
	p.mu.Unlock()
	for _, i := range whole {
		if err := p.finish(i); err != nil {
			return true, err // Finish tries again
		}
	}
	return true, nil
}

// writePlaces writes data to all places, opening each file once.
func (p *Plan) writePlaces(group []place, data []byte) error {
	for len(group) > 0 {
		i := int(group[0].file)
		f, err := p.openForWriting(i)
		if err != nil {
			return p.wrap("write", i, err)
		}
		for len(group) > 0 && int(group[0].file) == i && err == nil {
			_, err = p.calls.writeAt(f, data, group[0].offset)
			group = group[1:]
		}
		if cerr := f.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			return p.wrap("write", i, err)
		}
	}
	return nil
}

// openForWriting opens the part file of entry i. It is made once: were it made again after somebody removed it, what was
// written before would be a hole in it.
func (p *Plan) openForWriting(i int) (*os.File, error) {
	p.mu.Lock()
	flag := os.O_RDWR
	if p.flags[i]&begun == 0 {
		flag |= os.O_CREATE
	}
	p.mu.Unlock()
	name := partName(p.out(i))
	f, err := p.disk.parts.OpenFile(name, flag, 0o600)
	if errors.Is(err, fs.ErrPermission) && p.disk.parts.Chmod(name, 0o600) == nil { // it was about to be finished
		f, err = p.disk.parts.OpenFile(name, flag, 0o600)
	}
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	p.flags[i] |= begun
	p.mu.Unlock()
	return f, nil
}

// finish gives a whole part file its size, mode, time and name.
func (p *Plan) finish(i int) error {
	e, out := p.entries[i], p.out(i)
	f, err := p.openForWriting(i)
	if err != nil {
		return p.wrap("finish", i, err)
	}
	p.mu.Lock()
	flags := p.flags[i]
	p.mu.Unlock()
	err = p.complete(f, e, flags)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	part := partName(out)
	if err == nil {
		err = p.disk.parts.Chtimes(part, time.Time{}, time.Unix(e.Mtime, 0))
	}
	if err == nil {
		err = p.moveIn(part, out, flags)
	}
	if err != nil {
		return p.wrap("finish", i, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.flags[i] |= finished
	p.stats.Finished++
	return nil
}

// complete does what is done to an open part file at the end. It is synced where it takes the place of another file, so that
// a power cut leaves the old or the new one; new files are synced all together.
func (p *Plan) complete(f *os.File, e content.Entry, flags uint8) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	switch size := int64(e.Size); {
	case info.Size() < size:
		return fmt.Errorf("it has %d bytes and should have %d: somebody else changed it", info.Size(), size)
	case info.Size() > size: // begun as a longer version of the file
		if err := f.Truncate(size); err != nil {
			return err
		}
	}
	if err := f.Chmod(fs.FileMode(e.Perm())); err != nil {
		return err
	}
	if flags&replaces != 0 || !syncsAtEnd {
		return f.Sync()
	}
	return nil
}

// moveIn moves what was made in PartDir to its place. An empty directory there is removed first.
func (p *Plan) moveIn(part, out string, flags uint8) error {
	if flags&blocked != 0 {
		if info, err := p.disk.root.Lstat(out); err == nil && info.IsDir() {
			if err := p.disk.root.Remove(out); err != nil {
				return err
			}
		}
	}
	return p.disk.root.Rename(PartDir+"/"+part, out)
}
