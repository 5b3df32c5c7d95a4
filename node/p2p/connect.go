package p2p

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/core/sec"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/libp2p/go-libp2p/p2p/protocol/holepunch"
	ma "github.com/multiformats/go-multiaddr"

	"swarmnode/gossip"
)

const exampleAddr = "/ip4/203.0.113.7/tcp/4101/p2p/12D3KooW…"

// parseAddr reads the address of a node as people write it down, and explains what is wrong with it.
func parseAddr(s string) (peer.AddrInfo, error) {
	hint := "it must look like " + exampleAddr + "; a node prints its addresses when it starts"
	switch {
	case s == "":
		return peer.AddrInfo{}, errors.New("the address of a node is empty: " + hint)
	case !strings.HasPrefix(s, "/"):
		return peer.AddrInfo{}, fmt.Errorf("%q is not the address of a node: %s", s, hint)
	}
	a, err := ma.NewMultiaddr(s)
	if err != nil {
		return peer.AddrInfo{}, fmt.Errorf("%q is not the address of a node: %w: %s", s, err, hint)
	}
	where, id := peer.SplitAddr(a)
	switch {
	case id == "":
		return peer.AddrInfo{}, fmt.Errorf("%q does not say which node is meant: /p2p/ID is missing at its end; %s", s, hint)
	case len(where) == 0:
		return peer.AddrInfo{}, fmt.Errorf("%q does not say where the node is: %s", s, hint)
	}
	if ip, port, _, ok := endpoint(where); ok && (ip.IsUnspecified() || port == 0) {
		return peer.AddrInfo{}, fmt.Errorf("%q can be listened on but not connected to: put in the IP address and port of the machine", s)
	}
	return peer.AddrInfo{ID: id, Addrs: []ma.Multiaddr{where}}, nil
}

const (
	// punchWait is how long two nodes get for a direct connection after they have met through a relay: the library tries three
	// times, 5 s each (16 s were measured).
	punchWait = 20 * time.Second
	// punchLook is how often that is looked at.
	punchLook = 20 * time.Millisecond
	// punchReadyWait is how long a host that has just started gets to learn at which address others see it: the library looks after
	// 0.25 s, 0.75 s, 1.75 s and 3.75 s.
	punchReadyWait = 4 * time.Second
	// bothDialedPause is the most that one of two nodes waits which have dialed each other at the same moment. It is by chance, so that they do not
	// do so again, and longer than most round trips.
	bothDialedPause = 300 * time.Millisecond
)

// ErrOnlyRelayed says that a peer was met through a relay, and that the routers in between let no direct connection through.
var ErrOnlyRelayed = errors.New("it can be met through a relay only, and no direct connection comes about: the routers on both sides prevent it")

// ConnectAny connects to a peer by any of these addresses, without /p2p/ID at their end. Several at once: most of them may be of a
// network that is not reached from here. They are what others say: see [dialRule].
func (h *Host) ConnectAny(ctx context.Context, id gossip.PeerID, addrs []string) error {
	p, err := peer.Decode(string(id))
	if err != nil {
		return fmt.Errorf("connect to %q: %w", id, err)
	}
	info := peer.AddrInfo{ID: p}
	for _, s := range addrs {
		if a, err := ma.NewMultiaddr(s); err == nil && len(a) > 0 {
			info.Addrs = append(info.Addrs, a)
		}
	}
	if len(info.Addrs) == 0 {
		return fmt.Errorf("no address of %s is known", id)
	}
	if !h.begin() {
		return ErrClosed
	}
	defer h.wg.Done()
	return h.dial(ctx, info)
}

// Connect connects to the node at addr, a multiaddr that ends in /p2p/ID, and says who it is. A node with another
// key at that address is a [PeerMismatchError]. The address is the operator's: see [dialRule].
func (h *Host) Connect(ctx context.Context, addr string) (gossip.PeerID, error) {
	info, err := parseAddr(addr)
	if err != nil {
		return "", err
	}
	if info.ID == h.host.ID() {
		return "", fmt.Errorf("%s is this node itself", addr)
	}
	if !h.begin() {
		return "", ErrClosed
	}
	defer h.wg.Done()
	h.peers.bad.dials.choose(info)
	if err := h.dial(ctx, info); err != nil {
		return "", err
	}
	return gossip.PeerID(info.ID.String()), nil
}

