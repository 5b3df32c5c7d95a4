package publish

import (
	"swarmnode/content"
	"swarmnode/content/origin"
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
	Listed        // of a file of an origin
}

// Listed is what an origin's listing says of a file beside what a directory would; see origin.Entry. Its Ctime is noted if the
// listing vouches for it, its Size may be origin.SizeUnknown.
type Listed struct {
	Stamp  string
	Fetch  string
	SHA256 content.Digest
	Last   bool
	Heavy  bool // it was found heavy when it was fetched, and the listing does not tell its size; see HeavySize
}

// noted is the change time of what an origin's listing vouches for.
const noted = 1

// listed makes the File of an origin's entry.
func listed(e origin.Entry) File {
	f := File{Path: e.Path, Mode: e.Mode}
	switch {
	case e.IsFile():
		f.Size, f.Mtime, f.Listed = e.Size, e.Mtime, Listed{Stamp: e.Stamp, Fetch: e.Fetch, SHA256: e.SHA256, Last: e.Last}
		if e.Stamp != "" {
			f.Ctime = noted
		}
	case !e.IsDir():
		f.Mtime, f.Target, f.Ctime = e.Mtime, e.Target, noted
	}
	return f
}

// entry is the reverse of listed.
func (f *File) entry() origin.Entry {
	return origin.Entry{Path: f.Path, Mode: f.Mode, Size: f.Size, Mtime: f.Mtime, Target: f.Target,
		Stamp: f.Stamp, Fetch: f.Fetch, SHA256: f.SHA256, Last: f.Last}
}

// likely reports whether an origin vouches for the content of a file being that of before, whatever else has changed.
func (f *File) likely(before *File) bool {
	return f.Path == before.Path && f.isFile() && before.isFile() && f.Stamp != "" && f.Stamp == before.Stamp && f.Size == before.Size
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
