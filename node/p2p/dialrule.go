package p2p

import (
	"net/netip"
	"slices"
	"strconv"
	"sync"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

const (
	// maxNear is how many peers that the LAN or the peers file names have their addresses kept: who is on the LAN can name any number.
	maxNear = 256
	// maxSpots is how many addresses of one peer are kept.
	maxSpots = 2 * maxRememberedAddrs
)

// dialRule decides which addresses are dialed. Others name addresses in the DHT, in gossip, when they say who they are and when they
// ask for hole punching; most of them are strangers, and each could have this node knock at machines and ports of its own LAN.
// So addresses on the Internet are dialed whoever names them, and others only
//
//   - in a private range in which the operator has put the swarm: that of a bootstrap address, or of what a bootstrap name has led to,
//     and the one from which this node has got there; loopback for a node that listens and begins nowhere else;
//   - if the operator, a node on the LAN (mDNS) or the file of remembered peers gives exactly that address for exactly that peer.
//
// It is asked by the library before each connection that goes out, of whatever part of it.
type dialRule struct {
	mu     sync.Mutex // guards what follows
	open   []netip.Prefix
	chosen map[peer.ID][]spot // by the operator
	near   map[peer.ID][]spot // by mDNS and the peers file, at most maxNear
}

// spot is a port of a machine. Without an IP address it was given by name.
type spot struct {
	ip   netip.Addr
	port int
	udp  bool
}

func newDialRule() *dialRule {
	return &dialRule{chosen: map[peer.ID][]spot{}, near: map[peer.ID][]spot{}}
}

// privateRanges are those in which people have networks of their own; of all else that is not on the Internet, such as
// addresses for examples, the range is the /24 or the /64.
var privateRanges = []netip.Prefix{
	netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128"),
	netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("192.168.0.0/16"), // RFC 1918
	netip.MustParsePrefix("100.64.0.0/10"),                                      // RFC 6598
	netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("fe80::/10"), // of one link
	netip.MustParsePrefix("fc00::/7") /* RFC 4193 */, netip.MustParsePrefix("198.18.0.0/15"), // RFC 2544, for measurements
}

// carriers are ranges of IPv6 in which a part of the address is one of IPv4, which a router connects to: from which byte on.
var carriers = map[netip.Prefix]int{
	netip.MustParsePrefix("64:ff9b::/96"): 12, // RFC 6052
	netip.MustParsePrefix("2002::/16"):    2,  // RFC 3056
}

// translated are addresses whose meaning only the network of this machine knows (RFC 8215).
var translated = netip.MustParsePrefix("64:ff9b:1::/48")

// effective is the address that a connection to ip gets to in the end.
func effective(ip netip.Addr) netip.Addr {
	ip = ip.Unmap().WithZone("")
	for in, at := range carriers {
		if in.Contains(ip) {
			b := ip.As16()
			return netip.AddrFrom4([4]byte(b[at : at+4]))
		}
	}
	return ip
}

func isPublic(ip netip.Addr) bool {
	a, err := manet.FromIP(ip.AsSlice())
	return err == nil && manet.IsPublicAddr(a) && !translated.Contains(ip)
}

func rangeOf(ip netip.Addr) netip.Prefix {
	for _, p := range privateRanges {
		if p.Contains(ip) {
			return p
		}
	}
	bits := 64
	if ip.Is4() {
		bits = 24
	}
	return netip.PrefixFrom(ip, bits).Masked()
}

// spotOf reads an address that begins with an IP address or a name; false: it has none, or is behind a relay.
func spotOf(a ma.Multiaddr) (spot, bool) {
	if _, err := a.ValueForProtocol(ma.P_CIRCUIT); err == nil || len(a) == 0 {
		return spot{}, false
	}
	if ip, err := manet.ToIP(a); err == nil {
		from, _ := netip.AddrFromSlice(ip)
		_, port, udp, _ := endpoint(a)
		return spot{effective(from), port, udp}, true
	}
	switch a[0].Code() {
	case ma.P_DNS, ma.P_DNS4, ma.P_DNS6, ma.P_DNSADDR:
	default:
		return spot{}, false
	}
	for code, udp := range map[int]bool{ma.P_TCP: false, ma.P_UDP: true} {
		if v, err := a.ValueForProtocol(code); err == nil {
			port, err := strconv.Atoi(v)
			return spot{port: port, udp: udp}, err == nil
		}
	}
	return spot{}, true // dnsaddr: the name leads to whole addresses
}

// is reports whether what was given for a peer is the place that is about to be dialed.
func (s spot) is(dialed spot) bool {
	switch {
	case s.ip.IsValid():
		return s == dialed
	case s.port == 0:
		return true
	}
	return s.port == dialed.port && s.udp == dialed.udp
}

// choose takes what the operator gives as a peer's address.
func (r *dialRule) choose(info peer.AddrInfo) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range info.Addrs {
		s, ok := spotOf(a)
		if !ok {
			continue
		}
		if s.ip.IsValid() && !isPublic(s.ip) {
			r.opened(s.ip)
		}
		r.chosen[info.ID] = addSpot(r.chosen[info.ID], s)
	}
}

