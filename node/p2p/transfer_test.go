package p2p

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"

	"swarmnode/content"
	"swarmnode/gossip"
	"swarmnode/node/policy"
)

var testID = content.NewID([]byte("test"))

// segment is a segment in memory.
type segment map[uint32][]byte

func newSegment(seed uint64, sizes ...int) segment {
	rng, s := rand.New(rand.NewPCG(seed, 1)), segment{}
	for i, n := range sizes {
		b := make([]byte, n)
		for j := range b {
			b[j] = byte(rng.Uint32())
		}
		s[uint32(i)] = b
	}
	return s
}

func (s segment) size(i uint32) uint32 { return uint32(len(s[i])) }

func (s segment) chunk(_ context.Context, id content.ID, ref content.Ref, buf []byte) ([]byte, error) {
	if len(buf) != 0 || cap(buf) != content.MaxChunkSize {
		panic(fmt.Sprintf("buffer of %d, %d bytes", len(buf), cap(buf)))
	}
	data, ok := s[ref.Index]
	switch {
	case !ok || id != testID || ref.Segment != 7:
		return nil, errors.New("no such chunk")
	case ref.Index%3 == 1:
		return data, nil // not in buf
	}
	return append(buf, data...), nil
}

func collect(got segment) func(content.Ref, []byte) error {
	return func(ref content.Ref, data []byte) error {
		if _, twice := got[ref.Index]; twice || ref.Segment != 7 {
			return fmt.Errorf("chunk %v comes twice or is of another segment", ref)
		}
		got[ref.Index] = bytes.Clone(data)
		return nil
	}
}

func TestChunks(t *testing.T) {
	sizes := []int{1, 5000, content.MaxChunkSize, 300_000, content.MaxChunkSize, 70_000}
	for range 500 {
		sizes = append(sizes, 4096)
	}
	for _, listen := range []string{"/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"} {
		s1, s2 := newSegment(1, sizes...), newSegment(2, sizes...)
		a := newHost(t, Config{Listen: []string{listen}, Timeouts: patient}, Handlers{Chunk: s1.chunk})
		b := newHost(t, Config{Listen: []string{listen}, Timeouts: patient}, Handlers{Chunk: s2.chunk})
		connect(t, a, b)
		run := content.Run{Segment: 7, Count: uint32(len(sizes))}
		for range 3 {
			for _, c := range []struct {
				from *Host
				to   *Host
				s    segment
			}{{a, b, s1}, {b, a, s2}} {
				got := segment{}
				if err := c.to.Chunks(t.Context(), c.from.ID(), testID, run, c.s.size, nil, collect(got)); err != nil {
					t.Fatalf("%s: %v", listen, err)
				}
				for i, want := range c.s {
					if !bytes.Equal(got[i], want) {
						t.Fatalf("%s: chunk %d has %d bytes, want %d", listen, i, len(got[i]), len(want))
					}
				}
			}
		}
		if rtt := a.RTT(b.ID()); rtt <= 0 {
			t.Errorf("%s: RTT %s", listen, rtt)
		}
		in, out := a.Traffic()
		if p := a.Peers()[0]; p.BytesIn < 5e6 || p.BytesOut < 5e6 || p.BytesIn != in || p.BytesOut != out {
			t.Errorf("%s: bytes %+v, totals %d and %d", listen, p, in, out)
		}
		within(t, "nothing is held", func() bool { return idle(a) && idle(b) })
	}
}

// idle reports whether a host holds no stream and no memory for one.
func idle(h *Host) bool {
	l := h.limits
	l.mu.Lock()
	defer l.mu.Unlock()
	ok := l.sending.TryAcquire(l.memory) && l.receiving.TryAcquire(l.memory)
	if ok {
		l.sending.Release(l.memory)
		l.receiving.Release(l.memory)
	}
	return ok && len(l.streams) == 0 && len(l.protected) == 0
}

