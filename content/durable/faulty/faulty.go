// Package faulty is a file system for tests: it makes chosen writes fail, and it records all of them, so that what a
// power cut between any two would have left can be laid out in a fresh directory. It syncs nothing for real.
package faulty

import (
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"swarmnode/content/durable"
)

// Kind says what an operation does.
type Kind string

// The kinds of operations. Those from Create on change names, the others a file.
const (
	Write    Kind = "write"
	Truncate Kind = "truncate"
	Punch    Kind = "punch"
	Sync     Kind = "sync"
	SyncDir  Kind = "sync directory"
	Create   Kind = "create"
	Mkdir    Kind = "make directory"
	Rename   Kind = "rename"
	Remove   Kind = "remove"
	Link     Kind = "link"
)

// Op is one operation that was recorded.
type Op struct {
	Kind   Kind
	Path   string // relative to the directory of the FS
	To     string // Rename: the new path
	File   int    // which file, whatever it is called meanwhile
	Off    int64  // Write, Punch: where; Truncate: the size
	Len    int64  // Punch
	Data   []byte // Write
	Failed bool   // Sync, SyncDir: it gave an error
}

// FS is a durable.FS over a directory. It is safe for concurrent use.
type FS struct {
	durable.OS
	root string

	// Fault is asked before each operation, and an error is what the operation gives. A write that fails has written half
	// of its bytes. May be nil.
	Fault func(Op) error

	mu    sync.Mutex // guards what follows
	ops   []Op
	base  map[int][]byte // files that were there at the start or were linked from outside
	first map[string]int // names at the start
	dirs  []string       // directories at the start
	names map[string]int
	open  map[*os.File]int
	next  int
}

var _ durable.FS = (*FS)(nil)

// New records what happens in dir. What is in it now counts as durable.
func New(dir string) (*FS, error) {
	f := &FS{root: dir, base: map[int][]byte{}, first: map[string]int{}, open: map[*os.File]int{}}
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() {
			f.dirs = append(f.dirs, f.rel(path))
			return nil
		}
		data, err := os.ReadFile(path)
		f.next++
		f.first[f.rel(path)], f.base[f.next] = f.next, data
		return err
	})
	f.names = maps.Clone(f.first)
	return f, err
}

// Len is how many operations there were.
func (f *FS) Len() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.ops)
}

// Ops gives the operations so far.
func (f *FS) Ops() []Op {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ops[:len(f.ops):len(f.ops)]
}

func (f *FS) rel(path string) string {
	r, err := filepath.Rel(f.root, path)
	if err != nil {
		return ".."
	}
	return r
}

func outside(rel string) bool {
	return rel == ".." || strings.HasPrefix(rel, ".."+string(filepath.Separator))
}

// do records op and does it, unless it has to fail.
func (f *FS) do(op Op, call func() error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.doLocked(op, call)
}

func (f *FS) doLocked(op Op, call func() error) error {
	if f.Fault != nil {
		if err := f.Fault(op); err != nil {
			if op.Kind == Sync || op.Kind == SyncDir {
				op.Failed = true
				f.ops = append(f.ops, op)
			}
			return &os.PathError{Op: string(op.Kind), Path: filepath.Join(f.root, op.Path), Err: err}
		}
	}
	if err := call(); err != nil {
		return err
	}
	if !outside(op.Path) {
		f.ops = append(f.ops, op)
	}
	return nil
}

// id says which file this is, under mu.
func (f *FS) id(file *os.File) int {
	id, ok := f.open[file]
	if !ok {
		panic("faulty: " + file.Name() + " was opened without the FS that is to change it")
	}
	return id
}

// opened notes which file was opened, under mu.
func (f *FS) opened(path string, flag int, open func() (*os.File, error)) (file *os.File, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	rel := f.rel(path)
	id, there := f.names[rel]
	switch {
	case !there && flag&os.O_CREATE != 0:
		id = f.next + 1
		err = f.doLocked(Op{Kind: Create, Path: rel, File: id}, func() error { file, err = open(); return err })
		if err == nil {
			f.next, f.names[rel] = id, id
		}
	case flag&os.O_TRUNC != 0:
		err = f.doLocked(Op{Kind: Truncate, Path: rel, File: id}, func() error { file, err = open(); return err })
	default:
		file, err = open()
	}
	if err != nil {
		return nil, err
	}
	f.open[file] = id
	return file, nil
}

// OpenFile is that of durable.FS, as are the others.
func (f *FS) OpenFile(name string, flag int, mode os.FileMode) (*os.File, error) {
	return f.opened(name, flag, func() (*os.File, error) { return os.OpenFile(name, flag, mode) })
}

