package policy

import (
	"bytes"
	"slices"

	"swarmnode/content"
	"swarmnode/gossip"
)

// shelf is what one peer said that it has whole.
type shelf struct {
	below    uint32         // every segment with a smaller number,
	lost     content.Bitmap // but not these,
	segments content.Bitmap // and these
}

func (h *shelf) whole(seg uint32) bool {
	return seg < h.below && !h.lost.Has(seg) || h.segments.Has(seg)
}

// parts is who has what of a segment that some have in parts: one row of bits for each. The rows of all peers lie in one
// piece of memory, for a node keeps some hundreds of them and the simulator ten thousand times as many.
type parts struct {
	who    []uint16 // numbers of sources
	bits   []byte   // stride bytes for each
	place  []uint16 // by number of a source: its row, plus one; 0: none
	stride int
}

// row is what a source has; nil if it said nothing. The memory is that of p.
func (p *parts) row(s *source) content.Bitmap {
	if p == nil {
		return nil
	}
	if k := p.find(s); k >= 0 {
		return p.at(k)
	}
	return nil
}

// find is the number of the row of a source; -1: there is none.
func (p *parts) find(s *source) int {
	if int(s.number) < len(p.place) {
		return int(p.place[s.number]) - 1
	}
	return -1
}

// at is row k.
func (p *parts) at(k int) content.Bitmap { return content.Bitmap(p.bits[k*p.stride : (k+1)*p.stride]) }

// rowsAtOnce is by how many rows the memory grows: a node has some 40 neighbours.
const rowsAtOnce = 8

// add puts chunks into a row.
func (p *parts) add(s *source, chunks content.Bitmap) {
	k := p.find(s)
	if len(chunks) > p.stride {
		wide := make([]byte, 0, len(chunks)*cap(p.who))
		for i := range p.who {
			wide = append(wide, p.at(i)...)
			wide = append(wide, make([]byte, len(chunks)-p.stride)...)
		}
		p.bits, p.stride = wide, len(chunks)
	}
	if k < 0 {
		if k = len(p.who); k == cap(p.who) {
			p.who = append(make([]uint16, 0, k+rowsAtOnce), p.who...)
			p.bits = append(make([]byte, 0, (k+rowsAtOnce)*p.stride), p.bits...)
		}
		p.who = append(p.who, s.number)
		p.bits = append(p.bits, make([]byte, p.stride)...)
		if n := int(s.number) + 1; n > len(p.place) {
			p.place = append(p.place, make([]uint16, n-len(p.place))...)
		}
		p.place[s.number] = uint16(k + 1)
	}
	row := p.at(k)
	for i, x := range chunks {
		row[i] |= x
	}
}

// drop takes the row of a source out and reports whether there was one.
func (p *parts) drop(s *source) bool {
	k, last := p.find(s), len(p.who)-1
	if k < 0 {
		return false
	}
	copy(p.at(k), p.at(last)) // the order of rows means nothing
	p.who[k] = p.who[last]
	p.place[p.who[k]] = uint16(k + 1)
	p.place[s.number] = 0
	p.bits, p.who = p.bits[:last*p.stride], p.who[:last]
	return true
}

// dropRow forgets what s has of a segment in parts.
func (t *Transfer) dropRow(s *source, seg uint32) {
	p := t.parts[seg]
	if p == nil || !p.drop(s) {
		return
	}
	s.rows--
	if len(p.who) == 0 {
		delete(t.parts, seg)
		if w := t.wants.bySegment[seg]; w != nil {
			w.parts = nil
		}
	}
}

// dropRows forgets what s has in parts of all segments that it does not have in parts any more.
func (t *Transfer) dropRows(s *source, gone func(seg uint32) bool) {
	if s.rows == 0 {
		return
	}
	for seg := range t.parts { // in any order: only the members change
		if gone(seg) {
			t.dropRow(s, seg)
		}
	}
}

// apply takes in what s says: first Reset, then Below, then Gone, then what it has got (as gossip.View does).
func (t *Transfer) apply(s *source, h gossip.Holdings) {
	if h.Reset {
		s.shelf = shelf{}
		t.dropRows(s, func(uint32) bool { return true })
	}
	if h.Below > 0 {
		s.below = max(s.below, h.Below)
		s.lost.AndNot(content.Full(h.Below))
	}
	for _, seg := range h.Gone {
		s.segments.Clear(seg)
		t.dropRow(s, seg)
		if seg < s.below {
			s.lost.Set(seg)
		}
	}
	s.segments.Or(h.Segments)
	s.lost.AndNot(h.Segments)
	if h.Below > 0 || len(h.Segments) > 0 {
		t.dropRows(s, s.whole)
	}
	for _, p := range h.Partial {
		t.addPartial(s, p)
	}
}

