package p2p

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	manet "github.com/multiformats/go-multiaddr/net"
)

const (
	// maxUploads is how many answers of chunks are sent at a time. Each gets a share of the uplink: with too many every one is
	// slow and nobody has a chunk to pass on, with too few one slow asker leaves the uplink idle. BitTorrent clients use 4 to
	// 10 for home uplinks; a server's needs a few more.
	maxUploads = 12
	// uploadTurn is after how long an answer is cut at the end of a chunk when others wait: the rest is asked for again.
	uploadTurn = 10 * time.Second
)

// uploads gives places to those who want chunks. Of those who wait, the network (IPv4 /24, IPv6 /48) with the fewest places is
// served next, and of these the one who came first, so that a site with many nodes gets no more than one with a single one.
type uploads struct {
	mu      sync.Mutex // guards what follows
	free    int
	held    map[netip.Prefix]int
	waiting []*waiter
}

type waiter struct {
	group netip.Prefix
	ready chan struct{} // closed when it has its place
}

func newUploads(places int) *uploads { return &uploads{free: places, held: map[netip.Prefix]int{}} }

// enter waits a little for a place and reports whether it got one, to be given back with leave.
func (u *uploads) enter(ctx context.Context, group netip.Prefix, wait time.Duration) bool {
	u.mu.Lock()
	if u.free > 0 {
		u.take(group)
		u.mu.Unlock()
		return true
	}
	w := &waiter{group: group, ready: make(chan struct{})}
	u.waiting = append(u.waiting, w)
	u.mu.Unlock()
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-w.ready:
		return true
	case <-ctx.Done():
	case <-timer.C:
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	for i, o := range u.waiting {
		if o == w {
			u.waiting = append(u.waiting[:i], u.waiting[i+1:]...)
			return false
		}
	}
	return true // it came at the last moment
}

// take gives a place. The caller holds mu; there is one.
func (u *uploads) take(group netip.Prefix) {
	u.free--
	u.held[group]++
}

// leave gives a place back, to the next.
func (u *uploads) leave(group netip.Prefix) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.free++
	if u.held[group]--; u.held[group] == 0 {
		delete(u.held, group)
	}
	if len(u.waiting) == 0 {
		return
	}
	best := 0
	for i, w := range u.waiting {
		if u.held[w.group] < u.held[u.waiting[best].group] {
			best = i
		}
	}
	w := u.waiting[best]
	u.waiting = append(u.waiting[:best], u.waiting[best+1:]...)
	u.take(w.group)
	close(w.ready)
}

// contended reports whether somebody waits.
func (u *uploads) contended() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.waiting) > 0
}

// groupOf is the network that a peer belongs to; the zero value for those without an address, behind relays.
func groupOf(c network.Conn) netip.Prefix {
	ip, err := manet.ToIP(c.RemoteMultiaddr())
	if err != nil {
		return netip.Prefix{}
	}
	addr, _ := netip.AddrFromSlice(ip)
	addr = addr.Unmap()
	bits := 48
	if addr.Is4() {
		bits = 24
	}
	group, _ := addr.Prefix(bits)
	return group
}
