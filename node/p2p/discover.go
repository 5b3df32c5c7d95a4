package p2p

import (
	"context"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/discovery/mdns"

	"swarmnode/content"
	"swarmnode/gossip"
)

const (
	// mdnsService keeps other libp2p programs on the LAN out.
	mdnsService = "_swarmnode._udp"
	// provideEvery is the shortest time between two announcements of a collection, and provideSpread what is added
	// at random: well within providerTTL.
	provideEvery, provideSpread = 20 * time.Minute, 10 * time.Minute
	// provideTimeout bounds one announcement.
	provideTimeout = time.Minute
	// While the swarm is smaller than smallSwarm, an announcement is repeated when a peer comes, at most every
	// provideAgain: the first one may have reached nobody.
	smallSwarm   = 20
	provideAgain = 30 * time.Second
	// provideSoon lets a new peer get into the DHT's table before it is told.
	provideSoon = 500 * time.Millisecond
	// maxProviders is how many holders of a collection one search gives.
	maxProviders = 50
	// tableWait is how long a search waits for the first peer in the DHT's table.
	tableWait = 3 * time.Second
)

// collectionKey is the key of a collection in the DHT: not its ID itself, which is also the name of a piece of data.
func collectionKey(id content.ID) cid.Cid {
	return content.Digest(sha256.Sum256([]byte("swarmnode-collection:" + id.String()))).ChunkCID()
}

// adverts are the collections that this node is to be found by.
type adverts struct {
	wake chan struct{} // capacity 1

	mu   sync.Mutex // guards list
	list map[content.ID]*advert
}

type advert struct {
	next time.Time // of the next announcement
	last time.Time // of the last one that reached somebody
	wait time.Duration
}

func newAdverts() *adverts {
	return &adverts{wake: make(chan struct{}, 1), list: map[content.ID]*advert{}}
}

func (a *adverts) poke() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// newPeer brings the next announcement forward in a small swarm.
func (a *adverts) newPeer() { a.soon(time.Now()) }

func (a *adverts) soon(now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, ad := range a.list {
		t := now.Add(provideSoon)
		if !ad.last.IsZero() && t.Before(ad.last.Add(provideAgain)) {
			t = ad.last.Add(provideAgain)
		}
		if t.Before(ad.next) {
			ad.next = t
		}
	}
	a.poke()
}

// due gives a collection to announce now, or says when to look again.
func (a *adverts) due(now time.Time) (id content.ID, ok bool, again time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	again = now.Add(provideEvery)
	for c, ad := range a.list {
		if !ad.next.After(now) {
			return c, true, now
		}
		if ad.next.Before(again) {
			again = ad.next
		}
	}
	return id, false, again
}

// done plans the next announcement.
func (a *adverts) done(id content.ID, now time.Time, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	ad := a.list[id]
	if ad == nil {
		return
	}
	if err != nil { // alone in the DHT: kb.ErrLookupFailure
		ad.wait = min(max(2*ad.wait, 5*time.Second), time.Minute)
		ad.next = now.Add(ad.wait)
		return
	}
	ad.wait, ad.last = 0, now
	ad.next = now.Add(provideEvery + rand.N(provideSpread))
}

// Advertise makes this node be found by those who look for the collection, from now on, as long as [Host.Run] runs.
func (h *Host) Advertise(id content.ID) {
	a := h.adverts
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.list[id] == nil {
		a.list[id] = &advert{}
	}
	a.poke()
}

// Unadvertise ends that: others forget it within the hour.
func (h *Host) Unadvertise(id content.ID) {
	h.adverts.mu.Lock()
	defer h.adverts.mu.Unlock()
	delete(h.adverts.list, id)
}

func (h *Host) keepAdvertised(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		id, ok, again := h.adverts.due(time.Now())
		if !ok {
			timer.Reset(time.Until(again))
			select {
			case <-ctx.Done():
			case <-timer.C:
			case <-h.adverts.wake:
			}
			continue
		}
		pctx, cancel := context.WithTimeout(ctx, provideTimeout)
		err := h.dht.Provide(pctx, collectionKey(id), true)
		cancel()
		if err != nil {
			h.cfg.Log.Debug("a collection is not announced in the DHT yet", "collection", id, "error", err)
		}
		h.adverts.done(id, time.Now(), err)
	}
}

// Find looks for holders of a collection in the DHT, connects to them and calls each, one at a time, for every one
// that is connected. It gives nil when the search is over, or the error of ctx.
func (h *Host) Find(ctx context.Context, id content.ID, each func(gossip.PeerID)) error {
	if !h.begin() {
		return ErrClosed
	}
	defer h.wg.Done()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	h.waitForTable(ctx)
	found := make(chan peer.AddrInfo)
	up := make(chan peer.ID)
	var dials sync.WaitGroup
	for range maxDials {
		dials.Go(func() {
			for info := range found {
				if err := h.dial(ctx, info); err != nil {
					h.cfg.Log.Debug("a holder that the DHT names is not reachable", "peer", info.ID, "error", err)
					continue
				}
				up <- info.ID
			}
		})
	}
	dials.Go(func() {
		defer close(found)
		for info := range h.dht.FindProvidersAsync(ctx, collectionKey(id), maxProviders) {
			if info.ID == h.host.ID() {
				continue
			}
			select {
			case found <- info:
			case <-ctx.Done():
			}
		}
	})
	go func() { // ends with the workers, which the loop below waits for
		dials.Wait()
		close(up)
	}()
	for p := range up {
		each(gossip.PeerID(p.String()))
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("look for holders of %s: %w", id, err)
	}
	return nil
}

// waitForTable gives a host that has just connected the moment until the DHT knows its peers.
func (h *Host) waitForTable(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, tableWait)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for h.dht.RoutingTable().Size() == 0 {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// found hands peers on the LAN to a worker; more than it holds are dropped, they are seen again.
type found chan peer.AddrInfo

// HandlePeerFound is called by the library.
func (f found) HandlePeerFound(info peer.AddrInfo) {
	select {
	case f <- info:
	default:
	}
}

// startMDNS looks for nodes on the LAN and connects to them.
func (h *Host) startMDNS(ctx context.Context, parts *sync.WaitGroup) (stop func(), err error) {
	peers := make(found, 64)
	service := mdns.NewMdnsService(h.host, mdnsService, peers)
	if err := service.Start(); err != nil {
		service.Close()
		return nil, err
	}
	parts.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case info := <-peers:
				if h.connected(info.ID) {
					continue
				}
				h.peers.bad.dials.meet(info)
				if err := h.dial(ctx, info); err != nil {
					h.cfg.Log.Debug("a node on the LAN is not reachable", "peer", info.ID, "error", err)
				}
			}
		}
	})
	return func() { service.Close() }, nil
}
