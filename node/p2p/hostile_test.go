package p2p

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"

	"swarmnode/content"
	"swarmnode/gossip"
)

// hostile is a libp2p host that speaks one of our protocols in its own way.
func hostile(t *testing.T, proto protocol.ID, answer func(s network.Stream)) host.Host {
	t.Helper()
	h, err := libp2p.New(libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"), libp2p.DisableMetrics())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	if answer != nil {
		h.SetStreamHandler(proto, func(s network.Stream) { defer s.Close(); answer(s) })
	}
	return h
}

func part(st status, n uint32, data string) string {
	b := make([]byte, partHeader)
	putPart(b, st, n)
	return string(b) + data
}

// hostileAnswer is a way to answer a request for two chunks of ten bytes, and the error that it gives the asker.
type hostileAnswer struct {
	name   string
	answer func(network.Stream)
	want   error
}

func hostileAnswers(end <-chan struct{}) []hostileAnswer {
	until := func(s network.Stream) { io.Copy(io.Discard, s) } // until the asker has enough
	send := func(text string) func(network.Stream) {
		return func(s network.Stream) { readFrame(s, maxRequest); io.WriteString(s, text); s.CloseWrite(); until(s) }
	}
	endless := func(s network.Stream) {
		readFrame(s, maxRequest)
		for {
			if _, err := io.WriteString(s, part(statusOK, 10, "0123456789")); err != nil {
				return
			}
		}
	}
	stall := func(text string) func(network.Stream) {
		return func(s network.Stream) { io.WriteString(s, text); <-end }
	}
	drip := func(s network.Stream) {
		io.WriteString(s, part(statusOK, 10, ""))
		for {
			if _, err := s.Write([]byte{1}); err != nil {
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
	ten := part(statusOK, 10, "0123456789")
	return []hostileAnswer{
		{"too long", send(part(statusOK, 11, "0123456789a")), ErrBadAnswer},
		{"too short", send(part(statusOK, 9, "012345678")), ErrBadAnswer},
		{"empty chunk", send(part(statusOK, 0, "")), ErrBadAnswer},
		{"huge", send(part(statusOK, 1<<31, "")), ErrBadAnswer},
		{"unknown status", send(part(77, 0, "")), ErrBadAnswer},
		{"keep-alive", send(part(statusKeepAlive, 0, "")), ErrBadAnswer},
		{"not here with a number", send(part(statusNotHere, 1, "")), ErrBadAnswer},
		{"busy for years", send(part(statusBusy, 1<<31, "")), ErrBadAnswer},
		{"garbage", send("GET / HTTP/1.1\r\n\r\n"), ErrBadAnswer},
		{"nothing", send(""), io.ErrUnexpectedEOF},
		{"cut in the middle", send(ten + part(statusOK, 10, "012")), io.ErrUnexpectedEOF},
		{"one more", send(ten + ten + ten), ErrBadAnswer},
		{"endless", endless, ErrBadAnswer},
		{"reset", func(s network.Stream) { s.Reset() }, network.ErrReset},
		{"resource limit", func(s network.Stream) { s.ResetWithError(network.StreamResourceLimitExceeded) }, &BusyError{}},
		{"stall at once", stall(""), ErrTimeout},
		{"stall in a chunk", stall(ten + part(statusOK, 10, "01")), ErrTimeout},
		{"drip", drip, nil},
	}
}

func TestHostileAnswers(t *testing.T) {
	t.Parallel()
	for _, c := range hostileAnswers(t.Context().Done()) {
		t.Run(c.name, func(t *testing.T) {
			cfg := Config{Timeouts: patient}
			if errors.Is(c.want, ErrTimeout) {
				cfg.Timeouts = short
			}
			if c.name == "drip" { // shorter in all than ten bytes take
				cfg.Timeouts.Total, c.want = 300*time.Millisecond, ErrTimeout
			}
			h := newHost(t, cfg, Handlers{})
			bad := hostile(t, chunksProtocol, c.answer)
			if err := h.host.Connect(t.Context(), *host.InfoFromHost(bad)); err != nil {
				t.Fatal(err)
			}
			err := h.Chunks(t.Context(), gossip.PeerID(bad.ID().String()), testID, content.Run{Segment: 7, Count: 2},
				func(uint32) uint32 { return 10 }, nil, func(content.Ref, []byte) error { return nil })
			var busy *BusyError
			if _, ok := c.want.(*BusyError); ok && errors.As(err, &busy) {
				return
			}
			if !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
			if !idle(h) {
				t.Error("something is still held")
			}
		})
	}
}

func TestHostileRequests(t *testing.T) {
	t.Parallel()
	h := newHost(t, Config{Timeouts: Timeouts{Open: 300 * time.Millisecond, Progress: 300 * time.Millisecond}}, Handlers{
		Chunk: func(_ context.Context, _ content.ID, _ content.Ref, buf []byte) ([]byte, error) {
			return buf[:content.MaxChunkSize], nil
		}})
	enemy := func() host.Host { // a new one for each: who does so more often is banned
		bad := hostile(t, "", nil)
		if err := bad.Connect(t.Context(), *host.InfoFromHost(h.host)); err != nil {
			t.Fatal(err)
		}
		return bad
	}
	good := frame(chunkRequest{Collection: testID[:], Segment: 1, Count: 16})
	for _, proto := range []protocol.ID{chunksProtocol, blocksProtocol, outlineProtocol, holdingsProtocol} {
		bad := enemy()
		for name, request := range map[string][]byte{
			"huge":      binary.BigEndian.AppendUint32(nil, 1<<31),
			"empty":     make([]byte, 4),
			"garbage":   append([]byte{0, 0, 0, 9}, "[garbage]"...),
			"truncated": good[:len(good)-3], // and then silence
			"silence":   nil,
			"nil list":  {0, 0, 0, 1, 0x80},
		} {
			s, err := bad.NewStream(t.Context(), h.host.ID(), proto)
			if err != nil {
				t.Fatal(err)
			}
			s.SetDeadline(time.Now().Add(10 * time.Second))
			s.Write(request)
			if n, err := io.Copy(io.Discard, s); n != 0 || err == nil || !errors.Is(err, network.ErrReset) {
				t.Errorf("%s, %s: %d bytes, %v, want a reset", proto, name, n, err)
			}
			s.Reset()
		}
	}
	// An asker that does not read is dropped, and what it held is free again.
	bad := enemy()
	for range maxPeerStreams {
		s, err := bad.NewStream(t.Context(), h.host.ID(), chunksProtocol)
		if err != nil {
			t.Fatal(err)
		}
		s.Write(good)
	}
	within(t, "streams that nobody reads are dropped", func() bool { return idle(h) })
}
