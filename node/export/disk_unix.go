//go:build linux || darwin || freebsd

package export

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// lockDir locks an open directory until it is closed. Where directories cannot be locked, as on NFS, it does nothing.
func lockDir(f *os.File) error {
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
		return ErrBusy
	}
	return nil
}

// freeSpace is how many bytes of the file system of dir this user may still fill.
func freeSpace(dir string) (int64, bool) {
	var st unix.Statfs_t
	if unix.Statfs(dir, &st) != nil || st.Blocks == 0 {
		return 0, false
	}
	return int64(uint64(st.Bavail) * uint64(st.Bsize)), true
}
