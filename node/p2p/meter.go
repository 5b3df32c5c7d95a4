package p2p

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/metrics"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	circuit "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// Limit says how much may move. The zero Addr stands for peers without an address, behind relays.
type Limit interface {
	// Send waits until some of n bytes may be sent and says how many.
	Send(ctx context.Context, to netip.Addr, n int) (int, error)
	// Receive waits until n bytes may have come, which have.
	Receive(ctx context.Context, from netip.Addr, n int) error
	// Spend counts what has moved without waiting.
	Spend(addr netip.Addr, sent, received int)
	// Closed reports whether an address gets no content now, and when it had better ask again.
	Closed(to netip.Addr) (after time.Duration, closed bool)
}

// meter holds a stream to a Limit. The zero meter does nothing.
type meter struct {
	limit Limit
	ctx   context.Context // of the stream: the io.Reader and io.Writer that it is have none
	addr  netip.Addr
}

func (h *Host) meter(ctx context.Context, c network.Conn) meter {
	if h.cfg.Limit == nil {
		return meter{}
	}
	return meter{h.cfg.Limit, ctx, addrOf(c)}
}

// send says how many of n bytes to write now.
func (m *meter) send(n int) (int, error) {
	if m.limit == nil {
		return n, nil
	}
	return m.limit.Send(m.ctx, m.addr, n)
}

// receive slows down who reads: what is not read holds the sender up.
func (m *meter) receive(n int) error {
	if m.limit == nil {
		return nil
	}
	return m.limit.Receive(m.ctx, m.addr, n)
}

// closed reports whether the other side gets nothing now; then it is told to come back after so many milliseconds.
func (m *meter) closed() (millis uint32, closed bool) {
	if m.limit == nil {
		return 0, false
	}
	after, closed := m.limit.Closed(m.addr)
	return uint32(min(max(after.Milliseconds(), 0), maxRetryMillis)), closed
}

// spend counts what has moved over a connection, if there is a limit.
func (h *Host) spend(c network.Conn, sent, received int) {
	if h.cfg.Limit != nil {
		h.cfg.Limit.Spend(addrOf(c), sent, received)
	}
}

// metered are the protocols whose streams wait for a Limit, and count there themselves: ours, and what is relayed (relayed.go).
var metered = []protocol.ID{chunksProtocol, blocksProtocol, outlineProtocol, holdingsProtocol, circuit.ProtoIDv2Hop, circuit.ProtoIDv2Stop}

// talk counts what all other streams of a host move - gossip, the DHT, identify, relaying, the choice of a protocol - when it has. It is
// the library's metrics.Reporter, of which it uses what is called for each piece that a stream moves.
type talk struct {
	*metrics.BandwidthCounter // what else belongs to the interface; it is given nothing
	h                         *Host
}

// LogSentMessageStream counts what was sent.
func (t talk) LogSentMessageStream(n int64, proto protocol.ID, to peer.ID) {
	t.h.talked(proto, to, int(n), 0)
}

// LogRecvMessageStream counts what has come.
func (t talk) LogRecvMessageStream(n int64, proto protocol.ID, from peer.ID) {
	t.h.talked(proto, from, 0, int(n))
}

func (h *Host) talked(proto protocol.ID, p peer.ID, sent, received int) {
	if slices.Contains(metered, proto) || !h.ready.Load() {
		return
	}
	conns := h.host.Network().ConnsToPeer(p)
	// What goes through a relay is counted on the way to the relay.
	direct := slices.IndexFunc(conns, func(c network.Conn) bool {
		_, err := c.RemoteMultiaddr().ValueForProtocol(ma.P_CIRCUIT)
		return err != nil
	})
	if direct >= 0 {
		h.spend(conns[direct], sent, received)
	}
}

// LogSentMessage is for the library: a sum of what the other counts.
func (talk) LogSentMessage(int64) {}

// LogRecvMessage is for the library, too.
func (talk) LogRecvMessage(int64) {}

// addrOf is the address of the other side; the zero Addr behind a relay.
func addrOf(c network.Conn) netip.Addr {
	ip, err := manet.ToIP(c.RemoteMultiaddr())
	if err != nil || c.Stat().Limited {
		return netip.Addr{}
	}
	addr, _ := netip.AddrFromSlice(ip)
	return addr.Unmap()
}
