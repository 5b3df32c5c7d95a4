package trust

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"swarmnode/content"
	"swarmnode/gossip"
)

// ErrStale says that a signing request is not the one that this signer waits for.
var ErrStale = errors.New("this is not the signing request that was made here last for the present state: it was used already, or another release " +
	"or request came meanwhile; make a new one with `swarmnode publish --prepare`")

// offeredPrefix begins the names of files that were signed elsewhere and wait for the snapshot that names them.
const offeredPrefix = "offered."

// Prepare makes the request for all that a release needs and this machine cannot sign; nil if there is nothing. The number of the
// release and the versions of the files are taken from then on, as by Sign, with the same errors.
func (s *Signer) Prepare(now time.Time, r Release) (*Request, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.check(r); err != nil {
		return nil, fmt.Errorf("prepare release %d of %.80q: %w", r.Number, r.Name, err)
	}
	req, err := s.prepare(now, nil, nil, &r)
	if err == nil && (req == nil || req.Missing() == nil) {
		return nil, nil
	}
	if err == nil {
		err = s.ask(req)
	}
	if err != nil {
		return nil, fmt.Errorf("prepare release %d of %.80q: %w", r.Number, r.Name, err)
	}
	return req, nil
}

// PrepareRenewal makes the request for what has to be signed again without a new release; nil if there is nothing.
func (s *Signer) PrepareRenewal(now time.Time) (*Request, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	req, err := s.prepare(now, nil, nil, nil)
	if err == nil && (req == nil || req.Missing() == nil) {
		return nil, nil
	}
	if err == nil {
		err = s.ask(req)
	}
	if err != nil {
		return nil, fmt.Errorf("prepare a renewal: %w", err)
	}
	return req, nil
}

// prepare makes the files to sign, signed with what is here and with fresh keys. root is nil unless it is to change.
func (s *Signer) prepare(now time.Time, root *metadata.Metadata[metadata.RootType], fresh []*key, r *Release) (*Request, error) {
	now = now.UTC().Truncate(time.Second)
	d, err := s.draft(now)
	if err != nil {
		return nil, err
	}
	req := &Request{Collection: s.keys.id, roots: slices.Clone(s.keys.roots), root: s.keys.root}
	if _, err := s.keys.held(s.keys.role(roleRoot)); err != nil && root == nil && due(s.keys.root.Signed.Expires, now, s.life) {
		if root, err = s.keys.nextRoot(now, s.life); err != nil {
			return nil, err
		}
	}
	newest := s.keys.root
	if root != nil {
		newest = root
		req.docs = append(req.docs, &document{role: roleRoot, root: root})
	}
	targets := d.targets
	if !d.targetsGood(newest) {
		d.made.Targets++
		targets = d.newTargets()
		req.docs = append(req.docs, &document{role: roleTargets, targets: targets})
	} else {
		req.targets = d.files[versioned(d.version(roleTargets), roleTargets)]
	}
	found := maps.Clone(s.keys.keys)
	for _, k := range fresh {
		found[k.id] = k
	}
	a, err := releaseAuthority(targets)
	if err != nil {
		return nil, err
	}
	_, lacking := s.keys.held(a) // fresh keys that are carried away sign now or never
	stale := d.release != nil && (targets.VerifyDelegate(roleRelease, d.release) != nil || due(d.release.Signed.Expires, now, s.life))
	if lacking != nil && (r != nil || stale) {
		m, err := d.newRelease(r, targets)
		if err != nil {
			return nil, err
		}
		req.docs = append(req.docs, &document{role: roleRelease, targets: m})
	}
	if len(req.docs) == 0 {
		return nil, nil
	}
	_, err = req.signWith(found)
	return req, err
}

// ask takes the versions and the number of a request, durably, before anybody sees it.
func (s *Signer) ask(req *Request) error {
	m := s.made
	var err error
	if m.Asked, err = req.Digest(); err != nil {
		return err
	}
	if d := req.doc(roleTargets); d != nil {
		m.Targets = d.targets.Signed.Version
	}
	if d := req.doc(roleRelease); d != nil {
		h, err := releaseIn(d.targets)
		if err != nil {
			return err
		}
		m.Release, m.Manifest, m.Delegated, m.Retaken = h.Release, content.ID(h.Manifest), d.targets.Signed.Version, s.keys.RootVersion()
	}
	return s.storeMade(m)
}

// Accept takes over what the holders of keys have signed; if a release is in it, it becomes the current one. What is still
// missing is a [*MissingError], a request that does not fit any more ErrStale. After a crash the same request is accepted again.
func (s *Signer) Accept(now time.Time, req *Request) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if req.Collection != s.keys.id {
		return fmt.Errorf("%w: it is about the collection %s, the keys here are those of %s", ErrRequest, req.Collection, s.keys.id)
	}
	if digest, err := req.Digest(); err != nil || digest != s.made.Asked {
		return errors.Join(ErrStale, err)
	}
	if err := req.Missing(); err != nil {
		return fmt.Errorf("the request is not signed yet: %w", err)
	}
	return s.accept(now, req)
}

