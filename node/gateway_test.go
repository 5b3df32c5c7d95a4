package node

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"swarmnode/gossip"
)

func TestGatewayURL(t *testing.T) {
	long := "https://mirror.example.org/" + strings.Repeat("x", gossip.MaxGateway)
	for in, want := range map[string]string{
		"https://mirror.example.org":           "https://mirror.example.org/",
		"https://Mirror.Example.org/a/b":       "https://mirror.example.org/a/b/",
		"http://192.0.2.7:8080/":               "http://192.0.2.7:8080/",
		"http://[2001:db8::1]:80":              "http://[2001:db8::1]:80/",
		"https://m.example.org/a%20b":          "https://m.example.org/a%20b/",
		"https://m.example.org/a%2Fb":          "https://m.example.org/a%2Fb/",
		"mirror.example.org":                   "",
		"ftp://mirror.example.org/":            "",
		"https://":                             "",
		"https://:443/":                        "",
		"https://me:secret@mirror.example.org": "",
		"https://mirror.example.org/?a":        "",
		"https://mirror.example.org/?":         "",
		"https://mirror.example.org/#":         "",
		"https://mirror.example.org:0/":        "",
		"https://mirror.example.org:/":         "",
		"https://mirror.example.org:66000/":    "",
		"https://mirror.example.org//a":        "",
		"https://mirror.example.org/a/../b":    "",
		"https://mirror.example.org/..":        "",
		"https://mirror example.org/":          "",
		"https://mirror.example.org/\n":        "",
		long:                                   "",
	} {
		got, err := GatewayURL(in)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v; want %q", in, got, err, want)
		}
		if again, err := GatewayURL(got); want != "" && (err != nil || again != got) {
			t.Errorf("%q is not kept: %q, %v", got, again, err)
		}
	}
}

// answer of the HTTP server of a node.
type httpAnswer struct {
	*http.Response
	body []byte
	err  error // while the body was read
}

// ask makes one request on a connection of its own: those of one connection see one release.
func (x *testNode) ask(t *testing.T, method, path string, headers ...string) httpAnswer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, strings.TrimSuffix(x.Gateway(), "/")+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DisableCompression: true}}
	res, err := client.Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	defer res.Body.Close()
	body := bytes.NewBuffer(make([]byte, 0, max(res.ContentLength, 0)+bytes.MinRead)) // in one piece: some read megabytes without a rest
	_, err = body.ReadFrom(res.Body)
	return httpAnswer{res, body.Bytes(), err}
}

// wants fails if a GET does not give these bytes with status 200.
func (x *testNode) wants(t *testing.T, path string, data []byte) {
	t.Helper()
	a := x.ask(t, "GET", path)
	if a.StatusCode != 200 || a.err != nil || !bytes.Equal(a.body, data) {
		t.Errorf("GET %s: %s, %d bytes (%v), want 200, %d bytes", path, a.Status, len(a.body), a.err, len(data))
	}
}

func withGateway(cfg Config) Config {
	if cfg.Gateway == nil {
		cfg.Gateway = &GatewayConfig{}
	}
	cfg.Gateway.Listen = "127.0.0.1:0"
	return cfg
}

// mirrorOf runs a mirror with a gateway that has all of the master's first release.
func mirrorOf(t *testing.T, master *testNode, cfg Config) *testNode {
	t.Helper()
	cfg.Home, cfg.Bootstrap = t.TempDir(), master.Addrs()[:1]
	m := startWith(t, "mirror", withGateway(cfg))
	ids, err := m.Join(t.Context(), master.Addrs()[0], nil)
	if err != nil {
		t.Fatal(err)
	}
	waitFor(t, ids[0], 1, m)
	return m
}

