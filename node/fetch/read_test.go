package fetch

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"swarmnode/content"
	"swarmnode/node/policy"
)

// read reads a chunk and checks its bytes. It gives how long that took.
func (r *rig) read(ref content.Ref) time.Duration {
	r.t.Helper()
	began := time.Now()
	got, err := r.Read(context.Background(), r.sink.tables[ref.Segment], ref, nil)
	if err != nil || !bytes.Equal(got, r.data[ref]) {
		r.t.Errorf("read %v: %d bytes that are not those of the chunk, %v", ref, len(got), err)
	}
	return time.Since(began)
}

// wantNothing checks that no wish is left over.
func (r *rig) wantNothing() {
	r.t.Helper()
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.wants)+len(r.chunks)+len(r.queue)+len(r.windows)+r.needed+r.transfer.Left() != 0 || r.cfg.Room.ahead.Load() != 0 {
		r.t.Errorf("left over: %d wants, %d chunks, %d in the queue, %d in windows, %d needed, %d bytes ahead", len(r.wants), len(r.chunks), len(r.queue),
			len(r.windows), r.needed, r.cfg.Room.ahead.Load())
	}
}

// TestReadGoesBeforeABulkTransfer reads while all is wanted of one peer: what is asked for next is that chunk, alone.
func TestReadGoesBeforeABulkTransfer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.segments(30)
		defer r.run()()
		p := whole(30, r.data)
		var asked []content.Run // guarded by r.mu
		p.chunks = func(ctx context.Context, run content.Run) error {
			r.mu.Lock()
			asked = append(asked, run)
			r.mu.Unlock()
			wait(ctx, time.Duration(run.Count)*10*time.Millisecond)
			return ctx.Err()
		}
		r.connect("a", p)
		r.wantAll()
		time.Sleep(305 * time.Millisecond) // all else happens at full hundredths of a second
		synctest.Wait()
		r.mu.Lock()
		before, ref := len(asked), content.Ref{Segment: 29, Index: 39}
		for slices.ContainsFunc(asked, func(run content.Run) bool { return run.Segment == ref.Segment && ref.Index-run.First < run.Count }) {
			ref.Segment-- // that one is on its way already
		}
		r.mu.Unlock()
		r.read(ref)
		r.mu.Lock()
		if want := (content.Run{Segment: ref.Segment, First: ref.Index, Count: 1}); len(asked) == before || asked[before] != want {
			t.Errorf("asked for next: %v, want %v", asked[before:], want)
		}
		r.mu.Unlock()
		if left := r.Progress().Left; left < 500 {
			t.Errorf("%d chunks were left", left)
		}
		if err := r.wait(time.Minute); err != nil {
			t.Fatal(err)
		}
		r.wantComplete()
		r.wantNothing()
	})
}

func TestReadersOfOneChunkShareOneFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.segments(1)
		defer r.run()()
		p := r.connect("a", whole(1, r.data))
		var tasks sync.WaitGroup
		for range 50 {
			tasks.Go(func() { r.read(content.Ref{Index: 3}) })
		}
		tasks.Wait()
		if p.asked != 1 || p.served != 1 {
			t.Errorf("%d requests for %d chunks, want one for one", p.asked, p.served)
		}
		if !r.sink.has[content.Ref{Index: 3}] {
			t.Error("the chunk is not in the sink")
		}
		r.Fetcher.cfg.Here = func(content.Ref) bool { return true }
		if _, err := r.Read(t.Context(), r.sink.tables[0], content.Ref{Index: 3}, nil); !errors.Is(err, ErrHere) || p.asked != 1 {
			t.Errorf("%d requests, error %v; want ErrHere for what is in the sink", p.asked, err)
		}
		r.wantNothing()
	})
}

// TestReadFromAnother has the nearest peer fail in each way: the reader does not notice.
func TestReadFromAnother(t *testing.T) {
	for name, fail := range map[string]func(ctx context.Context) error{
		"broken": func(context.Context) error { return errors.New("connection reset") },
		"busy": func(context.Context) error {
			return &Failure{Reason: policy.Reason{Kind: policy.Busy, RetryAfter: time.Minute}, Err: errors.New("busy")}
		},
		"timeout": func(context.Context) error {
			return &Failure{Reason: policy.Reason{Kind: policy.Timeout}, Err: errors.New("timeout")}
		},
		"silent": func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				r.segments(1)
				defer r.run()()
				bad := whole(1, r.data)
				bad.chunks = func(ctx context.Context, _ content.Run) error { return fail(ctx) }
				r.connect("good", whole(1, r.data))
				r.connect("bad", bad)
				r.Connected("bad", time.Millisecond) // the nearest
				synctest.Wait()
				if took := r.read(content.Ref{Index: 3}); took > time.Second {
					t.Errorf("it took %s", took)
				}
				if bad.asked == 0 {
					t.Error("the nearest was not asked")
				}
				r.wantNothing()
			})
		})
	}
}

func TestReadWrongBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.segments(1)
		defer r.run()()
		lies := maps.Clone(r.data)
		for ref, b := range lies {
			lies[ref] = make([]byte, len(b))
		}
		for _, full := range []error{nil, errors.New("the disk is full")} { // then the sink checks nothing
			r.sink.fail(full)
			r.connect("liar", whole(1, lies))
			r.Connected("liar", time.Millisecond)
			r.connect("good", whole(1, r.data))
			synctest.Wait()
			r.read(content.Ref{Index: 3})
			r.Disconnected("liar")
			r.Disconnected("good")
		}
	})
}

func TestReadWhatNobodyHas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.segments(2)
		stop := r.run()
		r.connect("a", whole(1, r.data))
		began := time.Now()
		_, err := r.Read(context.Background(), r.sink.tables[1], content.Ref{Segment: 1}, nil)
		if took := time.Since(began); !errors.Is(err, ErrNobody) || took != readPatience {
			t.Errorf("after %s: %v, want ErrNobody after %s", took, err, readPatience)
		}
		if _, err := r.Read(context.Background(), r.sink.tables[1], content.Ref{Segment: 1, Index: 40}, nil); err == nil {
			t.Error("a chunk past the end of its segment was read")
		}
		r.wantNothing()

		// Somebody who has it comes while it is waited for.
		time.AfterFunc(5*time.Second, func() { r.connect("b", whole(2, r.data)) })
		if took := r.read(content.Ref{Segment: 1}); took != 5*time.Second+10*time.Millisecond {
			t.Errorf("it took %s", took)
		}

		// The node stops.
		time.AfterFunc(time.Second, stop)
		r.Disconnected("b")
		began = time.Now()
		_, err = r.Read(context.Background(), r.sink.tables[1], content.Ref{Segment: 1, Index: 1}, nil)
		if took := time.Since(began); !errors.Is(err, ErrNobody) || took != time.Second {
			t.Errorf("after %s: %v, want ErrNobody when Run ended", took, err)
		}
	})
}

// TestSlowChunkIsWaitedFor has a chunk come for longer than the patience: that it comes is enough.
func TestSlowChunkIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.segments(1)
		defer r.run()()
		p := whole(1, r.data)
		p.trickle = 21 * time.Second
		r.connect("a", p)
		if took := r.read(content.Ref{}); took < 21*time.Second {
			t.Errorf("it took %s", took)
		}
	})
}

func TestLastReaderLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.segments(1)
		defer r.run()()
		p := whole(1, r.data)
		var ended atomic.Int32
		p.chunks = func(ctx context.Context, _ content.Run) error { <-ctx.Done(); ended.Add(1); return ctx.Err() }
		r.connect("a", p)
		gone := errors.New("the client has gone")
		ctx, leave := context.WithCancelCause(context.Background())
		var tasks sync.WaitGroup
		for _, ctx := range []context.Context{ctx, context.Background()} {
			ctx, cancel := context.WithTimeoutCause(ctx, time.Second, gone)
			defer cancel()
			tasks.Go(func() {
				if _, err := r.Read(ctx, r.sink.tables[0], content.Ref{}, nil); !errors.Is(err, gone) {
					t.Errorf("Read gave %v", err)
				}
			})
		}
		time.Sleep(100 * time.Millisecond)
		leave(gone)
		synctest.Wait()
		if ended.Load() != 0 {
			t.Error("the request ended though one reader is left")
		}
		tasks.Wait()
		synctest.Wait()
		if ended.Load() != 1 {
			t.Errorf("%d requests ended after the last reader left, want 1", ended.Load())
		}
		r.wantNothing()
	})
}

// TestReadOnAFullDisk gives chunks to readers though none can be stored, also of what the mirror wants itself.
func TestReadOnAFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.segments(2)
		defer r.run()()
		r.sink.fail(errors.New("the disk is full"))
		r.connect("a", whole(2, r.data))
		synctest.Wait()
		r.read(content.Ref{Segment: 1})
		r.wantNothing()
		r.Want(0, r.sink.tables[0], content.Full(40))
		time.Sleep(time.Second)
		if r.Progress().Trouble == nil {
			t.Error("no trouble")
		}
		for i := range uint32(40) {
			if took := r.read(content.Ref{Segment: 0, Index: i}); took > time.Second {
				t.Errorf("chunk %d took %s", i, took)
			}
		}
		if r.Progress().Left == 0 {
			t.Error("what was read and not stored is not wanted any more")
		}
		r.sink.fail(nil)
		if err := r.wait(2 * maxStorePause); err != nil {
			t.Fatal(err)
		}
		if n := len(r.sink.has); n != 40 {
			t.Errorf("%d chunks are stored, want 40", n)
		}
		r.wantNothing()
	})
}

