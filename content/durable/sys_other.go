//go:build !linux

package durable

import "os"

func datasync(f *os.File) error { return f.Sync() }

// punch does nothing: holes are punched on Linux only. The space comes back when the segment is removed.
func punch(*os.File, int64, int64) error { return nil }
