package origin

import (
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"swarmnode/content"
)

const (
	// rsyncName is how long a path may be that is received, twice what Linux has; what is longer than content.MaxPath is then told of.
	rsyncName = 8 << 10
	// rsyncNames is how many bytes of names are received: MaxEntries of 128 bytes.
	rsyncNames = 512 << 20
)

// The bits before each entry of a list.
const (
	rsyncSameMode = 1 << 1
	rsyncSameName = 1 << 5
	rsyncLongName = 1 << 6
	rsyncSameTime = 1 << 7
)

// rsyncGeneral is the bit that says that something could not be listed. That something vanished meanwhile is another one.
const rsyncGeneral = 1 << 0

// rsyncFile is an entry of the list that a server sends.
type rsyncFile struct {
	name   string
	target string
	size   int64
	mtime  int64 // seconds since 1970
	mode   uint32
}

// readRsyncList reads the list of a tree. The number of a file, by which it is asked for, is its place in the list sorted by name:
// both ends sort it.
func readRsyncList(w *rsyncWire) ([]rsyncFile, error) {
	var files []rsyncFile
	var last rsyncFile
	bytes := 0
	for {
		flags, err := w.readByte()
		if err != nil {
			return nil, err
		}
		if flags == 0 {
			break
		}
		if last, err = readRsyncFile(w, flags, last); err != nil {
			return nil, err
		}
		if bytes += len(last.name) + len(last.target); len(files) == MaxEntries || bytes > rsyncNames {
			return nil, &RefusedError{Reason: fmt.Sprintf("the origin lists more than %d paths, or more than %d MiB of names: publish parts of it, or --exclude some", MaxEntries, rsyncNames>>20)}
		}
		files = append(files, last)
	}
	missed, err := w.readInt()
	if err != nil {
		return nil, err
	}
	if missed&rsyncGeneral != 0 {
		return nil, &RefusedError{Reason: "the rsync server could not list all of the tree: let it be read, or --exclude it", Cause: errors.New(w.messages())}
	}
	slices.SortStableFunc(files, func(a, b rsyncFile) int { return strings.Compare(a.name, b.name) })
	return files, nil
}

// readRsyncFile reads an entry: what it does not say is as in the last one.
func readRsyncFile(w *rsyncWire, flags byte, last rsyncFile) (rsyncFile, error) {
	var same, more int32
	f := rsyncFile{mtime: last.mtime, mode: last.mode}
	short := func(n *int32) error {
		b, err := w.readByte()
		*n = int32(b)
		return err
	}
	var err error
	if flags&rsyncSameName != 0 {
		err = short(&same)
	}
	if err == nil && flags&rsyncLongName != 0 {
		more, err = w.readInt()
	} else if err == nil {
		err = short(&more)
	}
	if err != nil {
		return f, err
	}
	if int(same) > len(last.name) || more < 0 || same+more == 0 || more > rsyncName-same {
		return f, fmt.Errorf("%w: a name of %d and %d bytes after one of %d", errRsync, same, more, len(last.name))
	}
	if f.name, err = w.readString(last.name[:same], int(more)); err != nil {
		return f, err
	}
	if f.size, err = w.readLong(); err != nil {
		return f, err
	}
	if flags&rsyncSameTime == 0 {
		t, err := w.readInt()
		if err != nil {
			return f, err
		}
		f.mtime = int64(uint32(t)) // as rsync reads it: up to 2106
	}
	if flags&rsyncSameMode == 0 {
		m, err := w.readInt()
		if err != nil {
			return f, err
		}
		f.mode = uint32(m)
	}
	if f.mode&^0o7777 == content.ModeLink {
		n, err := w.readInt()
		if err != nil {
			return f, err
		}
		if n < 0 || n > rsyncName {
			return f, fmt.Errorf("%w: the target of a symlink has %d bytes", errRsync, n)
		}
		f.target, err = w.readString("", int(n))
		return f, err
	}
	return f, nil
}

// readString reads what follows a prefix.
func (w *rsyncWire) readString(prefix string, n int) (string, error) {
	b := make([]byte, len(prefix)+n)
	copy(b, prefix)
	_, err := io.ReadFull(w, b[len(prefix):])
	return string(b), err
}

// version says which version of a file it is.
func (f *rsyncFile) version() string { return plainStamp(f.size, f.mtime*int64(time.Second)) }

// entry is how the rest of the package sees it.
func (f *rsyncFile) entry() (Entry, error) {
	e := Entry{Path: f.name, Mode: f.mode &^ 0o7000, Mtime: f.mtime * int64(time.Second), Target: f.target}
	if e.IsFile() {
		if e.Size = f.size; e.Size < 0 || e.Size == math.MaxInt64 {
			return e, fmt.Errorf("%q has a size of %d bytes", f.name, f.size)
		}
		e.Stamp = f.version()
	}
	return e, nil
}

// emit calls each of the crawler for what was listed, chosen and checked as the crawler does it.
func (s *rsyncSession) emit(c *crawler) (Listing, error) {
	order := make([]int32, 0, len(s.files))
	for i := range s.files {
		if s.files[i].name != "." {
			order = append(order, int32(i))
		}
	}
	slices.SortFunc(order, func(a, b int32) int { return content.ComparePaths(s.files[a].name, s.files[b].name) })
	var open []string // the directories that the next path may be in, each in the one before
	hidden := ""      // one that is not shown, with all that is in it
	for n, i := range order {
		e, err := s.files[i].entry()
		dir := e.Path[:max(strings.LastIndexByte(e.Path, '/'), 0)]
		if hidden != "" && strings.HasPrefix(e.Path, hidden+"/") {
			continue
		}
		hidden = ""
		if !e.IsDir() && !c.o.wanted(e.Path) || e.IsDir() && matches(c.o.Exclude, e.Path) {
			hidden = e.Path
			continue
		}
		for len(open) > 0 && open[len(open)-1] != dir && !strings.HasPrefix(dir, open[len(open)-1]+"/") {
			if k := len(c.pending); k > 0 && c.pending[k-1].Path == open[len(open)-1] {
				c.pending = c.pending[:k-1]
			}
			open = open[:len(open)-1]
		}
		switch {
		case err != nil:
		case n > 0 && s.files[order[n-1]].name == e.Path:
			err = fmt.Errorf("%q is listed twice", e.Path)
		case dir != "" && (len(open) == 0 || open[len(open)-1] != dir):
			err = fmt.Errorf("%q is in a directory that is not listed", e.Path)
		default:
			err = (&directory{path: dir}).check(&e)
		}
		switch {
		case err != nil:
			c.refuse(Bad{e.Path, err})
			if e.IsDir() && (len(open) == 0 || open[len(open)-1] != e.Path) {
				hidden = e.Path
			}
			continue
		case e.IsDir():
			open = append(open, e.Path)
		}
		if e.IsDir() && len(c.o.Include) > 0 {
			c.pending = append(c.pending, e)
		} else if err := c.emit(e); err != nil {
			return c.told, err
		}
	}
	return c.told, nil
}
