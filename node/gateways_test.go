package node

import (
	"bytes"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// freePort gives an address on loopback at which nobody listens.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// TestGatewaysOfOthers: a mirror names the gateways of others to its clients once it has checked them, and not those that give
// wrong bytes, are away or at private addresses.
func TestGatewaysOfOthers(t *testing.T) {
	if os.Getenv("SWARMNODE_E2E") != "1" {
		t.Skip("waits 20 s for gateways to find and check each other; with SWARMNODE_E2E=1")
	}
	t.Parallel()
	tree := t.TempDir()
	writeTree(t, tree, 11)
	at := func(url string, allow bool) *GatewayConfig { return &GatewayConfig{URL: url, AllowPrivate: allow} }
	start := func(name, listen string, cfg Config) *testNode {
		cfg.Home = t.TempDir()
		cfg.Gateway.Listen = listen
		return startWith(t, name, cfg)
	}
	masterAt, rightAt, liarAt := freePort(t), freePort(t), freePort(t)
	master := start("master", masterAt, Config{Web: Web{Gateway: at("http://"+masterAt+"/", true)}})
	first := master.publish(t, tree)
	join := func(name, listen, url string, allow bool) *testNode {
		m := start(name, listen, Config{Web: Web{Gateway: at(url, allow)}, Bootstrap: master.Addrs()[:1]})
		if _, err := m.Join(t.Context(), master.Addrs()[0], nil); err != nil {
			t.Fatal(err)
		}
		return m
	}
	right := join("right", rightAt, "http://"+rightAt+"/", true)
	liar := join("liar", "127.0.0.1:0", "http://"+liarAt+"/", true)
	careful := join("careful", "127.0.0.1:0", "", false)
	waitFor(t, first.ID, 1, right, liar, careful)
	lies := tamper(t, liarAt, liar)

	names := func(x *testNode) (list []string) {
		var got []struct {
			URL     string `json:"url"`
			Release uint64 `json:"release"`
		}
		a := x.ask(t, "GET", "/test/?mirrorlist=json")
		if err := json.Unmarshal(a.body, &got); err != nil || a.StatusCode != 200 {
			t.Fatalf("%s: %v: %s", a.Status, err, a.body)
		}
		for _, m := range got {
			list = append(list, m.URL)
		}
		return list
	}
	own, other := "http://"+masterAt+"/test/", "http://"+rightAt+"/test/"
	wait := time.Now().Add(hang)
	for !slices.Equal(names(right), []string{other, own}) || !slices.Equal(names(master), []string{own, other}) {
		if time.Now().After(wait) {
			t.Fatalf("%s names %q, %s names %q", other, names(right), own, names(master))
		}
		time.Sleep(100 * time.Millisecond)
	}
	a := right.ask(t, "HEAD", "/test/image.iso")
	if got := a.Header.Values("Link"); !slices.Contains(got, "<"+own+"image.iso>; rel=duplicate; pri=1") {
		t.Errorf("links: %q", got)
	}
	if a := right.ask(t, "GET", "/test/image.iso.meta4"); !bytes.Contains(a.body, []byte("<url priority=\"2\">"+own+"image.iso</url>")) {
		t.Errorf("metalink: %s", a.body)
	}
	if a := right.ask(t, "GET", "/test/image.iso.torrent"); a.StatusCode != 200 || !bytes.Contains(a.body, []byte(own+"image.iso")) || !bytes.HasPrefix(a.body, []byte("d10:created by")) {
		t.Errorf("torrent: %s, %d bytes", a.Status, len(a.body))
	}
	if err := os.WriteFile(filepath.Join(tree, "new.deb"), []byte("new"), 0o644); err != nil {
		t.Fatal(err)
	}
	master.publish(t, tree)
	waitFor(t, first.ID, 2, right, careful)
	before := lies.Load()
	for wait = time.Now().Add(hang); lies.Load() < before+2 || !slices.Equal(names(right), []string{other, own}); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(wait) {
			t.Fatalf("after the next release: %q; the liar was asked for bytes %d times", names(right), lies.Load()-before)
		}
	}
	if got := names(careful); len(got) != 1 || got[0] != careful.Gateway()+"test/" {
		t.Errorf("one that may not ask private addresses names %q, its own is %s", got, careful.Gateway())
	}
}

// tamper passes requests at an address on to a node's gateway and turns a bit of every file. It gives how often it did.
func tamper(t *testing.T, listen string, x *testNode) *atomic.Int64 {
	t.Helper()
	var lies atomic.Int64
	server := &http.Server{Addr: listen, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a := x.ask(t, r.Method, r.URL.EscapedPath(), "Range", r.Header.Get("Range"))
		if strings.HasPrefix(r.URL.Path, "/test/") && len(a.body) > 0 {
			a.body[0] ^= 1
			lies.Add(1)
		}
		for k, v := range a.Header {
			w.Header()[k] = v
		}
		w.WriteHeader(a.StatusCode)
		w.Write(a.body)
	})}
	l, err := net.Listen("tcp", listen)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() { done <- server.Serve(l) }()
	t.Cleanup(func() { server.Close(); <-done })
	return &lies
}
