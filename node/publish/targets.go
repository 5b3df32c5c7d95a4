package publish

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"swarmnode/content"
	"swarmnode/gossip/trust"
)

// HeavySize is from which size on a file is vouched for by itself, in bytes: CD images, disk images, model files. Smaller
// ones are many, and a release vouches for at most trust.MaxTargets.
const HeavySize = 256 << 20

// targets lists what a release vouches for beside its manifest, so that any TUF client can verify it: the checksums of a small
// tree, and the largest of the heavy files.
func (r *run) targets(m *content.Manifest) ([]trust.SignedFile, error) {
	sums, err := m.Sums(r.cfg.Pack)
	if err != nil {
		return nil, fmt.Errorf("list the checksums of the tree: %w", err)
	}
	var heavy []trust.SignedFile
	for _, path := range r.changes.heavy {
		e, err := content.Lookup(m.Tree, r.cfg.Pack, path)
		if errors.Is(err, content.ErrNoEntry) {
			continue // it is listed and cannot be read: it was left out
		}
		if err != nil {
			return nil, fmt.Errorf("find a heavy file: %w", err)
		}
		if e.IsFile() && e.Size >= uint64(r.heavy) {
			heavy = append(heavy, trust.SignedFile{Path: trust.TreeTarget + path, Size: int64(e.Size), SHA256: e.SHA256})
		}
	}
	slices.SortStableFunc(heavy, func(a, b trust.SignedFile) int { return cmp.Compare(b.Size, a.Size) })
	if sums != nil {
		heavy = slices.Insert(heavy, 0, trust.SignedFile{Path: trust.SumsTarget, Size: int64(len(sums)), SHA256: content.Sum(sums)})
	}
	return trust.FitTargets(heavy), nil
}
