//go:build !unix

package node

import (
	"fmt"
	"os"
	"path/filepath"
)

// lockHome takes the home directory for this process: on these systems a file that is open cannot be removed.
func lockHome(home string) (*os.File, error) {
	path := filepath.Join(home, "lock")
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return nil, fmt.Errorf("%w: %s", ErrHomeBusy, home)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock home directory: %w", err)
	}
	return f, nil
}
