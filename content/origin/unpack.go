package origin

import (
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz/lzma"
)

// maxDictionary is how much memory a compressor may ask for, in bytes: xz -9 and zstd --long=26 need 64 MiB.
const maxDictionary = 64 << 20

// errUnpackedSize ends what does not end by itself.
var errUnpackedSize = errors.New("unpacked it is longer than any index")

// compressions are the ends of names of compressed indexes, those that are unpacked soonest first. Measured: the index of Debian's main section
// is read in 1.0 s as .zst, in 1.8 s as .gz, in 5.3 s as .xz and in 17 s as .bz2.
var compressions = [...]string{".zst", ".gz", ".xz", ".bz2", ".lzma", ".lz4"}

// sooner reports whether an index is read sooner in the form a than in the form b. One that is too long to be read at all comes last, and before it
// one that is not compressed: it is held as it is, which takes the memory of four others.
func sooner(a, b filed) bool {
	rank := func(f filed) int {
		switch i := slices.Index(compressions[:], compression(f.path)); {
		case f.size > MaxDirectoryBytes:
			return len(compressions) + 1
		case i < 0:
			return len(compressions)
		default:
			return i
		}
	}
	return rank(a) < rank(b)
}

// compression gives the end of a name that says how a file is compressed, or "".
func compression(name string) string {
	for _, c := range compressions {
		if strings.HasSuffix(name, c) {
			return c
		}
	}
	return ""
}

// unpackable reports whether unpack knows the compression of a file.
func unpackable(name string) bool { return compression(name) != ".lzma" && compression(name) != ".lz4" }

// unpack reads what is in a file that is compressed as its name says. Memory and length have limits, whatever the file claims:
// of more than limit bytes, and of a dictionary of more than maxDictionary, comes an error.
func unpack(name string, data []byte, limit int64) (io.ReadCloser, error) {
	in := bytes.NewReader(data)
	var out io.Reader
	closed := func() error { return nil }
	switch c := compression(name); c {
	case "":
		out = in
	case ".xz":
		out = &xzReader{in: in}
	case ".bz2":
		out = bzip2.NewReader(in)
	case ".gz":
		z, err := gzip.NewReader(in)
		if err != nil {
			return nil, fmt.Errorf("unpack %s: %w", path.Base(name), err)
		}
		out = z
	case ".zst":
		z, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxDictionary), zstd.WithDecoderMaxMemory(uint64(limit)))
		if err != nil {
			return nil, fmt.Errorf("unpack %s: %w", path.Base(name), err)
		}
		out = z
		closed = func() error { z.Close(); return nil }
	default:
		return nil, fmt.Errorf("unpack %s: %s cannot be read here", path.Base(name), c)
	}
	return &unpacked{in: out, left: limit, close: closed}, nil
}

// unpacked ends with an error where an index should long have ended.
type unpacked struct {
	in    io.Reader
	left  int64
	close func() error
}

func (u *unpacked) Read(p []byte) (int, error) {
	if u.left < 0 {
		return 0, errUnpackedSize
	}
	n, err := u.in.Read(p)
	if u.left -= int64(n); u.left < 0 {
		return 0, errUnpackedSize
	}
	return n, err
}

func (u *unpacked) Close() error { return u.close() }

// xzReader reads the .xz format (https://tukaani.org/xz/xz-file-format.txt, 1.2.1) around LZMA2. The library's own reader allocates
// the dictionary that a block asks for, up to 4 GiB; this one looks first. It does not compare the checks of the blocks: the file
// has been compared with a SHA256 by then.
type xzReader struct {
	in      *bytes.Reader
	block   io.Reader // nil between blocks
	started int       // position of the block's header
	check   int       // bytes of the check behind each block; -1 before the first stream
	inside  bool      // of a stream
	streams int
}

var errXZ = errors.New("malformed xz file")

// xzMagic begins a stream, and xzFooter is how many bytes end one.
const (
	xzMagic  = "\xfd7zXZ\x00"
	xzFooter = 12
)

