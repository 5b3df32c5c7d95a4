package origin

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	//lint:ignore SA1019 rsync's protocol has it
	"golang.org/x/crypto/md4"
	"golang.org/x/crypto/ssh"
)

func openTestRsync(t *testing.T, raw string, change func(*Options)) *rsyncOrigin {
	t.Helper()
	o, _ := Options{AllowPrivate: true}.withDefaults()
	if change != nil {
		change(&o)
	}
	origin, err := openRsync(t.Context(), mustURL(t, raw), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { origin.Close() })
	return origin.(*rsyncOrigin)
}

func TestRsyncDaemon(t *testing.T) {
	dir, files := siteFiles(t)
	var asked atomic.Int64
	var connections atomic.Int64
	addr := startRsyncd(t, dir, func(d *rsyncd, n int, _ net.Conn) { d.asked = &asked; connections.Store(int64(n)) })
	origin := openTestRsync(t, "rsync://"+addr+"/mod", nil)
	got := checkSite(t, origin, files)
	if asked.Load() != int64(len(files)) || connections.Load() != 1 {
		t.Errorf("%d files were asked for over %d connections, there are %d", asked.Load(), connections.Load(), len(files))
	}
	again, l, err := entriesOf(t, origin, Before{})
	if err != nil || fmt.Sprint(again) != fmt.Sprint(got) || l.Requests != 1 {
		t.Errorf("the second listing, by %d requests: %v\n%v\n%v", l.Requests, err, again, got)
	}
}

func TestRsyncOverSSH(t *testing.T) {
	dir, files := siteFiles(t)
	s := startSSH(t, func(t *testing.T, kind, command string, ch ssh.Channel) {
		switch command {
		case "rsync '--server' '--sender' '-rlt' '.' 'it'\\''s/'":
			d := &rsyncd{dir: dir, in: bufio.NewReader(ch), out: ch}
			quiet(func() {
				_, _ = ch.Write(ints(31))
				if v := d.int(); v != 27 {
					t.Errorf("version %d", v)
				}
				d.run()
			})
		case "rsync '--server' '--sender' '-rlt' '.' '/noisy/'":
			fmt.Fprint(ch, "Welcome to this server\n")
		default:
			fmt.Fprint(ch.Stderr(), "sh: rsync: not found\n")
			_, _ = ch.SendRequest("exit-status", false, ssh.Marshal(struct{ Code uint32 }{127}))
		}
	})
	access := func(o *Options) { o.Access = s.options().Access }
	checkSite(t, openTestRsync(t, "rsync+ssh://me@"+s.addr+"/~/it's/", access), files)
	for dir, want := range map[string]string{"/noisy": `"Welc", not a version`, "/none": `"sh: rsync: not found"`} {
		if _, _, err := entriesOf(t, openTestRsync(t, "rsync+ssh://me@"+s.addr+dir, access), Before{}); !errors.As(err, new(*RefusedError)) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", dir, err, want)
		}
	}
}

func TestRsyncDoor(t *testing.T) {
	dir, _ := siteFiles(t)
	addr := startRsyncd(t, dir, nil)
	web, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer web.Close()
	go func() {
		for {
			c, err := web.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(c, "HTTP/1.1 400 Bad Request\n")
			c.Close()
		}
	}()
	netrc := filepath.Join(t.TempDir(), "netrc")
	writeFile(t, netrc, []byte("machine 127.0.0.1 login joe password opensesame\n"))
	for _, c := range []struct{ url, password, want string }{
		{"joe@" + addr + "/locked", "opensesame", ""},
		{"joe:open%73esame@" + addr + "/locked", "", ""},
		{addr + "/locked", "", ""},
		{"joe@" + addr + "/locked", "wrong", "auth failed"},
		{"jim@" + addr + "/locked", "", "RSYNC_PASSWORD"},
		{addr + "/none", "", "Unknown module 'none'"},
		{addr + "/", "", "names no module"},
		{web.Addr().String() + "/mod", "", "not an rsync daemon"},
	} {
		t.Setenv("RSYNC_PASSWORD", c.password)
		o, _ := Options{AllowPrivate: true, Access: Access{Netrc: netrc}}.withDefaults()
		origin, err := openRsync(t.Context(), mustURL(t, "rsync://"+c.url), o)
		if err == nil {
			_, _, err = entriesOf(t, origin, Before{})
			origin.Close()
		}
		if c.want == "" && err != nil || c.want != "" && (!errors.As(err, new(*RefusedError)) || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", c.url, err, c.want)
		}
	}
	o, _ := Options{}.withDefaults()
	origin, _ := openRsync(t.Context(), mustURL(t, "rsync://"+addr+"/mod"), o)
	if _, _, err := entriesOf(t, origin, Before{}); err == nil || !strings.Contains(err.Error(), "--allow-private") {
		t.Errorf("private: %v", err)
	}
	busy := openTestRsync(t, "rsync://"+addr+"/busy", nil)
	if _, _, err := busy.session(t.Context(), true); !errors.As(err, new(*BusyError)) {
		t.Errorf("busy: %v", err)
	}
}

