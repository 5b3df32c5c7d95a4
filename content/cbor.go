package content

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"
	"github.com/ipfs/go-cid"

	"swarmnode/content/guard"
)

// ErrFormat is the cause of every error about bytes from outside that are not what they should be.
var ErrFormat = errors.New("malformed")

// NewerError says that a block was made by a later version of the format than this program knows.
type NewerError struct{ Version uint64 }

func (e *NewerError) Error() string {
	return fmt.Sprintf("format version %d is newer than this program's %d: upgrade swarmnode", e.Version, Version)
}

// Link is a DAG-CBOR link to a metadata block: tag 42 around a zero byte and the CID
// (https://ipld.io/specs/codecs/dag-cbor/spec/).
type Link Digest

// MarshalCBOR writes the link.
func (l Link) MarshalCBOR() ([]byte, error) {
	return encMode.Marshal(cbor.Tag{Number: 42, Content: append([]byte{0}, Digest(l).BlockCID().Bytes()...)})
}

// UnmarshalCBOR reads the link; only dag-cbor blocks with sha2-256 can be linked.
func (l *Link) UnmarshalCBOR(b []byte) error {
	var t cbor.RawTag
	if err := decMode.Unmarshal(b, &t); err != nil {
		return err
	}
	var raw []byte
	if t.Number != 42 {
		return fmt.Errorf("%w: tag %d is not a link", ErrFormat, t.Number)
	}
	if err := decMode.Unmarshal(t.Content, &raw); err != nil {
		return err
	}
	if len(raw) < 1 || raw[0] != 0 {
		return fmt.Errorf("%w: link without its zero byte", ErrFormat)
	}
	c, err := cid.Cast(raw[1:])
	if err != nil {
		return fmt.Errorf("%w: link: %w", ErrFormat, err)
	}
	d, err := DigestOf(c, cid.DagCBOR)
	*l = Link(d)
	return err
}

// Attributes are optional facts on a root or an entry. A reader keeps and ignores those it does not know.
type Attributes map[string][]byte

func (a Attributes) check() error {
	if len(a) > MaxAttributes {
		return fmt.Errorf("%w: %d attributes, at most %d are allowed", ErrFormat, len(a), MaxAttributes)
	}
	for k, v := range a {
		if k == "" || len(k) > 64 || len(v) > MaxAttributeSize {
			return fmt.Errorf("%w: attribute %.64q of %d bytes", ErrFormat, k, len(v))
		}
	}
	return nil
}

var (
	encMode = must(cbor.EncOptions{
		Sort: cbor.SortLengthFirst, ShortestFloat: cbor.ShortestFloat16, NaNConvert: cbor.NaNConvert7e00,
		InfConvert: cbor.InfConvertFloat16, IndefLength: cbor.IndefLengthForbidden, NilContainers: cbor.NilContainerAsEmpty,
	}.EncMode())
	// The counts are caps before allocation: nothing in the format has more elements than a segment has chunks
	// times the three numbers of a run, or than MaxRunsPerBlock runs have numbers.
	decMode = must(cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden, MaxNestedLevels: 12,
		MaxArrayElements: 3 * MaxRunsPerBlock, MaxMapPairs: 64, ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
		UTF8: cbor.UTF8RejectInvalid, IntDec: cbor.IntDecConvertNone,
	}.DecMode())
	// looseMode reads the version of a block whose other fields may not be known yet.
	looseMode = must(cbor.DecOptions{IndefLength: cbor.IndefLengthForbidden, MaxNestedLevels: 12, MaxMapPairs: 256}.DecMode())
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// Encode writes v as deterministic CBOR (RFC 8949 section 4.2.1; the key order is also that of DAG-CBOR).
func Encode(v any) []byte {
	b, err := encMode.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("content: encode %T: %v", v, err)) // only types of this program come here
	}
	return b
}

// Decode reads deterministic CBOR of at most limit bytes into v and refuses every other encoding of the same value,
// so that one value has one digest.
func Decode(data []byte, limit int, v any) error {
	if guard.On(guard.FormatLimit) && len(data) > limit {
		return fmt.Errorf("%w: %d bytes, at most %d are allowed", ErrFormat, len(data), limit)
	}
	if err := decMode.Unmarshal(data, v); err != nil {
		return fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if guard.On(guard.OneEncoding) && !bytes.Equal(Encode(v), data) {
		return fmt.Errorf("%w: not the deterministic encoding", ErrFormat)
	}
	return nil
}

// checkVersion refuses formats that this code does not know.
func checkVersion(v uint64) error {
	switch {
	case v == Version:
		return nil
	case v > Version:
		return &NewerError{Version: v}
	}
	return fmt.Errorf("%w: format version %d", ErrFormat, v)
}
