package policy

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"swarmnode/content"
	"swarmnode/gossip"
)

// manner is how a peer of the property tests answers.
type manner int

const (
	honest manner = iota
	silent        // never answers
	denies        // says it has all and then has nothing
	lies          // sends wrong bytes
	busy          // refuses for lack of room
	breaks        // breaks the stream after the first chunk
	manners
)

// world answers the requests of one Transfer and checks what it must never do.
type world struct {
	fatal  func(string, ...any)
	t      *Transfer
	cfg    TransferConfig
	now    time.Time
	rng    *rand.Rand
	peers  map[gossip.PeerID]manner
	size   map[uint32]uint32
	taken  map[content.Ref]RequestID // in flight
	got    map[content.Ref]int
	bytes  map[gossip.PeerID]uint64
	asks   map[gossip.PeerID]int
	names  map[RequestID]gossip.PeerID
	stolen map[RequestID]uint64 // bytes given to another
	sum    uint64
	queue  []Request
	silent map[RequestID]Request
	log    strings.Builder
}

func (w *world) give(r Request) {
	w.sum -= r.Bytes - w.stolen[r.ID]
	w.bytes[r.Peer] -= r.Bytes - w.stolen[r.ID]
	w.asks[r.Peer]--
	delete(w.names, r.ID)
	for i := range r.Run.Count {
		if ref := (content.Ref{Segment: r.Run.Segment, Index: r.Run.First + i}); w.taken[ref] == r.ID {
			delete(w.taken, ref)
		}
	}
}

func (w *world) take(r Request) {
	if r.From != 0 {
		w.robbed(r)
	}
	fmt.Fprintf(&w.log, "%d %s %v\n", r.ID, r.Peer, r.Run)
	w.names[r.ID] = r.Peer
	w.sum += r.Bytes
	w.bytes[r.Peer] += r.Bytes
	w.asks[r.Peer]++
	if r.Run.Count == 0 || w.sum > w.cfg.InFlight || w.bytes[r.Peer] > w.cfg.MaxWindow || w.asks[r.Peer] > w.cfg.PeerAsks {
		w.fatal("request %+v: %d in flight, %d and %d requests at the peer", r, w.sum, w.bytes[r.Peer], w.asks[r.Peer])
	}
	for i := range r.Run.Count {
		ref := content.Ref{Segment: r.Run.Segment, Index: r.Run.First + i}
		if other, ok := w.taken[ref]; ok || w.got[ref] > 0 {
			w.fatal("chunk %v asked again in %+v; in flight in %d, got %d times", ref, r, other, w.got[ref])
		}
		w.taken[ref] = r.ID
	}
}

// robbed takes the chunks of r from the request that had them.
func (w *world) robbed(r Request) {
	peer, open := w.names[r.From]
	if !open {
		return // all of it was taken, it was cancelled in the same step
	}
	w.sum -= r.Bytes
	w.bytes[peer] -= r.Bytes
	for i := range r.Run.Count {
		ref := content.Ref{Segment: r.Run.Segment, Index: r.Run.First + i}
		if w.taken[ref] != r.From {
			w.fatal("chunk %v stolen from %d, it is expected of %d", ref, r.From, w.taken[ref])
		}
		delete(w.taken, ref)
	}
	w.stolen[r.From] += r.Bytes
}

// answer plays the peer's part for one request.
func (w *world) answer(r Request) {
	how := w.peers[r.Peer]
	if how == silent {
		w.silent[r.ID] = r
		return
	}
	w.t.Began(w.now, r.ID)
	mine := map[content.Ref]bool{} // not given to another meanwhile
	for ref, id := range w.taken {
		mine[ref] = id == r.ID
	}
	w.give(r)
	ref := func(i uint32) content.Ref { return content.Ref{Segment: r.Run.Segment, Index: r.Run.First + i} }
	got := func(n uint32) {
		for i := range n {
			if !mine[ref(i)] {
				continue // cancelled before it
			}
			w.got[ref(i)]++
			w.t.Got(w.now, r.ID, ref(i), w.size[r.Run.Segment])
		}
	}
	switch how {
	case honest:
		got(r.Run.Count)
		w.t.Finished(w.now, r.ID)
	case denies:
		w.t.NotHere(w.now, r.ID, ref(0))
		w.t.Finished(w.now, r.ID)
	case lies:
		w.t.Failed(w.now, r.ID, Reason{Kind: Bad, Ref: ref(0)})
	case busy:
		w.t.Failed(w.now, r.ID, Reason{Kind: Busy, RetryAfter: time.Second})
	case breaks:
		got(1)
		w.t.Failed(w.now, r.ID, Reason{Kind: Broken})
	}
}

