package gossip

import (
	"cmp"
	"fmt"
	"math/bits"
	"slices"

	"swarmnode/content"
)

const (
	// MaxHoldings is the largest encoded message about holdings, in bytes. [Holdings.Parts] keeps it.
	MaxHoldings = 512 << 10
	// MaxPartial is the most partial segments in one message, and of one peer in a [View].
	MaxPartial = 1024
	// MaxGone is the most lost segments in one message.
	MaxGone = 32 << 10
	// partsRoom is what a part leaves for everything but its partial segments: the bitmap over all segments, the list
	// of lost ones at five bytes each, and the rest.
	partsRoom = content.MaxSegments/8 + 5*MaxGone + 64
	// partialRoom is what the encoding of a partial segment adds to its bitmap, in bytes.
	partialRoom = 12
)

// holdingsBlock is the encoded form of holdings.
type holdingsBlock struct {
	_        struct{} `cbor:",toarray"`
	Version  uint64
	Reset    bool
	Release  uint64
	Below    uint32
	Segments []byte
	Partial  []partialBlock
	Gone     []uint32
}

type partialBlock struct {
	_       struct{} `cbor:",toarray"`
	Segment uint32
	Chunks  []byte
}

// EncodeHoldings gives the bytes of a message about holdings. It brings lists and bitmaps into canonical form.
func EncodeHoldings(h Holdings) ([]byte, error) {
	h = h.canonical()
	if err := checkHoldings(h); err != nil {
		return nil, fmt.Errorf("encode holdings: %w", err)
	}
	b := holdingsBlock{Version: content.Version, Reset: h.Reset, Release: h.Release, Below: h.Below, Segments: h.Segments, Gone: h.Gone}
	for _, p := range h.Partial {
		b.Partial = append(b.Partial, partialBlock{Segment: p.Segment, Chunks: p.Chunks})
	}
	raw := content.Encode(b)
	if len(raw) > MaxHoldings {
		return nil, fmt.Errorf("encode holdings: %d bytes, at most %d are allowed: send them in parts", len(raw), MaxHoldings)
	}
	return raw, nil
}

// DecodeHoldings reads what EncodeHoldings writes.
func DecodeHoldings(raw []byte) (Holdings, error) {
	var b holdingsBlock
	if err := decode(raw, MaxHoldings, &b, &b.Version); err != nil {
		return Holdings{}, fmt.Errorf("holdings: %w", err)
	}
	h := Holdings{Reset: b.Reset, Release: b.Release, Below: b.Below, Segments: b.Segments, Gone: b.Gone}
	for _, p := range b.Partial {
		h.Partial = append(h.Partial, PartialSegment{Segment: p.Segment, Chunks: p.Chunks})
	}
	if err := checkHoldings(h); err != nil {
		return Holdings{}, fmt.Errorf("holdings: %w", err)
	}
	return h, nil
}

// Parts splits holdings into messages that each keep the limits; applied in order they mean the same. Usually it is one.
func (h Holdings) Parts() []Holdings {
	h = h.canonical()
	first := Holdings{Reset: h.Reset, Release: h.Release, Below: h.Below, Segments: h.Segments}
	parts := []Holdings{first}
	if len(h.Gone) <= MaxGone {
		parts[0].Gone = h.Gone
	} else { // what is gone goes first, as the same segment may be listed as partial
		parts = nil
		for gone := range slices.Chunk(h.Gone, MaxGone) {
			p := Holdings{Release: h.Release, Gone: gone}
			if parts == nil {
				p.Reset, p.Below = h.Reset, h.Below
			}
			parts = append(parts, p)
		}
		parts = append(parts, Holdings{Release: h.Release, Segments: h.Segments})
	}
	room := MaxHoldings - partsRoom
	for _, p := range h.Partial {
		last := &parts[len(parts)-1]
		if room -= len(p.Chunks) + partialRoom; room < 0 || len(last.Partial) == MaxPartial {
			parts = append(parts, Holdings{Release: h.Release})
			last, room = &parts[len(parts)-1], MaxHoldings-partsRoom-len(p.Chunks)-partialRoom
		}
		last.Partial = append(last.Partial, p)
	}
	return parts
}

