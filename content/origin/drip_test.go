package origin

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pkg/sftp"
	//lint:ignore SA1019 rsync's protocol has it
	"golang.org/x/crypto/md4"
)

// drip writes as it is told to until free bytes are through, and then only so much at a time, with a pause before each, which is shorter for less.
type drip struct {
	io.WriteCloser
	free, part int
	pause      time.Duration
	dead       error // nobody is there any more: what is still to be written takes no time
}

func (d *drip) Write(p []byte) (n int, err error) {
	err = d.dead
	for n < len(p) && err == nil {
		part := min(len(p)-n, max(d.free, d.part))
		if d.free -= part; d.free < 0 {
			d.free = 0
			part = min(part, d.part)
			time.Sleep(d.pause * time.Duration(part) / time.Duration(d.part))
		}
		var m int
		m, err = d.WriteCloser.Write(p[n : n+part])
		n += m
	}
	d.dead = err
	return n, err
}

// dripCase is a server that begins to drip at some point. A byte each 3 s keeps every timer of silence quiet.
type dripCase struct {
	name  string
	free  int // bytes before
	part  int
	pause time.Duration
	want  string // "": all comes
}

func checkDrip(t *testing.T, c dripCase, began time.Time, err error) {
	t.Helper()
	took := time.Since(began)
	if c.want == "" && err == nil {
		return
	}
	if c.want == "" || err == nil || !strings.Contains(err.Error(), c.want) || final(err) || took > 5*time.Minute {
		t.Errorf("%s: %v after %v, want %q", c.name, err, took, c.want)
	}
}

func TestRsyncDrips(t *testing.T) {
	dir := t.TempDir()
	const size = 1 << 20
	writeFile(t, dir+"/file", make([]byte, size))
	for i := range 100 {
		writeFile(t, dir+"/"+strings.Repeat("n", i+1), nil)
	}
	const hello = len("@RSYNCD: 31.0 sha512 md5\nWelcome!\n\n")
	const greeting = hello + len("@RSYNCD: OK\n") + 4
	for _, c := range []dripCase{
		{"the greeting", hello, 1, 10 * time.Second, "it did not let us in within 2m0s: "},
		{"the list", greeting + 50, 1, 3 * time.Second, "less than 50 a second is as good as nothing (with --connections 1"},
		{"the file", 100_000, 1, 3 * time.Second, "less than 1000 a second is as good as nothing"},
		{"the file, and just too little comes", 100_000, slowest / 2, 2 * time.Second, "less than 1000 a second is as good as nothing"},
		{"a slow server", greeting, 2 * slowest, time.Second, ""},
		{"a slow list", greeting, 2 * slowestList, time.Second, "less than 1000"}, // of the file
	} {
		synctest.Test(t, func(t *testing.T) {
			here, there := net.Pipe()
			var wg sync.WaitGroup
			wg.Go(func() {
				d := &rsyncd{dir: dir, in: bufio.NewReader(there), out: &drip{WriteCloser: there, free: c.free, part: c.part, pause: c.pause}}
				quiet(func() {
					if d.greet() {
						d.run()
					}
				})
				there.Close()
			})
			w := newRsyncWire(here, here, func() { here.Close() }, time.Minute)
			s := newRsyncSession(w, func() {})
			began := time.Now()
			err := s.begin(t.Context(), func() error { return (&rsyncDaemon{module: "mod"}).greet(w) })
			if err == nil {
				err = s.list(t.Context(), nil)
			}
			var b *rsyncBody
			if err == nil {
				began = time.Now()
				b, err = s.request(t.Context(), "file", nil)
			}
			if err == nil {
				err = b.begin()
			}
			if err == nil {
				var n int64
				if n, err = io.Copy(io.Discard, b); err == nil && n != size {
					t.Errorf("%s: %d bytes", c.name, n)
				}
			}
			checkDrip(t, c, began, err)
			here.Close()
			wg.Wait()
		})
	}
}

// What is here of a file counts, when the server says that it is the same: it has read it, and says so in four bytes.
func TestRsyncSameIsFast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, there := net.Pipe()
		w := newRsyncWire(here, here, func() { here.Close() }, time.Minute)
		w.least, w.framed = slowest, true
		s := newRsyncSession(w, func() {})
		have := make([]byte, 300*rsyncBlock)
		b := &rsyncBody{s: s, sum: md4.New(), basis: &rsyncBasis{have: strings.NewReader(string(have)), size: int64(len(have)), block: rsyncBlock}, from: -1, allowed: 1 << 40}
		var wg sync.WaitGroup
		wg.Go(func() {
			d := &rsyncd{out: &drip{WriteCloser: there, part: 8, pause: time.Second}}
			quiet(func() {
				for i := range 300 {
					d.frame(0, ints(^i))
				}
			})
			there.Close()
		})
		if n, err := io.CopyN(io.Discard, b, int64(len(have))); err != nil || n != int64(len(have)) {
			t.Errorf("%d bytes, %v", n, err)
		}
		here.Close()
		wg.Wait()
	})
}

func TestSFTPDrips(t *testing.T) {
	dir := t.TempDir()
	const size = 1 << 20
	writeFile(t, dir+"/file", make([]byte, size))
	if err := os.Symlink("file", dir+"/link"); err != nil {
		t.Fatal(err)
	}
	for _, c := range []dripCase{
		{"the version", 5, 1, 3 * time.Second, "less than 50 a second is as good as nothing (with --connections 1"},
		{"the list", 150, 1, 3 * time.Second, "less than 50 a second is as good as nothing"},
		{"the file", 10_000, 1, 3 * time.Second, "less than 1000 a second is as good as nothing"},
		{"the file, and just too little comes", 10_000, slowest / 2, 2 * time.Second, "less than 1000 a second is as good as nothing"},
		{"a slow server", 0, 2 * slowest, time.Second, ""},
	} {
		synctest.Test(t, func(t *testing.T) {
			here, there := net.Pipe()
			var wg sync.WaitGroup
			wg.Go(func() {
				server, err := sftp.NewServer(struct {
					io.Reader
					io.WriteCloser
				}{there, &drip{WriteCloser: there, free: c.free, part: c.part, pause: c.pause}}, sftp.ReadOnly())
				if err == nil {
					_ = server.Serve()
				}
				there.Close()
			})
			o, _ := Options{Connections: 1}.withDefaults()
			ch := &sftpChannel{conn: &sshConn{raw: here, dead: make(chan struct{})}, timeout: o.Timeout, in: &meter{Reader: here, kill: func() { here.Close() }}}
			began := time.Now()
			err := ch.do(t.Context(), sftpListing(nil), func() (err error) {
				ch.client, err = sftp.NewClientPipe(ch.in, here)
				return err
			})
			pool := newSFTPPool(&sshDoor{o: &o})
			pool.conn, pool.free, pool.open = ch.conn, []*sftpChannel{ch}, 1
			origin := &sftpOrigin{o: &o, pool: pool, base: dir}
			if err == nil {
				began = time.Now()
				_, _, _, err = origin.list(t.Context(), Before{}, "")
			}
			if err == nil {
				var data []byte
				if data, _, err = readAll(t, origin, Entry{Path: "file", Size: size}, 0, ""); err == nil && len(data) != size {
					err = errors.New("it is not whole")
				}
			}
			checkDrip(t, c, began, err)
			if ch.client != nil {
				ch.client.Close()
			}
			origin.Close()
			wg.Wait()
			time.Sleep(time.Minute) // what the server had still to write
		})
	}
}
