package content

import "math/bits"

// Bitmap is a set of small numbers: chunk indexes in a segment or segment numbers. Bit i is bit i%8 of byte i/8.
// Bits past the end read as zero. The canonical form, the only one that decoders accept, has no zero byte at its end.
type Bitmap []byte

// Has reports whether i is in the set.
func (b Bitmap) Has(i uint32) bool {
	return int(i/8) < len(b) && b[i/8]&(1<<(i%8)) != 0
}

// Set adds i, growing the bitmap as needed.
func (b *Bitmap) Set(i uint32) {
	for int(i/8) >= len(*b) {
		*b = append(*b, 0)
	}
	(*b)[i/8] |= 1 << (i % 8)
}

// Clear takes i out and keeps the bitmap canonical.
func (b *Bitmap) Clear(i uint32) {
	if int(i/8) < len(*b) {
		(*b)[i/8] &^= 1 << (i % 8)
		*b = b.Trim()
	}
}

// Count is how many numbers are in the set.
func (b Bitmap) Count() int {
	n := 0
	for _, x := range b {
		n += bits.OnesCount8(x)
	}
	return n
}

// Trim gives the canonical form: without zero bytes at the end. It shares memory with b.
func (b Bitmap) Trim() Bitmap {
	for len(b) > 0 && b[len(b)-1] == 0 {
		b = b[:len(b)-1]
	}
	return b
}

// Clone copies the bitmap.
func (b Bitmap) Clone() Bitmap { return append(Bitmap(nil), b...) }

// Or adds all of o to b.
func (b *Bitmap) Or(o Bitmap) {
	for len(*b) < len(o) {
		*b = append(*b, 0)
	}
	for i, x := range o {
		(*b)[i] |= x
	}
}

// AndNot takes all of o out of b.
func (b *Bitmap) AndNot(o Bitmap) {
	for i := range min(len(*b), len(o)) {
		(*b)[i] &^= o[i]
	}
	*b = b.Trim()
}

// Full gives the set of 0 … n-1.
func Full(n uint32) Bitmap {
	b := make(Bitmap, (n+7)/8)
	for i := range b {
		b[i] = 0xff
	}
	if n%8 != 0 {
		b[len(b)-1] = 1<<(n%8) - 1
	}
	return b
}

// canonical reports whether b is trimmed and holds no number of n or above.
func (b Bitmap) canonical(n uint32) bool {
	if len(b) == 0 {
		return true
	}
	if b[len(b)-1] == 0 || len(b) > int(n+7)/8 {
		return false
	}
	top := uint32(len(b)-1)*8 + uint32(bits.Len8(b[len(b)-1])) - 1
	return top < n
}
