package export

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"

	"swarmnode/content"
)

// parts writes the files that replace others, and those that name others, aside.
func (s *switching) parts(ctx context.Context) error {
	lacking := false
	for _, e := range s.later {
		s.going[s.top+e.Path] = true
	}
	for _, e := range s.later {
		if err := ctx.Err(); err != nil {
			return err
		}
		if !e.IsFile() {
			continue
		}
		err := s.part(e)
		if errors.Is(err, errLacking) {
			lacking = true
			continue
		}
		if err != nil {
			return fmt.Errorf("export %s: %w", e.Path, full(err))
		}
		if s.size >= s.cfg.stripe {
			if err := s.flush(); err != nil {
				return err
			}
		}
	}
	if lacking {
		return errLacking
	}
	return s.flush()
}

// retireAll puts the chunks of what is going to be replaced back into the segments, for the grace time, unless they are in a file
// that was made aside.
func (s *switching) retireAll(context.Context) error {
	for _, e := range s.later {
		info, err := s.root.Lstat(s.top + e.Path)
		switch {
		case err != nil:
			continue
		case info.IsDir():
			err = s.retireDir(e.Path)
		case info.Mode().IsRegular():
			err = s.retire(e.Path)
		}
		if err != nil {
			return fmt.Errorf("keep %s: %w", e.Path, full(err))
		}
	}
	return nil
}

func (s *switching) retireDir(dir string) error {
	for _, m := range s.before {
		err := content.Walk(m.Tree, s.cfg.Blocks, dir, func(e content.Entry) error {
			if !e.IsFile() {
				return nil
			}
			return s.retire(e.Path)
		})
		if err != nil && !errors.Is(err, content.ErrNoEntry) {
			return err
		}
	}
	return nil
}

