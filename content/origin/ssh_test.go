package origin

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/pkg/sftp"
	"github.com/skeema/knownhosts"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// sshd is a server in this process.
type sshd struct {
	addr   string
	host   ssh.Signer
	config *ssh.ServerConfig
	key    string                                                   // file with the key that opens it
	known  string                                                   // file with its own
	serve  func(t *testing.T, kind, command string, ch ssh.Channel) // a session
	cut    atomic.Int64                                             // bytes after which the next connections end, if > 0
	most   atomic.Int64                                             // sessions of a connection, if > 0
	logins atomic.Int64
	wg     sync.WaitGroup
}

func newKey(t *testing.T) (ssh.Signer, ed25519.PrivateKey) {
	t.Helper()
	_, secret, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ssh.NewSignerFromKey(secret)
	if err != nil {
		t.Fatal(err)
	}
	return s, secret
}

func writeFile(t *testing.T, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// startSSH starts a server that one key opens. Nothing of the tester's own home and agent is used.
func startSSH(t *testing.T, serve func(t *testing.T, kind, command string, ch ssh.Channel)) *sshd {
	t.Helper()
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("SSH_AUTH_SOCK", "")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &sshd{addr: l.Addr().String(), key: filepath.Join(home, "key"), known: filepath.Join(home, "known"), serve: serve}
	s.host, _ = newKey(t)
	mine, secret := newKey(t)
	block, err := ssh.MarshalPrivateKey(secret, "")
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, s.key, pem.EncodeToMemory(block))
	writeFile(t, s.known, []byte(knownhosts.Line([]string{s.addr}, s.host.PublicKey())+"\n"))
	s.config = &ssh.ServerConfig{PublicKeyCallback: func(_ ssh.ConnMetadata, k ssh.PublicKey) (*ssh.Permissions, error) {
		if string(k.Marshal()) != string(mine.PublicKey().Marshal()) {
			return nil, errors.New("not this one")
		}
		return nil, nil
	}}
	s.config.AddHostKey(s.host)
	var open sync.Map
	s.wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			open.Store(conn, nil)
			s.wg.Go(func() { s.connection(t, conn) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		open.Range(func(c, _ any) bool { c.(net.Conn).Close(); return true })
		s.wg.Wait()
	})
	return s
}

// cutConn ends after some bytes to the client.
type cutConn struct {
	net.Conn
	left atomic.Int64
}

func (c *cutConn) Write(p []byte) (int, error) {
	if c.left.Add(-int64(len(p))) < 0 {
		c.Close()
		return 0, net.ErrClosed
	}
	return c.Conn.Write(p)
}

func (s *sshd) connection(t *testing.T, raw net.Conn) {
	defer raw.Close()
	if n := s.cut.Load(); n > 0 {
		c := &cutConn{Conn: raw}
		c.left.Store(n)
		raw = c
	}
	conn, channels, requests, err := ssh.NewServerConn(raw, s.config)
	if err != nil {
		return
	}
	s.logins.Add(1)
	s.wg.Go(func() { ssh.DiscardRequests(requests) })
	defer conn.Close()
	sessions := int64(0)
	for c := range channels {
		if sessions++; s.most.Load() > 0 && sessions > s.most.Load() {
			_ = c.Reject(ssh.ResourceShortage, "no more sessions")
			continue
		}
		ch, requests, err := c.Accept()
		if err != nil {
			return
		}
		s.wg.Go(func() {
			for r := range requests {
				var command struct{ Text string }
				if r.Type != "subsystem" && r.Type != "exec" || ssh.Unmarshal(r.Payload, &command) != nil {
					_ = r.Reply(false, nil)
					continue
				}
				_ = r.Reply(true, nil)
				s.wg.Go(func() {
					defer ch.Close()
					s.serve(t, r.Type, command.Text, ch)
				})
			}
		})
	}
}

// options are those with which the server can be entered.
func (s *sshd) options() Options {
	o, _ := Options{AllowPrivate: true, Access: Access{KnownHosts: s.known, SSHKey: s.key}}.withDefaults()
	return o
}

