//go:build unix

package store_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"swarmnode/content"
	"swarmnode/content/store"
	"swarmnode/content/store/storetest"
)

// referMany makes references to nothing until the index is written, synced and rotated to new files.
func referMany(r *store.References) error {
	for i := range uint32(2 * content.MaxSegmentChunks) {
		ref := content.Ref{Segment: 100 + i/content.MaxSegmentChunks, Index: i % content.MaxSegmentChunks}
		if err := r.Refer(ref, "some/path/that/is/not/there", int64(i)); err != nil {
			return err
		}
	}
	return r.Sync(context.Background())
}

// untilRoom calls again what a full disk has refused.
func untilRoom(t *testing.T, call func() error) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		err := call()
		if err == nil {
			return
		}
		if !errors.Is(err, store.ErrDiskFull) || time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

// wantFullIndex wants refusals instead of a crash, and content that can still be read.
func wantFullIndex(t *testing.T, r *store.References, s storetest.Segment) {
	t.Helper()
	for range 3 {
		if err := referMany(r); !errors.Is(err, store.ErrDiskFull) {
			t.Errorf("writing to a full disk: %v, want %v", err, store.ErrDiskFull)
		}
	}
	if err := r.SetMtime("a", 1); !errors.Is(err, store.ErrDiskFull) {
		t.Errorf("SetMtime on a full disk: %v, want %v", err, store.ErrDiskFull)
	}
	wantSegment(t, r, s)
}

func TestReferencesFull(t *testing.T) {
	t.Parallel()
	dir, tree := t.TempDir(), t.TempDir()
	r := openReferences(t, dir, tree, "", store.Config{})
	var full atomic.Bool
	r.FailWith(func() error {
		if full.Load() {
			return syscall.ENOSPC
		}
		return nil
	})
	s := storetest.Segments()[0]
	publish(t, r, tree, "a", s)
	must(t, r.Sync(t.Context()))
	for range 2 {
		full.Store(true)
		wantFullIndex(t, r, s)
		full.Store(false)
		untilRoom(t, func() error { return referMany(r) })
	}
	must(t, r.Close())
	r = openReferences(t, dir, tree, "", store.Config{})
	wantSegment(t, r, s)
	var still atomic.Bool
	still.Store(true)
	r.FailWith(func() error {
		if still.Load() {
			return syscall.EDQUOT
		}
		return nil
	})
	if err := r.Close(); !errors.Is(err, store.ErrDiskFull) {
		t.Errorf("Close on a full disk: %v, want %v", err, store.ErrDiskFull)
	}
	still.Store(false) // what was left behind ends by itself and unlocks the index
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		again, err := store.OpenReferences(dir, tree, "", store.Config{Tables: storetest.Tables})
		if err == nil {
			wantSegment(t, again, s)
			must(t, again.Close())
			return
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

// The real thing: a file system of 12 MiB.
func TestReferencesFullForReal(t *testing.T) {
	if os.Getenv("SWARMNODE_E2E") != "1" || os.Getuid() != 0 {
		t.Skip("mounts a small tmpfs: needs root and SWARMNODE_E2E=1")
	}
	dir, tree := t.TempDir(), t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=12m", "none", dir).CombinedOutput(); err != nil {
		t.Skipf("mount a tmpfs: %v: %s", err, out)
	}
	t.Cleanup(func() { exec.Command("umount", "-l", dir).Run() })
	r := openReferences(t, dir, tree, "", store.Config{})
	s := storetest.Segments()[0]
	if err := r.Add(s.Number, s.Info, s.Table); !errors.Is(err, store.ErrDiskFull) {
		t.Errorf("Add with less than the reserve free: %v", err)
	}
	r.FailWith(func() error { return nil }) // no reserve
	publish(t, r, tree, "a", s)
	must(t, r.Sync(t.Context()))
	fill := filepath.Join(dir, "fill")
	if err := os.WriteFile(fill, make([]byte, 16<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("16 MiB into 12: %v", err)
	}
	wantFullIndex(t, r, s)
	must(t, os.Remove(fill))
	untilRoom(t, func() error { return r.Sync(t.Context()) })
	must(t, r.Close())
	r = openReferences(t, dir, tree, "", store.Config{})
	wantSegment(t, r, s)
	must(t, r.Close())
}