// retire puts the chunks back that lie in a file of an earlier release, a few at a time.
func (s *switching) retire(name string) error {
	for _, m := range s.before {
		e, err := content.Lookup(m.Tree, s.cfg.Blocks, name)
		if err != nil || !e.IsFile() {
			continue
		}
		infos, err := content.LoadDirectory(m.Directory, s.cfg.Blocks)
		if err != nil {
			return err
		}
		src := source{runs: s.source.runs, tables: map[uint32]*content.Table{}, table: func(n uint32) (*content.Table, error) {
			if int(n) >= len(infos) {
				return nil, fmt.Errorf("%w: no segment %d", content.ErrFormat, n)
			}
			return s.cfg.Tables(infos[n].Table)
		}}
		var refs []content.Ref
		err = src.each(e, func(ref content.Ref, _ content.Chunk, _ int64) error {
			place, _, ok, err := s.refs.Place(ref)
			if ok && place == s.top+name {
				refs = append(refs, ref)
			}
			return err
		})
		if err == nil && len(refs) > 0 {
			err = s.disk.Back(context.Background(), refs)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// replace renames what was made aside into the tree, those that name others last and those that name these after them.
func (s *switching) replace(context.Context) error {
	slices.SortStableFunc(s.later, func(a, b content.Entry) int { return s.rank(a) - s.rank(b) })
	var dirs []string
	for i, e := range s.later {
		out := s.top + e.Path
		dirs = append(dirs, path.Dir(out))
		var err error
		if e.IsLink() {
			part := s.hidden("part/link")
			if err = s.root.Remove(part); err == nil || errors.Is(err, fs.ErrNotExist) {
				err = s.root.Symlink(e.Target, part)
			}
			if err == nil {
				err = setLinkTime(s.root, part, time.Unix(e.Mtime, 0))
			}
			if info, lerr := s.root.Lstat(out); err == nil && lerr == nil && info.IsDir() {
				err = s.root.RemoveAll(out)
			}
			if err == nil {
				err = s.root.Rename(part, out)
			}
		} else {
			err = s.moveIn(s.partOf(e), out)
		}
		if err != nil {
			return fmt.Errorf("replace %s: %w", out, full(err))
		}
		s.mu.Lock()
		delete(s.doubted, out)
		s.mu.Unlock()
		if i == len(s.later)/2 {
			if err := s.cfg.crash("half replaced"); err != nil {
				return err
			}
		}
	}
	if len(s.later) == 0 {
		return nil
	}
	slices.Sort(dirs)
	return s.sync(slices.Compact(dirs)...)
}

// rank orders what is renamed at the end: other files, indexes, and the files that name indexes, which clients read first.
func (s *switching) rank(e content.Entry) int {
	switch base := path.Base(e.Path); {
	case base == "InRelease" || base == "Release" || base == "Release.gpg" || strings.HasPrefix(base, "repomd.xml"):
		return 2
	case s.cfg.Names(e.Path) || e.IsLink():
		return 1
	}
	return 0
}

// settle sees to it that every chunk of the release has its place in the tree: those that lay in files that are replaced or go
// now, and those of a switch that was cut off, get another. It reads what it is not sure of.
func (s *switching) settle(ctx context.Context) error {
	if !s.changed {
		return nil
	}
	bad := false
	err := s.walk(ctx, func(e content.Entry) error {
		if !e.IsFile() {
			return nil
		}
		var f *os.File
		defer func() {
			if f != nil {
				f.Close()
			}
		}()
		return s.source.each(e, func(ref content.Ref, c content.Chunk, offset int64) (err error) {
			place, _, ok, err := s.refs.Place(ref)
			if err != nil || ok && s.stays(place, e) {
				return err
			}
			if f == nil {
				if f, _, err = openRegular(s.root, s.top+e.Path); err != nil || f == nil {
					return fmt.Errorf("look at it: %w", errors.Join(err, errLacking))
				}
			}
			if s.check(f, c, offset) != nil {
				s.doubt(s.top + e.Path)
				bad = true
				return nil
			}
			s.touched[ref.Segment] = true
			return s.refs.Refer(ref, s.top+e.Path, offset)
		})
	})
	if err != nil {
		return err
	}
	for n := range s.infos { // also those of a switch that was cut off before it came to this
		s.touched[uint32(n)] = true
	}
	if err := s.moved(); err != nil {
		return err
	}
	if bad {
		return errLacking
	}
	return nil
}

// stays reports whether a place is in a file of the release.
func (s *switching) stays(place string, e content.Entry) bool {
	if place == s.top+e.Path {
		return true
	}
	name, ok := strings.CutPrefix(place, s.top)
	if !ok {
		return false
	}
	other, err := content.Lookup(s.m.Tree, s.cfg.Blocks, name)
	return err == nil && other.IsFile()
}

// end tidies up and notes that the tree is whole.
func (s *switching) end() error {
	s.refs.CloseFiles()
	if names, err := listDir(s.root, s.hidden("part")); err != nil {
		return err
	} else if s.changed {
		for _, n := range names {
			if err := s.root.RemoveAll(s.hidden("part/" + n)); err != nil {
				return err
			}
		}
	}
	if !s.changed {
		return nil
	}
	err := s.remember(func(st *directoryState) {
		for _, d := range st.Shown {
			if d != s.digest && !slices.Contains(st.Gone, d) {
				st.Gone = append(st.Gone, d)
			}
		}
		st.Shown, st.Done, st.Release = []string{s.digest}, true, s.m.Release
	})
	if err != nil {
		return err
	}
	s.recount()
	s.cfg.Log.Info("the exported tree shows the release", "directory", path.Join(s.cfg.Dir, s.state.Name), "release", s.m.Release)
	return nil
}

func (d *Directory) recount() {
	bytes := d.measure()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.bytes = bytes
}

// Keeps reports whether the content of a release has to stay although its grace time is over: the tree shows it, or files of it.
func (d *Directory) Keeps(manifest content.Digest) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.midway || slices.Contains(d.state.Shown, manifest.String())
}

// errMidway says that files cannot be removed in the midst of a switch.
var errMidway = errors.New("the exported tree is just being changed")

// Drop removes the files that only releases have which are not kept any more. Their chunks are no longer wanted of the Disk.
func (d *Directory) Drop(kept func(content.Digest) bool) error {
	if !d.work.TryLock() {
		return errMidway
	}
	defer d.work.Unlock()
	var stay, go_ []string
	for _, text := range d.state.Gone {
		digest, err := content.ParseDigest(text)
		if err == nil && kept(digest) {
			stay = append(stay, text)
		} else {
			go_ = append(go_, text)
		}
	}
	if len(go_) == 0 {
		return nil
	}
	var live []*content.Manifest
	for _, text := range append(slices.Clone(d.state.Shown), stay...) {
		m, err := d.manifest(text)
		if err != nil {
			return err
		}
		live = append(live, m)
	}
	for _, text := range go_ {
		if err := d.dropOne(text, live); err != nil {
			return fmt.Errorf("remove what is gone from %s: %w", d.cfg.Dir, err)
		}
	}
	d.refs.CloseFiles()
	for _, n := range d.refs.Segments() {
		if d.disk.Have(n).Count() == 0 {
			if err := d.refs.Remove(n); err != nil {
				return err
			}
		}
	}
	err := d.remember(func(st *directoryState) { st.Gone = stay })
	d.recount()
	return err
}

// dropOne removes what only one release had.
func (d *Directory) dropOne(text string, live []*content.Manifest) error {
	m, err := d.manifest(text)
	if err != nil {
		d.cfg.Log.Warn("an old release is not known any more: files of it may stay in the exported tree", "directory", d.cfg.Dir, "release", text)
		return nil
	}
	var dirs []string
	err = content.Walk(m.Tree, d.cfg.Blocks, "", func(e content.Entry) error {
		for _, l := range live {
			if _, err := content.Lookup(l.Tree, d.cfg.Blocks, e.Path); !errors.Is(err, content.ErrNoEntry) {
				return err
			}
		}
		out := d.state.Name + "/" + e.Path
		info, err := d.root.Lstat(out)
		switch {
		case errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR):
			return nil
		case err != nil:
			return err
		case e.IsDir():
			dirs = append(dirs, out)
			return nil
		case info.IsDir():
			return nil // somebody else's
		}
		return d.root.Remove(out)
	})
	if err != nil {
		return err
	}
	for _, dir := range slices.Backward(dirs) {
		_ = d.root.Remove(dir) // unless somebody put something there
	}
	return nil
}
