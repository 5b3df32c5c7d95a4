package origin

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"maps"
	"net"
	"net/url"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"swarmnode/content"
)

// fakeFile is a path of a fakeFTP.
type fakeFile struct {
	mode   uint32 // with its kind, as in content
	data   string
	target string
	mtime  time.Time
}

// fakeFTP is an FTP server with a tree in memory. A test's hook answers the commands that it wants to do badly.
type fakeFTP struct {
	t      *testing.T
	listen net.Listener
	tls    *tls.Config // for AUTH TLS, or from the first byte
	wg     sync.WaitGroup

	mu    sync.Mutex // guards all below
	tree  map[string]fakeFile
	feats []string
	hook  func(c *fakeConn, cmd, arg string) bool // true: answered
	said  []string                                // commands of all connections
	conns map[*fakeConn]bool
	most  int // connections at a time
	early int // commands that came before the one before was answered
	year  int // LIST shows the year of what is older
}

// fakeConn is one control connection.
type fakeConn struct {
	s       *fakeFTP
	conn    net.Conn
	dir     string
	rest    int64
	passive net.Listener
	prot    bool
	resumed bool // the last data connection resumed the TLS session
}

var fakeTime = time.Date(2026, 11, 20, 10, 20, 30, 0, time.UTC)

// newFakeFTP starts a server. Files are path -> content; a path that ends in '/' is a directory, "->x" the content of a symlink.
func newFakeFTP(t *testing.T, files map[string]string) *fakeFTP {
	t.Helper()
	listen, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &fakeFTP{t: t, listen: listen, tree: map[string]fakeFile{"/": {mode: content.ModeDir | 0o755}}, conns: map[*fakeConn]bool{}, year: 2026,
		feats: []string{"MLST type*;size*;modify*;unix.mode*;", "MLSD", "MDTM", "SIZE", "REST STREAM", "UTF8"}}
	for p, data := range files {
		s.put(p, data)
	}
	s.wg.Go(s.serve)
	t.Cleanup(s.stop)
	return s
}

// put makes a path and the directories above it.
func (s *fakeFTP) put(p, data string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := fakeFile{mode: content.ModeFile | 0o640, data: data, mtime: fakeTime}
	if strings.HasSuffix(p, "/") {
		f.mode = content.ModeDir | 0o755
	} else if target, ok := strings.CutPrefix(data, "->"); ok {
		f = fakeFile{mode: content.ModeLink | 0o777, target: target, mtime: fakeTime}
	}
	p = path.Clean("/" + p)
	s.tree[p] = f
	for d := path.Dir(p); d != "/"; d = path.Dir(d) {
		s.tree[d] = fakeFile{mode: content.ModeDir | 0o755, mtime: fakeTime}
	}
}

// url is that of a path of the server.
func (s *fakeFTP) url(scheme, p string) string {
	return (&url.URL{Scheme: scheme, Host: s.listen.Addr().String(), Path: p}).String()
}

// set changes how the server is.
func (s *fakeFTP) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

// onCommand has commands answered by hook.
func (s *fakeFTP) onCommand(hook func(c *fakeConn, cmd, arg string) bool) {
	s.set(func() { s.hook = hook })
}

// config is that of TLS.
func (s *fakeFTP) config() *tls.Config {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tls
}

// lines gives all commands.
func (s *fakeFTP) lines() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.said)
}

// commands gives how often each command was given.
func (s *fakeFTP) commands() map[string]int {
	out := map[string]int{}
	for _, line := range s.lines() {
		out[strings.SplitN(line, " ", 2)[0]]++
	}
	return out
}

func (s *fakeFTP) stop() {
	_ = s.listen.Close()
	s.hangUp()
	s.wg.Wait()
}

// hangUp ends all connections.
func (s *fakeFTP) hangUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		_ = c.conn.Close()
	}
}

func (s *fakeFTP) serve() {
	for {
		conn, err := s.listen.Accept()
		if err != nil {
			return
		}
		c := &fakeConn{s: s, conn: conn, dir: "/"}
		s.mu.Lock()
		s.conns[c] = true
		s.most = max(s.most, len(s.conns))
		s.mu.Unlock()
		s.wg.Go(func() {
			c.run()
			_ = conn.Close()
			if c.passive != nil {
				_ = c.passive.Close()
			}
			s.mu.Lock()
			delete(s.conns, c)
			s.mu.Unlock()
		})
	}
}

func (c *fakeConn) reply(format string, args ...any) {
	fmt.Fprintf(c.conn, format+"\r\n", args...)
}

func (c *fakeConn) run() {
	if c.ask("GREETING", "") {
		return
	}
	c.reply("220 fake")
	in := bufio.NewReader(c.conn)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimSuffix(line, "\r\n")
		c.s.mu.Lock()
		c.s.said = append(c.s.said, line)
		if in.Buffered() > 0 {
			c.s.early++
		}
		c.s.mu.Unlock()
		cmd, arg, _ := strings.Cut(line, " ")
		if c.ask(cmd, arg) {
			continue
		}
		if config := c.s.config(); cmd == "AUTH" && config != nil {
			c.reply("234 now")
			raw := c.conn
			c.conn = tls.Server(raw, config)
			in = bufio.NewReader(c.conn)
			continue
		}
		c.do(cmd, arg)
	}
}

