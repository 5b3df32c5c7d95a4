package trust

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"swarmnode/gossip"
)

// draft is a set of files about to be signed: the current ones, of which some are replaced.
type draft struct {
	now   time.Time
	life  Lifetimes
	keys  *Keys
	made  made            // with the versions that this draft takes
	fresh map[string]bool // names of new files
	files map[string][]byte

	snapshot *metadata.Metadata[metadata.SnapshotType]
	targets  *metadata.Metadata[metadata.TargetsType]
	release  *metadata.Metadata[metadata.TargetsType]
}

// issue signs a new timestamp, a new release if r is not nil, and what is due for renewal. Nothing is written before the
// whole draft has passed the verification that its readers will do.
func (s *Signer) issue(now time.Time, r *Release) (gossip.Bundle, error) {
	now = now.UTC().Truncate(time.Second)
	if now.Before(s.made.Signed) {
		now = s.made.Signed // the clock went back: readers count on signing times that do not
	}
	if err := s.keys.renew(now, s.life); err != nil {
		return gossip.Bundle{}, err
	}
	d, err := s.draft(now)
	if err != nil {
		return gossip.Bundle{}, err
	}
	if err := d.sign(r); err != nil {
		return gossip.Bundle{}, err
	}
	signedUnder := s.made.Root
	at := &trusted{workflow: workflow{root: s.keys.root}, files: map[string][]byte{}}
	set, err := verify(s.keys.id, now, at, s.set.head, d.files)
	if err != nil {
		return gossip.Bundle{}, fmt.Errorf("check before publishing: %w", err)
	}
	if err := s.store(d.made, set.files); err != nil {
		return gossip.Bundle{}, err
	}
	s.set = set
	s.clean()
	return s.announce(d, r != nil, signedUnder)
}

// announce makes the bundle: all files of a new release, only the new ones for a heartbeat, and the roots that are newer
// than the last announcement as far as a bundle has room. Who lacks more pulls it.
func (s *Signer) announce(d *draft, all bool, after int64) (gossip.Bundle, error) {
	b, err := s.set.bundle()
	if err != nil {
		return gossip.Bundle{}, err
	}
	for name := range b.Files {
		if !all && !d.fresh[name] {
			delete(b.Files, name)
		}
	}
	roots := s.keys.RootVersion() - max(after, 1)
	if roots > 0 && len(b.Files)+int(min(roots, gossip.MaxBundleFiles)) <= gossip.MaxBundleFiles {
		for v := max(after, 1) + 1; v <= s.keys.RootVersion(); v++ {
			if b.Files[versioned(v, roleRoot)], err = s.keys.Root(v); err != nil {
				return gossip.Bundle{}, err
			}
		}
	}
	if _, err := gossip.EncodeBundle(b); err != nil {
		return gossip.Bundle{}, err
	}
	return b, nil
}

// draft starts from the current files.
func (s *Signer) draft(now time.Time) (*draft, error) {
	d := &draft{now: now, life: s.life, keys: s.keys, made: s.made, fresh: map[string]bool{}, files: map[string][]byte{}}
	d.made.Signed, d.made.Root = now, s.keys.RootVersion()
	if s.set.snapshot == nil {
		return d, nil
	}
	d.snapshot, d.targets = s.set.snapshot, s.set.targets[roleTargets]
	name := versioned(d.version(roleRelease), roleRelease)
	release, err := metadata.Targets().FromBytes(s.set.files[name])
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	d.release = release
	for _, name := range []string{versioned(d.version(roleTargets), roleTargets), name,
		versioned(s.set.snapshot.Signed.Version, roleSnapshot)} {
		d.files[name] = s.set.files[name]
	}
	return d, nil
}

// version of a role in the current snapshot.
func (d *draft) version(role string) int64 { return d.snapshot.Signed.Meta[role+".json"].Version }

// sign makes every file that is new, from the bottom up.
func (d *draft) sign(r *Release) error {
	targets, err := d.signTargets()
	if err != nil {
		return err
	}
	release, err := d.signRelease(r)
	if err != nil {
		return err
	}
	snapshot, err := d.signSnapshot(targets, release)
	if err != nil {
		return err
	}
	d.made.Timestamp++
	ts := metadata.Timestamp(expiry(d.now, d.life.Timestamp))
	ts.Signed.Version = d.made.Timestamp
	ts.Signed.Meta = map[string]*metadata.MetaFiles{roleSnapshot + ".json": snapshot}
	ts.Signed.UnrecognizedFields = map[string]any{fieldSigned: d.now.Format(time.RFC3339), fieldRoot: d.made.Root}
	raw, err := sign(ts, d.keys.keys[roleTimestamp])
	if err != nil {
		return err
	}
	d.files[timestampFile], d.fresh[timestampFile] = raw, true
	return nil
}

