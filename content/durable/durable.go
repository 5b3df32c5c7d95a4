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
	if err := write(realCalls(), path, data, mode); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// calls are the system calls whose order matters. Tests watch it.
type calls struct {
	sync   func(f *os.File) error
	rename func(from, to string) error
}

func realCalls() calls { return calls{sync: (*os.File).Sync, rename: os.Rename} }

func write(do calls, path string, data []byte, mode os.FileMode) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil && guard.On(guard.FileSync) {
		err = do.sync(f)
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = do.rename(f.Name(), path)
	}
	if err != nil {
		return err
	}
	if !guard.On(guard.NameSync) {
		return nil
	}
	return syncDir(do, dir)
}

// SyncDir makes the names in a directory durable.
func SyncDir(dir string) error { return syncDir(realCalls(), dir) }

func syncDir(do calls, dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return do.sync(d)
}
