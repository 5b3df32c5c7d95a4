package p2p

import (
	"context"
	"net/netip"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	ma "github.com/multiformats/go-multiaddr"
)

// relayed holds what this node relays for others to its Limit: strangers choose how much that is, and a circuit that is used up is
// followed by the next. It is the library's relay.MetricsTracer, which is called for each piece that was passed on before the next one
// is read, and its relay.ACLFilter.
type relayed struct {
	limit   Limit
	stopped <-chan struct{} // closed at the end of the host
}

// options give the service its limit, if there is one.
func (r relayed) options() []relay.Option {
	if r.limit == nil {
		return nil
	}
	return []relay.Option{relay.WithMetricsTracer(r), relay.WithACL(r)}
}

// BytesTransferred waits until that many bytes may have been sent: what is not read holds the sender up.
func (r relayed) BytesTransferred(n int) {
	ctx := whileOpen{context.Background(), r.stopped}
	for n > 0 {
		sent, err := r.limit.Send(ctx, netip.Addr{}, n)
		if err != nil {
			return // the host ends, and the circuit with it
		}
		n -= sent
	}
}

// AllowReserve keeps those away who look for a relay while this month's bytes are used up: they find another.
func (r relayed) AllowReserve(peer.ID, ma.Multiaddr) bool { return r.open() }

// AllowConnect refuses circuits meanwhile.
func (r relayed) AllowConnect(peer.ID, ma.Multiaddr, peer.ID) bool { return r.open() }

func (r relayed) open() bool {
	_, closed := r.limit.Closed(netip.Addr{})
	return !closed
}

// The other events of a relay are nothing to a limit.

// RelayStatus is for the library.
func (relayed) RelayStatus(bool) {}

// ConnectionOpened is for the library.
func (relayed) ConnectionOpened() {}

// ConnectionClosed is for the library.
func (relayed) ConnectionClosed(time.Duration) {}

// ConnectionRequestHandled is for the library.
func (relayed) ConnectionRequestHandled(pb.Status) {}

// ReservationAllowed is for the library.
func (relayed) ReservationAllowed(bool) {}

// ReservationClosed is for the library.
func (relayed) ReservationClosed(int) {}

// ReservationRequestHandled is for the library.
func (relayed) ReservationRequestHandled(pb.Status) {}

// whileOpen is the context of what the library does on its own: it ends with the host.
type whileOpen struct {
	context.Context
	stopped <-chan struct{}
}

// Done is closed at the end of the host.
func (w whileOpen) Done() <-chan struct{} { return w.stopped }

// Err says so.
func (w whileOpen) Err() error {
	select {
	case <-w.stopped:
		return context.Canceled
	default:
		return nil
	}
}
