package trust

import (
	"os"
	"path/filepath"
	"testing"
)

// TestScrub damages each file on disk in turn: it is found, written anew, and the repository opens as before.
func TestScrub(t *testing.T) {
	t.Parallel()
	p := newPublisher(t, Lifetimes{})
	p.sign(start, 1, "one")
	r := p.joined(start)
	checked, bad, err := r.Scrub()
	if err != nil || bad != 0 || checked < 6 {
		t.Fatalf("checked %d, bad %d, %v; want root, four roles and the state, none bad", checked, bad, err)
	}
	files, err := os.ReadDir(r.folder.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		path := filepath.Join(r.folder.dir, f.Name())
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		raw[len(raw)/2] ^= 4
		if err := os.WriteFile(path, raw, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, bad, err := r.Scrub(); bad != 1 || err != nil {
			t.Errorf("%s: bad %d, %v, want 1", f.Name(), bad, err)
		}
		if again := reopened(t, r); again.Head() != r.Head() || again.Stats().Damaged != 0 {
			t.Errorf("%s: opened again with %+v, %+v", f.Name(), again.Head(), again.Stats())
		}
	}
}
