package store

import (
	"container/list"
	"os"
	"sync"
	"time"
)

// idleFile is how long a file without users stays open. Each release brings a segment, so without an end
// there would be a descriptor more for each release until the limit; a reader of many parts of a file comes back much sooner.
const idleFile = 10 * time.Second

// files keeps the most recently used files open. A file that is in use is never closed: it may push the number of
// open files over the limit by as many as there are users at that moment.
type files[K comparable] struct {
	open  func(key K, create bool) (*os.File, error)
	limit int
	now   func() time.Time

	mu     sync.Mutex // guards what follows and the fields of every file
	byKey  map[K]*file[K]
	idle   list.List // files with no user, the one used last in front
	closed bool
	spares int // in all files
}

// file is an open file with a number of users.
type file[K comparable] struct {
	*os.File
	key   K
	users int
	gone  bool          // no longer in byKey: the last user closes it
	place *list.Element // in idle, nil while in use
	since time.Time     // in idle

	spares []*os.File // the same file opened again for one reader each, and not in use; see borrow
}

func newFiles[K comparable](limit int, open func(key K, create bool) (*os.File, error)) *files[K] {
	return &files[K]{open: open, limit: limit, now: time.Now, byKey: map[K]*file[K]{}}
}

// get opens the file or finds it open. The caller hands it back with put.
func (c *files[K]) get(key K, create bool) (*file[K], error) {
	if f, err := c.use(key, nil); f != nil || err != nil {
		return f, err
	}
	raw, err := c.open(key, create)
	if err != nil {
		return nil, err
	}
	return c.use(key, raw)
}

// use finds an open file, or takes in the one just opened.
func (c *files[K]) use(key K, raw *os.File) (*file[K], error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		if raw != nil {
			raw.Close()
		}
		return nil, ErrClosed
	}
	f := c.byKey[key]
	switch {
	case f != nil && raw != nil:
		raw.Close() // somebody was faster
	case f == nil && raw == nil:
		return nil, nil
	case f == nil:
		f = &file[K]{File: raw, key: key}
		c.byKey[key] = f
	}
	if f.place != nil {
		c.idle.Remove(f.place)
		f.place = nil
	}
	f.users++
	return f, nil
}

// put hands a file back, and closes those that nobody needed for a while.
func (c *files[K]) put(f *file[K]) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f.users--
	switch {
	case f.users > 0:
	case f.gone:
		f.Close()
	default:
		f.since = c.now()
		f.place = c.idle.PushFront(f)
		c.trim(f.since)
	}
}

// rest closes the files that nobody needed for a while.
func (c *files[K]) rest() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.trim(c.now())
}

// trim closes what rests too long, and what is too much. The caller holds mu.
func (c *files[K]) trim(now time.Time) {
	for c.idle.Len() > 0 {
		oldest := c.idle.Back().Value.(*file[K])
		if len(c.byKey) <= c.limit && now.Sub(oldest.since) < idleFile {
			return
		}
		c.forget(oldest)
	}
}

// drop closes the file with this key, once nobody uses it. The next get opens it anew.
func (c *files[K]) drop(key K) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f := c.byKey[key]; f != nil {
		c.forget(f)
	}
}

func (c *files[K]) forget(f *file[K]) {
	delete(c.byKey, f.key)
	f.gone = true
	c.closeSpares(f)
	if f.place != nil {
		c.idle.Remove(f.place)
		f.place = nil
		f.Close() // nothing was written that a close could still report: data is synced before it counts
	}
}

// len is how many files are open and known.
func (c *files[K]) len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.byKey)
}

// close drops all files and refuses new ones.
func (c *files[K]) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for _, f := range c.byKey {
		c.forget(f)
	}
}
