package p2p

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"swarmnode/content"
	"swarmnode/content/guard"
	"swarmnode/gossip"
)

// blockBuffer gathers small blocks into one write.
const blockBuffer = 64 << 10

// serveBlocks answers one request for metadata blocks: a part per digest, in order, at most maxBlockBytes.
func (h *Host) serveBlocks(ctx context.Context, s *stream) error {
	raw, err := readFrame(s, maxBlockRequest)
	if err != nil {
		return err
	}
	id, digests, err := decodeBlockRequest(raw)
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
	var head [partHeader]byte
	total := 0
	for _, d := range digests {
		st, data := statusNotHere, []byte(nil)
		if h.handlers.Block != nil {
			if b, ok := h.handlers.Block(id, d); ok && len(b) > 0 && len(b) <= content.MaxBlockSize {
				st, data = statusOK, b
			}
		}
		if _, closed := s.meter.closed(); total > 0 && closed || total+len(data) > maxBlockBytes {
			st, data = statusCut, nil
		}
		total += len(data)
		putPart(head[:], st, uint32(len(data)))
		if _, err := w.Write(head[:]); err != nil {
			return err
		}
		if _, err := w.Write(data); err != nil {
			return err
		}
		if st == statusCut {
			break
		}
	}
	return w.Flush()
}

// Blocks asks a peer for metadata blocks, in as many requests as it takes, and calls each, in order, for every one
// that comes and has the right hash. data belongs to each. After all of them it gives nil or a [NotHereError]; the
// other errors are those of [Host.Chunks].
func (h *Host) Blocks(ctx context.Context, from gossip.PeerID, id content.ID, digests []content.Digest,
	each func(d content.Digest, data []byte) error) error {
	var missing NotHereError
	for len(digests) > 0 {
		ask := digests[:min(len(digests), MaxBlocksPerRequest)]
		n, err := h.askBlocks(ctx, from, id, ask, &missing, each)
		if err != nil {
			err = fmt.Errorf("blocks from %s: %w", from, err)
			if len(missing.Blocks) > 0 {
				err = errors.Join(err, &missing)
			}
			return err
		}
		digests = digests[n:]
	}
	if len(missing.Blocks) > 0 {
		return &missing
	}
	return nil
}

// askBlocks makes one request and says how many of the digests it settled.
func (h *Host) askBlocks(ctx context.Context, from gossip.PeerID, id content.ID, ask []content.Digest,
	missing *NotHereError, each func(content.Digest, []byte) error) (n int, err error) {
	q := blockRequest{Collection: id[:], Digests: make([]byte, 0, 32*len(ask))}
	for _, d := range ask {
		q.Digests = append(q.Digests, d[:]...)
	}
	s, done, err := h.open(ctx, from, blocksProtocol, frame(q))
	if err != nil {
		return 0, err
	}
	defer func() { done(err) }()
	if err := s.CloseWrite(); err != nil {
		return 0, streamError(ctx, err)
	}
	s.end = s.deadlineEnd(h)
	asked := time.Now()
	r := bufio.NewReaderSize(s, headerBuffer)
	for i, d := range ask {
		st, size, err := readPart(r, content.MaxBlockSize)
		if err != nil {
			return n, streamError(ctx, endOfAnswer(err))
		}
		if i == 0 {
			h.peers.firstByte(s.Conn().RemotePeer(), time.Since(asked))
		}
		switch st {
		case statusOK:
		case statusNotHere:
			missing.Blocks = append(missing.Blocks, d)
			n++
			continue
		case statusCut:
			if n == 0 {
				return 0, fmt.Errorf("%w: nothing fits", ErrBadAnswer)
			}
			return n, nil
		case statusBusy:
			return n, &BusyError{RetryAfter: time.Duration(size) * time.Millisecond}
		default:
			return n, fmt.Errorf("%w: status %d", ErrBadAnswer, st)
		}
		data := make([]byte, size)
		if _, err := io.ReadFull(r, data); err != nil {
			return n, streamError(ctx, endOfAnswer(err))
		}
		if guard.On(guard.BlockHash) && content.Sum(data) != d {
			return n, fmt.Errorf("%w: block %s has another hash", ErrBadAnswer, d.BlockCID())
		}
		if err := each(d, data); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}