// signTargets signs targets if there is none, if it delegates to another release key, or if it is due and the key is here.
func (d *draft) signTargets() (*metadata.MetaFiles, error) {
	key, release := d.keys.keys[roleTargets], d.keys.keys[roleRelease]
	must := d.targets == nil
	if !must {
		delegation, err := releaseDelegation(d.targets)
		must = err != nil || !slices.Equal(delegation.KeyIDs, []string{release.id}) ||
			!slices.Contains(d.keys.root.Signed.Roles[roleTargets].KeyIDs, d.targets.Signatures[0].KeyID)
	}
	if !must && (key == nil || !due(d.targets.Signed.Expires, d.now, d.life)) {
		return d.snapshot.Signed.Meta[roleTargets+".json"], nil
	}
	if key == nil {
		return nil, fmt.Errorf("targets has to be signed, which needs %s: %w", keyFile(roleTargets), fs.ErrNotExist)
	}
	m := metadata.Targets(expiry(d.now, d.life.Others))
	if d.targets != nil {
		m.Signed.Targets = d.targets.Signed.Targets
	}
	d.made.Targets++
	m.Signed.Version = d.made.Targets
	m.Signed.Delegations = &metadata.Delegations{
		Keys: map[string]*metadata.Key{release.id: release.public},
		Roles: []metadata.DelegatedRole{{Name: roleRelease, KeyIDs: []string{release.id}, Threshold: 1, Terminating: true,
			Paths: []string{targetPattern}}},
	}
	raw, err := sign(m, key)
	if err != nil {
		return nil, err
	}
	return d.replace(roleTargets, d.made.Targets, raw), nil
}

// signRelease signs the manifest root of r, or the current release again if its file is due or its key is new.
func (d *draft) signRelease(r *Release) (*metadata.MetaFiles, error) {
	key := d.keys.keys[roleRelease]
	if r == nil && !due(d.release.Signed.Expires, d.now, d.life) && d.release.Signatures[0].KeyID == key.id {
		return d.snapshot.Signed.Meta[roleRelease+".json"], nil
	}
	m := metadata.Targets(expiry(d.now, d.life.Others))
	if r == nil {
		m.Signed.Targets = d.release.Signed.Targets
	} else {
		facts, err := json.Marshal(custom{CID: r.Manifest.BlockCID().String(), Bytes: r.Bytes, Files: r.Files, Name: r.Name,
			Release: r.Number})
		if err != nil {
			return nil, err
		}
		m.Signed.Targets = map[string]*metadata.TargetFiles{targetPrefix + r.Name: {
			Length: r.Size, Hashes: metadata.Hashes{"sha256": r.Manifest[:]}, Custom: (*json.RawMessage)(&facts)}}
		d.made.Release, d.made.Manifest = r.Number, [32]byte(r.Manifest)
	}
	d.made.Delegated++
	m.Signed.Version = d.made.Delegated
	raw, err := sign(m, key)
	if err != nil {
		return nil, err
	}
	return d.replace(roleRelease, d.made.Delegated, raw), nil
}

// signSnapshot signs the snapshot of these entries, unless the current one is the same and not due.
func (d *draft) signSnapshot(targets, release *metadata.MetaFiles) (*metadata.MetaFiles, error) {
	key := d.keys.keys[roleSnapshot]
	if len(d.fresh) == 0 && !due(d.snapshot.Signed.Expires, d.now, d.life) && d.snapshot.Signatures[0].KeyID == key.id {
		v := d.snapshot.Signed.Version
		return entry(v, d.files[versioned(v, roleSnapshot)]), nil
	}
	m := metadata.Snapshot(expiry(d.now, d.life.Others))
	d.made.Snapshot++
	m.Signed.Version = d.made.Snapshot
	m.Signed.Meta = map[string]*metadata.MetaFiles{roleTargets + ".json": targets, roleRelease + ".json": release}
	raw, err := sign(m, key)
	if err != nil {
		return nil, err
	}
	if d.snapshot != nil {
		delete(d.files, versioned(d.snapshot.Signed.Version, roleSnapshot))
	}
	return d.replace(roleSnapshot, d.made.Snapshot, raw), nil
}

// replace puts a new file in the place of the role's old one and gives the entry that binds it.
func (d *draft) replace(role string, version int64, raw []byte) *metadata.MetaFiles {
	if d.snapshot != nil && role != roleSnapshot {
		delete(d.files, versioned(d.version(role), role))
	}
	name := versioned(version, role)
	d.files[name], d.fresh[name] = raw, true
	return entry(version, raw)
}
