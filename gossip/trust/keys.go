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

// Keys are a publisher's private keys, one Ed25519 key for each role, and the chain of roots that names their public
// halves. The keys of root and targets may be kept elsewhere: without their files everything but rotation, renewal of
// these two and the very first release works. Keys is not safe for concurrent use; a [Signer] owns it.
//
// In the directory (mode 0700): root.key, targets.key, snapshot.key, timestamp.key and release.key, each PKCS #8 in PEM
// with mode 0600, and every N.root.json.
type Keys struct {
	folder folder
	keys   map[string]*key
	roots  [][]byte // index 0 is version 1
	root   *metadata.Metadata[metadata.RootType]
	id     content.ID
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
	// nextSuffix marks a key that takes its place when the root that names it is durable.
	nextSuffix = ".next"
)

func keyFile(role string) string { return role + ".key" }

// Init makes the keys of a new collection and its first root in dir, and tells the collection's ID. It is an error
// (fs.ErrExist) if a collection is there already. An Init that was cut off is completed by the next one.
func Init(dir string, now time.Time, life Lifetimes) (*Keys, content.ID, error) {
	k, err := initKeys(dir, now, life)
	if err != nil {
		return nil, content.ID{}, fmt.Errorf("make keys in %s: %w", dir, err)
	}
	return k, k.id, nil
}

func initKeys(dir string, now time.Time, life Lifetimes) (*Keys, error) {
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
	k := &Keys{folder: f, keys: map[string]*key{}}
	for _, role := range roles() {
		if k.keys[role], err = readKey(f, keyFile(role)); errors.Is(err, fs.ErrNotExist) {
			k.keys[role], err = makeKey(f, keyFile(role))
		}
		if err != nil {
			return nil, err
		}
	}
	root := metadata.Root(expiry(now, life.withDefaults().Others))
	for _, role := range roles() {
		if role == roleRelease {
			continue // named by targets
		}
		if err := root.Signed.AddKey(k.keys[role].public, role); err != nil {
			return nil, err
		}
	}
	if err := k.addRoot(root, k.keys[roleRoot]); err != nil {
		return nil, err
	}
	k.id = content.NewID(k.roots[0])
	return k, nil
}

// OpenKeys loads the keys that Init made. It is fs.ErrNotExist if there are none.
func OpenKeys(dir string) (*Keys, error) {
	k := &Keys{folder: folder{dir: dir}, keys: map[string]*key{}}
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
		if v == 1 {
			k.id = content.NewID(raw)
		}
		if k.root, err = nextRoot(k.id, k.root, raw); err != nil {
			return err
		}
		k.roots = append(k.roots, raw)
	}
	for _, role := range roles() {
		if err := k.settle(role); err != nil {
			return err
		}
		got, err := readKey(k.folder, keyFile(role))
		if errors.Is(err, fs.ErrNotExist) && (role == roleRoot || role == roleTargets) {
			continue
		}
		if err != nil {
			return err
		}
		if r, ok := k.root.Signed.Roles[role]; ok && !slices.Contains(r.KeyIDs, got.id) {
			return fmt.Errorf("%s is not the key that root %d names", keyFile(role), k.root.Signed.Version)
		}
		k.keys[role] = got
	}
	return nil
}

// settle finishes or forgets the rotation of a role that was cut off: the newest root decides.
func (k *Keys) settle(role string) error {
	name := keyFile(role) + nextSuffix
	next, err := readKey(k.folder, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if r, ok := k.root.Signed.Roles[role]; ok && slices.Contains(r.KeyIDs, next.id) {
		return k.folder.rename(name, keyFile(role))
	}
	return k.folder.remove(name)
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

// Rotate replaces the keys of roles and signs the next root with the old and the new root key. The new release key is
// named by targets, which the signer signs again at its next Sign or Heartbeat. Nodes that verified a release stay with
// its number: a rotation does not take releases back.
func (k *Keys) Rotate(now time.Time, life Lifetimes, rotate ...string) error {
	if err := k.rotate(now, life, rotate); err != nil {
		return fmt.Errorf("rotate keys %v: %w", rotate, err)
	}
	return nil
}

func (k *Keys) rotate(now time.Time, life Lifetimes, rotate []string) error {
	oldRoot := k.keys[roleRoot]
	if oldRoot == nil {
		return fmt.Errorf("%s: %w", keyFile(roleRoot), fs.ErrNotExist)
	}
	root, err := k.nextRoot(now, life)
	if err != nil {
		return err
	}
	fresh := map[string]*key{}
	for _, role := range rotate {
		if !slices.Contains(roles(), role) {
			return fmt.Errorf("there is no role %q", role)
		}
		name := keyFile(role) + nextSuffix
		if role == roleRelease {
			name = keyFile(role) // no root names it
		}
		if fresh[role], err = makeKey(k.folder, name); err != nil {
			return err
		}
		if role == roleRelease {
			continue
		}
		for _, old := range slices.Clone(root.Signed.Roles[role].KeyIDs) {
			if err := root.Signed.RevokeKey(old, role); err != nil {
				return err
			}
		}
		if err := root.Signed.AddKey(fresh[role].public, role); err != nil {
			return err
		}
	}
	signers := []*key{oldRoot}
	if fresh[roleRoot] != nil {
		signers = append(signers, fresh[roleRoot])
	}
	if err := k.addRoot(root, signers...); err != nil {
		return err
	}
	for role, key := range fresh {
		k.keys[role] = key
		if err := k.settle(role); err != nil {
			return err
		}
	}
	return nil
}

// renew signs the next root with the same keys if the newest one is due. Without the root key nothing happens.
func (k *Keys) renew(now time.Time, life Lifetimes) error {
	if k.keys[roleRoot] == nil || !due(k.root.Signed.Expires, now, life) {
		return nil
	}
	return k.Rotate(now, life)
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

// addRoot signs a root and makes it durable; this is the moment at which it exists.
func (k *Keys) addRoot(root *metadata.Metadata[metadata.RootType], signers ...*key) error {
	raw, err := sign(root, signers...)
	if err != nil {
		return err
	}
	if err := k.folder.write(versioned(root.Signed.Version, roleRoot), raw, 0o644); err != nil {
		return err
	}
	k.root, k.roots = root, append(k.roots, raw)
	return nil
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
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, err
	}
	if err := f.write(name, pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: der}), 0o600); err != nil {
		return nil, err
	}
	return newKey(private)
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
