package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"swarmnode/content"
	"swarmnode/content/durable"
	"swarmnode/content/durable/faulty"
	"swarmnode/content/store"
)

// landed is a chunk that was appended.
type landed struct {
	ref  content.Ref
	data []byte
}

// landing is Arrivals at work on a recording file system, and what it has promised when.
type landing struct {
	t   *testing.T
	fs  *faulty.FS
	dir string
	a   *store.Arrivals
	rng *rand.Rand
	all []landed

	kept  []int // how many of all were promised after so many operations: pairs
	after []int
}

func newLanding(t *testing.T, seed uint64) *landing {
	dir := t.TempDir()
	l := &landing{t: t, fs: newFaulty(t, dir), dir: dir, rng: rand.New(rand.NewPCG(seed, 9))}
	var err error
	l.a, err = store.OpenArrivals(filepath.Join(dir, "in"), store.Config{FS: l.fs})
	must(t, err)
	_, err = l.a.Start(3)
	must(t, err)
	return l
}

func (l *landing) append(size int) {
	l.t.Helper()
	data := make([]byte, size)
	for i := range data {
		data[i] = byte(l.rng.Uint32())
	}
	ref, offset, closed, err := l.a.Append(content.Chunk{Digest: content.Sum(data), Size: uint32(size)}, data)
	must(l.t, err)
	if closed != nil {
		l.t.Fatalf("a segment of a few bytes was closed")
	}
	if got, err := os.ReadFile(filepath.Join(l.dir, "in", store.ArrivalFile(ref.Segment))); err != nil || !bytes.Equal(got[offset:], data) {
		l.t.Fatalf("chunk %+v is not at %d: %v", ref, offset, err)
	}
	if found, ok := l.a.Find(content.Sum(data)); !ok || found != ref {
		l.t.Fatalf("chunk %+v is found at %+v, %v", ref, found, ok)
	}
	l.all = append(l.all, landed{ref, data})
}

func (l *landing) sync() {
	l.t.Helper()
	must(l.t, l.a.Sync(context.Background()))
	l.kept, l.after = append(l.kept, len(l.all)), append(l.after, l.fs.Len())
}

// syncFull is sync when all segments are closed.
func (l *landing) syncFull() {
	l.t.Helper()
	must(l.t, l.a.SyncFull())
	l.kept, l.after = append(l.kept, len(l.all)), append(l.after, l.fs.Len())
}

func (l *landing) flush() {
	l.t.Helper()
	_, err := l.a.Flush()
	must(l.t, err)
}

// present reads what arrivals that were opened again have, the dumb way.
func present(t *testing.T, a *store.Arrivals, dir string) map[content.Ref][]byte {
	t.Helper()
	list, err := a.Start(3)
	must(t, err)
	if n, table := a.Growing(); table != nil {
		list = append(list, store.Arrived{Number: n, Table: table})
	}
	got := map[content.Ref][]byte{}
	for i, s := range list {
		if s.Number != uint32(3+i) {
			t.Fatalf("segment %d where %d should follow", s.Number, 3+i)
		}
		data, err := os.ReadFile(filepath.Join(dir, store.ArrivalFile(s.Number)))
		must(t, err)
		if len(data) != int(s.Table.Size()) {
			t.Fatalf("segment %d has %d bytes and a table of %d", s.Number, len(data), s.Table.Size())
		}
		for c := range s.Table.Len() {
			chunk := data[s.Table.Offset(c):s.Table.Offset(c+1)]
			if content.Sum(chunk) != s.Table.Chunk(c).Digest {
				t.Fatalf("chunk %d of segment %d has wrong bytes", c, s.Number)
			}
			got[content.Ref{Segment: s.Number, Index: c}] = chunk
		}
	}
	return got
}

