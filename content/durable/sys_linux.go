package durable

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// datasync makes the data of f durable, and of its metadata only what is needed to find the data.
func datasync(f *os.File) error {
	for {
		err := unix.Fdatasync(int(f.Fd()))
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// punch gives a range of f back to the file system. Where that is not possible it does nothing.
func punch(f *os.File, off, length int64) error {
	err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, length)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		return nil
	}
	return err
}
