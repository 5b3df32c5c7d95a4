package trust

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// stockKey signs for roles of a stock repository.
type stockKey struct {
	id     string
	public *metadata.Key
	signer signature.Signer
}

func newStockKey(t testing.TB, kind string) stockKey {
	t.Helper()
	var private crypto.PrivateKey
	var err error
	switch kind {
	case "rsa":
		private, err = rsa.GenerateKey(rand.Reader, 2048)
	case "ecdsa":
		private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	default:
		_, private, err = ed25519.GenerateKey(rand.Reader)
	}
	if err != nil {
		t.Fatal(err)
	}
	var s signature.Signer
	if k, ok := private.(*rsa.PrivateKey); ok {
		s, err = signature.LoadRSAPSSSigner(k, crypto.SHA256, &rsa.PSSOptions{Hash: crypto.SHA256})
	} else if k, ok := private.(ed25519.PrivateKey); ok {
		s, err = signature.LoadSigner(k, crypto.Hash(0))
	} else {
		s, err = signature.LoadSigner(private, crypto.SHA256)
	}
	if err != nil {
		t.Fatal(err)
	}
	public, _ := s.PublicKey()
	key, err := metadata.KeyFromPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	id, err := key.ID()
	if err != nil {
		t.Fatal(err)
	}
	return stockKey{id, key, s}
}

// stock is a TUF repository as others make them, and a client of it.
type stock struct {
	t         *testing.T
	now       time.Time
	root      *metadata.Metadata[metadata.RootType]
	timestamp *metadata.Metadata[metadata.TimestampType]
	snapshot  *metadata.Metadata[metadata.SnapshotType]
	targets   map[string]*metadata.Metadata[metadata.TargetsType]
	keys      map[string][]stockKey // of each role
	hashed    bool                  // entries have length and hashes
	files     map[string][]byte
	asked     []string
	dir       string
}

func newStock(t *testing.T, kind string) *stock {
	t.Helper()
	end := start.Add(100 * day)
	s := &stock{t: t, now: start, root: metadata.Root(end), timestamp: metadata.Timestamp(end), snapshot: metadata.Snapshot(end),
		targets: map[string]*metadata.Metadata[metadata.TargetsType]{roleTargets: metadata.Targets(end)},
		keys:    map[string][]stockKey{}, files: map[string][]byte{}, dir: filepath.Join(t.TempDir(), "metadata")}
	for _, role := range []string{roleRoot, roleTimestamp, roleSnapshot, roleTargets} {
		s.addKey(role, newStockKey(t, kind))
	}
	s.publish()
	s.check(InitClient(s.dir, s.files["1.root.json"]))
	return s
}

func (s *stock) check(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *stock) addKey(role string, k stockKey) {
	s.t.Helper()
	s.keys[role] = append(s.keys[role], k)
	s.check(s.root.Signed.AddKey(k.public, role))
}

// rotate replaces the keys of roles.
func (s *stock) rotate(roles ...string) {
	s.t.Helper()
	old := slices.Clone(s.keys[roleRoot])
	for _, role := range roles {
		for _, k := range s.keys[role] {
			s.check(s.root.Signed.RevokeKey(k.id, role))
		}
		s.keys[role] = nil
		s.addKey(role, newStockKey(s.t, ""))
	}
	s.nextRoot(old...)
}

// nextRoot publishes a new root signed by these keys and its own.
func (s *stock) nextRoot(keys ...stockKey) {
	s.t.Helper()
	s.root.Signed.Version++
	for _, k := range s.keys[roleRoot] {
		if !slices.ContainsFunc(keys, func(o stockKey) bool { return o.id == k.id }) {
			keys = append(keys, k)
		}
	}
	s.files[versioned(s.root.Signed.Version, roleRoot)] = stockSign(s.t, s.root, keys)
}

