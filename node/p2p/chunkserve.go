package p2p

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/libp2p/go-libp2p/core/network"

	"swarmnode/content"
	"swarmnode/content/guard"
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
	if millis, closed := s.meter.closed(); closed {
		return s.answer(statusBusy, millis)
	}
	asker := gossip.PeerID(s.Conn().RemotePeer().String())
	place, busy := h.limits.uploads.enter(ctx, asker, groupOf(s.Conn()), s.left, func() { s.Reset() })
	if place == nil {
		return s.answer(statusBusy, uint32(busy.Milliseconds()))
	}
	defer h.limits.uploads.leave(place)
	memory := int64(2 * sendBuffer)
	if !guard.On(guard.SendMemory) {
		memory = 0
	}
	if !acquire(ctx, h.limits.sending, memory, h.cfg.Timeouts.Queue) {
		return s.answer(statusBusy, retryMillis)
	}
	defer h.limits.sending.Release(memory)
	if err := s.Scope().ReserveMemory(2*sendBuffer, network.ReservationPriorityMedium); err != nil {
		return s.answer(statusBusy, retryMillis)
	}

	ctx, cancel := context.WithCancel(context.WithValue(ctx, askerKey{}, asker))
	out := newOutbox()
	var parts []given
	var reader sync.WaitGroup
	reader.Go(func() {
		defer out.stop()
		parts = h.readChunks(ctx, id, run, out, func() bool {
			_, closed := s.meter.closed()
			return closed || h.limits.uploads.turn(place)
		})
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
	if err == nil {
		err = s.confirmed()
	}
	for _, g := range parts {
		if err != nil && g.end > s.left() && h.handlers.Unsent != nil {
			h.handlers.Unsent(ctx, id, g.ref)
		}
	}
	return err
}

// socketBytes is how much of an answer may lie in buffers between us and the uplink: 1 MiB went into them within 10 ms
// at 20 Mbit/s.
const socketBytes = 1 << 20

// left is how many bytes of the answer have surely left.
func (s *stream) left() uint64 {
	n := s.sent.Load()
	if s.arrived.Load() {
		return n
	}
	return n - min(n, socketBytes)
}

// confirmed waits until the asker ends its side, which it does when all has come. Without this the place would be free
// while the bytes are still in buffers, and the next answer would share the uplink with them.
func (s *stream) confirmed() error {
	var b [1]byte
	s.readIdle = s.writeIdle
	s.over()
	if err := s.CloseWrite(); err != nil {
		return err
	}
	if n, err := s.Read(b[:]); n > 0 || err != io.EOF {
		return fmt.Errorf("wait for the end of the asker: %w", errors.Join(err, ErrBadAnswer))
	}
	s.arrived.Store(true)
	return nil
}

// given is a chunk of an answer and where in the answer it ends.
type given struct {
	ref content.Ref
	end uint64
}

// readChunks reads the chunks of a run into the outbox and tells which there were. cut says when the answer had better end.
func (h *Host) readChunks(ctx context.Context, id content.ID, run content.Run, out *outbox, cut func() bool) (list []given) {
	total := 0
	for i := range run.Count {
		b, ok := out.tail()
		if !ok {
			return list
		}
		if total >= MaxRunBytes || i > 0 && cut() {
			out.publish(appendPart(b, statusCut, 0))
			return list
		}
		before := len(b)
		ref := content.Ref{Segment: run.Segment, Index: run.First + i}
		b, more := h.appendChunk(ctx, b, id, ref)
		total += len(b) - before
		if len(b)-before > partHeader {
			list = append(list, given{ref, uint64(total)})
		}
		out.publish(b)
		if !more {
			return list
		}
	}
	return list
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