// play runs until all is there.
func (w *world) play(total int) {
	for range 200 * (total + 20) {
		st := w.t.Next(w.now)
		for _, id := range st.Cancel {
			if r, ok := w.silent[id]; ok {
				delete(w.silent, id)
				w.give(r)
			} else if k := slices.IndexFunc(w.queue, func(q Request) bool { return q.ID == id }); k >= 0 {
				w.give(w.queue[k])
				w.queue = slices.Delete(w.queue, k, k+1)
			}
		}
		for _, r := range st.Ask {
			w.take(r)
		}
		w.queue = append(w.queue, st.Ask...)
		if st.InFlight != w.sum {
			w.fatal("in flight: step says %d, it is %d", st.InFlight, w.sum)
		}
		if st.Done {
			break
		}
		if len(w.queue) == 0 {
			if st.Wake.IsZero() || !st.Wake.After(w.now) {
				w.fatal("nothing in flight, %d chunks left, wake %v, now %v", w.t.Left(), st.Wake, w.now)
			}
			w.now = st.Wake
			continue
		}
		k := w.rng.IntN(len(w.queue))
		r := w.queue[k]
		w.queue = slices.Delete(w.queue, k, k+1)
		w.now = w.now.Add(time.Duration(w.rng.IntN(300)) * time.Millisecond)
		w.answer(r)
	}
	if len(w.got) != total || w.t.Left() != 0 {
		w.fatal("got %d chunks of %d, %d left; stats %+v", len(w.got), total, w.t.Left(), w.t.Stats())
	}
	for ref, n := range w.got {
		if n != 1 {
			w.fatal("chunk %v came %d times", ref, n)
		}
	}
}

func newWorld(fatal func(string, ...any), seed uint64, cfg TransferConfig) *world {
	w := &world{fatal: fatal, cfg: cfg.withDefaults(), now: epoch, rng: rand.New(rand.NewPCG(seed, 2)), peers: map[gossip.PeerID]manner{},
		size: map[uint32]uint32{}, taken: map[content.Ref]RequestID{}, got: map[content.Ref]int{}, bytes: map[gossip.PeerID]uint64{},
		asks: map[gossip.PeerID]int{}, names: map[RequestID]gossip.PeerID{}, stolen: map[RequestID]uint64{}, silent: map[RequestID]Request{}}
	w.t = NewTransfer(cfg, rand.New(rand.NewPCG(seed, 1)))
	return w
}

// TestTransferCompletes: as long as one honest peer with everything stays, every chunk comes exactly once, whatever the
// others do, and no limit is passed on the way.
func TestTransferCompletes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cfg := TransferConfig{InFlight: rapid.Uint64Range(1, 8).Draw(t, "cap") << 20, PeerAsks: rapid.IntRange(1, 8).Draw(t, "asks")}
		w := newWorld(t.Fatalf, rapid.Uint64().Draw(t, "seed"), cfg)
		segments := rapid.IntRange(1, 6).Draw(t, "segments")
		total := 0
		for seg := range uint32(segments) {
			w.size[seg] = rapid.SampledFrom([]uint32{100, 64 << 10, 1 << 20}).Draw(t, "size")
			var need content.Bitmap
			for i := range rapid.Uint32Range(1, 60).Draw(t, "chunks") {
				if i == 0 || rapid.IntRange(0, 3).Draw(t, "need") > 0 {
					need.Set(i)
					total++
				}
			}
			w.t.Want(seg, func(uint32) uint32 { return w.size[seg] }, need)
		}
		for i := range rapid.IntRange(1, 8).Draw(t, "peers") {
			id := gossip.PeerID(fmt.Sprint("peer", i))
			w.peers[id] = manner(rapid.IntRange(0, int(manners)-1).Draw(t, "manner"))
			if i == 0 {
				w.peers[id] = honest
			}
			w.t.Found(w.now, id, time.Duration(rapid.IntRange(0, 200).Draw(t, "rtt"))*time.Millisecond)
			h := gossip.Holdings{Below: uint32(segments)}
			if i > 0 && rapid.Bool().Draw(t, "partial") {
				chunks := content.Full(rapid.Uint32Range(1, 60).Draw(t, "has"))
				h = gossip.Holdings{Partial: []gossip.PartialSegment{{Segment: 0, Chunks: chunks}}}
			}
			w.t.Holds(w.now, id, h)
		}
		w.play(total)
	})
}

