package store_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"swarmnode/content"
	"swarmnode/content/store"
	"swarmnode/content/store/storetest"
)

func TestDiskAddChecksTheTable(t *testing.T) {
	d := openDisk(t, t.TempDir(), store.Config{})
	defer d.Close()
	s := storetest.Segments()[0]
	info := s.Info
	info.Table = content.Sum([]byte("another table of the same size"))
	if err := d.Add(s.Number, info, s.Table); !errors.Is(err, store.ErrOtherTable) {
		t.Errorf("a table that is not the one named: %v, want ErrOtherTable", err)
	}
}

// What is found in a file without a journal is taken for a chunk only if its bytes are right.
func TestDiskAdoptsOnlyWhatIsRight(t *testing.T) {
	dir := t.TempDir()
	d := openDisk(t, dir, store.Config{})
	s := storetest.Segments()[0]
	must(t, d.Add(s.Number, s.Info, s.Table))
	must(t, d.Put(s.Ref(0), s.Data[0]))
	must(t, d.Put(s.Ref(1), s.Data[1]))
	must(t, d.Close())
	must(t, os.Remove(filepath.Join(dir, "journal")))
	path := filepath.Join(dir, "segments", s.Info.Table.BlockCID().String())
	raw, err := os.ReadFile(path)
	must(t, err)
	raw[0] ^= 1 // of chunk 0
	must(t, os.WriteFile(path, raw, 0o644))
	d = openDisk(t, dir, store.Config{})
	defer d.Close()
	must(t, d.Add(s.Number, s.Info, s.Table))
	if have := d.Have(s.Number); have.Has(0) || !have.Has(1) {
		t.Errorf("have %08b, want chunk 1 and not 0", have)
	}
	if got, err := d.Chunk(s.Ref(1), nil); err != nil || !bytes.Equal(got, s.Data[1]) {
		t.Errorf("chunk 1: %d bytes, %v", len(got), err)
	}
}
