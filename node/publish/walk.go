package publish

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"

	"swarmnode/content"
)

const (
	// maxWalkers is how many directories are read at the same time: more give little on one disk.
	maxWalkers = 8
	// walkAhead is how many subdirectories of a directory are read before they are needed. With the walkers it bounds
	// how many listings are in memory.
	walkAhead = 32
)

// Bad is a path that cannot be published, and why.
type Bad struct {
	Path string
	Err  error // its text names the path
}

// listing is one directory: what is in it, sorted by name.
type listing struct {
	dir   string // "" for the root
	once  sync.Once
	files []File
	subs  []*listing // one for each directory in files, in order
	bad   []Bad
	err   error // ends the walk
}

// walker goes through a tree in the order of content.ComparePaths: by name, each directory followed by what is in it.
// Directories are read ahead by other goroutines.
type walker struct {
	root    *os.Root
	exclude []string
	ahead   chan *listing
	emit    func(f *File) error
	bad     []Bad
}

// walk calls emit, always from this goroutine, for all that can be published, and gives what cannot.
func walk(ctx context.Context, root *os.Root, exclude []string, emit func(f *File) error) ([]Bad, error) {
	w := &walker{root: root, exclude: exclude, ahead: make(chan *listing, walkAhead), emit: emit}
	var wg sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), maxWalkers) {
		wg.Go(func() {
			for l := range w.ahead {
				l.load(ctx, w)
			}
		})
	}
	err := w.visit(ctx, &listing{})
	close(w.ahead)
	wg.Wait()
	return w.bad, err
}

// visit emits all that is in l's directory and below.
func (w *walker) visit(ctx context.Context, l *listing) error {
	l.load(ctx, w)
	if l.err != nil {
		return l.err
	}
	w.bad = append(w.bad, l.bad...)
	next, asked := 0, 0
	for i := range l.files {
		if err := w.emit(&l.files[i]); err != nil {
			return err
		}
		if !l.files[i].isDir() {
			continue
		}
		asked = w.prefetch(l.subs, max(asked, next+1), next+1+walkAhead)
		if err := w.visit(ctx, l.subs[next]); err != nil {
			return err
		}
		l.subs[next] = nil // lets go of its memory
		next++
	}
	return nil
}

// prefetch hands subs[from:to] to the readers, as far as they take them, and says where it stopped.
func (w *walker) prefetch(subs []*listing, from, to int) int {
	for ; from < min(to, len(subs)); from++ {
		select {
		case w.ahead <- subs[from]:
		default:
			return from
		}
	}
	return from
}

// load reads the directory, once, whoever comes first.
func (l *listing) load(ctx context.Context, w *walker) {
	l.once.Do(func() {
		if l.err = ctx.Err(); l.err != nil {
			return
		}
		if err := l.read(w); err != nil && !(l.dir != "" && errors.Is(err, fs.ErrNotExist)) {
			if l.dir == "" {
				l.err = err
			} else {
				l.bad = append(l.bad, Bad{l.dir, err})
			}
		}
	})
}

func (l *listing) read(w *walker) error {
	name := l.dir
	if name == "" {
		name = "."
	}
	dir, err := w.root.OpenFile(name, os.O_RDONLY|noFollow|noWait, 0)
	if err != nil {
		return fmt.Errorf("open directory %q: %w", l.dir, cause(err))
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return fmt.Errorf("read directory %q: %w", l.dir, cause(err))
	}
	slices.Sort(names)
	l.files = make([]File, 0, len(names))
	for _, name := range names {
		p := name
		if l.dir != "" {
			p = l.dir + "/" + name
		}
		if w.excluded(p, name) {
			continue
		}
		f, err := w.look(dir, p, name)
		switch {
		case errors.Is(err, fs.ErrNotExist): // gone since the directory was read
		case err != nil:
			l.bad = append(l.bad, Bad{p, err})
		default:
			l.files = append(l.files, f)
			if f.isDir() {
				l.subs = append(l.subs, &listing{dir: p})
			}
		}
	}
	return nil
}

// look tells of one name and refuses what cannot be published.
func (w *walker) look(dir *os.File, p, name string) (File, error) {
	if err := content.CheckPath(p); err != nil {
		return File{}, err
	}
	f, what, err := statAt(dir, w.root, p, name)
	switch {
	case err != nil:
		return f, fmt.Errorf("%q cannot be read: %w", p, cause(err))
	case what != "":
		return f, fmt.Errorf("%q is %s", p, what)
	case f.kind() == content.ModeLink:
		return f, content.CheckTarget(p, f.Target)
	}
	return f, nil
}

// excluded reports whether a pattern matches: one with a '/' the whole path, one without the name.
func (w *walker) excluded(p, name string) bool {
	for _, pattern := range w.exclude {
		subject := name
		if strings.Contains(pattern, "/") {
			subject = p
		}
		if ok, err := path.Match(strings.TrimPrefix(pattern, "/"), subject); ok && err == nil {
			return true
		}
	}
	return false
}

// cause takes the path that the os package puts before an error's reason away: the texts here name it themselves.
func cause(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}
