//go:build !unix

package store

import "io/fs"

func allocated(st fs.FileInfo) int64 { return st.Size() }
