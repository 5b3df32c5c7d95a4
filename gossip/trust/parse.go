package trust

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"swarmnode/content/guard"
	"swarmnode/gossip"
)

// peeked is what is read of a timestamp before any signature is checked: enough to drop what is old.
type peeked struct {
	version int64
	root    int64 // under which it says it was signed; 0 if it does not say
	keys    []string
}

// outline is the part of a metadata file that is looked at first.
type outline struct {
	Signed struct {
		Type    string `json:"_type"`
		Version int64  `json:"version"`
		Root    int64  `json:"swarmnode-root"`

		Meta, Targets, Roles entries // Roles of a root
		Keys                 keyEntries
		Delegations          *struct {
			Keys     keyEntries
			Roles    []*struct{ Name string }
			Succinct *struct {
				Bits int `json:"bit_length"`
			} `json:"succinct_roles"`
		}
	} `json:"signed"`
	Signatures []struct {
		KeyID string `json:"keyid"`
	} `json:"signatures"`
}

// entries are objects by name of which only that they are objects is looked at.
type entries map[string]*struct{}

// keyEntries are public keys by ID.
type keyEntries map[string]*struct {
	Type  string `json:"keytype"`
	Value struct {
		Public string `json:"public"`
	} `json:"keyval"`
}

// check refuses an Ed25519 key of another length than such keys have: the standard library panics on it.
func (k keyEntries) check() error {
	for id, key := range k {
		if key == nil || key.Type == metadata.KeyTypeEd25519 && len(key.Value.Public) != 2*ed25519.PublicKeySize {
			return fmt.Errorf("%w: key %.80q", gossip.ErrMalformed, id)
		}
	}
	return nil
}

// solid refuses what go-tuf 2.4.2 stumbles over: an entry that is null where it expects an object, a number of bins that
// cannot be shifted by. It also refuses delegated roles that take the name of another role's file.
func (o *outline) solid() error {
	s := &o.Signed
	if err := s.Keys.check(); err != nil {
		return err
	}
	if s.Type == roleTimestamp && s.Meta[roleSnapshot+".json"] == nil {
		return fmt.Errorf("%w: no entry for %s", gossip.ErrMalformed, roleSnapshot)
	}
	if d := s.Delegations; d != nil {
		if err := d.Keys.check(); err != nil {
			return err
		}
		if d.Succinct != nil && (d.Succinct.Bits < 1 || d.Succinct.Bits > maxSuccinctBits) {
			return fmt.Errorf("%w: succinct roles of %d bits", gossip.ErrMalformed, d.Succinct.Bits)
		}
		for _, r := range d.Roles {
			if r == nil || r.Name == "" || slices.Contains([]string{roleRoot, roleTargets, roleSnapshot, roleTimestamp}, r.Name) {
				return fmt.Errorf("%w: a delegated role without a name of its own", gossip.ErrMalformed)
			}
		}
	}
	for _, m := range []entries{s.Meta, s.Targets, s.Roles} {
		for name, e := range m {
			if e == nil {
				return fmt.Errorf("%w: nothing where the entry for %.80q should be", gossip.ErrMalformed, name)
			}
		}
	}
	return nil
}

// maxSuccinctBits is the most bits of a path's hash that choose a bin (TAP 15).
const maxSuccinctBits = 32

// peek checks the size and the number of signatures of a file, so that what follows has bounded cost, and reads its
// version. Nothing that it returns is trusted.
func peek(raw []byte, role string, limit int) (peeked, error) {
	if guard.On(guard.FileLimit) && len(raw) > limit {
		return peeked{}, fmt.Errorf("%w: %s of %d bytes, at most %d are allowed", gossip.ErrMalformed, role, len(raw), limit)
	}
	var o outline
	if err := json.Unmarshal(raw, &o); err != nil {
		return peeked{}, fmt.Errorf("%w: %s: %w", gossip.ErrMalformed, role, err)
	}
	if o.Signed.Type != role || o.Signed.Version < 1 {
		return peeked{}, fmt.Errorf("%w: %.20q version %d where %s was expected", gossip.ErrMalformed, o.Signed.Type,
			o.Signed.Version, role)
	}
	if n := len(o.Signatures); guard.On(guard.SignatureLimit) && (n < 1 || n > MaxSignatures) {
		return peeked{}, fmt.Errorf("%w: %s with %d signatures, 1 to %d are allowed", gossip.ErrMalformed, role, n, MaxSignatures)
	}
	if err := o.solid(); err != nil {
		return peeked{}, fmt.Errorf("%s: %w", role, err)
	}
	p := peeked{version: o.Signed.Version, root: o.Signed.Root}
	for _, s := range o.Signatures {
		p.keys = append(p.keys, s.KeyID)
	}
	return p, nil
}

