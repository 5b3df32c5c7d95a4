package trust

import (
	"os"
	"path/filepath"
	"testing"

	"swarmnode/content"
)

// FuzzKeyFile reads what holders of keys carry on sticks.
func FuzzKeyFile(f *testing.F) {
	p := newPublisher(f, Lifetimes{})
	raw, err := os.ReadFile(filepath.Join(p.dir, "keys", keyFile(roleRoot)))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n"))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, raw []byte) {
		if err := os.WriteFile(filepath.Join(dir, "a.key"), raw, 0o600); err != nil {
			t.Fatal(err)
		}
		k, err := readKey(folder{dir: dir}, "a.key")
		if err == nil && (k.id == "" || k.signer == nil || k.public == nil) {
			t.Errorf("half a key: %+v", k)
		}
	})
}

func FuzzReleaseRole(f *testing.F) {
	p := newPublisher(f, Lifetimes{})
	if err := p.keys.setRelease(p.keys.release); err != nil {
		f.Fatal(err)
	}
	raw, err := p.keys.folder.read(releaseFile)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add([]byte(`{"Threshold":1,"KeyIDs":["a"],"Keys":{"a":null}}`))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, raw []byte) {
		if err := os.WriteFile(filepath.Join(dir, releaseFile), raw, 0o600); err != nil {
			t.Fatal(err)
		}
		k := &Keys{folder: folder{dir: dir}}
		if k.loadRelease() == nil && (k.release.threshold < 1 || len(k.release.ids) > MaxKeys || len(k.release.ids) < k.release.threshold) {
			t.Errorf("%q is read as %+v", raw, k.release)
		}
	})
}

// FuzzRepositoryState opens a repository with any state.json: it opens, or says what is wrong.
func FuzzRepositoryState(f *testing.F) {
	p := newPublisher(f, Lifetimes{})
	p.sign(start, 1, "one")
	r := p.joined(start)
	raw, err := r.folder.read(stateFile)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add([]byte(`{"Clock":"9999-12-31T23:59:59Z","Alarm":{"Keys":null}}`))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, raw []byte) {
		if err := os.WriteFile(filepath.Join(dir, stateFile), raw, 0o644); err != nil {
			t.Fatal(err)
		}
		r, err := Open(dir, content.NewID([]byte("root")))
		if err != nil {
			return
		}
		if a := r.Alarm(); a != nil && a.String() == "" {
			t.Error("an alarm that says nothing")
		}
		r.Head()
		if _, err := r.Bundle(); err == nil {
			t.Error("a bundle out of nothing")
		}
	})
}
