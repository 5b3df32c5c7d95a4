package export

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"swarmnode/content"
	"swarmnode/content/store"
)

// Prepare makes the directories, hashes what is in the target already, copies chunks that lie in another place of it,
// and gives the chunks that are still needed, by segment. Files that are right are left where they are and only get
// their mode and time. progress hears of bytes checked and copied, from one goroutine at a time; it may be nil. The error is
// ErrBusy, store.ErrDiskFull, *store.BudgetError (the disk has no room for all of it), *NameError, or says what is in
// the way. After an error Prepare can be called again.
func (p *Plan) Prepare(ctx context.Context, progress func(done, total int64)) (map[uint32]content.Bitmap, error) {
	p.using.Lock()
	defer p.using.Unlock()
	if p.disk == nil {
		d, err := acquire(p.dir)
		if err != nil {
			return nil, fmt.Errorf("prepare %s: %w", p.dir, err)
		}
		p.disk = d
	}
	p.reset()
	if folds, err := p.calls.folds(p.disk.parts); err != nil {
		return nil, fmt.Errorf("prepare %s: %w", p.dir, full(err))
	} else if folds {
		if err := p.checkCase(); err != nil {
			return nil, err
		}
	}
	if err := p.makeDirs(ctx); err != nil {
		return nil, err
	}
	told := newProgress(p.stats.Bytes, progress)
	found, lacking, err := p.scan(ctx, told)
	if err != nil {
		return nil, err
	}
	if free, ok := p.calls.freeSpace(p.dir); ok && lacking > free {
		return nil, fmt.Errorf("prepare %s: %w", p.dir, &store.BudgetError{Need: lacking, Free: free})
	}
	if err := p.copyFound(ctx, found, told); err != nil {
		return nil, err
	}
	need, err := p.needed()
	if err != nil {
		return nil, err
	}
	p.ready = true
	told.end()
	return need, nil
}

// reset forgets what an earlier Prepare found.
func (p *Plan) reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.places, p.open, p.ready = nil, 0, false
	clear(p.left)
	clear(p.flags)
	p.stats.Finished, p.stats.Kept, p.stats.ToFetch, p.stats.Fetched = 0, 0, 0, 0
}

func (p *Plan) makeDirs(ctx context.Context) error {
	for i, e := range p.entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		if out := p.out(i); e.IsDir() && out != "." {
			if err := makeDir(p.disk.root, out, 0o777); err != nil {
				return p.wrap("make directory", i, err)
			}
		}
	}
	return nil
}

// scanner hashes files and notes which chunks they have and lack.
type scanner struct {
	*Plan
	parts          map[string]bool // the part files there are
	told           *progress
	buf            []byte
	found, missing []place
	kept, lacking  int64 // bytes
}

// scan looks at every file and gives the chunks found; those missing go to p.places. lacking is how many bytes have to be written.
func (p *Plan) scan(ctx context.Context, told *progress) (found []place, lacking int64, err error) {
	names, err := listDir(p.disk.parts, ".")
	if err != nil {
		return nil, 0, fmt.Errorf("list %s: %w", filepath.Join(p.dir, PartDir), err)
	}
	parts := make(map[string]bool, len(names))
	for _, n := range names {
		parts[n] = true
	}
	var next atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	for range scanners {
		group.Go(func() error {
			s := scanner{Plan: p, parts: parts, told: told, buf: make([]byte, content.MaxChunkSize)}
			for first := int(next.Add(scanBatch)) - scanBatch; first < len(p.entries); first = int(next.Add(scanBatch)) - scanBatch {
				for i := first; i < min(first+scanBatch, len(p.entries)); i++ {
					if err := s.look(ctx, i); err != nil {
						return err
					}
				}
			}
			p.mu.Lock() // also guards found and lacking
			defer p.mu.Unlock()
			found, p.places = append(found, s.found...), append(p.places, s.missing...)
			lacking += s.lacking
			p.stats.Kept += s.kept
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, 0, err
	}
	slices.SortFunc(p.places, place.compare)
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, m := range p.places {
		p.left[m.file]++
		if i == 0 || p.places[i-1].ref != m.ref {
			p.open++
		}
	}
	for _, f := range p.flags {
		if f&finished != 0 {
			p.stats.Finished++
		}
	}
	return found, lacking, nil
}

// look finds out what there is of entry i.
func (s *scanner) look(ctx context.Context, i int) error {
	e := s.entries[i]
	if e.IsDir() {
		return nil
	}
	info, err := s.inPlace(i)
	if err != nil || e.IsLink() {
		return err
	}
	var old, part *os.File
	if info != nil && info.Mode().IsRegular() {
		old, err = s.disk.root.Open(s.out(i))
		if errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) {
			err = nil // it will be replaced
		}
	}
	if err == nil {
		defer old.Close() // of nil it does nothing
		part, err = s.openPart(i)
	}
	if err != nil {
		return s.wrap("read what is there of", i, err)
	}
	if part != nil {
		s.flags[i] |= begun
		defer part.Close()
	}
	return s.compare(ctx, i, old, part, info)
}

// compare notes which chunks of a file are in the part file, in the file in its place, or in neither. Either can be nil.
func (s *scanner) compare(ctx context.Context, i int, old, part *os.File, info fs.FileInfo) error {
	e := s.entries[i]
	whole := old != nil && info.Size() == int64(e.Size)
	mark, lacking := len(s.missing), int64(0)
	err := s.source.each(e, func(ref content.Ref, c content.Chunk, offset int64) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		defer s.told.add(int64(c.Size))
		at := place{ref: ref, file: uint32(i), offset: offset}
		if part != nil && nextData(part, offset) < offset+int64(c.Size) && s.matches(part, c, offset) {
			s.found, whole = append(s.found, at), false
			s.kept += int64(c.Size)
			return nil
		}
		s.missing = append(s.missing, at)
		lacking += int64(c.Size)
		if old != nil && s.matches(old, c, offset) {
			s.found = append(s.found, at)
		} else {
			whole = false
		}
		return nil
	})
	if err != nil {
		return err
	}
	if whole {
		s.missing = s.missing[:mark]
		s.kept += lacking
		return s.settle(i, info)
	}
	s.lacking += lacking
	return nil
}