// What is chosen is the same as with the other schemes, and the server is told what it can understand of it.
func TestRsyncChoice(t *testing.T) {
	dir, _ := siteFiles(t)
	var told []string
	var mu sync.Mutex
	addr := startRsyncd(t, dir, func(d *rsyncd, _ int, _ net.Conn) {
		d.extra = func(d *rsyncd) { mu.Lock(); told = d.excluded; mu.Unlock() }
	})
	for _, c := range []struct {
		o          Options
		want, told string
	}{
		{Options{Exclude: []string{"d", "a*"}}, "block d.txt empty link", "- d|- a*"},
		{Options{Exclude: []string{"/d/e", "[ab]*", "d/w*"}}, "d d/-rf d/up d/ü*?[x]'\"$(id) d.txt empty link", "- /d/e|- /d/w*"},
		{Options{Include: []string{"big", "*.txt"}}, "d d/e d/e/big d.txt", ""},
		{Options{Include: []string{"-rf"}}, "d d/-rf", ""},
	} {
		origin := openTestRsync(t, "rsync://"+addr+"/mod", func(o *Options) { o.Include, o.Exclude = c.o.Include, c.o.Exclude })
		var got []string
		if _, err := origin.List(t.Context(), Before{}, func(e Entry) error { got = append(got, e.Path); return nil }); err != nil {
			t.Fatal(err)
		}
		mu.Lock()
		if strings.Join(got, " ") != c.want || strings.Join(told, "|") != c.told {
			t.Errorf("%v: %q, told %q", c.o, got, told)
		}
		mu.Unlock()
	}
}