func stockSign[T metadata.Roles](t testing.TB, m *metadata.Metadata[T], keys []stockKey) []byte {
	t.Helper()
	m.ClearSignatures()
	for _, k := range keys {
		if _, err := m.Sign(k.signer); err != nil {
			t.Fatal(err)
		}
	}
	raw, err := m.ToBytes(true) // stock repositories indent
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func (s *stock) entry(raw []byte, version int64) *metadata.MetaFiles {
	e := metadata.MetaFile(version)
	if s.hashed {
		sum := sha256.Sum256(raw)
		e.Length, e.Hashes = int64(len(raw)), metadata.Hashes{"sha256": sum[:]}
	}
	return e
}

// put stores a file under the name that it has with and without consistent snapshots.
func (s *stock) put(version int64, role string, raw []byte) {
	name := role + ".json"
	if s.root.Signed.ConsistentSnapshot {
		name = versioned(version, role)
	}
	s.files[name] = raw
}

// publish signs everything with the versions that are set.
func (s *stock) publish() {
	s.t.Helper()
	s.files[versioned(s.root.Signed.Version, roleRoot)] = stockSign(s.t, s.root, s.keys[roleRoot])
	for role, m := range s.targets {
		raw := stockSign(s.t, m, s.keys[role])
		s.put(m.Signed.Version, role, raw)
		s.snapshot.Signed.Meta[role+".json"] = s.entry(raw, m.Signed.Version)
	}
	s.publishSnapshot()
}

func (s *stock) publishSnapshot() {
	s.t.Helper()
	raw := stockSign(s.t, s.snapshot, s.keys[roleSnapshot])
	s.put(s.snapshot.Signed.Version, roleSnapshot, raw)
	s.timestamp.Signed.Meta[roleSnapshot+".json"] = s.entry(raw, s.snapshot.Signed.Version)
	s.files[timestampFile] = stockSign(s.t, s.timestamp, s.keys[roleTimestamp])
}

// bump raises the versions of timestamp, snapshot and all targets.
func (s *stock) bump() {
	s.timestamp.Signed.Version++
	s.snapshot.Signed.Version++
	for _, m := range s.targets {
		m.Signed.Version++
	}
}

func (s *stock) source(_ context.Context, name string, _ int64) ([]byte, error) {
	s.asked = append(s.asked, name)
	if raw, ok := s.files[name]; ok {
		return raw, nil
	}
	return nil, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
}

// refresh runs a client that was started anew.
func (s *stock) refresh() (*Client, error) {
	s.asked = nil
	c, err := OpenClient(s.dir, s.now, s.source)
	if err != nil {
		return nil, err
	}
	err = c.Refresh(s.t.Context())
	if c.panics != 0 {
		s.t.Errorf("%d panics: %v", c.panics, err)
	}
	return c, err
}

// wantRefresh runs a client and compares success and the versions that are in its directory afterwards: root, timestamp,
// snapshot, targets; 0 for none.
func (s *stock) wantRefresh(ok bool, versions ...int64) {
	s.t.Helper()
	if _, err := s.refresh(); (err == nil) != ok {
		s.t.Errorf("refresh: %v, want success %v", err, ok)
	}
	got := []int64{0, 0, 0, 0}
	for i, role := range []string{roleRoot, roleTimestamp, roleSnapshot, roleTargets} {
		if raw, err := os.ReadFile(filepath.Join(s.dir, roleFile(role))); err == nil {
			p, err := peek(raw, role, maxStockTargets)
			s.check(err)
			got[i] = p.version
		}
	}
	if !slices.Equal(got, versions) {
		s.t.Errorf("versions on disk %v, want %v", got, versions)
	}
}

// delegate adds a role below another one.
func (s *stock) delegate(parent string, role metadata.DelegatedRole) {
	s.t.Helper()
	p := s.targets[parent]
	if p.Signed.Delegations == nil {
		p.Signed.Delegations = &metadata.Delegations{Keys: map[string]*metadata.Key{}}
	}
	if s.targets[role.Name] == nil {
		s.targets[role.Name] = metadata.Targets(start.Add(100 * day))
		s.keys[role.Name] = []stockKey{newStockKey(s.t, "")}
	}
	key := s.keys[role.Name][0]
	p.Signed.Delegations.Keys[key.id] = key.public
	role.KeyIDs, role.Threshold = []string{key.id}, max(role.Threshold, 1)
	p.Signed.Delegations.Roles = append(p.Signed.Delegations.Roles, role)
}

func (s *stock) addTarget(role, path, data string) {
	s.t.Helper()
	f, err := metadata.TargetFile().FromBytes(path, []byte(data), "sha256", "sha512")
	s.check(err)
	s.targets[role].Signed.Targets[path] = f
}
