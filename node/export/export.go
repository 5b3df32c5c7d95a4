// Package export writes a release, or a part of one, into a plain directory, and compares a directory with a release.
// A [Plan] says which chunks a directory lacks; whoever fetches them hands each one in once, in any order, and files
// appear under their names when they are whole. A run that was killed, or an older release in the same place, is a good
// start for the next: what is on disk counts as far as its hash says so. Where chunks come from is not known here.
package export

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"

	"swarmnode/content"
	"swarmnode/content/store"
)

const (
	// PartDir is the directory in the target that holds files until they are whole. It goes away at the end.
	PartDir = ".swarmnode-part"
	// scanners is how many files are hashed at a time: enough to keep a disk queue busy and a few processors.
	scanners = 4
	// scanBatch is how many files a scanner takes at a time, so that neighbours on disk are read by one.
	scanBatch = 64
	// progressBytes is how far progress moves between two calls of the caller's function.
	progressBytes = 8 << 20
	// maxCachedChunks bounds the tables in memory by the chunks in them: 40 bytes each, so 5 MiB.
	maxCachedChunks = 1 << 17
)

// ErrBusy says that another process writes into the same directory.
var ErrBusy = errors.New("another get writes into this directory")

// listing is a part of a release as it lies in the target: entries in tree order and what their paths lose.
type listing struct {
	entries []content.Entry
	strip   string
}

// newListing checks that every entry has a place in the target, in order, in a directory that is an entry too (or the
// target itself). So no path of a listing leads through a symlink of the listing.
func newListing(entries []content.Entry, strip string) (listing, error) {
	l := listing{entries: entries, strip: content.CleanDir(strip)}
	if int64(len(entries)) > 1<<32-1 {
		return l, fmt.Errorf("%d entries are more than can be written at once", len(entries))
	}
	var dirs []string // the directories around the entry before
	for i, e := range entries {
		if i > 0 && content.ComparePaths(entries[i-1].Path, e.Path) >= 0 {
			return l, fmt.Errorf("%q comes after %q: the entries are not in tree order", e.Path, entries[i-1].Path)
		}
		if e.Path == l.strip && e.IsDir() {
			continue // the target itself
		}
		if err := e.Check(); err != nil {
			return l, err
		}
		if l.strip != "" && !strings.HasPrefix(e.Path, l.strip+"/") {
			return l, fmt.Errorf("%q is not in %q", e.Path, l.strip)
		}
		out := l.out(i)
		top, _, below := strings.Cut(out, "/")
		if strings.EqualFold(top, PartDir) {
			return l, fmt.Errorf("%q cannot be written: the name is taken by files that are not finished", e.Path)
		}
		in := path.Dir(out)
		for len(dirs) > 0 && dirs[len(dirs)-1] != in {
			dirs = dirs[:len(dirs)-1]
		}
		if below && len(dirs) == 0 {
			return l, fmt.Errorf("%q is in no directory of the release", e.Path)
		}
		if e.IsDir() {
			dirs = append(dirs, out)
		}
	}
	return l, nil
}

// out is the place of entry i in the target; "." is the target itself.
func (l listing) out(i int) string {
	p := l.entries[i].Path
	switch {
	case p == l.strip:
		return "."
	case l.strip == "":
		return p
	}
	return p[len(l.strip)+1:]
}

// leaves reports whether entry i is a symlink that, in the target, would lead out of it. That happens when a part of
// a release is written and the symlink points into another part.
func (l listing) leaves(i int) bool {
	return content.CheckTarget(l.out(i), l.entries[i].Target) != nil
}

// openTarget opens the directory dir, or says how dir is not one.
func openTarget(dir string) (*os.Root, error) {
	info, err := os.Stat(dir)
	if err == nil && !info.IsDir() {
		return nil, fmt.Errorf("%s is a file, not a directory", dir)
	}
	if err != nil {
		return nil, err
	}
	return os.OpenRoot(dir)
}

// openRegular opens the regular file of this name for reading. It gives nil for everything else: nothing there, a
// symlink, a device, a file that this user may not read. info is nil only if there is nothing.
func openRegular(root *os.Root, name string) (f *os.File, info fs.FileInfo, err error) {
	info, err = root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil || !info.Mode().IsRegular() {
		return nil, info, err
	}
	f, err = root.Open(name)
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) {
		return nil, info, nil
	}
	return f, info, err
}

// full marks err as store.ErrDiskFull when that is its cause.
func full(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: %w", store.ErrDiskFull, err)
	}
	return err
}
