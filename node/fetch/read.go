package fetch

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"swarmnode/content"
)

// readPatience is how long a reader waits while not a byte of its chunk comes: a few round trips and the time for a second and a
// third peer to be asked (node/policy), and about as long as people wait for a page.
const readPatience = 8 * time.Second

// ErrNobody says that a chunk that somebody reads did not come: no connected peer has it, or none of them answers.
var ErrNobody = errors.New("no connected peer brings this chunk now")

// ErrHere says that a chunk needs not be fetched: it has come since the caller looked for it.
var ErrHere = errors.New("the chunk is here by now")

// reading is what is being read: it is asked for before everything else.
type reading struct {
	chunks  map[content.Ref]*pending
	queue   []content.Ref // of these, those that somebody waits for, in the order in which they did
	readers map[uint64]*reader
	order   []*reader                 // in the order in which they came
	windows map[content.Ref][]*reader // whose window a chunk is in, as often as it is
	count   atomic.Int32              // of readers: without any nobody needs the lock to find out
	urged   bool                      // the transfer has been told all of it
}

// pending is a chunk that is read or will be soon.
type pending struct {
	table   *content.Table
	waiters int           // calls of Read
	hints   []*reader     // that will read it, as often as they will
	done    chan struct{} // closed when it is here
	data    []byte        // the chunk; nil when it is here and nobody waited for it: then the sink has it
}

// urgentKey marks the context of a request for what somebody reads.
type urgentKey struct{}

// Urgent reports whether a request with this context is for what somebody reads: a Network lets it not wait for what it asks for others.
func Urgent(ctx context.Context) bool { return ctx.Value(urgentKey{}) != nil }

// Read fetches a chunk that somebody waits for: before all else that is wanted, from the peer that is expected to bring it soonest, and
// from another one when that is late or fails. Several readers of a chunk share one fetch, and when the last has gone it ends. The
// chunk goes to the sink like any other; one that the sink cannot take now is given to its readers all the same. It comes in
// buf if that is large enough. The error is [ErrNobody] when no byte of it came for readPatience, [ErrHere] when the sink has it, or
// that of ctx.
func (f *Fetcher) Read(ctx context.Context, t *content.Table, ref content.Ref, buf []byte) ([]byte, error) {
	if ref.Index >= t.Len() {
		return nil, fmt.Errorf("read chunk %d of segment %d: it has %d", ref.Index, ref.Segment, t.Len())
	}
	p, stopped := f.await(t, ref)
	if p == nil {
		return nil, fmt.Errorf("read chunk %d of segment %d: %w", ref.Index, ref.Segment, ErrHere)
	}
	defer f.leave(ref, p)
	timer := time.NewTimer(readPatience)
	defer timer.Stop()
	came := uint64(0)
	for {
		select {
		case <-p.done:
			f.Took(ref)
			return append(buf[:0], p.data...), nil
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-stopped:
			return nil, fmt.Errorf("chunk %d of segment %d: %w: this node is stopping", ref.Index, ref.Segment, ErrNobody)
		case <-timer.C:
			now := f.came(ref)
			if now == came {
				return nil, fmt.Errorf("chunk %d of segment %d: %w", ref.Index, ref.Segment, ErrNobody)
			}
			came = now
			timer.Reset(readPatience)
		}
	}
}

// await counts a reader in, unless the sink has the chunk: then it gives nil. The channel is closed when Run ends.
func (f *Fetcher) await(t *content.Table, ref content.Ref) (p *pending, stopped <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.running != nil {
		stopped = f.running.Done()
	}
	if f.chunks[ref] == nil && f.cfg.Here(ref) {
		return nil, nil
	}
	p = f.pending(t, ref)
	if p.waiters++; p.waiters == 1 && p.data == nil { // else it was read ahead and the sink could not take it
		f.queue = append(f.queue, ref)
		f.urged = false
		f.wake()
	}
	return p, stopped
}

