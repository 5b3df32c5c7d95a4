package export

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"swarmnode/content"
	"swarmnode/content/store"
)

const (
	// stripe is how many bytes are copied before they are synced and leave the segments: so much more than the content the disk must
	// hold. A sync costs some milliseconds, so a fast disk copies at full speed.
	stripe = 32 << 20
	// batchFiles is how many small files are synced together.
	batchFiles = 1024
)

// switching is a tree on its way to a release.
type switching struct {
	*Directory
	m      *content.Manifest
	top    string // the tree's name, with a slash
	digest string
	source source
	infos  []content.SegmentInfo
	before []*content.Manifest // releases whose files may be in the tree
	buf    []byte

	ahead
	later   []content.Entry // what replaces something, or names other files
	going   map[string]bool // files that are going to be replaced
	linked  map[string]bool // part files to which references lead
	touched map[uint32]bool // segments of which chunks have a new place
	changed bool
}

// ahead is what is written and not synced.
type ahead struct {
	batch  []content.Entry // new files whose parts are written, not synced
	copied []copied        // chunks in parts that are not synced
	size   int64           // of these
}

// copied is a chunk that was written to a part file.
type copied struct {
	ref    content.Ref
	part   string
	offset int64
}

// bring makes the tree that of a release. The caller holds work.
func (d *Directory) bring(ctx context.Context, m *content.Manifest) error {
	s := &switching{Directory: d, m: m, digest: content.Sum(m.Encode()).String(), buf: make([]byte, content.MaxChunkSize), touched: map[uint32]bool{}, linked: map[string]bool{}, going: map[string]bool{}}
	if err := s.begin(); err != nil {
		return err
	}
	for _, step := range []struct {
		name string
		do   func(context.Context) error
	}{{"dirs", s.dirs}, {"new", s.add}, {"parts", s.parts}, {"retire", s.retireAll}, {"replace", s.replace}, {"settle", s.settle}} {
		if err := step.do(ctx); err != nil {
			return err
		}
		if err := d.cfg.crash(step.name); err != nil {
			return err
		}
	}
	return s.end()
}

// begin finds the tree its place and notes, durably, that files of the release come into it.
func (s *switching) begin() error {
	infos, err := content.LoadDirectory(s.m.Directory, s.cfg.Blocks)
	if err != nil {
		return err
	}
	s.infos = infos
	s.source = source{tables: map[uint32]*content.Table{},
		runs: func(e content.Entry) ([]content.Run, error) { return content.EntryRuns(e, s.cfg.Blocks) },
		table: func(n uint32) (*content.Table, error) {
			if int(n) >= len(infos) || infos[n].Retired() {
				return nil, fmt.Errorf("%w: a file has chunks in segment %d, which the release does not have", content.ErrFormat, n)
			}
			return s.cfg.Tables(infos[n].Table)
		}}
	name := s.state.Name
	if name == "" {
		name = s.m.Name
		names, err := os.ReadDir(path.Join(s.cfg.Dir, name))
		if err == nil && len(names) > 0 {
			return fmt.Errorf("%s: %w", path.Join(s.cfg.Dir, name), ErrForeign)
		}
	}
	s.top = name + "/"
	last := len(s.state.Shown) - 1
	if last < 0 || s.state.Shown[last] != s.digest {
		err := s.remember(func(st *directoryState) {
			st.Name, st.Done = name, false
			st.Shown = append(slices.DeleteFunc(st.Shown, func(d string) bool { return d == s.digest }), s.digest)
			st.Gone = slices.DeleteFunc(st.Gone, func(d string) bool { return d == s.digest })
		})
		if err != nil {
			return err
		}
		s.changed = true
	}
	s.changed = s.changed || !s.state.Done
	for _, text := range s.state.Shown[:len(s.state.Shown)-1] {
		if m, err := s.manifest(text); err == nil {
			s.before = append(s.before, m)
		}
	}
	if err := makeDir(s.root, name, 0o755); err != nil {
		return err
	}
	known := map[uint32]bool{}
	s.changed = s.changed || len(s.refs.Segments()) == 0 // the index was lost
	for _, n := range s.refs.Segments() {
		known[n] = true
	}
	for n, info := range infos {
		if !known[uint32(n)] && !info.Retired() {
			if err := s.refs.Add(uint32(n), info, nil); err != nil {
				return err
			}
		}
	}
	return nil
}

func (d *Directory) manifest(text string) (*content.Manifest, error) {
	digest, err := content.ParseDigest(text)
	if err != nil {
		return nil, err
	}
	data, ok := d.cfg.Blocks.Block(digest)
	if !ok {
		return nil, &content.Missing{Blocks: []content.Digest{digest}}
	}
	return content.DecodeManifest(data)
}

