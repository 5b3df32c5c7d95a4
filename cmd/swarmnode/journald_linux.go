package main

import (
	"os"
	"syscall"
)

// identity is the device and inode of a file.
func identity(st os.FileInfo) (device, inode uint64, ok bool) {
	s, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, 0, false
	}
	return uint64(s.Dev), s.Ino, true
}
