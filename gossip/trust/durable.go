package trust

import (
	"fmt"
	"os"
	"path/filepath"
)

// folder is a directory whose files are replaced whole and durably.
type folder struct {
	dir string
	// before is called with the name of each file that is about to be written; an error stands for a crash at that
	// point. Only tests set it.
	before func(name string) error
}

// tempPrefix begins the names of files that are not finished.
const tempPrefix = ".tmp-"

// openFolder makes dir with this mode if it is not there, durably.
func openFolder(dir string, mode os.FileMode) (folder, error) {
	if _, err := os.Stat(dir); err == nil {
		return folder{dir: dir}, nil
	}
	if err := os.MkdirAll(dir, mode); err != nil {
		return folder{}, fmt.Errorf("make directory: %w", err)
	}
	return folder{dir: dir}, syncDir(filepath.Dir(dir))
}

// write replaces a file: temporary file, fsync, rename, fsync of the directory. After it returns, a power cut does not
// undo it; before, the old file is still whole.
func (f folder) write(name string, data []byte, mode os.FileMode) error {
	if f.before != nil {
		if err := f.before(name); err != nil {
			return err
		}
	}
	if err := f.replace(name, data, mode); err != nil {
		return fmt.Errorf("write %s: %w", filepath.Join(f.dir, name), err)
	}
	return nil
}

func (f folder) replace(name string, data []byte, mode os.FileMode) (err error) {
	tmp, err := os.CreateTemp(f.dir, tempPrefix) // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			tmp.Close() // the second close after a success of the first only returns an error
			os.Remove(tmp.Name())
		}
	}()
	if _, err = tmp.Write(data); err != nil {
		return err
	}
	if err = tmp.Chmod(mode); err != nil {
		return err
	}
	if err = tmp.Sync(); err != nil {
		return err
	}
	if err = tmp.Close(); err != nil {
		return err
	}
	return f.rename(filepath.Base(tmp.Name()), name)
}

// rename moves a file of the folder over another one and syncs the directory.
func (f folder) rename(from, to string) error {
	if err := os.Rename(filepath.Join(f.dir, from), filepath.Join(f.dir, to)); err != nil {
		return err
	}
	return syncDir(f.dir)
}

// maxFile is far more than any file of this package has: what is larger is not ours.
const maxFile = 1 << 20

func (f folder) read(name string) ([]byte, error) {
	path := filepath.Join(f.dir, name)
	if info, err := os.Stat(path); err == nil && info.Size() > maxFile {
		return nil, fmt.Errorf("%s has %d bytes, at most %d are expected", path, info.Size(), maxFile)
	}
	return os.ReadFile(path)
}

// sweep removes what a crash left behind and what newer versions replaced: all files for which keep is false.
// Trouble is left to the next sweep.
func (f folder) sweep(keep func(name string) bool) {
	entries, err := os.ReadDir(f.dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		if !keep(e.Name()) && e.Type().IsRegular() {
			os.Remove(filepath.Join(f.dir, e.Name()))
		}
	}
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