// canonical gives the one form of h that is encoded; it shares bitmaps with h.
func (h Holdings) canonical() Holdings {
	h.Segments = h.Segments.Trim()
	h.Gone = slices.Clone(h.Gone)
	slices.Sort(h.Gone)
	h.Gone = slices.Compact(h.Gone)
	partial := make([]PartialSegment, 0, len(h.Partial))
	for _, p := range h.Partial {
		if chunks := p.Chunks.Trim(); len(chunks) > 0 {
			partial = append(partial, PartialSegment{Segment: p.Segment, Chunks: chunks})
		}
	}
	slices.SortStableFunc(partial, func(a, b PartialSegment) int { return cmp.Compare(a.Segment, b.Segment) })
	h.Partial = partial
	return h
}

func checkHoldings(h Holdings) error {
	if h.Below > content.MaxSegments || !isBitmap(h.Segments, content.MaxSegments) {
		return fmt.Errorf("%w: segments past %d or a bitmap with zeros at its end", ErrMalformed, content.MaxSegments)
	}
	if len(h.Partial) > MaxPartial || len(h.Gone) > MaxGone {
		return fmt.Errorf("%w: %d partial and %d lost segments, at most %d and %d are allowed", ErrMalformed,
			len(h.Partial), len(h.Gone), MaxPartial, MaxGone)
	}
	for i, p := range h.Partial {
		if p.Segment >= content.MaxSegments || len(p.Chunks) == 0 || !isBitmap(p.Chunks, content.MaxSegmentChunks) {
			return fmt.Errorf("%w: chunks of segment %d", ErrMalformed, p.Segment)
		}
		if i > 0 && p.Segment <= h.Partial[i-1].Segment {
			return fmt.Errorf("%w: partial segments out of order", ErrMalformed)
		}
	}
	for i, s := range h.Gone {
		if s >= content.MaxSegments || i > 0 && s <= h.Gone[i-1] {
			return fmt.Errorf("%w: lost segments out of order", ErrMalformed)
		}
	}
	return nil
}

// isBitmap reports whether b is canonical and holds only numbers below n.
func isBitmap(b content.Bitmap, n int) bool {
	if len(b) == 0 {
		return true
	}
	top := b[len(b)-1]
	return top != 0 && (len(b)-1)*8+bits.Len8(top) <= n
}

// View is what one peer said it has: the plain meaning of the messages. policy.Transfer keeps the same of many peers in less
// memory, and tests hold it and those who send the messages to this. The zero value is a peer that has said nothing.
type View struct {
	below    uint32
	lost     content.Bitmap // segments below that it does not have
	segments content.Bitmap
	partial  map[uint32]content.Bitmap
}

// Apply takes in the peer's next message: first Reset, then Below, then Gone, then what it has got. It copies what it
// keeps. Partial segments past [MaxPartial] are not kept: such a peer is asked for less than it has.
func (v *View) Apply(h Holdings) {
	if h.Reset {
		*v = View{}
	}
	if h.Below > 0 {
		v.below = max(v.below, h.Below)
		v.lost.AndNot(content.Full(h.Below))
		for s := range v.partial {
			if s < h.Below {
				delete(v.partial, s)
			}
		}
	}
	for _, s := range h.Gone {
		v.segments.Clear(s)
		delete(v.partial, s)
		if s < v.below {
			v.lost.Set(s)
		}
	}
	v.segments.Or(h.Segments)
	v.lost.AndNot(h.Segments)
	for s := range v.partial {
		if v.segments.Has(s) {
			delete(v.partial, s)
		}
	}
	for _, p := range h.Partial {
		v.addPartial(p)
	}
}

func (v *View) addPartial(p PartialSegment) {
	if v.HasSegment(p.Segment) {
		return
	}
	have, known := v.partial[p.Segment]
	if !known && len(v.partial) >= MaxPartial {
		return
	}
	if v.partial == nil {
		v.partial = map[uint32]content.Bitmap{}
	}
	have.Or(p.Chunks)
	v.partial[p.Segment] = have
}

// HasSegment reports whether the peer has every live chunk of a segment.
func (v *View) HasSegment(s uint32) bool {
	return s < v.below && !v.lost.Has(s) || v.segments.Has(s)
}

// HasChunk reports whether the peer has a chunk, if it is alive.
func (v *View) HasChunk(ref content.Ref) bool {
	return v.HasSegment(ref.Segment) || v.partial[ref.Segment].Has(ref.Index)
}

// Partial is how many partial segments the peer has that are known here.
func (v *View) Partial() int { return len(v.partial) }