func TestChunksNotHere(t *testing.T) {
	s := newSegment(1, 100, 100, 100, 100)
	has := segment{0: s[0], 2: s[2]}
	a, b := newHost(t, Config{}, Handlers{Chunk: has.chunk}), newHost(t, Config{}, Handlers{})
	connect(t, b, a)
	got := segment{}
	err := b.Chunks(t.Context(), a.ID(), testID, content.Run{Segment: 7, Count: 4}, s.size, nil, collect(got))
	var missing *NotHereError
	want := []content.Ref{{Segment: 7, Index: 1}, {Segment: 7, Index: 3}}
	if !errors.Is(err, ErrNotHere) || !errors.As(err, &missing) || !slices.Equal(missing.Refs, want) || len(got) != 2 {
		t.Errorf("got %d chunks, %v, want 2 and %v", len(got), err, want)
	}
	err = a.Chunks(t.Context(), b.ID(), testID, content.Run{Segment: 7, Count: 4}, s.size, nil, collect(segment{}))
	if !errors.As(err, &missing) || len(missing.Refs) != 4 {
		t.Errorf("without a handler: %v", err)
	}
}

func TestChunksBadRequest(t *testing.T) {
	h := newHost(t, Config{}, Handlers{})
	for _, run := range []content.Run{{}, {Count: content.MaxSegmentChunks + 1}, {First: content.MaxSegmentChunks, Count: 1},
		{First: 1 << 31, Count: 1 << 31}, {Segment: content.MaxSegments, Count: 1}, {Count: 17}} {
		err := h.Chunks(t.Context(), h.ID(), testID, run, func(uint32) uint32 { return content.MaxChunkSize }, nil, nil)
		if !errors.Is(err, content.ErrFormat) {
			t.Errorf("%+v: %v", run, err)
		}
	}
	if err := h.Chunks(t.Context(), "nobody", testID, content.Run{Count: 1}, func(uint32) uint32 { return 1 }, nil, nil); err == nil {
		t.Error("a peer ID of nonsense is accepted")
	}
}

func TestBusy(t *testing.T) {
	s := newSegment(1, 100, 100)
	full := errors.New("full")
	hold, entered := make(chan struct{}), make(chan struct{}, 100)
	var handler atomic.Value
	handler.Store(s.chunk)
	a := newHost(t, Config{Timeouts: patient}, Handlers{Chunk: func(ctx context.Context, id content.ID, ref content.Ref, buf []byte) ([]byte, error) {
		return handler.Load().(func(context.Context, content.ID, content.Ref, []byte) ([]byte, error))(ctx, id, ref, buf)
	}})
	a.limits.uploads = newUploads(policy.ServingConfig{Places: maxPeerStreams})
	b := newHost(t, Config{Timeouts: patient}, Handlers{})
	connect(t, b, a)
	ask := func() error {
		return b.Chunks(t.Context(), a.ID(), testID, content.Run{Segment: 7, Count: 2}, s.size, nil, collect(segment{}))
	}

	handler.Store(func(_ context.Context, _ content.ID, ref content.Ref, _ []byte) ([]byte, error) {
		if ref.Index == 0 {
			return nil, full
		}
		return nil, fmt.Errorf("upload: %w", &BusyError{RetryAfter: 1234 * time.Millisecond})
	})
	var busy *BusyError
	if err := ask(); !errors.As(err, &busy) || busy.RetryAfter != 1234*time.Millisecond || !errors.Is(err, ErrNotHere) {
		t.Errorf("busy handler: %v", err)
	}

	handler.Store(func(ctx context.Context, id content.ID, ref content.Ref, buf []byte) ([]byte, error) {
		entered <- struct{}{}
		<-hold
		return s.chunk(ctx, id, ref, buf)
	})
	var asks sync.WaitGroup
	for range maxPeerStreams {
		asks.Go(func() {
			if err := ask(); err != nil {
				t.Errorf("held request: %v", err)
			}
		})
	}
	for range maxPeerStreams {
		<-entered
	}
	busy = nil
	if err := ask(); !errors.As(err, &busy) || busy.RetryAfter != retryAfter {
		t.Errorf("stream %d of a peer: %v", maxPeerStreams+1, err)
	}
	close(hold)
	asks.Wait()
	within(t, "the places are free again", func() bool { return idle(a) }) // a little after the last byte has come
	if err := ask(); err != nil {
		t.Errorf("afterwards: %v", err)
	}

	waits := patient
	waits.Queue = short.Queue
	small := newHost(t, Config{MemoryBytes: 1, Timeouts: waits}, Handlers{Chunk: s.chunk})
	connect(t, b, small)
	if !small.limits.sending.TryAcquire(small.limits.memory) {
		t.Fatal("memory is taken")
	}
	busy = nil
	err := b.Chunks(t.Context(), small.ID(), testID, content.Run{Segment: 7, Count: 2}, s.size, nil, collect(segment{}))
	if !errors.As(err, &busy) {
		t.Errorf("no memory: %v", err)
	}
	small.limits.sending.Release(small.limits.memory)

	if !b.limits.receiving.TryAcquire(b.limits.memory) {
		t.Fatal("memory is taken")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := b.Chunks(ctx, small.ID(), testID, content.Run{Segment: 7, Count: 2}, s.size, nil, collect(segment{})); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("chunks came without memory for them: %v", err)
	}
	b.limits.receiving.Release(b.limits.memory)

	// Some of the memory is left for what somebody reads.
	bulk := b.limits.memory - b.limits.memory/urgentShare
	if !b.limits.bulk.TryAcquire(bulk) || !b.limits.receiving.TryAcquire(bulk) {
		t.Fatal("memory is taken")
	}
	ctx, cancel = context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := b.Chunks(ctx, small.ID(), testID, content.Run{Segment: 7, Count: 2}, s.size, nil, collect(segment{})); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("chunks came without memory for what nobody waits for: %v", err)
	}
	if err := b.Chunks(Urgent(t.Context()), small.ID(), testID, content.Run{Segment: 7, Count: 2}, s.size, nil, collect(segment{})); err != nil {
		t.Errorf("what somebody waits for: %v", err)
	}
	b.limits.bulk.Release(bulk)
	b.limits.receiving.Release(bulk)
}

