package publish

import (
	"swarmnode/content"
)

// File is a file, directory or symlink as the file system tells of it.
type File struct {
	Path   string // relative to the root, parts separated by '/'
	Mode   uint32 // kind and permission bits as in content.Entry; 0 for a kind that cannot be published
	Size   int64  // bytes of a regular file, else 0
	Mtime  int64  // modification time in nanoseconds; 0 for directories
	Ctime  int64  // change time in nanoseconds; 0 says that the file must be hashed again; 0 for directories
	Inode  uint64 // 0 for directories
	Target string // of a symlink
}

func (f *File) kind() uint32 { return f.Mode &^ 0o7777 }

func (f *File) isFile() bool { return f.kind() == content.ModeFile }

func (f *File) isDir() bool { return f.kind() == content.ModeDir }

// same reports whether nothing says that f is not the file that was there before.
func (f *File) same(before *File) bool {
	if *f != *before {
		return false
	}
	return f.isDir() || before.Ctime != 0
}

// kindOf maps the kind bits of a POSIX mode to what a tree can hold, else 0, and names what it cannot.
func kindOf(mode uint32) (kind uint32, name string) {
	switch mode & 0o170000 {
	case content.ModeFile, content.ModeDir, content.ModeLink:
		return mode & 0o170000, ""
	case 0o140000:
		return 0, "a socket"
	case 0o010000:
		return 0, "a named pipe"
	case 0o020000, 0o060000:
		return 0, "a device"
	}
	return 0, "neither a file, a directory nor a symlink"
}
