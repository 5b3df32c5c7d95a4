package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"swarmnode/content"
	"swarmnode/content/store"
)

func openPack(t testing.TB, path string) *store.Pack {
	t.Helper()
	p, err := store.OpenPack(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func block(n int) []byte { return bytes.Repeat(fmt.Appendf(nil, "block %d;", n), 1+n*13%200) }

func TestPackKeeps(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pack")
	p := openPack(t, path)
	for n := range 100 {
		d, err := p.Put(block(n))
		if err != nil || d != content.Sum(block(n)) {
			t.Fatal(d, err)
		}
		size := p.Bytes()
		if _, err := p.Put(block(n)); err != nil || p.Bytes() != size {
			t.Fatalf("a second Put of the same block: %d -> %d bytes, %v", size, p.Bytes(), err)
		}
	}
	must(t, p.Sync())
	for range 2 {
		for n := range 100 {
			if got, ok := p.Block(content.Sum(block(n))); !ok || !bytes.Equal(got, block(n)) {
				t.Fatalf("block %d: %t", n, ok)
			}
		}
		must(t, p.Close())
		p = openPack(t, path)
	}
	if _, ok := p.Block(content.Digest{}); ok || p.Has(content.Digest{}) {
		t.Error("a block that was never put is here")
	}
	for _, b := range [][]byte{nil, make([]byte, content.MaxBlockSize+1)} {
		if _, err := p.Put(b); err == nil {
			t.Errorf("Put of %d bytes was not refused", len(b))
		}
	}
}

func TestPackTornAndDamaged(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "pack")
	p := openPack(t, path)
	var ends []int64
	for n := range 6 {
		_, err := p.Put(block(n))
		must(t, err)
		ends = append(ends, p.Bytes())
	}
	must(t, p.Close())
	whole, err := os.ReadFile(path)
	must(t, err)
	check := func(data []byte, wantHere func(n int) bool) {
		t.Helper()
		must(t, os.WriteFile(path, data, 0o644))
		p := openPack(t, path)
		defer p.Close()
		for n := range 6 {
			got, ok := p.Block(content.Sum(block(n)))
			if ok != wantHere(n) || ok && !bytes.Equal(got, block(n)) {
				t.Fatalf("pack of %d bytes: block %d here = %t", len(data), n, ok)
			}
		}
		_, err := p.Put(block(7)) // it goes on
		must(t, err)
		must(t, p.Close())
		p = openPack(t, path)
		if _, ok := p.Block(content.Sum(block(7))); !ok {
			t.Fatalf("pack of %d bytes: a block put after the damage is lost", len(data))
		}
	}
	for cut := 0; cut <= len(whole); cut += 23 {
		check(whole[:cut], func(n int) bool { return ends[n] <= int64(cut) })
	}
	for at := 8; at < len(whole); at += 23 { // one byte changed costs one block
		changed := bytes.Clone(whole)
		changed[at] ^= 1
		check(changed, func(n int) bool {
			return !(int64(at) < ends[n] && (n == 0 || int64(at) >= ends[n-1]))
		})
	}
	copy(whole, "swarmp2\n")
	must(t, os.WriteFile(path, whole, 0o644))
	if _, err := store.OpenPack(path); err == nil || !strings.Contains(err.Error(), "another version") {
		t.Errorf("a pack of another version: %v", err)
	}
}

func TestPackCompact(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "pack")
	p := openPack(t, path)
	for n := range 200 {
		_, err := p.Put(block(n))
		must(t, err)
	}
	before := p.Bytes()
	var readers sync.WaitGroup
	for range 3 {
		readers.Go(func() {
			for range 30 {
				for n := 0; n < 200; n += 2 {
					if got, ok := p.Block(content.Sum(block(n))); !ok || !bytes.Equal(got, block(n)) {
						t.Errorf("block %d during a compaction: %t", n, ok)
						return
					}
				}
			}
		})
	}
	even := map[content.Digest]bool{}
	for n := 0; n < 200; n += 2 {
		even[content.Sum(block(n))] = true
	}
	for range 5 {
		must(t, p.Compact(func(d content.Digest) bool { return even[d] }))
	}
	readers.Wait()
	if after := p.Bytes(); after >= before*6/10 {
		t.Errorf("%d -> %d bytes after dropping half", before, after)
	}
	must(t, p.Close())
	must(t, os.WriteFile(path+".new", []byte("a kill left this"), 0o644))
	p = openPack(t, path)
	for n := range 200 {
		if _, ok := p.Block(content.Sum(block(n))); ok != (n%2 == 0) {
			t.Errorf("block %d after the compaction: %t", n, ok)
		}
	}
	must(t, p.Close())
	if err := p.Compact(func(content.Digest) bool { return true }); !errors.Is(err, store.ErrClosed) {
		t.Errorf("Compact after Close: %v", err)
	}
	if _, err := p.Put(block(1000)); !errors.Is(err, store.ErrClosed) {
		t.Errorf("Put after Close: %v", err)
	}
}

func TestPackFull(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pack")
	p := openPack(t, path)
	var writeErr, syncErr error
	p.FailWith(func(string) error { return writeErr }, func(string) error { return syncErr })
	put := func(n int) error { _, err := p.Put(block(n)); return err }
	must(t, put(1))
	must(t, p.Sync())
	writeErr = syscall.ENOSPC
	if err := put(2); !errors.Is(err, store.ErrDiskFull) || p.Has(content.Sum(block(2))) {
		t.Errorf("Put: %v", err)
	}
	if err := p.Compact(func(content.Digest) bool { return true }); !errors.Is(err, store.ErrDiskFull) {
		t.Errorf("Compact: %v", err)
	}
	writeErr = nil
	must(t, put(3))
	syncErr = syscall.ENOSPC
	if err := p.Sync(); !errors.Is(err, store.ErrDiskFull) || p.Has(content.Sum(block(3))) {
		t.Errorf("Sync: %v", err)
	}
	syncErr = nil
	must(t, put(4))
	must(t, p.Close())
	p = openPack(t, path)
	for n, want := range []bool{1: true, 2: false, 3: false, 4: true} {
		if got := p.Has(content.Sum(block(n))); got != want {
			t.Errorf("block %d here = %t, want %t", n, got, want)
		}
	}
}

func FuzzOpenPack(f *testing.F) {
	path := filepath.Join(f.TempDir(), "seed")
	p := openPack(f, path)
	for n := range 3 {
		_, err := p.Put(block(n))
		must(f, err)
	}
	must(f, p.Close())
	whole, err := os.ReadFile(path)
	must(f, err)
	f.Add(whole)
	f.Add(whole[:len(whole)-3])
	f.Add(append(bytes.Clone(whole[:100]), whole[60:]...))
	f.Add([]byte("swarmp1\n\xf5pb\x01\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "pack")
		must(t, os.WriteFile(path, data, 0o644))
		p, err := store.OpenPack(path)
		if err != nil {
			return
		}
		d, err := p.Put([]byte("one more"))
		must(t, err)
		must(t, p.Close())
		p = openPack(t, path)
		if got, ok := p.Block(d); !ok || string(got) != "one more" {
			t.Fatal("a block put into a damaged pack is lost")
		}
	})
}