// pending finds a chunk that is read, or begins to want it. The caller holds mu.
func (f *Fetcher) pending(t *content.Table, ref content.Ref) *pending {
	p := f.chunks[ref]
	if p != nil {
		return p
	}
	p = &pending{table: t, done: make(chan struct{})}
	f.chunks[ref] = p
	w := f.wants[ref.Segment]
	if w == nil {
		w = &wanted{table: t}
		f.wants[ref.Segment] = w
	}
	w.reads.Set(ref.Index)
	var one content.Bitmap
	one.Set(ref.Index)
	f.transfer.Want(ref.Segment, func(i uint32) uint32 { return t.Chunk(i).Size }, one)
	return p
}

// leave counts a reader out.
func (f *Fetcher) leave(ref content.Ref, p *pending) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p.waiters--
	if f.chunks[ref] != p {
		return
	}
	if p.waiters == 0 {
		f.queue = slices.DeleteFunc(f.queue, func(r content.Ref) bool { return r == ref })
		f.urged = false
	}
	f.abandon(ref, p)
}

// abandon ends the wish for a chunk that nobody reads or will read. The caller holds mu.
func (f *Fetcher) abandon(ref content.Ref, p *pending) {
	if p.waiters > 0 || len(p.hints) > 0 || f.chunks[ref] != p {
		return
	}
	delete(f.chunks, ref)
	f.urged = false
	if w := f.wants[ref.Segment]; w != nil {
		w.reads.Clear(ref.Index)
		if !w.need.Has(ref.Index) {
			var one content.Bitmap
			one.Set(ref.Index)
			f.transfer.Unwant(ref.Segment, one)
		}
		f.forgetWant(ref.Segment, w)
	}
	f.wake()
}

// came is how many bytes have come of the answers to all open requests that a chunk is in.
func (f *Fetcher) came(ref content.Ref) (bytes uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.requests {
		if r.run.Segment == ref.Segment && ref.Index-r.run.First < r.run.Count && r.came != nil {
			bytes += r.came()
		}
	}
	return bytes
}

// isHere gives a chunk to those who wait for it. kept says that the sink has it. The caller holds mu.
func (f *Fetcher) isHere(ref content.Ref, data []byte, kept bool) {
	p := f.chunks[ref]
	if p == nil || p.data != nil {
		return
	}
	if p.waiters > 0 || !kept {
		p.data = slices.Clone(data)
	}
	close(p.done)
	f.urged = false
	f.queue = slices.DeleteFunc(f.queue, func(r content.Ref) bool { return r == ref })
	if kept || len(p.hints) == 0 {
		delete(f.chunks, ref) // who reads it next finds it in the sink
	}
}

// pass gives a chunk, whose hash is right, that the sink could not take to those who read it, if any do, and reports whether that is all there is to
// do: nothing but readers wanted it.
func (f *Fetcher) pass(r *asked, ref content.Ref, data []byte) (all bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	w := f.wants[ref.Segment]
	needed := w != nil && w.need.Has(ref.Index)
	if needed && f.chunks[ref] == nil {
		return false
	}
	f.isHere(ref, data, false)
	f.arrived(r.id, ref, len(data))
	if w != nil {
		f.forgetWant(ref.Segment, w)
	}
	if needed { // the mirror still has to store it
		var one content.Bitmap
		one.Set(ref.Index)
		f.transfer.Want(ref.Segment, func(i uint32) uint32 { return w.table.Chunk(i).Size }, one)
	}
	f.settle()
	f.wake()
	return !needed
}

// urge tells the transfer what is read. The caller holds mu.
func (f *Fetcher) urge(now time.Time) {
	if f.urged {
		return
	}
	f.urged = true
	var soon []content.Ref
	more := slices.Clone(f.order)
	for place := 0; len(more) > 0; place++ { // the next chunk of each reader before the second of any
		more = slices.DeleteFunc(more, func(r *reader) bool { return place >= len(r.window) })
		for _, r := range more {
			if ref := r.window[place].ref; f.chunks[ref] != nil && f.chunks[ref].data == nil {
				soon = append(soon, ref)
			}
		}
	}
	f.transfer.Urge(now, f.queue, soon)
}
