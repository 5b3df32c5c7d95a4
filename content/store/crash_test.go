package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"swarmnode/content"
	"swarmnode/content/store"
	"swarmnode/content/store/storetest"
)

// snapshot copies a store's directory: what a kill at this moment leaves.
func snapshot(t *testing.T, dir string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return to
}

// wantSafe opens what a crash left: everything in promised is there, and nothing is served wrongly.
func wantSafe(t *testing.T, dir string, promised map[uint32]content.Bitmap) {
	t.Helper()
	h := &heard{}
	d := openDisk(t, dir, store.Config{OnBad: h.onBad})
	defer d.Close()
	for _, s := range storetest.Segments() {
		if err := d.Add(s.Number, s.Info, s.Table); err != nil {
			t.Fatal(err)
		}
		for i := range s.Info.Chunks {
			got, err := d.Chunk(s.Ref(i), nil)
			if err != nil && promised[s.Number].Has(i) {
				t.Fatalf("chunk %d of segment %d was acknowledged and is lost: %v", i, s.Number, err)
			}
			if err == nil && !bytes.Equal(got, s.Data[i]) {
				t.Fatalf("chunk %d of segment %d has wrong bytes", i, s.Number)
			}
		}
	}
	if used := d.SumUsed(); d.Used() != used {
		t.Errorf("Used = %d, the chunks here have %d bytes", d.Used(), used)
	}
}

func synced(d *store.Disk) map[uint32]content.Bitmap {
	m := map[uint32]content.Bitmap{}
	for _, n := range d.Segments() {
		m[n] = d.Synced(n)
	}
	return m
}

