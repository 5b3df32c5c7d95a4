package trust

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// MaxKeys is the most keys of one role: a file with a signature of each old and each new key stays within MaxSignatures.
const MaxKeys = MaxSignatures / 2

// shortID is how many digits of a key's ID people are shown: enough to tell a dozen keys apart.
const shortID = 8

// KeyPlan says how many new keys a role gets and where their files go. The zero value is one key, kept here.
type KeyPlan struct {
	Keys      int    // default 1
	Threshold int    // how many of them must sign; default 1
	Out       string // directory in which each key gets a folder to be carried away; "" keeps them here
}

func (p KeyPlan) withDefaults() (KeyPlan, error) {
	p.Keys, p.Threshold = max(p.Keys, 1), max(p.Threshold, 1)
	if p.Keys > MaxKeys || p.Threshold > p.Keys {
		return p, fmt.Errorf("%d of %d keys: there may be 1 to %d keys, and no more of them can be needed than there are", p.Threshold, p.Keys, MaxKeys)
	}
	return p, nil
}

// authority is a set of keys of which some must sign.
type authority struct {
	role      string
	ids       []string
	threshold int
	keys      map[string]*metadata.Key
}

// authorityOf reads the authority of a role out of a root.
func authorityOf(root *metadata.Metadata[metadata.RootType], role string) authority {
	a := authority{role: role, keys: root.Signed.Keys}
	if r := root.Signed.Roles[role]; r != nil {
		a.ids, a.threshold = r.KeyIDs, r.Threshold
	}
	return a
}

// releaseAuthority reads the authority of the release role out of targets.
func releaseAuthority(targets *metadata.Metadata[metadata.TargetsType]) (authority, error) {
	d, err := releaseDelegation(targets)
	if err != nil {
		return authority{}, err
	}
	return authority{role: roleRelease, ids: d.KeyIDs, threshold: d.Threshold, keys: targets.Signed.Delegations.Keys}, nil
}

func (a authority) same(b authority) bool {
	return a.threshold == b.threshold && slices.Equal(slices.Sorted(slices.Values(a.ids)), slices.Sorted(slices.Values(b.ids)))
}

// MissingError says which signatures a file lacks. It is fs.ErrNotExist: their keys are not here.
type MissingError struct {
	Role      string
	Have      int
	Threshold int
	Keys      []string // IDs of those that can sign and have not
}

func (e *MissingError) Error() string {
	var short []string
	for _, id := range e.Keys {
		short = append(short, shorten(id))
	}
	return fmt.Sprintf("%d of %d signatures of %s; ask the holders of keys %s", e.Have, e.Threshold, e.Role, strings.Join(short, ", "))
}

// Is makes the error one of fs.ErrNotExist.
func (e *MissingError) Is(target error) bool { return target == fs.ErrNotExist }

func shorten(id string) string { return id[:min(len(id), shortID)] }

// held gives the private keys of an authority that are here, as many as must sign; an error if they are too few.
func (k *Keys) held(a authority) ([]*key, error) {
	var list []*key
	missing := &MissingError{Role: a.role, Threshold: a.threshold}
	for _, id := range a.ids {
		if key := k.keys[id]; key != nil {
			list = append(list, key)
		} else {
			missing.Keys = append(missing.Keys, id)
		}
	}
	if missing.Have = len(list); missing.Have < max(a.threshold, 1) {
		return list, missing
	}
	return list[:a.threshold], nil
}

// role gives the authority of a role as it should be: of release what the next targets will delegate to.
func (k *Keys) role(role string) authority {
	if role == roleRelease {
		return k.release
	}
	return authorityOf(k.root, role)
}

// first is a key of a role that is here, nil if there is none.
func (k *Keys) first(role string) *key {
	list, _ := k.held(k.role(role))
	if len(list) == 0 {
		return nil
	}
	return list[0]
}

// releaseRole is the content of releaseFile: public halves only.
type releaseRole struct {
	Threshold int
	KeyIDs    []string
	Keys      map[string]*metadata.Key
}

// releaseFile names the keys of the release role if they are not just release.key: targets, which delegates to them, may have to
// be signed elsewhere first.
const releaseFile = "release-role.json"

// loadRelease reads which keys the release role has.
func (k *Keys) loadRelease() error {
	raw, err := k.folder.read(releaseFile)
	if errors.Is(err, fs.ErrNotExist) {
		one, err := readKey(k.folder, keyFile(roleRelease))
		if err != nil {
			return err
		}
		k.release = onlyKey(one)
		return nil
	}
	var r releaseRole
	if err == nil {
		err = json.Unmarshal(raw, &r)
	}
	if err == nil && (r.Threshold < 1 || len(r.KeyIDs) < r.Threshold || len(r.KeyIDs) > MaxKeys) {
		err = errors.New("it does not say which keys sign releases")
	}
	if err != nil {
		return fmt.Errorf("%s: %w", releaseFile, err)
	}
	k.release = authority{role: roleRelease, ids: r.KeyIDs, threshold: r.Threshold, keys: r.Keys}
	return nil
}

