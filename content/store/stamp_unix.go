//go:build unix

package store

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// stampOf gives the stamp of an open file.
func stampOf(f *os.File) (stamp, error) {
	var st unix.Stat_t
	for {
		err := unix.Fstat(int(f.Fd()), &st)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return stamp{}, &os.PathError{Op: "stat", Path: f.Name(), Err: err}
		}
		return stamp{device: uint64(st.Dev), inode: uint64(st.Ino), size: int64(st.Size),
			mtime: st.Mtim.Nano(), ctime: st.Ctim.Nano()}, nil
	}
}