func TestDiskSurvivesKills(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d := openDisk(t, dir, store.Config{})
	segs := storetest.Segments()[:3]
	step := 0
	check := func() {
		step++
		promised := synced(d)
		wantSafe(t, snapshot(t, dir), promised)
		for n, set := range promised {
			have := d.Have(n)
			for i := range uint32(len(set) * 8) {
				if set.Has(i) && !have.Has(i) {
					t.Fatalf("step %d: chunk %d of segment %d is synced and not in Have", step, i, n)
				}
			}
		}
	}
	for _, s := range segs {
		must(t, d.Add(s.Number, s.Info, s.Table))
		check()
		for i := range s.Info.Chunks {
			must(t, d.Put(s.Ref(i), s.Data[i]))
			if i%3 == 1 {
				check()
				must(t, d.Sync(t.Context()))
				check()
			}
		}
	}
	must(t, d.Sync(t.Context()))
	must(t, d.Punch(0, content.Bitmap{0b0100_0110}))
	check()
	must(t, d.Remove(1))
	check()
	must(t, d.Put(segs[0].Ref(1), segs[0].Data[1]))
	must(t, d.Sync(t.Context()))
	check()
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A journal cut off anywhere, or with a byte changed anywhere, may lose chunks but never serves wrong ones.
func TestDiskTornJournal(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d := openDisk(t, dir, store.Config{})
	for _, s := range storetest.Segments()[:2] {
		must(t, d.Add(s.Number, s.Info, s.Table))
		for i := range s.Info.Chunks {
			must(t, d.Put(s.Ref(i), s.Data[i]))
			must(t, d.Sync(t.Context()))
		}
	}
	must(t, d.Punch(0, content.Bitmap{0b100}))
	must(t, d.Close())
	whole, err := os.ReadFile(filepath.Join(dir, "journal"))
	must(t, err)
	for n := 0; n <= len(whole); n += 11 { // every field of a record is hit
		to := snapshot(t, dir)
		must(t, os.WriteFile(filepath.Join(to, "journal"), whole[:n], 0o644))
		wantSafe(t, to, nil)
		changed := bytes.Clone(whole)
		changed[min(n, len(changed)-1)] ^= 0x10
		to = snapshot(t, dir)
		must(t, os.WriteFile(filepath.Join(to, "journal"), changed, 0o644))
		if n > 5 && n < 8 {
			continue // the version is in these bytes, and another version is refused
		}
		wantSafe(t, to, nil)
	}
	// Without a journal everything is found again by its hash.
	must(t, os.Remove(filepath.Join(dir, "journal")))
	wantSafe(t, dir, map[uint32]content.Bitmap{0: {0b1111_1011}, 1: {0b0111_1111}})
}

func TestDiskJournalStaysShort(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d := openDisk(t, dir, store.Config{})
	s := storetest.Segments()[2]
	for range 4 {
		for range 100 { // many adds and removes
			must(t, d.Add(s.Number, s.Info, s.Table))
			must(t, d.Put(s.Ref(0), s.Data[0][:]))
			must(t, d.Remove(s.Number))
		}
	}
	must(t, d.Close())
	d = openDisk(t, dir, store.Config{})
	if st, err := os.Stat(filepath.Join(dir, "journal")); err != nil || st.Size() > 2<<20 {
		t.Errorf("the journal of an empty store has %d bytes, %v", st.Size(), err)
	}
	if n := d.Segments(); len(n) != 0 {
		t.Errorf("removed segments are back: %v", n)
	}
}

func TestDiskFull(t *testing.T) {
	dir := t.TempDir()
	d := openDisk(t, dir, store.Config{})
	var noWrite, noSync atomic.Value // part of the file names that fail
	noWrite.Store("\x00")            // no name has it
	noSync.Store("\x00")
	fails := func(v *atomic.Value) func(string) error {
		return func(name string) error {
			if strings.Contains(name, v.Load().(string)) {
				return &os.PathError{Op: "write", Path: name, Err: syscall.ENOSPC}
			}
			return nil
		}
	}
	d.FailWith(fails(&noWrite), fails(&noSync))
	s := storetest.Segments()[0]
	file := filepath.Base(segmentFile(dir, s))
	must(t, d.Add(0, s.Info, s.Table))
	must(t, d.Put(s.Ref(0), s.Data[0]))
	must(t, d.Sync(t.Context()))
	wantFull := func(err error, what string) {
		t.Helper()
		if !errors.Is(err, store.ErrDiskFull) {
			t.Errorf("%s: %v, want ErrDiskFull", what, err)
		}
		if want := (content.Bitmap{1}); !bytes.Equal(d.Synced(0), want) {
			t.Errorf("%s: synced %x, want %x", what, d.Synced(0), want)
		}
		wantSafe(t, snapshot(t, dir), synced(d))
	}
	noWrite.Store(file)
	wantFull(d.Put(s.Ref(1), s.Data[1]), "put")
	noWrite.Store("journal")
	must(t, d.Put(s.Ref(1), s.Data[1]))
	wantFull(d.Sync(t.Context()), "write of the journal")
	noWrite.Store("\x00")
	noSync.Store("journal")
	wantFull(d.Sync(t.Context()), "sync of the journal")
	wantFull(d.Sync(t.Context()), "rewrite of the journal")
	noSync.Store(file)
	wantFull(d.Sync(t.Context()), "sync of the data")
	if d.Have(0).Has(1) {
		t.Error("a chunk whose sync failed is still listed")
	}
	noSync.Store("\x00")
	must(t, d.Put(s.Ref(1), s.Data[1]))
	must(t, d.Sync(t.Context()))
	wantSafe(t, snapshot(t, dir), map[uint32]content.Bitmap{0: {3}})
	noWrite.Store("journal")
	must(t, d.Punch(0, content.Bitmap{1})) // both work on a full disk
	must(t, d.Remove(0))
	noWrite.Store("\x00")
	must(t, d.Close())
	if d = openDisk(t, dir, store.Config{}); len(d.Segments()) != 0 {
		t.Errorf("a removed segment is back")
	}
}

func TestDiskRunSyncs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		d := openDisk(t, dir, store.Config{SyncBytes: 50_000, SyncInterval: time.Hour})
		ctx, cancel := context.WithCancel(t.Context())
		end := make(chan error)
		go func() { end <- d.Run(ctx) }()
		s := storetest.Segments()[0]
		must(t, d.Add(0, s.Info, s.Table))
		must(t, d.Put(s.Ref(0), s.Data[0]))
		synctest.Wait()
		if d.Synced(0).Has(0) {
			t.Error("synced before its time")
		}
		time.Sleep(time.Hour + time.Minute)
		synctest.Wait()
		if !d.Synced(0).Has(0) {
			t.Error("not synced after the interval")
		}
		must(t, d.Put(s.Ref(6), s.Data[6]))
		synctest.Wait()
		if !d.Synced(0).Has(6) {
			t.Error("not synced after SyncBytes")
		}
		must(t, d.Put(s.Ref(7), s.Data[7]))
		cancel()
		must(t, <-end)
		if !d.Synced(0).Has(7) {
			t.Error("not synced at the end")
		}
	})
}

