package content

import (
	"errors"
	"fmt"
)

// ErrDelta says that a delta does not lead from the previous release to the one that names it. The release may
// still be right: fetch its changed nodes instead.
var ErrDelta = errors.New("delta does not give the release that names it")

// NewSegment is a segment that a release adds.
type NewSegment struct {
	Table  Digest
	Size   uint32
	Chunks uint32
}

// Delta is what changes from one release to the next: applying it to the previous tree and directory gives the roots that the
// manifest names, which verifies it.
type Delta struct {
	Edits
	First    uint32       // number of the first new segment
	Segments []NewSegment // First, First+1, …
	Dead     []Run        // chunks that no file uses any more
}

type deltaBlock struct {
	_        struct{} `cbor:",toarray"`
	Version  uint64
	Upserts  []entryBlock
	Deletes  []string
	First    uint32
	Segments []newSegmentBlock
	Dead     []uint32
}

type newSegmentBlock struct {
	_      struct{} `cbor:",toarray"`
	Table  []byte
	Size   uint32
	Chunks uint32
}

// EncodeDelta cuts a delta into blocks. A change that would need more than MaxDeltaParts gives none.
func EncodeDelta(d Delta) [][]byte {
	var parts [][]byte
	part, size := deltaBlock{Version: Version}, 0
	grow := func(n int) {
		if size += n; size >= deltaPartSize {
			parts = append(parts, Encode(part))
			part, size = deltaBlock{Version: Version}, 0
		}
	}
	for _, e := range d.Upserts {
		part.Upserts = append(part.Upserts, e.block())
		grow(entrySize(e))
	}
	for _, p := range d.Deletes {
		part.Deletes = append(part.Deletes, p)
		grow(len(p) + 3)
	}
	for i, s := range d.Segments {
		if len(part.Segments) == 0 {
			part.First = d.First + uint32(i)
		}
		part.Segments = append(part.Segments, newSegmentBlock{Table: s.Table[:], Size: s.Size, Chunks: s.Chunks})
		grow(45)
	}
	for _, r := range d.Dead {
		part.Dead = append(part.Dead, r.Segment, r.First, r.Count)
		grow(15)
	}
	if size > 0 {
		parts = append(parts, Encode(part))
	}
	if len(parts) > MaxDeltaParts {
		return nil
	}
	return parts
}

// DecodeDelta reads the blocks of a delta, in their order.
func DecodeDelta(parts [][]byte) (Delta, error) {
	var d Delta
	if len(parts) > MaxDeltaParts {
		return d, fmt.Errorf("delta: %w: %d parts", ErrFormat, len(parts))
	}
	for i, data := range parts {
		if err := d.addPart(data); err != nil {
			return d, fmt.Errorf("delta part %d: %w", i, err)
		}
	}
	if err := d.check(); err != nil {
		return d, fmt.Errorf("delta: %w", err)
	}
	return d, nil
}

func (d *Delta) addPart(data []byte) error {
	var b deltaBlock
	if err := Decode(data, MaxBlockSize, &b); err != nil {
		return err
	}
	if err := checkVersion(b.Version); err != nil {
		return err
	}
	for _, eb := range b.Upserts {
		e, err := eb.entry()
		if err != nil {
			return err
		}
		d.Upserts = append(d.Upserts, e)
	}
	d.Deletes = append(d.Deletes, b.Deletes...)
	if len(b.Segments) == 0 && b.First != 0 || len(d.Segments)+len(b.Segments) > MaxSegments {
		return fmt.Errorf("%w: %d segments from %d", ErrFormat, len(b.Segments), b.First)
	}
	if len(b.Segments) > 0 && len(d.Segments) == 0 {
		d.First = b.First
	}
	if len(b.Segments) > 0 && b.First != d.First+uint32(len(d.Segments)) {
		return fmt.Errorf("%w: segments from %d where %d should follow", ErrFormat, b.First, d.First+uint32(len(d.Segments)))
	}
	for _, s := range b.Segments {
		info, err := segmentBlock{Table: s.Table, Size: s.Size, Chunks: s.Chunks}.info()
		if err != nil || info.Retired() {
			return fmt.Errorf("%w: new segment of %d chunks", ErrFormat, s.Chunks)
		}
		d.Segments = append(d.Segments, NewSegment{Table: info.Table, Size: info.Size, Chunks: info.Chunks})
	}
	runs, err := unflatten(b.Dead, MaxRunsPerBlock)
	d.Dead = append(d.Dead, runs...)
	return err
}

// ApplyDirectory gives the segment directory behind d from the one before it. It does not change infos.
func (d *Delta) ApplyDirectory(infos []SegmentInfo) ([]SegmentInfo, error) {
	if len(d.Segments) > 0 && int(d.First) != len(infos) {
		return nil, fmt.Errorf("%w: new segments from %d behind %d", ErrFormat, d.First, len(infos))
	}
	next := append(make([]SegmentInfo, 0, len(infos)+len(d.Segments)), infos...)
	for _, s := range d.Segments {
		next = append(next, SegmentInfo{Table: s.Table, Size: s.Size, Chunks: s.Chunks})
	}
	return next, MarkDead(next, d.Dead)
}

// ApplyDelta makes the tree and the directory of next out of those of previous and checks that they have the roots that next
// names (else ErrDelta). Only then it puts the new blocks. src must hold previous' tree and directory.
func ApplyDelta(previous, next *Manifest, d Delta, src BlockSource, put Put) error {
	var made [][]byte
	keep := func(block []byte) (Digest, error) {
		made = append(made, block)
		return Sum(block), nil
	}
	tree, err := UpdateTree(previous.Tree, src, d.Edits, keep)
	if err != nil {
		return fmt.Errorf("apply delta to the tree: %w", err)
	}
	infos, err := LoadDirectory(previous.Directory, src)
	if err != nil {
		return err
	}
	if infos, err = d.ApplyDirectory(infos); err != nil {
		return fmt.Errorf("apply delta to the segment directory: %w", err)
	}
	directory, err := BuildDirectory(infos, keep)
	if err != nil {
		return err
	}
	if tree != next.Tree || directory != next.Directory {
		return fmt.Errorf("release %d: %w", next.Release, ErrDelta)
	}
	for _, block := range made {
		if _, err := put(block); err != nil {
			return err
		}
	}
	return nil
}
