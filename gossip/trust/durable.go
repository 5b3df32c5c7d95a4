package trust

import (
	"fmt"
	"os"
	"path/filepath"

	"swarmnode/content/durable"
)

// folder is a directory whose files are replaced whole and durably.
type folder struct {
	dir string
	fs  durable.FS // nil means durable.OS; only tests set another
	// before is called with the name of each file that is about to be written; an error stands for a crash at that
	// point. Only tests set it.
	before func(name string) error
}

// tempPrefix begins the names of files that are not finished.
const tempPrefix = ".tmp-"

// openFolder makes dir with this mode if it is not there, durably.
func openFolder(dir string, mode os.FileMode) (folder, error) {
	if err := durable.MkdirAll(durable.OS{}, dir, mode); err != nil {
		return folder{}, fmt.Errorf("make directory: %w", err)
	}
	// What is read from here on must not be taken back by a power cut: a process that was killed may have renamed files
	// and not come to this.
	return folder{dir: dir}, durable.SyncDir(dir)
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
	fsys := f.writer()
	tmp, err := fsys.CreateTemp(f.dir, tempPrefix) // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			tmp.Close() // the second close after a success of the first only returns an error
			fsys.Remove(tmp.Name())
		}
	}()
	if _, err = fsys.Write(tmp, data); err != nil {
		return err
	}
	if err = tmp.Chmod(mode); err != nil {
		return err
	}
	if err = fsys.Sync(tmp); err != nil {
		return err
	}
	if err = tmp.Close(); err != nil {
		return err
	}
	return f.rename(filepath.Base(tmp.Name()), name)
}

// rename moves a file of the folder over another one and syncs the directory.
func (f folder) rename(from, to string) error {
	fsys := f.writer()
	if err := fsys.Rename(filepath.Join(f.dir, from), filepath.Join(f.dir, to)); err != nil {
		return err
	}
	return fsys.SyncDir(f.dir)
}

// remove removes a file of the folder.
func (f folder) remove(name string) error { return f.writer().Remove(filepath.Join(f.dir, name)) }

func (f folder) writer() durable.FS {
	if f.fs == nil {
		return durable.OS{}
	}
	return f.fs
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
			_ = f.remove(e.Name())
		}
	}
}
