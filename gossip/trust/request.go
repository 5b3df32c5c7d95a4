package trust

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"swarmnode/content"
	"swarmnode/gossip"
)

// MaxRequest is the largest signing request, in bytes: a hundred roots and all that can be signed fit.
const MaxRequest = 1 << 20

// requestFormat is the version of the encoding of a [Request].
const requestFormat = 1

// ErrRequest is the cause of a signing request that cannot be used.
var ErrRequest = errors.New("bad signing request")

// Request asks the holders of keys that are not on the publisher's machine for their signatures. It holds every file to sign as the
// exact bytes, and the chain of roots that says whose signatures count, so it can be judged without a network. What people
// are shown is read from those bytes.
type Request struct {
	Collection content.ID
	roots      [][]byte
	root       *metadata.Metadata[metadata.RootType] // the newest of roots
	targets    []byte                                // the current targets, if no new one is to be signed; else nil
	docs       []*document                           // root, targets, release, as far as they are new
}

// requestFile is the encoded form of a request.
type requestFile struct {
	Format     int        `json:"swarmnode-signing-request"`
	Collection content.ID `json:"collection"`
	Roots      []string   `json:"roots"`
	Targets    string     `json:"targets,omitempty"`
	Sign       []string   `json:"sign"`
}

// document is one file to sign.
type document struct {
	role    string
	root    *metadata.Metadata[metadata.RootType]
	targets *metadata.Metadata[metadata.TargetsType] // of the roles targets and release
}

func (d *document) raw() ([]byte, error) {
	if d.root != nil {
		return d.root.ToBytes(false)
	}
	return d.targets.ToBytes(false)
}

func (d *document) signatures() *[]metadata.Signature {
	if d.root != nil {
		return &d.root.Signatures
	}
	return &d.targets.Signatures
}

// bare is the file without signatures.
func (d *document) bare() ([]byte, error) {
	all := d.signatures()
	had := *all
	*all = []metadata.Signature{}
	defer func() { *all = had }()
	return d.raw()
}

// add signs the file unless that key has.
func (d *document) add(k *key) (err error) {
	for _, s := range *d.signatures() {
		if s.KeyID == k.id {
			return nil
		}
	}
	if d.root != nil {
		_, err = d.root.Sign(k.signer)
	} else {
		_, err = d.targets.Sign(k.signer)
	}
	d.sort()
	return err
}

func (d *document) sort() {
	slices.SortFunc(*d.signatures(), func(a, b metadata.Signature) int { return strings.Compare(a.KeyID, b.KeyID) })
}

// signed reports whether a key of the authority has signed well.
func (d *document) signed(a authority, id string) bool {
	one := metadata.Root()
	one.Signed.Keys[id] = a.keys[id]
	one.Signed.Roles[roleTargets] = &metadata.Role{KeyIDs: []string{id}, Threshold: 1}
	if a.keys[id] == nil {
		return false
	}
	if d.root != nil {
		return one.VerifyDelegate(roleTargets, d.root) == nil
	}
	return one.VerifyDelegate(roleTargets, d.targets) == nil
}

// lacks tells which signatures of an authority are missing; nil if there are enough.
func (d *document) lacks(a authority) error {
	e := &MissingError{Role: a.role, Threshold: a.threshold}
	for _, id := range a.ids {
		if d.signed(a, id) {
			e.Have++
		} else {
			e.Keys = append(e.Keys, id)
		}
	}
	if e.Have >= max(a.threshold, 1) {
		return nil
	}
	return e
}

// doc finds the new file of a role, nil if there is none.
func (r *Request) doc(role string) *document {
	for _, d := range r.docs {
		if d.role == role {
			return d
		}
	}
	return nil
}

// authorities says whose signatures a file needs. A root needs those of the old and of the new root keys.
func (r *Request) authorities(d *document) ([]authority, error) {
	root := r.root
	if next := r.doc(roleRoot); next != nil {
		root = next.root
	}
	switch d.role {
	case roleRoot:
		return []authority{authorityOf(r.root, roleRoot), authorityOf(root, roleRoot)}, nil
	case roleTargets:
		return []authority{authorityOf(root, roleTargets)}, nil
	}
	targets, err := r.currentTargets()
	if err != nil {
		return nil, err
	}
	a, err := releaseAuthority(targets)
	return []authority{a}, err
}

func (r *Request) currentTargets() (*metadata.Metadata[metadata.TargetsType], error) {
	if d := r.doc(roleTargets); d != nil {
		return d.targets, nil
	}
	if r.targets == nil {
		return nil, fmt.Errorf("%w: a release without targets", ErrRequest)
	}
	return metadata.Targets().FromBytes(r.targets)
}

