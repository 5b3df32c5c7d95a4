package origin

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"sync"

	"swarmnode/content"
)

// maxAlike is how many directories one in the other may list nothing but the same names of directories: with two links to the top it
// takes 2^maxAlike listings to find out.
const maxAlike = 8

// maxBad is how many paths that cannot be published are told of; a site with more has another problem.
const maxBad = 10_000

const (
	// entryBytes is what a listed path takes in memory beside its text, and directoryBytes what a directory takes more: the sizes of Entry,
	// and of directory with its channel.
	entryBytes, directoryBytes = 160, 288
	// maxListedBytes is how much memory the listing of a directory, with those of all that it is in, may take: maxRows of the longest
	// names, and as many subdirectories. The walk holds them until it has gone through, however little of them it has given on.
	maxListedBytes = 512 << 20
)

// A lister gives what is in the directory dir, "" for the top: paths are relative to the origin. It is called from several
// goroutines, and again after an error that may pass. Requests are how many it took.
type lister func(ctx context.Context, dir string) (entries []Entry, bad []Bad, requests int, err error)

// crawl lists a tree one directory at a time and calls each, from this goroutine, in the order of content.ComparePaths.
// A lister need not sort, choose or check.
func crawl(ctx context.Context, o *Options, before Before, list lister, each func(Entry) error) (Listing, error) {
	c := &crawler{o: o, before: before, list: list, each: each, ahead: newAhead(), most: maxListedBytes}
	return c.walk(ctx)
}

// walk is crawl.
func (c *crawler) walk(ctx context.Context) (Listing, error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var wg sync.WaitGroup
	for range c.o.Connections {
		wg.Go(func() {
			for d := c.ahead.next(); d != nil; d = c.ahead.next() {
				d.load(ctx, c)
				c.ahead.loaded(d)
				close(d.done)
			}
		})
	}
	top := newDirectory("", nil)
	c.ahead.need(top)
	err := c.visit(top)
	stop()
	c.ahead.stop()
	wg.Wait()
	return c.told, err
}

// crawler is one walk.
type crawler struct {
	o       *Options
	before  Before
	list    lister
	each    func(Entry) error
	ahead   *ahead
	told    Listing
	count   int // paths that were given on
	visited int // directories, given on or not
	listed  int // bytes that the directories take which the walk is in
	most    int // of them; maxListedBytes

	mostPaths int     // in count, and in visited; 0: MaxEntries
	pending   []Entry // with Options.Include: directories in which nothing was found so far
}

// directory is one listing.
type directory struct {
	path     string // "" for the top
	parent   *directory
	done     chan struct{} // closed when it is listed and what is in it is known to ahead: what follows is valid then
	entries  []Entry
	subs     []*directory // one for each directory in entries, in order
	bad      []Bad
	bytes    int // that all this takes
	requests int
	print    [sha256.Size]byte // of all that it says; see loops
	telling  bool              // there is a file with a stamp in it
	err      error
}

func newDirectory(path string, parent *directory) *directory {
	return &directory{path: path, parent: parent, done: make(chan struct{})}
}

// load lists the directory.
func (d *directory) load(ctx context.Context, c *crawler) {
	var entries []Entry
	p := &place{c.ahead, d}
	ctx = context.WithValue(ctx, placeKey{}, p)
	d.err = Retry(ctx, func() error {
		list := func() (err error) {
			var n int
			entries, d.bad, n, err = c.list(ctx, d.path)
			d.requests += n
			return err
		}
		err := list()
		if errors.Is(err, errLarge) {
			if err = p.wait(ctx); err == nil {
				err = list()
			}
		}
		if err != nil {
			p.leave()
		}
		return err
	})
	switch {
	case d.err != nil && d.path != "": // the caller names the top
		d.err = fmt.Errorf("list %q: %w", d.path, d.err)
	case d.err == nil:
		d.take(entries, c.o)
	}
	if len(d.bad) > maxBad {
		d.bad = slices.Clone(d.bad[:maxBad])
	}
	for i, b := range d.bad {
		d.bad[i] = b.short()
		d.bytes += entryBytes + 2*len(d.bad[i].Path)
	}
}

// short gives it with no more of a path than one may have: names in a listing may be a megabyte long.
func (b Bad) short() Bad {
	const most = 4 * content.MaxPath // each byte of a name may be quoted, as \x00
	if len(b.Path) > content.MaxPath {
		b.Path = strings.Clone(b.Path[:content.MaxPath])
	}
	if text := b.Err.Error(); len(text) > most {
		b.Err = fmt.Errorf("%w: %s…", content.ErrPath, strings.ToValidUTF8(text[:most], ""))
	}
	return b
}

