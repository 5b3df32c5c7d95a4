package trust

import (
	"errors"
	"os"
	"syscall"
	"testing"

	"swarmnode/content/durable/faulty"
	"swarmnode/gossip"
)

// thorough says that time is no matter: .ci/run.
var thorough = os.Getenv("SWARMNODE_E2E") == "1"

// cutFolder lays out what c leaves of a folder after n operations.
func cutFolder(t *testing.T, fs *faulty.FS, n int, c faulty.Crash) string {
	t.Helper()
	dir, err := os.MkdirTemp(t.TempDir(), "")
	if err == nil {
		_, err = fs.Crash(n, c, dir)
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// copied opens a copy of a repository's folder.
func copied(t *testing.T, r *Repository) *Repository {
	t.Helper()
	dir, err := os.MkdirTemp(t.TempDir(), "")
	if err == nil {
		err = os.CopyFS(dir, os.DirFS(r.folder.dir))
	}
	if err == nil {
		r, err = Open(dir, r.id)
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func recorder(t *testing.T, dir string) *faulty.FS {
	t.Helper()
	fs, err := faulty.New(dir)
	if err != nil {
		t.Fatal(err)
	}
	return fs
}

// A power cut between any two writes of Verify leaves the old release or the new one, which a Verify that came back
// had made durable, and the same bundle is taken again. Every crash at every operation is for .ci/run; else each operation loses all,
// and two of the others have their turn.
func TestVerifyPowerCut(t *testing.T) {
	t.Parallel()
	p := newPublisher(t, Lifetimes{})
	p.sign(start, 1, "one")
	r := p.joined(start)
	fs := recorder(t, r.folder.dir)
	r.folder.fs = fs
	next := p.sign(start, 2, "two")
	if _, err := r.Verify(start, next); err != nil {
		t.Fatal(err)
	}
	random := 1
	if thorough {
		random = 3
	}
	for n := range fs.Len() + 1 {
		cuts := append(faulty.PowerCuts(5, random), faulty.Killed)
		if others := len(cuts) - 1; !thorough {
			cuts = []faulty.Crash{cuts[0], cuts[1+n%others], cuts[1+(n+3)%others]}
		}
		for _, c := range cuts {
			again, err := Open(cutFolder(t, fs, n, c), r.id)
			if err != nil {
				t.Fatalf("operation %d, %s: %v", n, c.Name, err)
			}
			if h := again.Head(); h.Release != 1 && h.Release != 2 || n == fs.Len() && h.Release != 2 {
				t.Errorf("operation %d, %s: release %d", n, c.Name, h.Release)
			}
			was := again.Head().Release
			_, err = again.Verify(start, next)
			if h := again.Head(); h.Release != 2 || err != nil && (was != 2 || !errors.Is(err, gossip.ErrOld)) {
				t.Errorf("operation %d, %s: the same bundle again: release %d, %v", n, c.Name, h.Release, err)
			}
		}
	}
}

// Each write of Verify in turn fails: the error says what, the old release stays, and with a good disk the same bundle
// is taken without a restart.
func TestVerifyFaults(t *testing.T) {
	t.Parallel()
	p := newPublisher(t, Lifetimes{})
	p.sign(start, 1, "one")
	atOne := p.joined(start)
	next := p.sign(start, 2, "two")
	for _, fault := range []error{syscall.ENOSPC, syscall.EIO} {
		for n, hit := 0, true; hit; n++ {
			r := copied(t, atOne)
			fs := recorder(t, r.folder.dir)
			r.folder.fs = fs
			left := n
			hit = false
			fs.Fault = func(op faulty.Op) error {
				if left--; left == -1 {
					hit = true
					return fault
				}
				return nil
			}
			_, err := r.Verify(start, next)
			var at *os.PathError
			if err != nil && (!errors.Is(err, fault) || !errors.As(err, &at)) {
				t.Errorf("operation %d: %v", n, err)
			}
			fs.Fault = nil
			if err == nil {
				if h := r.Head(); h.Release != 2 {
					t.Errorf("operation %d, %v: release %d", n, fault, h.Release)
				}
			} else if h, err := r.Verify(start, next); err != nil || h.Release != 2 {
				t.Errorf("operation %d, %v: with a good disk again: release %d, %v", n, fault, h.Release, err)
			}
			cuts := faulty.PowerCuts(uint64(n), 1)
			if !thorough {
				cuts = []faulty.Crash{cuts[0], cuts[3], cuts[6]}
			}
			for _, c := range cuts {
				again, err := Open(cutFolder(t, fs, fs.Len(), c), r.id)
				if err != nil {
					t.Fatalf("operation %d, %s: %v", n, c.Name, err)
				}
				if h := again.Head(); h.Release != 2 {
					t.Errorf("operation %d, %v, then %s: release %d", n, fault, c.Name, h.Release)
				}
			}
		}
	}
}
