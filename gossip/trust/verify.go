package trust

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/theupdateframework/go-tuf/v2/metadata"
	"github.com/theupdateframework/go-tuf/v2/metadata/trustedmetadata"

	"swarmnode/content"
	"swarmnode/content/guard"
	"swarmnode/gossip"
)

// trusted is one consistent set of verified files. It is never changed once made.
type trusted struct {
	root      *metadata.Metadata[metadata.RootType] // nil: nothing is known yet
	timestamp *metadata.Metadata[metadata.TimestampType]
	snapshot  *metadata.Metadata[metadata.SnapshotType]
	targets   *metadata.Metadata[metadata.TargetsType]
	head      gossip.Head
	files     map[string][]byte // exact bytes: every root, and the current file of each other role
}

func (t *trusted) rootVersion() int64 {
	if t.root == nil {
		return 0
	}
	return t.root.Signed.Version
}

// walk is one run of the TUF client workflow (specification section 5) over the files of a bundle and those that are
// here. It changes nothing; what it found valid is in next.
type walk struct {
	id     content.ID
	now    time.Time
	have   *trusted
	floor  gossip.Head // newest release ever verified; never go behind it
	bundle map[string][]byte
	next   trusted
	used   map[string]bool // files of the bundle that had a place
	reset  bool            // the timestamp or snapshot keys changed: their old versions no longer count (section 5.3.11)
}

// verify checks a bundle and returns the set that holds after it.
func verify(id content.ID, now time.Time, have *trusted, floor gossip.Head, bundle map[string][]byte) (*trusted, error) {
	w := &walk{id: id, now: now, have: have, floor: floor, bundle: bundle, used: map[string]bool{timestampFile: true}}
	w.next.files = map[string][]byte{}
	ts, err := w.first()
	if err != nil {
		return nil, err
	}
	if err := w.roots(); err != nil {
		return nil, err
	}
	tm, err := w.timestamp(ts)
	if err != nil {
		return nil, err
	}
	if err := w.chain(tm); err != nil {
		return nil, err
	}
	for name := range bundle {
		if !w.used[name] {
			return nil, fmt.Errorf("%w: the bundle carries %s, which it does not name", gossip.ErrMalformed, name)
		}
	}
	return &w.next, nil
}

// first drops what is too large or old, before any cryptography.
func (w *walk) first() (peeked, error) {
	raw, ok := w.bundle[timestampFile]
	if !ok {
		return peeked{}, fmt.Errorf("%w: bundle without a timestamp", gossip.ErrMalformed)
	}
	if bytes.Equal(raw, w.have.files[timestampFile]) {
		return peeked{}, gossip.ErrOld
	}
	ts, err := peek(raw, roleTimestamp, MaxTimestamp)
	if err != nil {
		return peeked{}, err
	}
	// A newer root may take back versions that were signed with stolen keys, so only it lets a smaller version through.
	if guard.On(guard.TimestampRollback) && w.have.timestamp != nil && ts.version < w.have.timestamp.Signed.Version && ts.root <= w.have.rootVersion() {
		return peeked{}, fmt.Errorf("timestamp %d: %w", ts.version, gossip.ErrOld)
	}
	return ts, nil
}

// roots takes over the roots that are here and chains those of the bundle to them.
func (w *walk) roots() error {
	w.next.root = w.have.root
	var versions []int64
	for name := range w.bundle {
		if v, ok := rootVersion(name); ok {
			versions = append(versions, v)
		}
	}
	for name, raw := range w.have.files {
		if _, ok := rootVersion(name); ok {
			w.next.files[name] = raw
		}
	}
	if len(versions) > MaxNewRoots {
		return fmt.Errorf("%w: %d roots at once, at most %d are allowed", gossip.ErrMalformed, len(versions), MaxNewRoots)
	}
	slices.Sort(versions)
	for _, v := range versions {
		name := versioned(v, roleRoot)
		w.used[name] = true
		if old, ok := w.have.files[name]; ok {
			if !bytes.Equal(old, w.bundle[name]) {
				return fmt.Errorf("%w: another %s than the one here", gossip.ErrMalformed, name)
			}
			continue
		}
		if v != w.next.rootVersion()+1 {
			return fmt.Errorf("%s: %w: the newest one here is %d", name, gossip.ErrUnknownRoot, w.next.rootVersion())
		}
		root, err := nextRoot(w.id, w.next.root, w.bundle[name])
		if err != nil {
			return err
		}
		w.reset = w.reset || rotated(w.next.root, root)
		w.next.root, w.next.files[name] = root, w.bundle[name]
	}
	return nil
}

