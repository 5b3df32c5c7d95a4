//go:build unix

package durable

import (
	"os"

	"golang.org/x/sys/unix"
)

// linkAt gives the file called from in one open directory a second name in another. A symlink is not followed.
func linkAt(dir *os.File, from string, toDir *os.File, to string) error {
	for {
		if err := unix.Linkat(int(dir.Fd()), from, int(toDir.Fd()), to, 0); err != unix.EINTR {
			return err
		}
	}
}
