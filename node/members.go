package node

import (
	"context"
	"slices"
	"time"

	"swarmnode/content"
	"swarmnode/gossip"
	"swarmnode/gossip/topic"
	"swarmnode/node/policy"
)

const (
	// tellSoon is when the first member record is sent, so that the topic has neighbours by then; a change is told at once.
	tellSoon = 2 * time.Second
	// tellAgain is the least time between two records that are sent because a neighbour came who may not have heard; with more
	// than fewMembers known it is tellAgainLarge, for others tell the new one, too.
	tellAgain      = 2 * time.Second
	tellAgainLarge = 10 * time.Minute
	fewMembers     = 20
	// tellMovedAfter is the least time between two records that are sent because the node's coordinate has moved, as tellAgain; with
	// more than fewMembers known it is tellAgainLarge.
	tellMovedAfter = time.Minute
	// findEvery is how often the DHT is asked for holders; findSoon as long as nobody else is known.
	findEvery = 10 * time.Minute
	findSoon  = 5 * time.Second
	// lookEvery is how often the neighbours of a collection are thought about.
	lookEvery = 5 * time.Second
	// banTime is how long a peer that sent wrong bytes is not dialed: as long as policy.Transfer does not ask it.
	banTime = 24 * time.Hour
	// dialTimeout bounds one attempt to reach a member: 15 s for a connection, and as long again and a little more for a direct
	// one when the first one passes a relay.
	dialTimeout = 40 * time.Second
	// tellElsewhereAfter is the least time between two records that are sent because the node is reached elsewhere: a relay has
	// a place for it, or its router got another address. What comes within moments goes into one record.
	tellElsewhereAfter = 5 * time.Second
)

// tellMembers sends this node's member record: when it changes, when a neighbour comes, and from time to time.
func (n *Node) tellMembers(ctx context.Context, c *collection) error {
	timer := time.NewTimer(tellSoon)
	defer timer.Stop()
	tick := time.NewTicker(tellSoon)
	defer tick.Stop()
	t := teller{told: map[gossip.PeerID]bool{}}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.tell:
		case <-timer.C:
		case now := <-tick.C:
			members := len(c.listener.Heard(now, 0).Members)
			if !t.elsewhere(now, n.host.Addrs()) && !t.again(now, c.topic.Peers(), members) && !t.moved(now, n.place.now(), members) {
				continue
			}
		}
		timer.Reset(gossip.MemberInterval)
		now := n.cfg.Now()
		t.claim, t.addrs = n.place.now().Claim(), n.host.Addrs()
		if err := n.tellMember(ctx, c, t, t.issue(now, c.topic.Peers())); err != nil && ctx.Err() == nil {
			n.log.Warn("other nodes were not told what this one has: nothing to do, it is tried again", "collection", c.id, "error", err)
		}
	}
}

// teller knows when this node's member record was sent and who was there to hear it.
type teller struct {
	sent   time.Time
	issued int64 // unix seconds
	told   map[gossip.PeerID]bool
	claim  gossip.Coordinate
	addrs  []string
}

// elsewhere reports whether to send the record because this node is reached at other addresses than it said.
func (t *teller) elsewhere(now time.Time, addrs []string) bool {
	return now.Sub(t.sent) >= tellElsewhereAfter && !slices.Equal(addrs, t.addrs)
}

// issue notes that a record is sent to these neighbours and gives its time. Records go by whole seconds and only a later one
// counts, so the second one in a second is dated ahead.
func (t *teller) issue(now time.Time, peers []gossip.PeerID) int64 {
	t.sent, t.issued = now, max(now.Unix(), t.issued+1)
	clear(t.told)
	for _, p := range peers {
		t.told[p] = true
	}
	return t.issued
}

// moved reports whether to send the record because the node is elsewhere by now than it said. While a node learns where it
// is that goes on for a few minutes; in a large collection the others wait as for any record.
func (t *teller) moved(now time.Time, here policy.Coordinate, members int) bool {
	pause := tellMovedAfter
	if members > fewMembers {
		pause = tellAgainLarge
	}
	return now.Sub(t.sent) >= pause && here.Moved(t.claim) >= tellMoved
}

// again reports whether to send the record because a neighbour has come since: a record is sent once, and who was not there
// would miss it for half an hour.
func (t *teller) again(now time.Time, peers []gossip.PeerID, members int) bool {
	pause := tellAgain
	if members > fewMembers {
		pause = tellAgainLarge
	}
	return now.Sub(t.sent) >= pause && slices.ContainsFunc(peers, func(p gossip.PeerID) bool { return !t.told[p] })
}

