package store_test

import (
	"bytes"
	"errors"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"testing"

	"pgregory.net/rapid"

	"swarmnode/content"
	"swarmnode/content/store"
	"swarmnode/content/store/storetest"
)

// modelChecks is how many histories are tried unless -rapid.checks says another number: each has many syncs.
const modelChecks = "40"

func TestMain(m *testing.M) {
	flag.Parse()
	if f := flag.Lookup("rapid.checks"); f.Value.String() == f.DefValue {
		_ = f.Value.Set(modelChecks)
	}
	os.Exit(m.Run())
}

// diskModel is a Disk and what should be in it.
type diskModel struct {
	t       *testing.T
	dir     string
	d       *store.Disk
	here    map[content.Ref]bool
	durable map[content.Ref]bool // of these, what survives a kill
	known   map[uint32]bool      // the segments added
	again   map[content.Ref]bool // were damaged after they were durable: if they are put again, the journal's old word is true again
}

var modelSegment = rapid.SampledFrom(storetest.Segments()[:2])

// TestDiskModel compares a Disk with a map: what is here, and what of it survives a kill.
func TestDiskModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		m := &diskModel{t: t, dir: t.TempDir(), here: map[content.Ref]bool{}, durable: map[content.Ref]bool{}, known: map[uint32]bool{}, again: map[content.Ref]bool{}}
		m.d = openDisk(t, m.dir, store.Config{})
		actions := m.changes()
		maps.Copy(actions, m.accidents())
		actions[""] = m.check
		rt.Repeat(actions)
		must(t, m.d.Close())
	})
}

func forget(m map[content.Ref]bool, n uint32, which content.Bitmap) {
	for ref := range m {
		if ref.Segment == n && which.Has(ref.Index) {
			delete(m, ref)
		}
	}
}

func (m *diskModel) check(rt *rapid.T) {
	for _, s := range storetest.Segments()[:2] {
		for i := range s.Info.Chunks {
			got, err := m.d.Chunk(s.Ref(i), nil)
			if m.here[s.Ref(i)] != (err == nil) || m.here[s.Ref(i)] != m.d.Have(s.Number).Has(i) {
				rt.Fatalf("chunk %d of segment %d: %v, want here = %t", i, s.Number, err, m.here[s.Ref(i)])
			}
			if err == nil && !bytes.Equal(got, s.Data[i]) {
				rt.Fatalf("chunk %d of segment %d has wrong bytes", i, s.Number)
			}
		}
	}
	if sum := m.d.SumUsed(); m.d.Used() != sum {
		rt.Fatalf("Used = %d, want %d", m.d.Used(), sum)
	}
}

func (m *diskModel) changes() map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"add": func(rt *rapid.T) {
			s := modelSegment.Draw(rt, "segment")
			must(m.t, m.d.Add(s.Number, s.Info, s.Table))
			m.known[s.Number] = true
		},
		"put": func(rt *rapid.T) {
			s := modelSegment.Draw(rt, "segment")
			i := rapid.Uint32Range(0, s.Info.Chunks-1).Draw(rt, "chunk")
			err := m.d.Put(s.Ref(i), s.Data[i])
			if m.known[s.Number] != (err == nil) || err != nil && !errors.Is(err, store.ErrNotHere) {
				rt.Fatalf("put: %v", err)
			}
			if m.known[s.Number] {
				m.here[s.Ref(i)] = true
			}
		},
		"sync": func(*rapid.T) {
			must(m.t, m.d.Sync(m.t.Context()))
			for ref := range m.here {
				m.durable[ref] = true
			}
		},
		"punch": func(rt *rapid.T) {
			s := modelSegment.Draw(rt, "segment")
			dead := content.Bitmap{rapid.Byte().Draw(rt, "dead")}
			must(m.t, m.d.Punch(s.Number, dead))
			forget(m.here, s.Number, dead)
			forget(m.durable, s.Number, dead)
		},
		"remove": func(rt *rapid.T) {
			s := modelSegment.Draw(rt, "segment")
			must(m.t, m.d.Remove(s.Number))
			forget(m.here, s.Number, content.Full(100))
			forget(m.durable, s.Number, content.Full(100))
			delete(m.known, s.Number)
		},
	}
}

