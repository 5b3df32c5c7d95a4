//go:build unix

package control

import (
	"io/fs"
	"os"
	"syscall"
)

// ownedByMe reports whether a file belongs to the user of this process.
func ownedByMe(st fs.FileInfo) bool {
	sys, ok := st.Sys().(*syscall.Stat_t)
	return ok && int(sys.Uid) == os.Geteuid()
}