func TestChunksCancel(t *testing.T) {
	s := newSegment(1, 1000, 1000, 1000, 1000)
	hold := make(chan struct{})
	a := newHost(t, Config{}, Handlers{Chunk: func(ctx context.Context, id content.ID, ref content.Ref, buf []byte) ([]byte, error) {
		if ref.Index == 2 {
			<-ctx.Done()
			close(hold)
			return nil, ctx.Err()
		}
		return s.chunk(ctx, id, ref, buf)
	}})
	b := newHost(t, Config{Timeouts: Timeouts{Progress: time.Minute}}, Handlers{})
	connect(t, b, a)
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	err := b.Chunks(ctx, a.ID(), testID, content.Run{Segment: 7, Count: 4}, s.size, nil, func(content.Ref, []byte) error {
		if n++; n == 2 {
			cancel()
		}
		return nil
	})
	if !errors.Is(err, context.Canceled) || n != 2 {
		t.Errorf("after %d chunks: %v", n, err)
	}
	a.Close() // ends the handler that waits
	<-hold

	c := newHost(t, Config{}, Handlers{Chunk: s.chunk})
	connect(t, b, c)
	stop := errors.New("enough")
	err = b.Chunks(t.Context(), c.ID(), testID, content.Run{Segment: 7, Count: 4}, s.size, nil, func(content.Ref, []byte) error { return stop })
	if !errors.Is(err, stop) {
		t.Errorf("error of each: %v", err)
	}
	within(t, "nothing is held", func() bool { return idle(b) && idle(c) })
}

