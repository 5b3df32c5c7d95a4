package content

import "fmt"

// segmentsPerPage is how many segments one page of the segment directory describes: about 23 KB.
const segmentsPerPage = 512

// segmentBlock is the encoded form of a SegmentInfo.
type segmentBlock struct {
	_      struct{} `cbor:",toarray"`
	Table  []byte
	Size   uint32
	Chunks uint32
	Dead   []byte
}

type pageBlock struct {
	_        struct{} `cbor:",toarray"`
	Version  uint64
	First    uint32
	Segments []segmentBlock
}

type directoryBlock struct {
	_       struct{} `cbor:",toarray"`
	Version uint64
	Count   uint32
	Pages   []Link
}

// BuildDirectory makes the segment directory: infos[n] describes segment n. Pages whose segments did not change keep
// their digest.
func BuildDirectory(infos []SegmentInfo, put Put) (Digest, error) {
	if len(infos) > MaxSegments {
		return Digest{}, fmt.Errorf("%d segments, at most %d are possible", len(infos), MaxSegments)
	}
	root := directoryBlock{Version: Version, Count: uint32(len(infos))}
	for first := 0; first < len(infos); first += segmentsPerPage {
		page := pageBlock{Version: Version, First: uint32(first)}
		for _, s := range infos[first:min(first+segmentsPerPage, len(infos))] {
			b := segmentBlock{Size: s.Size, Chunks: s.Chunks, Dead: s.Dead.Trim()}
			if !s.Retired() {
				b.Table = s.Table[:]
			}
			page.Segments = append(page.Segments, b)
		}
		d, err := put(Encode(page))
		if err != nil {
			return Digest{}, err
		}
		root.Pages = append(root.Pages, Link(d))
	}
	return put(Encode(root))
}

// DecodeDirectory reads the root of a segment directory: how many segments there are and which pages describe them.
func DecodeDirectory(data []byte) (count uint32, pages []Digest, err error) {
	var b directoryBlock
	if err := Decode(data, MaxBlockSize, &b); err != nil {
		return 0, nil, fmt.Errorf("segment directory: %w", err)
	}
	if err := checkVersion(b.Version); err != nil {
		return 0, nil, fmt.Errorf("segment directory: %w", err)
	}
	if b.Count > MaxSegments || len(b.Pages) != int(b.Count+segmentsPerPage-1)/segmentsPerPage {
		return 0, nil, fmt.Errorf("segment directory: %w: %d pages for %d segments", ErrFormat, len(b.Pages), b.Count)
	}
	for _, l := range b.Pages {
		pages = append(pages, Digest(l))
	}
	return b.Count, pages, nil
}

// DecodePage reads a page of a segment directory; first is the number of its first segment.
func DecodePage(data []byte) (first uint32, infos []SegmentInfo, err error) {
	var b pageBlock
	if err := Decode(data, MaxBlockSize, &b); err != nil {
		return 0, nil, fmt.Errorf("directory page: %w", err)
	}
	if err := checkVersion(b.Version); err != nil {
		return 0, nil, fmt.Errorf("directory page: %w", err)
	}
	if len(b.Segments) == 0 || len(b.Segments) > segmentsPerPage || b.First%segmentsPerPage != 0 {
		return 0, nil, fmt.Errorf("directory page: %w: %d segments from %d", ErrFormat, len(b.Segments), b.First)
	}
	for i, s := range b.Segments {
		info, err := s.info()
		if err != nil {
			return 0, nil, fmt.Errorf("segment %d: %w", b.First+uint32(i), err)
		}
		infos = append(infos, info)
	}
	return b.First, infos, nil
}

func (s segmentBlock) info() (SegmentInfo, error) {
	if len(s.Table) == 0 {
		if s.Size != 0 || s.Chunks != 0 || len(s.Dead) != 0 {
			return SegmentInfo{}, fmt.Errorf("%w: a retired segment with content", ErrFormat)
		}
		return SegmentInfo{}, nil
	}
	if len(s.Table) != len(Digest{}) {
		return SegmentInfo{}, fmt.Errorf("%w: digest of %d bytes", ErrFormat, len(s.Table))
	}
	info := SegmentInfo{Table: Digest(s.Table), Size: s.Size, Chunks: s.Chunks}
	if len(s.Dead) > 0 {
		info.Dead = Bitmap(s.Dead)
	}
	dead := uint32(info.Dead.Count())
	if s.Chunks == 0 || s.Chunks > MaxSegmentChunks || s.Size < s.Chunks || s.Size > MaxSegmentSize ||
		!info.Dead.canonical(s.Chunks) || dead >= s.Chunks || info.Table.IsZero() {
		return SegmentInfo{}, fmt.Errorf("%w: segment of %d bytes in %d chunks, %d of them dead", ErrFormat, s.Size, s.Chunks, dead)
	}
	return info, nil
}

// LoadDirectory reads the whole segment directory with this root, or gives a *[Missing] with all pages needed.
func LoadDirectory(root Digest, src BlockSource) ([]SegmentInfo, error) {
	data, err := get(src, root)
	if err != nil {
		return nil, err
	}
	count, pages, err := DecodeDirectory(data)
	if err != nil {
		return nil, err
	}
	var missing Missing
	var infos []SegmentInfo
	for i, d := range pages {
		data, ok := src.Block(d)
		if !ok {
			missing.Blocks = append(missing.Blocks, d)
			continue
		}
		first, part, err := DecodePage(data)
		if err != nil {
			return nil, err
		}
		if int(first) != i*segmentsPerPage || len(part) != min(int(count)-i*segmentsPerPage, segmentsPerPage) {
			return nil, fmt.Errorf("segment directory: %w: page %d has %d segments from %d", ErrFormat, i, len(part), first)
		}
		infos = append(infos, part...)
	}
	if len(missing.Blocks) > 0 {
		return nil, &missing
	}
	return infos, nil
}

// MarkDead marks the chunks of runs as dead and retires segments that have no others. It changes infos.
func MarkDead(infos []SegmentInfo, runs []Run) error {
	for _, r := range runs {
		if int(r.Segment) >= len(infos) {
			return fmt.Errorf("%w: dead chunks in segment %d of %d", ErrFormat, r.Segment, len(infos))
		}
		s := &infos[r.Segment]
		if r.Count == 0 || r.Count > s.Chunks || r.First > s.Chunks-r.Count {
			return fmt.Errorf("%w: %d dead chunks from %d of the %d in segment %d", ErrFormat, r.Count, r.First, s.Chunks, r.Segment)
		}
		dead := s.Dead.Clone()
		for i := r.First; i < r.First+r.Count; i++ {
			if dead.Has(i) {
				return fmt.Errorf("%w: chunk %d of segment %d dies twice", ErrFormat, i, r.Segment)
			}
			dead.Set(i)
		}
		s.Dead = dead
		if uint32(dead.Count()) == s.Chunks {
			*s = SegmentInfo{}
		}
	}
	return nil
}
