package node

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"swarmnode/content"
	"swarmnode/node/export"
)

// writeArchive makes a tree of packages with an index that names each with its SHA-256, as archives have it. The packages of one
// release are of that release alone, but for every third.
func writeArchive(t *testing.T, dir string, release, packages int) {
	t.Helper()
	for _, d := range []string{"pool/a", "pool/b", "dists/stable", "empty"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	var index strings.Builder
	keep := map[string]bool{}
	for i := range packages {
		version, size := release, 3000+i*97
		if i%3 == 0 {
			version = 0
		}
		if i == 1 {
			size = 5 << 20 // of several chunks
		}
		name := fmt.Sprintf("pool/%c/p%d_%d.deb", 'a'+i%2, i, version)
		data := make([]byte, size)
		rng := rand.NewChaCha8([32]byte{byte(i), byte(version)})
		_, _ = rng.Read(data)
		if i%5 == 0 {
			data = bytes.Repeat([]byte{byte(version)}, 4000) // in several files
		}
		sum := sha256.Sum256(data)
		fmt.Fprintf(&index, "%s %s\n", hex.EncodeToString(sum[:]), name)
		keep[name] = true
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			write(t, dir, name, string(data))
		}
	}
	for _, d := range []string{"pool/a", "pool/b"} {
		names, _ := os.ReadDir(filepath.Join(dir, d))
		for _, e := range names {
			if !keep[d+"/"+e.Name()] {
				os.Remove(filepath.Join(dir, d, e.Name()))
			}
		}
	}
	write(t, dir, "dists/stable/Release", index.String())
	write(t, dir, "dists/stable/nothing", "")
	if release == 1 {
		if err := errors.Join(os.Symlink("stable", filepath.Join(dir, "dists/testing")), os.Chmod(filepath.Join(dir, "pool/a"), 0o750)); err != nil {
			t.Fatal(err)
		}
	}
}

// whatIndexSays reads the index of a tree and every file that it names, as a client does; "" if all is right.
func whatIndexSays(dir string) string {
	index, err := os.ReadFile(filepath.Join(dir, "dists/stable/Release"))
	if errors.Is(err, os.ErrNotExist) {
		return ""
	}
	for line := range strings.Lines(string(index)) {
		sum, name, _ := strings.Cut(strings.TrimSpace(line), " ")
		data, err := os.ReadFile(filepath.Join(dir, name))
		if got := sha256.Sum256(data); err != nil || hex.EncodeToString(got[:]) != sum {
			return fmt.Sprintf("%s: %v, %d bytes", name, err, len(data))
		}
	}
	return ""
}

// watchIndex reads the index of a tree and what it names again and again until the function that it gives is called, or the test
// ends: it fails if anything is ever wrong. It rests as long as it reads, so that a slow machine gets on with the rest.
func watchIndex(t *testing.T, tree string) (end func()) {
	stop, watching := make(chan struct{}), sync.WaitGroup{}
	watching.Go(func() {
		for {
			began := time.Now()
			wrong := whatIndexSays(tree)
			if wrong != "" && time.Since(began) < exportGrace/3 { // who needs longer than the grace time may come too late
				t.Errorf("the index names what is not there: %s", wrong)
				return
			}
			select {
			case <-stop:
				return
			case <-time.After(time.Since(began)):
			}
		}
	})
	end = sync.OnceFunc(func() {
		close(stop)
		watching.Wait()
	})
	t.Cleanup(end) // before the directory is removed
	return end
}

// exportGrace is how long what an exported tree no longer has stays there in TestExport: many times what reading all of it takes.
const exportGrace = 3 * time.Second

func shows(x *testNode, dir string, release uint64) func() bool {
	return func() bool {
		c := x.Status().Collections
		return len(c) > 0 && c[0].Export != nil && c[0].Export.Release == release && c[0].Export.Dir == dir && c[0].Trouble == ""
	}
}

