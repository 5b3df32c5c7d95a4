//go:build !unix

package node

import "io/fs"

// blocksOf is the length of a file.
func blocksOf(st fs.FileInfo) int64 { return st.Size() }