func (m *diskModel) accidents() map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"corrupt": func(rt *rapid.T) { // seen by Verify at any time, by a reader only after a start
			s := modelSegment.Draw(rt, "segment")
			i := rapid.Uint32Range(0, s.Info.Chunks-1).Draw(rt, "chunk")
			if !m.here[s.Ref(i)] {
				rt.Skip("not here")
			}
			flip(m.t, segmentFile(m.dir, s), int64(s.Table.Offset(i)))
			if err := m.d.Verify(s.Ref(i), nil); !errors.Is(err, store.ErrNotHere) {
				rt.Fatalf("Verify of a corrupted chunk: %v", err)
			}
			delete(m.here, s.Ref(i))
			delete(m.durable, s.Ref(i))
			m.again[s.Ref(i)] = true
		},
		"reopen": func(rt *rapid.T) {
			must(m.t, m.d.Close())
			m.d = openDisk(m.t, m.dir, store.Config{})
			for ref := range m.here {
				m.durable[ref] = true
			}
		},
		"kill": func(rt *rapid.T) {
			to := snapshot(m.t, m.dir)
			must(m.t, m.d.Close())
			m.dir, m.d = to, openDisk(m.t, to, store.Config{})
			clear(m.known)
			for _, n := range m.d.Segments() {
				m.known[n] = true
			}
			put := m.here
			m.here = maps.Clone(m.durable)
			for ref := range m.again {
				if _, err := m.d.Chunk(ref, nil); put[ref] && err == nil {
					m.here[ref], m.durable[ref] = true, true
				}
			}
			clear(m.again)
		},
	}
}

func FuzzOpenJournal(f *testing.F) {
	dir := f.TempDir()
	d := openDisk(f, dir, store.Config{})
	for _, s := range storetest.Segments() {
		must(f, d.Add(s.Number, s.Info, s.Table))
		must(f, d.Put(s.Ref(0), s.Data[0]))
	}
	must(f, d.Sync(f.Context()))
	must(f, d.Punch(0, content.Bitmap{1}))
	must(f, d.Remove(7))
	must(f, d.Close())
	whole, err := os.ReadFile(filepath.Join(dir, "journal"))
	must(f, err)
	f.Add(whole)
	f.Add(whole[:len(whole)-2])
	f.Add(append(bytes.Clone(whole[:30]), whole[20:]...))
	f.Fuzz(func(t *testing.T, data []byte) {
		if n, end, skipped := store.Replay(data); end > len(data) || skipped > end || n > len(data)/13 {
			t.Fatalf("%d records, end %d, skipped %d of %d bytes", n, end, skipped, len(data))
		}
		dir := t.TempDir()
		must(t, os.WriteFile(filepath.Join(dir, "journal"), data, 0o644))
		d, err := store.OpenDisk(dir, store.Config{Tables: storetest.Tables})
		if err != nil {
			return
		}
		defer d.Close()
		for _, n := range d.Segments() { // no files: nothing may be here
			if n >= content.MaxSegments || len(d.Have(n)) > 0 {
				t.Fatalf("segment %d with %x", n, d.Have(n))
			}
		}
		s := storetest.Segments()[0]
		if d.Add(s.Number, s.Info, s.Table) == nil {
			must(t, d.Put(s.Ref(1), s.Data[1]))
			must(t, d.Sync(t.Context()))
		}
	})
}

func BenchmarkDiskPutSync(b *testing.B) {
	sizes := make([]int, 256)
	for i := range sizes {
		sizes[i] = 256 << 10
	}
	s := storetest.NewSegment(0, sizes...)
	b.SetBytes(int64(s.Info.Size))
	for b.Loop() {
		dir := b.TempDir()
		d := openDisk(b, dir, store.Config{})
		must(b, d.Add(0, s.Info, s.Table))
		for i, data := range s.Data {
			must(b, d.Put(s.Ref(uint32(i)), data))
		}
		must(b, d.Sync(b.Context()))
		must(b, d.Remove(0))
		must(b, d.Close())
	}
}

func BenchmarkDiskChunk(b *testing.B) {
	sizes := make([]int, 64)
	for i := range sizes {
		sizes[i] = 256 << 10
	}
	s := storetest.NewSegment(0, sizes...)
	d := openDisk(b, b.TempDir(), store.Config{})
	must(b, d.Add(0, s.Info, s.Table))
	for i, data := range s.Data {
		must(b, d.Put(s.Ref(uint32(i)), data))
	}
	buf := make([]byte, content.MaxChunkSize)
	b.SetBytes(256 << 10)
	b.ReportAllocs()
	for n := uint32(0); b.Loop(); n++ {
		if _, err := d.Chunk(s.Ref(n%64), buf); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReferencesChunk(b *testing.B) {
	sizes := make([]int, 64)
	for i := range sizes {
		sizes[i] = 256 << 10
	}
	s := storetest.NewSegment(0, sizes...)
	tree := b.TempDir()
	r := openReferences(b, b.TempDir(), tree, "", store.Config{})
	publish(b, r, tree, "f", s)
	buf := make([]byte, content.MaxChunkSize)
	b.SetBytes(256 << 10)
	b.ReportAllocs()
	for n := uint32(0); b.Loop(); n++ {
		if _, err := r.Chunk(s.Ref(n%64), buf); err != nil {
			b.Fatal(err)
		}
	}
}