func TestDiskBudget(t *testing.T) {
	t.Parallel()
	pack := int64(500)
	d := openDisk(t, t.TempDir(), store.Config{Budget: 2 << 20, Overhead: func() int64 { return pack }})
	s := storetest.Segments()[2]
	must(t, d.Add(s.Number, s.Info, s.Table))
	must(t, d.CheckBudget(2<<20-500))
	must(t, d.Put(s.Ref(0), s.Data[0]))
	must(t, d.CheckBudget(1<<20-500))
	err := d.CheckBudget(3 << 20)
	var b *store.BudgetError
	if !errors.As(err, &b) || *b != (store.BudgetError{Need: 3 << 20, Free: 1<<20 - 500, Budget: 2 << 20}) {
		t.Fatalf("CheckBudget: %v", err)
	}
	if want := "3.0 MiB are needed, but only 1024 KiB of the 2.0 MiB given are left"; err.Error() != want {
		t.Errorf("error %q, want %q", err, want)
	}
	d = openDisk(t, t.TempDir(), store.Config{})
	if err := d.CheckBudget(1 << 60); !errors.As(err, &b) || b.Budget != 0 || !strings.Contains(err.Error(), "the disk has only") {
		t.Errorf("CheckBudget of an exabyte: %v", err)
	}
	for _, c := range []struct{ budget, free, want int64 }{
		{0, 100 << 30, 90 << 30}, // a tenth stays free
		{0, 320 << 20, 256 << 20},
		{0, 10 << 20, 0},
		{1 << 40, 100 << 30, 100<<30 - 64<<20}, // who gives a budget has thought about it
	} {
		d := openDisk(t, t.TempDir(), store.Config{Budget: c.budget})
		if got := d.ToSpare(c.free); got != c.want {
			t.Errorf("with a budget of %d and %d free: %d to spare, want %d", c.budget, c.free, got, c.want)
		}
	}
}

// The real thing: a file system of 4 MiB.
func TestDiskFullForReal(t *testing.T) {
	if os.Getenv("SWARMNODE_E2E") != "1" || os.Getuid() != 0 {
		t.Skip("mounts a small tmpfs: needs root and SWARMNODE_E2E=1")
	}
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=4m", "none", dir).CombinedOutput(); err != nil {
		t.Skipf("mount a tmpfs: %v: %s", err, out)
	}
	defer exec.Command("umount", "-l", dir).Run()
	var segs []storetest.Segment
	for n := range uint32(6) {
		segs = append(segs, storetest.NewSegment(n, content.MaxChunkSize))
	}
	tables := func(d content.Digest) (*content.Table, error) {
		for _, s := range segs {
			if s.Info.Table == d {
				return s.Table, nil
			}
		}
		return nil, fmt.Errorf("no table %s", d)
	}
	d := openDisk(t, dir, store.Config{Tables: tables})
	stored := 0
	for _, s := range segs {
		must(t, d.Add(s.Number, s.Info, s.Table))
		if err := errors.Join(d.Put(s.Ref(0), s.Data[0]), d.Sync(t.Context())); err != nil {
			if !errors.Is(err, store.ErrDiskFull) {
				t.Fatal(err)
			}
			break
		}
		stored++
	}
	if stored < 2 || stored == len(segs) {
		t.Fatalf("%d chunks of 1 MiB fit into 4 MiB", stored)
	}
	must(t, d.Remove(0))
	must(t, d.Put(segs[stored].Ref(0), segs[stored].Data[0]))
	must(t, d.Close())
	d = openDisk(t, dir, store.Config{Tables: tables})
	for _, s := range segs[1 : stored+1] {
		wantSegment(t, d, s)
	}
	must(t, d.Close())
}
