//go:build !unix

package durable

import (
	"errors"
	"os"
)

// linkAt is not possible here.
func linkAt(*os.File, string, *os.File, string) error { return errors.ErrUnsupported }