// TestGatewayOfAMirror: every file of the release comes through a mirror's gateway when the master is off, by name and by ID; so does
// what the master itself serves; and what is not there is 404.
func TestGatewayOfAMirror(t *testing.T) {
	t.Parallel()
	tree := t.TempDir()
	writeTree(t, tree, 7)
	master := startWith(t, "master", withGateway(Config{Home: t.TempDir()}))
	if a := master.ask(t, "GET", "/test/empty"); a.StatusCode != 404 {
		t.Errorf("before anything is published: %s", a.Status)
	}
	res := master.publish(t, tree)
	if res.Gateway != master.Gateway() || res.Gateway == "" {
		t.Errorf("publish tells of the gateway at %q, it is at %q", res.Gateway, master.Gateway())
	}
	mirror := mirrorOf(t, master, Config{})
	image, err := os.ReadFile(filepath.Join(tree, "image.iso"))
	if err != nil {
		t.Fatal(err)
	}
	master.wants(t, "/test/image.iso", image)
	master.halt()
	for key, data := range readTree(t, tree) {
		mode, path, _ := strings.Cut(key, " ")
		if mode[0] == '-' {
			escaped := strings.NewReplacer("%", "%25", " ", "%20").Replace(path)
			mirror.wants(t, "/test/"+escaped, data)
			mirror.wants(t, "/"+res.ID.String()+"/"+escaped, data)
		}
	}
	mirror.wants(t, "/test/image.iso", image) // now without a copy: the first time has hashed it
	if a := mirror.ask(t, "GET", "/test/image.iso", "Range", "bytes=1048570-3000000"); a.StatusCode != 206 || !bytes.Equal(a.body, image[1048570:3000001]) {
		t.Errorf("a range: %s, %d bytes", a.Status, len(a.body))
	}
	if a := mirror.ask(t, "HEAD", "/test/image.iso"); a.StatusCode != 200 || a.ContentLength != int64(len(image)) {
		t.Errorf("HEAD: %s, %d bytes", a.Status, a.ContentLength)
	}
	for _, path := range []string{"/test/no/such", "/other/image.iso"} {
		if a := mirror.ask(t, "GET", path); a.StatusCode != 404 {
			t.Errorf("GET %s: %s", path, a.Status)
		}
	}
	if g := mirror.Status().Gateway; g == nil || g.Local != mirror.Gateway() || g.URL != "" || g.Answers < 130 || g.Bytes < 3*uint64(len(image)) || g.Failed != 0 {
		t.Errorf("status says %+v of the gateway", g)
	}
}

