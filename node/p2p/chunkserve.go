package p2p

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"

	"swarmnode/content"
	"swarmnode/gossip"
)

// askerKey is the context key of Asker.
type askerKey struct{}

// Asker is who asks for a chunk; ctx is that of Handlers.Chunk.
func Asker(ctx context.Context) gossip.PeerID {
	id, _ := ctx.Value(askerKey{}).(gossip.PeerID)
	return id
}

// serveChunks answers one request for a run: a part per chunk, in order. The next chunks are read while the previous
// ones are being written.
func (h *Host) serveChunks(ctx context.Context, s *stream) error {
	raw, err := readFrame(s, maxChunkRequest)
	if err != nil {
		return err
	}
	id, run, err := decodeChunkRequest(raw)
	if err != nil {
		return err
	}
	s.end = s.deadlineEnd(h)
	group := groupOf(s.Conn())
	if !h.limits.uploads.enter(ctx, group, h.cfg.Timeouts.Queue) {
		return s.answer(statusBusy, retryMillis)
	}
	defer h.limits.uploads.leave(group)
	if !acquire(ctx, h.limits.sending, 2*sendBuffer, h.cfg.Timeouts.Queue) {
		return s.answer(statusBusy, retryMillis)
	}
	defer h.limits.sending.Release(2 * sendBuffer)
	if err := s.Scope().ReserveMemory(2*sendBuffer, network.ReservationPriorityMedium); err != nil {
		return s.answer(statusBusy, retryMillis)
	}

	ctx, cancel := context.WithCancel(context.WithValue(ctx, askerKey{}, gossip.PeerID(s.Conn().RemotePeer().String())))
	out := newOutbox()
	var reader sync.WaitGroup
	reader.Go(func() {
		defer out.stop()
		h.readChunks(ctx, id, run, out)
	})
	for {
		b, ok := out.next()
		if !ok {
			break
		}
		if _, err = s.Write(b); err != nil {
			break
		}
	}
	out.stop()
	cancel()
	reader.Wait()
	out.free()
	return err
}

// readChunks reads the chunks of a run into the outbox.
func (h *Host) readChunks(ctx context.Context, id content.ID, run content.Run, out *outbox) {
	total, turn := 0, time.Now().Add(uploadTurn)
	for i := range run.Count {
		b, ok := out.tail()
		if !ok {
			return
		}
		if total >= MaxRunBytes || i > 0 && time.Now().After(turn) && h.limits.uploads.contended() {
			out.publish(appendPart(b, statusCut, 0))
			return
		}
		before := len(b)
		b, more := h.appendChunk(ctx, b, id, content.Ref{Segment: run.Segment, Index: run.First + i})
		total += len(b) - before
		out.publish(b)
		if !more {
			return
		}
	}
}

// appendChunk appends one part, which has room in b. more is false when it ends the answer.
func (h *Host) appendChunk(ctx context.Context, b []byte, id content.ID, ref content.Ref) (_ []byte, more bool) {
	if h.handlers.Chunk == nil {
		return appendPart(b, statusNotHere, 0), true
	}
	at := len(b) + partHeader
	data, err := h.handlers.Chunk(ctx, id, ref, b[at:at:at+content.MaxChunkSize])
	var busy *BusyError
	if errors.As(err, &busy) {
		return appendPart(b, statusBusy, uint32(min(max(busy.RetryAfter.Milliseconds(), 0), maxRetryMillis))), false
	}
	if err != nil || len(data) == 0 || len(data) > content.MaxChunkSize {
		return appendPart(b, statusNotHere, 0), true
	}
	b = appendPart(b, statusOK, uint32(len(data)))
	if place := b[at : at+1 : at+1]; &place[0] != &data[0] {
		return append(b, data...), true
	}
	return b[:at+len(data)], true
}

func appendPart(b []byte, s status, n uint32) []byte {
	at := len(b)
	b = b[:at+partHeader]
	putPart(b[at:], s, n)
	return b
}