// TestArrivalsSurviveCrashes cuts the power, or kills the process, between any two writes. What Sync has acknowledged is there, in
// its place, and what is there is right. Then it goes on, and a second cut does no more harm.
func TestArrivalsSurviveCrashes(t *testing.T) {
	t.Parallel()
	seeds := uint64(2)
	if thorough {
		seeds = 20
	}
	for seed := range seeds {
		l := newLanding(t, seed)
		for range 6 {
			for range 1 + l.rng.IntN(3) {
				l.append(1 + l.rng.IntN(6000))
			}
			switch l.rng.IntN(4) {
			case 0:
				l.flush()
				l.sync()
			case 1:
				l.sync()
			case 2:
				l.flush()
				l.syncFull()
			}
		}
		l.sync()
		must(t, l.a.Close())
		for n := 0; n <= l.fs.Len(); n++ {
			for _, c := range append(faulty.PowerCuts(seed, 2), faulty.Killed) {
				l.crash(n, c)
			}
		}
	}
}

func (l *landing) crash(n int, c faulty.Crash) {
	l.t.Helper()
	base, err := os.MkdirTemp("", "landing")
	must(l.t, err)
	defer os.RemoveAll(base)
	fs, err := l.fs.Crash(n, c, base)
	must(l.t, err)
	dir := filepath.Join(base, "in")
	a, err := store.OpenArrivals(dir, store.Config{FS: fs})
	must(l.t, err)
	got := present(l.t, a, dir)
	promised := 0
	for i, k := range l.kept {
		if l.after[i] <= n {
			promised = k
		}
	}
	for _, x := range l.all[:promised] {
		if !bytes.Equal(got[x.ref], x.data) {
			l.t.Fatalf("after %d operations, %s: chunk %+v was acknowledged and is lost", n, c.Name, x.ref)
		}
	}
	data := []byte(fmt.Sprint("more ", n, c.Name))
	ref, _, _, err := a.Append(content.Chunk{Digest: content.Sum(data), Size: uint32(len(data))}, data)
	must(l.t, err)
	must(l.t, a.Sync(context.Background()))
	must(l.t, a.Close())
	a, err = store.OpenArrivals(dir, store.Config{FS: fs})
	must(l.t, err)
	defer a.Close()
	if got := present(l.t, a, dir); !bytes.Equal(got[ref], data) {
		l.t.Fatalf("after %d operations, %s: what came after the crash is lost", n, c.Name)
	}
}

// TestArrivalsFail makes each operation fail once: nothing that was acknowledged is lost, and after another Start it goes on.
func TestArrivalsFail(t *testing.T) {
	t.Parallel()
	broken := errors.New("no such luck")
	for fail := 0; ; fail++ {
		dir := t.TempDir()
		fs, n := newFaulty(t, dir), 0
		a, err := store.OpenArrivals(dir, store.Config{FS: fs})
		must(t, err)
		_, err = a.Start(3)
		must(t, err)
		fs.Fault = func(faulty.Op) error {
			if n++; n == fail+1 {
				return broken
			}
			return nil
		}
		var acknowledged []landed
		var some []landed
		var failed error
		for i := 0; i < 4 && failed == nil; i++ {
			data := bytes.Repeat([]byte{byte(i + 1)}, 1000+i)
			ref, _, _, err := a.Append(content.Chunk{Digest: content.Sum(data), Size: uint32(len(data))}, data)
			if failed = err; err != nil {
				break
			}
			some = append(some, landed{ref, data})
			if i == 1 {
				_, err := a.Flush()
				must(t, err)
			}
			if failed = a.Sync(context.Background()); failed == nil {
				acknowledged = some[:len(some):len(some)]
			}
		}
		if failed == nil {
			break // all of them did
		}
		if !errors.Is(failed, broken) {
			t.Fatalf("operation %d: %v, want %v", fail, failed, broken)
		}
		if _, _, _, err := a.Append(content.Chunk{Size: 1}, []byte("x")); !errors.Is(err, broken) {
			t.Fatalf("operation %d: after the failure more is taken: %v", fail, err)
		}
		got := present(t, a, dir)
		for _, x := range acknowledged {
			if !bytes.Equal(got[x.ref], x.data) {
				t.Fatalf("operation %d: chunk %+v is lost", fail, x.ref)
			}
		}
		if _, _, _, err := a.Append(content.Chunk{Size: 1}, []byte("x")); err != nil {
			t.Fatalf("operation %d: after another Start: %v", fail, err)
		}
		must(t, a.Close())
	}
}