// TestGatewaySwitch: while one release follows another every answer is of one release, a package that is gone stays within grace, on the
// mirror over a restart too, and an index that is gone does not.
func TestGatewaySwitch(t *testing.T) {
	t.Parallel()
	tree := t.TempDir()
	write := func(name string, data []byte) { // under the name comes a new file, as publishers are told to do it
		path := filepath.Join(tree, name)
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		if err == nil {
			err = os.WriteFile(path+"~", data, 0o644)
		}
		if err == nil {
			err = os.Rename(path+"~", path)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	const releases = 6
	var bodies [releases + 1][]byte
	var tags [releases + 1]string
	for n := range bodies { // once: the readers ask without a rest
		bodies[n] = bytes.Repeat([]byte(fmt.Sprintf("release %03d\n", n)), 200_000) // three chunks
		sum := sha256.Sum256(bodies[n])
		tags[n] = `"` + hex.EncodeToString(sum[:]) + `"`
	}
	of := func(release int) []byte { return bodies[release] }
	write("index", of(1))
	write("pool/a_1.deb", []byte("package 1"))
	write("old-index", []byte("gone soon"))
	master := startWith(t, "master", withGateway(Config{Home: t.TempDir()}))
	first := master.publish(t, tree)
	mirror := mirrorOf(t, master, Config{})
	nodes := []*testNode{master, mirror}

	var over atomic.Bool
	var readers sync.WaitGroup
	for _, x := range nodes {
		for range 2 {
			readers.Go(func() {
				for last := 1; !over.Load(); {
					a := x.ask(t, "GET", "/test/index")
					var release int
					fmt.Sscanf(string(a.body), "release %d", &release)
					if a.StatusCode != 200 || a.err != nil || release < last || release > releases || !bytes.Equal(a.body, of(release)) || a.Header.Get("ETag") != tags[release] {
						t.Errorf("%s: %s, %d bytes (%v) of release %d after %d, ETag %s: %.200q", x.Gateway(), a.Status, len(a.body), a.err, release, last, a.Header.Get("ETag"), a.body)
						return
					}
					last = release
					time.Sleep(time.Millisecond) // without a rest the readers take both processors from the publisher
				}
			})
		}
	}
	for n := 2; n <= releases; n++ {
		write("index", of(n))
		write(fmt.Sprintf("pool/a_%d.deb", n), []byte(fmt.Sprintf("package %d", n)))
		for _, name := range []string{"old-index", fmt.Sprintf("pool/a_%d.deb", n-1)} {
			if err := os.Remove(filepath.Join(tree, name)); err != nil && name != "old-index" {
				t.Fatal(err)
			}
		}
		if res := master.publish(t, tree); res.Release != uint64(n) {
			t.Fatalf("%+v", res)
		}
		master.wants(t, "/test/index", of(n)) // at once
		waitFor(t, first.ID, uint64(n), mirror)
	}
	over.Store(true)
	readers.Wait()
	look := func(x *testNode) {
		t.Helper()
		x.wants(t, "/test/index", of(releases))
		for n := 1; n <= releases; n++ {
			x.wants(t, fmt.Sprintf("/test/pool/a_%d.deb", n), []byte(fmt.Sprintf("package %d", n)))
		}
		if a := x.ask(t, "GET", "/test/old-index"); a.StatusCode != 404 {
			t.Errorf("an index that is gone: %s", a.Status)
		}
	}
	look(master)
	look(mirror)
	mirror.halt()
	again := startWith(t, "mirror again", withGateway(Config{Home: mirror.home}))
	waitFor(t, first.ID, releases, again)
	look(again)
}

// TestGatewayExpired: when the publisher has been silent for too long nothing is called current, and what has its version in its name
// is still there.
func TestGatewayExpired(t *testing.T) {
	t.Parallel()
	tree := t.TempDir()
	writeTree(t, tree, 8)
	var ahead atomic.Int64
	now := func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	master := startNode(t, "master", t.TempDir())
	master.publish(t, tree)
	mirror := mirrorOf(t, master, Config{Now: now})
	master.halt()
	ahead.Store(int64(2 * 366 * 24 * time.Hour))
	if a := mirror.ask(t, "GET", "/test/empty"); a.StatusCode != 503 || a.Header.Get("Retry-After") == "" {
		t.Errorf("an index of an expired release: %s", a.Status)
	}
	if a := mirror.ask(t, "GET", "/test/image.iso"); a.StatusCode != 200 || len(a.body) != 5<<20 {
		t.Errorf("an image of an expired release: %s, %d bytes", a.Status, len(a.body))
	}
}

// TestGatewayAddress: an address that is taken is an error when it was asked for; the address for others is checked, and in the
// member record that they hear.
func TestGatewayAddress(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	open := func(g GatewayConfig) error {
		n, err := Open(t.Context(), Config{Home: t.TempDir(), Listen: []string{"/ip4/127.0.0.1/tcp/0"}, Web: Web{Gateway: &g}})
		if err == nil {
			n.Close()
		}
		return err
	}
	if err := open(GatewayConfig{Listen: taken.Addr().String()}); err == nil {
		t.Error("a port that is taken is no error")
	}
	if err := open(GatewayConfig{Listen: "127.0.0.1:0", URL: "gopher://example.org"}); err == nil {
		t.Error("an address with which nobody can do anything is no error")
	}
	if err := open(GatewayConfig{Listen: "127.0.0.1:0"}); err != nil {
		t.Errorf("a node that never ran: %v", err)
	}
	tree := t.TempDir()
	writeTree(t, tree, 9)
	master := startNode(t, "master", t.TempDir())
	master.publish(t, tree)
	mirror := mirrorOf(t, master, Config{Web: Web{Gateway: &GatewayConfig{URL: "http://mirror.example.org"}}})
	c := master.all()[0]
	deadline := time.Now().Add(hang)
	for {
		heard := ""
		for _, m := range c.listener.Heard(time.Now(), 0).Members {
			if m.Peer == mirror.ID() {
				heard = m.Gateway
			}
		}
		if heard == "http://mirror.example.org/" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the master has heard of the gateway %q", heard)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
