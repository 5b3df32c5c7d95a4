package origin

import (
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

// The kinds of SSH_FXP packets, and their flags of attributes, that the server below has to do with.
const (
	fxInit, fxVersion, fxOpen, fxClose, fxRead, fxLstat, fxFstat, fxOpendir, fxReaddir = 1, 2, 3, 4, 5, 7, 8, 11, 12

	fxStatus, fxHandle, fxData, fxName, fxAttrs = 101, 102, 103, 104, 105

	fxSize, fxMode, fxTimes = 1, 4, 8
)

// rawSFTP serves SFTP by hand: answer gives the kind and the rest of an answer, behind the number of the request, to a packet with a
// kind and the rest behind that number. Kind 0 is the usual answer.
func rawSFTP(answer func(kind byte, rest []byte) (byte, []byte)) func(*testing.T, string, string, ssh.Channel) {
	return func(_ *testing.T, _, _ string, ch ssh.Channel) {
		for {
			var head [5]byte
			if _, err := io.ReadFull(ch, head[:]); err != nil {
				return
			}
			body := make([]byte, binary.BigEndian.Uint32(head[:])-1)
			if _, err := io.ReadFull(ch, body); err != nil {
				return
			}
			if head[4] == fxInit {
				_, _ = ch.Write([]byte{0, 0, 0, 5, fxVersion, 0, 0, 0, 3})
				continue
			}
			kind, rest := answer(head[4], body[4:])
			switch {
			case kind != 0:
			case head[4] == fxOpen, head[4] == fxOpendir:
				kind, rest = fxHandle, []byte{0, 0, 0, 1, 'h'}
			case head[4] == fxFstat, head[4] == fxLstat:
				kind, rest = fxAttrs, attrs(100, 1e9)
			case head[4] == fxClose:
				kind, rest = fxStatus, make([]byte, 12)
			default:
				kind, rest = fxStatus, []byte{0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0} // the end of the file
			}
			packet := append(binary.BigEndian.AppendUint32(nil, uint32(5+len(rest))), kind)
			if _, err := ch.Write(append(append(packet, body[:4]...), rest...)); err != nil {
				return
			}
		}
	}
}

// attrs are those of a file.
func attrs(size uint64, mtime uint32) []byte {
	b := binary.BigEndian.AppendUint32(nil, fxSize|fxMode|fxTimes)
	b = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(b, size), 0o100644)
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(b, mtime), mtime)
}

// fxString is a string as it is sent.
func fxString(s string) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(s))), s...)
}

// Names that have nothing with them are short on the wire and long in memory: their number has a limit too.
func TestSFTPManyNames(t *testing.T) {
	const names = 16_000 // in a packet of 208 KB
	page := binary.BigEndian.AppendUint32(nil, names)
	for range names {
		page = append(page, 0, 0, 0, 1, 'x', 0, 0, 0, 0, 0, 0, 0, 0)
	}
	packets := 0
	s := startSSH(t, rawSFTP(func(kind byte, _ []byte) (byte, []byte) {
		if kind != fxReaddir {
			return 0, nil
		}
		packets++
		return fxName, page
	}))
	_, _, err := entriesOf(t, openTestSFTP(t, s, "/", nil), Before{})
	if !errors.As(err, new(*RefusedError)) || !strings.Contains(err.Error(), "or 400000 names, in one directory: --exclude it") || packets > maxRows/names+2 {
		t.Errorf("%d packets, %v", packets, err)
	}
}

// The names are counted wherever the stream is cut.
func TestSFTPNames(t *testing.T) {
	name := func(count uint32, rest string) []byte {
		b := append(binary.BigEndian.AppendUint32(nil, uint32(9+len(rest))), fxName, 0, 0, 0, 7)
		return append(binary.BigEndian.AppendUint32(b, count), rest...)
	}
	stream := []byte{0, 0, 0, 5, fxVersion, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 1, fxName}
	stream = append(stream, name(5, "hello")...)
	stream = append(stream, 0, 0, 0, 10, fxData, 0, 0, 0, 1, 0, 0, 0, 1, 'x')
	stream = append(stream, name(1<<32-1, "")...)
	for size := 1; size <= len(stream); size++ {
		var n sftpNames
		for at := 0; at < len(stream); at += size {
			n.take(stream[at:min(at+size, len(stream))])
		}
		if n.count != 5+1<<32-1 {
			t.Errorf("in pieces of %d bytes: %d names", size, n.count)
		}
	}
}

// A server that answers READ with more than was asked for gives no more than that; one that answers with nothing, for ever, is left; and
// so are sizes that are none.
func TestSFTPStrangeReads(t *testing.T) {
	reads := 0
	for _, c := range []struct {
		name string
		size uint64
		data string
		want string
		most int
	}{
		{"as asked", 100, strings.Repeat("x", 100), "", 1},
		{"more than asked", 100, strings.Repeat("x", 5000), "", 1},
		{"less, again and again", 100, "x", "", 100},
		{"nothing, for ever", 100, "", "more than twice the 100 bytes", 1 << 20},
		{"a negative size", 1 << 63, "", "no longer a file", 0},
		{"another size", 101, strings.Repeat("x", 100), "", 3},
	} {
		reads = 0
		s := startSSH(t, rawSFTP(func(kind byte, _ []byte) (byte, []byte) {
			switch kind {
			case fxFstat:
				return fxAttrs, attrs(c.size, 1e9)
			case fxRead:
				reads++
				return fxData, fxString(c.data)
			}
			return 0, nil
		}))
		data, b, err := readAll(t, openTestSFTP(t, s, "/", nil), Entry{Path: "f", Size: SizeUnknown}, 0, "")
		switch {
		case c.want != "":
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v, want %q", c.name, err, c.want)
			}
		case b == nil || uint64(len(data)) != c.size || strings.Trim(string(data), "x") != "":
			t.Errorf("%s: %d bytes, %v", c.name, len(data), err)
		}
		if reads > c.most {
			t.Errorf("%s: %d requests", c.name, reads)
		}
	}
}

// FuzzSFTPNames counts names in whatever a server may send: the same in one piece and in pieces.
func FuzzSFTPNames(f *testing.F) {
	f.Add([]byte{0, 0, 0, 5, fxVersion, 0, 0, 0, 3, 0, 0, 0, 9, fxName, 0, 0, 0, 7, 0, 0, 0, 2}, uint8(3))
	f.Add([]byte{0, 0, 0, 0, 255, 255, 255, 255, fxName, 0, 0, 0, 7, 255, 255, 255, 255, 1}, uint8(1))
	f.Fuzz(func(t *testing.T, data []byte, size uint8) {
		var whole, cut sftpNames
		whole.take(data)
		for at := 0; at < len(data); at += int(size) + 1 {
			cut.take(data[at:min(at+int(size)+1, len(data))])
		}
		if whole.count != cut.count || whole.left != cut.left || whole.count < 0 {
			t.Errorf("%d names and %d, %d bytes to come and %d", whole.count, cut.count, whole.left, cut.left)
		}
	})
}
