package gateway

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// client runs a program that a user of a gateway would run, from Debian's packages.
func client(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// heavy is three gateways of a release with one file of some MiB, and its bytes.
func heavy(t *testing.T) (urls []string, data []byte) {
	t.Helper()
	if os.Getenv("SWARMNODE_E2E") != "1" {
		t.Skip("needs aria2, transmission-cli, mktorrent and curl, and SWARMNODE_E2E=1")
	}
	f, src := newFake(t)
	data = make([]byte, 5<<20+12345)
	rand.NewChaCha8([32]byte{1}).Read(data)
	f.publish(t, src, 1, file{Path: "d/"}, file{Path: "d/some image+é.iso", Data: string(data)})
	var others []Mirror
	for i := range 3 {
		g := New(Config{Catalogue: f})
		server := httptest.NewUnstartedServer(g)
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.%d:0", i+1)) // aria2 takes all ports of an address for one server
		if err != nil {
			t.Fatal(err)
		}
		server.Listener.Close()
		server.Listener = l
		server.Start()
		t.Cleanup(func() { server.Close(); g.Close() })
		urls = append(urls, server.URL+"/")
		if i > 0 {
			others = append(others, Mirror{URL: server.URL + "/", Release: 1})
		}
	}
	f.c.Mirrors = func() []Mirror { return others }
	return urls, data
}

// TestTorrentOfMktorrent: the torrent has the same info dictionary, and so the same info hash, as mktorrent makes.
func TestTorrentOfMktorrent(t *testing.T) {
	urls, data := heavy(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "some image+é.iso")
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	client(t, "mktorrent", "-l", "18", "-o", filepath.Join(dir, "their.torrent"), path)
	client(t, "curl", "-sSf", "-o", filepath.Join(dir, "our.torrent"), urls[0]+"test/d/some%20image+%C3%A9.iso.torrent")
	info := func(name string) []byte {
		raw, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		v, _ := bdecode(t, string(raw))
		return bencode(nil, v.(map[string]any)["info"])
	}
	if ours, theirs := info("our.torrent"), info("their.torrent"); !bytes.Equal(ours, theirs) {
		t.Errorf("the info dictionaries differ: %d and %d bytes\n%.120q\n%.120q", len(ours), len(theirs), ours, theirs)
	}
	shown := client(t, "transmission-show", filepath.Join(dir, "our.torrent"))
	for _, want := range append(urls, "Name: some image+é.iso", "Piece Size: 256.0 KiB", "Piece Count: 21") {
		if !strings.Contains(shown, want) {
			t.Errorf("transmission-show does not say %q:\n%s", want, shown)
		}
	}
}

// TestAria2: aria2 takes the file by its torrent from the web seeds alone, by the metalink, and by nothing but the URL, whose Link
// headers make it ask all three gateways.
func TestAria2(t *testing.T) {
	urls, data := heavy(t)
	file := urls[0] + "test/d/some%20image+%C3%A9.iso"
	for _, target := range []string{file + ".torrent", file + ".meta4", file + "?meta4", file + ".metalink", file} {
		dir := t.TempDir()
		out := client(t, "aria2c", "--no-conf", "-d", dir, "--seed-time=0", "--enable-dht=false", "--enable-dht6=false", "--bt-enable-lpd=false",
			"--listen-port=20000-60000", "-k", "1M", "-x", "1", "--max-overall-download-limit=2M", "--console-log-level=notice", "--log", filepath.Join(dir, "log"), "--log-level=info", target)
		got, err := os.ReadFile(filepath.Join(dir, "some image+é.iso"))
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: %d bytes, %v, want %d\n%s", target, len(got), err, len(data), out)
		}
		log, err := os.ReadFile(filepath.Join(dir, "log"))
		if err != nil {
			t.Fatal(err)
		}
		for _, u := range urls {
			if host := strings.Trim(strings.TrimPrefix(u, "http://"), "/"); !strings.Contains(string(log), fmt.Sprintf("Host: %s", host)) {
				t.Errorf("%s: %s was not asked", target, u)
			}
		}
	}
}

// TestMirrorlistClients: zypper and dnf take a repository from the list of mirrors, each asking in its own way, and dnf from a metalink.
func TestMirrorlistClients(t *testing.T) {
	if os.Getenv("SWARMNODE_E2E") != "1" {
		t.Skip("needs zypper, dnf and createrepo-c, and SWARMNODE_E2E=1")
	}
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "repo"), 0o755); err != nil {
		t.Fatal(err)
	}
	client(t, "createrepo_c", "-q", filepath.Join(dir, "repo"))
	f, src := newFake(t)
	files := []file{{Path: "repo/"}, {Path: "repo/repodata/"}}
	names, err := filepath.Glob(filepath.Join(dir, "repo/repodata/*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file{Path: "repo/repodata/" + filepath.Base(name), Data: string(data)})
	}
	f.publish(t, src, 1, files...)
	g := New(Config{Catalogue: f})
	defer g.Close()
	var mu sync.Mutex // guards asked
	var asked strings.Builder
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		fmt.Fprintf(&asked, "%s %s\n", r.Method, r.URL)
		mu.Unlock()
		g.ServeHTTP(w, r)
	}))
	defer server.Close()
	repos := filepath.Join(dir, "root/etc/zypp/repos.d")
	if err := os.MkdirAll(repos, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ program, source string }{
		{"zypper", "mirrorlist=" + server.URL + "/-/test/mirrorlist/repo"},
		{"dnf", "mirrorlist=" + server.URL + "/test/repo/?mirrorlist"},
		{"dnf", "metalink=" + server.URL + "/test/repo/repodata/repomd.xml?metalink"},
	} {
		mu.Lock()
		asked.Reset()
		mu.Unlock()
		conf := "[t]\nname=t\nenabled=1\ngpgcheck=0\n" + c.source + "\n"
		if err := os.WriteFile(filepath.Join(repos, "t.repo"), []byte(conf), 0o644); err != nil {
			t.Fatal(err)
		}
		args := []string{"--non-interactive", "--root", filepath.Join(dir, "root"), "refresh", "--force"}
		if c.program == "dnf" {
			args = []string{"--setopt=reposdir=" + repos, "--setopt=cachedir=" + t.TempDir(), "--installroot", filepath.Join(dir, "root"), "--releasever=1", "makecache"}
		}
		out := client(t, c.program, args...)
		mu.Lock()
		got := asked.String()
		mu.Unlock()
		if !strings.Contains(got, "GET /test/repo/repodata/repomd.xml\n") || !strings.Contains(got, "-primary.xml") {
			t.Errorf("%s, %s: it asked\n%sand said\n%s", c.program, c.source, got, out)
		}
	}
}
