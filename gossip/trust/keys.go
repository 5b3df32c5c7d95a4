package trust

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/theupdateframework/go-tuf/v2/metadata"

	"swarmnode/content"
)

// Keys are a publisher's private keys, as far as they are here, and the chain of roots that names their public halves. Each
// role has a set of Ed25519 keys of which some number must sign. The keys of any role may be kept elsewhere: what they
// must sign is then asked of their holders with a [Request]. Keys is not safe for concurrent use; a [Signer] owns it.
//
// In the directory (mode 0700): root.key, targets.key, snapshot.key, timestamp.key and release.key, or several for a role,
// each PKCS #8 in PEM with mode 0600; every N.root.json; release-role.json if the release role has not just release.key.
// A key is known by its ID, not by the name of its file.
type Keys struct {
	folder  folder
	keys    map[string]*key   // by ID
	files   map[string]string // names of their files, by ID
	release authority         // of releases, as targets should delegate it
	roots   [][]byte          // index 0 is version 1
	root    *metadata.Metadata[metadata.RootType]
	id      content.ID
}

// key is one private key with what TUF calls it.
type key struct {
	private ed25519.PrivateKey
	public  *metadata.Key
	id      string
	signer  signature.Signer
}

const (
	pemType = "PRIVATE KEY"
	// nextSuffix ends the names of keys whose rotation by an earlier version of this program was cut off.
	nextSuffix = ".next"
)

func keyFile(role string) string { return role + ".key" }

// Init makes the keys of a new collection and its first root in dir, and tells the collection's ID. It is an error
// (fs.ErrExist) if a collection is there already. An Init that was cut off is completed by the next one.
func Init(dir string, now time.Time, life Lifetimes) (*Keys, content.ID, error) {
	return InitPlan(dir, now, life, nil)
}

// InitPlan is Init with a plan for the keys of some roles; the others have one key, kept in dir.
func InitPlan(dir string, now time.Time, life Lifetimes, plans map[string]KeyPlan) (*Keys, content.ID, error) {
	k, err := initKeys(dir, now, life, plans)
	if err != nil {
		return nil, content.ID{}, fmt.Errorf("make keys in %s: %w", dir, err)
	}
	return k, k.id, nil
}

func initKeys(dir string, now time.Time, life Lifetimes, plans map[string]KeyPlan) (*Keys, error) {
	f, err := openFolder(dir, 0o700)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return nil, err
	}
	if _, err := f.read(versioned(1, roleRoot)); !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", versioned(1, roleRoot), fs.ErrExist)
	}
	k := &Keys{folder: f, keys: map[string]*key{}, files: map[string]string{}}
	root := metadata.Root(expiry(now, life.withDefaults().Others))
	var signers []*key
	for _, role := range roles() {
		plan, err := plans[role].withDefaults()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", role, err)
		}
		made, err := k.makeKeys(role, plan, true)
		if err != nil {
			return nil, err
		}
		if role == roleRoot {
			signers = made[:plan.Threshold]
		}
		if role != roleRelease {
			setRole(root, authority{role: role, ids: idsOf(made), threshold: plan.Threshold, keys: publicOf(made)})
			continue
		}
		k.release = authority{role: role, ids: idsOf(made), threshold: plan.Threshold, keys: publicOf(made)}
		if plan.Keys > 1 || plan.Out != "" { // else release.key says it
			if err := k.setRelease(k.release); err != nil {
				return nil, err
			}
		}
	}
	raw, err := sign(root, signers...)
	if err != nil {
		return nil, err
	}
	if err := k.addRoot(raw); err != nil {
		return nil, err
	}
	return k, k.loadKeys()
}

// setRole gives a role of a root these keys.
func setRole(root *metadata.Metadata[metadata.RootType], a authority) {
	for _, id := range root.Signed.Roles[a.role].KeyIDs {
		root.Signed.RevokeKey(id, a.role) // it is there
	}
	for _, id := range a.ids {
		root.Signed.AddKey(a.keys[id], a.role) // the role is one of TUF's
	}
	root.Signed.Roles[a.role].Threshold = a.threshold
}

// OpenKeys loads the keys that Init made. It is fs.ErrNotExist if there are none.
func OpenKeys(dir string) (*Keys, error) {
	k := &Keys{folder: folder{dir: dir}, keys: map[string]*key{}, files: map[string]string{}}
	if err := k.load(); err != nil {
		return nil, fmt.Errorf("open keys in %s: %w", dir, err)
	}
	return k, nil
}

func (k *Keys) load() error {
	for v := int64(1); ; v++ {
		raw, err := k.folder.read(versioned(v, roleRoot))
		if errors.Is(err, fs.ErrNotExist) && v > 1 {
			break
		}
		if err != nil {
			return err
		}
		if err := k.takeRoot(raw); err != nil {
			return err
		}
	}
	if err := k.loadRelease(); err != nil {
		return err
	}
	if err := k.loadKeys(); err != nil {
		return err
	}
	for _, role := range []string{roleSnapshot, roleTimestamp} { // no release and no heartbeat without them
		if _, err := k.held(k.role(role)); err != nil {
			return fmt.Errorf("root %d names keys that are not here: %w", k.root.Signed.Version, err)
		}
	}
	return nil
}

