package mirror

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"swarmnode/content"
	"swarmnode/gossip"
)

const (
	modelSegments = 12
	modelChunks   = 6
)

// dumbHave is the truth, kept chunk by chunk. Segments below that were never lost are whole.
type dumbHave map[content.Ref]bool

func (d dumbHave) set(segment uint32, chunks content.Bitmap) {
	for i := range uint32(modelChunks) {
		d[content.Ref{Segment: segment, Index: i}] = chunks.Has(i)
	}
}

// compare compares what a watcher believes with the truth.
func (d dumbHave) compare(v *gossip.View) error {
	for s := range uint32(modelSegments) {
		for i := range uint32(modelChunks) {
			ref := content.Ref{Segment: s, Index: i}
			if got, want := v.HasChunk(ref), d[ref]; got != want {
				return fmt.Errorf("it believes that chunk %v is here: %v, want %v", ref, got, want)
			}
		}
	}
	return nil
}

// watcher applies what Watch tells to a View, through the codec as a peer would.
type watcher struct {
	view gossip.View
	slow time.Duration // taken for each message
	msgs int
	bad  error
}

func (w *watcher) run(ctx context.Context, a *Availability) {
	for h := range a.Watch(ctx) {
		raw, err := gossip.EncodeHoldings(h)
		if err == nil {
			h, err = gossip.DecodeHoldings(raw)
		}
		if err != nil {
			w.bad = err
		}
		w.view.Apply(h)
		w.msgs++
		time.Sleep(w.slow)
	}
}

// change is one step of a run: what happens, to what.
type change struct {
	Kind    string
	Segment uint32
	Number  uint32 // chunk, or end of a release
	Chunks  content.Bitmap
	Time    time.Duration
}

func genChange() *rapid.Generator[change] {
	return rapid.Custom(func(t *rapid.T) change {
		return change{
			Kind:    rapid.SampledFrom([]string{"chunk", "chunk", "chunk", "complete", "have", "switch", "watch", "forget", "time", "time"}).Draw(t, "kind"),
			Segment: rapid.Uint32Range(0, modelSegments-1).Draw(t, "segment"),
			Number:  rapid.Uint32Range(0, modelChunks-1).Draw(t, "number"),
			Chunks:  rapid.SliceOfN(rapid.ByteRange(0, 1<<modelChunks-1), 0, 1).Draw(t, "chunks"),
			Time:    time.Duration(rapid.IntRange(1, 400).Draw(t, "ms")) * time.Millisecond,
		}
	})
}

// TestWatchersEndWithTheTruth makes random changes while watchers come, lag and catch up.
func TestWatchersEndWithTheTruth(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		changes := rapid.SliceOfN(genChange(), 1, 60).Draw(rt, "changes")
		var wrong error
		synctest.Test(t, func(*testing.T) { wrong = runChanges(changes) })
		if wrong != nil {
			rt.Fatal(wrong)
		}
	})
}

func runChanges(changes []change) error {
	a, truth := NewAvailability(), dumbHave{}
	ctx, cancel := context.WithCancel(context.Background())
	defer func() { cancel(); synctest.Wait() }()
	watchers := []*watcher{{}}
	go watchers[0].run(ctx, a)
	below := uint32(0)
	for _, c := range changes {
		ref := content.Ref{Segment: c.Segment, Index: c.Number}
		switch c.Kind {
		case "chunk":
			if a.Chunk(ref) && truth[ref] {
				return fmt.Errorf("chunk %v was here and is news", ref)
			}
			truth[ref] = true
		case "complete":
			a.Complete(c.Segment)
			truth.set(c.Segment, content.Full(modelChunks))
		case "have":
			a.Have(c.Segment, c.Chunks)
			truth.set(c.Segment, c.Chunks)
		case "switch":
			below = max(below, c.Segment)
			a.Switch(uint64(below), below)
			for n := range below {
				truth.set(n, content.Full(modelChunks))
			}
		case "watch":
			w := &watcher{slow: 2 * c.Time}
			watchers = append(watchers, w)
			go w.run(ctx, a)
		case "forget": // as if so much had happened that the old is forgotten
			a.mu.Lock()
			a.first, a.events = a.first+uint64(len(a.events)), nil
			a.mu.Unlock()
		case "time":
			time.Sleep(c.Time)
		}
	}
	time.Sleep(2 * time.Minute)
	synctest.Wait()
	for i, w := range watchers {
		if w.bad != nil {
			return w.bad
		}
		if err := truth.compare(&w.view); err != nil {
			return fmt.Errorf("watcher %d: %w", i, err)
		}
	}
	return nil
}

func TestChangesComeTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := NewAvailability()
		ctx, cancel := context.WithCancel(context.Background())
		w := &watcher{}
		done := make(chan struct{})
		go func() { w.run(ctx, a); close(done) }()
		for i := range uint32(1000) {
			a.Chunk(content.Ref{Index: i})
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Second)
		cancel()
		<-done
		if w.msgs > 12 || w.msgs < 8 {
			t.Errorf("%d messages in a second, want one each %v", w.msgs, tellEvery)
		}
	})
}

func TestAvailabilityMemory(t *testing.T) {
	a := NewAvailability()
	for n := range uint32(50) {
		for i := range uint32(1000) {
			a.Chunk(content.Ref{Segment: n, Index: i})
		}
		a.Complete(n)
		if a.Chunk(content.Ref{Segment: n, Index: 5}) {
			t.Error("a chunk of a whole segment is news")
		}
	}
	a.Have(60, content.Full(3))
	a.Switch(1, 70)
	if len(a.partial) != 0 || len(a.complete) != 0 || len(a.lost) != 0 || len(a.events) > maxEvents {
		t.Errorf("%d partial, %d bytes of complete, %d lost, %d events", len(a.partial), len(a.complete), len(a.lost), len(a.events))
	}
}
