//go:build unix

package node

import (
	"io/fs"
	"syscall"
)

// blocksOf is how many bytes a file takes on disk: a sparse one less than its length.
func blocksOf(st fs.FileInfo) int64 {
	const unit = 512 // of st_blocks, whatever the file system's own is
	if sys, ok := st.Sys().(*syscall.Stat_t); ok {
		return sys.Blocks * unit
	}
	return st.Size()
}
