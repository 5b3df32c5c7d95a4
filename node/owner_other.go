//go:build !unix

package node

import "os"

// checkOwner lets all pass: here files have no owner by which users are told apart.
func checkOwner(string, os.FileInfo) error { return nil }
