//go:build unix

package publish

import (
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// statAt tells of name in the open directory dir; it never follows a symlink. what names a kind that cannot be published.
func statAt(dir *os.File, _ *os.Root, path, name string) (f File, what string, err error) {
	var st unix.Stat_t
	fd := int(dir.Fd())
	if err := unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return File{}, "", &os.PathError{Op: "stat", Path: path, Err: err}
	}
	f, what = fileOf(&st, path)
	switch f.kind() {
	case 0:
	case 0o120000:
		buf := make([]byte, 4097) // one more than the longest target that is allowed
		n, err := unix.Readlinkat(fd, name, buf)
		if err != nil {
			return File{}, "", &os.PathError{Op: "read the symlink", Path: path, Err: err}
		}
		f.Target = string(buf[:n])
	default:
		// Who runs as root may read all, and what everybody may read needs no question.
		if st.Mode&0o004 == 0 && unix.Geteuid() != 0 {
			if err := unix.Faccessat(fd, name, unix.R_OK, unix.AT_EACCESS); err != nil {
				return File{}, "", &os.PathError{Op: "read", Path: path, Err: err}
			}
		}
	}
	return f, what, nil
}

// reading is a file open for reading. It is no os.File because twenty thousand small files would pay for the poller that
// regular files have no use for: four of nine system calls each.
type reading struct{ fd int }

// openAt opens name in the open directory dir. It follows no symlink, and waits for no writer of a named pipe.
func openAt(dir *os.File, _ *os.Root, name string) (*reading, error) {
	for {
		fd, err := unix.Openat(int(dir.Fd()), name, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
		if err == nil {
			return &reading{fd}, nil
		}
		if err != unix.EINTR {
			return nil, err
		}
	}
}

// Read is that of io.Reader.
func (r *reading) Read(b []byte) (int, error) {
	for {
		n, err := unix.Read(r.fd, b)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return 0, err
		case n == 0 && len(b) > 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}

// Close is that of io.Closer.
func (r *reading) Close() error { return unix.Close(r.fd) }

// stat tells of the open file.
func (r *reading) stat(path string) (File, error) {
	var st unix.Stat_t
	if err := unix.Fstat(r.fd, &st); err != nil {
		return File{}, err
	}
	f, _ := fileOf(&st, path)
	return f, nil
}

func fileOf(st *unix.Stat_t, path string) (File, string) {
	kind, what := kindOf(uint32(st.Mode))
	f := File{Path: path}
	if kind == 0 {
		return f, what
	}
	f.Mode = kind | uint32(st.Mode)&0o777
	if kind == 0o040000 {
		return f, ""
	}
	f.Mtime, f.Ctime, f.Inode = unix.TimespecToNsec(st.Mtim), unix.TimespecToNsec(st.Ctim), uint64(st.Ino)
	if kind == 0o100000 {
		f.Size = int64(st.Size)
	}
	return f, ""
}

// noFollow and noWait keep the opening of a directory from following a symlink and from waiting for the writer of a named pipe.
const (
	noFollow = unix.O_NOFOLLOW
	noWait   = unix.O_NONBLOCK
)
