package gateway

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"swarmnode/content"
	"swarmnode/gossip/trust"
)

// signedCollection is a fake collection whose releases are signed.
type signedCollection struct {
	t      *testing.T
	f      *fakeCatalogue
	src    *fakeSource
	signer *trust.Signer
	server *httptest.Server
}

func newSigned(t *testing.T) *signedCollection {
	t.Helper()
	dir := t.TempDir()
	keys, _, err := trust.Init(filepath.Join(dir, "keys"), time.Now(), trust.Lifetimes{})
	if err != nil {
		t.Fatal(err)
	}
	s := &signedCollection{t: t}
	if s.signer, err = trust.OpenSigner(keys, filepath.Join(dir, "signer"), trust.Lifetimes{}); err != nil {
		t.Fatal(err)
	}
	s.f, s.src = newFake(t)
	s.f.c.Metadata = s.signer.File
	s.server = httptest.NewServer(New(Config{Catalogue: s.f}))
	t.Cleanup(s.server.Close)
	return s
}

// sign signs a release with its checksums and some of its files.
func (s *signedCollection) sign(r *Release, paths ...string) {
	s.t.Helper()
	sums, err := r.Manifest.Sums(r.Blocks)
	if err != nil {
		s.t.Fatal(err)
	}
	raw := r.Manifest.Encode()
	signed := trust.Release{Name: "test", Number: r.Manifest.Release, Manifest: content.Sum(raw), Size: int64(len(raw)),
		Targets: []trust.SignedFile{{Path: trust.SumsTarget, Size: int64(len(sums)), SHA256: content.Sum(sums)}}}
	for _, p := range paths {
		e, err := content.Lookup(r.Manifest.Tree, r.Blocks, p)
		if err != nil {
			s.t.Fatal(err)
		}
		signed.Targets = append(signed.Targets, trust.SignedFile{Path: trust.TreeTarget + p, Size: int64(e.Size), SHA256: e.SHA256})
	}
	if _, err := s.signer.Sign(time.Now(), signed); err != nil {
		s.t.Fatal(err)
	}
}

// get asks for a path below /-/test/.
func (s *signedCollection) get(path string, headers ...string) (*http.Response, string) {
	s.t.Helper()
	method := http.MethodGet
	if rest, ok := strings.CutPrefix(path, "HEAD "); ok {
		method, path = http.MethodHead, rest
	}
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.server.URL+"/-/test/"+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp, string(body)
}

