package p2p

import (
	"sync"

	"swarmnode/content"
)

const (
	// sendBatch is how full one buffer of an answer gets before the other one is filled.
	sendBatch = 256 << 10
	// sendBuffer has room for that and one more chunk.
	sendBuffer = sendBatch + partHeader + content.MaxChunkSize
)

var sendBuffers = sync.Pool{New: func() any { b := make([]byte, 0, sendBuffer); return &b }}

// outbox is two buffers between a goroutine that reads chunks and one that writes them to a stream. The writer gets
// what there is, at once: many small chunks in one piece when it is the slower one, and never an earlier chunk later
// because the next one is slow to read. The reader is at most one batch ahead, or one chunk if those are large.
type outbox struct {
	mu      sync.Mutex // guards what follows, but not the memory of bufs behind its length, which is the reader's
	changed sync.Cond
	bufs    [2]*[]byte
	sealed  [2]bool // the reader has gone on to the other buffer
	fill    int     // index of the reader's buffer; only the reader changes it
	drain   int     // index of the writer's buffer; only the writer changes it
	written int     // how much of that the writer has taken
	stopped bool    // by either side
}

func newOutbox() *outbox {
	o := new(outbox)
	o.changed.L = &o.mu
	for i := range o.bufs {
		o.bufs[i] = sendBuffers.Get().(*[]byte)
		*o.bufs[i] = (*o.bufs[i])[:0]
	}
	return o
}

// tail gives the reader the buffer to append to: it has room for one part. ok is false when the writer has stopped.
func (o *outbox) tail() (b []byte, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(*o.bufs[o.fill]) >= sendBatch {
		o.sealed[o.fill] = true
		o.fill ^= 1
		o.changed.Signal()
		for !o.stopped && len(*o.bufs[o.fill]) > 0 {
			o.changed.Wait()
		}
	}
	return *o.bufs[o.fill], !o.stopped
}

// publish takes what the reader appended to tail.
func (o *outbox) publish(b []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	*o.bufs[o.fill] = b
	o.changed.Signal()
}

// next waits for something to write. ok is false at the end.
func (o *outbox) next() (b []byte, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for {
		full := *o.bufs[o.drain]
		switch {
		case o.written < len(full):
			b, o.written = full[o.written:], len(full)
			return b, true
		case o.sealed[o.drain]:
			*o.bufs[o.drain], o.sealed[o.drain] = full[:0], false
			o.drain, o.written = o.drain^1, 0
			o.changed.Signal()
		case o.stopped:
			return nil, false
		default:
			o.changed.Wait()
		}
	}
}

// stop ends it: the reader has nothing more, or the writer cannot go on. What was published can still be taken.
func (o *outbox) stop() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.stopped = true
	o.changed.Broadcast()
}

// free gives the buffers back once both sides are done.
func (o *outbox) free() {
	for _, b := range o.bufs {
		sendBuffers.Put(b)
	}
}
