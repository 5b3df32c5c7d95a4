package mirror

import (
	"context"
	"sync"
	"time"

	"swarmnode/content"
	"swarmnode/gossip"
)

const (
	// tellEvery is the least time between two messages about holdings to one peer (DESIGN section 6).
	tellEvery = 100 * time.Millisecond
	// maxEvents is how many changes are remembered for peers that are behind; one that is further behind is told
	// everything anew.
	maxEvents = 1 << 14
)

// Availability is what this node has of a collection and tells to the peers that watch.
type Availability struct {
	mu       sync.Mutex // guards all below
	release  uint64
	below    uint32
	complete content.Bitmap
	partial  map[uint32]content.Bitmap
	events   []event // the last changes
	first    uint64  // number of events[0]
	changed  chan struct{}
}

// event is one change. Exactly one of the fields says what.
type event struct {
	ref    content.Ref
	kind   eventKind
	number uint32
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
	return &Availability{partial: map[uint32]content.Bitmap{}, changed: make(chan struct{})}
}

// note appends an event and wakes the watchers. The caller holds mu.
func (a *Availability) note(e event) {
	if len(a.events) == maxEvents {
		half := maxEvents / 2
		a.events = append(a.events[:0], a.events[half:]...)
		a.first += uint64(half)
	}
	a.events = append(a.events, e)
	close(a.changed)
	a.changed = make(chan struct{})
}

// Chunk says that a chunk is here.
func (a *Availability) Chunk(ref content.Ref) {
	a.mu.Lock()
	defer a.mu.Unlock()
	b := a.partial[ref.Segment]
	b.Set(ref.Index)
	a.partial[ref.Segment] = b
	a.note(event{kind: gotChunk, ref: ref})
}

// Have says which chunks of a segment are here, all of them.
func (a *Availability) Have(segment uint32, chunks content.Bitmap) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.complete.Clear(segment)
	delete(a.partial, segment)
	if chunks.Count() > 0 {
		a.partial[segment] = chunks.Clone()
	}
	a.note(event{kind: lostSegment, number: segment})
}

// Complete says that every live chunk of a segment is here and durable.
func (a *Availability) Complete(segment uint32) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.complete.Set(segment)
	delete(a.partial, segment)
	a.note(event{kind: gotSegment, number: segment})
}

// Switch says that every live segment of a release is here: all with a smaller number than below.
func (a *Availability) Switch(release uint64, below uint32) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.release, a.below = release, below
	a.note(event{kind: switched})
}

// Watch gives everything first and then what changes, until ctx ends and the channel is closed.
func (a *Availability) Watch(ctx context.Context) <-chan gossip.Holdings {
	out := make(chan gossip.Holdings)
	go func() {
		defer close(out)
		a.mu.Lock()
		all, next := a.all(), a.first+uint64(len(a.events))
		a.mu.Unlock()
		if !tell(ctx, out, all) {
			return
		}
		timer := time.NewTimer(0)
		defer timer.Stop()
		for {
			h, at, changed := a.since(next)
			if at == next {
				select {
				case <-changed:
				case <-ctx.Done():
					return
				}
				timer.Reset(tellEvery) // let more come together
				select {
				case <-timer.C:
				case <-ctx.Done():
					return
				}
				continue
			}
			if next = at; !tell(ctx, out, h) {
				return
			}
		}
	}()
	return out
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

// all is the full message. The caller holds mu.
func (a *Availability) all() gossip.Holdings {
	h := gossip.Holdings{Reset: true, Release: a.release, Below: a.below, Segments: a.complete.Clone()}
	for n, b := range a.partial {
		h.Partial = append(h.Partial, gossip.PartialSegment{Segment: n, Chunks: b.Clone()})
	}
	return h
}

// since is what changed from event number next on, the number to go on with, and a channel closed at the next change.
func (a *Availability) since(next uint64) (gossip.Holdings, uint64, <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	at := a.first + uint64(len(a.events))
	if next == at {
		return gossip.Holdings{}, at, a.changed
	}
	if next < a.first {
		return a.all(), at, a.changed
	}
	h := gossip.Holdings{Release: a.release, Below: a.below}
	partial := map[uint32]content.Bitmap{}
	for _, e := range a.events[next-a.first:] {
		switch e.kind {
		case gotChunk:
			b := partial[e.ref.Segment]
			b.Set(e.ref.Index)
			partial[e.ref.Segment] = b
		case gotSegment:
			h.Segments.Set(e.number)
		case lostSegment:
			return a.all(), at, a.changed
		}
	}
	for n, b := range partial {
		if !h.Segments.Has(n) {
			h.Partial = append(h.Partial, gossip.PartialSegment{Segment: n, Chunks: b})
		}
	}
	return h, at, a.changed
}
