package origin

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A server that allows two connections gets two, and the work is done.
func TestFTPFewer(t *testing.T) {
	files := map[string]string{}
	for i := range 40 {
		files[fmt.Sprintf("d%02d/f", i)] = "x"
	}
	for _, c := range []struct {
		at, reply string
		want      any // of a connection where there is no other
	}{
		{"GREETING", "421 There are too many connections from your internet address.", new(*BusyError)},
		{"PASS", "530 Sorry, the maximum number of connections is reached", new(*BusyError)},
		{"PASS", "530 Login authentication failed", new(*RefusedError)}, // pure-ftpd that has no memory left to look at the password
	} {
		s := newFakeFTP(t, files)
		var mu sync.Mutex
		in := map[*fakeConn]bool{}
		s.onCommand(func(f *fakeConn, cmd, _ string) bool {
			mu.Lock()
			defer mu.Unlock()
			if cmd == c.at {
				if len(in) == 2 {
					f.reply("%s", c.reply)
					return true
				}
				in[f] = true
			}
			return false
		})
		f := dialFTP(t, s, "ftp", "/", Options{Connections: 6})
		got, l := ftpListed(t, f, Before{})
		if len(got) != 80 || len(l.Bad) > 0 {
			t.Errorf("%s: %d paths, %v", c.reply, len(got), l.Bad)
		}
		if f.pool.limit != 2 || f.pool.open != 2 {
			t.Errorf("%s: %d connections of %d", c.reply, f.pool.open, f.pool.limit)
		}
		// None at all is another thing.
		f = dialFTP(t, s, "ftp", "/", Options{})
		if _, err := readTop(t, f); !errors.As(err, c.want) {
			t.Errorf("no connection: %v", err)
		}
	}
}

// Commands are sent together, but not to servers that forget what comes too early.
func TestFTPHasty(t *testing.T) {
	for greeting, hasty := range map[string]bool{"220 ready": true, "220 Microsoft FTP Service": false, "220-hello\r\n220 MikroTik FTP server ready": false} {
		s := newFakeFTP(t, map[string]string{"f": "1"})
		s.onCommand(func(c *fakeConn, cmd, _ string) bool {
			if cmd == "GREETING" {
				c.conn = &replacedGreeting{c.conn, greeting}
			}
			return false
		})
		if lines, err := readTop(t, dialFTP(t, s, "ftp", "/", Options{})); err != nil || len(lines) != 1 {
			t.Errorf("%q: %v, %v", greeting, lines, err)
		}
		s.set(func() {
			if hasty != (s.early > 0) {
				t.Errorf("%q: %d commands came early", greeting, s.early)
			}
		})
	}
}

// replacedGreeting is a connection whose first line is another one.
type replacedGreeting struct {
	net.Conn
	line string
}

func (c *replacedGreeting) Write(b []byte) (int, error) {
	if c.line == "" {
		return c.Conn.Write(b)
	}
	_, err := io.WriteString(c.Conn, c.line+"\r\n")
	c.line = ""
	return len(b), err
}

// A server that ended idle connections is dialed again, without an error or a pause.
func TestFTPIdle(t *testing.T) {
	s := newFakeFTP(t, map[string]string{"f": "1"})
	f := dialFTP(t, s, "ftp", "/", Options{})
	for range 3 {
		if _, err := readTop(t, f); err != nil {
			t.Error(err)
		}
		s.hangUp()
	}
	said := false
	s.onCommand(func(c *fakeConn, cmd, _ string) bool {
		if cmd != "CWD" || said {
			return false
		}
		said = true
		c.reply("421 Timeout.")
		_ = c.conn.Close()
		return true
	})
	f = dialFTP(t, s, "ftp", "/", Options{})
	if _, err := readTop(t, f); !errors.As(err, new(*BusyError)) {
		t.Errorf("421 on a new connection: %v", err)
	}
	if _, err := readTop(t, f); err != nil {
		t.Error(err)
	}
	said = false
	if _, err := readTop(t, f); err != nil || !said {
		t.Errorf("421 on a connection that was idle: %v", err)
	}
	f.pool.mu.Lock()
	defer f.pool.mu.Unlock()
	if f.pool.open != len(f.pool.idle) {
		t.Errorf("%d connections, %d are idle", f.pool.open, len(f.pool.idle))
	}
}

