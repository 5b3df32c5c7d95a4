package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// FS is everything that changes files: all writes of stored content and of state go through one, so that tests can make
// each of them fail or cut the power between any two. Reads need none, files are plain ones in either case.
type FS interface {
	// OpenFile opens or makes a file, as os.OpenFile.
	OpenFile(name string, flag int, mode os.FileMode) (*os.File, error)
	// OpenIn is OpenFile in a directory that the name cannot leave.
	OpenIn(root *os.Root, name string, flag int, mode os.FileMode) (*os.File, error)
	// CreateTemp makes a file with a name of its own, as os.CreateTemp.
	CreateTemp(dir, pattern string) (*os.File, error)
	// Mkdir makes one directory.
	Mkdir(name string, mode os.FileMode) error
	// Write writes at the end of what was written to f.
	Write(f *os.File, b []byte) (int, error)
	// WriteAt writes at an offset.
	WriteAt(f *os.File, b []byte, off int64) (int, error)
	// Truncate gives f this size.
	Truncate(f *os.File, size int64) error
	// Punch gives a range of f back to the file system, which then reads as zeros. Where that is not possible it does nothing.
	Punch(f *os.File, off, length int64) error
	// Sync makes data and metadata of f durable. What was written before one that failed may be lost even if the next
	// does not fail: the kernel may have thrown it away.
	Sync(f *os.File) error
	// SyncData is Sync without metadata that is not needed to find the data.
	SyncData(f *os.File) error
	// SyncDir makes the names in a directory durable.
	SyncDir(dir string) error
	// Rename moves a file over another.
	Rename(from, to string) error
	// Remove removes a name.
	Remove(name string) error
	// RemoveIn is Remove in a directory that the name cannot leave.
	RemoveIn(root *os.Root, name string) error
	// LinkAt gives the file called from in one open directory a second name in another. A symlink is not followed.
	LinkAt(dir *os.File, from string, toDir *os.File, to string) error
}

// OS is the file system of the machine.
type OS struct{}

var _ FS = OS{}

// OpenFile is that of FS, as are the others.
func (OS) OpenFile(name string, flag int, mode os.FileMode) (*os.File, error) {
	return os.OpenFile(name, flag, mode)
}

func (OS) OpenIn(root *os.Root, name string, flag int, mode os.FileMode) (*os.File, error) {
	return root.OpenFile(name, flag, mode)
}

func (OS) CreateTemp(dir, pattern string) (*os.File, error) { return os.CreateTemp(dir, pattern) }

func (OS) Mkdir(name string, mode os.FileMode) error { return os.Mkdir(name, mode) }

func (OS) Write(f *os.File, b []byte) (int, error) { return f.Write(b) }

func (OS) WriteAt(f *os.File, b []byte, off int64) (int, error) { return f.WriteAt(b, off) }

func (OS) Truncate(f *os.File, size int64) error { return f.Truncate(size) }

func (OS) Punch(f *os.File, off, length int64) error { return punch(f, off, length) }

func (OS) Sync(f *os.File) error { return f.Sync() }

func (OS) SyncData(f *os.File) error { return datasync(f) }

func (OS) SyncDir(dir string) error { return SyncDir(dir) }

func (OS) Rename(from, to string) error { return os.Rename(from, to) }

func (OS) Remove(name string) error { return os.Remove(name) }

func (OS) RemoveIn(root *os.Root, name string) error { return root.Remove(name) }

func (OS) LinkAt(dir *os.File, from string, toDir *os.File, to string) error {
	return linkAt(dir, from, toDir, to)
}

// MkdirAll makes a directory and those above it that are not there, and makes their names durable: without that a power
// cut can take a directory away with all that was synced in it.
func MkdirAll(fsys FS, dir string, mode os.FileMode) error {
	dir = filepath.Clean(dir)
	parent := filepath.Dir(dir)
	err := fsys.Mkdir(dir, mode)
	switch {
	case errors.Is(err, fs.ErrNotExist) && parent != dir:
		if err := MkdirAll(fsys, parent, mode); err != nil {
			return err
		}
		if err := fsys.Mkdir(dir, mode); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	case err != nil:
		st, serr := os.Stat(dir)
		if serr != nil || !st.IsDir() {
			return err
		}
		// A process that was killed may have made it and not come to this. The directory above may belong to somebody else.
		if err := fsys.SyncDir(parent); err != nil && !errors.Is(err, fs.ErrPermission) {
			return err
		}
		return nil
	}
	err = fsys.SyncDir(parent)
	if err != nil {
		_ = fsys.Remove(dir) // to sync the same name again would prove nothing
	}
	return err
}