// slowFS waits in each SyncData of a segment until it is told to go on.
type slowFS struct {
	durable.FS
	begun chan string
	goOn  chan error
}

func (s *slowFS) SyncData(f *os.File) error {
	if filepath.Ext(f.Name()) != ".segment" {
		return s.FS.SyncData(f)
	}
	s.begun <- filepath.Base(f.Name())
	if err := <-s.goOn; err != nil {
		return err
	}
	return s.FS.SyncData(f)
}

// TestArrivalsSyncFull: while a closed segment is made durable the next one is filled, and whoever wants all of it durable waits for both.
func TestArrivalsSyncFull(t *testing.T) {
	t.Parallel()
	for _, fault := range []error{nil, errors.New("no such luck")} {
		fs := &slowFS{durable.OS{}, make(chan string), make(chan error)}
		dir := t.TempDir()
		a, err := store.OpenArrivals(dir, store.Config{FS: fs})
		must(t, err)
		_, err = a.Start(3)
		must(t, err)
		add := func(b byte) error {
			data := []byte{b}
			_, _, _, err := a.Append(content.Chunk{Digest: content.Sum(data), Size: 1}, data)
			return err
		}
		must(t, add(1))
		_, err = a.Flush()
		must(t, err)
		done := make(chan error, 2)
		go func() { done <- a.SyncFull() }()
		if got := <-fs.begun; got != store.ArrivalFile(3) {
			t.Fatalf("%s is synced first", got)
		}
		must(t, add(2)) // it would wait for ever
		go func() { done <- a.Sync(context.Background()) }()
		fs.goOn <- fault
		if fault != nil {
			for range 2 {
				if err := <-done; !errors.Is(err, fault) {
					t.Errorf("a sync after one that failed: %v", err)
				}
			}
			if err := add(3); !errors.Is(err, fault) {
				t.Errorf("more is taken after a sync that failed: %v", err)
			}
			must(t, a.Close())
			continue
		}
		must(t, <-done)
		if got := <-fs.begun; got != store.ArrivalFile(4) {
			t.Fatalf("%s is synced behind the full one", got)
		}
		fs.goOn <- nil
		must(t, <-done)
		must(t, a.Close())
		a, err = store.OpenArrivals(dir, store.Config{})
		must(t, err)
		if got := present(t, a, dir); len(got) != 2 {
			t.Errorf("%d chunks are there, want 2", len(got))
		}
		must(t, a.Close())
	}
}

func TestArrivalsCloseSegments(t *testing.T) {
	t.Parallel()
	a, err := store.OpenArrivals(t.TempDir(), store.Config{})
	must(t, err)
	defer a.Close()
	if _, _, _, err := a.Append(content.Chunk{Size: 1}, []byte("x")); err == nil {
		t.Error("a chunk was taken before Start")
	}
	_, err = a.Start(0)
	must(t, err)
	data := make([]byte, content.MaxChunkSize)
	for i := range 65 {
		data[0] = byte(i)
		ref, offset, closed, err := a.Append(content.Chunk{Digest: content.Sum(data), Size: uint32(len(data))}, data)
		must(t, err)
		if want := (content.Ref{Segment: uint32(i / 64), Index: uint32(i % 64)}); ref != want || offset != int64(i%64)<<20 || (closed != nil) != (i == 63) {
			t.Fatalf("chunk %d is at %+v, %d; closed %v", i, ref, offset, closed != nil)
		}
	}
	if _, ok := a.Find(content.Sum(data)); !ok {
		t.Error("the last chunk is not found")
	}
	must(t, a.Sync(context.Background()))
	list, err := a.Start(0)
	must(t, err)
	if len(list) != 1 || list[0].Table.Len() != 64 {
		t.Errorf("%d closed segments, want one of 64 chunks", len(list))
	}
	list, err = a.Start(1) // a release has the first
	must(t, err)
	if n, table := a.Growing(); len(list) != 0 || n != 1 || table == nil || table.Len() != 1 {
		t.Errorf("%d closed segments, segment %d grows", len(list), n)
	}
	if _, err := a.Start(2); err != nil { // and the other
		t.Error(err)
	}
	if n, err := a.Numbers(); err != nil || len(n) != 2 {
		t.Errorf("files of the segments %v, %v; want both", n, err)
	}
}

