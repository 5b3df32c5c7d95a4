package trust

import (
	"encoding/hex"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"swarmnode/content"
	"swarmnode/gossip"
)

// SignedFile is a file that a release vouches for by its own hash, so that any TUF client can verify it.
type SignedFile struct {
	Path   string // the target path: SumsTarget, or TreeTarget and the path in the tree
	Size   int64
	SHA256 content.Digest
}

// targetOverhead is what an entry takes beside its path: {"hashes":{"sha256":"<64 digits>"},"length":<up to 19>} with quotes,
// colon and comma.
const targetOverhead = 128

// FitTargets gives those of the files, in their order, that one release can vouch for: at most MaxTargets with the manifest, in
// MaxTargetBytes, and none whose path no delegation covers.
func FitTargets(files []SignedFile) []SignedFile {
	all := &metadata.DelegatedRole{Paths: releasePatterns()}
	size := 0
	var fit []SignedFile
	for _, f := range files {
		// A quote or a backslash takes one byte more in JSON.
		need := len(f.Path) + strings.Count(f.Path, `"`) + strings.Count(f.Path, `\`) + targetOverhead
		if f.Size < 0 || path.Clean(f.Path) != f.Path || strings.HasPrefix(f.Path, targetPrefix) || !delegates(all, f.Path) {
			continue
		}
		if len(fit) < MaxTargets-1 && size+need <= MaxTargetBytes {
			fit, size = append(fit, f), size+need
		}
	}
	return fit
}

// releaseTarget finds the one manifest root among the targets of the release role and gives the name of its collection.
func releaseTarget(m *metadata.Metadata[metadata.TargetsType]) (string, error) {
	if len(m.Signed.Targets) > MaxTargets {
		return "", fmt.Errorf("%w: %d targets, at most %d are allowed", gossip.ErrMalformed, len(m.Signed.Targets), MaxTargets)
	}
	var names []string
	for p := range m.Signed.Targets {
		if name, ok := strings.CutPrefix(p, targetPrefix); ok {
			names = append(names, name)
		}
	}
	if len(names) != 1 {
		return "", fmt.Errorf("%w: %d releases in one file", gossip.ErrMalformed, len(names))
	}
	return names[0], nil
}

// furtherTargets says in words what is signed beside the manifest.
func furtherTargets(m *metadata.Metadata[metadata.TargetsType]) []string {
	var out []string
	for _, p := range slices.Sorted(maps.Keys(m.Signed.Targets)) {
		if f := m.Signed.Targets[p]; !strings.HasPrefix(p, targetPrefix) && f != nil {
			out = append(out, fmt.Sprintf("  %q, %d bytes, SHA-256 %s", p, f.Length, hex.EncodeToString(f.Hashes["sha256"])))
		}
	}
	return out
}
