package trust

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"swarmnode/content"
	"swarmnode/gossip"
)

// Release is what a publisher signs: one version of its collection.
type Release struct {
	Name     string         // of the collection, see CheckName
	Number   uint64         // greater than that of every release signed before
	Manifest content.Digest // of the manifest root
	Size     int64          // length of the manifest root, in bytes
	Bytes    uint64         // total of the tree
	Files    uint64         // total of the tree
	// Targets are what the release vouches for beside its manifest, for clients that know nothing but TUF: see FitTargets.
	Targets []SignedFile
}

// Signer signs releases and heartbeats of one collection. Its state is durable in a directory: whatever it returned, it
// never signs something else under the same number, also after a crash between any two writes. To that end it writes
// first what it is about to sign, with the versions that it takes (signer.json), then the files, and the timestamp last;
// versions taken by an attempt that was cut off are skipped. It is safe for concurrent use.
type Signer struct {
	folder folder
	life   Lifetimes

	mu   sync.Mutex // guards all below
	keys *Keys
	made made
	set  *trusted // what was signed last; root is not used
	// offered are files that were signed elsewhere and that the snapshot does not name yet, by role.
	offered map[string]*document
}

// made is the content of signerFile: the greatest versions ever taken.
type made struct {
	Release   uint64
	Manifest  content.ID // a digest; as an ID it has a text form
	Signed    time.Time  // newest signing time
	Root      int64      // version under which the last timestamp was signed
	Retaken   int64      // version of the root under which the last release was first signed; 0 if an earlier version wrote this
	Timestamp int64
	Snapshot  int64
	Targets   int64
	Delegated int64 // version of the release role's file

	Asked content.ID // Digest of the signing request that is waited for; zero if none
}

const signerFile = "signer.json"

// OpenSigner opens the signer's state in dir, which is made if need be. The signer owns keys from now on. There must be
// only one signer of a collection: its caller holds a lock.
func OpenSigner(keys *Keys, dir string, life Lifetimes) (*Signer, error) {
	f, err := openFolder(dir, 0o700)
	if err != nil {
		return nil, fmt.Errorf("open signer: %w", err)
	}
	s := &Signer{folder: f, life: life.withDefaults(), keys: keys, set: &trusted{files: map[string][]byte{}},
		offered: map[string]*document{}}
	if err := s.load(); err != nil {
		return nil, fmt.Errorf("open signer in %s: %w", dir, err)
	}
	return s, nil
}

func (s *Signer) load() error {
	raw, err := s.folder.read(signerFile)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := s.folder.read(timestampFile); errors.Is(err, fs.ErrNotExist) {
			return nil // never signed
		}
		return fmt.Errorf("%s is gone: move the directory away and adopt what was published", signerFile)
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(raw, &s.made); err != nil {
		return fmt.Errorf("%s: %w", signerFile, err)
	}
	s.loadOffered()
	if raw, err = s.folder.read(timestampFile); errors.Is(err, fs.ErrNotExist) {
		return nil // the first release was cut off
	}
	if err != nil {
		return err
	}
	if s.set, err = s.resume(raw); err != nil {
		return err
	}
	s.clean()
	return nil
}

// resume verifies what was signed last under the root of that time.
func (s *Signer) resume(timestamp []byte) (*trusted, error) {
	return verifyAt(s.keys.id, s.keys.roots, timestamp, func(name string, _ int64) ([]byte, error) { return s.folder.read(name) })
}

// clean removes files of the signer that the timestamp does not name.
func (s *Signer) clean() {
	s.folder.sweep(func(name string) bool {
		_, isRoot := rootVersion(name)
		return s.set.files[name] != nil || isRoot || name == signerFile || !ours(name)
	})
}

// ID is the collection's ID.
func (s *Signer) ID() content.ID { return s.keys.id }

// Head is what was signed last; its Release is 0 if nothing was.
func (s *Signer) Head() gossip.Head {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.set.head
}

// Bundle gives what was signed last, to announce it again after a restart; fs.ErrNotExist if nothing was.
func (s *Signer) Bundle() (gossip.Bundle, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.set.bundle()
}

// File gives a signed file by name, as [Repository.File] does.
func (s *Signer) File(name string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if v, ok := rootVersion(name); ok {
		return s.keys.Root(v)
	}
	return s.set.file(name)
}

// Source lets the publisher's own [Repository] refresh from the signer.
func (s *Signer) Source(_ context.Context, name string, _ int64) ([]byte, error) { return s.File(name) }

// Sign makes a release the current one and gives the bundle to announce, which is durable before Sign returns. A number
// that is not greater than the last is gossip.ErrOld, and other content under a number for which an earlier Sign was cut
// off is gossip.ErrFork: that number is taken, use the next one.
func (s *Signer) Sign(now time.Time, r Release) (gossip.Bundle, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.check(r); err != nil {
		return gossip.Bundle{}, fmt.Errorf("sign release %d of %.80q: %w", r.Number, r.Name, err)
	}
	b, err := s.issue(now, &r)
	if err != nil {
		return gossip.Bundle{}, fmt.Errorf("sign release %d of %s: %w", r.Number, r.Name, err)
	}
	return b, nil
}

