package origin

import (
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"swarmnode/content"
)

// dialTimeout is how long a connection may take: two lost packets and their repetitions.
const dialTimeout = 15 * time.Second

// newDialer makes connections to origins. What is checked is the address that is dialed, not the name: a name, or a redirect, can
// mean one address now and another one later, and nobody shall read a neighbour's printer through a publisher.
func newDialer(o *Options) *net.Dialer {
	d := &net.Dialer{Timeout: dialTimeout, KeepAlive: o.Timeout / 2}
	if !o.AllowPrivate {
		d.Control = refusePrivate
	}
	return d
}

func refusePrivate(_, address string, _ syscall.RawConn) error {
	a, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("dial %q: %w", address, err)
	}
	if content.PrivateAddr(a.Addr()) {
		return &RefusedError{Reason: fmt.Sprintf("%s is a private address: if the origin is meant to be there, say --from-private (--allow-private is for gateways)", a.Addr())}
	}
	return nil
}
