package trust

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/theupdateframework/go-tuf/v2/metadata"

	"swarmnode/content"
	"swarmnode/content/guard"
	"swarmnode/gossip"
)

// trusted is one consistent set of verified files. It is never changed once made.
type trusted struct {
	workflow // its root is nil as long as nothing is known
	head     gossip.Head
	files    map[string][]byte // exact bytes: every root, and the current file of each other role
}

// walk takes the steps of the workflow over the files of a bundle and those that are here, and adds what only a collection
// asks for: the pinned ID, one encoding of each file, entries that bind, one release whose number never goes back. It
// changes nothing; what it found valid is in next.
type walk struct {
	id     content.ID
	have   *trusted
	floor  gossip.Head // newest release ever verified; never go behind it
	bundle map[string][]byte
	next   trusted
	used   map[string]bool // files of the bundle that had a place
}

// reset reports whether a new root took keys of timestamp or snapshot away, so that the old versions no longer count.
func (w *walk) reset() bool { return w.have.timestamp != nil && w.next.timestamp == nil }

// verify checks a bundle and returns the set that holds after it.
func verify(id content.ID, now time.Time, have *trusted, floor gossip.Head, bundle map[string][]byte) (*trusted, error) {
	w := &walk{id: id, have: have, floor: floor, bundle: bundle, used: map[string]bool{timestampFile: true}}
	w.next.workflow, w.next.files = have.workflow, map[string][]byte{}
	w.next.now = now
	ts, err := w.first()
	if err != nil {
		return nil, err
	}
	if err := w.roots(); err != nil {
		return nil, err
	}
	forgotten := w.reset()
	if err := w.timestamp(ts); err != nil {
		return nil, err
	}
	if err := w.chain(forgotten); err != nil {
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
		if err := w.next.chainRoot(w.id, w.bundle[name]); err != nil {
			return err
		}
		w.next.files[name] = w.bundle[name]
	}
	return nil
}

// chainRoot verifies the root that follows on the newest one; the first of all must hash to the collection's ID.
func (t *trusted) chainRoot(id content.ID, raw []byte) error {
	if t.root == nil {
		if guard.On(guard.RootPin) && content.NewID(raw) != id {
			return fmt.Errorf("%w: the first root does not hash to the ID %s", gossip.ErrMalformed, id)
		}
		if err := t.firstRoot(raw); err != nil {
			return err
		}
		if v := t.rootVersion(); v != 1 {
			return fmt.Errorf("%w: the first root has version %d", gossip.ErrMalformed, v)
		}
		return canonical(t.root, raw, t.root.Signed.Roles[roleRoot].KeyIDs)
	}
	old := t.root
	if err := t.nextRoot(raw); err != nil {
		return err
	}
	return canonical(t.root, raw, old.Signed.Roles[roleRoot].KeyIDs, t.root.Signed.Roles[roleRoot].KeyIDs)
}

// nextRoot verifies the root that follows on root; the first one (root is nil) must hash to the collection's ID.
func nextRoot(id content.ID, root *metadata.Metadata[metadata.RootType], raw []byte) (*metadata.Metadata[metadata.RootType], error) {
	t := trusted{workflow: workflow{root: root}}
	err := t.chainRoot(id, raw)
	return t.root, err
}

// timestamp verifies the timestamp of the bundle under the newest root.
func (w *walk) timestamp(ts peeked) error {
	root, version := w.next.root, w.next.rootVersion()
	switch {
	case root == nil || ts.root > version:
		return fmt.Errorf("timestamp %d under root %d: %w", ts.version, ts.root, gossip.ErrUnknownRoot)
	case guard.On(guard.RootExpiry) && root.Signed.IsExpired(w.next.now):
		return fmt.Errorf("root %d expired %s, a newer one is wanted: %w", version, root.Signed.Expires, gossip.ErrUnknownRoot)
	}
	role := root.Signed.Roles[roleTimestamp]
	if role == nil {
		return fmt.Errorf("%w: root %d has no role %s", gossip.ErrMalformed, version, roleTimestamp)
	}
	for _, key := range ts.keys {
		if slices.Contains(role.KeyIDs, key) {
			continue
		}
		switch {
		case ts.root == version:
			return fmt.Errorf("timestamp %d: %w: by a stranger's key", ts.version, gossip.ErrBadSignature)
		case ts.root == 0:
			return fmt.Errorf("timestamp %d: %w", ts.version, gossip.ErrUnknownRoot)
		default:
			return fmt.Errorf("timestamp %d: %w: its keys were replaced", ts.version, gossip.ErrOld)
		}
	}
	// Other bytes under the version that is here: whoever has the keys signed twice, if the signature is good.
	old := w.next.timestamp
	twin := old != nil && old.Signed.Version == ts.version
	if twin {
		w.next.timestamp = nil
	}
	raw := w.bundle[timestampFile]
	if err := w.next.takeTimestamp(raw); err != nil {
		return err
	}
	got := w.next.timestamp
	if err := canonical(got, raw, role.KeyIDs); err != nil {
		return fmt.Errorf("%s: %w", timestampFile, err)
	}
	if len(got.Signatures) != role.Threshold || got.Signed.Version != ts.version {
		return fmt.Errorf("%w: timestamp with %d signatures, exactly %d are wanted", gossip.ErrMalformed,
			len(got.Signatures), role.Threshold)
	}
	if twin && guard.On(guard.TimestampFork) {
		return fork(timestampFile, w.have.files[timestampFile], raw)
	}
	w.next.files[timestampFile] = raw
	return nil
}

