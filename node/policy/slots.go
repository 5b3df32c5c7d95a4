package policy

import "math/bits"

// slotSet is a set of small numbers with one bit of summary for each 64, so that the intersection of sets of a
// million numbers is searched in a few hundred steps. The zero value is empty.
type slotSet struct {
	words []uint64
	heads []uint64 // bit i is set when words[i] is not zero
	count int
}

func (s *slotSet) has(i uint32) bool {
	w := int(i / 64)
	return w < len(s.words) && s.words[w]&(1<<(i%64)) != 0
}

func (s *slotSet) set(i uint32) {
	w := int(i / 64)
	for w >= len(s.words) {
		s.words = append(s.words, 0)
	}
	for w/64 >= len(s.heads) {
		s.heads = append(s.heads, 0)
	}
	if s.words[w]&(1<<(i%64)) == 0 {
		s.words[w] |= 1 << (i % 64)
		s.heads[w/64] |= 1 << (w % 64)
		s.count++
	}
}

func (s *slotSet) clear(i uint32) {
	if !s.has(i) {
		return
	}
	w := i / 64
	s.words[w] &^= 1 << (i % 64)
	if s.words[w] == 0 {
		s.heads[w/64] &^= 1 << (w % 64)
	}
	s.count--
}

// common finds the first number at or after from, going round at the end, that is in all of the sets.
func common(from uint32, sets ...*slotSet) (uint32, bool) {
	heads := len(sets[0].heads)
	for _, s := range sets {
		if s.count == 0 {
			return 0, false
		}
		heads = min(heads, len(s.heads))
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
			head &= s.heads[h]
		}
		if h == int(first/64) {
			head &= ^uint64(0) << (first % 64)
		}
		for ; head != 0; head &= head - 1 {
			w := h*64 + bits.TrailingZeros64(head)
			word := ^uint64(0)
			for _, s := range sets {
				word &= s.words[w]
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