func TestRsyncFiles(t *testing.T) {
	dir, files := siteFiles(t)
	var lie atomic.Bool
	var mute atomic.Bool
	addr := startRsyncd(t, dir, func(d *rsyncd, _ int, _ net.Conn) {
		d.mute = mute.Load()
		d.lie = func(sum []byte) []byte {
			if lie.Load() {
				return make([]byte, len(sum))
			}
			return sum
		}
	})
	origin := openTestRsync(t, "rsync://"+addr+"/mod", nil)
	got, _, err := entriesOf(t, origin, Before{})
	if err != nil {
		t.Fatal(err)
	}
	good := func(what string) {
		t.Helper()
		if data, _, err := readAll(t, origin, got["d/e/big"], 0, ""); err != nil || !bytes.Equal(data, files["d/e/big"]) {
			t.Errorf("after %s: %d bytes, %v", what, len(data), err)
		}
	}
	lie.Store(true)
	if _, _, err := readAll(t, origin, got["a"], 0, ""); !errors.Is(err, errRsyncSum) {
		t.Errorf("a wrong sum: %v", err)
	}
	lie.Store(false)
	good("a wrong sum")
	os.Remove(filepath.Join(dir, "a"))
	if _, _, err := readAll(t, origin, got["a"], 0, ""); !errors.Is(err, ErrGone) {
		t.Errorf("a file that is gone: %v", err)
	}
	good("a file that is gone")
	// Closed too early: the rest of a big file is not waited for.
	b, err := origin.Open(t.Context(), got["d/e/big"], 0, "")
	if err != nil {
		t.Fatal(err)
	}
	b.Close()
	good("a file that was closed")
	// A server that says nothing about a file that it cannot read goes on with the next.
	os.Remove(filepath.Join(dir, "block"))
	mute.Store(true)
	if got, _, err = entriesOf(t, origin, Before{}); err != nil {
		t.Fatal(err)
	}
	origin.ahead.begin() // nothing but what this test asks for
	writeFile(t, filepath.Join(dir, "later"), nil)
	os.Remove(filepath.Join(dir, "d.txt"))
	first, err := origin.Open(t.Context(), got["d/e/big"], 0, "")
	if err != nil {
		t.Fatal(err)
	}
	missing := make(chan error)
	go func() {
		_, _, err := readAll(t, origin, got["d.txt"], 0, "")
		missing <- err
	}()
	waitQueue(origin, 2)
	last := make(chan error)
	go func() {
		data, _, err := readAll(t, origin, got["empty"], 0, "")
		if len(data) > 0 {
			err = errors.New("not empty")
		}
		last <- err
	}()
	waitQueue(origin, 3)
	if data, err := io.ReadAll(first); err != nil || !bytes.Equal(data, files["d/e/big"]) {
		t.Errorf("the first: %v", err)
	}
	if err := <-missing; !errors.As(err, new(*missingError)) {
		t.Errorf("the second: %v", err)
	}
	if err := <-last; err != nil {
		t.Errorf("the third: %v", err)
	}
	if _, err := origin.Open(t.Context(), Entry{Path: "never"}, 0, ""); !errors.Is(err, ErrGone) {
		t.Errorf("a file that was not listed: %v", err)
	}
}

// waitQueue returns when n files are asked for.
func waitQueue(origin *rsyncOrigin, n int) {
	for origin.cur.waiting() != n {
		time.Sleep(time.Millisecond)
	}
}

func (s *rsyncSession) waiting() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.queue)
}

// The connection is cut while a file comes and others wait; whoever asks then gets a new one.
func TestRsyncCut(t *testing.T) {
	dir, files := siteFiles(t)
	addr := startRsyncd(t, dir, func(d *rsyncd, n int, conn net.Conn) {
		if n == 1 {
			c := &cutConn{Conn: conn}
			c.left.Store(3 << 20)
			d.out = c
		}
	})
	origin := openTestRsync(t, "rsync://"+addr+"/mod", nil)
	got, _, err := entriesOf(t, origin, Before{})
	if err != nil {
		t.Fatal(err)
	}
	if data, _, err := readAll(t, origin, got["d/e/big"], 0, ""); err == nil || final(err) {
		t.Errorf("cut: %d bytes, %v", len(data), err)
	}
	if data, _, err := readAll(t, origin, got["d/e/big"], 0, ""); err != nil || !bytes.Equal(data, files["d/e/big"]) {
		t.Errorf("after the cut: %d bytes, %v", len(data), err)
	}
	// The server hangs up while nothing is asked for: nobody is told.
	origin.cur.wire.kill()
	if data, _, err := readAll(t, origin, got["d.txt"], 0, ""); err != nil || string(data) != "4" {
		t.Errorf("after a pause: %q, %v", data, err)
	}
	ctx, stop := context.WithCancel(t.Context())
	b, err := origin.Open(ctx, got["d/e/big"], 0, "")
	if err != nil {
		t.Fatal(err)
	}
	stop()
	if _, err := io.Copy(io.Discard, b); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	b.Close()
}