func TestBlocks(t *testing.T) {
	blocks := content.Blocks{}
	var ask []content.Digest
	for i := range 700 {
		ask = append(ask, blocks.Put(bytes.Repeat([]byte{byte(i), byte(i >> 8)}, 2000)))
	}
	for i := range 9 { // more than fits in one answer
		ask = append(ask, blocks.Put(bytes.Repeat([]byte{byte(i)}, content.MaxBlockSize)))
	}
	missing := content.Sum([]byte("missing"))
	ask = slices.Insert(ask, 300, missing)
	a := newHost(t, Config{Timeouts: patient}, Handlers{Block: func(id content.ID, d content.Digest) ([]byte, bool) {
		b, ok := blocks[d]
		return b, ok && id == testID
	}})
	b := newHost(t, Config{Timeouts: patient}, Handlers{})
	connect(t, b, a)
	var got []content.Digest
	err := b.Blocks(t.Context(), a.ID(), testID, ask, func(d content.Digest, data []byte) error {
		if content.Sum(data) != d {
			t.Errorf("block %s has another hash", d)
		}
		got = append(got, d)
		return nil
	})
	var not *NotHereError
	if !errors.As(err, &not) || !slices.Equal(not.Blocks, []content.Digest{missing}) {
		t.Errorf("error %v, want 1 missing", err)
	}
	if want := slices.DeleteFunc(slices.Clone(ask), func(d content.Digest) bool { return d == missing }); !slices.Equal(got, want) {
		t.Errorf("got %d blocks, want %d in order: %v", len(got), len(want), err)
	}
	if err := b.Blocks(t.Context(), a.ID(), testID, nil, nil); err != nil {
		t.Errorf("no blocks: %v", err)
	}
	for name, answer := range map[string]string{
		"wrong hash": part(statusOK, 3, "abc"), "huge": part(statusOK, content.MaxBlockSize+1, ""), "only cut": part(statusCut, 0, ""),
	} {
		bad := hostile(t, blocksProtocol, func(s network.Stream) { readFrame(s, maxRequest); io.WriteString(s, answer); io.Copy(io.Discard, s) })
		if err := b.host.Connect(t.Context(), *host.InfoFromHost(bad)); err != nil {
			t.Fatal(err)
		}
		err := b.Blocks(t.Context(), gossip.PeerID(bad.ID().String()), testID, ask[:1], func(content.Digest, []byte) error { return nil })
		if !errors.Is(err, ErrBadAnswer) {
			t.Errorf("%s: %v", name, err)
		}
	}
	within(t, "nothing is held", func() bool { return idle(a) && idle(b) })
}

func TestHoldings(t *testing.T) {
	t.Parallel()
	changes := make(chan gossip.Holdings, 4)
	ended := make(chan struct{}, 4)
	bridged := short // a busy machine may not get to a keep-alive frame within a shorter silence
	bridged.Progress = 2 * time.Second
	a := newHost(t, Config{Timeouts: bridged}, Handlers{Holdings: func(ctx context.Context, id content.ID) (<-chan gossip.Holdings, error) {
		if id != testID {
			return nil, ErrNotHere
		}
		context.AfterFunc(ctx, func() { ended <- struct{}{} })
		return changes, nil
	}})
	b := newHost(t, Config{Timeouts: bridged}, Handlers{})
	connect(t, b, a)
	if err := b.WatchHoldings(t.Context(), a.ID(), content.NewID([]byte("other")), nil); !errors.Is(err, ErrNotHere) {
		t.Errorf("another collection: %v", err)
	}
	changes <- gossip.Holdings{Reset: true, Release: 3, Below: 5, Segments: content.Full(9)}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	n := 0
	err := b.WatchHoldings(ctx, a.ID(), testID, func(h gossip.Holdings) error {
		switch n++; n {
		case 1:
			if !h.Reset || h.Release != 3 || h.Below != 5 {
				t.Errorf("first: %+v", h)
			}
			// Longer than a silent peer is endured: keep-alive frames bridge it.
			time.AfterFunc(3*bridged.Progress/2, func() { changes <- gossip.Holdings{Release: 3, Gone: []uint32{2}} })
		case 2:
			if h.Reset || len(h.Gone) != 1 {
				t.Errorf("second: %+v", h)
			}
			cancel()
		}
		return nil
	})
	if n != 2 || !errors.Is(err, context.Canceled) {
		t.Fatalf("after %d messages: %v", n, err) // what was to be sent later would be sent to what is closed below
	}
	<-ended
	go func() { changes <- gossip.Holdings{Reset: true}; close(changes) }()
	if err := b.WatchHoldings(t.Context(), a.ID(), testID, func(gossip.Holdings) error { return nil }); !errors.Is(err, io.EOF) {
		t.Errorf("the holder ends it: %v", err)
	}
	<-ended
	for name, c := range map[string]struct {
		answer string
		want   error
	}{
		"huge": {part(statusOK, gossip.MaxHoldings+1, ""), ErrBadAnswer}, "garbage": {part(statusOK, 3, "abc"), ErrBadAnswer},
		"silence": {"", ErrTimeout}, "cut": {part(statusCut, 0, ""), ErrBadAnswer}, "busy": {part(statusBusy, 5, ""), nil},
	} {
		bad := hostile(t, holdingsProtocol, func(s network.Stream) { io.WriteString(s, c.answer); io.Copy(io.Discard, s) })
		asker := b
		if c.want == ErrTimeout {
			asker = newHost(t, Config{Timeouts: short}, Handlers{})
		}
		if err := asker.host.Connect(t.Context(), *host.InfoFromHost(bad)); err != nil {
			t.Fatal(err)
		}
		err := asker.WatchHoldings(t.Context(), gossip.PeerID(bad.ID().String()), testID, nil)
		if err == nil || c.want != nil && !errors.Is(err, c.want) || c.want == nil && !strings.Contains(err.Error(), "busy") {
			t.Errorf("%s: %v", name, err)
		}
	}
	within(t, "nothing is held", func() bool { return idle(a) && idle(b) })
}

