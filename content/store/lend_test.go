package store_test

import (
	"bytes"
	"io"
	"os"
	"testing"

	"swarmnode/content"
	"swarmnode/content/store"
	"swarmnode/content/store/storetest"
)

// lent reads a chunk as the kernel would send it.
func lent(t *testing.T, f *os.File, offset int64, size int) []byte {
	t.Helper()
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	data := make([]byte, size)
	if _, err := io.ReadFull(f, data); err != nil {
		t.Fatal(err)
	}
	return data
}

// filled makes a store with one segment of three chunks of 8 KiB, each on blocks of its own.
func filled(t *testing.T, dir string) (*store.Disk, storetest.Segment) {
	t.Helper()
	s := storetest.NewSegment(3, 8192, 8192, 8192)
	d := openDisk(t, dir, store.Config{Tables: func(content.Digest) (*content.Table, error) { return s.Table, nil }})
	if err := d.Add(s.Number, s.Info, s.Table); err != nil {
		t.Fatal(err)
	}
	for i, data := range s.Data {
		if err := d.Put(s.Ref(uint32(i)), data); err != nil {
			t.Fatal(err)
		}
	}
	return d, s
}

// TestLendVerified: only what this process has hashed is lent; two readers have a position each.
func TestLendVerified(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d, s := filled(t, dir)
	if _, _, _, ok := d.Lend(content.Ref{Segment: 4}); ok {
		t.Error("a chunk of an unknown segment is lent")
	}
	if _, _, _, ok := d.Lend(s.Ref(3)); ok {
		t.Error("a chunk past the end is lent")
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if _, _, _, ok := d.Lend(s.Ref(0)); ok {
		t.Error("a closed store lends")
	}
	d = openDisk(t, dir, store.Config{Tables: func(content.Digest) (*content.Table, error) { return s.Table, nil }})
	if _, _, _, ok := d.Lend(s.Ref(1)); ok {
		t.Error("a chunk that was not hashed since the start is lent")
	}
	if _, err := d.Chunk(s.Ref(1), nil); err != nil {
		t.Fatal(err)
	}
	a, offset, releaseA, ok := d.Lend(s.Ref(1))
	if !ok || offset != 8192 {
		t.Fatalf("offset %d, %v", offset, ok)
	}
	b, _, releaseB, ok := d.Lend(s.Ref(1))
	if !ok || a == b {
		t.Fatalf("two readers share a file: %v", ok)
	}
	if !bytes.Equal(lent(t, a, offset, 8192), s.Data[1]) || !bytes.Equal(lent(t, b, offset, 8192), s.Data[1]) {
		t.Error("wrong bytes")
	}
	releaseA()
	releaseB()
	c, _, release, ok := d.Lend(s.Ref(1))
	if !ok || c != a && c != b {
		t.Error("a file that was given back is not used again")
	}
	release()
}

// TestLendPunch: the bytes of a lent chunk outlast its end in the store and go when it is given back, unless it was put again.
func TestLendPunch(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d, s := filled(t, dir)
	zero := make([]byte, 8192)
	inFile := func(i int) []byte {
		f, err := os.Open(segmentFile(dir, s))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		return lent(t, f, int64(i)*8192, 8192)
	}
	f, offset, release, ok := d.Lend(s.Ref(1))
	_, _, again, ok2 := d.Lend(s.Ref(1))
	if !ok || !ok2 {
		t.Fatal("not lent")
	}
	if err := d.Punch(s.Number, content.Full(3)); err != nil {
		t.Fatal(err)
	}
	if d.Has(s.Ref(1)) || !bytes.Equal(inFile(0), zero) {
		t.Errorf("chunk 1 is here: %v; or chunk 0 was not punched", d.Has(s.Ref(1)))
	}
	again()
	if !bytes.Equal(lent(t, f, offset, 8192), s.Data[1]) {
		t.Error("a chunk was punched while it was sent")
	}
	release()
	if !bytes.Equal(inFile(1), zero) {
		t.Error("a chunk that was given back still has its bytes")
	}

	if err := d.Put(s.Ref(2), s.Data[2]); err != nil {
		t.Fatal(err)
	}
	f, offset, release, ok = d.Lend(s.Ref(2))
	if err := d.Punch(s.Number, content.Full(3)); err != nil || !ok {
		t.Fatal(ok, err)
	}
	if err := d.Put(s.Ref(2), s.Data[2]); err != nil {
		t.Fatal(err)
	}
	release()
	if data, err := d.Chunk(s.Ref(2), nil); err != nil || !bytes.Equal(data, s.Data[2]) {
		t.Errorf("a chunk that was put again while it was sent: %v", err)
	}
	_, _ = f, offset
}

// TestLendRemove: a segment that is removed can be sent to the end, and one that takes its place is not mixed up with it.
func TestLendRemove(t *testing.T) {
	t.Parallel()
	d, s := filled(t, t.TempDir())
	f, offset, release, ok := d.Lend(s.Ref(0))
	if !ok {
		t.Fatal("not lent")
	}
	if err := d.Remove(s.Number); err != nil {
		t.Fatal(err)
	}
	if _, _, _, ok := d.Lend(s.Ref(0)); ok {
		t.Error("a chunk of a removed segment is lent")
	}
	if err := d.Add(s.Number, s.Info, s.Table); err != nil {
		t.Fatal(err)
	}
	if err := d.Put(s.Ref(0), s.Data[0]); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(lent(t, f, offset, 8192), s.Data[0]) {
		t.Error("the bytes of a removed segment were gone while they were sent")
	}
	release()
	next, _, release, ok := d.Lend(s.Ref(0))
	if !ok || next == f {
		t.Errorf("the file of the removed segment is lent again: %v", ok)
	}
	release()
}