// dirs makes the directories. The owner can always write to them: the next release does.
func (s *switching) dirs(ctx context.Context) error {
	return s.walk(ctx, func(e content.Entry) error {
		if !e.IsDir() {
			return nil
		}
		out, perm := s.top+e.Path, fs.FileMode(e.Perm())|0o700
		info, err := s.root.Lstat(out)
		switch {
		case err == nil && info.Mode().IsRegular():
			if err := s.retire(e.Path); err != nil {
				return err
			}
			fallthrough
		case err != nil || !info.IsDir():
			if err := makeDir(s.root, out, perm); err != nil {
				return err
			}
		case info.Mode().Perm() == perm:
			return nil
		}
		return s.root.Chmod(out, perm)
	})
}

func (s *switching) walk(ctx context.Context, fn func(content.Entry) error) error {
	return content.Walk(s.m.Tree, s.cfg.Blocks, "", func(e content.Entry) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := fn(e); err != nil {
			return fmt.Errorf("export %s: %w", e.Path, full(err))
		}
		return nil
	})
}

// add looks at every file and moves in those that are new; what replaces something is for later.
func (s *switching) add(ctx context.Context) error {
	lacking := false
	err := s.walk(ctx, func(e content.Entry) error {
		if e.IsDir() {
			return nil
		}
		there, right, err := s.compare(e)
		if err != nil || right {
			return err
		}
		s.changed = true
		if there || e.IsLink() || s.cfg.Names(e.Path) {
			s.later = append(s.later, e)
			return nil
		}
		err = s.part(e)
		if errors.Is(err, errLacking) {
			lacking = true
			return nil
		}
		if err != nil {
			return err
		}
		if s.batch = append(s.batch, e); len(s.batch) >= batchFiles || s.size >= s.cfg.stripe {
			return s.flush()
		}
		return nil
	})
	if err == nil && lacking {
		err = errLacking
	}
	if err == nil {
		err = s.flush()
	}
	return err
}

// compare says whether something lies in the place of an entry, and whether that is right: by kind, size and time, and by every
// byte if there is a doubt.
func (s *switching) compare(e content.Entry) (there, right bool, err error) {
	out := s.top + e.Path
	info, err := s.root.Lstat(out)
	if errors.Is(err, fs.ErrNotExist) {
		return false, false, nil
	}
	if err != nil {
		return false, false, err
	}
	if e.IsLink() {
		if target, err := s.root.Readlink(out); err != nil || target != e.Target {
			return true, false, nil
		}
		return true, true, setLinkTime(s.root, out, time.Unix(e.Mtime, 0))
	}
	if !info.Mode().IsRegular() || info.Size() != int64(e.Size) {
		return true, false, nil
	}
	s.mu.Lock()
	doubted := s.doubted[out]
	s.mu.Unlock()
	mtime := info.ModTime().Unix() == e.Mtime
	if doubted || !mtime {
		if !s.holds(e) {
			return true, false, nil
		}
		s.mu.Lock()
		delete(s.doubted, out)
		s.mu.Unlock()
	}
	if info.Mode().Perm() != fs.FileMode(e.Perm()) {
		if err := s.root.Chmod(out, fs.FileMode(e.Perm())); err != nil {
			return true, false, err
		}
	}
	if !mtime {
		return true, true, s.root.Chtimes(out, time.Time{}, time.Unix(e.Mtime, 0))
	}
	return true, true, nil
}

// holds reports whether the file in the tree has all bytes of an entry.
func (s *switching) holds(e content.Entry) bool {
	f, _, err := openRegular(s.root, s.top+e.Path)
	if err != nil || f == nil {
		return false
	}
	defer f.Close()
	return s.source.each(e, func(_ content.Ref, c content.Chunk, offset int64) error { return s.check(f, c, offset) }) == nil
}

// check compares a place in a file with a chunk.
func (s *switching) check(f *os.File, c content.Chunk, offset int64) error {
	buf := s.buf[:c.Size]
	if _, err := f.ReadAt(buf, offset); err != nil {
		return err
	}
	if content.Sum(buf) != c.Digest {
		return store.ErrWrongBytes
	}
	return nil
}

// partOf is where a file is made: by its content, too, so that what an earlier release began is not taken for it.
func (s *switching) partOf(e content.Entry) string {
	return s.hidden("part/" + partName(e.Path+"\x00"+e.SHA256.String()))
}

