package store_test

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"swarmnode/content"
	"swarmnode/content/store"
	"swarmnode/content/store/storetest"
)

// heard collects what a store tells OnBad.
type heard struct {
	mu    sync.Mutex
	refs  []content.Ref
	paths []string
}

func (h *heard) onBad(ref content.Ref, path string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.refs, h.paths = append(h.refs, ref), append(h.paths, path)
}

func (h *heard) bad() []content.Ref {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.refs
}

func find(t *testing.T, number uint32) storetest.Segment {
	t.Helper()
	for _, s := range storetest.Segments() {
		if s.Number == number {
			return s
		}
	}
	t.Fatalf("no segment %d", number)
	return storetest.Segment{}
}

func openDisk(t testing.TB, dir string, cfg store.Config) *store.Disk {
	t.Helper()
	if cfg.Tables == nil {
		cfg.Tables = storetest.Tables
	}
	d, err := store.OpenDisk(dir, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func segmentFile(dir string, s storetest.Segment) string {
	return filepath.Join(dir, "segments", s.Info.Table.BlockCID().String())
}

// flip changes one byte of a file.
func flip(t *testing.T, path string, at int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0x40
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
}

func TestDiskContract(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) storetest.Subject {
		dir, h := t.TempDir(), &heard{}
		cfg := store.Config{OnBad: h.onBad}
		d := openDisk(t, dir, cfg)
		d.LimitFiles(1)
		d.LimitTables(1)
		return storetest.Subject{
			Store: d,
			Put:   func(ref content.Ref, data []byte) error { return d.Put(ref, data) },
			Corrupt: func(t *testing.T, ref content.Ref) {
				s := find(t, ref.Segment)
				flip(t, segmentFile(dir, s), int64(s.Table.Offset(ref.Index))+1)
			},
			Reopen: func(t *testing.T) storetest.Store {
				if err := d.Close(); err != nil {
					t.Fatal(err)
				}
				d = openDisk(t, dir, cfg)
				return d
			},
			Bad: h.bad,
		}
	})
}

func TestReferencesContract(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) storetest.Subject {
		dir, tree, h := t.TempDir(), t.TempDir(), &heard{}
		cfg := store.Config{OnBad: h.onBad}
		r := openReferences(t, dir, tree, "", cfg)
		path := func(ref content.Ref) string { return fmt.Sprintf("pool/%d-%d", ref.Segment, ref.Index) }
		if err := os.Mkdir(filepath.Join(tree, "pool"), 0o755); err != nil {
			t.Fatal(err)
		}
		return storetest.Subject{
			Store: r,
			Put: func(ref content.Ref, data []byte) error {
				tmp := filepath.Join(tree, path(ref)) + ".new"
				if err := os.WriteFile(tmp, append([]byte("ab"), data...), 0o644); err != nil {
					return err
				}
				if err := os.Rename(tmp, filepath.Join(tree, path(ref))); err != nil {
					return err
				}
				return r.Refer(ref, path(ref), 2)
			},
			Corrupt: func(t *testing.T, ref content.Ref) { flip(t, filepath.Join(tree, path(ref)), 4) },
			Reopen: func(t *testing.T) storetest.Store {
				if err := r.Close(); err != nil {
					t.Fatal(err)
				}
				r = openReferences(t, dir, tree, "", cfg)
				return r
			},
			Bad: h.bad,
		}
	})
}