// inPlace looks at what lies where entry i belongs; nil if nothing does. A directory that is not empty is refused, an empty
// one is replaced later.
func (s *scanner) inPlace(i int) (fs.FileInfo, error) {
	info, err := s.disk.root.Lstat(s.out(i))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, s.wrap("look at", i, err)
	}
	s.flags[i] |= replaces
	if !info.IsDir() {
		return info, nil
	}
	s.flags[i] |= blocked
	names, err := listDir(s.disk.root, s.out(i))
	if err == nil && len(names) > 0 {
		err = errors.New("a directory that is not empty is in the way: move it away")
	}
	if err != nil {
		return nil, s.wrap("write", i, err)
	}
	return info, nil
}

// openPart opens the part file of entry i, or gives nil if there is none. What cannot be one is removed.
func (s *scanner) openPart(i int) (*os.File, error) {
	name := partName(s.out(i))
	if !s.parts[name] {
		return nil, nil
	}
	info, err := s.disk.parts.Lstat(name)
	if err == nil && !info.Mode().IsRegular() {
		return nil, s.disk.parts.Remove(name)
	}
	if err == nil && info.Mode().Perm()&0o600 != 0o600 {
		err = s.disk.parts.Chmod(name, 0o600) // it was about to be finished
	}
	if err != nil {
		return nil, err
	}
	return s.disk.parts.OpenFile(name, os.O_RDWR, 0)
}

// matches reports whether f has the chunk at offset. What cannot be read does not match: it will be written anew.
func (s *scanner) matches(f *os.File, c content.Chunk, offset int64) bool {
	buf := s.buf[:c.Size]
	_, err := f.ReadAt(buf, offset)
	return err == nil && content.Sum(buf) == c.Digest
}

// settle gives a file that is right its mode and time, and counts it.
func (s *scanner) settle(i int, info fs.FileInfo) error {
	e, root, out := s.entries[i], s.disk.root, s.out(i)
	if uint32(info.Mode().Perm()) != e.Perm() {
		if err := root.Chmod(out, fs.FileMode(e.Perm())); err != nil {
			return s.wrap("set the mode of", i, err)
		}
	}
	if info.ModTime().Unix() != e.Mtime {
		if err := root.Chtimes(out, time.Time{}, time.Unix(e.Mtime, 0)); err != nil {
			return s.wrap("set the time of", i, err)
		}
	}
	s.flags[i] |= finished
	return nil
}

// copyFound writes those missing chunks that lie in another place of the target, or in the file that is to be replaced.
func (p *Plan) copyFound(ctx context.Context, found []place, told *progress) error {
	buf := make([]byte, content.MaxChunkSize)
	for _, f := range found {
		if err := ctx.Err(); err != nil {
			return err
		}
		group := p.group(f.ref)
		if len(group) == 0 || group[0].state != wanted {
			continue
		}
		c, err := p.source.chunk(f.ref)
		if err != nil {
			return err
		}
		data := buf[:c.Size]
		if !p.read(f, c, data) {
			continue // it changed meanwhile
		}
		bytes := int64(c.Size) * int64(len(group))
		told.more(bytes)
		if _, err := p.write(f.ref, data); err != nil {
			return err
		}
		told.add(bytes)
		p.mu.Lock()
		p.stats.Kept += bytes
		p.mu.Unlock()
	}
	return nil
}

// read reads a chunk from the file in its place, or from the part file, and reports whether it is right.
func (p *Plan) read(at place, c content.Chunk, data []byte) bool {
	out := p.out(int(at.file))
	for _, from := range []struct {
		root *os.Root
		name string
	}{{p.disk.root, out}, {p.disk.parts, partName(out)}} {
		f, _, err := openRegular(from.root, from.name)
		if err != nil || f == nil {
			continue
		}
		_, err = f.ReadAt(data, at.offset)
		f.Close()
		if err == nil && content.Sum(data) == c.Digest {
			return true
		}
	}
	return false
}

// needed gives the chunks that are still missing and forgets the others.
func (p *Plan) needed() (map[uint32]content.Bitmap, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	need := map[uint32]content.Bitmap{}
	still := p.places[:0]
	for i := 0; i < len(p.places); {
		n := sameRef(p.places[i:])
		group := p.places[i : i+n]
		i += n
		if group[0].state == written {
			continue
		}
		ref := group[0].ref
		c, err := p.source.chunk(ref)
		if err != nil {
			return nil, err
		}
		p.stats.ToFetch += int64(c.Size)
		b := need[ref.Segment]
		b.Set(ref.Index)
		need[ref.Segment] = b
		still = append(still, group...)
	}
	p.places = slices.Clone(still) // without the room for more
	return need, nil
}

// listDir gives the names in a directory.
func listDir(root *os.Root, name string) ([]string, error) {
	f, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Readdirnames(-1)
}