func TestRsyncHostile(t *testing.T) {
	none := t.TempDir()
	for _, c := range []struct {
		name string
		lie  func(d *rsyncd)
		want string
	}{
		{"a name longer than it can be", func(d *rsyncd) { d.frame(0, append([]byte{rsyncLongName}, ints(1<<30)...)) }, "strange answer"},
		{"a name of nothing", func(d *rsyncd) { d.frame(0, append([]byte{rsyncLongName}, ints(0)...)) }, "strange answer"},
		{"more of the last name than it has", func(d *rsyncd) { d.frame(0, []byte{rsyncSameName, 200, 1}) }, "strange answer"},
		{"a frame of an unknown kind", func(d *rsyncd) { d.frame(-3, nil) }, "strange answer"},
		{"a message without end", func(d *rsyncd) { d.frame(1, make([]byte, rsyncMessage+1)) }, "strange answer"},
		{"the end in the middle", func(d *rsyncd) { d.frame(1, []byte("out of memory\n")); panic("end") }, "hung up"},
		{"errors", func(d *rsyncd) {
			d.missed = 1
			d.frame(1, []byte("opendir \"lost+found\" failed: Permission denied (13)\n"))
		}, "lost+found"},
	} {
		addr := startRsyncd(t, none, func(d *rsyncd, _ int, _ net.Conn) { d.extra = c.lie })
		if _, _, err := openTestRsync(t, "rsync://"+addr+"/mod", nil).session(t.Context(), true); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	addr := startRsyncd(t, none, func(d *rsyncd, _ int, _ net.Conn) {
		d.extra = func(d *rsyncd) {
			for _, name := range []string{"ok", "twice", "twice", "../up", "/abs", "a//b", "\xff", "new\nline", "no/parent", "minus", strings.Repeat("y", 300)} {
				size := int64(1)
				if name == "minus" {
					size = -5
				}
				d.entry(name, size, 1e9, 0o100644, "")
			}
			d.entry("dir", 4096, 1e9, 0o040755, "")
			d.entry("dir/far", 1<<40, 4e9, 0o104755, "")
			d.entry("dir/out", 3, 1e9, 0o120777, "../..")
			d.entry("fifo", 0, 1e9, 0o010644, "")
		}
	})
	got, l, err := entriesOf(t, openTestRsync(t, "rsync://"+addr+"/mod", nil), Before{})
	if err != nil || len(got) != 4 || len(l.Bad) != 11 || got["dir/far"].Size != 1<<40 || got["dir/far"].Mode != 0o100755 || got["dir/far"].Mtime != 4e18 {
		t.Errorf("%v, %d bad %v, %v", got, len(l.Bad), l.Bad, err)
	}
}

// Small files are asked for before they are wanted, each once, within a window; what was kept and is no longer there is told.
func TestRsyncAhead(t *testing.T) {
	dir := t.TempDir()
	const count = 3 * aheadFiles
	for i := range count {
		writeFile(t, filepath.Join(dir, fmt.Sprintf("%04d", i)), fmt.Append(nil, i))
	}
	var asked atomic.Int64
	addr := startRsyncd(t, dir, func(d *rsyncd, _ int, _ net.Conn) { d.asked = &asked })
	origin := openTestRsync(t, "rsync://"+addr+"/mod", nil)
	var names []Entry
	if _, err := origin.List(t.Context(), Before{}, func(e Entry) error { names = append(names, e); return nil }); err != nil {
		t.Fatal(err)
	}
	read := func(i int) {
		t.Helper()
		if data, _, err := readAll(t, origin, names[i], 0, ""); err != nil || string(data) != fmt.Sprint(i) {
			t.Errorf("%d: %q, %v", i, data, err)
		}
	}
	read(0)
	if n := origin.ahead.waiting(); n != aheadFiles {
		t.Errorf("%d files are on their way, want %d", n, aheadFiles)
	}
	var wg sync.WaitGroup
	work := make(chan int)
	for range 4 {
		wg.Go(func() {
			for i := range work {
				read(i)
			}
		})
	}
	for i := 1; i < count; i++ {
		work <- i
	}
	close(work)
	wg.Wait()
	if n := asked.Load(); n != count || origin.ahead.waiting() != 0 || origin.ahead.bytes != 0 {
		t.Errorf("%d of %d files were asked for, %d files and %d bytes are left", n, count, origin.ahead.waiting(), origin.ahead.bytes)
	}
	// The last of them are unchanged, one grows and one goes before they are wanted.
	old := time.Now().Add(-time.Hour)
	for i := range count {
		if err := os.Chtimes(filepath.Join(dir, fmt.Sprintf("%04d", i)), old, old); err != nil {
			t.Fatal(err)
		}
	}
	was, _, err := entriesOf(t, origin, Before{})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := entriesOf(t, origin, Before{Entry: func(p string) (Entry, bool) { e, ok := was[p]; return e, ok && p >= "0005" }}); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "0001"), make([]byte, 5<<20))
	os.Remove(filepath.Join(dir, "0002"))
	read(0)
	if data, _, err := readAll(t, origin, names[1], 0, ""); err != nil || len(data) != 5<<20 {
		t.Errorf("a file that grew: %d bytes, %v", len(data), err)
	}
	if _, _, err := readAll(t, origin, names[2], 0, ""); !errors.Is(err, ErrGone) {
		t.Errorf("a file that is gone: %v", err)
	}
	read(3)
	read(4)
	if n := origin.ahead.waiting(); n != 0 {
		t.Errorf("%d files are on their way, though they have not changed", n)
	}
}

