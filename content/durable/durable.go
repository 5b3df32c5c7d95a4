// Package durable replaces files so that a power cut leaves the old content or the new, never a mixture and never nothing, and
// locks them against other processes.
package durable

import (
	"fmt"
	"os"
	"path/filepath"

	"swarmnode/content/guard"
)

// WriteFile replaces path by data: temporary file, sync, rename, sync of the directory.
func WriteFile(path string, data []byte, mode os.FileMode) error {
	return WriteFileOn(OS{}, path, data, mode)
}

// WriteFileOn is WriteFile on any FS.
func WriteFileOn(fsys FS, path string, data []byte, mode os.FileMode) error {
	if err := write(fsys, path, data, mode); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

func write(fsys FS, path string, data []byte, mode os.FileMode) (err error) {
	dir := filepath.Dir(path)
	f, err := fsys.CreateTemp(dir, "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			fsys.Remove(f.Name())
		}
	}()
	_, err = fsys.Write(f, data)
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil && guard.On(guard.FileSync) {
		err = fsys.Sync(f)
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = fsys.Rename(f.Name(), path)
	}
	if err != nil {
		return err
	}
	if !guard.On(guard.NameSync) {
		return nil
	}
	return fsys.SyncDir(dir)
}

// SyncDir makes the names in a directory durable.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
