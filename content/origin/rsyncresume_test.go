package origin

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	//lint:ignore SA1019 rsync's protocol has it
	"golang.org/x/crypto/md4"
)

// blockSums are what a server is told of a file that the other end has.
type blockSums struct {
	block int
	at    map[string]int // weak and strong sum -> number of the first block with them
}

// sums reads what follows the number of a file.
func (d *rsyncd) sums() blockSums {
	count, block, length, rest := d.int(), d.int(), d.int(), d.int()
	if count == 0 && block|length|rest == 0 {
		return blockSums{}
	}
	if count <= 0 || block != rsyncBlock || length != md4.Size || rest != 0 {
		panic("sums of blocks")
	}
	s := blockSums{block: int(block), at: map[string]int{}}
	for i := range int(count) {
		sum := make([]byte, 4+md4.Size)
		if _, err := io.ReadFull(d.in, sum); err != nil {
			panic(err)
		}
		if _, ok := s.at[string(sum)]; !ok {
			s.at[string(sum)] = i
		}
	}
	return s
}

// find looks for a block that data begin with: not at every byte, as a better server would.
func (s blockSums) find(seed int32, data []byte) (int, bool) {
	if s.block == 0 || len(data) < s.block {
		return 0, false
	}
	var a, b uint32 // as written in the paper
	for i, c := range data[:s.block] {
		a += uint32(int8(c))
		b += uint32(s.block-i) * uint32(int8(c))
	}
	strong := md4.New()
	strong.Write(data[:s.block])
	strong.Write(ints(int(seed)))
	n, ok := s.at[string(append(ints(int(a&0xffff|b<<16)), strong.Sum(nil)...))]
	return n, ok
}

// counted counts what a server sends.
type counted struct {
	net.Conn
	sent *atomic.Int64
}

func (c counted) Write(p []byte) (int, error) {
	c.sent.Add(int64(len(p)))
	return c.Conn.Write(p)
}

// spoiled are bytes, of which some cannot be read.
type spoiled struct {
	*bytes.Reader
	from, to int64
}

func (s spoiled) ReadAt(p []byte, offset int64) (int, error) {
	if offset < s.to && offset+int64(len(p)) > s.from {
		return 0, errors.New("medium error")
	}
	return s.Reader.ReadAt(p, offset)
}

// What is here of a file is not sent once more, and what only seems to be of it does no harm.
func TestRsyncGoesOn(t *testing.T) {
	dir := t.TempDir()
	var sent atomic.Int64
	addr := startRsyncd(t, dir, func(d *rsyncd, _ int, conn net.Conn) { d.out = counted{conn, &sent} })
	data := make([]byte, 20*rsyncBlock+1000)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(data)
	copy(data[9*rsyncBlock:], data[3*rsyncBlock:6*rsyncBlock])  // the same again, in what is here
	copy(data[16*rsyncBlock:], data[2*rsyncBlock:4*rsyncBlock]) // and in what is not
	writeFile(t, filepath.Join(dir, "big"), data)
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(filepath.Join(dir, "big"), old, old); err != nil {
		t.Fatal(err)
	}
	changed := func(at int) []byte {
		other := bytes.Clone(data)
		other[at] ^= 1
		return other
	}
	const half = 12*rsyncBlock + 700
	origin := openTestRsync(t, "rsync://"+addr+"/mod", nil)
	got, _, err := entriesOf(t, origin, Before{})
	if err != nil {
		t.Fatal(err)
	}
	whole, err := origin.Open(t.Context(), got["big"], half, "")
	if err != nil || whole.Offset != 0 || whole.Version == "" || !whole.Whole {
		t.Fatalf("%+v, %v", whole, err)
	}
	version := whole.Version
	whole.Close()
	for name, c := range map[string]struct {
		have         []byte
		bad          [2]int64
		size         int64
		version      string
		begin, comes int64
	}{
		"half":                  {data, [2]int64{}, half, "", half, 6 * rsyncBlock},
		"all":                   {data, [2]int64{}, int64(len(data)), "", int64(len(data)), 1000},
		"whole blocks":          {data, [2]int64{}, 4 * rsyncBlock, "", 4 * rsyncBlock, 13 * rsyncBlock},
		"less than a block":     {data, [2]int64{}, rsyncBlock - 1, "", 0, 20 * rsyncBlock},
		"other at the end":      {changed(half - 1), [2]int64{}, half, "", 0, 6 * rsyncBlock},
		"other in the middle":   {changed(7 * rsyncBlock), [2]int64{}, half, "", 0, 7 * rsyncBlock},
		"other at the start":    {changed(0), [2]int64{}, half, "", 0, 7 * rsyncBlock},
		"another version":       {data, [2]int64{}, half, "1-1", 0, 20 * rsyncBlock},
		"longer than the file":  {append(bytes.Clone(data), data...), [2]int64{}, int64(len(data)) + 10, "", 0, 1000},
		"unreadable":            {data, [2]int64{0, half}, half, "", 0, 20 * rsyncBlock},
		"unreadable at its end": {data, [2]int64{half - 1, half}, half, "", 0, 6 * rsyncBlock},
	} {
		if c.version == "" {
			c.version = version
		}
		before := sent.Load()
		b, err := origin.OpenAfter(t.Context(), got["big"], spoiled{bytes.NewReader(c.have), c.bad[0], c.bad[1]}, c.size, c.version)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		rest, err := io.ReadAll(b)
		b.Close()
		if err != nil || b.Offset != c.begin || b.Version != version || !bytes.Equal(rest, data[c.begin:]) {
			t.Errorf("%s: %d bytes from %d on, version %q, %v; want %d from %d on", name, len(rest), b.Offset, b.Version, err, len(data)-int(c.begin), c.begin)
		}
		if n := sent.Load() - before; n < c.comes || n > c.comes+rsyncBlock+4000 {
			t.Errorf("%s: %d bytes were sent, want %d and a little", name, n, c.comes)
		}
	}
}