// meet takes what a peer on the LAN says of itself, or what is remembered of a peer.
func (r *dialRule) meet(info peer.AddrInfo) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range info.Addrs {
		s, ok := spotOf(a)
		// Loopback and the like are this machine itself: no business of who is on the LAN.
		if !ok || isPublic(s.ip) || !s.ip.IsGlobalUnicast() && !s.ip.IsLinkLocalUnicast() {
			continue
		}
		if _, known := r.near[info.ID]; !known && len(r.near) == maxNear {
			for id := range r.near { // any: who names so many has no claim to any of them
				delete(r.near, id)
				break
			}
		}
		r.near[info.ID] = addSpot(r.near[info.ID], s)
	}
}

// addSpot forgets the oldest for a new one: a machine that roams has another address each day.
func addSpot(list []spot, s spot) []spot {
	if slices.Contains(list, s) {
		return list
	}
	if len(list) == maxSpots {
		list = list[1:]
	}
	return append(slices.Clip(list), s)
}

// opened lets all of a private range be dialed. The caller holds mu.
func (r *dialRule) opened(ip netip.Addr) {
	if p := rangeOf(ip); !slices.Contains(r.open, p) {
		r.open = append(r.open, p)
	}
}

// listens opens loopback for a node that listens at addrs if they, and those of the nodes that it was told of, are nothing else: its swarm
// is on this machine.
func (r *dialRule) listens(addrs []ma.Multiaddr) {
	if len(addrs) == 0 || slices.ContainsFunc(addrs, func(a ma.Multiaddr) bool { return !isLoopback(a) }) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.opened(netip.AddrFrom4([4]byte{127, 0, 0, 1}))
	r.opened(netip.IPv6Loopback())
}

// reached hears of a connection from here to a peer that has proved its identity. What the operator gave by name tells only now in which
// range it is: not before, or whoever has that name could point it anywhere. Where the peer is in a private network, this machine's
// address in it may be of another range: pods and services of a cluster, offices and data centres.
func (r *dialRule) reached(id peer.ID, here, a ma.Multiaddr) {
	s, ok := spotOf(a)
	if !ok || !s.ip.IsValid() || isPublic(s.ip) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if slices.ContainsFunc(r.chosen[id], func(c spot) bool { return c.is(s) }) {
		r.opened(s.ip)
		if own, ok := spotOf(here); ok && own.ip.IsValid() && !isPublic(own.ip) && !own.ip.IsUnspecified() {
			r.opened(own.ip)
		}
	}
}

// allows reports whether a peer is dialed at an address.
func (r *dialRule) allows(id peer.ID, a ma.Multiaddr) bool {
	s, ok := spotOf(a)
	if !ok || !s.ip.IsValid() || isPublic(s.ip) {
		return true // a relay is dialed at an address of its own, and a name once it has led to an address
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	is := func(c spot) bool { return c.is(s) }
	return slices.ContainsFunc(r.open, func(p netip.Prefix) bool { return p.Contains(s.ip) }) ||
		slices.ContainsFunc(r.chosen[id], is) || slices.ContainsFunc(r.near[id], is)
}