// nextRoot verifies the root that follows on root; the first one (root is nil) must hash to the collection's ID.
// Expiry of a root that is not the last one does not matter (TUF specification section 5.3).
func nextRoot(id content.ID, root *metadata.Metadata[metadata.RootType], raw []byte) (*metadata.Metadata[metadata.RootType], error) {
	if _, err := peek(raw, roleRoot, MaxRoot); err != nil {
		return nil, err
	}
	if root == nil {
		if guard.On(guard.RootPin) && content.NewID(raw) != id {
			return nil, fmt.Errorf("%w: the first root does not hash to the ID %s", gossip.ErrMalformed, id)
		}
		tm, err := trustedmetadata.New(raw) // it reads the clock, but nothing here depends on it
		if err != nil {
			return nil, classify("1.root.json", err)
		}
		if tm.Root.Signed.Version != 1 {
			return nil, fmt.Errorf("%w: the first root has version %d", gossip.ErrMalformed, tm.Root.Signed.Version)
		}
		return tm.Root, canonical(tm.Root, raw, tm.Root.Signed.Roles[roleRoot].KeyIDs)
	}
	tm := &trustedmetadata.TrustedMetadata{Root: root}
	next, err := tm.UpdateRoot(raw)
	if err != nil {
		return nil, classify(versioned(root.Signed.Version+1, roleRoot), err)
	}
	return next, canonical(next, raw, root.Signed.Roles[roleRoot].KeyIDs, next.Signed.Roles[roleRoot].KeyIDs)
}

// rotated reports whether the keys of timestamp or snapshot differ.
func rotated(old, now *metadata.Metadata[metadata.RootType]) bool {
	if old == nil {
		return false
	}
	for _, role := range []string{roleTimestamp, roleSnapshot} {
		if !slices.Equal(old.Signed.Roles[role].KeyIDs, now.Signed.Roles[role].KeyIDs) {
			return true
		}
	}
	return false
}

// timestamp verifies the timestamp of the bundle under the newest root.
func (w *walk) timestamp(ts peeked) (*trustedmetadata.TrustedMetadata, error) {
	root, version := w.next.root, w.next.rootVersion()
	switch {
	case root == nil || ts.root > version:
		return nil, fmt.Errorf("timestamp %d under root %d: %w", ts.version, ts.root, gossip.ErrUnknownRoot)
	case guard.On(guard.RootExpiry) && root.Signed.IsExpired(w.now):
		return nil, fmt.Errorf("root %d expired %s, a newer one is wanted: %w", version, root.Signed.Expires, gossip.ErrUnknownRoot)
	}
	role := root.Signed.Roles[roleTimestamp]
	for _, key := range ts.keys {
		if slices.Contains(role.KeyIDs, key) {
			continue
		}
		switch {
		case ts.root == version:
			return nil, fmt.Errorf("timestamp %d: %w: by a stranger's key", ts.version, gossip.ErrBadSignature)
		case ts.root == 0:
			return nil, fmt.Errorf("timestamp %d: %w", ts.version, gossip.ErrUnknownRoot)
		default:
			return nil, fmt.Errorf("timestamp %d: %w: its keys were replaced", ts.version, gossip.ErrOld)
		}
	}
	tm := &trustedmetadata.TrustedMetadata{Root: root, RefTime: w.now, Targets: map[string]*metadata.Metadata[metadata.TargetsType]{}}
	if !guard.On(guard.Expiry) {
		tm.RefTime = time.Time{}
	}
	twin := false
	if old := w.have.timestamp; old != nil && !w.reset {
		// Other bytes under the version that is here: whoever has the keys signed twice, if the signature is good.
		twin = old.Signed.Version == ts.version
		if !twin && guard.On(guard.TimestampRollback) {
			tm.Timestamp, tm.Snapshot = old, nil
		}
	}
	raw := w.bundle[timestampFile]
	got, err := tm.UpdateTimestamp(raw)
	if !guard.On(guard.Signature) {
		got, err = metadata.Timestamp().FromBytes(raw)
		tm.Timestamp = got
	}
	if err != nil {
		return nil, classify(timestampFile, err)
	}
	if err := canonical(got, raw, role.KeyIDs); err != nil {
		return nil, fmt.Errorf("%s: %w", timestampFile, err)
	}
	if len(got.Signatures) != role.Threshold || got.Signed.Version != ts.version {
		return nil, fmt.Errorf("%w: timestamp with %d signatures, exactly %d are wanted", gossip.ErrMalformed,
			len(got.Signatures), role.Threshold)
	}
	if twin && guard.On(guard.TimestampFork) {
		return nil, fmt.Errorf("timestamp %d: %w", ts.version, gossip.ErrFork)
	}
	w.next.timestamp, w.next.files[timestampFile] = got, raw
	return tm, nil
}

