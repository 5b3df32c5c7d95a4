package p2p

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"swarmnode/content"
	"swarmnode/gossip"
)

// serveHoldings tells a peer what we have of a collection, as it changes, until one of us has enough.
func (h *Host) serveHoldings(ctx context.Context, s *stream) error {
	raw, err := readFrame(s, maxHoldingsRequest)
	if err != nil {
		return err
	}
	id, err := decodeHoldingsRequest(raw)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	changes, err := h.holdings(ctx, id)
	if err != nil {
		return s.answer(statusNotHere, 0)
	}
	if err := s.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	// The follower says nothing more. Its end, or that of the connection, ends this read. The end of the stream,
	// which our caller sees to, does as well.
	h.wg.Go(func() {
		s.Stream.Read(make([]byte, 1))
		cancel()
	})
	alive := time.NewTimer(h.cfg.Timeouts.KeepAlive)
	defer alive.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-alive.C:
			err = s.answer(statusKeepAlive, 0)
		case change, ok := <-changes:
			if !ok {
				return nil
			}
			err = s.sendHoldings(change)
		}
		if err != nil {
			return err
		}
		alive.Reset(h.cfg.Timeouts.KeepAlive)
	}
}

func (h *Host) holdings(ctx context.Context, id content.ID) (<-chan gossip.Holdings, error) {
	if h.handlers.Holdings == nil {
		return nil, ErrNotHere
	}
	return h.handlers.Holdings(ctx, id)
}

func (s *stream) sendHoldings(change gossip.Holdings) error {
	for _, part := range change.Parts() {
		body, err := gossip.EncodeHoldings(part)
		if err != nil {
			return err
		}
		b := make([]byte, partHeader, partHeader+len(body))
		putPart(b, statusOK, uint32(len(body)))
		if _, err := s.Write(append(b, body...)); err != nil {
			return err
		}
	}
	return nil
}

// WatchHoldings asks a peer what it has of a collection and calls each for its first, full answer and for every
// change, until ctx ends, each gives an error, or the peer ends it: it has nothing of the collection ([ErrNotHere]), is
// busy, has closed the stream (io.EOF), or is not heard of any more ([ErrTimeout]). It never gives nil.
func (h *Host) WatchHoldings(ctx context.Context, from gossip.PeerID, id content.ID, each func(gossip.Holdings) error) (err error) {
	s, done, err := h.open(ctx, from, holdingsProtocol, frame(holdingsRequest{Collection: id[:]}))
	if err != nil {
		return err
	}
	defer func() { done(err) }()
	s.readIdle = 2*h.cfg.Timeouts.KeepAlive + h.cfg.Timeouts.Progress
	r := bufio.NewReaderSize(s, 4<<10)
	for {
		st, n, err := readPart(r, gossip.MaxHoldings)
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("holdings of %s: %w", from, io.EOF)
		}
		if err != nil {
			return fmt.Errorf("holdings of %s: %w", from, streamError(ctx, err))
		}
		switch st {
		case statusKeepAlive:
			continue
		case statusNotHere:
			return fmt.Errorf("holdings of %s: %w", from, ErrNotHere)
		case statusBusy:
			return fmt.Errorf("holdings of %s: %w", from, &BusyError{RetryAfter: time.Duration(n) * time.Millisecond})
		case statusOK:
		default:
			return fmt.Errorf("holdings of %s: %w: status %d", from, ErrBadAnswer, st)
		}
		body := make([]byte, n)
		if _, err := io.ReadFull(r, body); err != nil {
			return fmt.Errorf("holdings of %s: %w", from, streamError(ctx, endOfAnswer(err)))
		}
		change, err := gossip.DecodeHoldings(body)
		if err != nil {
			return fmt.Errorf("holdings of %s: %w: %w", from, ErrBadAnswer, err)
		}
		if err := each(change); err != nil {
			return err
		}
	}
}
