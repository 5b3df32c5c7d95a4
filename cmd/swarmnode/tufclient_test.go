package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"swarmnode/content"
	"swarmnode/gossip/trust"
)

// TestTUFClient runs the command as TUF's conformance suite does, against what this program publishes: a collection's
// metadata are a TUF repository like any other.
func TestTUFClient(t *testing.T) {
	dir := t.TempDir()
	keys, _, err := trust.Init(filepath.Join(dir, "keys"), time.Now(), trust.Lifetimes{})
	if err != nil {
		t.Fatal(err)
	}
	signer, err := trust.OpenSigner(keys, filepath.Join(dir, "signer"), trust.Lifetimes{})
	if err != nil {
		t.Fatal(err)
	}
	manifest := []byte("a manifest")
	r := trust.Release{Name: "debian", Number: 1, Manifest: content.Sum(manifest), Size: int64(len(manifest)), Bytes: 1, Files: 1}
	if _, err := signer.Sign(time.Now(), r); err != nil {
		t.Fatal(err)
	}
	served := manifest
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if name, ok := strings.CutPrefix(req.URL.Path, "/metadata/"); ok {
			if raw, err := signer.Source(req.Context(), name, 1<<20); err == nil {
				w.Write(raw)
				return
			}
		} else if strings.HasPrefix(req.URL.Path, "/targets/release/") && strings.HasSuffix(req.URL.Path, ".debian") {
			w.Write(served)
			return
		}
		http.NotFound(w, req)
	}))
	defer server.Close()
	root, err := signer.Source(t.Context(), "1.root.json", 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	trusted := filepath.Join(dir, "root.json")
	if err := os.WriteFile(trusted, root, 0o600); err != nil {
		t.Fatal(err)
	}
	metadata, targets := filepath.Join(dir, "metadata"), filepath.Join(dir, "targets")
	if err := os.Mkdir(targets, 0o700); err != nil {
		t.Fatal(err)
	}
	client := func(want int, args ...string) {
		t.Helper()
		var stdout, stderr bytes.Buffer
		all := append([]string{"tuf-client", "--metadata-dir", metadata, "--metadata-url", server.URL + "/metadata"}, args...)
		if got := run(t.Context(), all, strings.NewReader(""), &stdout, &stderr); got != want {
			t.Errorf("%v: exit %d, want %d: %s", args, got, want, &stderr)
		}
	}
	download := []string{"--target-base-url", server.URL + "/targets/", "--target-dir", targets, "--target-name"}
	client(1, "refresh") // nothing is trusted yet
	client(1, "init", filepath.Join(dir, "keys", "none"))
	client(0, "init", trusted)
	client(0, "refresh")
	client(1, append(download, "release/other", "download")...)
	served = []byte("A manifest")
	client(1, append(download, "release/debian", "download")...)
	served = manifest
	client(0, append(download, "release/debian", "download")...)
	if got, err := os.ReadFile(filepath.Join(targets, "release%2Fdebian")); err != nil || !bytes.Equal(got, manifest) {
		t.Errorf("downloaded %q, %v", got, err)
	}
	served = nil // what is here is still right
	client(0, append(download, "release/debian", "download")...)
	for _, name := range []string{"root", "timestamp", "snapshot", "targets", "release"} {
		if _, err := os.Stat(filepath.Join(metadata, name+".json")); err != nil {
			t.Error(err)
		}
	}
	t.Setenv("FAKETIME", "+40000000") // more than a year
	client(1, "refresh")
}
