package trust

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"swarmnode/gossip"
)

var errCrash = errors.New("power cut")

// crashAt makes the n-th write from now fail, and all that follow.
func crashAt(n int) func(string) error {
	return func(string) error {
		if n--; n <= 0 {
			return errCrash
		}
		return nil
	}
}

// maxWrites is more than any operation here makes.
const maxWrites = 12

func TestRepositoryCrash(t *testing.T) {
	t.Parallel()
	for _, rotate := range []bool{false, true} {
		p := newPublisher(t, Lifetimes{})
		p.sign(start, 1, "one")
		atOne := p.joined(start)
		if rotate {
			if err := p.keys.Rotate(start, p.life, roleRoot, roleTimestamp, roleSnapshot); err != nil {
				t.Fatal(err)
			}
		}
		next := p.sign(start, 2, "two")
		for n := 1; ; n++ {
			r := copied(t, atOne)
			r.folder.before = crashAt(n)
			_, err := r.Verify(start, next)
			if err == nil {
				break
			}
			if !errors.Is(err, errCrash) || n > maxWrites {
				t.Fatalf("write %d: %v", n, err)
			}
			if h := r.Head(); h.Release != 1 {
				t.Errorf("write %d: head %d after an error", n, h.Release)
			}
			r = reopened(t, r)
			if h := r.Head(); h.Release != 1 && h.Release != 2 {
				t.Errorf("write %d: reopened at release %d", n, h.Release)
			}
			if h, err := r.Verify(start, next); err != nil || h.Release != 2 {
				t.Errorf("write %d, rotate %v: the same bundle again: release %d, %v", n, rotate, h.Release, err)
			}
			if h := reopened(t, r).Head(); h.Release != 2 {
				t.Errorf("write %d: release %d, want 2", n, h.Release)
			}
		}
	}
}

// TestSignerCrash cuts Sign off before each of its writes and lets the publisher go on with other content under the same
// number, then with the same content, then with the next number. No node may ever see two releases of one number.
func TestSignerCrash(t *testing.T) {
	t.Parallel()
	original := newPublisher(t, Lifetimes{})
	original.sign(start, 1, "one")
	atOne := original.joined(start)
	for n := 1; ; n++ {
		p, r := original.twin(), copied(t, atOne)
		p.signer.folder.before = crashAt(n)
		_, err := p.signer.Sign(start, release(2, "two"))
		if err == nil {
			break
		}
		if !errors.Is(err, errCrash) || n > maxWrites {
			t.Fatalf("write %d: %v", n, err)
		}
		p.reopen()
		if _, err := r.Verify(start, p.heartbeat(start)); err != nil {
			t.Errorf("write %d: heartbeat after the crash: %v", n, err)
		}
		other, err := p.signer.Sign(start, release(2, "other"))
		taken := n > 1 // the first write takes the number
		if taken != errors.Is(err, gossip.ErrFork) {
			t.Errorf("write %d: other content under the number: %v", n, err)
		}
		if err == nil {
			if _, err := r.Verify(start, other); err != nil {
				t.Errorf("write %d: %v", n, err)
			}
		} else if _, err := r.Verify(start, p.sign(start, 2, "two")); err != nil {
			t.Errorf("write %d: the cut off release again: %v", n, err)
		}
		if _, err := r.Verify(start, p.sign(start, 3, "three")); err != nil {
			t.Errorf("write %d: next release: %v", n, err)
		}
	}
}

func TestKeysCrash(t *testing.T) {
	t.Parallel()
	original := newPublisher(t, Lifetimes{})
	original.sign(start, 1, "one")
	atOne := original.joined(start)
	for n := 1; ; n++ {
		p, r := original.twin(), copied(t, atOne)
		p.keys.folder.before = crashAt(n)
		err := p.keys.Rotate(start, p.life, roles()...)
		if err != nil && (!errors.Is(err, errCrash) || n > maxWrites) {
			t.Fatal(err)
		}
		p.reopen()
		beat := p.heartbeat(start)
		if err := r.Refresh(t.Context(), start, p.signer.Source); err != nil {
			t.Errorf("write %d: %v", n, err)
		}
		if _, e := r.Verify(start, beat); !errors.Is(e, gossip.ErrOld) {
			t.Errorf("write %d: %v", n, e)
		}
		if r.Head().TimestampVersion != 2 {
			t.Errorf("write %d: timestamp %d", n, r.Head().TimestampVersion)
		}
		if err == nil {
			break
		}
	}
	// An Init that stopped before the root keeps the keys it had made.
	dir := filepath.Join(t.TempDir(), "keys")
	k, id, err := Init(dir, start, Lifetimes{})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"1.root.json", "release.key"} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	again, id2, err := Init(dir, start, Lifetimes{})
	if err != nil || id2 != id || again.first(roleRoot).id != k.first(roleRoot).id {
		t.Errorf("second Init: %v, %v, want %v", err, id2, id)
	}
}

// TestDamagedFiles changes each file of a repository on disk: it must open, stay pinned, and get well by refreshing.
func TestDamagedFiles(t *testing.T) {
	t.Parallel()
	p := newPublisher(t, Lifetimes{})
	p.sign(start, 1, "one")
	names := []string{"1.root.json", "timestamp.json", "1.snapshot.json", "1.targets.json", "1.release.json", "state.json"}
	for _, name := range names {
		for _, how := range []string{"garbage", "gone", "cut"} {
			t.Run(fmt.Sprint(name, " ", how), func(t *testing.T) {
				r := p.joined(start)
				path := filepath.Join(r.folder.dir, name)
				var err error
				switch how {
				case "garbage":
					err = os.WriteFile(path, []byte(`{"signed":null}`), 0o644)
				case "gone":
					err = os.Remove(path)
				case "cut":
					err = os.Truncate(path, 100)
				}
				if err != nil {
					t.Fatal(err)
				}
				r = reopened(t, r)
				if h := r.Head(); h.Release != 1 {
					t.Errorf("release %d after damage, want 1: one of the files tells", h.Release)
				}
				if err := r.Refresh(t.Context(), start, p.signer.Source); err != nil {
					t.Fatal(err)
				}
				if b, err := r.Bundle(); err != nil || len(b.Files) != 4 {
					t.Errorf("after a refresh: %d files, %v", len(b.Files), err)
				}
			})
		}
	}
}