func (t *Transfer) addPartial(s *source, p gossip.PartialSegment) {
	chunks := p.Chunks.Trim()
	if s.whole(p.Segment) || len(chunks) == 0 {
		return
	}
	x := t.parts[p.Segment]
	if x.row(s) == nil {
		if s.rows >= gossip.MaxPartial {
			return
		}
		s.rows++
	}
	if x == nil {
		x = &parts{}
		t.parts[p.Segment] = x
		if w := t.wants.bySegment[p.Segment]; w != nil {
			w.parts = x
		}
	}
	x.add(s, chunks)
}

// lack is what a source said it has of a want and then did not.
type lack struct {
	s      *source
	chunks content.Bitmap
}

// lacks is what s turned out not to have of w.
func (w *want) lacks(s *source) content.Bitmap {
	for k := range w.lack {
		if w.lack[k].s == s {
			return w.lack[k].chunks
		}
	}
	return nil
}

// lose notes that s does not have a chunk, whatever it said.
func (w *want) lose(s *source, i uint32) {
	k := slices.IndexFunc(w.lack, func(l lack) bool { return l.s == s })
	if k < 0 {
		k = len(w.lack)
		w.lack = append(w.lack, lack{s: s})
	}
	w.lack[k].chunks.Set(i)
}

// believe forgets that s did not have these chunks.
func (w *want) believe(s *source, chunks content.Bitmap) {
	k := slices.IndexFunc(w.lack, func(l lack) bool { return l.s == s })
	if k < 0 {
		return
	}
	w.lack[k].chunks.AndNot(chunks)
	if len(w.lack[k].chunks) == 0 {
		w.lack = slices.Delete(w.lack, k, k+1)
	}
}

// has reports whether s is believed to have chunk i of w.
func (t *Transfer) has(s *source, w *want, i uint32) bool {
	return (s.whole(w.seg) || w.parts.row(s).Has(i)) && !w.lacks(s).Has(i)
}

// holds reports whether s has anything of w.
func (t *Transfer) holds(s *source, w *want) bool {
	return s.whole(w.seg) || w.parts.row(s) != nil
}

// usable is the set of free chunks of w that s has, in the memory of scratch; nil if there are none.
func (t *Transfer) usable(w *want, s *source, scratch content.Bitmap) content.Bitmap {
	set := append(scratch[:0], w.free...)
	if !s.whole(w.seg) {
		row := w.parts.row(s)
		set = set[:min(len(set), len(row))]
		for i := range set {
			set[i] &= row[i]
		}
	}
	set.AndNot(w.lacks(s))
	if len(set.Trim()) == 0 {
		return nil
	}
	return set
}

// only takes out of set what others than s have, too, unless nothing is left then. It reports whether it did.
func (t *Transfer) only(w *want, s *source, set content.Bitmap) bool {
	whole := s.whole(w.seg)
	p := w.parts
	if w.whole > 1 || w.whole == 1 && !whole || p == nil || len(p.who) == 1 && !whole {
		return false
	}
	t.scratch.rare = append(t.scratch.rare[:0], set...)
	rare := t.scratch.rare
	for k, number := range p.who {
		if number != s.number {
			rare.AndNot(p.at(k))
		}
	}
	if len(rare) == 0 || bytes.Equal(rare, set.Trim()) {
		return len(rare) > 0
	}
	clear(set[copy(set, rare):])
	return true
}

// copies is how many peers are believed to have chunk i.
func (t *Transfer) copies(w *want, i uint32) int {
	n := w.whole
	if p := w.parts; p != nil && int(i/8) < p.stride {
		for at := int(i / 8); at < len(p.bits); at += p.stride {
			n += int(p.bits[at] >> (i % 8) & 1)
		}
	}
	for k := range w.lack {
		if l := &w.lack[k]; l.chunks.Has(i) && t.holds(l.s, w) {
			n--
		}
	}
	return n
}
