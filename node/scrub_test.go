package node

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"swarmnode/node/control"
)

// scrub has a node scrub and waits until all is mended.
func (x *testNode) scrub(t *testing.T, name string) control.Scrub {
	t.Helper()
	x.Scrub(1 << 30)
	deadline := time.Now().Add(hang)
	for {
		s := x.find(t, name).Scrub
		if !s.Running && s.Missing == 0 {
			return s
		}
		if time.Now().After(deadline) {
			t.Fatalf("the scrub does not end: %+v", s)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// TestScrubRepairs flips bits in all that a mirror keeps of a collection: one scrub finds them and peers mend them; a stopped
// node finds them without.
func TestScrubRepairs(t *testing.T) {
	tree := t.TempDir()
	writeTree(t, tree, 5)
	master := startNode(t, "master", t.TempDir())
	res := master.publish(t, tree)
	x := startNode(t, "x", t.TempDir(), master.Addrs()[0])
	if _, err := x.Join(t.Context(), master.Addrs()[0], nil); err != nil {
		t.Fatal(err)
	}
	waitFor(t, res.ID, res.Release, x)
	if s := x.scrub(t, "test"); s.Bad != 0 || s.Checked < 60 || s.Passes != 1 {
		t.Errorf("nothing is damaged: %+v", s)
	}
	dir := filepath.Join(x.home, collectionsDir, res.ID.String())
	flip := func(path string, at int64) {
		t.Helper()
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteAt([]byte{raw[at] ^ 16}, at); err != nil {
			t.Fatal(err)
		}
	}
	segments, err := filepath.Glob(filepath.Join(dir, "segments", "segments", "*"))
	if err != nil || len(segments) == 0 {
		t.Fatalf("no segments: %v", err)
	}
	all := func() {
		for _, s := range segments {
			flip(s, 0)
		}
	}
	all()
	flip(filepath.Join(dir, "metadata.pack"), 8+44) // the first block
	flip(filepath.Join(dir, "trust", "timestamp.json"), 5)
	want := int64(len(segments) + 2)
	if s := x.scrub(t, "test"); s.Bad != want || s.Repaired != want {
		t.Errorf("%d bits were flipped: %+v", want, s)
	}
	if s := x.scrub(t, "test"); s.Bad != want || s.Passes != 3 {
		t.Errorf("once more: %+v", s)
	}
	x.halt()
	all()
	var found []control.Collection
	err = ScrubHome(t.Context(), x.home, 1<<30, slog.New(slog.DiscardHandler), func(c control.Collection) error {
		found = append(found, c)
		return nil
	})
	if err != nil || len(found) != 1 || found[0].Scrub.Bad != int64(len(segments)) || found[0].Head != res.Release {
		t.Fatalf("stopped: %v, %+v, want %d bad", err, found, len(segments))
	}
	x = startNode(t, "x", x.home, master.Addrs()[0])
	waitFor(t, res.ID, res.Release, x)
	if s := x.scrub(t, "test"); s.Bad != 0 {
		t.Errorf("after the start that mends: %+v", s)
	}
	// A published file that changes is found, too.
	path := filepath.Join(tree, "image.iso")
	time.Sleep(20 * time.Millisecond) // so that its times differ
	flip(path, 0)
	master.Scrub(1 << 30)
	deadline := time.Now().Add(hang)
	for master.find(t, "test").Trouble == "" {
		if time.Now().After(deadline) {
			t.Fatalf("the changed file is not named: %+v", master.find(t, "test"))
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// TestRecordAgain: a mirror whose record is damaged goes on with what it has; a publisher is told.
func TestRecordAgain(t *testing.T) {
	tree := t.TempDir()
	writeTree(t, tree, 6)
	master := startNode(t, "master", t.TempDir())
	res := master.publish(t, tree)
	x := startNode(t, "x", t.TempDir(), master.Addrs()[0])
	if _, err := x.Join(t.Context(), master.Addrs()[0], nil); err != nil {
		t.Fatal(err)
	}
	waitFor(t, res.ID, res.Release, x)
	addr := master.Addrs()[0]
	for _, n := range []*testNode{x, master} {
		n.halt()
		path := filepath.Join(n.home, collectionsDir, res.ID.String(), recordFile)
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		raw[len(raw)/3] ^= 1
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	x = startNode(t, "x", x.home, addr)
	waitFor(t, res.ID, res.Release, x)
	master = startNode(t, "master", master.home)
	if s := master.Status(); s.Fine || len(s.Collections) != 0 {
		t.Errorf("a publisher with a damaged record: %+v", s)
	}
}
