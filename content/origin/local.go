package origin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path"
	"strings"
	"time"

	"swarmnode/content"
)

const (
	// localYoung is how long after a change a stamp vouches only for the run that saw it: the clocks of file systems go in steps, on
	// FAT of two seconds, and a change in the same step leaves no trace.
	localYoung = 3 * time.Second
	// localBatch is how many names are read from a directory at once.
	localBatch = 4096
)

// local is a directory here. Nothing outside of it is read: paths are resolved below an open directory, symlinks are what they are.
type local struct {
	o    Options
	root *os.Root
}

// openLocal opens the directory of a file URL.
func openLocal(_ context.Context, u *url.URL, o Options) (Origin, error) {
	switch {
	case u.Host != "" && u.Host != "localhost":
		return nil, &RefusedError{Reason: fmt.Sprintf("%s: a directory here has three slashes, file:///DIRECTORY; one of the machine %s needs its scheme: %s", u.Redacted(), u.Host, strings.Join(Schemes(), ", "))}
	case u.RawQuery != "" || u.Fragment != "":
		return nil, &RefusedError{Reason: "a ? or # in the name of a directory is %3F or %23 in a URL"}
	}
	root, err := os.OpenRoot(u.Path)
	if err != nil {
		return nil, err
	}
	return &local{o: o, root: root}, nil
}

// List is that of Origin.
func (l *local) List(ctx context.Context, before Before, each func(Entry) error) (Listing, error) {
	return crawl(ctx, &l.o, before, l.readDir, each)
}

// Close is that of Origin.
func (l *local) Close() error { return l.root.Close() }

// readDir is a lister.
func (l *local) readDir(ctx context.Context, dir string) (entries []Entry, bad []Bad, requests int, err error) {
	sub, err := l.root.OpenRoot(path.Join(".", dir))
	if err != nil {
		return nil, nil, 1, err
	}
	defer sub.Close()
	d, err := sub.Open(".")
	if err != nil {
		return nil, nil, 1, err
	}
	defer d.Close()
	for len(entries) <= MaxEntries {
		if err := ctx.Err(); err != nil {
			return nil, nil, 1, err
		}
		names, err := d.Readdirnames(localBatch)
		for _, name := range names {
			e, err := localEntry(sub, path.Join(dir, name), name)
			if errors.Is(err, fs.ErrNotExist) {
				continue // gone since its name was read
			}
			if err != nil {
				bad = append(bad, Bad{path.Join(dir, name), err})
				continue
			}
			entries = append(entries, e)
		}
		if errors.Is(err, io.EOF) {
			return entries, bad, 1, nil
		}
		if err != nil {
			return nil, nil, 1, err
		}
	}
	return nil, nil, 1, &RefusedError{Reason: fmt.Sprintf("%q has more than %d names: publish parts of it", dir, MaxEntries)}
}

// localEntry tells of name in the directory dir, whose path is p.
func localEntry(dir *os.Root, p, name string) (Entry, error) {
	fi, err := dir.Lstat(name)
	if err != nil {
		return Entry{}, err
	}
	e := Entry{Path: p, Mode: uint32(fi.Mode().Perm()), Mtime: fi.ModTime().UnixNano()}
	switch kind := fi.Mode().Type(); kind {
	case 0:
		e.Mode |= content.ModeFile
		e.Size = fi.Size()
		e.Stamp = localStamp(fi)
		if ctime, _ := inodeOf(fi); time.Since(time.Unix(0, max(ctime, e.Mtime))).Abs() < localYoung {
			e.Stamp += " young" // gone the next time, so that the file is read once more
		}
	case fs.ModeDir:
		e.Mode |= content.ModeDir
	case fs.ModeSymlink:
		e.Mode |= content.ModeLink
		if e.Target, err = dir.Readlink(name); err != nil {
			return Entry{}, err
		}
	default:
		return Entry{}, fmt.Errorf("%q is neither a file, a directory nor a symlink but %s", p, kindNames[kind])
	}
	return e, nil
}

// kindNames are what cannot be published; what is not here is just not published.
var kindNames = map[fs.FileMode]string{
	fs.ModeNamedPipe: "a named pipe", fs.ModeSocket: "a socket", fs.ModeDevice: "a device", fs.ModeDevice | fs.ModeCharDevice: "a device",
}

// localStamp changes whenever the file does: what a program that sets the times back cannot set is in it.
func localStamp(fi fs.FileInfo) string {
	ctime, inode := inodeOf(fi)
	return fmt.Sprintf("%d %d %d %d", fi.Size(), fi.ModTime().UnixNano(), ctime, inode)
}

// Open is that of Origin.
func (l *local) Open(_ context.Context, e Entry, offset int64, version string) (*Body, error) {
	// Looked at first: to open a named pipe is to wait for its writer.
	at, err := l.root.Lstat(e.Path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !at.Mode().IsRegular() {
		return nil, fmt.Errorf("%q: %w", e.Path, ErrGone)
	}
	if err != nil {
		return nil, err
	}
	f, err := l.root.OpenFile(e.Path, os.O_RDONLY|noWait, 0)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%q: %w", e.Path, ErrGone)
		}
		return nil, err
	}
	fi, err := f.Stat()
	if err == nil && !os.SameFile(at, fi) {
		err = fmt.Errorf("%q is replaced just now", e.Path)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	b := &Body{ReadCloser: f, Size: fi.Size(), Mtime: fi.ModTime().UnixNano(), Version: localStamp(fi)}
	if offset > 0 && offset <= b.Size && version == b.Version {
		if b.Offset, err = f.Seek(offset, io.SeekStart); err != nil {
			return nil, errors.Join(err, f.Close())
		}
	}
	b.Still = func(context.Context) (bool, error) {
		now, err := l.root.Lstat(e.Path)
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		return err == nil && localStamp(now) == b.Version, err
	}
	return b, nil
}