// dial connects to a peer now, whatever the library thinks of earlier attempts.
func (h *Host) dial(ctx context.Context, info peer.AddrInfo) error {
	dctx, cancel := context.WithTimeout(ctx, h.cfg.Timeouts.Open)
	defer cancel()
	known := info.Addrs
	if h.reach.behind.Load() {
		known = alsoQUIC(known)
	}
	h.host.Peerstore().AddAddrs(info.ID, known, peerstore.TempAddrTTL)
	ready := h.canPunch()
	// Not the host's Connect, which waits until the peer has said what it is.
	conn, err := h.dialNow(dctx, info.ID)
	if err != nil && bothDialed(err) {
		select {
		case <-time.After(rand.N(bothDialedPause)):
			conn, err = h.dialNow(dctx, info.ID) // which finds the other node's connection where that was sooner
		case <-dctx.Done():
		}
	}
	if err == nil && conn.Stat().Limited && !ready && h.waitCanPunch(dctx) {
		// The other node has asked for hole punching when this one could not do it yet, and asks once for each connection.
		if err := conn.Close(); err != nil {
			h.cfg.Log.Debug("a relayed connection is not closed well", "peer", info.ID, "error", err)
		}
		conn, err = h.host.Network().DialPeer(dctx, info.ID)
	}
	if err != nil {
		err = dialError(info, err)
		var mismatch *PeerMismatchError
		if errors.As(err, &mismatch) { // or every later attempt would try there again
			h.host.Peerstore().SetAddrs(info.ID, known, 0)
		}
		return err
	}
	if conn.Stat().Limited {
		return h.waitDirect(ctx, info.ID)
	}
	return nil
}

// dialNow has the library forget what came of earlier attempts: after a failure it would refuse another for some seconds.
func (h *Host) dialNow(ctx context.Context, p peer.ID) (network.Conn, error) {
	if s, ok := h.host.Network().(*swarm.Swarm); ok {
		s.Backoff().Clear(p)
	}
	return h.host.Network().DialPeer(ctx, p)
}

// bothDialed reports whether two nodes have dialed each other at the same moment from the ports at which they listen: TCP makes one connection
// of the two (RFC 9293, section 3.5, simultaneous open), in which both want to be the client of TLS. There is only the text of that error.
func bothDialed(err error) bool { return strings.Contains(err.Error(), "*tls.clientHelloMsg") }

// canPunch reports whether the library takes part in hole punching yet: it does once an address is known at which others see
// this node.
func (h *Host) canPunch() bool { return slices.Contains(h.host.Mux().Protocols(), holepunch.Protocol) }

// waitCanPunch gives a host that has just started the moment until it can.
func (h *Host) waitCanPunch(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, punchReadyWait)
	defer cancel()
	tick := time.NewTicker(punchLook)
	defer tick.Stop()
	for !h.canPunch() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// waitDirect waits until a peer that was met through a relay is connected directly: it tries that now, for it was called.
func (h *Host) waitDirect(ctx context.Context, p peer.ID) error {
	wait, cancel := context.WithTimeout(ctx, punchWait)
	defer cancel()
	tick := time.NewTicker(punchLook)
	defer tick.Stop()
	for !h.connected(p) {
		select {
		case <-tick.C:
			continue
		case <-wait.Done():
		}
		if ctx.Err() != nil {
			return fmt.Errorf("connect to %s: %w", p, context.Cause(ctx))
		}
		// The next attempt begins with a new connection through the relay: the other node tries once for each.
		if err := h.host.Network().ClosePeer(p); err != nil {
			h.cfg.Log.Debug("a relayed connection is not closed well", "peer", p, "error", err)
		}
		return fmt.Errorf("connect to %s: %w", p, ErrOnlyRelayed)
	}
	return nil
}

// answeredAs finds the peer ID in the error of a transport that keeps only the text of the cause.
var answeredAs = regexp.MustCompile(`expected ([0-9A-Za-z]+), but remote key matches ([0-9A-Za-z]+)`)

// dialError says in a sentence what is wrong: the library's list of attempts fills a screen.
func dialError(info peer.AddrInfo, err error) error {
	where := fmt.Sprint(info.Addrs)
	if len(info.Addrs) == 1 {
		where = info.Addrs[0].String()
	}
	var de *swarm.DialError
	if errors.As(err, &de) {
		for _, attempt := range de.DialErrors {
			var mismatch sec.ErrPeerIDMismatch
			if errors.As(attempt.Cause, &mismatch) {
				return &PeerMismatchError{Address: attempt.Address.String(), Want: mismatch.Expected.String(), Got: mismatch.Actual.String()}
			}
			if m := answeredAs.FindStringSubmatch(attempt.Cause.Error()); m != nil {
				return &PeerMismatchError{Address: attempt.Address.String(), Want: m[1], Got: m[2]}
			}
		}
	}
	return fmt.Errorf("cannot reach %s at %s (is the node running, and are the address and its firewall right?): %w",
		info.ID, where, dialCause(err))
}

// dialCause takes the first thing that went wrong out of that list.
func dialCause(err error) error {
	var de *swarm.DialError
	if !errors.As(err, &de) {
		return err
	}
	if len(de.DialErrors) > 0 {
		return de.DialErrors[0].Cause
	}
	if de.Cause != nil {
		return de.Cause
	}
	return err
}
