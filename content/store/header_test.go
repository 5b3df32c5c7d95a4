package store_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"swarmnode/content"
	"swarmnode/content/store"
)

// Each bit of the first bytes flipped is damage and no other version: nothing is lost, and the next open finds it mended.
func TestHeaderBits(t *testing.T) {
	t.Parallel()
	step := 9 // one bit of each byte, each time another one
	if thorough {
		step = 1
	}
	for bit := 0; bit < 64; bit += step {
		dir := t.TempDir()
		s := cutSegments()[1]
		open := func() *store.Disk {
			d, err := store.OpenDisk(dir, store.Config{Tables: cutTables})
			if err != nil {
				t.Fatalf("bit %d: %v", bit, err)
			}
			return d
		}
		flip := func(path string) {
			raw, err := os.ReadFile(path)
			must(t, err)
			raw[bit/8] ^= 1 << (bit % 8)
			must(t, os.WriteFile(path, raw, 0o600))
		}
		d := open()
		must(t, d.Add(s.Number, s.Info, s.Table))
		for i := range s.Info.Chunks {
			must(t, d.Put(s.Ref(i), s.Data[i]))
		}
		must(t, d.Close())
		flip(filepath.Join(dir, "journal"))
		for range 2 {
			d = open()
			if got, want := d.Synced(s.Number), content.Full(s.Info.Chunks); !bytes.Equal(got, want) {
				t.Errorf("bit %d: synced %x, want %x", bit, got, want)
			}
			must(t, d.Close())
		}
		if raw, err := os.ReadFile(filepath.Join(dir, "journal")); err != nil || !strings.HasPrefix(string(raw), "swarmj1\n") {
			t.Errorf("bit %d: the journal begins with %.8q, %v", bit, raw, err)
		}

		path := filepath.Join(dir, "pack")
		p, err := store.OpenPack(path)
		must(t, err)
		id, err := p.Put([]byte("block"))
		must(t, err)
		must(t, p.Close())
		flip(path)
		for range 2 {
			if p, err = store.OpenPack(path); err != nil {
				t.Fatalf("bit %d: %v", bit, err)
			}
			if got, ok := p.Block(id); !ok || string(got) != "block" {
				t.Errorf("bit %d: the block is %q, %t", bit, got, ok)
			}
			must(t, p.Close())
		}
		if raw, err := os.ReadFile(path); err != nil || !strings.HasPrefix(string(raw), "swarmp1\n") {
			t.Errorf("bit %d: the pack begins with %.8q, %v", bit, raw, err)
		}
	}
}

// A file of another version is left alone.
func TestOtherVersion(t *testing.T) {
	for _, version := range []string{"2", "4", "7", "8"} {
		dir := t.TempDir()
		for name, header := range map[string]string{"journal": "swarmj", "pack": "swarmp"} {
			want := header + version + "\nsomething else"
			path := filepath.Join(dir, name)
			must(t, os.WriteFile(path, []byte(want), 0o600))
			var err error
			if name == "journal" {
				_, err = store.OpenDisk(dir, store.Config{Tables: cutTables})
			} else {
				_, err = store.OpenPack(path)
			}
			if err == nil || !strings.Contains(err.Error(), "another version") || !strings.Contains(err.Error(), path) {
				t.Errorf("%s of version %s: %v", name, version, err)
			}
			if got, err := os.ReadFile(path); err != nil || string(got) != want {
				t.Errorf("%s of version %s was changed: %q, %v", name, version, got, err)
			}
		}
	}
}
