//go:build unix

package node

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dustin/go-humanize"
)

// onDisk is how many bytes the files below a directory take on the disk, as du counts.
func onDisk(dir string) (all int64) {
	filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil
		}
		if info, err := d.Info(); err == nil {
			all += info.Sys().(*syscall.Stat_t).Blocks * 512
		}
		return nil
	})
	return all
}

// renewTree makes a tree with the same names and other bytes.
func renewTree(t *testing.T, dir string, seed uint64) {
	t.Helper()
	if err := os.Remove(filepath.Join(dir, "latest")); err != nil { // a link is not written over
		t.Fatal(err)
	}
	writeTree(t, dir, seed)
}

// TestDiskHoldsAllTheTime: while releases follow each other and the replaced ones stay for their grace, the home directory never takes more
// than was given; a release that does not fit beside them is refused with the figures, and what is here goes on to be served.
func TestDiskHoldsAllTheTime(t *testing.T) {
	t.Parallel()
	const given = 24 << 20
	tree := t.TempDir()
	writeTree(t, tree, 1) // 7 MB, and as many new ones each time
	master := startNode(t, "master", t.TempDir())
	id := master.publish(t, tree).ID
	mirror := startWith(t, "mirror", Config{Home: t.TempDir(), Bootstrap: master.Addrs()[:1], Disk: given})
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	worst := make(chan int64, 1)
	go func() {
		most := int64(0)
		for ctx.Err() == nil {
			most = max(most, onDisk(mirror.home))
			time.Sleep(5 * time.Millisecond)
		}
		worst <- most
	}()
	if _, err := mirror.Join(t.Context(), master.Addrs()[0], nil); err != nil {
		t.Fatal(err)
	}
	waitFor(t, id, 1, mirror)
	for release := uint64(2); release <= 3; release++ {
		renewTree(t, tree, release)
		master.publish(t, tree)
		waitFor(t, id, release, mirror)
	}
	renewTree(t, tree, 4)
	master.publish(t, tree)
	within(t, "the fourth is refused", func() bool { return strings.HasPrefix(mirror.Status().Verdict, "short of disk") })
	if st := mirror.Status(); !strings.Contains(st.Verdict, "of the 24 MiB given are left") || st.Collections[0].Release != 3 {
		t.Errorf("status: %q, release %d", st.Verdict, st.Collections[0].Release)
	}
	stop()
	most := <-worst
	if most > given {
		t.Errorf("the home directory took %d bytes of %d", most, given)
	}
	t.Logf("at most %s of %s", humanize.IBytes(uint64(most)), humanize.IBytes(given))
}

// TestRest: what mirrored collections do not count themselves is counted, whatever it is.
func TestRest(t *testing.T) {
	home := t.TempDir()
	for name, size := range map[string]int{
		"node.key": 100, "access.log": 1000, "collections/a/trust/1.root.json": 10, "collections/a/metadata.pack": 1e6, "collections/a/segments/segments/bafk1": 1e6,
		"collections/a/segments/journal": 1, "collections/b/metadata.pack": 10_000, "collections/b/links/1": 1e6, "collections/b/publisher/index": 100_000,
	} {
		path := filepath.Join(home, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r := rest{home: home}
	r.measure(func(dir string) bool { return dir == "a" }) // b is published
	if got, want := r.bytes.Load(), int64((1+1+1+1+3+25)*blockSize); got != want {
		t.Errorf("%d bytes, want %d", got, want)
	}
}