func (r *readAhead) waiting() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.kept)
}

// A server that says nothing ends by the timeout.
func TestRsyncSilent(t *testing.T) {
	addr := startRsyncd(t, t.TempDir(), func(d *rsyncd, _ int, _ net.Conn) {
		d.extra = func(d *rsyncd) { _, _ = io.Copy(io.Discard, d.in) }
	})
	origin := openTestRsync(t, "rsync://"+addr+"/mod", func(o *Options) { o.Timeout = 20 * time.Millisecond })
	if _, _, err := origin.session(t.Context(), true); err == nil || !strings.Contains(err.Error(), "no byte came for 20ms") {
		t.Errorf("silence: %v", err)
	}
}

// FuzzRsync reads whatever a server may say: greeting, list, files.
func FuzzRsync(f *testing.F) {
	hello := []byte("@RSYNCD: 31.0\nmotd\n@RSYNCD: OK\n")
	d := &rsyncd{}
	var b bytes.Buffer
	d.out = &b
	b.Write(append(hello, ints(7)...))
	d.entry(".", 0, 1e9, 0o040755, "")
	d.entry("a", 2, 1e9, 0o100644, "")
	d.entry("l", 2, 1e9, 0o120777, "a")
	d.frame(0, append([]byte{rsyncSameName | rsyncSameMode | rsyncSameTime, 1, 2, 'x', 'y'}, append(ints(3, 1), 'a')...))
	d.frame(0, append([]byte{0}, ints(0)...))
	sum := md4.New()
	sum.Write(append(ints(7), "hi"...))
	d.frame(0, append(append(append(ints(1, 0, 0, 0, 0, 2), "hi"...), ints(0)...), sum.Sum(nil)...))
	f.Add(bytes.Clone(b.Bytes()))
	f.Add(append(bytes.Clone(b.Bytes()), fuzzTokens()...))
	d.frame(1, []byte("file has vanished: \"lxy\"\n"))
	f.Add(bytes.Clone(b.Bytes()))
	f.Add(hello)
	f.Add([]byte("@ERROR: no\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		w := newRsyncWire(bytes.NewReader(data), io.Discard, func() {}, time.Minute)
		s := newRsyncSession(w, func() {})
		daemon := &rsyncDaemon{module: "mod", user: "joe", password: "x"}
		if s.begin(t.Context(), func() error { return daemon.greet(w) }) != nil || s.list(t.Context(), nil) != nil {
			return
		}
		o, _ := Options{}.withDefaults()
		last := ""
		if _, err := s.emit(&crawler{o: &o, each: func(e Entry) error {
			if last >= e.Path && !strings.HasPrefix(e.Path, last) && !strings.Contains(e.Path+last, "/") {
				t.Errorf("%q after %q", e.Path, last)
			}
			last = e.Path
			return nil
		}}); err != nil {
			t.Error(err)
		}
		for _, f := range s.files[:min(len(s.files), 8)] {
			if e, _ := f.entry(); !e.IsFile() {
				continue // one that is not there would be the end
			}
			if body, err := s.request(t.Context(), f.name, nil); err == nil && body.begin() == nil {
				n, err := io.Copy(io.Discard, body)
				if err == nil && n > f.size*2+rsyncGrowth {
					t.Errorf("%d bytes of a file of %d", n, f.size)
				}
				body.Close()
			}
			readAfter(t, s, f)
		}
	})
}
