package export

import (
	"errors"
	"math"
	"os"
	"path"
	"time"

	"golang.org/x/sys/unix"
)

// syncsAtEnd says that syncTree makes everything durable at once. Then a new file need not be synced by itself, which would
// cost some milliseconds for each of a million files.
const syncsAtEnd = true

// syncTree makes all that was written below root durable.
func syncTree(root *os.Root, _ []string) error {
	f, err := root.Open(".")
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Syncfs(int(f.Fd()))
}

// nextData is where the first byte at or behind off is that somebody wrote; all before it is a hole.
func nextData(f *os.File, off int64) int64 {
	n, err := f.Seek(off, unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) {
		return math.MaxInt64
	}
	if err != nil {
		return off
	}
	return n
}

// setLinkTime sets the time of a symlink itself, where the file system can.
func setLinkTime(root *os.Root, name string, t time.Time) error {
	dir, err := root.Open(path.Dir(name))
	if err != nil {
		return err
	}
	defer dir.Close()
	ts := unix.NsecToTimespec(t.UnixNano())
	err = unix.UtimesNanoAt(int(dir.Fd()), path.Base(name), []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.ENOSYS) {
		return nil
	}
	return err
}
