package policy

import "math/bits"

// slotSet is a set of small numbers with one bit of summary for each 64, so that the intersection of sets of a
// million numbers is searched in a few hundred steps. The zero value is empty. Numbers below 64 take no memory beside it:
// each source has a set of its own, and most releases have few segments.
type slotSet struct {
	first uint64    // the numbers below 64
	more  *slotRest // the others; nil: there never were any
	count int
}

// slotRest holds the numbers of a slotSet from 64 on.
type slotRest struct {
	words []uint64 // word w is words[w-1]
	heads []uint64 // bit w is set when word w is not zero; that of word 0 means nothing
}

func (s *slotSet) has(i uint32) bool {
	if i < 64 {
		return s.first&(1<<i) != 0
	}
	w := int(i/64) - 1
	return s.more != nil && w < len(s.more.words) && s.more.words[w]&(1<<(i%64)) != 0
}

func (s *slotSet) set(i uint32) {
	if s.has(i) {
		return
	}
	s.count++
	if i < 64 {
		s.first |= 1 << i
		return
	}
	if s.more == nil {
		s.more = &slotRest{}
	}
	m, w := s.more, int(i/64)
	for w > len(m.words) {
		m.words = append(m.words, 0)
	}
	for w/64 >= len(m.heads) {
		m.heads = append(m.heads, 0)
	}
	m.words[w-1] |= 1 << (i % 64)
	m.heads[w/64] |= 1 << (w % 64)
}

func (s *slotSet) clear(i uint32) {
	if !s.has(i) {
		return
	}
	s.count--
	if i < 64 {
		s.first &^= 1 << i
		return
	}
	m, w := s.more, i/64
	m.words[w-1] &^= 1 << (i % 64)
	if m.words[w-1] == 0 {
		m.heads[w/64] &^= 1 << (w % 64)
	}
}

// word is word w, which is not past the last head.
func (s *slotSet) word(w int) uint64 {
	if w == 0 {
		return s.first
	}
	return s.more.words[w-1]
}

// head is the summary of words 64*h and on.
func (s *slotSet) head(h int) uint64 {
	if h > 0 {
		return s.more.heads[h]
	}
	var head uint64
	if s.more != nil {
		head = s.more.heads[0] &^ 1
	}
	if s.first != 0 {
		head |= 1
	}
	return head
}

// size is how many heads there are.
func (s *slotSet) size() int {
	if s.more == nil {
		return 1
	}
	return len(s.more.heads)
}

// common finds the first number at or after from, going round at the end, that is in all of the sets.
func common(from uint32, sets ...*slotSet) (uint32, bool) {
	heads := sets[0].size()
	for _, s := range sets {
		if s.count == 0 {
			return 0, false
		}
		heads = min(heads, s.size())
	}
	if i, ok := commonAfter(from, heads, sets); ok {
		return i, true
	}
	if from == 0 {
		return 0, false
	}
	return commonAfter(0, heads, sets)
}

func commonAfter(from uint32, heads int, sets []*slotSet) (uint32, bool) {
	first := from / 64
	for h := int(first / 64); h < heads; h++ {
		head := ^uint64(0)
		for _, s := range sets {
			head &= s.head(h)
		}
		if h == int(first/64) {
			head &= ^uint64(0) << (first % 64)
		}
		for ; head != 0; head &= head - 1 {
			w := h*64 + bits.TrailingZeros64(head)
			word := ^uint64(0)
			for _, s := range sets {
				word &= s.word(w)
			}
			if w == int(first) {
				word &= ^uint64(0) << (from % 64)
			}
			if word != 0 {
				return uint32(w*64 + bits.TrailingZeros64(word)), true
			}
		}
	}
	return 0, false
}