// take sorts, chooses and checks what was listed, and keeps it where it is.
func (d *directory) take(entries []Entry, o *Options) {
	slices.SortStableFunc(entries, func(a, b Entry) int { return content.ComparePaths(a.Path, b.Path) })
	sum := sha256.New()
	d.entries = entries[:0]
	for i, e := range entries {
		if !e.IsDir() && !o.wanted(e.Path) || e.IsDir() && matches(o.Exclude, e.Path) {
			continue
		}
		if i > 0 && entries[i-1].Path == e.Path {
			d.bad = append(d.bad, Bad{e.Path, fmt.Errorf("%q is listed twice", e.Path)})
			continue
		}
		if err := d.check(&e); err != nil {
			d.bad = append(d.bad, Bad{e.Path, err})
			continue
		}
		name := strings.TrimPrefix(e.Path[len(d.path):], "/")
		if e.row != "" {
			fmt.Fprintf(sum, "%q %o %q\n", name, e.Mode, e.row)
		} else {
			fmt.Fprintf(sum, "%q %o %d %d %q %q\n", name, e.Mode, e.Size, e.Mtime, e.Target, e.Stamp)
		}
		if e.missing != nil {
			d.bad = append(d.bad, Bad{e.Path, e.missing})
			continue
		}
		d.entries = append(d.entries, e)
		d.bytes += entryBytes + len(e.Path) + len(e.Target) + len(e.Stamp)
		d.telling = d.telling || e.IsFile() && e.Stamp != ""
		if e.IsDir() {
			d.subs = append(d.subs, newDirectory(e.Path, d))
			d.bytes += directoryBytes
		}
	}
	clear(entries[len(d.entries):])
	sum.Sum(d.print[:0])
}

// check refuses what cannot be published.
func (d *directory) check(e *Entry) error {
	if err := content.CheckPath(e.Path); err != nil {
		return err
	}
	if dir := strings.TrimSuffix(e.Path[:strings.LastIndexByte(e.Path, '/')+1], "/"); dir != d.path {
		return fmt.Errorf("%q is listed in %q, where it is not", e.Path, cmp.Or(d.path, "/"))
	}
	switch {
	case e.IsDir(), e.IsFile() && e.Size >= SizeUnknown:
		return nil
	case e.Mode&^0o7777 == content.ModeLink:
		return content.CheckTarget(e.Path, e.Target)
	case e.IsFile():
		return fmt.Errorf("%q has a size of %d bytes", e.Path, e.Size)
	}
	return fmt.Errorf("%q is neither a file, a directory nor a symlink", e.Path)
}

// loops reports whether an ancestor says word for word the same, with a subdirectory in it: a link to it, which a server shows as a
// directory. A tree cannot contain itself. Without a file whose stamp is the same it may also be a name in itself, "lib/lib";
// a chain of those ends where a path is too long.
func (d *directory) loops() bool {
	same := 0
	for a := d.parent; a != nil && len(d.subs) > 0; a = a.parent {
		if a.print == d.print {
			same++
		}
	}
	return same > 0 && d.telling || same >= maxAlike && len(d.subs) > 1
}

// visit emits all that is in d, which is loaded, and below.
func (c *crawler) visit(d *directory) error {
	c.told.Requests += d.requests
	if d.err != nil {
		return d.err
	}
	if c.visited++; c.visited > cmp.Or(c.mostPaths, MaxEntries) { // with Options.Include they may go on for ever without a file
		return c.tooMany()
	}
	if c.listed += d.bytes; c.listed > c.most {
		return &RefusedError{Reason: fmt.Sprintf("%q and the directories that it is in list so much that it takes more than %d MiB of memory: --exclude it, or publish parts of the origin", cmp.Or(d.path, "/"), c.most>>20)}
	}
	defer func() { c.listed -= d.bytes }()
	for _, b := range d.bad {
		c.refuse(b)
	}
	next := 0
	for _, e := range d.entries {
		if !e.IsDir() {
			if err := c.emit(e); err != nil {
				return err
			}
			continue
		}
		sub := d.subs[next]
		d.subs[next] = nil // lets go of its memory
		next++
		if err := c.enter(e, sub); err != nil {
			return err
		}
	}
	return nil
}

// enter emits a directory and what is in it, unless it is gone by now or a loop.
func (c *crawler) enter(e Entry, d *directory) error {
	c.ahead.need(d)
	switch {
	case errors.Is(d.err, fs.ErrNotExist):
		c.told.Requests += d.requests
		return nil
	case errors.Is(d.err, fs.ErrPermission):
		c.told.Requests += d.requests
		if _, was := c.before.Find(e.Path); was {
			return &RefusedError{Reason: fmt.Sprintf("%q could be listed the last time and cannot now: let it be read again, or --exclude it if what is in it is to go", e.Path), Cause: d.err}
		}
		c.refuse(Bad{e.Path, fmt.Errorf("%q: %w", e.Path, d.err)})
		return nil
	case d.err == nil && d.loops():
		c.told.Requests += d.requests
		c.refuse(Bad{e.Path, fmt.Errorf("%q shows a directory above it once more: it is a link in a loop", e.Path)})
		return nil
	}
	if len(c.o.Include) > 0 {
		c.pending = append(c.pending, e)
	} else if err := c.emit(e); err != nil {
		return err
	}
	err := c.visit(d)
	if n := len(c.pending); n > 0 && c.pending[n-1].Path == e.Path {
		c.pending = c.pending[:n-1]
	}
	return err
}

func (c *crawler) refuse(b Bad) {
	if len(c.told.Bad) < maxBad {
		c.told.Bad = append(c.told.Bad, b)
	}
}

func (c *crawler) tooMany() error {
	return &RefusedError{Reason: "the origin lists more than " + strconv.Itoa(cmp.Or(c.mostPaths, MaxEntries)) + " paths: publish parts of it, or --exclude what loops"}
}

// emit gives a path on, after the directories that waited for something to be in them.
func (c *crawler) emit(e Entry) error {
	pending := c.pending
	c.pending = nil
	for _, e := range append(pending, e) {
		if c.count++; c.count > cmp.Or(c.mostPaths, MaxEntries) {
			return c.tooMany()
		}
		if err := c.each(e); err != nil {
			return err
		}
	}
	return nil
}