// part writes the part file of an entry. A long one is synced on the way, and leaves the segments. errLacking if chunks are not
// here; all of them were asked for then.
func (s *switching) part(e content.Entry) error {
	part := s.partOf(e)
	if info, err := s.root.Lstat(part); err == nil && !info.Mode().IsRegular() {
		if err := s.root.Remove(part); err != nil {
			return err
		}
	}
	_ = s.root.Chmod(part, 0o600) // it was about to be finished
	f, err := s.root.OpenFile(part, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	lacking := false
	err = s.source.each(e, func(ref content.Ref, c content.Chunk, offset int64) error {
		data, err := s.disk.Chunk(ref, s.buf)
		if errors.Is(err, store.ErrNotHere) {
			lacking = true
			return nil
		}
		if err != nil || lacking {
			return err
		}
		if place, at, ok, err := s.refs.Place(ref); err != nil || ok && place == part {
			if s.linked[part] = true; err != nil || at == offset {
				return err // it was copied before a kill
			}
		}
		if err := s.room(int64(c.Size)); err != nil {
			return err
		}
		if _, err := f.WriteAt(data, offset); err != nil {
			return err
		}
		s.copied = append(s.copied, copied{ref, part, offset})
		s.mu.Lock()
		s.bytes += int64(c.Size)
		s.mu.Unlock()
		if s.size += int64(c.Size); s.size >= s.cfg.stripe && offset+int64(c.Size) < int64(e.Size) {
			return s.flush()
		}
		return nil
	})
	if err == nil && lacking {
		err = errLacking
	}
	if err == nil {
		err = f.Truncate(int64(e.Size))
	}
	if err == nil {
		err = f.Chmod(fs.FileMode(e.Perm()))
	}
	if err == nil && !syncsAtEnd {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = s.root.Chtimes(part, time.Time{}, time.Unix(e.Mtime, 0))
	}
	return err
}

// room asks for room for so many bytes; what is on its way into the tree is brought there first, if need be.
func (s *switching) room(n int64) error {
	err := s.disk.CheckBudget(n)
	if err != nil && s.size > 0 {
		if err := s.flush(); err != nil {
			return err
		}
		err = s.disk.CheckBudget(n)
	}
	return err
}

// flush makes durable what was copied, moves in the files that are whole, and takes their chunks out of the segments.
func (s *switching) flush() error {
	if len(s.batch)+len(s.copied) == 0 {
		return nil
	}
	if err := s.sync(); err != nil {
		return err
	}
	moved, dirs := map[string]string{}, map[string]bool{}
	for _, e := range s.batch {
		part, out := s.partOf(e), s.top+e.Path
		move := s.root.Rename
		if s.linked[part] {
			move = s.moveIn
		}
		if err := move(part, out); err != nil {
			return full(err)
		}
		moved[part] = out
		dirs[path.Dir(out)] = true
	}
	if err := s.cfg.crash("moved in"); err != nil {
		return err
	}
	if err := s.sync(slices.Collect(maps.Keys(dirs))...); err != nil { // the names, before the segments lose what is under them
		return err
	}
	for _, c := range s.copied {
		at := c.part
		if to := moved[at]; to != "" {
			at = to
		} else {
			s.linked[at] = true
		}
		if err := s.refer(c.ref, at, c.offset); err != nil {
			return err
		}
	}
	s.batch, s.copied, s.size = s.batch[:0], s.copied[:0], 0
	return s.moved()
}

// refer gives a chunk its place, unless it has one in the tree already.
func (s *switching) refer(ref content.Ref, at string, offset int64) error {
	s.touched[ref.Segment] = true
	place, _, ok, err := s.refs.Place(ref)
	if err != nil || ok && strings.HasPrefix(place, s.top) && !s.going[place] {
		return err
	}
	return s.refs.Refer(ref, at, offset)
}

// moved makes the references durable and gives back the room in the segments.
func (s *switching) moved() error {
	if err := s.cfg.crash("referred"); err != nil {
		return err
	}
	if err := s.refs.Sync(context.Background()); err != nil {
		return err
	}
	if err := s.cfg.crash("references synced"); err != nil {
		return err
	}
	for n := range s.touched {
		if err := s.disk.Moved(n); err != nil {
			return err
		}
	}
	clear(s.touched)
	return nil
}

// sync makes durable what was written, and the names in these directories and aside.
func (s *switching) sync(dirs ...string) error {
	if err := s.cfg.sync(s.root, append(dirs, s.hidden("part"))); err != nil {
		return fmt.Errorf("sync %s: %w", s.cfg.Dir, full(err))
	}
	return nil
}

// moveIn gives a part file its name in the tree, at once, and leaves it its own: references still lead there.
func (s *switching) moveIn(part, out string) error {
	in := part + ".in"
	if err := s.root.Remove(in); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := s.root.Link(part, in); err != nil {
		return err
	}
	if info, err := s.root.Lstat(out); err == nil && info.IsDir() {
		if err := s.root.RemoveAll(out); err != nil { // its chunks are in the segments
			return err
		}
	}
	return full(s.root.Rename(in, out))
}
