//go:build unix

package store

import (
	"io/fs"
	"syscall"
)

// statBlock is the unit of stat's count of blocks, whatever the file system's is.
const statBlock = 512

// allocated is how much of the disk a file takes up, without its holes.
func allocated(st fs.FileInfo) int64 {
	if s, ok := st.Sys().(*syscall.Stat_t); ok {
		return min(int64(s.Blocks)*statBlock, roundUp(st.Size()))
	}
	return st.Size()
}
