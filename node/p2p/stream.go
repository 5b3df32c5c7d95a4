package p2p

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"swarmnode/content"
	"swarmnode/gossip"
	"swarmnode/gossip/topic"
)

// writePiece is how much is written under one deadline: large enough for full speed, small enough that a slow but
// living link finishes it in time. With its header of 12 bytes it fills one frame of yamux, and that four records of TLS; 64
// KiB would be cut into a full frame and one of 12 bytes, with a system call and a wake-up of its own at both ends.
const writePiece = 64<<10 - 12

// stream is a libp2p stream whose deadlines move on with every byte, up to a total, and whose bytes are counted.
// One goroutine reads and one writes.
type stream struct {
	network.Stream
	readIdle, writeIdle time.Duration // without a byte
	end                 time.Time     // of the whole exchange; zero is never
	readSet, writeSet   time.Time     // when the deadlines were set last
	traffic             *traffic
	got                 int64         // bytes read, by who reads
	sent                atomic.Uint64 // bytes written
	arrived             atomic.Bool   // and all of them have arrived
	over                func()        // lets the asker open another stream instead; of streams that we serve
	meter               meter
}

// deadline sets the deadline by set when the last one is old: setting one costs a timer.
func (s *stream) deadline(last *time.Time, idle time.Duration, set func(time.Time) error) error {
	now := time.Now()
	if now.Sub(*last) < idle/8 {
		return nil
	}
	*last = now
	t := now.Add(idle)
	if !s.end.IsZero() && t.After(s.end) {
		t = s.end
	}
	return set(t)
}

func (s *stream) Read(b []byte) (int, error) {
	if err := s.deadline(&s.readSet, s.readIdle, s.SetReadDeadline); err != nil {
		return 0, err
	}
	n, err := s.Stream.Read(b)
	s.got += int64(n)
	s.traffic.in.Add(int64(n))
	if merr := s.meter.receive(n); err == nil {
		err = merr
	}
	return n, err
}

func (s *stream) Write(b []byte) (int, error) {
	done := 0
	for done < len(b) {
		piece, err := s.meter.send(min(len(b)-done, writePiece))
		if err != nil {
			return done, err
		}
		if err := s.deadline(&s.writeSet, s.writeIdle, s.SetWriteDeadline); err != nil {
			return done, err
		}
		n, err := s.Stream.Write(b[done : done+piece])
		done += n
		s.traffic.out.Add(int64(n))
		s.sent.Add(uint64(n))
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// open opens a stream to a peer and sends the request. The peer is protected until done is called, and the end of ctx
// resets the stream. done(nil) ends it in peace, done(err) resets it.
func (h *Host) open(ctx context.Context, to gossip.PeerID, proto protocol.ID, request []byte) (*stream, func(error), error) {
	id, err := peer.Decode(string(to))
	if err != nil {
		return nil, nil, fmt.Errorf("%q is not a peer ID: %w", to, err)
	}
	if !h.begin() {
		return nil, nil, ErrClosed
	}
	octx, cancel := context.WithTimeout(ctx, h.cfg.Timeouts.Open)
	raw, err := topic.OpenStream(octx, h.host, id, proto)
	cancel()
	if err != nil {
		h.wg.Done()
		if ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
			err = fmt.Errorf("%w: %w", ErrTimeout, err)
		}
		return nil, nil, fmt.Errorf("open a stream to %s: %w", to, streamError(ctx, err))
	}
	release := h.limits.protect(h.host.ConnManager(), id)
	stop := context.AfterFunc(ctx, func() { raw.ResetWithError(network.StreamShutdown) })
	s := &stream{Stream: raw, traffic: h.peers.traffic(id), meter: h.meter(ctx, raw.Conn()),
		readIdle: h.cfg.Timeouts.Progress, writeIdle: h.cfg.Timeouts.Open}
	done := func(err error) {
		stop()
		if errors.Is(err, ErrBadAnswer) {
			h.Offended(to, BadAnswer)
		}
		if err != nil {
			raw.ResetWithError(resetCode(err))
		} else {
			raw.Close()
		}
		release()
		h.wg.Done()
	}
	if _, err = s.Write(request); err != nil {
		err = fmt.Errorf("ask %s: %w", to, streamError(ctx, err))
		done(err)
		return nil, nil, err
	}
	return s, done, nil
}

func resetCode(err error) network.StreamErrorCode {
	if errors.Is(err, ErrBadAnswer) || errors.Is(err, content.ErrFormat) {
		return network.StreamProtocolViolation
	}
	return network.StreamShutdown
}

// handle registers a protocol: limits, deadlines, protection and the end of the stream are the same for all.
// ctx ends with the host.
func (h *Host) handle(ctx context.Context, proto protocol.ID, limit int, serve func(context.Context, *stream) error) {
	h.host.SetStreamHandler(proto, func(raw network.Stream) {
		if !h.begin() {
			raw.ResetWithError(network.StreamShutdown)
			return
		}
		defer h.wg.Done()
		from := raw.Conn().RemotePeer()
		t := h.cfg.Timeouts
		s := &stream{Stream: raw, traffic: h.peers.traffic(from), readIdle: t.Open, writeIdle: t.Progress}
		if !h.limits.enter(proto, from, limit) {
			_, err := readFrame(s, maxRequest) // an asker that is cut off while it writes would not read the answer
			h.judge(s, err)
			if err := s.answer(statusBusy, retryMillis); err != nil {
				raw.Reset()
			}
			raw.Close()
			h.spend(raw.Conn(), int(s.sent.Load()), int(s.got)) // it waits for nothing: it says that others do
			return
		}
		s.over = sync.OnceFunc(func() { h.limits.leave(proto, from) })
		defer s.over()
		defer h.limits.protect(h.host.ConnManager(), from)()
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		s.meter = h.meter(ctx, raw.Conn())
		stop := context.AfterFunc(ctx, func() { raw.ResetWithError(network.StreamShutdown) })
		defer stop()
		if err := serve(ctx, s); err != nil {
			raw.ResetWithError(resetCode(err))
			h.cfg.Log.Debug("stream ended", "protocol", proto, "peer", from, "error", err)
			h.judge(s, err)
			return
		}
		stop()
		raw.Close()
	})
}

// judge names an asker that sent what cannot be read, or nothing at all.
func (h *Host) judge(s *stream, err error) {
	from := gossip.PeerID(s.Conn().RemotePeer().String())
	switch {
	case errors.Is(err, content.ErrFormat):
		h.Offended(from, BadRequest)
	case s.got == 0 && isTimeout(err):
		h.Offended(from, Silence)
	}
}

// answer writes a part without data.
func (s *stream) answer(st status, n uint32) error {
	var b [partHeader]byte
	putPart(b[:], st, n)
	_, err := s.Write(b[:])
	return err
}