// takeRoot makes a root the newest one, in memory.
func (k *Keys) takeRoot(raw []byte) error {
	if k.root == nil {
		k.id = content.NewID(raw)
	}
	root, err := nextRoot(k.id, k.root, raw)
	if err != nil {
		return err
	}
	k.root, k.roots = root, append(k.roots, raw)
	return nil
}

// ID is the collection's ID.
func (k *Keys) ID() content.ID { return k.id }

// RootVersion is the version of the newest root.
func (k *Keys) RootVersion() int64 { return k.root.Signed.Version }

// Root gives the bytes of a version of the root, fs.ErrNotExist if there is none.
func (k *Keys) Root(version int64) ([]byte, error) {
	if version < 1 || version > int64(len(k.roots)) {
		return nil, fmt.Errorf("root %d: %w", version, fs.ErrNotExist)
	}
	return slices.Clone(k.roots[version-1]), nil
}

// renew signs the next root with the same keys if the newest one is due. Without enough root keys nothing happens.
func (k *Keys) renew(now time.Time, life Lifetimes) error {
	signers, err := k.held(k.role(roleRoot))
	if err != nil || !due(k.root.Signed.Expires, now, life) {
		return nil
	}
	root, err := k.nextRoot(now, life)
	if err != nil {
		return err
	}
	raw, err := sign(root, signers...)
	if err != nil {
		return err
	}
	return k.addRoot(raw)
}

// nextRoot is an unsigned copy of the newest root with the next version.
func (k *Keys) nextRoot(now time.Time, life Lifetimes) (*metadata.Metadata[metadata.RootType], error) {
	root, err := metadata.Root().FromBytes(k.roots[len(k.roots)-1])
	if err != nil {
		return nil, err
	}
	root.ClearSignatures()
	root.Signed.Version++
	root.Signed.Expires = expiry(now, life.withDefaults().Others)
	return root, nil
}

// addRoot verifies a root and makes it durable; this is the moment at which it exists. Keys that it replaces go.
func (k *Keys) addRoot(raw []byte) error {
	next := &Keys{id: k.id, root: k.root}
	if err := next.takeRoot(raw); err != nil {
		return err
	}
	if err := k.folder.write(versioned(next.root.Signed.Version, roleRoot), raw, 0o644); err != nil {
		return err
	}
	old := k.root
	if err := k.takeRoot(raw); err != nil || old == nil {
		return err
	}
	return k.settle(old)
}

// due reports whether metadata should be signed again: less than a third of its life is left, or it would expire before
// a timestamp that is signed now.
func due(expires, now time.Time, life Lifetimes) bool {
	life = life.withDefaults()
	return expires.Sub(now) < life.Others/3 || expires.Before(expiry(now, life.Timestamp))
}

// expiry has whole seconds and is in UTC, so that it has one encoding.
func expiry(now time.Time, life time.Duration) time.Time {
	return now.Add(life).UTC().Truncate(time.Second)
}

// sign makes the one encoding of a file, signed by these keys.
func sign[T metadata.Roles](m *metadata.Metadata[T], signers ...*key) ([]byte, error) {
	m.ClearSignatures()
	for _, k := range signers {
		if _, err := m.Sign(k.signer); err != nil {
			return nil, fmt.Errorf("sign with key %s: %w", k.id, err)
		}
	}
	slices.SortFunc(m.Signatures, func(a, b metadata.Signature) int {
		if a.KeyID < b.KeyID {
			return -1
		}
		return 1
	})
	return m.ToBytes(false)
}

func makeKey(f folder, name string) (*key, error) {
	k, raw, err := newKeyFile()
	if err != nil {
		return nil, err
	}
	return k, f.write(name, raw, 0o600)
}

// newKeyFile makes a key and what its file holds.
func newKeyFile() (*key, []byte, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, nil, err
	}
	k, err := newKey(private)
	return k, pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: der}), err
}

func readKey(f folder, name string) (*key, error) {
	raw, err := f.read(name)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(raw)
	if block == nil || block.Type != pemType {
		return nil, fmt.Errorf("%s is not a private key in PEM", name)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	private, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s holds a %T, not an Ed25519 key", name, parsed)
	}
	return newKey(private)
}

func newKey(private ed25519.PrivateKey) (*key, error) {
	public, err := metadata.KeyFromPublicKey(private.Public())
	if err != nil {
		return nil, err
	}
	id, err := public.ID()
	if err != nil {
		return nil, err
	}
	signer, err := signature.LoadED25519Signer(private)
	if err != nil {
		return nil, err
	}
	return &key{private: private, public: public, id: id, signer: signer}, nil
}