// TestExport: a mirror whose content lies in a plain tree, over three releases: what readers of the tree see at each moment, what
// the disk holds, that the tree is what the mirror gives to others, and that what somebody changes there is put right.
func TestExport(t *testing.T) {
	t.Parallel()
	src, dir, home := t.TempDir(), t.TempDir(), t.TempDir()
	tree := filepath.Join(dir, "test")
	master := startNode(t, "master", t.TempDir())
	writeArchive(t, src, 1, 60)
	res := master.publish(t, src)
	cfg := Config{Home: home, Upkeep: Upkeep{Export: dir, Grace: exportGrace}}
	mirror := startWith(t, "mirror", cfg)
	if _, err := mirror.Join(t.Context(), master.Addrs()[0], []content.ID{res.ID}); err != nil {
		t.Fatal(err)
	}
	within(t, "release 1 is exported", shows(mirror, tree, 1))
	sameTree(t, src, tree)
	checkOnce(t, home, tree)

	endWatch := watchIndex(t, tree)
	for release := 2; release <= 3; release++ {
		writeArchive(t, src, release, 60)
		master.publish(t, src)
		within(t, fmt.Sprintf("release %d is exported", release), shows(mirror, tree, uint64(release)))
	}
	endWatch()
	within(t, "what is gone is removed after the grace time", func() bool {
		names, _ := filepath.Glob(filepath.Join(tree, "pool/*/*"))
		return len(names) == 60
	})
	sameTree(t, src, tree)
	checkOnce(t, home, tree)

	// The tree alone, after a restart, gives the content to others.
	mirror.halt()
	mirror = startWith(t, "mirror", Config{Home: home}) // without the flag: where it is, it stays
	master.halt()
	out := filepath.Join(t.TempDir(), "out")
	if _, err := get(t, res.ID, "", out, mirror.Addrs()[0]); err != nil {
		t.Fatal(err)
	}
	sameTree(t, src, out)

	// What somebody changes or removes is not served and comes back.
	master = startNode(t, "master", master.home)
	if _, err := mirror.Join(t.Context(), master.Addrs()[0], nil); err != nil {
		t.Fatal(err)
	}
	write(t, tree, "pool/b/p1_3.deb", strings.Repeat("x", 5<<20))
	if err := os.RemoveAll(filepath.Join(tree, "dists")); err != nil {
		t.Fatal(err)
	}
	mirror.Scrub(1 << 30)
	within(t, "the tree is right again", func() bool {
		return whatIndexSays(tree) == "" && exists(filepath.Join(tree, "dists/stable/Release")) && shows(mirror, tree, 3)()
	})
	within(t, "all of it", func() bool { return exists(filepath.Join(tree, "dists/testing")) })
	sameTree(t, src, tree)
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

// checkOnce sees to it that the content is on the disk once: the segments hold holes.
func checkOnce(t *testing.T, home, tree string) {
	t.Helper()
	dirs, err := filepath.Glob(filepath.Join(home, collectionsDir, "*", segmentsDir))
	if err != nil || len(dirs) != 1 {
		t.Fatalf("%v: %v", dirs, err)
	}
	var segments, all int64
	within(t, "the segments are empty", func() bool {
		if segments, err = diskUse(dirs[0]); err == nil {
			all, err = diskUse(tree)
		}
		t.Logf("the segments take %d bytes, the tree %d", segments, all)
		return err == nil && segments < 1<<16 && all > 5<<20
	})
}

// TestExportRefuses: directories that hold something else, and another one than before.
func TestExportRefuses(t *testing.T) {
	t.Parallel()
	full, home, dir := tree(t, "mine"), t.TempDir(), t.TempDir()
	if _, err := Open(context.Background(), Config{Home: home, Upkeep: Upkeep{Export: full}}); !errors.Is(err, export.ErrForeign) {
		t.Errorf("a directory with a file: %v", err)
	}
	master := startNode(t, "master", t.TempDir())
	id := master.publish(t, tree(t, "one")).ID
	mirror := startWith(t, "mirror", Config{Home: home, Upkeep: Upkeep{Export: dir}})
	if _, err := mirror.Join(t.Context(), master.Addrs()[0], []content.ID{id}); err != nil {
		t.Fatal(err)
	}
	within(t, "it is exported", shows(mirror, filepath.Join(dir, "test"), 1))
	mirror.halt()
	if _, err := Open(context.Background(), Config{Home: home, Upkeep: Upkeep{Export: t.TempDir()}}); err == nil || !strings.Contains(err.Error(), "lies in "+dir) {
		t.Errorf("another directory: %v", err)
	}
	mirror = startWith(t, "mirror", Config{Home: home, CacheOnly: true})
	if _, err := mirror.Join(t.Context(), master.Addrs()[0], []content.ID{id}); err == nil || !strings.Contains(err.Error(), "before it is joined with --cache-only") {
		t.Errorf("a cache only: %v", err)
	}
}