func (n *Node) tellMember(ctx context.Context, c *collection, t teller, issued int64) error {
	m := gossip.Member{Collection: c.id, Coordinate: t.claim, Addrs: t.addrs, Disk: uint64(max(n.cfg.Disk, 0)), Gateway: n.web.url, Issued: issued}
	if c.outlet.shut() {
		m.Gateway = ""
	} else if c.master != nil {
		m.Release = c.master.signer.Head().Release
		m.Complete = m.Release > 0
	} else if man := c.follower.mirror.Served(); man != nil {
		m.Release, m.Complete = man.Release, c.follower.cache == nil
	}
	if n.limit.Over() { // it gives nothing now: nobody is to be sent here or to count on it
		m.Gateway, m.Complete = "", false
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
		node: n, c: c, peers: policy.NewPeers(policy.PeersConfig{}, newRand()), near: map[gossip.PeerID]bool{},
		dialed: make(chan dial), found: make(chan gossip.PeerID), searched: make(chan struct{}),
	}
	var banned <-chan gossip.PeerID // nil, which never gives, for a publisher
	if c.follower != nil {
		banned = c.follower.banned
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
			k.connected(id)
		case id := <-banned:
			k.peers.Ban(id, time.Now().Add(banTime))
		case d := <-k.dialed:
			if d.err != nil {
				k.peers.DialFailed(time.Now(), d.peer)
			} else {
				k.connected(d.peer)
			}
		case <-k.searched:
			k.searching = false
		}
	}
}

// neighbourhood carries out policy.Peers for one collection. One goroutine owns it. Whom the policy would let go is left to
// the host, which keeps the number of connections: another collection may need the peer.
type neighbourhood struct {
	node  *Node
	c     *collection
	peers *policy.Peers
	near  map[gossip.PeerID]bool // that the policy has been told are connected

	dialed    chan dial
	found     chan gossip.PeerID // by the DHT, and connected
	searched  chan struct{}      // a search has ended
	searching bool
	last      time.Time // when the last search began
}

// connected tells the policy of a connection and gives the peer's RTT.
func (k *neighbourhood) connected(id gossip.PeerID) time.Duration {
	rtt := k.node.host.RTT(id)
	k.near[id] = true
	k.peers.Connected(id, rtt)
	return rtt
}

// notice tells the policy who is a member, where that is said to be, and who is connected; from these the node learns where
// it is itself. It gives the addresses in the member records; these are not
// kept, so that they are as many as the members.
func (k *neighbourhood) notice(now time.Time, connected []gossip.PeerID) map[gossip.PeerID][]string {
	here := make(map[gossip.PeerID]bool, len(connected))
	for _, id := range connected {
		here[id] = true
	}
	for id := range k.near {
		if !here[id] { // a member or not: one that the DHT named, or whose record has expired, is lost as well
			k.peers.Disconnected(now, id)
			delete(k.near, id)
		}
	}
	addrs := map[gossip.PeerID][]string{}
	for _, m := range k.c.listener.Heard(now, 0).Members {
		if m.Peer == k.node.host.ID() {
			continue
		}
		addrs[m.Peer] = m.Addrs
		k.peers.Learned(m.Peer)
		k.peers.Claimed(m.Peer, m.Coordinate)
		if here[m.Peer] {
			k.node.place.learn(m.Coordinate, k.connected(m.Peer))
		}
	}
	k.peers.Here(k.node.place.now())
	return addrs
}

// look brings the policy up to date and does what it says.
func (k *neighbourhood) look(ctx context.Context, now time.Time) {
	n := k.node
	addrs := k.notice(now, n.connected())
	every := findEvery
	if len(addrs) == 0 {
		every = findSoon
	}
	if !k.searching && now.Sub(k.last) >= every {
		k.searching, k.last = true, now
		k.c.tasks.run(ctx, "search in the DHT", func(ctx context.Context) error {
			n.find(ctx, k.c.id, k.found)
			select {
			case k.searched <- struct{}{}:
			case <-ctx.Done():
			}
			return nil
		}, nil)
	}
	for _, id := range k.peers.Next(now).Dial {
		k.dial(ctx, id, addrs[id])
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

func (k *neighbourhood) dial(ctx context.Context, id gossip.PeerID, addrs []string) {
	n := k.node
	k.c.tasks.run(ctx, "dial", func(ctx context.Context) error {
		dctx, cancel := context.WithTimeout(ctx, dialTimeout)
		defer cancel()
		err := n.host.ConnectAny(dctx, id, addrs)
		if err != nil {
			n.log.Debug("a member is not reachable", "peer", id, "error", err)
		}
		select {
		case k.dialed <- dial{id, err}:
		case <-ctx.Done():
		}
		return nil
	}, nil)
}