func onlyKey(k *key) authority {
	return authority{role: roleRelease, ids: []string{k.id}, threshold: 1, keys: map[string]*metadata.Key{k.id: k.public}}
}

func (k *Keys) setRelease(a authority) error {
	raw, err := json.Marshal(releaseRole{Threshold: a.threshold, KeyIDs: a.ids, Keys: a.keys})
	if err != nil {
		return err
	}
	if err := k.folder.write(releaseFile, raw, 0o600); err != nil {
		return err
	}
	k.release = a
	return nil
}

// makeKeys makes the keys of a plan. What an attempt that was cut off has made is taken again if reuse is set.
func (k *Keys) makeKeys(role string, plan KeyPlan, reuse bool) ([]*key, error) {
	var list []*key
	for i := range plan.Keys {
		f, name := k.folder, keyFile(role)
		if i > 0 {
			name = keyFile(fmt.Sprintf("%s-%d", role, i+1))
		}
		if plan.Out != "" {
			var err error
			holder := fmt.Sprintf("%s-%d", role, i+1)
			if f, err = openFolder(filepath.Join(plan.Out, holder), 0o700); err != nil {
				return nil, err
			}
			f.before, name = k.folder.before, keyFile(holder)
		}
		made, err := readKey(f, name)
		switch {
		case err == nil && !reuse:
			return nil, fmt.Errorf("%s: %w", filepath.Join(f.dir, name), fs.ErrExist)
		case errors.Is(err, fs.ErrNotExist):
			made, err = makeKey(f, name)
		}
		if err != nil {
			return nil, err
		}
		list = append(list, made)
	}
	return list, nil
}

// nextKeys makes keys of a rotation: those that stay here wait under names of their own until a root or targets names them.
func (k *Keys) nextKeys(role string, plan KeyPlan) ([]*key, error) {
	if plan.Out != "" {
		return k.makeKeys(role, plan, false)
	}
	var list []*key
	for range plan.Keys {
		made, raw, err := newKeyFile()
		if err != nil {
			return nil, err
		}
		name := keyFile(role + "-" + shorten(made.id))
		if err := k.folder.write(name, raw, 0o600); err != nil {
			return nil, err
		}
		k.keys[made.id], k.files[made.id] = made, name
		list = append(list, made)
	}
	return list, nil
}

// loadKeys reads every private key that is here, whatever its file is called.
func (k *Keys) loadKeys() error {
	names, err := filepath.Glob(filepath.Join(k.folder.dir, "*.key*"))
	if err != nil {
		return err
	}
	for _, path := range names {
		name := filepath.Base(path)
		if !strings.HasSuffix(strings.TrimSuffix(name, nextSuffix), ".key") {
			continue
		}
		got, err := readKey(k.folder, name)
		if err != nil {
			return err
		}
		k.keys[got.id], k.files[got.id] = got, name
	}
	return nil
}

// settle removes the key files that a root has replaced. Keys of a rotation that waits for signatures stay, and so does what the
// release role had: targets may still name it.
func (k *Keys) settle(old *metadata.Metadata[metadata.RootType]) error {
	for _, role := range roles() {
		if role == roleRelease {
			continue
		}
		for _, id := range old.Signed.Roles[role].KeyIDs {
			if _, used := k.root.Signed.Keys[id]; !used && k.files[id] != "" && !slices.Contains(k.release.ids, id) {
				if err := k.folder.remove(k.files[id]); err != nil {
					return err
				}
				delete(k.files, id)
				delete(k.keys, id)
			}
		}
	}
	return nil
}

// KeyInfo is one key of a role.
type KeyInfo struct {
	ID   string `json:"id"`
	File string `json:"file,omitempty"` // of the private half; "" if it is not here
}

// RoleInfo is how a role stands.
type RoleInfo struct {
	Role      string    `json:"role"`
	Threshold int       `json:"threshold"`
	Keys      []KeyInfo `json:"keys"`
	Here      bool      `json:"here"`              // enough keys are here to sign
	Expires   time.Time `json:"expires,omitzero"`  // of what the role has signed last; zero if nothing
	Pending   bool      `json:"pending,omitempty"` // these keys count once targets is signed
}

func (k *Keys) info(role string) RoleInfo {
	a := k.role(role)
	_, err := k.held(a)
	info := RoleInfo{Role: role, Threshold: a.threshold, Here: err == nil}
	for _, id := range a.ids {
		e := KeyInfo{ID: id}
		if k.files[id] != "" {
			e.File = filepath.Join(k.folder.dir, k.files[id])
		}
		info.Keys = append(info.Keys, e)
	}
	return info
}

// publicOf maps the IDs of keys to their public halves.
func publicOf(list []*key) map[string]*metadata.Key {
	out := map[string]*metadata.Key{}
	for _, k := range list {
		out[k.id] = k.public
	}
	return out
}

func idsOf(list []*key) []string { return slices.Sorted(maps.Keys(publicOf(list))) }
