package mirror

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"swarmnode/content"
	"swarmnode/content/store"
)

// fakeChunks holds chunks of one size in segments of ten; bad ones are dropped when they are read.
type fakeChunks struct {
	mu   sync.Mutex // guards all below
	size int
	have map[uint32]content.Bitmap
	bad  map[content.Ref]bool
	read []time.Time
	refs []content.Ref
}

func newFakeChunks(segments uint32, size int) *fakeChunks {
	f := &fakeChunks{size: size, have: map[uint32]content.Bitmap{}, bad: map[content.Ref]bool{}}
	for n := range segments {
		f.have[n] = content.Full(10)
	}
	return f
}

func (f *fakeChunks) Segments() (list []uint32) {
	for n := range uint32(len(f.have)) {
		list = append(list, n)
	}
	return list
}

func (f *fakeChunks) Have(n uint32) content.Bitmap {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.have[n].Clone()
}

func (f *fakeChunks) Check(ref content.Ref, _ []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.read, f.refs = append(f.read, time.Now()), append(f.refs, ref)
	if f.bad[ref] {
		b := f.have[ref.Segment]
		b.Clear(ref.Index)
		return 0, store.ErrNotHere
	}
	return f.size, nil
}

func scrubberOf(t *testing.T, dir string, f *fakeChunks, rate int64) *Scrubber {
	pack := must(store.OpenPack(filepath.Join(dir, "pack")))
	t.Cleanup(func() { pack.Close() })
	return NewScrubber(ScrubConfig{Dir: dir, Pack: pack, Chunks: f, Silent: true, Rate: rate,
		Held: func() int64 { return int64(len(f.have)*10) * int64(f.size) }})
}

// TestScrubHoldsItsRate measures a pass in simulated time.
func TestScrubHoldsItsRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size, rate = 100 << 10, 1 << 20
		f := newFakeChunks(10, size)
		s := scrubberOf(t, t.TempDir(), f, rate)
		begun := time.Now()
		if err := s.Pass(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
		for i, at := range f.read {
			if limit := rate*at.Sub(begun).Seconds() + content.MaxChunkSize; float64(i*size) > limit+1 {
				t.Fatalf("%d bytes read after %s, at most %.0f may be", i*size, at.Sub(begun), limit)
			}
		}
		took, want := time.Since(begun).Seconds(), float64(100*size-content.MaxChunkSize)/rate
		if took < want-0.01 || took > want+0.2 {
			t.Errorf("a pass over 100 chunks took %.2f s, want %.2f", took, want)
		}
		if r := s.Report(); r.Checked != 100 || r.Bytes != 100*size || r.Passes != 1 || r.Bad != 0 || r.Running {
			t.Errorf("report %+v", r)
		}
	})
}

// TestScrubGoesOnAfterARestart: a pass that was cut off goes on at the segment it had come to, and a new one begins 30 days later.
func TestScrubGoesOnAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, f := t.TempDir(), newFakeChunks(10, 1<<20)
		run := func(s *Scrubber, d time.Duration) {
			ctx, cancel := context.WithTimeout(t.Context(), d)
			defer cancel()
			if err := s.Run(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Fatal(err)
			}
		}
		run(scrubberOf(t, dir, f, 1<<20), passEvery-time.Hour)
		if len(f.refs) != 0 {
			t.Fatalf("%d chunks were read before a pass was due", len(f.refs))
		}
		run(scrubberOf(t, dir, f, 1<<20), time.Hour+55*time.Second)
		first := len(f.refs)
		if first < 50 || first > 60 {
			t.Fatalf("%d chunks in 55 s at one a second", first)
		}
		run(scrubberOf(t, dir, f, 1<<20), time.Hour)
		if f.refs[first] != (content.Ref{Segment: 5}) || len(f.refs) != first+50 {
			t.Errorf("went on with %+v and read %d, want segment 5 and 50 chunks", f.refs[first], len(f.refs)-first)
		}
		s := scrubberOf(t, dir, f, 1<<20)
		if r := s.Report(); r.Passes != 1 || r.Finished.IsZero() {
			t.Errorf("after a restart: %+v", r)
		}
		if err := os.WriteFile(filepath.Join(dir, scrubFile), []byte("{rubbish"), 0o644); err != nil {
			t.Fatal(err)
		}
		if s := scrubberOf(t, dir, f, 0); s.at.Under || s.Report().Passes != 0 {
			t.Errorf("a damaged position: %+v", s.at)
		}
	})
}

