package topic

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/multiformats/go-multistream"
)

// agreeTimeout bounds the wait for the peer's agreement at the end of a stream from which nothing was read; as in the library.
const agreeTimeout = 10 * time.Second

// OpenStream opens a stream to a peer, dialing it if need be, and proposes one protocol together with the first bytes that are
// written. The host's own NewStream waits until the peer has said which protocols it speaks, one round trip after the
// connection is there. A peer that does not speak this one is noticed by the first Read.
func OpenStream(ctx context.Context, h host.Host, to peer.ID, proto protocol.ID) (network.Stream, error) {
	s, err := h.Network().NewStream(ctx, to)
	if err != nil {
		return nil, err
	}
	if err := s.SetProtocol(proto); err != nil { // the limits of the protocol
		s.ResetWithError(network.StreamResourceLimitExceeded)
		return nil, fmt.Errorf("protocol %s: %w", proto, err)
	}
	return &proposing{Stream: s, lazy: multistream.NewMSSelect(s, proto)}, nil
}

// proposing is a stream whose protocol is agreed on along with its first bytes.
type proposing struct {
	network.Stream
	lazy io.ReadWriteCloser
}

func (s *proposing) Read(b []byte) (int, error)  { return s.lazy.Read(b) }
func (s *proposing) Write(b []byte) (int, error) { return s.lazy.Write(b) }

// Close sends the proposal if nothing else has, and waits a little for the answer.
func (s *proposing) Close() error {
	s.SetReadDeadline(time.Now().Add(agreeTimeout)) // not every transport has deadlines
	return s.lazy.Close()
}

// CloseWrite sends the proposal if nothing else has. What is wrong with the stream, Read says.
func (s *proposing) CloseWrite() error {
	if f, ok := s.lazy.(interface{ Flush() error }); ok {
		f.Flush()
	}
	return s.Stream.CloseWrite()
}