// chain follows the timestamp down: snapshot, targets, release. If the versions before were forgotten, no file that is here
// is held against a new one.
func (w *walk) chain(forgotten bool) error {
	name, raw, err := w.need(roleSnapshot, w.next.timestamp.Signed.Meta[roleSnapshot+".json"], forgotten)
	if err != nil {
		return err
	}
	if err := w.next.takeSnapshot(raw, gossip.MaxBundle); err != nil {
		return err
	}
	if err := canonical(w.next.snapshot, raw, w.next.root.Signed.Roles[roleSnapshot].KeyIDs); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	name, raw, err = w.need(roleTargets, w.next.snapshot.Signed.Meta[roleTargets+".json"], forgotten)
	if err != nil {
		return err
	}
	if err := w.next.takeTargets(raw, roleTargets, roleRoot, gossip.MaxBundle); err != nil {
		return err
	}
	targets := w.next.targets[roleTargets]
	if err := canonical(targets, raw, w.next.root.Signed.Roles[roleTargets].KeyIDs); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	delegation, err := releaseDelegation(targets)
	if err != nil {
		return err
	}
	name, raw, err = w.need(roleRelease, w.next.snapshot.Signed.Meta[roleRelease+".json"], forgotten)
	if err != nil {
		return err
	}
	if err := w.next.takeTargets(raw, roleRelease, roleTargets, gossip.MaxBundle); err != nil {
		return err
	}
	release := w.next.targets[roleRelease]
	if err := canonical(release, raw, delegation.KeyIDs); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return w.release(release, delegation)
}

// need finds the file that an entry of signed metadata names. An entry that names other bytes than before under the same
// version proves that the publisher's keys signed twice.
func (w *walk) need(role string, entry *metadata.MetaFiles, forgotten bool) (string, []byte, error) {
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
		if !forgotten && guard.On(guard.FileFork) {
			return "", nil, &ForkError{Name: name, Here: digestOf(raw), There: hex.EncodeToString(entry.Hashes["sha256"])}
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
	name, err := releaseTarget(m)
	if err != nil {
		return err
	}
	if !delegates(&delegation, targetPrefix+name) {
		return fmt.Errorf("%w: the release role may not sign %.80q", gossip.ErrMalformed, targetPrefix+name)
	}
	head, err := readTarget(name, m.Signed.Targets[targetPrefix+name])
	if err != nil {
		return err
	}
	if head.Signed, err = signedTime(w.next.timestamp); err != nil {
		return err
	}
	head.Collection, head.TimestampVersion = w.id, w.next.timestamp.Signed.Version
	head.Root, head.Expires = w.next.rootVersion(), m.Signed.Expires
	for _, t := range []time.Time{w.next.timestamp.Signed.Expires, w.next.snapshot.Signed.Expires, w.next.targets[roleTargets].Signed.Expires} {
		if t.Before(head.Expires) {
			head.Expires = t
		}
	}
	switch {
	case guard.On(guard.ReleaseRollback) && head.Release < w.floor.Release:
		return fmt.Errorf("release %d after %d: %w", head.Release, w.floor.Release, gossip.ErrRollback)
	case guard.On(guard.ReleaseFork) && head.Release == w.floor.Release && head.Manifest != w.floor.Manifest:
		return &ForkError{Name: fmt.Sprintf("release %d", head.Release), Here: w.floor.Manifest.String(), There: head.Manifest.String()}
	case guard.On(guard.Leap) && head.Release-w.floor.Release > leap(w.floor, head):
		return fmt.Errorf("release %d after %d: %w", head.Release, w.floor.Release, gossip.ErrLeap)
	}
	w.next.head = head
	return nil
}

// leap is how far the release number may grow from one head to the next.
func leap(from, to gossip.Head) uint64 {
	if from.Release == 0 || to.Root > from.Root {
		return MaxFirstRelease // a new root may have taken stolen keys away, whose thief leapt while this node was asleep
	}
	return MaxReleaseStep
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
