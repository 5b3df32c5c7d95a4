package content

import "fmt"

// Manifest is the root of a release: the block whose digest is signed.
type Manifest struct {
	Collection ID
	Name       string // the publisher's short name of the collection
	Release    uint64 // 1, 2, 3 …
	Created    int64  // Unix seconds
	Tree       Digest // root of the file tree
	Directory  Digest // root of the segment directory
	Previous   Digest // manifest of the release before; zero for the first
	Delta      []Digest
	Chunking   []byte // the rule by which the publisher cuts chunks, as its chunker encodes it
	Totals     Totals
	LiveBytes  uint64 // of all live chunks: what a full mirror stores
	Attrs      Attributes
}

type manifestBlock struct {
	Version    uint64     `cbor:"v"`
	Collection []byte     `cbor:"collection"`
	Name       string     `cbor:"name"`
	Release    uint64     `cbor:"release"`
	Created    int64      `cbor:"created"`
	Tree       Link       `cbor:"tree"`
	Directory  Link       `cbor:"directory"`
	Previous   *Link      `cbor:"previous,omitempty"`
	Delta      []Link     `cbor:"delta,omitempty"`
	Chunking   []byte     `cbor:"chunking"`
	Totals     Totals     `cbor:"totals"`
	LiveBytes  uint64     `cbor:"live"`
	Attrs      Attributes `cbor:"attrs,omitempty"`
}

// maxManifestSize bounds the manifest root in bytes: 64 links of a delta and the attributes fit.
const maxManifestSize = 32 << 10

// Encode gives the manifest's block.
func (m *Manifest) Encode() []byte {
	b := manifestBlock{
		Version: Version, Collection: m.Collection[:], Name: m.Name, Release: m.Release, Created: m.Created, Tree: Link(m.Tree),
		Directory: Link(m.Directory), Chunking: m.Chunking, Totals: m.Totals, LiveBytes: m.LiveBytes, Attrs: m.Attrs,
	}
	if !m.Previous.IsZero() {
		b.Previous = (*Link)(&m.Previous)
	}
	for _, d := range m.Delta {
		b.Delta = append(b.Delta, Link(d))
	}
	return Encode(b)
}

// DecodeManifest reads the block of a manifest.
func DecodeManifest(data []byte) (*Manifest, error) {
	var b manifestBlock
	if err := peekVersion(data); err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	if err := Decode(data, maxManifestSize, &b); err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	bad := func(why string) error { return fmt.Errorf("manifest: %w: %s", ErrFormat, why) }
	switch {
	case len(b.Collection) != len(ID{}):
		return nil, bad("collection ID")
	case b.Release == 0:
		return nil, bad("release number 0")
	case len(b.Delta) > MaxDeltaParts || len(b.Delta) > 0 && b.Previous == nil:
		return nil, bad("delta")
	case len(b.Chunking) > 4096:
		return nil, bad("chunking parameters")
	}
	if err := CheckName(b.Name); err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	if err := b.Attrs.check(); err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	m := &Manifest{
		Collection: ID(b.Collection), Name: b.Name, Release: b.Release, Created: b.Created, Tree: Digest(b.Tree),
		Directory: Digest(b.Directory), Chunking: b.Chunking, Totals: b.Totals, LiveBytes: b.LiveBytes, Attrs: b.Attrs,
	}
	if b.Previous != nil {
		m.Previous = Digest(*b.Previous)
	}
	for _, l := range b.Delta {
		m.Delta = append(m.Delta, Digest(l))
	}
	return m, nil
}

// peekVersion gives a *NewerError for a manifest of a later format, whose other fields this code would not understand.
func peekVersion(data []byte) error {
	if len(data) > maxManifestSize {
		return fmt.Errorf("%w: %d bytes", ErrFormat, len(data))
	}
	var v struct {
		Version uint64 `cbor:"v"`
	}
	if err := looseMode.Unmarshal(data, &v); err != nil {
		return fmt.Errorf("%w: %w", ErrFormat, err)
	}
	return checkVersion(v.Version)
}