// TestCloseUnderLoad closes hosts while chunks are moving in both directions.
func TestCloseUnderLoad(t *testing.T) {
	s := newSegment(1, 200_000, 200_000, 200_000, 200_000)
	a, b := newHost(t, Config{}, Handlers{Chunk: s.chunk}), newHost(t, Config{}, Handlers{Chunk: s.chunk})
	connect(t, b, a)
	run(t, a)
	run(t, b)
	var asks sync.WaitGroup
	var got atomic.Int64
	var closing atomic.Bool // before, an answer may stall on a busy machine, and is asked for again
	for i := range 6 {
		from, to := a, b
		if i%2 == 1 {
			from, to = b, a
		}
		asks.Go(func() {
			for {
				err := to.Chunks(t.Context(), from.ID(), testID, content.Run{Segment: 7, Count: 4}, s.size, nil,
					func(content.Ref, []byte) error { got.Add(1); return nil })
				var busy *BusyError
				if err != nil && !errors.As(err, &busy) && closing.Load() {
					return
				}
			}
		})
	}
	within(t, "some chunks", func() bool { return got.Load() > 100 })
	closing.Store(true)
	a.Close()
	b.Close()
	asks.Wait()
}

// TestUnsent: a chunk that was read for an answer which the asker broke off is given back; one that surely came is not.
func TestUnsent(t *testing.T) {
	s := newSegment(1, slices.Repeat([]int{content.MaxChunkSize}, 8)...)
	unsent := make(chan content.Ref, 8)
	a := newHost(t, Config{}, Handlers{Chunk: s.chunk, Unsent: func(_ context.Context, _ content.ID, ref content.Ref) { unsent <- ref }})
	b := newHost(t, Config{}, Handlers{})
	connect(t, b, a)
	stop := errors.New("enough")
	err := b.Chunks(t.Context(), a.ID(), testID, content.Run{Segment: 7, Count: 8}, s.size, nil, func(ref content.Ref, _ []byte) error {
		if ref.Index == 2 {
			return stop
		}
		return nil
	})
	if !errors.Is(err, stop) {
		t.Fatalf("error of each: %v", err)
	}
	within(t, "the answer ends", func() bool { return idle(a) && idle(b) })
	if len(unsent) == 0 {
		t.Error("no chunk was given back")
	}
	for close(unsent); len(unsent) > 0; {
		if ref := <-unsent; ref.Index == 0 {
			t.Error("the chunk that came was given back")
		}
	}
}
