//go:build !linux

package origin

import "io/fs"

// noWait is for named pipes, which are not among files here.
const noWait = 0

// inodeOf has nothing to give here.
func inodeOf(fs.FileInfo) (ctime int64, inode uint64) { return 0, 0 }
