package store

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"math/bits"
	"slices"

	"swarmnode/content"
)

// otherVersion says that a file with the header got is no damaged one of ours, but has a format of its own. The digit of a
// version has an odd number of bits set, as 1, 2, 4, 7 and 8 have: so one flipped bit makes none of another.
func otherVersion(got, ours string) bool {
	v := len(ours) - 2
	return got != ours && got[:v] == ours[:v] && got[v+1:] == ours[v+1:] && got[v] >= '0' && got[v] <= '9' &&
		bits.OnesCount8(got[v])%2 == 1
}

// headSum is the checksum over a record's head, which is its first 40 bytes.
func headSum(head []byte) uint32 { return crc32.Checksum(head[:blockHead-4], castagnoli) }

// parseHead reads the head of a block's record.
func parseHead(head []byte) (d content.Digest, size int, ok bool) {
	n := binary.LittleEndian.Uint32(head[4:])
	if string(head[:4]) != blockMark || n == 0 || n > content.MaxBlockSize ||
		headSum(head) != binary.LittleEndian.Uint32(head[blockHead-4:]) {
		return d, 0, false
	}
	return content.Digest(head[8:40]), int(n), true
}

// nextMark finds where the next record may begin at or after at; size if nowhere.
func nextMark(f io.ReaderAt, at, size int64) (int64, error) {
	buf := make([]byte, 1<<16)
	for at < size {
		n, err := f.ReadAt(buf[:min(int64(len(buf)), size-at)], at)
		if err != nil && !errors.Is(err, io.EOF) {
			return 0, err
		}
		if i := bytes.Index(buf[:n], []byte(blockMark)); i >= 0 {
			return at + int64(i), nil
		}
		if n < len(buf) {
			return size, nil
		}
		at += int64(n - len(blockMark) + 1) // a mark may lie across the border
	}
	return size, nil
}

// inOrder lists the digests of the pack as they lie in the file.
func (p *Pack) inOrder() []content.Digest {
	p.mu.RLock()
	defer p.mu.RUnlock()
	all := make([]content.Digest, 0, len(p.index))
	for d := range p.index {
		all = append(all, d)
	}
	slices.SortFunc(all, func(a, b content.Digest) int { return cmp.Compare(p.index[a], p.index[b]) })
	return all
}