func TestFTPRefused(t *testing.T) {
	for _, c := range []struct {
		name, cmd, reply, want string
		busy                   bool
	}{
		{"wrong password", "PASS", "530 Login incorrect.", "/dev/null (or another file for --netrc) as one line: machine 127.0.0.1 login USER password", false},
		{"wants TLS", "USER", "530 Non-anonymous sessions must use encryption.", "ftpes://", false},
		{"wants TLS", "USER", "421 Sorry, cleartext sessions are not accepted on this server.", "ftpes://", false},
		{"too many users", "USER", "530 Sorry, the maximum number of clients for this user is reached", "maximum", true},
		{"too many users", "PASS", "421 Too many connections (8) from this IP", "Too many", true},
		{"not FTP", "GREETING", "HTTP/1.1 400 Bad Request", "as an FTP server does", false},
		{"no passive mode", "EPSV", "502 no", "", false},
		{"endless greeting", "GREETING", strings.Repeat("220-hello\r\n", ftpReplyBytes/10), "more than 65536 bytes", false},
	} {
		s := newFakeFTP(t, map[string]string{"f": "1"})
		s.refuse(c.cmd, "", c.reply)
		f := dialFTP(t, s, "ftp", "/", Options{})
		_, err := readTop(t, f)
		if c.want == "" {
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		if c.busy != errors.As(err, new(*BusyError)) || c.busy == errors.As(err, new(*RefusedError)) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	s := newFakeFTP(t, nil)
	s.onCommand(func(c *fakeConn, cmd, _ string) bool {
		if cmd == "EPSV" || cmd == "PASV" {
			c.reply("500 no")
		}
		return cmd == "EPSV" || cmd == "PASV"
	})
	if _, err := readTop(t, dialFTP(t, s, "ftp", "/", Options{})); !errors.As(err, new(*RefusedError)) {
		t.Errorf("neither EPSV nor PASV: %v", err)
	}
	if _, err := readTop(t, dialFTP(t, s, "ftpes", "/", Options{})); !errors.As(err, new(*RefusedError)) || !strings.Contains(err.Error(), "no TLS") {
		t.Errorf("no TLS: %v", err)
	}
	o, err := Open(t.Context(), s.url("ftp", "/"), Options{Access: Access{Netrc: "/dev/null"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := o.List(t.Context(), Before{}, nil); !errors.As(err, new(*RefusedError)) || !strings.Contains(err.Error(), "--allow-private") {
		t.Errorf("a private address: %v", err)
	}
	for _, bad := range []string{"ftp://h/a?b", "ftp://h/a#b", "ftp://h/a%0d%0aDELE%20x", "ftp://u%0a:p@h/", "ftp://u:p%0d@h/", "ftp://h/%ff"} {
		if _, err := Open(t.Context(), bad, Options{}); !errors.As(err, new(*RefusedError)) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

// Who logs in, and hidden names.
func TestFTPLogin(t *testing.T) {
	s := newFakeFTP(t, map[string]string{"f": "1"})
	s.without("MLST", "MLSD")
	host, _, _ := net.SplitHostPort(s.listen.Addr().String())
	netrc := filepath.Join(t.TempDir(), "netrc")
	if err := os.WriteFile(netrc, []byte("machine "+host+" login me password secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ who, netrc, want string }{
		{"", "", "USER anonymous PASS https://example.org/contact LIST"},
		{"you:too@", "", "USER you PASS too LIST"},
		{"", netrc, "USER me PASS secret LIST"},
		{"me@", netrc, "USER me PASS secret LIST"},
	} {
		if c.netrc == "" {
			c.netrc = "/dev/null"
		}
		o, err := Open(t.Context(), strings.Replace(s.url("ftp", "/"), "//", "//"+c.who, 1), Options{AllowPrivate: true, UserAgent: "swarmnode/1 (+https://example.org/contact)", Access: Access{Netrc: c.netrc}})
		if err != nil {
			t.Fatal(err)
		}
		_, _ = ftpListed(t, o, Before{})
		s.mu.Lock()
		said := slices.DeleteFunc(s.said, func(line string) bool { return line == "QUIT" })
		got := strings.Join([]string{said[0], said[1], said[len(said)-1]}, " ")
		s.said = nil
		s.mu.Unlock()
		if got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
		_ = o.Close()
	}
	o, err := Open(t.Context(), s.url("ftp", "/")+"?hidden=yes", Options{AllowPrivate: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := readTop(t, o.(*ftp)); err != nil || s.commands()["LIST"] != 1 || !slices.Contains(s.lines(), "LIST -a") {
		t.Errorf("%q, %v", s.lines(), err)
	}
	// A server that could tell modes is asked to.
	s.set(func() { s.feats = []string{"MLST type*;size*;modify*;unix.mode;"} })
	if _, err := readTop(t, dialFTP(t, s, "ftp", "/", Options{})); err != nil || !slices.Contains(s.lines(), "OPTS MLST type;size;modify;unix.mode;") {
		t.Errorf("%q, %v", s.lines(), err)
	}
}

// Silence ends, whether before the data or in it, and so does an end of the context.
func TestFTPSilence(t *testing.T) {
	for _, silent := range []string{"GREETING", "CWD", "MLSD", "data"} {
		for _, cancel := range []bool{false, true} {
			s := newFakeFTP(t, map[string]string{"f": "1"})
			ctx, stop := context.WithCancel(t.Context())
			timeout := 20 * time.Millisecond
			if cancel {
				timeout = time.Hour
			}
			s.onCommand(func(c *fakeConn, cmd, _ string) bool {
				if cmd != silent && (cmd != "MLSD" || silent != "data") {
					return false
				}
				if silent == "data" {
					c.reply("150 now")
					conn, err := c.data()
					if err != nil {
						return true
					}
					defer conn.Close()
					_, _ = io.WriteString(conn, "type=file;")
				}
				if cancel {
					stop()
				}
				_, _ = io.Copy(io.Discard, c.conn) // until the other end has had enough
				return true
			})
			f := dialFTP(t, s, "ftp", "/", Options{Timeout: timeout})
			err := f.with(ctx, func(c *ftpConn) error {
				_, err := c.readDir(ctx, "")
				return err
			})
			late := net.Error(nil)
			if cancel && !errors.Is(err, context.Canceled) || !cancel && (!errors.As(err, &late) || !late.Timeout()) {
				t.Errorf("silent at %s, cancel %v: %v", silent, cancel, err)
			}
			if f.pool.open != 0 {
				t.Errorf("silent at %s: %d connections are still there", silent, f.pool.open)
			}
			stop()
		}
	}
}

// A listing without an end ends.
func TestFTPEndless(t *testing.T) {
	s := newFakeFTP(t, nil)
	page := strings.Repeat("type=file;size=1;modify=20261120102030; "+strings.Repeat("x", 200)+"\r\n", 1000)
	s.onCommand(func(c *fakeConn, cmd, _ string) bool {
		if cmd != "MLSD" {
			return false
		}
		c.reply("150 now")
		conn, err := c.data()
		for err == nil {
			_, err = io.WriteString(conn, page)
		}
		return true
	})
	if _, err := readTop(t, dialFTP(t, s, "ftp", "/", Options{})); !errors.As(err, new(*RefusedError)) || !strings.Contains(err.Error(), "--exclude") {
		t.Error(err)
	}
}

// A Body that is left lets its connection go, and Close of the origin the others.
func TestFTPClose(t *testing.T) {
	s := newFakeFTP(t, map[string]string{"f": strings.Repeat("0123456789", 1<<18)})
	f := dialFTP(t, s, "ftp", "/", Options{Connections: 1})
	for range 3 {
		b, err := f.Open(t.Context(), Entry{Path: "f", Size: SizeUnknown}, 0, "")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(b, make([]byte, 100)); err != nil {
			t.Error(err)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		if _, err := b.Read(make([]byte, 1)); err == nil || err == io.EOF {
			t.Errorf("read after Close: %v", err)
		}
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if _, err := readTop(t, f); err == nil || f.pool.open != 0 {
		t.Errorf("after Close: %v, %d connections", err, f.pool.open)
	}
}

// What was written in this second is read when it is over.
func TestFTPSettle(t *testing.T) {
	for age, want := range map[time.Duration]time.Duration{0: ftpSettle, time.Second: ftpSettle - time.Second, 3 * time.Second: 0, -time.Hour: 0} {
		synctest.Test(t, func(t *testing.T) {
			f := &ftp{now: time.Now}
			began := time.Now()
			if err := f.settle(t.Context(), began.Add(-age).UnixNano()); err != nil || time.Since(began) != want {
				t.Errorf("%v old: waited %v, want %v (%v)", age, time.Since(began), want, err)
			}
		})
	}
}

// ftpCertificate makes what a server shows for an address, "" none, and the file that it can be believed by.
func ftpCertificate(t *testing.T, ip string, until time.Time) (*tls.Config, string) {
	t.Helper()
	cert := certificate(t, func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter, c.IPAddresses, c.DNSNames = time.Unix(0, 0), until, nil, nil
		if ip != "" {
			c.IPAddresses = []net.IP{net.ParseIP(ip)}
		}
	})
	file := filepath.Join(t.TempDir(), "cert.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]}), 0o600); err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{cert}}, file
}

func TestFTPTLS(t *testing.T) {
	good, ca := ftpCertificate(t, "127.0.0.1", time.Now().AddDate(1, 0, 0))
	_, otherCA := ftpCertificate(t, "127.0.0.1", time.Now().AddDate(1, 0, 0))
	old, oldCA := ftpCertificate(t, "127.0.0.1", time.Now().AddDate(0, 0, -1))
	nobody, nobodyCA := ftpCertificate(t, "", time.Now().AddDate(1, 0, 0))
	wrong, wrongCA := ftpCertificate(t, "127.0.0.2", time.Now().AddDate(1, 0, 0))
	for _, c := range []struct {
		name, scheme string
		server       *tls.Config
		ca, want     string
	}{
		{"AUTH TLS", "ftpes", good, ca, ""},
		{"from the first byte", "ftps", good, ca, ""},
		{"of an unknown authority", "ftpes", good, "", "--ca-cert FILE"},
		{"of another authority", "ftpes", good, otherCA, otherCA + ", which --ca-cert names"},
		{"expired", "ftpes", old, oldCA, "certificate"},
		{"for another name", "ftps", wrong, wrongCA, "(127.0.0.2)"},
		{"for no name", "ftps", nobody, nobodyCA, "subjectAltName"},
		{"there is none", "ftps", nil, ca, "ftpes://"},
	} {
		s := newFakeFTP(t, map[string]string{"f": "secret", "d/empty": ""})
		s.set(func() { s.tls = c.server })
		s.onCommand(func(f *fakeConn, cmd, _ string) bool {
			if cmd == "GREETING" && c.scheme == "ftps" && c.server != nil {
				f.conn = tls.Server(f.conn, c.server)
			}
			if cmd == "PWD" || cmd == "CWD" {
				if !f.prot {
					t.Errorf("%s: %s before PROT P", c.name, cmd)
				}
			}
			if cmd == "RETR" && !f.resumed { // readTop had one before
				t.Errorf("%s: a data connection that does not resume the session", c.name)
			}
			return false
		})
		f := dialFTP(t, s, c.scheme, "/", Options{Access: Access{CACert: c.ca, Netrc: "/dev/null"}})
		lines, err := readTop(t, f)
		if c.want != "" {
			if !errors.As(err, new(*RefusedError)) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		if err != nil || len(lines) != 2 {
			t.Errorf("%s: %v, %v", c.name, lines, err)
		}
		for p, want := range map[string]string{"f": "secret", "d/empty": ""} {
			b, err := f.Open(t.Context(), Entry{Path: p, Size: SizeUnknown}, 0, "")
			if err != nil {
				t.Fatal(err)
			}
			if got, err := b.all(t); got != want || err != nil {
				t.Errorf("%s: %q, %v", c.name, got, err)
			}
		}
	}
}
