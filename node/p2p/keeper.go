package p2p

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"

	"swarmnode/gossip"
)

const (
	// maxBootstrap bounds the bootstrap list.
	maxBootstrap = 64
	// The longest pauses between two attempts for one bootstrap peer: short while nobody is connected.
	maxPauseAlone, maxPause = 15 * time.Second, 2 * time.Minute
	// enoughPeers is the number of connections above which remembered peers are left alone.
	enoughPeers = 8
	// maxDials is how many remembered peers are dialed at a time, and dialEvery how often.
	maxDials  = 8
	dialEvery = 30 * time.Second
)

// Bootstrap is what became of one entry of the bootstrap list.
type Bootstrap struct {
	Addr      string
	Peer      gossip.PeerID
	Connected bool
	LastTry   time.Time // zero before the first attempt
	Err       error     // of the last attempt; nil while connected
}

// keeper knows whom to stay connected to. The library redials bootstrap peers every two minutes, and only while
// nobody else is known; after a restart of the master that is too late.
type keeper struct {
	first time.Duration // pause after the first failure
	wake  chan struct{} // capacity 1

	mu         sync.Mutex // guards what follows
	targets    []*target
	loaded     bool
	remembered map[peer.ID]remembered
	nextDial   time.Time // of remembered peers
}

// target is a bootstrap peer.
type target struct {
	text    string
	info    peer.AddrInfo
	next    time.Time // of the next attempt
	pause   time.Duration
	dialing bool
	lastTry time.Time
	err     error
}

func parseBootstrap(list []string) ([]*target, error) {
	if len(list) > maxBootstrap {
		return nil, fmt.Errorf("%d bootstrap addresses, at most %d are allowed", len(list), maxBootstrap)
	}
	var targets []*target
	for _, s := range list {
		info, err := parseAddr(s)
		if err != nil {
			return nil, fmt.Errorf("bootstrap address: %w", err)
		}
		targets = append(targets, &target{text: s, info: info})
	}
	return targets, nil
}

func newKeeper(targets []*target, first time.Duration) *keeper {
	return &keeper{first: first, targets: targets, wake: make(chan struct{}, 1), remembered: map[peer.ID]remembered{}}
}

func (k *keeper) poke() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// backAgain is logged when a bootstrap peer, of which the opposite was told, is connected again.
const backAgain = "a bootstrap peer is reached again"

// changed hears of every peer that comes and goes. A bootstrap peer that goes is dialed again soon. It gives the address of one that
// was not reachable and is there again, if tried has not told so; else "".
func (k *keeper) changed(p peer.ID, up bool) (back string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, t := range k.targets {
		if t.info.ID != p {
			continue
		}
		t.pause = 0
		if up {
			if t.err != nil {
				back = t.text
			}
			t.err = nil
		} else { // not all at the same moment
			t.next = time.Now().Add(rand.N(k.first))
		}
		k.poke()
	}
	return back
}

// due gives the targets to dial now and says when to look again.
func (k *keeper) due(now time.Time, connected func(peer.ID) bool) (dial []*target, again time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	again = now.Add(dialEvery)
	for _, t := range k.targets {
		switch {
		case t.dialing || connected(t.info.ID):
		case !t.next.After(now):
			t.dialing, t.lastTry = true, now
			dial = append(dial, t)
		case t.next.Before(again):
			again = t.next
		}
	}
	return dial, again
}

// tried notes what came of an attempt and plans the next one. lost says that the one before it was not a failure: only then is it
// news, as each attempt can fail in another of the peer's addresses with other words.
func (k *keeper) tried(t *target, err error, alone bool) (lost, back bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	lost, back = err != nil && t.err == nil, err == nil && t.err != nil
	t.dialing, t.err = false, err
	if err != nil {
		limit := maxPause
		if alone {
			limit = maxPauseAlone
		}
		t.pause = min(max(k.first, t.pause*3/2), max(limit, k.first))
		t.next = time.Now().Add(t.pause*3/4 + rand.N(t.pause/2+1))
	}
	k.poke()
	return lost, back
}

// keepConnected dials bootstrap peers that are not connected, for ever, and remembered ones while there are few.
func (h *Host) keepConnected(ctx context.Context) {
	var dials sync.WaitGroup
	defer dials.Wait()
	h.protectBootstrap()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-h.keeper.wake:
		case <-timer.C:
		}
		targets, again := h.keeper.due(time.Now(), h.connected)
		for _, t := range targets {
			dials.Go(func() {
				err := h.dial(ctx, t.info)
				if ctx.Err() != nil {
					return
				}
				switch lost, back := h.keeper.tried(t, err, len(h.host.Network().Peers()) == 0); {
				case lost:
					h.cfg.Log.Warn("a bootstrap peer is not reachable: it is tried again by itself; the error says what to look at", "address", t.text, "error", err)
				case back:
					h.cfg.Log.Info(backAgain, "address", t.text)
				}
			})
		}
		if len(h.host.Network().Peers()) < enoughPeers {
			for _, info := range h.keeper.someRemembered(time.Now(), h.connected) {
				h.peers.bad.dials.meet(info)
				dials.Go(func() {
					if err := h.dial(ctx, info); err != nil {
						h.cfg.Log.Debug("a remembered peer is not reachable", "peer", info.ID, "error", err)
					}
				})
			}
		}
		timer.Reset(max(time.Until(again), time.Millisecond))
	}
}

// protectBootstrap keeps connections to bootstrap peers, and their addresses.
func (h *Host) protectBootstrap() {
	for _, t := range h.keeper.targets {
		if t.info.ID != h.host.ID() {
			h.host.Peerstore().AddAddrs(t.info.ID, t.info.Addrs, peerstore.PermanentAddrTTL)
			h.host.ConnManager().Protect(t.info.ID, "swarmnode-bootstrap")
		}
	}
}

// connected reports whether nothing is to be dialed: there is a direct connection, or it is this node itself.
func (h *Host) connected(p peer.ID) bool {
	return p == h.host.ID() || h.host.Network().Connectedness(p) == network.Connected
}

// Bootstrap tells how it stands with each entry of the bootstrap list.
func (h *Host) Bootstrap() []Bootstrap {
	h.keeper.mu.Lock()
	defer h.keeper.mu.Unlock()
	var list []Bootstrap
	for _, t := range h.keeper.targets {
		b := Bootstrap{Addr: t.text, Peer: gossip.PeerID(t.info.ID.String()), Connected: h.connected(t.info.ID), LastTry: t.lastTry}
		if !b.Connected {
			b.Err = t.err
		}
		list = append(list, b)
	}
	return list
}