// heard is a session whose server has listed a file "a" and says this.
func heard(says []byte) *rsyncSession {
	w := newRsyncWire(bytes.NewReader(says), io.Discard, func() {}, time.Minute)
	w.framed = true
	s := newRsyncSession(w, func() {})
	s.seed, s.files = 7, []rsyncFile{{name: "a", size: 9}}
	return s
}

// framed is what is said of file n: tokens and the sum of the whole, in a frame.
func framed(n int, tokens []byte, whole string) []byte {
	var b bytes.Buffer
	sum := md4.New()
	sum.Write(append(ints(7), whole...))
	(&rsyncd{out: &b}).frame(0, append(append(append(ints(n, 3, 2, 16, 0), tokens...), ints(0)...), sum.Sum(nil)...))
	return b.Bytes()
}

// What a server says of blocks has limits.
func TestRsyncTokens(t *testing.T) {
	cat := func(parts ...any) (b []byte) {
		for _, p := range parts {
			switch p := p.(type) {
			case int:
				b = append(b, ints(p)...)
			case string:
				b = append(append(b, ints(len(p))...), p...)
			}
		}
		return b
	}
	for name, c := range map[string]struct {
		says  []byte
		begin int64
		want  string
		err   string
	}{
		"in order":              {framed(0, cat(-1, -2, -3, "def"), "aabbccdef"), 7, "ef", ""},
		"blocks later":          {framed(0, cat(-1, -2, -3, "d", -1, "x", -3), "aabbccdaaxcc"), 7, "aaxcc", ""},
		"bytes for blocks":      {framed(0, cat(-1, "bbc", "c", "dz"), "aabbccdz"), 7, "z", ""},
		"one again and again":   {framed(0, cat(-1, -1, -2, "x"), "aaaabbx"), 0, "aaaabbx", ""},
		"nothing":               {framed(0, nil, ""), 0, "", ""},
		"another sum":           {framed(0, cat(-1, -2, -3, "def"), "aabbccdeg"), 7, "ef", errRsyncSum.Error()},
		"one that is not there": {framed(0, cat(-1, -2, -4), ""), 0, "", "block 3 of a file of which we have 3"},
		"the last there can be": {framed(0, cat(-1<<31), ""), 0, "", "block 2147483647"},
		"without end":           {framed(0, bytes.Repeat(cat(-1), 1000), ""), 0, strings.Repeat("aa", 50), "twice as long"},
		"cut off":               {framed(0, cat(-1, -2, -3, "def"), "")[:4+20+12+4+2], 7, "e", "cut"},
	} {
		s := heard(c.says)
		b, err := s.request(t.Context(), "a", &rsyncBasis{have: strings.NewReader("aabbccd"), size: 7, version: s.files[0].version(), block: 2})
		if err == nil {
			b.allowed = 100
			err = b.begin()
		}
		if err != nil {
			t.Fatal(err)
		}
		var rest []byte
		body, err := b.after()
		if err == nil {
			if body.Offset != c.begin {
				t.Errorf("%s: it begins at %d, want %d", name, body.Offset, c.begin)
			}
			rest, err = io.ReadAll(body)
		}
		if string(rest) != c.want || c.err == "" && err != nil || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
			t.Errorf("%s: %q, %v; want %q, %s", name, rest, err, c.want, c.err)
		}
	}
	if s := heard(framed(0, cat(-1), "aa")); true {
		b, err := s.request(t.Context(), "a", nil)
		if err == nil {
			if err = b.begin(); err == nil {
				_, err = io.ReadAll(b)
			}
		}
		if !errors.Is(err, errRsync) {
			t.Errorf("a block of nothing: %v", err)
		}
	}
}