func (f *FS) OpenIn(root *os.Root, name string, flag int, mode os.FileMode) (*os.File, error) {
	return f.opened(filepath.Join(root.Name(), name), flag, func() (*os.File, error) { return root.OpenFile(name, flag, mode) })
}

func (f *FS) CreateTemp(dir, pattern string) (*os.File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var file *os.File
	id := f.next + 1
	err := f.doLocked(Op{Kind: Create, Path: f.rel(filepath.Join(dir, pattern)), File: id}, func() (err error) {
		file, err = os.CreateTemp(dir, pattern)
		return err
	})
	if err != nil {
		return nil, err
	}
	rel := f.rel(file.Name())
	f.ops[len(f.ops)-1].Path = rel
	f.next, f.names[rel], f.open[file] = id, id, id
	return file, nil
}

func (f *FS) Mkdir(name string, mode os.FileMode) error {
	return f.do(Op{Kind: Mkdir, Path: f.rel(name)}, func() error { return os.Mkdir(name, mode) })
}

func (f *FS) Write(file *os.File, b []byte) (int, error) {
	at, err := file.Seek(0, io.SeekCurrent)
	if err != nil {
		return 0, err
	}
	n, err := f.WriteAt(file, b, at)
	if _, serr := file.Seek(at+int64(n), io.SeekStart); err == nil {
		err = serr
	}
	return n, err
}

func (f *FS) WriteAt(file *os.File, b []byte, off int64) (n int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	op := Op{Kind: Write, Path: f.rel(file.Name()), File: f.id(file), Off: off, Data: append([]byte(nil), b...)}
	err = f.doLocked(op, func() (err error) { n, err = file.WriteAt(b, off); return err })
	if err == nil || n > 0 {
		return n, err
	}
	op.Data = op.Data[:len(b)/2]
	if n, werr := file.WriteAt(op.Data, off); werr == nil {
		f.ops = append(f.ops, op)
		return n, err
	}
	return 0, err
}

func (f *FS) on(kind Kind, file *os.File, off, length int64, call func() error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.doLocked(Op{Kind: kind, Path: f.rel(file.Name()), File: f.id(file), Off: off, Len: length}, call)
}

func (f *FS) Truncate(file *os.File, size int64) error {
	return f.on(Truncate, file, size, 0, func() error { return file.Truncate(size) })
}

func (f *FS) Punch(file *os.File, off, length int64) error {
	return f.on(Punch, file, off, length, func() error { return f.OS.Punch(file, off, length) })
}

func (f *FS) Sync(file *os.File) error {
	return f.on(Sync, file, 0, 0, func() error { return nil })
}

func (f *FS) SyncData(file *os.File) error { return f.Sync(file) }

func (f *FS) SyncDir(dir string) error {
	rel := f.rel(dir)
	if outside(rel) {
		return nil
	}
	return f.do(Op{Kind: SyncDir, Path: rel}, func() error { return nil })
}

func (f *FS) Rename(from, to string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	a, b := f.rel(from), f.rel(to)
	id := f.names[a]
	err := f.doLocked(Op{Kind: Rename, Path: a, To: b, File: id}, func() error { return os.Rename(from, to) })
	if err == nil {
		delete(f.names, a)
		f.names[b] = id
	}
	return err
}

func (f *FS) Remove(name string) error {
	return f.remove(name, func() error { return os.Remove(name) })
}

func (f *FS) RemoveIn(root *os.Root, name string) error {
	return f.remove(filepath.Join(root.Name(), name), func() error { return root.Remove(name) })
}

func (f *FS) remove(path string, call func() error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	rel := f.rel(path)
	if st, err := os.Lstat(path); err == nil && st.IsDir() {
		return f.doLocked(Op{Kind: Remove, Path: rel}, call)
	}
	if _, there := f.names[rel]; !there {
		return call()
	}
	err := f.doLocked(Op{Kind: Remove, Path: rel, File: f.names[rel]}, call)
	if err == nil {
		delete(f.names, rel)
	}
	return err
}

func (f *FS) LinkAt(dir *os.File, from string, toDir *os.File, to string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	source := filepath.Join(dir.Name(), from)
	id, there := f.names[f.rel(source)]
	if !there {
		data, err := os.ReadFile(source)
		if err != nil {
			return err
		}
		f.next++
		id = f.next
		f.base[id] = data
	}
	rel := f.rel(filepath.Join(toDir.Name(), to))
	err := f.doLocked(Op{Kind: Link, Path: rel, File: id}, func() error { return f.OS.LinkAt(dir, from, toDir, to) })
	if err == nil {
		f.names[rel] = id
	}
	return err
}
