package node

import (
	"os"
	"path/filepath"
	"testing"

	"swarmnode/content"
)

// firstChunk gives the first chunk of a file of the served release that is larger than a small read.
func (x *testNode) firstChunk(t *testing.T, path string) content.Ref {
	t.Helper()
	r := x.servedRelease(t)
	e, err := content.Lookup(r.Manifest.Tree, r.Blocks, path)
	if err != nil {
		t.Fatal(err)
	}
	return content.Ref{Segment: e.Runs[0].Segment, Index: e.Runs[0].First}
}

// lends reports whether a node gives a chunk, which it has and has hashed, as a place in a file.
func (x *testNode) lends(t *testing.T, ref content.Ref) bool {
	t.Helper()
	c := x.all()[0]
	if _, err := c.follower.disk.Chunk(ref, nil); err != nil {
		t.Fatal(err)
	}
	_, _, release, ok := mirrorSource{c}.File(ref)
	if ok {
		release()
	}
	return ok
}

// TestLendsWhatStays: the kernel is given places in files only where no hole is made soon after, as what it has not sent by then would
// become zeros: not by a cache, and not of what the served release no longer has.
func TestLendsWhatStays(t *testing.T) {
	t.Parallel()
	tree := t.TempDir()
	for _, name := range []string{"old.iso", "stays.iso"} {
		largeFile(t, tree, name, 2<<20)
	}
	master := startNode(t, "master", t.TempDir())
	id := master.publish(t, tree).ID
	mirror, cache := mirrorOf(t, master, Config{}), cacheOf(t, master, Config{})
	old, stays := mirror.firstChunk(t, "old.iso"), mirror.firstChunk(t, "stays.iso")
	if !mirror.lends(t, old) || !mirror.lends(t, stays) {
		t.Error("a mirror does not lend what it serves")
	}
	if a := cache.ask(t, "GET", "/test/stays.iso"); a.StatusCode != 200 {
		t.Fatal(a.Status)
	}
	if cache.lends(t, stays) {
		t.Error("a cache lends what it may evict at any moment")
	}
	if err := os.Remove(filepath.Join(tree, "old.iso")); err != nil {
		t.Fatal(err)
	}
	master.publish(t, tree)
	waitFor(t, id, 2, mirror)
	within(t, "the gateway serves release 2", func() bool { return mirror.servedRelease(t).Manifest.Release == 2 })
	if mirror.lends(t, old) || !mirror.lends(t, stays) {
		t.Error("what is dead in the served release is lent, or what is live is not")
	}
}
