package export

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"

	"swarmnode/content"
)

// What a plan knows of a file, besides how many chunks it lacks.
const (
	finished uint8 = 1 << iota // it lies in its place and is right
	begun                      // it has a part file
	replaces                   // something else lies in its place
	blocked                    // and that is an (empty) directory
)

// The states of a chunk, kept at its first place.
const (
	wanted uint8 = iota
	writing
	written
)

// place is one occurrence of a chunk in a file that lacks it, or that has it. There is one for each chunk of each file, so
// it is kept small: 24 bytes.
type place struct {
	ref    content.Ref
	file   uint32 // index of the entry
	state  uint8
	offset int64 // in the file
}

func (p place) compare(o place) int {
	return cmp.Or(compareRefs(p.ref, o.ref), cmp.Compare(p.file, o.file), cmp.Compare(p.offset, o.offset))
}

func compareRefs(a, b content.Ref) int {
	return cmp.Or(cmp.Compare(a.Segment, b.Segment), cmp.Compare(a.Index, b.Index))
}

// Stats are the counters of a [Plan]. Kept and ToFetch are known once Prepare has returned.
type Stats struct {
	Files      int      // regular files of the plan
	Bytes      int64    // in them
	Finished   int      // files that lie in their place
	Kept       int64    // bytes that were in the target already, or could be copied from elsewhere in it
	ToFetch    int64    // bytes of the chunks that Prepare asked for
	Fetched    int64    // bytes of those that Put has written
	LinksLeft  int      // symlinks left out because they lead out of the target: into parts of the release that are not written
	LinksNamed []string // the first of them
}

// maxLinksNamed is how many symlinks Stats names: as many as a person reads.
const maxLinksNamed = 10

// Plan is the way of a directory to a part of a release: NewPlan, Prepare, Put for each chunk that Prepare asked for,
// Finish, Close. Put may be called from many goroutines at a time.
type Plan struct {
	listing
	dir    string
	source source
	calls  calls

	using sync.RWMutex // held by each Put; alone by Prepare, Finish and Close
	disk  *target      // nil before Prepare and after Close
	ready bool         // Prepare has returned without an error, and neither Finish nor Close has been called since

	mu     sync.Mutex // guards the states in places and what follows
	places []place    // of chunks that were not there, sorted
	open   int        // chunks in places that are not written
	left   []uint32   // for each entry, how many of its places are not written
	flags  []uint8    // for each entry
	stats  Stats
}

// target is the directory while it is being written.
type target struct {
	root  *os.Root
	parts *os.Root // PartDir in it
	lock  *os.File
}

// calls are what fails or differs with the disk. Tests put others in their place.
type calls struct {
	writeAt   func(f *os.File, b []byte, off int64) (int, error)
	folds     func(parts *os.Root) (bool, error)
	freeSpace func(dir string) (int64, bool)
}

// NewPlan plans to write entries, which are in tree order, into the directory dir; it writes nothing. Their paths lose
// the prefix strip: with strip "pool", the entry "pool/a" becomes dir/a. The directory with the path strip itself may
// be among the entries ("" for a whole release); it stands for dir and says that dir belongs to the plan as a whole. A
// directory among the entries comes with all that the release has in it.
//
// runs gives the chunks of an entry that has run blocks, table those of a segment; everything they need must be at
// hand. They are not called by two goroutines at a time. A [*NameError] says that this system cannot hold a name.
func NewPlan(dir string, entries []content.Entry, strip string, runs func(content.Entry) ([]content.Run, error),
	table func(segment uint32) (*content.Table, error)) (*Plan, error) {
	l, err := newListing(entries, strip)
	if err != nil {
		return nil, err
	}
	p := &Plan{
		listing: l, dir: filepath.Clean(dir),
		source: source{runs: runs, table: table, tables: map[uint32]*content.Table{}},
		calls:  calls{writeAt: (*os.File).WriteAt, folds: folds, freeSpace: freeSpace},
		left:   make([]uint32, len(entries)),
		flags:  make([]uint8, len(entries)),
	}
	for i, e := range entries {
		if runtime.GOOS == "windows" {
			if err := checkWindowsPath(p.out(i)); err != nil {
				return nil, err
			}
		}
		switch {
		case e.IsFile():
			p.stats.Files++
			p.stats.Bytes += int64(e.Size)
		case e.IsLink() && p.leaves(i):
			p.stats.LinksLeft++
			if len(p.stats.LinksNamed) < maxLinksNamed {
				p.stats.LinksNamed = append(p.stats.LinksNamed, p.out(i))
			}
		}
	}
	root, err := openTarget(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return p, nil
	}
	if err != nil {
		return nil, err
	}
	return p, root.Close()
}

