//go:build !unix

package publish

import "os"

// statAt tells of path below root; it never follows a symlink. There is no change time and no inode number here: a
// file that changes and keeps its size and modification time is not noticed.
func statAt(_ *os.File, root *os.Root, path, _ string) (f File, what string, err error) {
	fi, err := root.Lstat(path)
	if err != nil {
		return File{}, "", err
	}
	if fi.Mode()&os.ModeSymlink != 0 {
		target, err := root.Readlink(path)
		return File{Path: path, Mode: 0o120777, Mtime: fi.ModTime().UnixNano(), Ctime: fi.ModTime().UnixNano(), Target: target}, "", err
	}
	f = fileOf(fi, path)
	if f.Mode == 0 {
		_, what = kindOf(0)
	}
	return f, what, nil
}

// reading is a file open for reading.
type reading struct{ *os.File }

// openAt opens name in root.
func openAt(_ *os.File, root *os.Root, name string) (*reading, error) {
	f, err := root.Open(name)
	return &reading{f}, err
}

// stat tells of the open file.
func (r *reading) stat(path string) (File, error) {
	fi, err := r.Stat()
	if err != nil {
		return File{}, err
	}
	return fileOf(fi, path), nil
}

func fileOf(fi os.FileInfo, path string) File {
	switch {
	case fi.IsDir():
		return File{Path: path, Mode: 0o040755}
	case fi.Mode().IsRegular():
		t := fi.ModTime().UnixNano()
		return File{Path: path, Mode: 0o100000 | uint32(fi.Mode().Perm()), Size: fi.Size(), Mtime: t, Ctime: t}
	}
	return File{Path: path}
}

const noFollow, noWait = 0, 0
