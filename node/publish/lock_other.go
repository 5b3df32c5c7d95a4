//go:build !unix

package publish

import (
	"fmt"
	"os"
)

// lockFile opens the lock file. Here only the lock of the publisher's index keeps two publishers apart.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	return f, nil
}