// TestWantAndRead has the mirror want more and less of a segment that is being read.
func TestWantAndRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.segments(1)
		defer r.run()()
		var got sync.WaitGroup
		for i := range uint32(5) {
			got.Go(func() { r.read(content.Ref{Index: i}) })
		}
		synctest.Wait()
		r.Want(0, r.sink.tables[0], content.Full(3))
		r.Want(0, nil, nil)
		if err := r.wait(time.Second); err != nil {
			t.Errorf("only readers want something: %v", err)
		}
		r.Want(0, r.sink.tables[0], content.Full(3))
		if left := r.Progress().Left; left != 5 {
			t.Errorf("%d chunks are wanted, want 5", left)
		}
		r.connect("a", whole(1, r.data))
		got.Wait()
		if err := r.wait(time.Minute); err != nil {
			t.Fatal(err)
		}
		r.wantNothing()
	})
}

// TestReadAhead reads a file of 160 chunks from peers that need 10 ms for a request: with the hint it takes far less than that
// for each, and what is asked for is never more than the window.
func TestReadAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.segments(4)
		defer r.run()()
		r.Fetcher.cfg.Here = func(ref content.Ref) bool {
			r.sink.mu.Lock()
			defer r.sink.mu.Unlock()
			return r.sink.has[ref]
		}
		a := r.connect("a", whole(4, r.data))
		r.connect("b", whole(4, r.data))
		synctest.Wait()
		var refs []content.Ref
		for s := range uint32(4) {
			for i := range uint32(40) {
				refs = append(refs, content.Ref{Segment: s, Index: i})
			}
		}
		table := func(s uint32) (*content.Table, error) { return r.sink.tables[s], nil }
		began := time.Now()
		r.Ahead(7, refs, table)
		synctest.Wait()
		if left := r.Progress().Left; left != 1 {
			t.Errorf("%d chunks are wanted at first, want 1", left)
		}
		for _, ref := range refs {
			if r.cfg.Here(ref) {
				r.Took(ref)
			} else {
				r.read(ref)
			}
			time.Sleep(time.Millisecond)
			if most := int64(aheadMost); r.cfg.Room.ahead.Load() > most {
				t.Fatalf("%d bytes ahead, want at most %d", r.cfg.Room.ahead.Load(), most)
			}
		}
		if took, most := time.Since(began), 300*time.Millisecond; took > most {
			t.Errorf("160 chunks took %s, want at most %s", took, most)
		}
		if a.asked == 0 {
			t.Error("nothing was asked of one of the peers")
		}
		r.Ahead(7, nil, nil)
		r.wantNothing()
	})
}

// aheadMost is what policy.Ahead gives one reader at most.
const aheadMost = 16 << 20

// TestHintsAreReplaced gives hints that go on, jump, and end, and takes no chunk itself.
func TestHintsAreReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.segments(2)
		defer r.run()()
		table := func(s uint32) (*content.Table, error) { return r.sink.tables[s], nil }
		refs := func(seg, from, to uint32) (list []content.Ref) {
			for i := from; i < to; i++ {
				list = append(list, content.Ref{Segment: seg, Index: i})
			}
			return list
		}
		wants := func(what string, want int) {
			t.Helper()
			if left := r.Progress().Left; left != want {
				t.Errorf("%s: %d chunks are wanted, want %d", what, left, want)
			}
		}
		r.Ahead(1, refs(0, 0, 40), table)
		wants("the first hint", 1)
		r.Ahead(1, refs(0, 0, 40), table)
		wants("the same again", 1)
		for i := uint32(1); i < 5; i++ {
			time.Sleep(time.Millisecond)
			r.Ahead(1, refs(0, i, 40), table)
		}
		wants("four chunks further", 8)
		r.Ahead(2, refs(0, 5, 6), table)
		wants("another reader of one of them", 8)
		r.Ahead(1, refs(1, 30, 40), table)
		wants("a jump", 9)
		r.Ahead(1, nil, nil)
		r.Ahead(1, nil, nil)
		wants("the end", 1)
		r.Ahead(2, nil, nil)
		r.wantNothing()
	})
}

// TestManyReadersShareTheRoom has more readers than there is room to read ahead of.
func TestManyReadersShareTheRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		const n = 70
		for s := range uint32(n) {
			tab, data := segment(s, 2, content.MaxChunkSize)
			r.sink.tables[s] = tab
			maps.Copy(r.data, data)
		}
		defer r.run()()
		table := func(s uint32) (*content.Table, error) { return r.sink.tables[s], nil }
		for s := range uint64(n) {
			var refs []content.Ref
			for i := range uint32(2) {
				refs = append(refs, content.Ref{Segment: uint32(s), Index: i})
			}
			r.Ahead(s, refs, table)
		}
		if got := r.cfg.Room.ahead.Load(); got != maxAhead {
			t.Errorf("%d bytes are read ahead, want %d", got, maxAhead)
		}
		r.connect("a", whole(n, r.data))
		for s := range uint32(n) { // also those that found no room
			r.read(content.Ref{Segment: s})
		}
		for s := range uint64(n) {
			r.Ahead(s, nil, nil)
		}
		r.wantNothing()
	})
}