func (s *Signer) accept(now time.Time, req *Request) error {
	root := req.doc(roleRoot)
	var raw []byte
	if root != nil {
		var err error
		if raw, err = root.raw(); err != nil {
			return err
		}
	}
	installed := root != nil && root.root.Signed.Version <= s.keys.RootVersion() && bytes.Equal(raw, s.keys.roots[root.root.Signed.Version-1])
	if !installed && req.root.Signed.Version != s.keys.RootVersion() {
		return ErrStale
	}
	for _, d := range req.docs {
		if d.role == roleRoot {
			continue
		}
		if d.role == roleRelease {
			if h, err := releaseIn(d.targets); err != nil || h.Release < s.made.Release {
				return errors.Join(ErrStale, err)
			}
		}
		raw, err := d.raw()
		if err != nil {
			return err
		}
		if err := s.folder.write(offeredPrefix+d.role, raw, 0o600); err != nil {
			return err
		}
		s.offered[d.role] = d
	}
	if root != nil && !installed {
		if err := s.keys.addRoot(raw); err != nil {
			return err
		}
	}
	if s.set.head.Release > 0 || s.offered[roleRelease] != nil {
		if _, err := s.issue(now, nil); err != nil {
			return err
		}
	}
	m := s.made
	m.Asked = content.ID{}
	return s.storeMade(m)
}

// loadOffered reads what waits; what is damaged is left aside, as its request can be accepted again.
func (s *Signer) loadOffered() {
	for _, role := range []string{roleTargets, roleRelease} {
		raw, err := s.folder.read(offeredPrefix + role)
		if err != nil {
			continue
		}
		if d, err := openDocument(raw); err == nil && d.role == role {
			s.offered[role] = d
		}
	}
}

// dropOffered forgets what the current snapshot has taken in or gone past.
func (s *Signer) dropOffered() {
	for role, d := range s.offered {
		if d.targets.Signed.Version <= s.set.snapshot.Signed.Meta[role+".json"].Version {
			s.folder.remove(offeredPrefix + role) // if it stays it is not taken again
			delete(s.offered, role)
		}
	}
}

// Next is the least number that a release may have.
func (s *Signer) Next() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.made.Release == s.set.head.Release {
		return s.made.Release + 1
	}
	return max(s.made.Release, 1)
}

// Change says what becomes of the keys of a role.
type Change struct {
	Role    string
	Replace []string // IDs, or their first digits, of the keys to replace; empty for all
	Plan    KeyPlan  // Keys is how many there are to be in all, 0 for as many as now; Threshold 0 for the one now
}

// Rotate replaces keys. New keys are made at once; what the holders of others have to sign is in the request, nil if all could be
// signed here. Nodes that verified a release stay with its number: a rotation does not take releases back.
func (s *Signer) Rotate(now time.Time, changes ...Change) (*Request, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	req, err := s.rotate(now, changes)
	if err != nil {
		return nil, fmt.Errorf("rotate keys: %w", err)
	}
	return req, nil
}

func (s *Signer) rotate(now time.Time, changes []Change) (*Request, error) {
	root, err := s.keys.nextRoot(now, s.life)
	if err != nil {
		return nil, err
	}
	var fresh []*key
	rooted := false
	next := make([]authority, len(changes))
	keep := make([][]string, len(changes))
	for i := range changes { // all of it is checked before a key is made
		if keep[i], err = s.keys.kept(&changes[i]); err != nil {
			return nil, err
		}
	}
	for i, c := range changes {
		made, err := s.keys.nextKeys(c.Role, KeyPlan{Keys: c.Plan.Keys - len(keep[i]), Out: c.Plan.Out})
		if err != nil {
			return nil, err
		}
		fresh = append(fresh, made...)
		a := authority{role: c.Role, threshold: c.Plan.Threshold, keys: publicOf(made)}
		for _, id := range keep[i] {
			a.keys[id] = s.keys.role(c.Role).keys[id]
		}
		a.ids = slices.Sorted(maps.Keys(a.keys))
		next[i] = a
		if c.Role != roleRelease {
			rooted = true
			setRole(root, a)
		}
	}
	for _, a := range next {
		if a.role == roleRelease {
			if err := s.keys.setRelease(a); err != nil {
				return nil, err
			}
		}
	}
	if !rooted {
		root = nil
	}
	req, err := s.prepare(now, root, fresh, nil)
	if err != nil || req == nil {
		return nil, err
	}
	if req.Missing() == nil {
		return nil, s.accept(now, req)
	}
	return req, s.ask(req)
}

