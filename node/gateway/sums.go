package gateway

import (
	"fmt"
	"path"

	"swarmnode/content"
)

// sum gives the line that sha256sum -c reads for a file next to it. A name with a newline cannot be in a tree; one with a
// backslash is written as it is, as for sha256sum only the combination of both needs escaping.
func sum(e content.Entry, name string) []byte {
	return fmt.Appendf(nil, "%s  %s\n", e.SHA256, path.Base(name))
}
