package p2p

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/transport"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"github.com/libp2p/go-libp2p/p2p/transport/tcpreuse"
	manet "github.com/multiformats/go-multiaddr/net"
)

// TCP connections from others whose handshake is not done cost their owner nothing. The library refuses new ones when it has too
// many, so that a few hundred silent ones keep every honest peer out; here they push each other out instead.
const (
	// maxArriving is how many there are in all. With ten addresses that open as fast as they can, an honest peer's handshake still
	// has its place for longer than it takes.
	maxArriving = 256
	// maxArrivingPerIP is how many of them one address has; a campus behind one address does not come all in one second.
	maxArrivingPerIP = 128
	// maxSilence is how long one may say nothing. Who connects speaks first, so this is one round trip and a packet sent again.
	maxSilence = 5 * time.Second
	// maxTransient is the library's own limit: those pushed out need a moment until the library has noticed.
	maxTransient = 2 * maxArriving
)

// arrivals are the inbound TCP connections whose handshake is not done.
type arrivals struct {
	mu   sync.Mutex // guards what follows
	byIP map[netip.Prefix][]*arrival
	all  int
}

// arrival is an inbound TCP connection. It is in the list until its handshake is done or it is closed.
type arrival struct {
	manet.Conn
	list  *arrivals
	ip    netip.Prefix
	spoke atomic.Bool // a byte has come
	timer *time.Timer
}

func newArrivals() *arrivals { return &arrivals{byIP: map[netip.Prefix][]*arrival{}} }

// newTCP is the library's TCP transport with our listeners.
func (l *arrivals) newTCP(u transport.Upgrader, rm network.ResourceManager, shared *tcpreuse.ConnMgr) (*tcp.TcpTransport, error) {
	return tcp.NewTCPTransport(arrivalUpgrader{u, l}, rm, shared)
}

type arrivalUpgrader struct {
	transport.Upgrader
	list *arrivals
}

// UpgradeGatedMaListener is called by the library for each address that it listens on.
func (u arrivalUpgrader) UpgradeGatedMaListener(t transport.Transport, l transport.GatedMaListener) transport.Listener {
	return u.Upgrader.UpgradeGatedMaListener(t, arrivalListener{l, u.list})
}

type arrivalListener struct {
	transport.GatedMaListener
	list *arrivals
}

// Accept is called by the library.
func (l arrivalListener) Accept() (manet.Conn, network.ConnManagementScope, error) {
	c, scope, err := l.GatedMaListener.Accept()
	if err != nil {
		return nil, nil, err
	}
	return l.list.add(c), scope, nil
}

// add enters a connection, and closes another one if that is one too many.
func (l *arrivals) add(c manet.Conn) *arrival {
	a := &arrival{Conn: c, list: l}
	if addr, err := netip.ParseAddrPort(c.RemoteAddr().String()); err == nil {
		ip := addr.Addr().Unmap().WithZone("")
		bits := 32
		if ip.Is6() {
			bits = 56 // as the limits of connections: one customer
		}
		a.ip, _ = ip.Prefix(bits)
	}
	l.mu.Lock()
	var victim *arrival
	if len(l.byIP[a.ip]) >= maxArrivingPerIP {
		victim = oldest(l.byIP[a.ip])
	} else if l.all >= maxArriving {
		var crowd []*arrival
		for _, of := range l.byIP {
			if len(of) > len(crowd) {
				crowd = of
			}
		}
		victim = oldest(crowd)
	}
	if victim != nil {
		l.remove(victim)
	}
	l.byIP[a.ip] = append(l.byIP[a.ip], a)
	l.all++
	a.timer = time.AfterFunc(maxSilence, a.closeSilent)
	l.mu.Unlock()
	if victim != nil {
		victim.Close()
	}
	return a
}

// oldest is the one that has said nothing for longest, or, if all speak, the one whose handshake has taken longest.
func oldest(of []*arrival) *arrival {
	for _, a := range of {
		if !a.spoke.Load() {
			return a
		}
	}
	return of[0]
}

// remove takes one out. The caller holds mu.
func (l *arrivals) remove(a *arrival) {
	of := l.byIP[a.ip]
	for i := range of {
		if of[i] != a {
			continue
		}
		l.all--
		a.timer.Stop()
		if len(of) == 1 {
			delete(l.byIP, a.ip)
		} else {
			l.byIP[a.ip] = append(of[:i], of[i+1:]...)
		}
		return
	}
}

// done takes a connection out whose handshake is done. Others are none of ours.
func (l *arrivals) done(c network.ConnMultiaddrs) {
	if a, ok := c.(*arrival); ok {
		a.list.mu.Lock()
		defer a.list.mu.Unlock()
		a.list.remove(a)
	}
}

func (a *arrival) closeSilent() {
	if !a.spoke.Load() {
		a.Close()
	}
}

// Read notes that the other end has spoken.
func (a *arrival) Read(b []byte) (int, error) {
	n, err := a.Conn.Read(b)
	if n > 0 && !a.spoke.Load() {
		a.spoke.Store(true)
	}
	return n, err
}

// Close ends the connection; it can be called more than once.
func (a *arrival) Close() error {
	a.list.mu.Lock()
	a.list.remove(a)
	a.list.mu.Unlock()
	return a.Conn.Close()
}
