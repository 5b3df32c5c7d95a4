package policy

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"swarmnode/content"
	"swarmnode/gossip"
)

// readers is a swarm in which some read what others fetch in bulk: chunks become urgent and are given up at random.
type readers struct {
	*rapid.T
	t     *Transfer
	now   time.Time
	rng   *rand.Rand
	peers map[gossip.PeerID]manner
	need  map[content.Ref]bool
	open  []Request // that are answered some time
	size  uint32
}

// answer plays the peer's part for a request that was taken out of open.
func (w *readers) answer(r Request) {
	w.t.Began(w.now, r.ID)
	got := func(n uint32) {
		for i := range n {
			ref := content.Ref{Segment: r.Run.Segment, Index: r.Run.First + i}
			w.t.Got(w.now, r.ID, ref, w.size)
			delete(w.need, ref)
		}
	}
	switch w.peers[r.Peer] {
	case honest:
		got(r.Run.Count)
		w.t.Finished(w.now, r.ID)
	case denies:
		w.t.Finished(w.now, r.ID)
	case lies:
		w.t.Failed(w.now, r.ID, Reason{Kind: Bad, Ref: content.Ref{Segment: r.Run.Segment, Index: r.Run.First}})
	case busy:
		w.t.Failed(w.now, r.ID, Reason{Kind: Busy, RetryAfter: time.Second})
	case breaks:
		got(1)
		w.t.Failed(w.now, r.ID, Reason{Kind: Broken})
	}
}

// change has readers come and go.
func (w *readers) change() {
	var waiting, ahead []content.Ref
	for _, ref := range w.refs() {
		switch w.rng.IntN(12) {
		case 0:
			waiting = append(waiting, ref)
		case 1:
			ahead = append(ahead, ref)
		case 2:
			if w.rng.IntN(4) == 0 {
				var one content.Bitmap
				one.Set(ref.Index)
				w.t.Unwant(ref.Segment, one)
				delete(w.need, ref)
			}
		}
	}
	w.t.Urge(w.now, waiting, ahead)
}

// refs lists what is needed, in an order that a seed repeats.
func (w *readers) refs() (list []content.Ref) {
	for ref := range w.need {
		list = append(list, ref)
	}
	slices.SortFunc(list, func(a, b content.Ref) int { return int(a.Segment*1000+a.Index) - int(b.Segment*1000+b.Index) })
	return list
}

// play runs until all that is still wanted is there.
func (w *readers) play() {
	for range 100_000 {
		if w.rng.IntN(4) == 0 {
			w.change()
		}
		st := w.t.Next(w.now)
		w.open = slices.DeleteFunc(w.open, func(r Request) bool { return slices.Contains(st.Cancel, r.ID) })
		w.open = append(w.open, st.Ask...)
		var most uint64
		for _, r := range w.open {
			most += r.Bytes
		}
		if st.InFlight > most {
			w.Fatalf("%d bytes in flight, the open requests are for %d", st.InFlight, most)
		}
		if got, want := w.t.Left(), len(w.need); got != want {
			w.Fatalf("%d chunks left, want %d", got, want)
		}
		if st.Done {
			break
		}
		answers := slices.DeleteFunc(slices.Clone(w.open), func(r Request) bool { return w.peers[r.Peer] == silent })
		if len(answers) == 0 {
			if st.Wake.IsZero() {
				w.Fatalf("nobody answers, %d chunks left, and nothing to wake for", w.t.Left())
			}
			if st.Wake.After(w.now) {
				w.now = st.Wake
			} else {
				w.now = w.now.Add(time.Millisecond)
			}
			continue
		}
		r := answers[w.rng.IntN(len(answers))]
		w.open = slices.DeleteFunc(w.open, func(o Request) bool { return o.ID == r.ID })
		w.now = w.now.Add(time.Duration(w.rng.IntN(300)) * time.Millisecond)
		w.answer(r)
	}
	if len(w.need) > 0 {
		w.Fatalf("%d chunks did not come", len(w.need))
	}
}

// TestReadersGetEverything: as long as one honest peer has everything, all that is wanted comes, whoever reads it and gives up
// meanwhile, and nothing stays in flight.
func TestReadersGetEverything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		seed := rapid.Uint64().Draw(t, "seed")
		w := &readers{T: t, now: epoch, rng: rand.New(rand.NewPCG(seed, 2)), peers: map[gossip.PeerID]manner{}, need: map[content.Ref]bool{},
			size: rapid.SampledFrom([]uint32{100, 64 << 10, 1 << 20}).Draw(t, "size"),
			t:    NewTransfer(TransferConfig{InFlight: 8 << 20}, rand.New(rand.NewPCG(seed, 1)))}
		for seg := range uint32(3) {
			n := rapid.Uint32Range(1, 30).Draw(t, "chunks")
			w.t.Want(seg, func(uint32) uint32 { return w.size }, content.Full(n))
			for i := range n {
				w.need[content.Ref{Segment: seg, Index: i}] = true
			}
		}
		for i := range rapid.IntRange(1, 6).Draw(t, "peers") {
			id := gossip.PeerID(fmt.Sprint("peer", i))
			if w.peers[id] = honest; i > 0 {
				w.peers[id] = manner(rapid.IntRange(0, int(manners)-1).Draw(t, "manner"))
			}
			w.t.Found(w.now, id, time.Duration(rapid.IntRange(0, 200).Draw(t, "rtt"))*time.Millisecond)
			w.t.Holds(w.now, id, gossip.Holdings{Below: 3})
		}
		w.play()
		for _, s := range w.t.order {
			var left uint64
			for _, r := range s.asked {
				for i := next(r.open, 0); i < r.Run.Count; i = next(r.open, i+1) {
					left += uint64(w.size)
				}
			}
			if s.inFlight != left || left != 0 {
				t.Errorf("%s: %d bytes in flight, its requests expect %d", s.id, s.inFlight, left)
			}
		}
	})
}