// canonical refuses every encoding of a file but one, and every part of it that no signature covers: unknown fields
// around the signed part, and signatures by keys that do not belong there. Without it one message has dozens of valid
// twins (upper-case hex, blanks, duplicate keys), each of which would travel through the swarm.
func canonical[T metadata.Roles](m *metadata.Metadata[T], raw []byte, signers ...[]string) error {
	again, err := m.ToBytes(false)
	if err != nil {
		return fmt.Errorf("%w: %w", gossip.ErrMalformed, err)
	}
	if guard.On(guard.OneSignedForm) && !bytes.Equal(again, raw) {
		return fmt.Errorf("%w: not the one valid encoding", gossip.ErrMalformed)
	}
	if len(m.UnrecognizedFields) > 0 {
		return fmt.Errorf("%w: unsigned fields", gossip.ErrMalformed)
	}
	known := slices.Concat(signers...)
	for i, s := range m.Signatures {
		switch {
		case len(s.UnrecognizedFields) > 0:
			return fmt.Errorf("%w: unsigned fields in a signature", gossip.ErrMalformed)
		case !slices.Contains(known, s.KeyID):
			return fmt.Errorf("%w: signature by a key that is not of the role", gossip.ErrMalformed)
		case i > 0 && m.Signatures[i-1].KeyID >= s.KeyID:
			return fmt.Errorf("%w: signatures are not sorted", gossip.ErrMalformed)
		}
	}
	return nil
}

// checkEntry refuses an entry of a snapshot or timestamp that does not bind its file by length and SHA-256. TUF allows
// that; go-tuf 2.4.2 panics on some files that reach its parser that way.
func checkEntry(name string, m *metadata.MetaFiles) error {
	if m == nil {
		return fmt.Errorf("%w: no entry for %s", gossip.ErrMalformed, name)
	}
	if m.Version < 1 || m.Length < 1 || m.Length > gossip.MaxBundle || len(m.Hashes) != 1 || len(m.Hashes["sha256"]) != 32 {
		return fmt.Errorf("%w: entry for %s lacks a version, a length of at most %d or a SHA-256", gossip.ErrMalformed, name,
			gossip.MaxBundle)
	}
	return nil
}

// classify turns an error of go-tuf into one of gossip's.
func classify(what string, err error) error {
	var repository *metadata.ErrRepository
	cause := gossip.ErrMalformed
	switch {
	case err == nil:
		return nil
	case errors.Is(err, &metadata.ErrUnsignedMetadata{}):
		cause = gossip.ErrBadSignature
	case errors.Is(err, &metadata.ErrExpiredMetadata{}):
		cause = gossip.ErrExpired
	case errors.Is(err, &metadata.ErrBadVersionNumber{}):
		cause = gossip.ErrRollback
	case errors.As(err, &repository):
		cause = gossip.ErrRollback // a snapshot that lost a role it had
	}
	return fmt.Errorf("%s: %w: %w", what, cause, err)
}

// signedTime reads when a timestamp was signed.
func signedTime(ts *metadata.Metadata[metadata.TimestampType]) (time.Time, error) {
	s, _ := ts.Signed.UnrecognizedFields[fieldSigned].(string)
	t, err := time.Parse(time.RFC3339, s)
	if err != nil || !strings.HasSuffix(s, "Z") {
		return time.Time{}, fmt.Errorf("%w: timestamp without the time of its signature", gossip.ErrMalformed)
	}
	return t, nil
}