func (x *xzReader) Read(p []byte) (int, error) {
	for len(p) > 0 {
		if x.block == nil {
			if err := x.next(); err != nil {
				return 0, err
			}
		}
		n, err := x.block.Read(p)
		if errors.Is(err, io.EOF) {
			if err := x.endBlock(); err != nil {
				return n, err
			}
			err = nil
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
	return 0, nil
}

func (x *xzReader) position() int { return int(x.in.Size()) - x.in.Len() }

func (x *xzReader) skip(n int) error {
	if n < 0 || n > x.in.Len() {
		return io.ErrUnexpectedEOF
	}
	_, err := x.in.Seek(int64(n), io.SeekCurrent)
	return err
}

// next goes to the next block; io.EOF is the end of the last stream.
func (x *xzReader) next() error {
	for {
		if !x.inside {
			if err := x.beginStream(); err != nil {
				return err
			}
		}
		x.started = x.position()
		size, err := x.in.ReadByte()
		if err != nil {
			return io.ErrUnexpectedEOF
		}
		if size != 0 {
			return x.beginBlock((int(size) + 1) * 4)
		}
		if err := x.skipIndex(); err != nil {
			return err
		}
		x.inside = false
	}
}

func (x *xzReader) beginStream() error {
	for x.streams > 0 && x.in.Len() > 0 { // padding between streams
		b, _ := x.in.ReadByte()
		if b != 0 {
			_ = x.in.UnreadByte()
			break
		}
	}
	if x.streams > 0 && x.in.Len() == 0 {
		return io.EOF
	}
	var header [12]byte
	if _, err := io.ReadFull(x.in, header[:]); err != nil || string(header[:6]) != xzMagic || header[6] != 0 || header[7] > 15 {
		return errXZ
	}
	// Sizes of the checks, by their number: section 2.1.1.2.
	x.check = []int{0, 4, 4, 4, 8, 8, 8, 16, 16, 16, 32, 32, 32, 64, 64, 64}[header[7]]
	x.inside = true
	x.streams++
	return nil
}

// beginBlock reads a block's header: one filter, LZMA2, with a dictionary that is not too large.
func (x *xzReader) beginBlock(size int) error {
	header := make([]byte, size-1)
	if _, err := io.ReadFull(x.in, header); err != nil {
		return io.ErrUnexpectedEOF
	}
	flags, rest := header[0], header[1:len(header)-4]
	if flags&0x3f != 0 {
		return fmt.Errorf("%w, or one with a filter that cannot be read here", errXZ)
	}
	for _, has := range []byte{0x40, 0x80} { // the packed and the unpacked size
		if flags&has != 0 {
			_, n := binary.Uvarint(rest)
			if n <= 0 {
				return errXZ
			}
			rest = rest[n:]
		}
	}
	if len(rest) < 3 || rest[0] != 0x21 || rest[1] != 1 || rest[2] > 40 {
		return fmt.Errorf("%w, or one with a filter that cannot be read here", errXZ)
	}
	dictionary, err := lzma.DecodeDictCap(rest[2])
	if err != nil || dictionary > maxDictionary {
		return fmt.Errorf("the xz file asks for a dictionary of %d bytes, it may have %d", dictionary, maxDictionary)
	}
	x.block, err = lzma.Reader2Config{DictCap: max(int(dictionary), lzma.MinDictCap)}.NewReader2(x.in)
	return err
}

// endBlock skips the padding and the check behind a block.
func (x *xzReader) endBlock() error {
	x.block = nil
	padding := (4 - (x.position()-x.started)%4) % 4
	return x.skip(padding + x.check)
}

// skipIndex skips the index, whose first byte has been read, and the footer.
func (x *xzReader) skipIndex() error {
	count, err := binary.ReadUvarint(x.in)
	if err != nil || count > uint64(x.in.Len()) {
		return errXZ
	}
	for range 2 * count {
		if _, err := binary.ReadUvarint(x.in); err != nil {
			return errXZ
		}
	}
	padding := (4 - (x.position()-x.started)%4) % 4
	return x.skip(padding + 4 + xzFooter)
}