// kept completes a change and tells which keys stay.
func (k *Keys) kept(c *Change) ([]string, error) {
	if !slices.Contains(roles(), c.Role) {
		return nil, fmt.Errorf("there is no role %q; there are %s", c.Role, strings.Join(roles(), ", "))
	}
	a := k.role(c.Role)
	if c.Plan.Keys == 0 {
		c.Plan.Keys = len(a.ids)
	}
	if c.Plan.Threshold == 0 {
		c.Plan.Threshold = min(a.threshold, c.Plan.Keys)
	}
	var err error
	if c.Plan, err = c.Plan.withDefaults(); err != nil {
		return nil, fmt.Errorf("%s: %w", c.Role, err)
	}
	if len(c.Replace) == 0 {
		return nil, nil
	}
	stay := slices.Clone(a.ids)
	for _, prefix := range c.Replace {
		before := len(stay)
		stay = slices.DeleteFunc(stay, func(id string) bool { return len(prefix) >= 4 && strings.HasPrefix(id, prefix) })
		if before-len(stay) != 1 {
			return nil, fmt.Errorf("%q is not one key of %s: %s", prefix, c.Role, keysInWords(a))
		}
	}
	if len(stay) >= c.Plan.Keys {
		return nil, fmt.Errorf("%d keys of %s would stay, so none would be new", len(stay), c.Role)
	}
	return stay, nil
}

// Rotate replaces the keys of roles of which all keys are here, before there is a signer or while it rests; see Signer.Rotate for
// keys that are elsewhere.
func (k *Keys) Rotate(now time.Time, life Lifetimes, rotate ...string) error {
	root, err := k.nextRoot(now, life)
	if err != nil {
		return err
	}
	signers, err := k.held(k.role(roleRoot))
	if err != nil {
		return fmt.Errorf("rotate keys %v: %w", rotate, err)
	}
	for _, role := range rotate {
		c := Change{Role: role}
		if _, err := k.kept(&c); err != nil {
			return fmt.Errorf("rotate keys %v: %w", rotate, err)
		}
		made, err := k.nextKeys(role, c.Plan)
		if err != nil {
			return fmt.Errorf("rotate keys %v: %w", rotate, err)
		}
		a := authority{role: role, ids: idsOf(made), threshold: c.Plan.Threshold, keys: publicOf(made)}
		if role == roleRelease {
			if err := k.setRelease(a); err != nil {
				return fmt.Errorf("rotate keys %v: %w", rotate, err)
			}
			continue
		}
		setRole(root, a)
		if role == roleRoot {
			signers = append(signers, made[:a.threshold]...)
		}
	}
	raw, err := sign(root, signers...)
	if err == nil {
		err = k.addRoot(raw)
	}
	if err != nil {
		return fmt.Errorf("rotate keys %v: %w", rotate, err)
	}
	return nil
}

// Show tells how every role stands.
func (s *Signer) Show() []RoleInfo {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []RoleInfo
	for _, role := range roles() {
		info := s.keys.info(role)
		switch {
		case role == roleRoot:
			info.Expires = s.keys.root.Signed.Expires
		case s.set.timestamp == nil:
		case role == roleTargets:
			info.Expires = s.set.targets[roleTargets].Signed.Expires
		case role == roleSnapshot:
			info.Expires = s.set.snapshot.Signed.Expires
		case role == roleTimestamp:
			info.Expires = s.set.timestamp.Signed.Expires
		case role == roleRelease:
			a, err := releaseAuthority(s.set.targets[roleTargets])
			info.Pending = err != nil || !a.same(s.keys.release)
			if m, err := metadata.Targets().FromBytes(s.set.files[versioned(s.set.snapshot.Signed.Meta[roleRelease+".json"].Version, roleRelease)]); err == nil {
				info.Expires = m.Signed.Expires
			}
		}
		out = append(out, info)
	}
	return out
}

// Renewals lists the roles that should be signed again and cannot be here, see due.
func (s *Signer) Renewals(now time.Time) []RoleInfo {
	return slices.DeleteFunc(s.Show(), func(r RoleInfo) bool { return r.Here || r.Expires.IsZero() || !due(r.Expires, now, s.life) })
}

// Supersedes reports whether what a repository has verified last was signed with keys that have been replaced since, so that a
// release of this signer with a greater number may follow on it: how control is taken back from a thief of online keys.
func (s *Signer) Supersedes(r *Repository) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.id == s.keys.id && r.head.Release > s.set.head.Release && r.set.timestamp == nil && r.set.rootVersion() == s.keys.RootVersion()
}

// skipTo takes all numbers up to that of a release by a thief.
func (s *Signer) skipTo(h gossip.Head) error {
	if h.Release <= s.made.Release {
		return nil
	}
	m := s.made
	m.Release, m.Manifest = h.Release, content.ID(h.Manifest)
	return s.storeMade(m)
}

// storeMade writes what is taken.
func (s *Signer) storeMade(m made) error {
	raw, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if err := s.folder.write(signerFile, raw, 0o600); err != nil {
		return err
	}
	s.made = m
	return nil
}
