package trust

import (
	"encoding/json"
	"errors"
	"fmt"
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
	// offered is what was signed elsewhere, see Signer.
	offered map[string]*document

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
	s.dropOffered()
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
	d := &draft{now: now, life: s.life, keys: s.keys, made: s.made, fresh: map[string]bool{}, files: map[string][]byte{},
		offered: s.offered}
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
	targets, delegation, err := d.signTargets()
	if err != nil {
		return err
	}
	release, err := d.signRelease(r, delegation)
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
	signers, err := d.keys.held(d.keys.role(roleTimestamp))
	if err != nil {
		return err
	}
	raw, err := sign(ts, signers...)
	if err != nil {
		return err
	}
	d.files[timestampFile], d.fresh[timestampFile] = raw, true
	return nil
}

// targetsGood reports whether the current targets can stay under a root.
func (d *draft) targetsGood(root *metadata.Metadata[metadata.RootType]) bool {
	if d.targets == nil || root.VerifyDelegate(roleTargets, d.targets) != nil || due(d.targets.Signed.Expires, d.now, d.life) {
		return false
	}
	delegation, err := releaseDelegation(d.targets)
	if err != nil || !slices.Equal(delegation.Paths, releasePatterns()) {
		return false
	}
	a, err := releaseAuthority(d.targets)
	return err == nil && a.same(d.keys.release)
}

// signTargets signs targets if the current ones cannot stay and the keys are here, or takes those that were signed elsewhere.
// Without either, the current ones go on as long as they are valid.
func (d *draft) signTargets() (*metadata.MetaFiles, *metadata.Metadata[metadata.TargetsType], error) {
	if o := d.takes(roleTargets); o != nil && d.keys.root.VerifyDelegate(roleTargets, o.targets) == nil {
		raw, err := o.raw()
		d.targets, d.made.Targets = o.targets, max(d.made.Targets, o.targets.Signed.Version)
		return d.replace(roleTargets, o.targets.Signed.Version, raw), o.targets, err
	}
	if d.targetsGood(d.keys.root) {
		return d.snapshot.Signed.Meta[roleTargets+".json"], d.targets, nil
	}
	signers, err := d.keys.held(d.keys.role(roleTargets))
	if err != nil && d.targets != nil && d.keys.root.VerifyDelegate(roleTargets, d.targets) == nil {
		return d.snapshot.Signed.Meta[roleTargets+".json"], d.targets, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("targets has to be signed; make a request for it with `swarmnode publish --prepare`: %w", err)
	}
	d.made.Targets++
	m := d.newTargets()
	raw, err := sign(m, signers...)
	if err != nil {
		return nil, nil, err
	}
	return d.replace(roleTargets, d.made.Targets, raw), m, nil
}

// takes gives what was signed elsewhere if it is newer than the current file.
func (d *draft) takes(role string) *document {
	o := d.offered[role]
	if o != nil && d.snapshot != nil && o.targets.Signed.Version <= d.version(role) {
		return nil
	}
	return o
}

// newTargets makes targets, to be signed, that delegate to the release role.
func (d *draft) newTargets() *metadata.Metadata[metadata.TargetsType] {
	m := metadata.Targets(expiry(d.now, d.life.Others))
	if d.targets != nil {
		m.Signed.Targets = d.targets.Signed.Targets
	}
	a := d.keys.release
	m.Signed.Version = d.made.Targets
	m.Signed.Delegations = &metadata.Delegations{
		Keys: a.keys,
		Roles: []metadata.DelegatedRole{{Name: roleRelease, KeyIDs: a.ids, Threshold: a.threshold, Terminating: true,
			Paths: releasePatterns()}},
	}
	return m
}

// signRelease signs the manifest root of r, or the current release again if its file is due or its key is new, or takes the
// release that was signed elsewhere.
func (d *draft) signRelease(r *Release, targets *metadata.Metadata[metadata.TargetsType]) (*metadata.MetaFiles, error) {
	if o := d.takes(roleRelease); o != nil && r == nil && targets.VerifyDelegate(roleRelease, o.targets) == nil {
		raw, err := o.raw()
		d.made.Delegated = max(d.made.Delegated, o.targets.Signed.Version)
		return d.replace(roleRelease, o.targets.Signed.Version, raw), err
	}
	a, err := releaseAuthority(targets)
	if err != nil {
		return nil, err
	}
	if r == nil && d.release == nil {
		return nil, errors.New("the release that was signed elsewhere does not fit the targets that are here")
	}
	good := r == nil && targets.VerifyDelegate(roleRelease, d.release) == nil
	if good && !due(d.release.Signed.Expires, d.now, d.life) {
		return d.snapshot.Signed.Meta[roleRelease+".json"], nil
	}
	signers, err := d.keys.held(a)
	if err != nil && good {
		return d.snapshot.Signed.Meta[roleRelease+".json"], nil
	}
	if err != nil {
		return nil, fmt.Errorf("the release has to be signed; make a request for it with `swarmnode publish --prepare`: %w", err)
	}
	m, err := d.newRelease(r, targets)
	if err != nil {
		return nil, err
	}
	raw, err := sign(m, signers...)
	if err != nil {
		return nil, err
	}
	return d.replace(roleRelease, d.made.Delegated, raw), nil
}

// newRelease makes the release role's file, to be signed; with r nil for the current release. Targets may be older than this
// program and delegate less than it lists: what nobody could verify is left out.
func (d *draft) newRelease(r *Release, targets *metadata.Metadata[metadata.TargetsType]) (*metadata.Metadata[metadata.TargetsType], error) {
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
		delegation, err := releaseDelegation(targets)
		if err != nil {
			return nil, err
		}
		for _, f := range r.Targets {
			if delegates(&delegation, f.Path) {
				m.Signed.Targets[f.Path] = &metadata.TargetFiles{Length: f.Size, Hashes: metadata.Hashes{"sha256": f.SHA256[:]}}
			}
		}
		d.made.Release, d.made.Manifest, d.made.Retaken = r.Number, [32]byte(r.Manifest), d.keys.RootVersion()
	}
	d.made.Delegated++
	m.Signed.Version = d.made.Delegated
	return m, nil
}

// signSnapshot signs the snapshot of these entries, unless the current one is the same and not due.
func (d *draft) signSnapshot(targets, release *metadata.MetaFiles) (*metadata.MetaFiles, error) {
	if len(d.fresh) == 0 && !due(d.snapshot.Signed.Expires, d.now, d.life) && d.keys.root.VerifyDelegate(roleSnapshot, d.snapshot) == nil {
		v := d.snapshot.Signed.Version
		return entry(v, d.files[versioned(v, roleSnapshot)]), nil
	}
	m := metadata.Snapshot(expiry(d.now, d.life.Others))
	d.made.Snapshot++
	m.Signed.Version = d.made.Snapshot
	m.Signed.Meta = map[string]*metadata.MetaFiles{roleTargets + ".json": targets, roleRelease + ".json": release}
	signers, err := d.keys.held(d.keys.role(roleSnapshot))
	if err != nil {
		return nil, err
	}
	raw, err := sign(m, signers...)
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
