package p2p

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	"github.com/libp2p/go-yamux/v5"
	"github.com/quic-go/quic-go"

	"swarmnode/gossip"
)

const (
	// maxTraffic is how many peers' counters are kept; those of peers that have left go first.
	maxTraffic = 4 * maxPeers
	// ewmaWeight is the weight of the newest time to the first byte.
	ewmaWeight = 0.2
)

// PeerInfo is what is known of a connected peer.
type PeerInfo struct {
	ID        gossip.PeerID
	Agent     string        // what it calls itself
	Addrs     []string      // of the connections to it
	Transport string        // "tcp", "quic-v1" or "relay", of the first connection
	Inbound   bool          // it connected to us
	Relayed   bool          // only through a relay: no content can be asked of it
	RTT       time.Duration // 0 is not measured yet
	BytesIn   int64         // of chunks, blocks and holdings
	BytesOut  int64
	Since     time.Time
}

// traffic counts what went to and came from a peer.
type traffic struct {
	in, out atomic.Int64
	rtt     atomic.Int64 // moving average of the time to the first byte, in nanoseconds
}

// peers keeps the counters of peers and tells the callbacks who comes and goes.
type peers struct {
	in, out atomic.Int64 // of peers that were forgotten
	bad     *offenders

	mu        sync.Mutex // guards what follows
	counters  map[peer.ID]*traffic
	callbacks []func(gossip.PeerID, bool)
	pending   []peerEvent   // not told yet; at most one per peer, so it is bounded by the connections
	wake      chan struct{} // capacity 1
}

type peerEvent struct {
	id        peer.ID
	connected bool
}

func newPeers(bad *offenders) *peers {
	return &peers{bad: bad, counters: map[peer.ID]*traffic{}, wake: make(chan struct{}, 1)}
}

func (p *peers) traffic(id peer.ID) *traffic {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.counters[id]
	if t == nil {
		t = new(traffic)
		p.counters[id] = t
	}
	return t
}

// forget drops the counters of peers that are gone when there are too many. The totals stay.
func (p *peers) forget(gone func(peer.ID) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.counters) <= maxTraffic {
		return
	}
	for id, t := range p.counters {
		if gone(id) {
			p.in.Add(t.in.Load())
			p.out.Add(t.out.Load())
			delete(p.counters, id)
		}
	}
}

func (p *peers) firstByte(id peer.ID, d time.Duration) {
	t := p.traffic(id)
	old := t.rtt.Load()
	if old == 0 {
		old = int64(d)
	}
	t.rtt.Store(int64(ewmaWeight*float64(d) + (1-ewmaWeight)*float64(old)))
}

// push notes that a peer came or left, over what was not told of it yet.
func (p *peers) push(e peerEvent) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pending = slices.DeleteFunc(p.pending, func(o peerEvent) bool { return o.id == e.id })
	p.pending = append(p.pending, e)
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// tell calls the callbacks until ctx ends. They run here, so that a slow one holds up nothing in the library.
func (p *peers) tell(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.wake:
		}
		p.mu.Lock()
		events, callbacks := p.pending, slices.Clone(p.callbacks)
		p.pending = nil
		p.mu.Unlock()
		for _, e := range events {
			for _, fn := range callbacks {
				fn(gossip.PeerID(e.id.String()), e.connected)
			}
		}
	}
}

// watchPeers turns the library's events into ours, until ctx ends.
func (h *Host) watchPeers(ctx context.Context, events event.Subscription) {
	defer events.Close()
	for {
		select {
		case <-ctx.Done():
			return
		case e, ok := <-events.Out():
			if !ok {
				return
			}
			c := e.(event.EvtPeerConnectednessChanged)
			up := c.Connectedness == network.Connected
			h.peers.push(peerEvent{c.Peer, up})
			if back := h.keeper.changed(c.Peer, up); back != "" {
				h.cfg.Log.Info(backAgain, "address", back)
			}
			if up {
				h.adverts.newPeer()
			} else {
				h.peers.forget(func(id peer.ID) bool { return h.host.Network().Connectedness(id) != network.Connected })
			}
		}
	}
}

