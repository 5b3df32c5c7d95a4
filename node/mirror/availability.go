package mirror

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"swarmnode/content"
	"swarmnode/content/guard"
	"swarmnode/gossip"
)

const (
	// tellEvery is the least time between two messages about holdings to one peer (DESIGN section 6).
	tellEvery = 100 * time.Millisecond
	// maxEvents is how many changes are remembered for peers that are behind; one that is further behind is told
	// everything anew.
	maxEvents = 1 << 14
)

// Availability is what this node has of a collection and tells to the peers that watch. A segment is whole if it was said to
// be complete, or if its number is below that of a served release's end and nothing of it was lost since.
type Availability struct {
	mu       sync.Mutex // guards all below
	release  uint64
	below    uint32
	lost     map[uint32]bool           // segments below that are not whole
	complete content.Bitmap            // whole segments that are not below
	partial  map[uint32]content.Bitmap // of segments that are not whole; never empty
	events   []event                   // the last changes
	first    uint64                    // number of events[0]
	changed  chan struct{}
}

// event is one change: what it is about. What is so now is told.
type event struct {
	kind eventKind
	ref  content.Ref // Index only with gotChunk
}

type eventKind uint8

const (
	gotChunk eventKind = iota
	gotSegment
	lostSegment // or a chunk of it: what is left is said anew
	switched
)

// NewAvailability makes one of a node that has nothing.
func NewAvailability() *Availability {
	return &Availability{lost: map[uint32]bool{}, partial: map[uint32]content.Bitmap{}, changed: make(chan struct{})}
}

// note appends an event and wakes the watchers. The caller holds mu.
func (a *Availability) note(kind eventKind, ref content.Ref) {
	if len(a.events) == maxEvents {
		half := maxEvents / 2
		a.events = append(a.events[:0], a.events[half:]...)
		a.first += uint64(half)
	}
	a.events = append(a.events, event{kind, ref})
	close(a.changed)
	a.changed = make(chan struct{})
}

// whole reports whether all of a segment is here. The caller holds mu.
func (a *Availability) whole(segment uint32) bool {
	return segment < a.below && !a.lost[segment] || a.complete.Has(segment)
}

// Chunk says that a chunk is here. It reports whether that was not known.
func (a *Availability) Chunk(ref content.Ref) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	b := a.partial[ref.Segment]
	if a.whole(ref.Segment) || b.Has(ref.Index) {
		return false
	}
	b.Set(ref.Index)
	a.partial[ref.Segment] = b
	a.note(gotChunk, ref)
	return true
}

// Have says which chunks of a segment are here, and that it is not whole.
func (a *Availability) Have(segment uint32, chunks content.Bitmap) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.complete.Clear(segment)
	if segment < a.below {
		a.lost[segment] = true
	}
	delete(a.partial, segment)
	if chunks = chunks.Clone().Trim(); len(chunks) > 0 {
		a.partial[segment] = chunks
	}
	a.note(lostSegment, content.Ref{Segment: segment})
}

// Complete says that every live chunk of a segment is here and durable.
func (a *Availability) Complete(segment uint32) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.whole(segment) {
		return
	}
	delete(a.partial, segment)
	if delete(a.lost, segment); segment >= a.below {
		a.complete.Set(segment)
	}
	a.note(gotSegment, content.Ref{Segment: segment})
}

// Switch says that every live segment of a release is here: all with a smaller number than below.
func (a *Availability) Switch(release uint64, below uint32) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.release, a.below = release, max(below, a.below)
	clear(a.lost)
	a.complete.AndNot(content.Full(a.below))
	for n := range a.partial {
		if n < a.below {
			delete(a.partial, n)
		}
	}
	a.note(switched, content.Ref{})
}

// Serve says that this node serves a release of which it need not have everything.
func (a *Availability) Serve(release uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.release = release
	a.note(switched, content.Ref{})
}

// Watch gives everything first and then what changes, until ctx ends and the channel is closed.
func (a *Availability) Watch(ctx context.Context) <-chan gossip.Holdings {
	out := make(chan gossip.Holdings)
	go func() {
		defer close(out)
		a.mu.Lock()
		h, next := a.all(), a.end()
		a.mu.Unlock()
		changed := (<-chan struct{})(nil)
		for tell(ctx, out, h) {
			for {
				if !pause(ctx, changed) {
					return
				}
				at := next
				if h, next, changed = a.since(at); next != at {
					break
				}
			}
		}
	}()
	return out
}

// pause waits for a change, if changed is not nil, and then lets more come together. It reports whether ctx goes on.
func pause(ctx context.Context, changed <-chan struct{}) bool {
	if changed != nil {
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
	wait := tellEvery
	if !guard.On(guard.HoldingsRate) {
		wait = 0
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// tell sends a message in parts that keep the limits.
func tell(ctx context.Context, out chan<- gossip.Holdings, h gossip.Holdings) bool {
	for _, part := range h.Parts() {
		select {
		case out <- part:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// end is the number of the next event. The caller holds mu.
func (a *Availability) end() uint64 { return a.first + uint64(len(a.events)) }

// all is the full message. The caller holds mu.
func (a *Availability) all() gossip.Holdings {
	h := gossip.Holdings{Reset: true, Release: a.release, Below: a.below, Segments: a.complete.Clone()}
	h.Gone = slices.AppendSeq(h.Gone, maps.Keys(a.lost))
	for n, b := range a.partial {
		h.Partial = append(h.Partial, gossip.PartialSegment{Segment: n, Chunks: b.Clone()})
	}
	return h
}

// since is what changed from event number next on, the number to go on with, and, if nothing did, a channel that is closed
// at the next change. It names the segments that changed and says of them what is so now, so the order of events does not matter.
func (a *Availability) since(next uint64) (gossip.Holdings, uint64, <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	at := a.end()
	if next == at {
		return gossip.Holdings{}, at, a.changed
	}
	if next < a.first {
		return a.all(), at, nil
	}
	h := gossip.Holdings{Release: a.release}
	anew := map[uint32]bool{}             // segments to tell of from the beginning
	chunks := map[uint32]content.Bitmap{} // that were got, of others
	for _, e := range a.events[next-a.first:] {
		switch e.kind {
		case gotChunk:
			b := chunks[e.ref.Segment]
			b.Set(e.ref.Index)
			chunks[e.ref.Segment] = b
		case gotSegment, lostSegment:
			anew[e.ref.Segment] = true
		case switched: // who applies Below forgets what was lost
			h.Below = a.below
		}
	}
	if h.Below > 0 {
		for n := range a.lost {
			anew[n] = true
		}
	}
	for n := range anew {
		delete(chunks, n)
		if a.whole(n) {
			h.Segments.Set(n)
			continue
		}
		h.Gone = append(h.Gone, n)
		if b := a.partial[n]; len(b) > 0 {
			h.Partial = append(h.Partial, gossip.PartialSegment{Segment: n, Chunks: b.Clone()})
		}
	}
	for n, b := range chunks {
		if !a.whole(n) {
			h.Partial = append(h.Partial, gossip.PartialSegment{Segment: n, Chunks: b})
		}
	}
	return h, at, nil
}
