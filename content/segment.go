package content

import (
	"fmt"
	"math"

	"swarmnode/content/guard"
)

// Table is the content of a segment: its chunks in order. The digest of its encoding is the segment's ID. Its chunks
// lie one behind the other, so the place of a chunk in the segment is the sum of the sizes before it.
type Table struct {
	chunks []Chunk
	starts []uint32 // starts[i] is the offset of chunk i; one more than chunks, the last is the segment's size
}

// NewTable makes the table of a segment with these chunks. It panics if they break a limit of the format, which
// only a bug can cause: [SegmentBuilder] keeps them.
func NewTable(chunks []Chunk) *Table {
	t, err := newTable(chunks)
	if err != nil {
		panic("content: " + err.Error())
	}
	return t
}

func newTable(chunks []Chunk) (*Table, error) {
	if len(chunks) == 0 || len(chunks) > MaxSegmentChunks {
		return nil, fmt.Errorf("%w: segment of %d chunks", ErrFormat, len(chunks))
	}
	t := &Table{chunks: chunks, starts: make([]uint32, len(chunks)+1)}
	for i, c := range chunks {
		if guard.On(guard.ChunkLimit) && (c.Size == 0 || c.Size > MaxChunkSize) {
			return nil, fmt.Errorf("%w: chunk of %d bytes", ErrFormat, c.Size)
		}
		if t.starts[i]+c.Size > MaxSegmentSize {
			return nil, fmt.Errorf("%w: segment of more than %d bytes", ErrFormat, MaxSegmentSize)
		}
		t.starts[i+1] = t.starts[i] + c.Size
	}
	return t, nil
}

// Len is the number of chunks.
func (t *Table) Len() uint32 { return uint32(len(t.chunks)) }

// Size is the sum of the chunks' sizes in bytes.
func (t *Table) Size() uint32 { return t.starts[len(t.chunks)] }

// Chunk gives the digest and size of chunk i. It panics if i is out of range, like a slice.
func (t *Table) Chunk(i uint32) Chunk { return t.chunks[i] }

// Offset is where chunk i begins in the segment, in bytes. Offset(Len()) is the size of the segment.
func (t *Table) Offset(i uint32) uint32 { return t.starts[i] }

// tableBlock is the encoded form: digests and sizes packed, which costs 36 bytes a chunk.
type tableBlock struct {
	_       struct{} `cbor:",toarray"`
	Version uint64
	Digests []byte
	Sizes   []uint32
}

// Encode gives the metadata block of the table.
func (t *Table) Encode() []byte {
	b := tableBlock{Version: Version, Sizes: make([]uint32, len(t.chunks)), Digests: make([]byte, 0, 32*len(t.chunks))}
	for i, c := range t.chunks {
		b.Digests = append(b.Digests, c.Digest[:]...)
		b.Sizes[i] = c.Size
	}
	return Encode(b)
}

// DecodeTable reads the metadata block of a table.
func DecodeTable(data []byte) (*Table, error) {
	var b tableBlock
	if err := Decode(data, MaxBlockSize, &b); err != nil {
		return nil, fmt.Errorf("segment table: %w", err)
	}
	if err := checkVersion(b.Version); err != nil {
		return nil, fmt.Errorf("segment table: %w", err)
	}
	if len(b.Digests) != 32*len(b.Sizes) {
		return nil, fmt.Errorf("segment table: %w: %d bytes of digests for %d sizes", ErrFormat, len(b.Digests), len(b.Sizes))
	}
	chunks := make([]Chunk, len(b.Sizes))
	for i := range chunks {
		chunks[i] = Chunk{Digest: Digest(b.Digests[32*i : 32*i+32]), Size: b.Sizes[i]}
	}
	t, err := newTable(chunks)
	if err != nil {
		return nil, fmt.Errorf("segment table: %w", err)
	}
	return t, nil
}

// SegmentInfo is what the segment directory says of one segment.
type SegmentInfo struct {
	Table  Digest // the segment's ID: digest of its table; zero for a retired segment
	Size   uint32 // bytes of all its chunks, dead ones too
	Chunks uint32 // how many chunks, dead ones too
	Dead   Bitmap // the chunks that no file of the release uses
}

// Retired reports whether nothing of the segment is alive. Its number is not used again.
func (s SegmentInfo) Retired() bool { return s.Table.IsZero() }

// Live is the set of chunks that the release uses.
func (s SegmentInfo) Live() Bitmap {
	live := Full(s.Chunks)
	live.AndNot(s.Dead)
	return live
}

// SegmentBuilder packs new chunks into new segments, in the order in which they come.
type SegmentBuilder struct {
	next   uint32 // number of the segment being filled
	chunks []Chunk
	size   uint32
	closed func(number uint32, t *Table) error
}

// NewSegmentBuilder fills segments from number first on and hands each finished one to closed.
func NewSegmentBuilder(first uint32, closed func(number uint32, t *Table) error) *SegmentBuilder {
	return &SegmentBuilder{next: first, closed: closed}
}

// Add appends a chunk and says where it went.
func (b *SegmentBuilder) Add(c Chunk) (Ref, error) {
	if b.next >= MaxSegments || b.next == math.MaxUint32 {
		return Ref{}, fmt.Errorf("the collection has used all of its %d segment numbers: publish it under a new name", MaxSegments)
	}
	ref := Ref{Segment: b.next, Index: uint32(len(b.chunks))}
	b.chunks = append(b.chunks, c)
	b.size += c.Size
	if b.size >= SegmentSize || len(b.chunks) == MaxSegmentChunks {
		return ref, b.Flush()
	}
	return ref, nil
}

// Flush closes the segment being filled, if it holds anything.
func (b *SegmentBuilder) Flush() error {
	if len(b.chunks) == 0 {
		return nil
	}
	t, n := NewTable(b.chunks), b.next
	b.next, b.chunks, b.size = b.next+1, nil, 0
	return b.closed(n, t)
}
