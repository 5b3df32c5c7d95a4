package origin

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"

	//lint:ignore SA1019 rsync's protocol has it
	"golang.org/x/crypto/md4"
)

const (
	// rsyncBlock is how long the blocks are that both ends compare, in bytes: the longest that every rsync takes, MAX_BLOCK_SIZE of
	// rsync 3. What we have is one long piece, so that shorter ones would only be more sums, 20 bytes each.
	rsyncBlock = 128 << 10
	// rsyncBlocks is how many of them at most: of more than 512 GiB the rest comes again.
	rsyncBlocks = 1 << 22
	// rsyncSums is how many bytes the two sums of a block have.
	rsyncSums = 4 + md4.Size
)

// rsyncBasis is what is here of a file that is asked for. The server gets the sums of its blocks, and sends the number of a block in the
// place of what is the same. Whether all of it, ours and what came, is the file says a sum over the whole.
type rsyncBasis struct {
	have    io.ReaderAt
	size    int64  // bytes of it
	version string // of the file that they are of
	block   int64  // rsyncBlock; tests have shorter files
}

// count gives the number of blocks. What is behind the last whole one is not offered.
func (b *rsyncBasis) count() int64 {
	if b == nil {
		return 0
	}
	return min(b.size/b.block, rsyncBlocks)
}

// sums gives those of some blocks as they are sent: a weak one, and MD4 over the block and the seed. Of a block that cannot be read they
// are zeros, which are those of no file: it comes again.
func (b *rsyncBasis) sums(seed int32, from, to int64) []byte {
	sums := make([]byte, 0, (to-from)*rsyncSums)
	block := make([]byte, b.block)
	for i := from; i < to; i++ {
		if n, _ := b.have.ReadAt(block, i*b.block); n < len(block) {
			sums = append(sums, make([]byte, rsyncSums)...)
			continue
		}
		strong := md4.New()
		strong.Write(block)
		if seed != 0 {
			strong.Write(rsyncBytes(seed))
		}
		sums = strong.Sum(binary.LittleEndian.AppendUint32(sums, rsyncWeak(block)))
	}
	return sums
}

// rsyncWeak is the sum that rolls through a file, of Tridgell and Mackerras, "The rsync algorithm", 1996. rsync's bytes have a sign.
func rsyncWeak(p []byte) uint32 {
	var a, b uint32
	for _, c := range p {
		a += uint32(int8(c))
		b += a
	}
	return a&0xffff | b<<16
}

// OpenAfter implements Comparer.
func (r *rsyncOrigin) OpenAfter(ctx context.Context, e Entry, have io.ReaderAt, offset int64, version string) (*Body, error) {
	return r.openAfter(ctx, e, &rsyncBasis{have: have, size: offset, version: version, block: rsyncBlock})
}

func (r *rsyncOrigin) openAfter(ctx context.Context, e Entry, basis *rsyncBasis) (*Body, error) {
	b, err := r.open(ctx, fetchPath(&e), basis)
	for b == nil && err == nil {
		b, err = r.open(ctx, fetchPath(&e), basis)
	}
	if err == nil {
		var body *Body
		if body, err = b.after(); err == nil {
			return body, nil
		}
	}
	return nil, fmt.Errorf("open %q: %w", e.Path, err)
}

// after gives the file from where what is here of it ends, if that is its beginning, else all of it.
func (b *rsyncBody) after() (*Body, error) {
	body := &Body{ReadCloser: b, Size: SizeUnknown, Version: b.file.version(), Whole: true}
	if b.basis == nil {
		return body, nil
	}
	came, want := make([]byte, b.basis.block), make([]byte, b.basis.block)
	for pos := int64(0); pos < b.basis.size; {
		n, err := b.Read(came[:min(b.basis.size-pos, b.basis.block)])
		if err != nil && err != io.EOF {
			return nil, err
		}
		same := n > 0 && b.from-int64(n) == pos // they were read from there
		if n > 0 && !same {
			m, _ := b.basis.have.ReadAt(want[:n], pos)
			same = m == n && bytes.Equal(want[:n], came[:n])
		}
		if !same {
			body.ReadCloser = struct {
				io.Reader
				io.Closer
			}{io.MultiReader(io.NewSectionReader(b.basis.have, 0, pos), bytes.NewReader(came[:n]), b), b}
			return body, nil
		}
		pos += int64(n)
	}
	body.Offset = b.basis.size
	return body, nil
}