// Encode gives the bytes of the request's file.
func (r *Request) Encode() ([]byte, error) {
	w := requestFile{Format: requestFormat, Collection: r.Collection, Targets: string(r.targets)}
	for _, raw := range r.roots {
		w.Roots = append(w.Roots, string(raw))
	}
	for _, d := range r.docs {
		raw, err := d.raw()
		if err != nil {
			return nil, err
		}
		w.Sign = append(w.Sign, string(raw))
	}
	raw, err := json.MarshalIndent(w, "", "  ")
	if err == nil && len(raw) >= MaxRequest {
		err = fmt.Errorf("%w: %d bytes, at most %d are allowed", ErrRequest, len(raw), MaxRequest)
	}
	return append(raw, '\n'), err
}

// DecodeRequest reads what Encode writes and verifies all of it that can be verified: the chain of roots from the collection's
// ID, that the files are in their one encoding and follow on what is there, and each signature. Errors wrap ErrRequest.
func DecodeRequest(raw []byte) (r *Request, err error) {
	defer func() {
		if p := recover(); p != nil { // a bug of the TUF library, see Repository.verify
			r, err = nil, fmt.Errorf("%w: the verifier panicked: %v", ErrRequest, p)
		}
	}()
	var w requestFile
	if len(raw) > MaxRequest {
		return nil, fmt.Errorf("%w: %d bytes, at most %d are allowed", ErrRequest, len(raw), MaxRequest)
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&w); err != nil || w.Format != requestFormat {
		return nil, fmt.Errorf("%w: it is not a signing request of this version of swarmnode", ErrRequest)
	}
	if r, err = w.open(); err != nil && !errors.Is(err, ErrRequest) {
		err = fmt.Errorf("%w: %w", ErrRequest, err)
	}
	if err != nil {
		return nil, err
	}
	return r, nil
}

func (w *requestFile) open() (*Request, error) {
	r := &Request{Collection: w.Collection}
	for _, raw := range w.Roots {
		root, err := nextRoot(r.Collection, r.root, []byte(raw))
		if err != nil {
			return nil, err
		}
		r.root, r.roots = root, append(r.roots, []byte(raw))
	}
	if r.root == nil || len(w.Sign) == 0 {
		return nil, fmt.Errorf("%w: it has no root, or nothing to sign", ErrRequest)
	}
	last := -1
	for _, raw := range w.Sign {
		d, err := openDocument([]byte(raw))
		if err != nil {
			return nil, err
		}
		rank := slices.Index([]string{roleRoot, roleTargets, roleRelease}, d.role)
		if rank <= last {
			return nil, fmt.Errorf("%w: files in a wrong order", ErrRequest)
		}
		last = rank
		r.docs = append(r.docs, d)
	}
	if w.Targets != "" {
		r.targets = []byte(w.Targets)
		if _, err := peek(r.targets, roleTargets, gossip.MaxBundle); err != nil {
			return nil, err
		}
		m, err := metadata.Targets().FromBytes(r.targets)
		if err != nil {
			return nil, err
		}
		d := document{role: roleTargets, targets: m}
		if err := d.lacks(authorityOf(r.root, roleTargets)); err != nil {
			return nil, err
		}
	}
	return r, r.check()
}

// openDocument reads a file to sign. What has a delegation is targets; what has none is the release role's.
func openDocument(raw []byte) (*document, error) {
	var o outline
	if len(raw) > gossip.MaxBundle || json.Unmarshal(raw, &o) != nil || len(o.Signatures) > MaxSignatures || o.Signed.Version < 1 {
		return nil, fmt.Errorf("%w: a file to sign is too large or no metadata", ErrRequest)
	}
	d := &document{role: o.Signed.Type}
	var err error
	switch d.role {
	case roleRoot:
		d.root, err = metadata.Root().FromBytes(raw)
	case roleTargets:
		d.targets, err = metadata.Targets().FromBytes(raw)
		if err == nil && d.targets.Signed.Delegations == nil {
			d.role = roleRelease
		}
	default:
		return nil, fmt.Errorf("%w: a file to sign is of the role %.20q", ErrRequest, d.role)
	}
	if err != nil {
		return nil, err
	}
	again, err := d.raw()
	if err == nil && !bytes.Equal(again, raw) {
		err = fmt.Errorf("%w: a file to sign is not in its one encoding", ErrRequest)
	}
	return d, err
}