func TestArrivalsGiveRoomBack(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a, err := store.OpenArrivals(dir, store.Config{Budget: 10 << 20})
	must(t, err)
	defer func() { a.Close() }()
	_, err = a.Start(0)
	must(t, err)
	data := make([]byte, 1<<20)
	for i := range 8 {
		data[0] = byte(i + 1)
		_, _, _, err := a.Append(content.Chunk{Digest: content.Sum(data), Size: 1 << 20}, data)
		must(t, err)
	}
	var full *store.BudgetError
	if err := a.CheckBudget(3 << 20); !errors.As(err, &full) || full.Free != 2<<20 || full.Budget != 10<<20 {
		t.Errorf("got %v, want 2 MiB left of 10", err)
	}
	must(t, a.CheckBudget(2<<20))
	must(t, a.Sync(context.Background()))
	var dead content.Bitmap
	for i := range uint32(4) {
		dead.Set(i)
	}
	must(t, a.Void(0, nil, dead))
	data[0] = 1
	if _, ok := a.Find(content.Sum(data)); ok {
		t.Error("a void chunk is found")
	}
	if !a.Freed(0, dead) {
		t.Error("it is not known that the room was given back")
	}
	if used := a.Used(); used > 5<<20 && holesWork(t, dir) {
		t.Errorf("%d bytes are used, want 4 MiB", used)
	}
	must(t, a.Close())
	a, err = store.OpenArrivals(dir, store.Config{})
	must(t, err)
	if used := a.Used(); used > 5<<20 && holesWork(t, dir) {
		t.Errorf("%d bytes are used after opening again, want 4 MiB", used)
	}
	_, err = a.Start(1)
	must(t, err)
	must(t, a.Remove(0))
	if used := a.Used(); used != 0 {
		t.Errorf("%d bytes are used by nothing", used)
	}
}

// holesWork reports whether the file system can punch holes.
func holesWork(t *testing.T, dir string) bool {
	t.Helper()
	f, err := os.CreateTemp(dir, "hole")
	must(t, err)
	defer os.Remove(f.Name())
	defer f.Close()
	_, err = f.Write(bytes.Repeat([]byte{1}, 1<<20))
	must(t, err)
	must(t, f.Sync())
	must(t, store.PunchForTest(f, 0, 1<<20))
	st, err := f.Stat()
	must(t, err)
	return store.AllocatedForTest(st) < 1<<20
}

