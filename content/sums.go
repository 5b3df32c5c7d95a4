package content

import (
	"encoding/hex"
	"errors"
	"strings"
)

const (
	// MaxSumsFiles is the largest tree, in files, of which Sums makes a list: what is larger has an index of its own, which its
	// clients know how to verify.
	MaxSumsFiles = 10_000
	// MaxSums is the largest such list, in bytes: 10,000 paths of 360 bytes.
	MaxSums = 4 << 20
)

// errSums ends the walk of a tree whose list would be too large.
var errSums = errors.New("too large a list")

// Sums lists the SHA-256 of every file of a release in the form that sha256sum writes and `sha256sum --check` reads: it is the
// same at everybody who has the tree. It is nil if the tree has more than MaxSumsFiles files, none, or very long paths.
func (m *Manifest) Sums(src BlockSource) ([]byte, error) {
	if m.Totals.Files > MaxSumsFiles || m.Totals.Files == 0 {
		return nil, nil
	}
	var out []byte
	files := 0
	err := Walk(m.Tree, src, "", func(e Entry) error {
		if !e.IsFile() {
			return nil
		}
		if files++; files > MaxSumsFiles {
			return errSums
		}
		path := e.Path
		if strings.Contains(path, `\`) { // sha256sum says by a first backslash that those of the name are doubled
			out, path = append(out, '\\'), strings.ReplaceAll(path, `\`, `\\`)
		}
		out = hex.AppendEncode(out, e.SHA256[:])
		out = append(append(append(out, "  "...), path...), '\n')
		if len(out) > MaxSums {
			return errSums
		}
		return nil
	})
	if errors.Is(err, errSums) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return out, nil
}
