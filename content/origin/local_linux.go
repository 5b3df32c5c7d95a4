package origin

import (
	"io/fs"
	"syscall"

	"golang.org/x/sys/unix"
)

// noWait keeps the opening of a named pipe, which takes the place of a file just now, from waiting for its writer.
const noWait = unix.O_NONBLOCK

// inodeOf gives when the inode was changed last, and its number.
func inodeOf(fi fs.FileInfo) (ctime int64, inode uint64) {
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, 0
	}
	return st.Ctim.Nano(), st.Ino
}