func (s *Signer) check(r Release) error {
	if err := CheckName(r.Name); err != nil {
		return err
	}
	if r.Manifest.IsZero() || r.Size < 1 || r.Number > math.MaxInt64 || r.Bytes > math.MaxInt64 || r.Files > math.MaxInt64 {
		return errors.New("no manifest, no size, or a number beyond 2^63")
	}
	if len(FitTargets(r.Targets)) != len(r.Targets) {
		return fmt.Errorf("%d further targets are too many, or have paths that cannot be targets", len(r.Targets))
	}
	switch {
	case r.Number == 0 || r.Number < s.made.Release || r.Number == s.set.head.Release:
		return fmt.Errorf("the last release is %d: %w", s.made.Release, gossip.ErrOld)
	case r.Number == s.made.Release && content.ID(r.Manifest) != s.made.Manifest:
		return fmt.Errorf("the number was taken by a release that was cut off: %w", gossip.ErrFork)
	}
	return nil
}

// Heartbeat signs a new timestamp for the current release: "this is still the newest". The bundle holds only that,
// and what was due for renewal.
func (s *Signer) Heartbeat(now time.Time) (gossip.Bundle, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.set.head.Release == 0 {
		return gossip.Bundle{}, fmt.Errorf("heartbeat: no release was signed yet: %w", fs.ErrNotExist)
	}
	b, err := s.issue(now, nil)
	if err != nil {
		return gossip.Bundle{}, fmt.Errorf("heartbeat: %w", err)
	}
	return b, nil
}

// Adopt takes over what the collection's keys have signed elsewhere, as a verified repository knows it: after the loss of
// the signer's directory, numbers and versions go on from there. It does nothing if the signer is as new.
func (s *Signer) Adopt(r *Repository) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	r.mu.Lock()
	set, head := r.set, r.head
	r.mu.Unlock()
	if r.id != s.keys.id {
		return fmt.Errorf("adopt signed state: the repository is of %s, the keys of %s", r.id, s.keys.id)
	}
	if set.timestamp == nil && set.rootVersion() == s.keys.RootVersion() {
		if err := s.skipTo(head); err != nil {
			return fmt.Errorf("adopt signed state: %w", err)
		}
	}
	if set.timestamp == nil || set.head.TimestampVersion <= s.made.Timestamp {
		return nil
	}
	m := made{Release: set.head.Release, Manifest: content.ID(set.head.Manifest), Signed: set.head.Signed,
		Root: set.rootVersion(), Timestamp: set.head.TimestampVersion, Snapshot: set.snapshot.Signed.Version,
		Targets: set.targets[roleTargets].Signed.Version, Delegated: set.snapshot.Signed.Meta[roleRelease+".json"].Version, Retaken: s.made.Retaken}
	if m.Release < s.made.Release {
		return fmt.Errorf("adopt signed state: release %d after %d: %w", m.Release, s.made.Release, gossip.ErrRollback)
	}
	if err := s.store(m, set.files); err != nil {
		return fmt.Errorf("adopt signed state: %w", err)
	}
	s.set = set
	return nil
}

// Claim signs, with a key of the release role or, if those are elsewhere, of the timestamp role, "peer publishes this collection", valid for MaxClaimLife. The name and the release are those of Head.
func (s *Signer) Claim(peer gossip.PeerID, now time.Time) gossip.Claim {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := s.keys.first(roleTimestamp)
	if s.set.targets[roleTargets] != nil {
		if a, err := releaseAuthority(s.set.targets[roleTargets]); err == nil {
			if list, _ := s.keys.held(a); len(list) > 0 {
				key = list[0]
			}
		}
	}
	c := gossip.Claim{Collection: s.keys.id, Name: s.set.head.Name, Release: s.set.head.Release, Peer: peer,
		Expires: now.Add(MaxClaimLife).Unix(), KeyID: key.id}
	c.Signature = ed25519.Sign(key.private, c.SignedBytes())
	return c
}

// store writes in the order that survives a crash: what is taken, the files, the timestamp that makes them current.
func (s *Signer) store(m made, files map[string][]byte) error {
	if err := s.storeMade(m); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		_, isRoot := rootVersion(name)
		if name == timestampFile || isRoot || bytes.Equal(s.set.files[name], files[name]) {
			continue
		}
		if err := s.folder.write(name, files[name], 0o644); err != nil {
			return err
		}
	}
	return s.folder.write(timestampFile, files[timestampFile], 0o644)
}

// entry binds a file by version, length and SHA-256.
func entry(version int64, raw []byte) *metadata.MetaFiles {
	sum := sha256.Sum256(raw)
	return &metadata.MetaFiles{Version: version, Length: int64(len(raw)), Hashes: metadata.Hashes{"sha256": sum[:]}}
}
