package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"swarmnode/content"
)

// lockedBuffer is a buffer that nodes may log to while it is read.
type lockedBuffer struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestSizes(t *testing.T) {
	cases := []struct {
		in   string
		want int64 // 0: refused
	}{
		{"500GB", 500e9}, {"1.5TiB", 3 << 39}, {"20 G", 20e9}, {"4096", 4096}, {"1k", 1000}, {"64MiB", 64 << 20},
		{"0", 0}, {"", 0}, {"-5GB", 0}, {"much", 0}, {"20%", 0}, {"999999999999999999999 GB", 0},
	}
	for _, c := range cases {
		var got sizeFlag
		err := got.Set(c.in)
		if int64(got) != c.want || (err == nil) != (c.want != 0) {
			t.Errorf("%q: got %d, %v, want %d", c.in, got, err, c.want)
		}
	}
}

func TestTargets(t *testing.T) {
	id := content.NewID([]byte("root"))
	cases := []struct{ in, path, wrong string }{
		{id.String(), "", ""},
		{id.String() + "/", "", ""},
		{id.String() + "/pool/a b.deb", "pool/a b.deb", ""},
		{id.String() + "/pool/", "pool", ""},
		{id.String() + "/../x", "", ".."},
		{"archive", "", `"archive" is not the ID`},
		{"", "", "is not the ID"},
		{id.String()[:40], "", "is not the ID"},
	}
	for _, c := range cases {
		got, err := parseTarget(c.in)
		switch {
		case c.wrong == "" && (err != nil || got != target{id, c.path}):
			t.Errorf("%q: got %v, %v, want path %q", c.in, got, err, c.path)
		case c.wrong != "" && (err == nil || !strings.Contains(err.Error(), c.wrong)):
			t.Errorf("%q: got %v, want an error with %q", c.in, err, c.wrong)
		}
	}
}

func TestBestAddr(t *testing.T) {
	const id = "/p2p/12D3KooWA"
	cases := []struct {
		in   []string
		want string
	}{
		{nil, ""},
		{[]string{"/ip4/127.0.0.1/tcp/1" + id, "/ip4/192.0.2.1/udp/1/quic-v1" + id}, "/ip4/192.0.2.1/udp/1/quic-v1" + id},
		{[]string{"/ip6/2001:db8::1/tcp/1" + id, "/ip4/192.0.2.1/udp/1/quic-v1" + id, "/ip4/192.0.2.1/tcp/1" + id}, "/ip4/192.0.2.1/tcp/1" + id},
		{[]string{"/ip4/127.0.0.1/udp/1/quic-v1" + id, "/ip4/127.0.0.1/tcp/1" + id}, "/ip4/127.0.0.1/tcp/1" + id},
		{[]string{"/ip4/192.0.2.1/tcp/1" + id + "/p2p-circuit" + id, "/ip6/2001:db8::1/tcp/1" + id}, "/ip6/2001:db8::1/tcp/1" + id},
	}
	for _, c := range cases {
		if got := bestAddr(c.in); got != c.want {
			t.Errorf("%q: got %q, want %q", c.in, got, c.want)
		}
	}
}

func TestHome(t *testing.T) {
	cases := []struct {
		env  map[string]string
		want string
	}{
		{map[string]string{"SWARMNODE_HOME": "/h", "STATE_DIRECTORY": "/s"}, "/h"},
		{map[string]string{"STATE_DIRECTORY": "/s:/t", "XDG_STATE_HOME": "/x"}, "/s"},
		{map[string]string{"XDG_STATE_HOME": "/x"}, "/x/swarmnode"},
	}
	for _, c := range cases {
		var errs lockedBuffer
		a := &app{stdout: &errs, console: newConsole(&errs), env: func(k string) (string, bool) { v, ok := c.env[k]; return v, ok }}
		c.env["SWARMNODE_CONFIG"] = noFile
		root := a.rootCommand()
		root.SetArgs([]string{"sim", "list"})
		if err := root.Execute(); err != nil {
			t.Fatal(err)
		}
		if a.home != c.want {
			t.Errorf("%v: got %s, want %s", c.env, a.home, c.want)
		}
	}
}

func TestOfService(t *testing.T) {
	cases := []struct {
		uid  int
		home string
		want bool
	}{
		{0, "/root", true}, {0, "", true}, {997, "/var/lib/swarmnode", true}, {1000, "/home/anna", false}, {1000, "", false},
	}
	for _, c := range cases {
		if got := ofService(c.uid, c.home); got != c.want {
			t.Errorf("user %d at home in %q: got %v, want %v", c.uid, c.home, got, c.want)
		}
	}
}

func TestWithin(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink(dir, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		dir, path string
		want      bool
	}{
		{dir, dir, true}, {dir, dir + "/new/home", true}, {dir, dir + "/link/new", true},
		{dir, filepath.Dir(dir), false}, {dir + "/a", dir + "/ab", false}, {dir + "/a", dir + "/..x", false},
	}
	for _, c := range cases {
		if got := within(c.dir, c.path); got != c.want {
			t.Errorf("%s in %s: got %v, want %v", c.path, c.dir, got, c.want)
		}
	}
}

func TestNearest(t *testing.T) {
	words := []string{"publish", "join", "get", "bootstrap"}
	for in, want := range map[string]string{"pubish": "publish", "boot": "bootstrap", "bootsrap": "bootstrap", "gte": "get", "jion": "join", "xyz": ""} {
		if got := nearest(in, words); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

// An interrupted command says how to go on and fails; nothing is left running.
func TestInterrupted(t *testing.T) {
	t.Setenv("SWARMNODE_CONFIG", noFile)
	ctx, stop := context.WithCancelCause(t.Context())
	stop(errInterrupted)
	var out, errs lockedBuffer
	addr := "/ip4/127.0.0.1/tcp/1/p2p/12D3KooWGRUvh4yk3bRYMMPNBo8bVSWkqqMyMTqNjAM6Qi7MvMHf"
	code := run(ctx, []string{"get", content.NewID(nil).String(), "--bootstrap", addr, "--home", t.TempDir()}, os.Stdin, &out, &errs)
	if want := "interrupted; run the same command again to continue"; code != exitFailed || !strings.Contains(errs.String(), want) {
		t.Errorf("got %d, %q, want %d, %q", code, errs.String(), exitFailed, want)
	}
}

func TestProgressLines(t *testing.T) {
	var errs lockedBuffer
	a := &app{console: newConsole(&errs)}
	p := a.newProgress(false)
	p.update(at{what: "fetching", done: 1 << 20, total: 4 << 20})
	if got := errs.String(); got != "" {
		t.Errorf("got %q at once, want nothing before %s", got, lineEvery)
	}
	p.printed = p.printed.Add(-lineEvery - time.Second)
	p.update(at{what: "fetching", done: 2 << 20, total: 4 << 20, more: "from 3 nodes"})
	a.console.Flush(time.Minute)
	if got, want := errs.String(), "fetching: 2.0 MiB of 4.0 MiB, from 3 nodes\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	quiet := a.newProgress(true)
	quiet.printed = quiet.printed.Add(-lineEvery - time.Second)
	quiet.update(at{what: "nothing of this"})
	a.console.Flush(time.Minute)
	if strings.Contains(errs.String(), "nothing of this") {
		t.Error("a quiet progress was shown")
	}
	p.end()
}
