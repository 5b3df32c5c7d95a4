package p2p

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"time"

	"swarmnode/content"
	"swarmnode/content/guard"
	"swarmnode/gossip"
)

// MaxOutlineBytes is the most bytes of metadata blocks in an outline. It is what a round trip of 100 ms carries at 80 Mbit/s:
// where more is missing, asking level by level costs little beside it.
const MaxOutlineBytes = 1 << 20

// serveOutline answers one request for the outline of a release: a part per block in the order of content.Outline, as far as
// the asker takes.
func (h *Host) serveOutline(ctx context.Context, s *stream) error {
	raw, err := readFrame(s, maxOutlineRequest)
	if err != nil {
		return err
	}
	id, manifest, room, err := decodeOutlineRequest(raw)
	if err != nil {
		return err
	}
	s.end = s.deadlineEnd(h)
	if millis, closed := s.meter.closed(); closed {
		return s.answer(statusBusy, millis)
	}
	if !acquire(ctx, h.limits.blocks, 1, h.cfg.Timeouts.Queue) {
		return s.answer(statusBusy, retryMillis)
	}
	defer h.limits.blocks.Release(1)
	w := bufio.NewWriterSize(s, blockBuffer)
	if err := h.writeOutline(w, id, manifest, room); err != nil {
		return err
	}
	return w.Flush()
}

func (h *Host) writeOutline(w io.Writer, id content.ID, manifest content.Digest, room uint32) error {
	outline := content.NewOutline(manifest)
	var head [partHeader]byte
	for {
		d, below, ok := outline.Next()
		if !ok {
			return nil
		}
		var data []byte
		if h.handlers.Block != nil {
			data, _ = h.handlers.Block(id, d)
		}
		st := statusOK
		switch n := len(data); {
		case n == 0 || n > content.MaxBlockSize || below(data) != nil: // below: it is no release that was asked for
			st, data = statusNotHere, nil
		case n > int(room):
			st, data = statusCut, nil
		}
		room -= uint32(len(data))
		putPart(head[:], st, uint32(len(data)))
		if _, err := w.Write(head[:]); err != nil {
			return err
		}
		if _, err := w.Write(data); err != nil || st == statusCut {
			return err
		}
	}
}

// Outline asks a peer for a manifest and the blocks below it, as many as go into so many bytes, at most [MaxOutlineBytes], and
// calls each for every one, in the order of [content.Outline]. Nothing but blocks of this release is taken. data belongs to
// each. nil does not mean that all are here: the peer may not have some, or there is no room. The errors are those of
// [Host.Blocks].
func (h *Host) Outline(ctx context.Context, from gossip.PeerID, id content.ID, manifest content.Digest, room uint32,
	each func(d content.Digest, data []byte) error) (err error) {
	room = min(room, MaxOutlineBytes)
	s, done, err := h.open(ctx, from, outlineProtocol, frame(outlineRequest{Collection: id[:], Manifest: manifest[:], Room: room}))
	if err != nil {
		return err
	}
	defer func() { done(err) }()
	if err := s.CloseWrite(); err != nil {
		return streamError(ctx, err)
	}
	s.end = s.deadlineEnd(h)
	if err := h.readOutline(s, manifest, room, each); err != nil {
		return fmt.Errorf("outline from %s: %w", from, streamError(ctx, err))
	}
	return nil
}

func (h *Host) readOutline(s *stream, manifest content.Digest, room uint32, each func(content.Digest, []byte) error) error {
	asked := time.Now()
	r := bufio.NewReaderSize(s, headerBuffer)
	outline := content.NewOutline(manifest)
	for d, below, ok := outline.Next(); ok; d, below, ok = outline.Next() {
		st, n, err := readPart(r, min(room, content.MaxBlockSize))
		if err != nil {
			return endOfAnswer(err)
		}
		if d == manifest {
			h.peers.firstByte(s.Conn().RemotePeer(), time.Since(asked))
		}
		switch st {
		case statusOK:
		case statusNotHere:
			continue
		case statusCut:
			return nil
		case statusBusy:
			return &BusyError{RetryAfter: time.Duration(n) * time.Millisecond}
		default:
			return fmt.Errorf("%w: status %d", ErrBadAnswer, st)
		}
		room -= n
		data := make([]byte, n)
		if _, err := io.ReadFull(r, data); err != nil {
			return endOfAnswer(err)
		}
		if guard.On(guard.OutlineHash) && content.Sum(data) != d {
			return fmt.Errorf("%w: block %s has another hash", ErrBadAnswer, d.BlockCID())
		}
		if err := below(data); err != nil { // the publisher's own doing, not the peer's
			return err
		}
		if err := each(d, data); err != nil {
			return err
		}
	}
	return nil
}