// TestScrubNow: a pass that is asked for begins at once and with its own rate, and ends the one under way. What holds nothing
// is not scrubbed.
func TestScrubNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeChunks(10, 1<<20)
		ref := content.Ref{Segment: 3, Index: 7}
		f.bad[ref] = true
		s := scrubberOf(t, t.TempDir(), f, 1<<20)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		s.Begin(0)
		if !s.Report().Running {
			t.Error("not running after Begin")
		}
		time.Sleep(20 * time.Second)
		s.Begin(100 << 20)
		time.Sleep(2 * time.Second)
		if r := s.Report(); r.Checked != 100 || r.Running || r.Bad != 1 || r.Missing != 1 || r.Repaired != 0 || r.Passes != 1 {
			t.Errorf("report %+v", r)
		}
		f.mu.Lock()
		b := f.have[3]
		b.Set(7)
		f.mu.Unlock()
		if r := s.Report(); r.Missing != 0 || r.Repaired != 1 || r.Bad != 1 {
			t.Errorf("after it came again: %+v", r)
		}
		cancel()
		<-done
		read := len(f.refs)
		f.have = nil
		ctx, cancel = context.WithTimeout(t.Context(), 2*passEvery)
		defer cancel()
		if err := s.Run(ctx); !errors.Is(err, context.DeadlineExceeded) || len(f.refs) != read || s.Report().Passes != 1 {
			t.Errorf("%v; read %d with nothing held; %+v", err, len(f.refs)-read, s.Report())
		}
	})
}

// flipByte damages a byte of a file.
func flipByte(t *testing.T, path string, at int64) {
	t.Helper()
	f := must(os.OpenFile(path, os.O_RDWR, 0))
	defer f.Close()
	b := make([]byte, 1)
	must(f.ReadAt(b, at))
	b[0] ^= 1
	must(f.WriteAt(b, at))
}

// TestScrubMends flips bits of chunks and of metadata of a real mirror: one pass finds each, and all of it is fetched again.
func TestScrubMends(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPublisher()
		r := newRig(t, p, 0)
		defer r.close()
		r.News(p.publish(manyFiles(2000)))
		synctest.Wait()
		r.check()
		s := NewScrubber(ScrubConfig{Dir: r.dir, Pack: r.pack, Chunks: r.disk, Silent: true, Blocks: r.Blocks, Live: r.Live,
			Held: func() int64 { return r.disk.Stats().Used }})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Mend(ctx) }()
		defer func() { cancel(); <-done }()
		for _, i := range []uint32{3, 4, 900} {
			r.flip(content.Ref{Index: i})
		}
		// The pack: eight bytes of header, then a record with a head of 44 bytes. The first block is the manifest.
		pack := filepath.Join(r.dir, "pack")
		size := must(os.Stat(pack)).Size()
		flipByte(t, pack, 8+20)   // head of the first
		flipByte(t, pack, size-9) // bytes of the last
		if err := s.Pass(t.Context(), 64<<20); err != nil {
			t.Fatal(err)
		}
		if rep := s.Report(); rep.Bad != 5 || rep.Checked < 2000 {
			t.Errorf("report %+v, want 3 chunks and 2 blocks bad", rep)
		}
		time.Sleep(3 * lookEvery)
		if err := errors.Join(r.fetch.deliver(), r.disk.Sync(t.Context())); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * lookEvery)
		r.check()
		if rep := s.Report(); rep.Repaired != 5 || rep.Missing != 0 {
			t.Errorf("report %+v, want all 5 repaired", rep)
		}
		if err := s.Pass(t.Context(), 64<<20); err != nil || s.Report().Bad != 5 {
			t.Errorf("another pass: %v, %+v", err, s.Report())
		}
	})
}