func (h *Host) subscribe() (event.Subscription, error) {
	s, err := h.host.EventBus().Subscribe(new(event.EvtPeerConnectednessChanged), eventbus.BufSize(256), eventbus.Name("swarmnode-peers"))
	if err != nil {
		return nil, fmt.Errorf("subscribe to connection events: %w", err)
	}
	return s, nil
}

// OnPeer has fn called when a peer connects (directly, not by a relay) or leaves, one call at a time, from a goroutine
// of the host. Peers that are connected already are told, too. A peer that leaves and comes back quickly may be told
// as connected twice: what was open to it is gone in between.
func (h *Host) OnPeer(fn func(id gossip.PeerID, connected bool)) {
	h.peers.mu.Lock()
	h.peers.callbacks = append(h.peers.callbacks, fn)
	h.peers.mu.Unlock()
	for _, id := range h.host.Network().Peers() {
		if h.host.Network().Connectedness(id) == network.Connected {
			h.peers.push(peerEvent{id, true})
		}
	}
}

// Traffic is how many bytes of chunks, blocks and holdings this host has received and sent since it was made.
func (h *Host) Traffic() (in, out int64) {
	p := h.peers
	in, out = p.in.Load(), p.out.Load()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range p.counters {
		in, out = in+t.in.Load(), out+t.out.Load()
	}
	return in, out
}

// RTT is the round-trip time to a peer: what its transport measured, else the moving average of the time to the first
// byte of its answers, else 0.
func (h *Host) RTT(id gossip.PeerID) time.Duration {
	p, err := peer.Decode(string(id))
	if err != nil {
		return 0
	}
	return h.rtt(p)
}

func (h *Host) rtt(p peer.ID) time.Duration {
	for _, c := range h.host.Network().ConnsToPeer(p) {
		if c.Stat().Limited {
			continue
		}
		var q *quic.Conn
		var y *yamux.Session
		switch {
		case c.As(&q):
			return q.ConnectionStats().SmoothedRTT
		case c.As(&y):
			if d := y.RTT(); d > 0 { // the first ping comes after 30 s
				return d
			}
		}
	}
	h.peers.mu.Lock()
	defer h.peers.mu.Unlock()
	if t := h.peers.counters[p]; t != nil && t.rtt.Load() > 0 {
		return time.Duration(t.rtt.Load())
	}
	return h.host.Peerstore().LatencyEWMA(p)
}

// Peers lists the connected peers, by ID.
func (h *Host) Peers() []PeerInfo {
	var list []PeerInfo
	for _, p := range h.host.Network().Peers() {
		conns := h.host.Network().ConnsToPeer(p)
		if len(conns) == 0 {
			continue
		}
		slices.SortStableFunc(conns, func(a, b network.Conn) int { // those that carry content first
			return cmp.Compare(strings.Count(a.RemoteMultiaddr().String(), "/p2p-circuit"), strings.Count(b.RemoteMultiaddr().String(), "/p2p-circuit"))
		})
		st := conns[0].Stat()
		info := PeerInfo{
			ID: gossip.PeerID(p.String()), Transport: conns[0].ConnState().Transport, Inbound: st.Direction == network.DirInbound,
			Relayed: h.host.Network().Connectedness(p) != network.Connected, RTT: h.rtt(p), Since: st.Opened,
		}
		for _, c := range conns {
			info.Addrs = append(info.Addrs, c.RemoteMultiaddr().String())
			if c.Stat().Opened.Before(info.Since) {
				info.Since = c.Stat().Opened
			}
		}
		if strings.Contains(info.Addrs[0], "/p2p-circuit") {
			info.Transport = "relay"
		}
		if agent, err := h.host.Peerstore().Get(p, "AgentVersion"); err == nil {
			info.Agent, _ = agent.(string)
		}
		t := h.peers.traffic(p)
		info.BytesIn, info.BytesOut = t.in.Load(), t.out.Load()
		list = append(list, info)
	}
	slices.SortFunc(list, func(a, b PeerInfo) int { return cmp.Compare(a.ID, b.ID) })
	return list
}
