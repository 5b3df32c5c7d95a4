package origin

import (
	"bytes"
	"io"
	"net"
	"strings"
	"testing"
)

// Messages have a limit together, and frames without anything in them are no progress.
func TestRsyncNoise(t *testing.T) {
	for name, head := range map[string][]byte{"messages": {0, 0, 1, rsyncData + 2}, "nothing": {0, 0, 0, rsyncData}} {
		page := bytes.Repeat(head, 1<<14)
		if name == "messages" {
			page = append(head, make([]byte, 1<<16)...)
		}
		read := 0
		wire := newRsyncWire(readerFunc(func(p []byte) (int, error) {
			n := copy(p, page[read%len(page):])
			if read += n; read > 2*rsyncNoise {
				return 0, io.ErrNoProgress
			}
			return n, nil
		}), io.Discard, func() {}, DefaultTimeout)
		wire.framed = true
		if _, err := wire.readInt(); err == nil || !strings.Contains(err.Error(), "more than 64 MiB of messages") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// A server that sends another file than was asked for, one without an end, or a number of a block that nobody has, is not believed.
func TestRsyncOtherFiles(t *testing.T) {
	for _, c := range []struct {
		name string
		sent []byte
		want string
	}{
		{"another file", ints(2, 0, 0, 0, 0), "file 2 instead of 1"},
		{"a file with a negative number", ints(-7, 0, 0, 0, 0), "strange answer"},
		{"the top", ints(0, 0, 0, 0, 0), "file 0 instead of 1"},
		{"a number beyond the list", ints(1<<31-1, 0, 0, 0, 0), "instead of 1"},
		{"a piece that is longer than the file may be", ints(1, 0, 0, 0, 0, 1<<31-1), "more than twice as long as it was listed"},
		{"a block that we do not have", ints(1, 0, 0, 0, 0, -1), "strange answer"},
		{"the last block of all", ints(1, 0, 0, 0, 0, -1<<31), "strange answer"},
	} {
		addr := startRsyncd(t, t.TempDir(), func(d *rsyncd, _ int, _ net.Conn) {
			d.extra = func(d *rsyncd) {
				d.entry("a", 3, 1e9, 0o100644, "")
				d.entry("b", 3, 1e9, 0o100644, "")
				d.frame(0, append([]byte{0}, ints(0)...))
				d.int()
				d.sums()
				d.frame(0, c.sent)
				_, _ = io.Copy(io.Discard, d.in)
			}
		})
		o := openTestRsync(t, "rsync://"+addr+"/mod", nil)
		if data, _, err := readAll(t, o, Entry{Path: "a", Size: 3}, 0, ""); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %q, %v, want %q", c.name, data, err, c.want)
		}
	}
}