// TestTransferSameSeed: the same seed gives the same requests, another seed gives others.
func TestTransferSameSeed(t *testing.T) {
	play := func(seed uint64) string {
		w := newWorld(t.Fatalf, seed, TransferConfig{})
		for seg := range uint32(8) {
			w.size[seg] = 256 << 10
			w.t.Want(seg, func(uint32) uint32 { return 256 << 10 }, content.Full(64))
		}
		for i := range 12 {
			id := gossip.PeerID(fmt.Sprint("peer", i))
			w.peers[id] = manner(i % int(manners))
			w.t.Found(w.now, id, time.Duration(i)*10*time.Millisecond)
			w.t.Holds(w.now, id, gossip.Holdings{Below: 8})
		}
		w.play(8 * 64)
		return w.log.String()
	}
	first := play(7)
	if again := play(7); again != first {
		t.Errorf("seed 7 twice: got\n%s\nwant\n%s", again, first)
	}
	if other := play(8); other == first {
		t.Error("seeds 7 and 8 gave the same requests")
	}
}

// TestSlotSet compares common with a loop.
func TestSlotSet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Uint32Range(1, 10_000).Draw(t, "n")
		var a, b slotSet
		both := map[uint32]bool{}
		for _, i := range rapid.SliceOfN(rapid.Uint32Range(0, n-1), 0, 40).Draw(t, "set") {
			a.set(i)
			if i%3 != 0 {
				b.set(i)
				both[i] = true
			}
		}
		for _, i := range rapid.SliceOfN(rapid.Uint32Range(0, n-1), 0, 10).Draw(t, "clear") {
			a.clear(i)
			delete(both, i)
		}
		from := rapid.Uint32Range(0, n-1).Draw(t, "from")
		want, found := uint32(0), false
		for k := range n {
			if i := (from + k) % n; both[i] {
				want, found = i, true
				break
			}
		}
		if got, ok := common(from, &a, &b); ok != found || got != want {
			t.Fatalf("common from %d: got %d %v, want %d %v", from, got, ok, want, found)
		}
	})
}

// BenchmarkNext is one request asked and answered, among many segments and peers.
func BenchmarkNext(b *testing.B) {
	for _, segments := range []uint32{16, 1024, 16384} {
		b.Run(fmt.Sprintf("segments=%d", segments), func(b *testing.B) {
			var t *Transfer
			var queue []Request
			now := epoch
			fill := func() {
				t, queue = NewTransfer(TransferConfig{}, rand.New(rand.NewPCG(1, 1))), nil
				full := content.Full(256)
				for seg := range segments {
					t.Want(seg, func(uint32) uint32 { return 256 << 10 }, full)
				}
				for i := range 50 {
					id := gossip.PeerID(fmt.Sprint("peer", i))
					t.Found(now, id, 20*time.Millisecond)
					var has content.Bitmap
					for seg := range segments {
						if seg%uint32(i+1) == 0 {
							has.Set(seg)
						}
					}
					t.Holds(now, id, gossip.Holdings{Segments: has})
				}
			}
			fill()
			b.ReportAllocs()
			for b.Loop() {
				st := t.Next(now)
				if st.Done {
					b.StopTimer()
					fill()
					b.StartTimer()
					continue
				}
				queue = append(queue, st.Ask...)
				r := queue[0]
				queue = queue[1:]
				now = now.Add(5 * time.Millisecond)
				for i := range r.Run.Count {
					t.Got(now, r.ID, content.Ref{Segment: r.Run.Segment, Index: r.Run.First + i}, 256<<10)
				}
				t.Finished(now, r.ID)
			}
		})
	}
}