// chain follows the timestamp down: snapshot, targets, release.
func (w *walk) chain(tm *trustedmetadata.TrustedMetadata) error {
	entry := w.next.timestamp.Signed.Meta[roleSnapshot+".json"]
	name, raw, err := w.need(roleSnapshot, entry)
	if err != nil {
		return err
	}
	if !w.reset {
		tm.Snapshot = w.have.snapshot
	}
	if w.next.snapshot, err = tm.UpdateSnapshot(raw, false); err != nil {
		return classify(name, err)
	}
	if err := canonical(w.next.snapshot, raw, tm.Root.Signed.Roles[roleSnapshot].KeyIDs); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	name, raw, err = w.need(roleTargets, w.next.snapshot.Signed.Meta[roleTargets+".json"])
	if err != nil {
		return err
	}
	if w.next.targets, err = tm.UpdateTargets(raw); err != nil {
		return classify(name, err)
	}
	if err := canonical(w.next.targets, raw, tm.Root.Signed.Roles[roleTargets].KeyIDs); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	delegation, err := releaseDelegation(w.next.targets)
	if err != nil {
		return err
	}
	name, raw, err = w.need(roleRelease, w.next.snapshot.Signed.Meta[roleRelease+".json"])
	if err != nil {
		return err
	}
	release, err := tm.UpdateDelegatedTargets(raw, roleRelease, roleTargets)
	if err != nil {
		return classify(name, err)
	}
	if err := canonical(release, raw, delegation.KeyIDs); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return w.release(release, delegation)
}

// need finds the file that an entry of signed metadata names. An entry that names other bytes than before under the same
// version proves that the publisher's keys signed twice.
func (w *walk) need(role string, entry *metadata.MetaFiles) (string, []byte, error) {
	if err := checkEntry(role, entry); err != nil {
		return "", nil, err
	}
	name := versioned(entry.Version, role)
	matches := func(raw []byte) bool {
		sum := sha256.Sum256(raw)
		return int64(len(raw)) == entry.Length && bytes.Equal(sum[:], entry.Hashes["sha256"])
	}
	raw, here := w.have.files[name]
	if here && !matches(raw) {
		if !w.reset && guard.On(guard.FileFork) {
			return "", nil, fmt.Errorf("%s: %w", name, gossip.ErrFork)
		}
		here = false
	}
	if offered, ok := w.bundle[name]; ok {
		if guard.On(guard.FileDigest) && !matches(offered) {
			return "", nil, fmt.Errorf("%w: %s of the bundle is not the signed one", gossip.ErrMalformed, name)
		}
		raw, here, w.used[name] = offered, true, true
	}
	if !here {
		return "", nil, &IncompleteError{Name: name, Size: entry.Length}
	}
	limited := roleTargets
	if role == roleSnapshot {
		limited = roleSnapshot
	}
	if _, err := peek(raw, limited, gossip.MaxBundle); err != nil {
		return "", nil, err
	}
	w.next.files[name] = raw
	return name, raw, nil
}

