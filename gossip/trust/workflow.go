package trust

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
	"github.com/theupdateframework/go-tuf/v2/metadata/trustedmetadata"

	"swarmnode/content/guard"
	"swarmnode/gossip"
)

// workflow is the client workflow of the TUF specification (sections 5.3 to 5.6) for any repository, one file at a time:
// it holds what is trusted, and a step replaces it only by what is valid after it. What a collection asks for beyond that
// is in walk; a stock repository is followed by Client. Both take these steps and no others.
type workflow struct {
	now       time.Time // nothing expires at the zero time
	root      *metadata.Metadata[metadata.RootType]
	timestamp *metadata.Metadata[metadata.TimestampType]
	snapshot  *metadata.Metadata[metadata.SnapshotType]
	targets   map[string]*metadata.Metadata[metadata.TargetsType] // top-level and delegated, verified under snapshot
}

func (w *workflow) rootVersion() int64 {
	if w.root == nil {
		return 0
	}
	return w.root.Signed.Version
}

// firstRoot takes the root that the caller trusts for other reasons; it has to be signed by itself.
func (w *workflow) firstRoot(raw []byte) error {
	if _, err := peek(raw, roleRoot, MaxRoot); err != nil {
		return err
	}
	tm, err := trustedmetadata.New(raw) // it reads the clock, but nothing here depends on it
	if err != nil {
		return classify("root", err)
	}
	w.root = tm.Root
	return nil
}

// nextRoot takes the root that follows on the one that is here. Expiry of a root that is not the last one does not matter
// (specification section 5.3). If it takes keys of timestamp or snapshot away, what they signed is forgotten: only so can
// a publisher recover from a thief who signed enormous versions (section 5.3.11).
func (w *workflow) nextRoot(raw []byte) error {
	if _, err := peek(raw, roleRoot, MaxRoot); err != nil {
		return err
	}
	old := w.root
	next, err := (&trustedmetadata.TrustedMetadata{Root: oneIsEnough(old)}).UpdateRoot(raw)
	if err != nil {
		return classify(versioned(old.Signed.Version+1, roleRoot), err)
	}
	w.root = next
	if rotated(old, next) {
		w.timestamp, w.snapshot, w.targets = nil, nil, nil
	}
	return nil
}

// rotated reports whether a key may no longer sign timestamp or snapshot, or no longer alone. A key that is only added
// takes nothing from a thief, and to forget versions for it would let old files come back.
func rotated(old, now *metadata.Metadata[metadata.RootType]) bool {
	for _, role := range []string{roleTimestamp, roleSnapshot} {
		before, after := old.Signed.Roles[role], now.Signed.Roles[role]
		if before == nil || after == nil || after.Threshold > before.Threshold {
			return true
		}
		for _, id := range before.KeyIDs {
			a, b := old.Signed.Keys[id], now.Signed.Keys[id]
			if !slices.Contains(after.KeyIDs, id) || a == nil || b == nil || a.Type != b.Type || a.Value.PublicKey != b.Value.PublicKey {
				return true
			}
		}
	}
	return false
}

// takeTimestamp takes a newer timestamp. One of the same version is metadata.ErrEqualVersionNumber.
func (w *workflow) takeTimestamp(raw []byte) error {
	if _, err := peek(raw, roleTimestamp, MaxTimestamp); err != nil {
		return err
	}
	tm := w.steps()
	if guard.On(guard.TimestampRollback) {
		tm.Timestamp = w.timestamp
	}
	next, err := tm.UpdateTimestamp(raw)
	if !guard.On(guard.Signature) {
		next, err = metadata.Timestamp().FromBytes(raw)
	}
	if err != nil {
		return classify(timestampFile, err)
	}
	w.timestamp = next
	return nil
}

// takeSnapshot takes the snapshot that the timestamp names. It forgets the targets, which hang on the old one.
func (w *workflow) takeSnapshot(raw []byte, limit int) error {
	if _, err := peek(raw, roleSnapshot, limit); err != nil {
		return err
	}
	tm := w.steps()
	tm.Timestamp, tm.Snapshot = w.timestamp, w.snapshot
	next, err := tm.UpdateSnapshot(raw, false)
	if err != nil {
		return classify(roleSnapshot+".json", err)
	}
	w.snapshot, w.targets = next, map[string]*metadata.Metadata[metadata.TargetsType]{}
	return nil
}

// takeTargets takes the targets file of a role that another one (or root) delegates to.
func (w *workflow) takeTargets(raw []byte, role, delegator string, limit int) error {
	if _, err := peek(raw, roleTargets, limit); err != nil {
		return err
	}
	tm := w.steps()
	tm.Timestamp, tm.Snapshot, tm.Targets = w.timestamp, w.snapshot, w.targets
	next, err := tm.UpdateDelegatedTargets(raw, role, delegator)
	if err != nil {
		return classify(role+".json", err)
	}
	w.targets[role] = next
	return nil
}

// steps gives go-tuf's view of what is trusted. A step of it that fails leaves its mark there, so each has its own.
func (w *workflow) steps() *trustedmetadata.TrustedMetadata {
	now := w.now
	if !guard.On(guard.Expiry) {
		now = time.Time{}
	}
	return &trustedmetadata.TrustedMetadata{Root: oneIsEnough(w.root), RefTime: now}
}

// oneIsEnough gives a root unchanged, unless the guard of its thresholds is off.
func oneIsEnough(root *metadata.Metadata[metadata.RootType]) *metadata.Metadata[metadata.RootType] {
	if guard.On(guard.Threshold) {
		return root
	}
	lax := *root
	lax.Signed.Roles = map[string]*metadata.Role{}
	for name, role := range root.Signed.Roles {
		lax.Signed.Roles[name] = &metadata.Role{KeyIDs: role.KeyIDs, Threshold: 1}
	}
	return &lax
}

// delegates reports whether a role may say something about a target path (specification section 4.5). go-tuf's own never
// matches path_hash_prefixes: it compares them with the hash in Base64.
func delegates(role *metadata.DelegatedRole, target string) bool {
	for _, pattern := range role.Paths {
		if strings.Count(pattern, "/") != strings.Count(target, "/") {
			continue // a * stands for no slash
		}
		if ok, err := path.Match(pattern, target); ok && err == nil {
			return true
		}
	}
	sum := sha256.Sum256([]byte(target))
	digest := hex.EncodeToString(sum[:])
	return slices.ContainsFunc(role.PathHashPrefixes, func(prefix string) bool { return strings.HasPrefix(digest, prefix) })
}

// recovered ends a panic of the TUF library: a bug that somebody has found must not take the node down.
func recovered(count *uint64, err *error) {
	if p := recover(); p != nil {
		*count++
		*err = fmt.Errorf("%w: the verifier panicked: %v", gossip.ErrMalformed, p)
	}
}
