package p2p

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// freePortTries is how often another port is drawn when the default one is taken.
const freePortTries = 20

// listenPlan is where a host will listen.
type listenPlan struct {
	addrs    []ma.Multiaddr
	explicit bool // every address was asked for, so every one has to work
	note     string
}

// planListen turns the configuration into addresses that are free. They are probed with plain sockets: the library
// shares TCP ports between processes (SO_REUSEPORT), so that a second node would not notice the first.
func planListen(cfg Config, probe func(ma.Multiaddr) error) (listenPlan, error) {
	if cfg.Client { // any port, for those behind routers, who have to connect to it
		return listenPlan{addrs: anyAddrs(0)}, nil
	}
	if len(cfg.Listen) > 0 {
		plan := listenPlan{explicit: true}
		for _, s := range cfg.Listen {
			addrs, err := parseListen(s)
			if err != nil {
				return listenPlan{}, err
			}
			plan.addrs = append(plan.addrs, addrs...)
		}
		for _, a := range plan.addrs {
			if err := probe(a); err != nil {
				return listenPlan{}, listenError(a, err)
			}
		}
		return plan, nil
	}
	addrs := anyAddrs(DefaultPort)
	if portFree(addrs, probe) {
		return listenPlan{addrs: addrs}, nil
	}
	for range freePortTries {
		port, err := freePort()
		if err != nil {
			return listenPlan{}, err
		}
		if addrs := anyAddrs(port); portFree(addrs, probe) {
			return listenPlan{addrs: addrs, note: fmt.Sprintf("port %d is in use by another program, this node uses %d instead", DefaultPort, port)}, nil
		}
	}
	return listenPlan{}, fmt.Errorf("port %d is in use and no other one was found free for both TCP and UDP", DefaultPort)
}

func anyAddrs(port int) []ma.Multiaddr {
	var addrs []ma.Multiaddr
	for _, f := range []string{"/ip4/0.0.0.0/tcp/%d", "/ip6/::/tcp/%d", "/ip4/0.0.0.0/udp/%d/quic-v1", "/ip6/::/udp/%d/quic-v1"} {
		addrs = append(addrs, ma.StringCast(fmt.Sprintf(f, port)))
	}
	return addrs
}

// portFree reports whether no address is taken. A machine without IPv6 is no obstacle.
func portFree(addrs []ma.Multiaddr, probe func(ma.Multiaddr) error) bool {
	for _, a := range addrs {
		if err := probe(a); errors.Is(err, syscall.EADDRINUSE) || errors.Is(err, syscall.EACCES) {
			return false
		}
	}
	return true
}

