// Package content is the data of swarmnode: chunks named by their hash, segments of chunks with permanent
// numbers, the file tree over them, the segment directory, the manifest root that ties a release together, and
// the delta between two releases. Everything here is pure: bytes in, bytes out. Who stores a block, who fetches
// the one that is missing and who signs the root are questions for other packages; a lookup that needs a block it
// was not given says which one ([Missing]).
package content

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"
)

// Digest is the SHA-256 of a chunk or of a metadata block. It is the multihash inside the CID without the
// constant prefix, which is what tables and indexes hold.
type Digest [sha256.Size]byte

// Sum hashes data. It calls crypto/sha256, which uses the processor's SHA instructions.
func Sum(data []byte) Digest { return sha256.Sum256(data) }

// IsZero reports whether d is the zero value, which names nothing.
func (d Digest) IsZero() bool { return d == Digest{} }

// String gives the hexadecimal form, as sha256sum prints it.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// ParseDigest reads the form of String.
func ParseDigest(s string) (Digest, error) {
	var d Digest
	if len(s) != hex.EncodedLen(len(d)) {
		return d, fmt.Errorf("%q is not a SHA-256 in hexadecimal", s)
	}
	if _, err := hex.Decode(d[:], []byte(s)); err != nil {
		return Digest{}, fmt.Errorf("%q is not a SHA-256 in hexadecimal", s)
	}
	return d, nil
}

// ChunkCID is the CIDv1 of a chunk with this digest: codec raw, multihash sha2-256.
func (d Digest) ChunkCID() cid.Cid { return d.cid(cid.Raw) }

// BlockCID is the CIDv1 of a metadata block with this digest: codec dag-cbor, multihash sha2-256.
func (d Digest) BlockCID() cid.Cid { return d.cid(cid.DagCBOR) }

func (d Digest) cid(codec uint64) cid.Cid {
	mh, err := multihash.Encode(d[:], multihash.SHA2_256)
	if err != nil {
		panic("content: sha2-256 is not a multihash: " + err.Error())
	}
	return cid.NewCidV1(codec, mh)
}

// ErrBadCID is the cause of every refusal of a CID that is well formed elsewhere but not one of ours.
var ErrBadCID = errors.New("not a CIDv1 with sha2-256")

// DigestOf takes the digest out of a CID with the given codec (cid.Raw or cid.DagCBOR).
func DigestOf(c cid.Cid, codec uint64) (Digest, error) {
	if !c.Defined() || c.Version() != 1 || c.Type() != codec {
		return Digest{}, fmt.Errorf("%w and codec %#x: %s", ErrBadCID, codec, c)
	}
	mh, err := multihash.Decode(c.Hash())
	if err != nil || mh.Code != multihash.SHA2_256 || mh.Length != sha256.Size {
		return Digest{}, fmt.Errorf("%w: %s", ErrBadCID, c)
	}
	return Digest(mh.Digest), nil
}

// ID names a collection for ever: the SHA-256 of the first TUF root metadata file of its publisher.
type ID Digest

// NewID makes the ID of the collection whose first root metadata file has these bytes.
func NewID(root []byte) ID { return ID(Sum(root)) }

// String gives the CIDv1 base32 text form, e.g. bafkrei….
func (id ID) String() string { return Digest(id).ChunkCID().String() }

// IsZero reports whether id names nothing.
func (id ID) IsZero() bool { return id == ID{} }

// ParseID reads the text form of an ID.
func ParseID(s string) (ID, error) {
	c, err := cid.Decode(s)
	if err != nil {
		return ID{}, fmt.Errorf("%q is not a collection ID (they begin with bafkrei and have 59 characters): %w", s, err)
	}
	d, err := DigestOf(c, cid.Raw)
	if err != nil {
		return ID{}, fmt.Errorf("%q is not a collection ID: %w", s, err)
	}
	return ID(d), nil
}

// MarshalText gives the form of String, so that an ID is readable in JSON.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads the form of String.
func (id *ID) UnmarshalText(b []byte) error {
	got, err := ParseID(string(b))
	if err == nil {
		*id = got
	}
	return err
}

// Chunk is an immutable piece of content: its digest and its length in bytes, 1 to [MaxChunkSize].
type Chunk struct {
	Digest Digest
	Size   uint32
}

// Ref is the place of a chunk in a collection: the number of its segment and its index in there. It means the
// same chunk in every release.
type Ref struct {
	Segment uint32
	Index   uint32
}

// Run is a number of chunks in a row in one segment: the form in which files and requests name chunks.
type Run struct {
	Segment uint32
	First   uint32
	Count   uint32
}

// Missing is the error of a lookup that needs metadata blocks which are not here. The caller fetches them and
// asks again.
type Missing struct{ Blocks []Digest }

func (m *Missing) Error() string {
	return fmt.Sprintf("%d metadata blocks are not here, the first is %s", len(m.Blocks), m.Blocks[0].BlockCID())
}

// Fill runs look, has the blocks that it misses fetched, and runs it again until it misses none. Every other error of look, and
// every error of fetch, ends it.
func Fill(look func() error, fetch func([]Digest) error) error {
	for {
		err := look()
		var missing *Missing
		if !errors.As(err, &missing) {
			return err
		}
		if err := fetch(missing.Blocks); err != nil {
			return err
		}
	}
}

// BlockSource gives metadata blocks by digest. A block that is not here is ok = false, not an error.
type BlockSource interface {
	Block(d Digest) (data []byte, ok bool)
}

// Blocks is a BlockSource in memory. It is not safe for concurrent use while being written.
type Blocks map[Digest][]byte

// Block gives the block with this digest.
func (b Blocks) Block(d Digest) ([]byte, bool) {
	data, ok := b[d]
	return data, ok
}

// Put adds a block and returns its digest.
func (b Blocks) Put(data []byte) Digest {
	d := Sum(data)
	b[d] = data
	return d
}

// get fetches one block or reports it as missing.
func get(src BlockSource, d Digest) ([]byte, error) {
	data, ok := src.Block(d)
	if !ok {
		return nil, &Missing{Blocks: []Digest{d}}
	}
	return data, nil
}