// check judges the files to sign together.
func (r *Request) check() error {
	for _, d := range r.docs {
		list, err := r.authorities(d)
		if err != nil {
			return err
		}
		known := map[string]bool{}
		for _, a := range list {
			if a.threshold < 1 || a.threshold > len(a.ids) || len(a.ids) > MaxKeys {
				return fmt.Errorf("%w: %d of %d keys of %s", ErrRequest, a.threshold, len(a.ids), a.role)
			}
			for _, id := range a.ids {
				known[id] = d.signed(a, id) || known[id]
			}
		}
		for i, s := range *d.signatures() {
			if !known[s.KeyID] || len(s.UnrecognizedFields) > 0 || i > 0 && (*d.signatures())[i-1].KeyID >= s.KeyID {
				return fmt.Errorf("%w: a signature of %s is wrong or does not belong there", ErrRequest, d.role)
			}
		}
	}
	if d := r.doc(roleRoot); d != nil {
		if d.root.Signed.Version != r.root.Signed.Version+1 {
			return fmt.Errorf("%w: root %d after %d", ErrRequest, d.root.Signed.Version, r.root.Signed.Version)
		}
		for _, role := range []string{roleTargets, roleSnapshot, roleTimestamp} {
			if a := authorityOf(d.root, role); a.threshold < 1 || a.threshold > len(a.ids) || len(a.ids) > MaxKeys {
				return fmt.Errorf("%w: %d of %d keys of %s", ErrRequest, a.threshold, len(a.ids), role)
			}
		}
	}
	if d := r.doc(roleRelease); d != nil {
		_, err := releaseIn(d.targets)
		return err
	}
	return nil
}

// releaseIn reads the release out of the release role's file.
func releaseIn(m *metadata.Metadata[metadata.TargetsType]) (gossip.Head, error) {
	name, err := releaseTarget(m)
	if err != nil {
		return gossip.Head{}, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	return readTarget(name, m.Signed.Targets[targetPrefix+name])
}

// Release gives the release that is to be signed; false if there is none.
func (r *Request) Release() (gossip.Head, bool) {
	d := r.doc(roleRelease)
	if d == nil {
		return gossip.Head{}, false
	}
	h, err := releaseIn(d.targets)
	return h, err == nil
}

// Missing says which signatures are still wanted; nil if there are enough.
func (r *Request) Missing() error {
	var errs []error
	for _, d := range r.docs {
		list, err := r.authorities(d)
		if err != nil {
			return err
		}
		for _, a := range list {
			if err := d.lacks(a); err != nil && (len(errs) == 0 || errs[len(errs)-1].Error() != err.Error()) {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

// Digest tells requests apart, however many signatures they have.
func (r *Request) Digest() (content.ID, error) {
	var all []byte
	for _, d := range r.docs {
		raw, err := d.bare()
		if err != nil {
			return content.ID{}, err
		}
		all = append(append(all, raw...), '\n')
	}
	return content.NewID(all), nil
}

// Merge takes over the signatures of another copy of the same request.
func (r *Request) Merge(other *Request) error {
	mine, err := r.Digest()
	if err != nil {
		return err
	}
	if theirs, err := other.Digest(); err != nil || theirs != mine || r.Collection != other.Collection {
		return fmt.Errorf("%w: the files are not copies of one request", ErrRequest)
	}
	for i, d := range r.docs {
		all := d.signatures()
		for _, s := range *other.docs[i].signatures() {
			if !slices.ContainsFunc(*all, func(have metadata.Signature) bool { return have.KeyID == s.KeyID }) {
				*all = append(*all, s)
			}
		}
		d.sort()
	}
	return nil
}

// SignFiles adds the signatures of the keys in some files and directories, which are looked through for *.key. It tells the roles
// that each key signed for. It is an error if none of them can sign.
func (r *Request) SignFiles(paths ...string) (map[string][]string, error) {
	found := map[string]*key{}
	for _, path := range paths {
		err := filepath.WalkDir(path, func(p string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() || p != path && !strings.HasSuffix(p, ".key") {
				return err
			}
			k, err := readKey(folder{dir: filepath.Dir(p)}, filepath.Base(p))
			if err == nil {
				found[k.id] = k
			}
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("read keys in %s: %w", path, err)
		}
	}
	done, err := r.signWith(found)
	if err == nil && len(done) == 0 {
		err = fmt.Errorf("none of the %d keys can sign this; it has %w", len(found), r.Missing())
	}
	return done, err
}

// signWith signs with every key that may.
func (r *Request) signWith(found map[string]*key) (map[string][]string, error) {
	done := map[string][]string{}
	for _, d := range r.docs {
		list, err := r.authorities(d)
		if err != nil {
			return nil, err
		}
		for _, id := range slices.Sorted(maps.Keys(found)) {
			if !slices.ContainsFunc(list, func(a authority) bool { return slices.Contains(a.ids, id) }) {
				continue
			}
			if err := d.add(found[id]); err != nil {
				return nil, err
			}
			done[id] = append(done[id], d.role)
		}
	}
	return done, nil
}