// TestArrivalsBehindReferences serves what arrived, forgets what died, and fills a lost index again.
func TestArrivalsBehindReferences(t *testing.T) {
	t.Parallel()
	dir, state := t.TempDir(), t.TempDir()
	a, err := store.OpenArrivals(dir, store.Config{})
	must(t, err)
	defer a.Close()
	_, err = a.Start(0)
	must(t, err)
	var table *content.Table
	cfg := store.Config{Tables: func(content.Digest) (*content.Table, error) { return table, nil }}
	refs, err := store.OpenReferences(state, dir, "", cfg)
	must(t, err)
	var texts [][]byte
	for i := range 5 {
		data := bytes.Repeat([]byte{byte(i + 1)}, 5000)
		texts = append(texts, data)
		ref, offset, _, err := a.Append(content.Chunk{Digest: content.Sum(data), Size: 5000}, data)
		must(t, err)
		must(t, refs.Refer(ref, store.ArrivalFile(ref.Segment), offset))
	}
	// A segment that is being filled is read by who knows what is there.
	for i, text := range texts {
		c := content.Chunk{Digest: content.Sum(text), Size: 5000}
		if data, err := refs.Read(content.Ref{Index: uint32(i)}, c, nil); err != nil || !bytes.Equal(data, text) {
			t.Errorf("chunk %d before the segment is closed: %d bytes, %v", i, len(data), err)
		}
		if _, err := refs.Read(content.Ref{Index: uint32(i+1) % 5}, c, nil); !errors.Is(err, store.ErrWrongBytes) {
			t.Errorf("chunk %d in the place of another: %v", i, err)
		}
	}
	if _, err := refs.Read(content.Ref{Index: 5}, content.Chunk{Size: 5000}, nil); !errors.Is(err, store.ErrNotHere) {
		t.Errorf("a chunk without a place: %v", err)
	}
	s, err := a.Flush()
	must(t, err)
	table = s.Table
	info := content.SegmentInfo{Table: content.Sum(table.Encode()), Size: table.Size(), Chunks: table.Len()}
	must(t, refs.Add(0, info, table))
	want := func(gone uint32) {
		t.Helper()
		for i, text := range texts {
			data, err := refs.Chunk(content.Ref{Index: uint32(i)}, nil)
			if uint32(i) == gone {
				if !errors.Is(err, store.ErrNotHere) {
					t.Errorf("chunk %d: %v, want %v", i, err, store.ErrNotHere)
				}
			} else if err != nil || !bytes.Equal(data, text) {
				t.Errorf("chunk %d: %d bytes, %v", i, len(data), err)
			}
		}
	}
	want(99)
	dead := content.Bitmap{1 << 2}
	must(t, refs.UnreferAll(0, dead))
	if have := refs.Have(0); have.Has(2) || !have.Has(3) {
		t.Errorf("after UnreferAll the chunks are %v", have)
	}
	must(t, a.Void(0, table, dead))
	want(2)
	must(t, refs.Close())
	must(t, os.RemoveAll(filepath.Join(state, "index")))
	refs, err = store.OpenReferences(state, dir, "", cfg)
	must(t, err)
	defer refs.Close()
	info.Dead = dead
	must(t, refs.Rebuild(context.Background(), func(yield func(store.Segment, error) bool) { yield(store.Segment{Info: info}, nil) },
		func(yield func(store.File, error) bool) {
			_ = yield(store.File{Path: store.ArrivalFile(0), Runs: []content.Run{{Count: 2}}}, nil) &&
				yield(store.File{Path: store.ArrivalFile(0), At: 15_000, Runs: []content.Run{{First: 3, Count: 2}}}, nil)
		}))
	want(2)
	if st := refs.Stats(); st.Bad != 0 {
		t.Errorf("%d chunks are bad", st.Bad)
	}
}

// FuzzArrivalsLog reads any bytes as a log: what it lists has sizes within the limits.
func FuzzArrivalsLog(f *testing.F) {
	f.Add([]byte("swarma1\n"))
	f.Add(store.ArrivalsLogForTest(7, []content.Chunk{{Digest: content.Digest{1}, Size: 5}, {Digest: content.Digest{2}, Size: 1 << 20}}))
	f.Fuzz(func(t *testing.T, data []byte) {
		chunks, _ := store.ParseArrivalsForTest(7, data)
		if len(chunks) > content.MaxSegmentChunks {
			t.Fatalf("%d chunks", len(chunks))
		}
		if len(chunks) > 0 {
			content.NewTable(chunks) // panics on what breaks a limit
		}
	})
}