// ask lets the hook answer.
func (c *fakeConn) ask(cmd, arg string) bool {
	c.s.mu.Lock()
	hook := c.s.hook
	c.s.mu.Unlock()
	return hook != nil && hook(c, cmd, arg)
}

// find gives what is at a path, relative to the current directory.
func (c *fakeConn) find(arg string) (fakeFile, bool) {
	if !strings.HasPrefix(arg, "/") {
		arg = c.dir + "/" + arg
	}
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	f, ok := c.s.tree[path.Clean(arg)]
	return f, ok
}

func (c *fakeConn) do(cmd, arg string) {
	f, ok := c.find(arg)
	kind := f.mode &^ 0o7777
	switch cmd {
	case "USER":
		c.reply("331 and the password?")
	case "PASS":
		c.reply("230 welcome")
	case "FEAT":
		var feats string
		c.s.set(func() { feats = strings.Join(c.s.feats, "\r\n ") })
		c.reply("211-features\r\n %s\r\n211 end", feats)
	case "PWD":
		c.reply(`257 "/" is it`)
	case "TYPE", "OPTS", "PBSZ":
		c.reply("200 fine")
	case "PROT":
		c.prot = true
		c.reply("200 fine")
	case "EPSV":
		c.reply("229 here (|||%d|)", c.open())
	case "PASV":
		port := c.open()
		c.reply("227 here (127,0,0,1,%d,%d)", port>>8, port&255)
	case "REST":
		_, _ = fmt.Sscan(arg, &c.rest)
		c.reply("350 from there")
	case "CWD":
		if kind != content.ModeDir {
			c.reply("550 %s: No such file or directory", arg)
			return
		}
		c.dir = path.Clean(arg)
		c.reply("250 there")
	case "MLSD", "LIST":
		c.send(c.list(cmd), "226 done")
	case "SIZE", "MDTM", "MLST", "RETR":
		if !ok || kind == content.ModeDir {
			c.reply("550 %s: No such file or directory", arg)
			return
		}
		c.file(cmd, f)
	default:
		c.reply("502 what?")
	}
}

func (c *fakeConn) file(cmd string, f fakeFile) {
	stamp := f.mtime.UTC().Format("20060102150405")
	switch cmd {
	case "SIZE":
		c.reply("213 %d", len(f.data))
	case "MDTM":
		c.reply("213 %s", stamp)
	case "MLST":
		c.reply("250-it is\r\n type=file;size=%d;modify=%s;unix.mode=0%o; it\r\n250 end", len(f.data), stamp, f.mode&0o7777)
	case "RETR":
		from := min(c.rest, int64(len(f.data)))
		c.rest = 0
		c.send(f.data[from:], "226 done")
	}
}

// list gives the directory that the connection is in.
func (c *fakeConn) list(cmd string) string {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	var b strings.Builder
	for _, p := range slices.Sorted(maps.Keys(c.s.tree)) {
		if f := c.s.tree[p]; path.Dir(p) == c.dir && p != "/" {
			if cmd == "MLSD" {
				fmt.Fprintf(&b, "%s %s\r\n", f.facts(), path.Base(p))
			} else {
				fmt.Fprintf(&b, "%s\r\n", f.ls(path.Base(p), c.s.year))
			}
		}
	}
	return b.String()
}

func (f fakeFile) facts() string {
	kind := map[uint32]string{content.ModeDir: "dir", content.ModeFile: "file", content.ModeLink: "OS.unix=slink:" + f.target}[f.mode&^0o7777]
	return fmt.Sprintf("type=%s;size=%d;modify=%s;unix.mode=0%o;", kind, len(f.data), f.mtime.UTC().Format("20060102150405"), f.mode&0o7777)
}

func (f fakeFile) ls(name string, year int) string {
	perm, size := []byte("-rwxrwxrwx"), len(f.data)
	perm[0] = map[uint32]byte{content.ModeDir: 'd', content.ModeFile: '-', content.ModeLink: 'l'}[f.mode&^0o7777]
	for i := range 9 {
		if f.mode>>(8-i)&1 == 0 {
			perm[i+1] = '-'
		}
	}
	if f.target != "" {
		name, size = name+" -> "+f.target, len(f.target)
	}
	when := f.mtime.Format("Jan _2 15:04")
	if f.mtime.Year() < year {
		when = f.mtime.Format("Jan _2  2006")
	}
	return fmt.Sprintf("%s   1 owner  group %8d %s %s", perm, size, when, name)
}

// open waits for a data connection.
func (c *fakeConn) open() int {
	if c.passive != nil {
		_ = c.passive.Close()
	}
	var err error
	if c.passive, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		c.s.t.Error(err)
	}
	return c.passive.Addr().(*net.TCPAddr).Port
}

// data takes the data connection.
func (c *fakeConn) data() (net.Conn, error) {
	conn, err := c.passive.Accept()
	if err != nil || !c.prot {
		return conn, err
	}
	s := tls.Server(conn, c.s.config())
	if err := s.Handshake(); err != nil {
		_ = conn.Close()
		return nil, err
	}
	c.resumed = s.ConnectionState().DidResume
	return s, nil
}

// send sends data and then says so.
func (c *fakeConn) send(data, last string) {
	c.reply("150 here it comes")
	conn, err := c.data()
	if err != nil {
		c.reply("425 %v", err)
		return
	}
	_, _ = io.WriteString(conn, data)
	_ = conn.Close()
	c.reply("%s", last)
}
