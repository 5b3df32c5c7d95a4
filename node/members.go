package node

import (
	"context"
	"errors"
	"time"

	"swarmnode/content"
	"swarmnode/gossip"
	"swarmnode/gossip/topic"
	"swarmnode/node/policy"
)

const (
	// tellSoon is when the first member record is sent, so that the topic has neighbours by then; a change is told at once.
	tellSoon = 2 * time.Second
	// findEvery is how often the DHT is asked for holders; findSoon as long as nobody else is known.
	findEvery = 10 * time.Minute
	findSoon  = 5 * time.Second
	// lookEvery is how often the neighbours of a collection are thought about.
	lookEvery = 5 * time.Second
	// dialTimeout bounds one attempt to reach a member.
	dialTimeout = 15 * time.Second
)

// tellMembers sends this node's member record: when it changes, and from time to time.
func (n *Node) tellMembers(ctx context.Context, c *collection) error {
	timer := time.NewTimer(tellSoon)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.tell:
		case <-timer.C:
		}
		timer.Reset(gossip.MemberInterval)
		if err := n.tellMember(ctx, c); err != nil && ctx.Err() == nil {
			n.log.Warn("member record not sent", "collection", c.id, "error", err)
		}
	}
}

func (n *Node) tellMember(ctx context.Context, c *collection) error {
	m := gossip.Member{Collection: c.id, Addrs: n.host.Addrs(), Disk: uint64(max(n.cfg.Disk, 0)), Issued: time.Now().Unix()}
	if c.master != nil {
		m.Release = c.master.signer.Head().Release
		m.Complete = m.Release > 0
	} else if man := c.follower.mirror.Served(); man != nil {
		m.Release, m.Complete = man.Release, true
	}
	if len(m.Addrs) > gossip.MaxAddrs {
		m.Addrs = m.Addrs[:gossip.MaxAddrs]
	}
	h := n.host.Libp2p()
	sealed, err := topic.SealMember(h.Peerstore().PrivKey(h.ID()), m)
	if err != nil {
		return err
	}
	return c.topic.Publish(ctx, gossip.KindMember, sealed)
}

// neighbours keeps this node connected to enough others that share a collection: those that member records and the DHT name.
func (n *Node) neighbours(ctx context.Context, c *collection) error {
	k := &neighbourhood{
		node: n, c: c, peers: policy.NewPeers(policy.PeersConfig{}, newRand()), addrs: map[gossip.PeerID][]string{},
		dialed: make(chan dial), found: make(chan gossip.PeerID), searched: make(chan struct{}),
	}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		k.look(ctx, time.Now())
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case id := <-k.found:
			k.peers.Connected(id, n.host.RTT(id))
		case d := <-k.dialed:
			if d.err != nil {
				k.peers.DialFailed(time.Now(), d.peer)
			} else {
				k.peers.Connected(d.peer, n.host.RTT(d.peer))
			}
		case <-k.searched:
			k.searching = false
		}
	}
}

// neighbourhood carries out policy.Peers for one collection. One goroutine owns it.
type neighbourhood struct {
	node  *Node
	c     *collection
	peers *policy.Peers
	addrs map[gossip.PeerID][]string // that member records gave

	dialed    chan dial
	found     chan gossip.PeerID // by the DHT, and connected
	searched  chan struct{}      // a search has ended
	searching bool
	last      time.Time // when the last search began
}

// look brings the policy up to date and does what it says.
func (k *neighbourhood) look(ctx context.Context, now time.Time) {
	n := k.node
	connected := map[gossip.PeerID]bool{}
	for _, id := range n.connected() {
		connected[id] = true
	}
	others := 0
	for _, m := range k.c.listener.Heard(now, 0).Members {
		if m.Peer == n.host.ID() {
			continue
		}
		others++
		k.addrs[m.Peer] = m.Addrs
		if connected[m.Peer] {
			k.peers.Connected(m.Peer, n.host.RTT(m.Peer))
		} else {
			k.peers.Learned(m.Peer)
			k.peers.Disconnected(now, m.Peer)
		}
	}
	every := findEvery
	if others == 0 {
		every = findSoon
	}
	if !k.searching && now.Sub(k.last) >= every {
		k.searching, k.last = true, now
		n.tasks.run(ctx, "search in the DHT", func(ctx context.Context) error {
			n.find(ctx, k.c.id, k.found)
			select {
			case k.searched <- struct{}{}:
			case <-ctx.Done():
			}
			return nil
		})
	}
	for _, id := range k.peers.Next(now).Dial {
		n.dial(ctx, id, k.addrs[id], k.dialed)
	}
}

func (n *Node) find(ctx context.Context, id content.ID, found chan<- gossip.PeerID) {
	err := n.host.Find(ctx, id, func(p gossip.PeerID) {
		select {
		case found <- p:
		case <-ctx.Done():
		}
	})
	if err != nil && ctx.Err() == nil {
		n.log.Debug("search for holders", "collection", id, "error", err)
	}
}

// dial is how an attempt to reach a peer ended.
type dial struct {
	peer gossip.PeerID
	err  error
}

func (n *Node) dial(ctx context.Context, id gossip.PeerID, addrs []string, done chan<- dial) {
	n.tasks.run(ctx, "dial", func(ctx context.Context) error {
		dctx, cancel := context.WithTimeout(ctx, dialTimeout)
		defer cancel()
		err := errors.New("no address is known")
		for _, a := range addrs {
			if _, err = n.host.Connect(dctx, a+"/p2p/"+string(id)); err == nil {
				break
			}
		}
		if err != nil {
			n.log.Debug("a member is not reachable", "peer", id, "error", err)
		}
		select {
		case done <- dial{id, err}:
		case <-ctx.Done():
		}
		return nil
	})
}
