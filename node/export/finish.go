package export

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// Finish ends the plan once every chunk that Prepare asked for was put: the last files, symlinks and the modes of
// directories, then everything is made durable and PartDir is removed if nothing is left in it. It waits for calls of Put that are
// under way. After an error it can be called again.
func (p *Plan) Finish(ctx context.Context) error {
	p.using.Lock()
	defer p.using.Unlock()
	if !p.ready {
		return fmt.Errorf("finish %s: %w", p.dir, errNotOpen)
	}
	if p.open > 0 {
		return fmt.Errorf("finish %s: %d chunks are still missing", p.dir, p.open)
	}
	for i, e := range p.entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		switch {
		case e.IsFile() && p.flags[i]&finished == 0:
			if err := p.finish(i); err != nil {
				return err
			}
		case e.IsLink() && !p.leaves(i):
			if err := p.link(i); err != nil {
				return p.wrap("make symlink", i, err)
			}
		}
	}
	dirs, err := p.setDirModes()
	if err != nil {
		return err
	}
	if err := p.sweep(); err != nil {
		return fmt.Errorf("tidy up %s: %w", filepath.Join(p.dir, PartDir), err)
	}
	if err := syncTree(p.disk.root, dirs); err != nil {
		return fmt.Errorf("sync %s: %w", p.dir, full(err))
	}
	d := p.disk
	p.disk, p.ready = nil, false
	// It stays if it is not empty: parts of something else from an earlier run are the start of a later one.
	_ = d.root.Remove(PartDir)
	return d.close()
}

// link makes the symlink of entry i, unless it is there.
func (p *Plan) link(i int) error {
	e, root, out := p.entries[i], p.disk.root, p.out(i)
	if info, err := root.Lstat(out); err == nil && info.Mode()&fs.ModeSymlink != 0 {
		if target, err := root.Readlink(out); err == nil && target == filepath.FromSlash(e.Target) {
			if info.ModTime().Unix() == e.Mtime {
				return nil
			}
			return setLinkTime(root, out, time.Unix(e.Mtime, 0))
		}
	}
	part := partName(out)
	if err := p.disk.parts.Remove(part); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := p.disk.parts.Symlink(filepath.FromSlash(e.Target), part); err != nil {
		return err
	}
	if err := setLinkTime(p.disk.parts, part, time.Unix(e.Mtime, 0)); err != nil {
		return err
	}
	return p.moveIn(part, out, p.flags[i])
}

// setDirModes gives directories their modes, the deepest first: the release may make them read-only.
func (p *Plan) setDirModes() (dirs []string, err error) {
	for i := len(p.entries) - 1; i >= 0; i-- {
		out := p.out(i)
		if !p.entries[i].IsDir() || out == "." {
			continue
		}
		dirs = append(dirs, out)
		info, err := p.disk.root.Lstat(out)
		if err != nil {
			return nil, p.wrap("look at", i, err)
		}
		if perm := fs.FileMode(p.entries[i].Perm()); info.Mode().Perm() != perm && runtime.GOOS != "windows" {
			if err := p.disk.root.Chmod(out, perm); err != nil {
				return nil, p.wrap("set the mode of", i, err)
			}
		}
	}
	return dirs, nil
}

// sweep removes the part files that nobody needs any more: those of files that are finished, and those of files that
// the directories of the plan had in an older release.
func (p *Plan) sweep() error {
	names, err := listDir(p.disk.parts, ".")
	if err != nil || len(names) == 0 {
		return err
	}
	ours, tags, all := make(map[string]bool, len(names)), map[string]bool{}, false
	for _, n := range names {
		ours[n] = false
	}
	for i, e := range p.entries {
		out := p.out(i)
		switch {
		case out == ".":
			all = true
		case e.IsDir() && !strings.Contains(out, "/"):
			tags[dirTag(out)] = true
		case !e.IsDir():
			if name := partName(out); has(ours, name) {
				ours[name] = true
			}
		}
	}
	for _, n := range names {
		if !ours[n] && (len(n) != partNameLen || !all && !tags[n[:tagLen]]) {
			continue
		}
		if err := p.disk.parts.RemoveAll(n); err != nil {
			return err
		}
	}
	return nil
}

func has(set map[string]bool, name string) bool {
	_, ok := set[name]
	return ok
}
