//go:build !unix

package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// Lock takes the lock file at path until the file is closed or the process ends: on these systems a file that is open cannot be
// removed. The error is ErrLocked if another has it.
func Lock(path string) (*os.File, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", path, ErrLocked)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	return f, nil
}