func freePort() (int, error) {
	l, err := net.Listen("tcp4", ":0")
	if err != nil {
		return 0, fmt.Errorf("look for a free port: %w", err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// probe listens for a moment. Addresses that are not TCP or UDP over IP pass.
func probe(a ma.Multiaddr) error {
	ip, port, udp, ok := endpoint(a)
	if !ok || port == 0 {
		return nil
	}
	family := "6"
	if ip.To4() != nil {
		family = "4"
	}
	addr := net.JoinHostPort(ip.String(), strconv.Itoa(port))
	if udp {
		c, err := net.ListenPacket("udp"+family, addr)
		if err != nil {
			return err
		}
		return c.Close()
	}
	l, err := net.Listen("tcp"+family, addr)
	if err != nil {
		return err
	}
	return l.Close()
}

func endpoint(a ma.Multiaddr) (ip net.IP, port int, udp, ok bool) {
	ip, err := manet.ToIP(a)
	if err != nil {
		return nil, 0, false, false
	}
	for code, isUDP := range map[int]bool{ma.P_TCP: false, ma.P_UDP: true} {
		if v, err := a.ValueForProtocol(code); err == nil {
			port, err = strconv.Atoi(v)
			return ip, port, isUDP, err == nil
		}
	}
	return nil, 0, false, false
}

// parseListen reads a multiaddr, or host:port, which is TCP and QUIC.
func parseListen(s string) ([]ma.Multiaddr, error) {
	if strings.HasPrefix(s, "/") {
		a, err := ma.NewMultiaddr(s)
		if err == nil {
			_, _, _, ok := endpoint(a)
			if !ok {
				err = errors.New("no IP address and port")
			}
		}
		if err != nil {
			return nil, fmt.Errorf("listen address %q: %w: it must look like /ip4/0.0.0.0/tcp/%d or /ip4/0.0.0.0/udp/%d/quic-v1",
				s, err, DefaultPort, DefaultPort)
		}
		return []ma.Multiaddr{a}, nil
	}
	host, portText, err := net.SplitHostPort(s)
	port, perr := strconv.ParseUint(portText, 10, 16)
	if err != nil || perr != nil {
		return nil, fmt.Errorf("listen address %q: it must look like :%d or 192.0.2.1:%d", s, DefaultPort, DefaultPort)
	}
	if host == "" {
		return anyAddrs(int(port)), nil
	}
	ip := net.ParseIP(host)
	if ip == nil {
		return nil, fmt.Errorf("listen address %q: %q is not an IP address of this machine", s, host)
	}
	family := "ip6"
	if ip.To4() != nil {
		family = "ip4"
	}
	return []ma.Multiaddr{
		ma.StringCast(fmt.Sprintf("/%s/%s/tcp/%d", family, ip, port)),
		ma.StringCast(fmt.Sprintf("/%s/%s/udp/%d/quic-v1", family, ip, port)),
	}, nil
}

func listenError(a ma.Multiaddr, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("cannot listen on %s: the port is in use by another program; stop that one, or choose another port "+
			"(port 0 takes any free one): %w", a, err)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("cannot listen on %s: ports below 1024 need root; choose another port: %w", a, err)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("cannot listen on %s: this machine does not have that address: %w", a, err)
	}
	return fmt.Errorf("cannot listen on %s: %w", a, err)
}

// listen starts listening and compares: the library is content when one of the addresses works.
func (p listenPlan) listen(n network.Network) error {
	if len(p.addrs) == 0 {
		return nil
	}
	if err := n.Listen(p.addrs...); err != nil {
		return fmt.Errorf("cannot listen on %v: %w", p.addrs, err)
	}
	for _, want := range p.addrs {
		ok := false
		for _, got := range n.ListenAddresses() {
			ok = ok || sameEndpoint(want, got)
		}
		if ip, _, _, _ := endpoint(want); !ok && (p.explicit && !ip.Equal(net.IPv6unspecified) || ip.To4() != nil) {
			return listenError(want, errors.New("the address was taken at the last moment: try again"))
		}
	}
	return nil
}

func sameEndpoint(want, got ma.Multiaddr) bool {
	ip, port, udp, ok := endpoint(want)
	gotIP, gotPort, gotUDP, gotOK := endpoint(got)
	return ok && gotOK && ip.Equal(gotIP) && udp == gotUDP && (port == 0 || port == gotPort)
}

func isLoopback(a ma.Multiaddr) bool {
	ip, err := manet.ToIP(a)
	return err == nil && ip.IsLoopback()
}

const (
	// quicDelay gives TCP a head start over QUIC: it costs a third of the processor time (DESIGN section 8). It is
	// above the round-trip time of most paths, and while a TCP connection is being set up the library dials nothing else.
	quicDelay = 500 * time.Millisecond
	// quicDelayPrivate is the same on a LAN.
	quicDelayPrivate = 150 * time.Millisecond
)

// rank orders the addresses of a peer for dialing. A node behind a router begins with QUIC on the Internet: then others learn at
// which address the router has it for UDP, by which holes are punched more surely than by TCP.
func (r *reach) rank(addrs []ma.Multiaddr) []network.AddrDelay {
	if r.behind.Load() && slices.ContainsFunc(addrs, manet.IsPublicAddr) {
		return swarm.DefaultDialRanker(addrs)
	}
	return rankTCPFirst(addrs)
}

// alsoQUIC adds to the public TCP addresses of a peer the same ports of UDP, where nodes that were not told otherwise listen, too:
// people hand on one address.
func alsoQUIC(addrs []ma.Multiaddr) []ma.Multiaddr {
	all := slices.Clone(addrs)
	for _, a := range addrs {
		ip, port, udp, ok := endpoint(a)
		if _, err := a.ValueForProtocol(ma.P_CIRCUIT); err == nil || !ok || udp || ip.To4() == nil || !manet.IsPublicAddr(a) {
			continue
		}
		q := ma.StringCast(fmt.Sprintf("/ip4/%s/udp/%d/quic-v1", ip, port))
		if !slices.ContainsFunc(all, q.Equal) {
			all = append(all, q)
		}
	}
	return all
}

// rankTCPFirst orders the addresses of a peer for dialing: TCP, then QUIC, then relays.
func rankTCPFirst(addrs []ma.Multiaddr) []network.AddrDelay {
	var tcp, other []ma.Multiaddr
	delay := quicDelayPrivate
	for _, a := range addrs {
		_, err := a.ValueForProtocol(ma.P_CIRCUIT)
		if _, _, udp, ok := endpoint(a); ok && !udp && err != nil {
			tcp = append(tcp, a)
			if !manet.IsPrivateAddr(a) && !isLoopback(a) {
				delay = quicDelay
			}
		} else {
			other = append(other, a)
		}
	}
	if len(tcp) == 0 {
		return swarm.DefaultDialRanker(addrs)
	}
	ranked := swarm.DefaultDialRanker(tcp)
	for _, d := range swarm.DefaultDialRanker(other) {
		d.Delay += delay
		ranked = append(ranked, d)
	}
	return ranked
}
