package p2p

import (
	"context"
	"net/netip"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	manet "github.com/multiformats/go-multiaddr/net"
)

// Limit says how much may move. The zero Addr stands for peers without an address, behind relays.
type Limit interface {
	// Send waits until some of n bytes may be sent and says how many.
	Send(ctx context.Context, to netip.Addr, n int) (int, error)
	// Receive waits until n bytes may have come, which have.
	Receive(ctx context.Context, from netip.Addr, n int) error
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

// addrOf is the address of the other side; the zero Addr behind a relay.
func addrOf(c network.Conn) netip.Addr {
	ip, err := manet.ToIP(c.RemoteMultiaddr())
	if err != nil || c.Stat().Limited {
		return netip.Addr{}
	}
	addr, _ := netip.AddrFromSlice(ip)
	return addr.Unmap()
}