// releaseDelegation finds the online role that may sign releases.
func releaseDelegation(targets *metadata.Metadata[metadata.TargetsType]) (metadata.DelegatedRole, error) {
	if targets.Signed.Delegations != nil {
		for _, r := range targets.Signed.Delegations.Roles {
			if r.Name == roleRelease {
				return r, nil
			}
		}
	}
	return metadata.DelegatedRole{}, fmt.Errorf("%w: targets delegates nothing to %s", gossip.ErrMalformed, roleRelease)
}

// custom is what the publisher says about the target beside its hash.
type custom struct {
	Bytes   uint64 `json:"bytes"` // totals of the tree
	CID     string `json:"cid"`   // of the manifest root
	Files   uint64 `json:"files"`
	Name    string `json:"name"`    // of the collection
	Release uint64 `json:"release"` // number
}

// release reads the one release out of the release role's targets and compares it with the newest one ever seen.
func (w *walk) release(m *metadata.Metadata[metadata.TargetsType], delegation metadata.DelegatedRole) error {
	if len(m.Signed.Targets) > MaxTargets {
		return fmt.Errorf("%w: %d targets, at most %d are allowed", gossip.ErrMalformed, len(m.Signed.Targets), MaxTargets)
	}
	path := ""
	for _, p := range slices.Sorted(maps.Keys(m.Signed.Targets)) {
		if !strings.HasPrefix(p, targetPrefix) {
			continue
		}
		if path != "" {
			return fmt.Errorf("%w: two releases in one file", gossip.ErrMalformed)
		}
		path = p
	}
	if ok, err := delegation.IsDelegatedPath(path); err != nil || !ok {
		return fmt.Errorf("%w: the release role may not sign %.80q", gossip.ErrMalformed, path)
	}
	head, err := readTarget(strings.TrimPrefix(path, targetPrefix), m.Signed.Targets[path])
	if err != nil {
		return err
	}
	if head.Signed, err = signedTime(w.next.timestamp); err != nil {
		return err
	}
	head.Collection, head.TimestampVersion = w.id, w.next.timestamp.Signed.Version
	head.Expires = m.Signed.Expires
	for _, t := range []time.Time{w.next.timestamp.Signed.Expires, w.next.snapshot.Signed.Expires, w.next.targets.Signed.Expires} {
		if t.Before(head.Expires) {
			head.Expires = t
		}
	}
	switch {
	case guard.On(guard.ReleaseRollback) && head.Release < w.floor.Release:
		return fmt.Errorf("release %d after %d: %w", head.Release, w.floor.Release, gossip.ErrRollback)
	case guard.On(guard.ReleaseFork) && head.Release == w.floor.Release && head.Manifest != w.floor.Manifest:
		return fmt.Errorf("release %d: %w", head.Release, gossip.ErrFork)
	}
	w.next.head = head
	return nil
}

func readTarget(name string, target *metadata.TargetFiles) (gossip.Head, error) {
	var c custom
	if target == nil || target.Custom == nil {
		return gossip.Head{}, fmt.Errorf("%w: release without its facts", gossip.ErrMalformed)
	}
	if err := json.Unmarshal(*target.Custom, &c); err != nil {
		return gossip.Head{}, fmt.Errorf("%w: release: %w", gossip.ErrMalformed, err)
	}
	id, err := cid.Decode(c.CID)
	if err != nil {
		return gossip.Head{}, fmt.Errorf("%w: manifest CID: %w", gossip.ErrMalformed, err)
	}
	digest, err := content.DigestOf(id, cid.DagCBOR)
	if err != nil {
		return gossip.Head{}, fmt.Errorf("%w: manifest CID: %w", gossip.ErrMalformed, err)
	}
	if c.Name != name || CheckName(name) != nil || c.Release == 0 || guard.On(guard.ManifestDigest) && !bytes.Equal(target.Hashes["sha256"], digest[:]) {
		return gossip.Head{}, fmt.Errorf("%w: the facts of the release contradict its name or hash", gossip.ErrMalformed)
	}
	return gossip.Head{Name: name, Release: c.Release, Manifest: digest, Bytes: c.Bytes, Files: c.Files}, nil
}
