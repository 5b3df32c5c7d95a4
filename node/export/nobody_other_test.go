//go:build !unix

package export

import "testing"

// asNobody has no other user to run as here.
func asNobody(*testing.T) bool { return false }