func mustURL(t *testing.T, raw string) *url.URL {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// sftpServe is pkg/sftp's server, on this machine's files.
func sftpServe(_ *testing.T, _, _ string, ch ssh.Channel) {
	server, err := sftp.NewServer(ch, sftp.ReadOnly())
	if err == nil {
		_ = server.Serve()
	}
}

// entriesOf gives what an origin lists, by path.
func entriesOf(t *testing.T, origin Origin, before Before) (map[string]Entry, Listing, error) {
	t.Helper()
	got := map[string]Entry{}
	l, err := origin.List(t.Context(), before, func(e Entry) error { got[e.Path] = e; return nil })
	return got, l, err
}

func TestSSHDoor(t *testing.T) {
	s := startSSH(t, sftpServe)
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "x"), []byte("x"))
	other, _ := newKey(t)
	empty := filepath.Join(t.TempDir(), "none")
	changed, stranger := filepath.Join(t.TempDir(), "changed"), filepath.Join(t.TempDir(), "stranger")
	writeFile(t, changed, []byte(knownhosts.Line([]string{s.addr}, other.PublicKey())+"\n"))
	_, secret := newKey(t)
	block, _ := ssh.MarshalPrivateKey(secret, "")
	writeFile(t, stranger, pem.EncodeToMemory(block))
	sealed, _ := ssh.MarshalPrivateKeyWithPassphrase(secret, "", []byte("secret"))
	locked := filepath.Join(t.TempDir(), "locked")
	writeFile(t, locked, pem.EncodeToMemory(sealed))
	for _, c := range []struct {
		name   string
		change func(*Options)
		url    string
		want   []string // in the error
	}{
		{"good", func(*Options) {}, "", nil},
		{"unknown host", func(o *Options) { o.KnownHosts = empty }, "", []string{"is not known", ssh.FingerprintSHA256(s.host.PublicKey()), empty + ":\n" + knownhosts.Line([]string{s.addr}, s.host.PublicKey())}},
		{"changed host", func(o *Options) { o.KnownHosts = changed }, "", []string{"ANOTHER KEY", ssh.FingerprintSHA256(s.host.PublicKey()), ssh.FingerprintSHA256(other.PublicKey()), "line 1 of " + changed}},
		{"no key", func(o *Options) { o.SSHKey = "" }, "", []string{`let "me" in with no key at all`, "authorized_keys", "~/.ssh/config is not read"}},
		{"a key it does not know", func(o *Options) { o.SSHKey = stranger }, "", []string{"does not let", stranger}},
		{"no such key", func(o *Options) { o.SSHKey = empty }, "", []string{"no such file"}},
		{"a key with a passphrase", func(o *Options) { o.SSHKey = locked }, "", []string{"ssh-add"}},
		{"private", func(o *Options) { o.AllowPrivate = false }, "", []string{"--allow-private"}},
		{"password", func(*Options) {}, "sftp://me:secret@" + s.addr + dir, []string{"--ssh-key"}},
		{"no host", func(*Options) {}, "sftp:///srv", []string{"names no host"}},
	} {
		o := s.options()
		o.Timeout = DefaultTimeout
		c.change(&o)
		if c.url == "" {
			c.url = "sftp://me@" + s.addr + dir
		}
		origin, err := openSFTP(t.Context(), mustURL(t, c.url), o)
		if err == nil {
			_, _, err = entriesOf(t, origin, Before{})
			origin.Close()
		}
		if c.want == nil && err != nil || c.want != nil && !errors.As(err, new(*RefusedError)) {
			t.Errorf("%s: %v", c.name, err)
		}
		for _, want := range c.want {
			if err != nil && (!strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret")) {
				t.Errorf("%s: %v, want %q in it", c.name, err, want)
			}
		}
	}
}

// A key with a passphrase is used if the agent holds it, and so is any other key of the agent.
func TestSSHAgent(t *testing.T) {
	s := startSSH(t, sftpServe)
	data, _ := os.ReadFile(s.key)
	secret, err := ssh.ParseRawPrivateKey(data)
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(t.TempDir(), "agent")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	ring := agent.NewKeyring()
	if err := ring.Add(agent.AddedKey{PrivateKey: secret}); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer l.Close()
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { defer c.Close(); _ = agent.ServeAgent(ring, c) })
		}
	})
	t.Setenv("SSH_AUTH_SOCK", socket)
	sealed, err := ssh.MarshalPrivateKeyWithPassphrase(*secret.(*ed25519.PrivateKey), "", []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, s.key, pem.EncodeToMemory(sealed))
	for _, key := range []string{s.key, ""} {
		o := s.options()
		o.SSHKey = key
		origin, err := openSFTP(t.Context(), mustURL(t, "sftp://me@"+s.addr+t.TempDir()), o)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := entriesOf(t, origin, Before{}); err != nil {
			t.Errorf("with %q: %v", key, err)
		}
		origin.Close()
	}
}

func TestSSHPath(t *testing.T) {
	for raw, want := range map[string]string{"sftp://h": "/", "sftp://h/": "/", "sftp://h/a/b/": "/a/b", "sftp://h//a": "/a", "sftp://h/~/": ".", "sftp://h/~": ".", "sftp://h/~/a%20b/": "a b", "sftp://h/~x/y": "/~x/y"} {
		if got := sshPath(mustURL(t, raw)); got != want {
			t.Errorf("%s: %q, want %q", raw, got, want)
		}
	}
}
