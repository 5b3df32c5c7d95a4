package fetch

import (
	"context"
	"errors"
	"maps"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"swarmnode/content"
	"swarmnode/gossip"
	"swarmnode/node/policy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestAllChunksFromSeveralPeers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.segments(8)
		r.connect("a", whole(8, r.data)) // before Run
		stop := r.run()
		defer stop()
		r.wantAll()
		for _, id := range []gossip.PeerID{"b", "c"} {
			r.connect(id, whole(8, r.data))
		}
		if err := r.wait(time.Minute); err != nil {
			t.Fatal(err)
		}
		r.wantComplete()
		for id, p := range r.net.peers {
			if p.served == 0 {
				t.Errorf("nothing came from %s", id)
			}
		}
		p := r.Progress()
		if want := uint64(8 * 40 * 64 << 10); p.Received != want || p.Wasted != 0 || p.Left != 0 || p.Holders != 3 {
			t.Errorf("progress %+v, want %d bytes from 3 holders", p, want)
		}
		if n := len(r.wants); n != 0 {
			t.Errorf("%d tables are held after all came", n)
		}
	})
}

func TestWrongBytesBan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.segments(4)
		defer r.run()()
		bad := maps.Clone(r.data)
		for ref, b := range bad {
			bad[ref] = make([]byte, len(b))
		}
		r.connect("liar", whole(4, bad))
		r.wantAll()
		if err := r.wait(time.Minute); err == nil {
			t.Fatal("complete with wrong bytes")
		}
		if id := <-r.banned; id != "liar" {
			t.Errorf("%s was banned", id)
		}
		r.connect("liar", r.net.peers["liar"]) // comes back
		r.connect("good", whole(4, r.data))
		if err := r.wait(time.Minute); err != nil {
			t.Fatal(err)
		}
		r.wantComplete()
		if p := r.Progress(); p.Bad != 3 || p.Holders != 1 {
			t.Errorf("%d wrong chunks and %d holders, want 3 and 1", p.Bad, p.Holders)
		}
	})
}

// TestTroubleWithOnePeer has one peer misbehave in each way at first, or for ever beside a good one.
func TestTroubleWithOnePeer(t *testing.T) {
	for name, c := range map[string]struct {
		err    error
		forAll bool // the bad one never gets better
	}{
		"busy":            {err: &Failure{Reason: policy.Reason{Kind: policy.Busy, RetryAfter: time.Second}, Err: errors.New("busy")}},
		"busy without":    {err: &Failure{Reason: policy.Reason{Kind: policy.Busy}, Err: errors.New("busy")}},
		"broken":          {err: errors.New("connection reset")},
		"broken for ever": {err: errors.New("connection reset"), forAll: true},
		"timeout":         {err: &Failure{Reason: policy.Reason{Kind: policy.Timeout}, Err: errors.New("timeout")}},
		"busy for ever":   {err: &Failure{Reason: policy.Reason{Kind: policy.Busy}, Err: errors.New("busy")}, forAll: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				r.segments(3)
				defer r.run()()
				p := whole(3, r.data)
				left := 3
				p.chunks = func(context.Context, content.Run) error {
					r.net.mu.Lock()
					defer r.net.mu.Unlock()
					if left--; left >= 0 || c.forAll {
						return c.err
					}
					return nil
				}
				r.connect("bad", p)
				if c.forAll {
					time.Sleep(time.Second)
					r.connect("good", whole(3, r.data))
				}
				r.wantAll()
				if err := r.wait(5 * time.Minute); err != nil {
					t.Fatal(err)
				}
				r.wantComplete()
				if p.asked > 100 {
					t.Errorf("it was asked %d times", p.asked)
				}
			})
		})
	}
}

func TestBusyPeerIsNotAskedInALoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.segments(1)
		defer r.run()()
		p := whole(1, r.data)
		p.chunks = func(context.Context, content.Run) error {
			return &Failure{Reason: policy.Reason{Kind: policy.Busy}, Err: errors.New("busy")}
		}
		r.connect("a", p)
		r.wantAll()
		if r.wait(10*time.Second) == nil {
			t.Fatal("complete")
		}
		if p.asked > 8*45 {
			t.Errorf("asked %d times in 10 s", p.asked)
		}
	})
}

func TestChunksThatAreNotHereComeFromOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.segments(2)
		defer r.run()()
		half := maps.Clone(r.data)
		for ref := range half {
			if ref.Index%2 == 0 {
				delete(half, ref)
			}
		}
		r.connect("half", whole(2, half))
		r.wantAll()
		if r.wait(time.Minute) == nil {
			t.Fatal("complete from half")
		}
		if p := r.Progress(); p.Left != 40 || p.Unobtainable != 2 {
			t.Errorf("%d chunks left in %d segments that nobody has, want 40 in 2", p.Left, p.Unobtainable)
		}
		r.connect("full", whole(2, r.data))
		if err := r.wait(time.Minute); err != nil {
			t.Fatal(err)
		}
		r.wantComplete()
	})
}

func TestStalledPeerIsCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.segments(2)
		defer r.run()()
		p := whole(2, r.data)
		ended := 0
		p.chunks = func(ctx context.Context, _ content.Run) error {
			<-ctx.Done()
			r.net.mu.Lock()
			defer r.net.mu.Unlock()
			ended++
			return ctx.Err()
		}
		r.connect("stalled", p)
		r.wantAll()
		time.Sleep(time.Second)
		r.connect("good", whole(2, r.data))
		if err := r.wait(3 * time.Minute); err != nil {
			t.Fatal(err)
		}
		r.wantComplete()
		if ended == 0 {
			t.Error("nothing was cancelled")
		}
	})
}

func TestStoreTroublePausesAndRecovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.segments(6)
		defer r.run()()
		full := errors.New("the disk is full")
		r.sink.fail(full)
		for _, id := range []gossip.PeerID{"a", "b", "c", "d"} {
			r.connect(id, whole(6, r.data))
		}
		r.wantAll()
		if r.wait(10*time.Minute) == nil {
			t.Fatal("complete on a full disk")
		}
		if p := r.Progress(); !errors.Is(p.Trouble, full) || p.Bad != 0 {
			t.Errorf("trouble %v, %d held against peers", p.Trouble, p.Bad)
		}
		if r.sink.puts > 25*32 {
			t.Errorf("%d chunks came and were thrown away in 10 minutes", r.sink.puts)
		}
		r.sink.fail(nil)
		if err := r.wait(2 * maxStorePause); err != nil {
			t.Fatal(err)
		}
		r.wantComplete()
		if p := r.Progress(); p.Trouble != nil {
			t.Errorf("trouble %v stays", p.Trouble)
		}
	})
}

func TestTroubleEndsWithTheWants(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.segments(1)
		defer r.run()()
		r.sink.fail(errors.New("the segment was removed"))
		r.connect("a", whole(1, r.data))
		r.wantAll()
		time.Sleep(time.Second)
		if r.Progress().Trouble == nil {
			t.Fatal("no trouble")
		}
		r.Want(0, nil, nil)
		if p := r.Progress(); p.Trouble != nil {
			t.Errorf("trouble %v though nothing is wanted", p.Trouble)
		}
	})
}

func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.segments(2)
		if err := r.wait(time.Second); err != nil {
			t.Errorf("nothing is wanted: %v", err)
		}
		table := r.sink.tables[0]
		r.Want(0, table, content.Full(table.Len()))
		if err := r.wait(time.Second); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("something is wanted: %v", err)
		}
		got := make(chan error, 1)
		go func() { got <- r.wait(time.Minute) }()
		synctest.Wait()
		r.Want(0, table, nil)
		if err := <-got; err != nil {
			t.Errorf("what was wanted was dropped: %v", err)
		}
		r.Want(0, table, content.Full(table.Len()))
		if err := r.wait(time.Second); err == nil {
			t.Error("it is wanted again")
		}
	})
}

// TestWantLess sets a smaller need: what nobody has and is not wanted any more must not keep Wait from returning.
func TestWantLess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.segments(1)
		defer r.run()()
		table := r.sink.tables[0]
		some := maps.Clone(r.data)
		delete(some, content.Ref{Index: 7})
		r.connect("a", whole(1, some))
		r.wantAll()
		if r.wait(time.Minute) == nil || r.Progress().Left != 1 {
			t.Fatalf("%d chunks left, want 1", r.Progress().Left)
		}
		need := content.Full(table.Len())
		need.Clear(7)
		need.AndNot(content.Full(5))
		r.Want(0, table, need)
		if err := r.wait(time.Minute); err != nil {
			t.Fatal(err)
		}
	})
}

func TestPeersComeAndGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.segments(6)
		stop := r.run()
		r.wantAll()
		for range 20 {
			p := whole(6, r.data)
			p.chunks = func(context.Context, content.Run) error { time.Sleep(50 * time.Millisecond); return nil }
			r.connect("a", p)
			time.Sleep(70 * time.Millisecond)
			r.Disconnected("a")
			time.Sleep(5 * time.Millisecond)
		}
		r.connect("a", whole(6, r.data))
		if err := r.wait(time.Minute); err != nil {
			t.Fatal(err)
		}
		r.wantComplete()
		stop()
		r.Connected("late", 0) // after Run has returned: nothing may begin
		synctest.Wait()
	})
}

// TestEndlessHoldings lets a peer say something new without end. It must be slowed down, and others still served.
func TestEndlessHoldings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.segments(1)
		stop := r.run()
		p := whole(1, nil)
		r.connect("chatty", p)
		end := make(chan struct{})
		said := 0
		go func() {
			for {
				select {
				case p.holdings <- gossip.Holdings{Reset: true, Below: 1}:
					said++
				case <-end:
					return
				}
			}
		}()
		time.Sleep(100 * time.Second)
		close(end)
		synctest.Wait()
		if most := 1000 + int((tellBurst+100*time.Second)/tellCost) + 1; said > most {
			t.Errorf("%d messages in 100 s, want at most %d", said, most)
		}
		r.connect("good", whole(1, r.data))
		r.wantAll()
		if err := r.wait(time.Minute); err != nil {
			t.Fatal(err)
		}
		stop()
	})
}

func TestWatchIsTakenUpAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.segments(1)
		defer r.run()()
		p := whole(1, r.data)
		close(p.holdings)
		r.connect("a", p)
		r.wantAll()
		time.Sleep(time.Second / 2)
		if n := r.Progress().Holders; n != 0 {
			t.Errorf("%d holders while the stream is broken", n)
		}
		r.net.mu.Lock()
		r.net.peers["a"] = whole(1, r.data)
		r.net.mu.Unlock()
		if err := r.wait(time.Minute); err != nil {
			t.Fatal(err)
		}
	})
}

// TestHold: while it is held nobody is asked for anything, also not for what is read, and afterwards everything comes; no peer is
// held to have failed.
func TestHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.segments(4)
		peer := whole(4, r.data)
		peer.trickle = time.Second
		table := r.sink.tables[0]
		block := []byte("block")
		peer.blocks[content.Sum(block)] = block
		r.connect("a", peer)
		defer r.run()()
		r.wantAll()
		time.Sleep(100 * time.Millisecond)
		r.Hold(true)
		r.Hold(true)
		synctest.Wait()
		r.net.mu.Lock()
		asked := peer.asked
		r.net.mu.Unlock()
		if asked == 0 {
			t.Fatal("nothing was asked for before")
		}
		blocks := make(chan error, 1)
		go func() {
			blocks <- r.Blocks(t.Context(), []content.Digest{content.Sum(block)}, func(content.Digest, []byte) error { return nil })
		}()
		if _, err := r.Read(t.Context(), table, content.Ref{Segment: 0, Index: 3}, nil); !errors.Is(err, ErrNobody) {
			t.Errorf("read while it is held: %v, want ErrNobody", err)
		}
		if err := r.wait(10 * time.Minute); err == nil {
			t.Error("complete while it is held")
		}
		if p := r.Progress(); peer.asked != asked || p.InFlight != 0 || p.Holders != 1 || len(blocks) != 0 {
			t.Errorf("%d requests more, %d bytes in flight, %d holders, %d answers; want 0, 0, 1, 0", peer.asked-asked, p.InFlight, p.Holders, len(blocks))
		}
		r.Hold(false)
		if err := r.wait(time.Minute); err != nil {
			t.Fatal(err)
		}
		r.wantComplete()
		if err := <-blocks; err != nil {
			t.Error(err)
		}
	})
}
