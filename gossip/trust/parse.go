package trust

import (
	"bytes"
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
	} `json:"signed"`
	Signatures []struct {
		KeyID string `json:"keyid"`
	} `json:"signatures"`
}

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