// fuzzTokens is what a server may say of the file "a" to who has the beginning of it, see readAfter.
func fuzzTokens() []byte { return framed(1, append(ints(-1, 2), "!!"...), "hi!!") }

// readAfter reads a file of which there is something here.
func readAfter(t *testing.T, s *rsyncSession, f rsyncFile) {
	const have = "hiho"
	b, err := s.request(t.Context(), f.name, &rsyncBasis{have: strings.NewReader(have), size: 3, version: f.version(), block: 2})
	if err != nil || b.begin() != nil {
		return
	}
	body, err := b.after()
	if err != nil {
		return
	}
	if body.Offset != 0 && body.Offset != 3 {
		t.Errorf("it begins at %d", body.Offset)
	}
	n, err := io.Copy(io.Discard, body)
	if err == nil && body.Offset+n > f.size*2+rsyncGrowth {
		t.Errorf("%d bytes of a file of %d", n, f.size)
	}
	body.Close()
}

// TestRsyncLongRequest: a server that sends a large file does not read meanwhile what is here of another. It is told when all before has
// come, and those who are to read that do not wait for who tells it.
func TestRsyncLongRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		s := newRsyncSession(newRsyncWire(ours, ours, func() { ours.Close() }, time.Minute), func() {})
		s.wire.framed = true
		s.seed, s.files = 7, []rsyncFile{{name: "a", size: 9}, {name: "b", size: 20_000}, {name: "c", size: 1}}
		const blocks = 2 * rsyncWrite / rsyncSums
		wg := sync.WaitGroup{}
		wg.Go(func() {
			defer theirs.Close()
			for i, x := range []struct {
				request int
				says    []byte
			}{{20, framed(0, append(ints(2), "aa"...), "aa")}, {20 + blocks*rsyncSums, framed(1, append(ints(1), "b"...), "b")}} {
				if _, err := io.CopyN(io.Discard, theirs, int64(x.request)); err != nil {
					t.Errorf("request %d: %v", i, err)
				}
				if _, err := theirs.Write(x.says); err != nil {
					t.Errorf("answer %d: %v", i, err)
				}
			}
		})
		a, err := s.request(t.Context(), "a", nil)
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			have := strings.NewReader(strings.Repeat("x", blocks))
			b, err := s.request(t.Context(), "b", &rsyncBasis{have: have, size: blocks, version: s.files[1].version(), block: 1})
			if err == nil {
				err = b.begin()
			}
			if err != nil {
				t.Error(err)
				return
			}
			if data, err := io.ReadAll(b); err != nil || string(data) != "b" {
				t.Errorf("%q, %v", data, err)
			}
		})
		synctest.Wait()
		if c, err := s.requestAhead("c"); c != nil || err != nil {
			t.Errorf("asked ahead while a long request waits: %v, %v", c, err)
		}
		time.Sleep(time.Hour) // the reader of "a" has much to do
		if err := a.begin(); err != nil {
			t.Fatal(err)
		}
		if data, err := io.ReadAll(a); err != nil || string(data) != "aa" {
			t.Errorf("%q, %v", data, err)
		}
		wg.Wait()
	})
}

// TestRsyncLongRequestEnds: who does not want it any more does not wait for its turn.
func TestRsyncLongRequestEnds(t *testing.T) {
	s := heard(nil)
	if _, err := s.request(t.Context(), "a", nil); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	mine := errors.New("not wanted")
	cancel(mine)
	const size = 2 * rsyncWrite / rsyncSums
	_, err := s.request(ctx, "a", &rsyncBasis{have: strings.NewReader(strings.Repeat("x", size)), size: size, version: s.files[0].version(), block: 1})
	if !errors.Is(err, mine) {
		t.Errorf("got %v", err)
	}
}