// Stats gives the counters as of now.
func (p *Plan) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.stats
	s.LinksNamed = slices.Clone(s.LinksNamed)
	return s
}

// Close lets go of the directory. What was written so far stays in PartDir for the next plan. Put and Finish fail
// afterwards.
func (p *Plan) Close() error {
	p.using.Lock()
	defer p.using.Unlock()
	if p.disk == nil {
		return nil
	}
	d := p.disk
	p.disk, p.ready = nil, false
	return d.close()
}

func (d *target) close() error {
	var errs []error
	for _, c := range []interface{ Close() error }{d.parts, d.lock, d.root} {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// acquire makes dir and PartDir in it where they are not there, and takes the lock on PartDir.
func acquire(dir string) (*target, error) {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, full(err)
	}
	root, err := openTarget(dir)
	if err != nil {
		return nil, err
	}
	for range lockTries {
		var d *target
		if d, err = openParts(root); err == nil {
			return d, nil
		}
		if !errors.Is(err, errGone) {
			break
		}
	}
	root.Close()
	return nil, err
}

// lockTries is how often PartDir may vanish under our hands; once is rare.
const lockTries = 10

// errGone says that PartDir was removed, by the process that finished with it, before it could be locked.
var errGone = fmt.Errorf("%w, and others before it", ErrBusy)

func openParts(root *os.Root) (*target, error) {
	if err := makeDir(root, PartDir, 0o700); err != nil {
		return nil, err
	}
	lock, err := root.Open(PartDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errGone
	}
	if err != nil {
		return nil, err
	}
	if err := lockDir(lock); err != nil {
		lock.Close()
		return nil, err
	}
	parts, err := root.OpenRoot(PartDir)
	if err == nil {
		var a, b fs.FileInfo
		if a, err = lock.Stat(); err == nil {
			b, err = parts.Stat(".")
		}
		if err == nil && os.SameFile(a, b) {
			return &target{root: root, parts: parts, lock: lock}, nil
		}
		parts.Close()
	}
	lock.Close()
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		err = errGone
	}
	return nil, err
}

// makeDir makes a directory that this user can write to. Whatever lies in its place and is none, a symlink too, is removed.
func makeDir(root *os.Root, name string, mode fs.FileMode) error {
	err := root.Mkdir(name, mode)
	if !errors.Is(err, fs.ErrExist) {
		return full(err)
	}
	info, err := root.Lstat(name)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		if err := root.Remove(name); err != nil {
			return err
		}
		return full(root.Mkdir(name, mode))
	}
	if info.Mode().Perm()&0o700 != 0o700 {
		return root.Chmod(name, info.Mode().Perm()|0o700)
	}
	return nil
}

// partName names the part file of a path: by the first directory on it, so that what is no longer in that can be swept, and by
// all of it.
func partName(out string) string {
	top, _, below := strings.Cut(out, "/")
	if !below {
		top = "."
	}
	whole := sha256.Sum256([]byte(out))
	return dirTag(top) + hex.EncodeToString(whole[:16])
}

// dirTag is the first part of the names of all part files of files below a directory of the target.
func dirTag(dir string) string {
	d := sha256.Sum256([]byte(dir))
	return hex.EncodeToString(d[:8])
}

const (
	tagLen      = 16
	partNameLen = 48
)

// wrap says what was done to the entry i.
func (p *Plan) wrap(what string, i int, err error) error {
	return fmt.Errorf("%s %s: %w", what, filepath.Join(p.dir, p.out(i)), full(err))
}