// client is a stock TUF client that has verified the newest metadata through the gateway.
func (s *signedCollection) client() *trust.Client {
	s.t.Helper()
	source := func(_ context.Context, name string, _ int64) ([]byte, error) {
		resp, body := s.get("metadata/" + name)
		if resp.StatusCode == http.StatusNotFound {
			return nil, fs.ErrNotExist
		}
		if resp.StatusCode != http.StatusOK {
			return nil, fmt.Errorf("%s: %s", name, resp.Status)
		}
		return []byte(body), nil
	}
	dir := filepath.Join(s.t.TempDir(), "client")
	root, err := source(s.t.Context(), "1.root.json", 0)
	if err == nil {
		err = trust.InitClient(dir, root)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	c, err := trust.OpenClient(dir, time.Now(), source)
	if err == nil {
		err = c.Refresh(s.t.Context())
	}
	if err != nil {
		s.t.Fatalf("a stock client: %v", err)
	}
	return c
}

// download verifies a target and gives its remote name.
func (s *signedCollection) download(path string) string {
	s.t.Helper()
	target, err := s.client().Target(s.t.Context(), path)
	if err != nil {
		s.t.Fatal(err)
	}
	resp, body := s.get("targets/" + target.Names()[0])
	if err := target.Check([]byte(body)); err != nil || resp.StatusCode != http.StatusOK {
		s.t.Errorf("%s: %s, %v", path, resp.Status, err)
	}
	return "targets/" + target.Names()[0]
}

func TestStockClient(t *testing.T) {
	s := newSigned(t)
	image := strings.Repeat("image one ", 500)
	first := s.f.publish(t, s.src, 1, file{Path: "iso/"}, file{Path: "iso/net.iso", Data: image}, file{Path: "link.iso", Target: "iso/net.iso"},
		file{Path: "top.iso", Data: "x"})
	s.sign(first, "iso/net.iso", "top.iso")
	s.f.c.Newest = 1
	var old []string
	for _, path := range []string{trust.SumsTarget, "tree/iso/net.iso", "tree/top.iso", "release/test"} {
		old = append(old, s.download(path))
	}
	if resp, _ := s.get(old[1]); resp.Header.Get("Cache-Control") != foreverCached || resp.Header.Get("Accept-Ranges") != "bytes" {
		t.Errorf("a file of the tree: %v", resp.Header)
	}
	if resp, body := s.get(old[1], "Range: bytes=10-19"); resp.StatusCode != http.StatusPartialContent || body != image[10:20] {
		t.Errorf("a range of a target: %s, %q", resp.Status, body)
	}

	// A client in the middle of an update finds what its timestamp names, although a newer release comes.
	resp, timestamp := s.get("metadata/timestamp.json")
	if resp.Header.Get("Cache-Control") != "public, no-cache" || resp.Header.Get("Content-Type") != "application/json" {
		t.Errorf("timestamp: %v", resp.Header)
	}
	if resp, _ := s.get("metadata/timestamp.json", "If-None-Match: "+resp.Header.Get("Etag")); resp.StatusCode != http.StatusNotModified {
		t.Errorf("the same timestamp: %s", resp.Status)
	}
	second := s.f.publish(t, s.src, 2, file{Path: "iso/"}, file{Path: "iso/net.iso", Data: image + "two"})
	s.sign(second, "iso/net.iso")
	for _, name := range []string{"1.snapshot.json", "1.targets.json", "1.release.json"} {
		resp, _ := s.get("metadata/" + name)
		if resp.StatusCode != http.StatusOK || resp.Header.Get("Cache-Control") != foreverCached {
			t.Errorf("%s after the timestamp that leads to it: %s", name, resp.Status)
		}
	}
	if _, now := s.get("metadata/timestamp.json"); now == timestamp {
		t.Error("the timestamp did not change")
	}
	// What the old release vouches for stays as long as the release does.
	s.download(trust.SumsTarget)
	s.download("tree/iso/net.iso")
	for _, name := range old {
		if resp, _ := s.get(name); resp.StatusCode != http.StatusOK {
			t.Errorf("%s of a kept release: %s", name, resp.Status)
		}
	}
	s.f.c.Kept = nil
	for _, name := range old {
		if resp, _ := s.get(name); resp.StatusCode != http.StatusNotFound {
			t.Errorf("%s of a release that is gone: %s", name, resp.Status)
		}
	}
}

// TestMetadataAnswers: what a client gets that asks for something else.
func TestMetadataAnswers(t *testing.T) {
	s := newSigned(t)
	want := func(path string, status int, says string) {
		t.Helper()
		resp, body := s.get(path)
		if resp.StatusCode != status || !strings.Contains(body, says) || (status == 503) != (resp.Header.Get("Retry-After") != "") {
			t.Errorf("%s: %s, %q; want %d and %q", path, resp.Status, body, status, says)
		}
	}
	some := strings.Repeat("0a", 32)
	want("metadata/timestamp.json", 503, "not verified anything")
	want("targets/"+some+".SHA256SUMS", 503, "still fetching")
	r := s.f.publish(t, s.src, 1, file{Path: "a", Data: "a"}, file{Path: "d/"}, file{Path: "l", Target: "a"})
	s.sign(r, "a")
	sum := content.Sum([]byte("a")).String()
	want("metadata/timestamp.json", 200, "signatures")
	want("HEAD metadata/timestamp.json", 200, "")
	want("metadata/1.root.json", 200, "signatures")
	for _, name := range []string{"2.root.json", "0.root.json", "01.root.json", "root.json", "bundle", "state.json", "1.timestamp.json", "x/1.root.json", "timestamp.json/"} {
		want("metadata/"+name, 404, "")
	}
	want("targets/tree/"+sum+".a", 200, "a")
	for name, says := range map[string]string{
		"tree/" + strings.ToUpper(sum) + ".a": "begins with its SHA-256", "tree/a": "begins with its SHA-256", sum + ".a": "name and hash",
		"tree/" + some + ".a": "name and hash", "tree/" + sum + ".b": "name and hash", "tree/" + sum + ".l": "name and hash",
		"tree/" + content.Sum(nil).String() + ".d": "name and hash", "release/" + some + ".test": "name and hash",
		content.Sum(nil).String() + ".SHA256SUMS": "name and hash", "tree/" + sum + ".": "begins with its SHA-256",
	} {
		want("targets/"+name, 404, says)
	}
	s.f.c.Newest = 2
	want("targets/tree/"+some+".a", 503, "release 2")
	want("targets/tree/"+sum+".a", 200, "a")
	want("metadata/2.root.json", 404, "")
	// A tree with too many files has no list of them.
	large := s.f.publish(t, s.src, 2, file{Path: "a", Data: "a"}, file{Path: "b", Data: "b"})
	large.Manifest.Totals.Files = content.MaxSumsFiles + 1
	want("targets/"+content.Sum(nil).String()+".SHA256SUMS", 404, "name and hash")
	// A chunk that nobody has.
	for ref := range s.src.chunks {
		s.src.missing[ref] = true
	}
	want("targets/tree/"+sum+".a", 503, "")
}
