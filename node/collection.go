package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"swarmnode/content"
	"swarmnode/content/store"
	"swarmnode/gossip"
	"swarmnode/gossip/topic"
	"swarmnode/gossip/trust"
	"swarmnode/node/fetch"
	"swarmnode/node/mirror"
	"swarmnode/node/publish"
)

// collection is one collection that is open: what a follower and a publisher both have, and what only one of them has.
type collection struct {
	id       content.ID
	dir      string
	log      *slog.Logger
	pack     *store.Pack
	trust    *trust.Repository
	listener *mirror.Listener
	have     *mirror.Availability
	topic    *topic.Topic
	tell     chan struct{} // the member record has changed
	follower *follower     // nil for a publisher
	master   *master       // nil for a follower

	mu     sync.Mutex // guards all below
	record record
	stop   context.CancelFunc // ends what start began; nil before
}

// follower is what a mirror of a collection has.
type follower struct {
	disk     *store.Disk
	fetch    *fetch.Fetcher
	mirror   *mirror.Mirror
	metadata atomic.Uint64 // bytes of metadata blocks received
}

// master is what the publisher of a collection has.
type master struct {
	keys      *trust.Keys
	signer    *trust.Signer
	refs      *store.References
	publisher *publish.Publisher

	mu  sync.Mutex // guards bad
	bad []string   // published files that changed under the running master
}

func (c *collection) name() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.record.Name
}

// openRecord opens a collection that is on disk.
func (n *Node) openRecord(r record) error {
	c, err := n.openCommon(r)
	if err != nil {
		return err
	}
	if r.Source == "" {
		err = n.openFollower(c)
	} else {
		err = n.openMaster(c)
	}
	if err == nil {
		c.topic, err = n.net.Open(c.id, c.listener.Message)
	}
	if err != nil {
		return errors.Join(err, c.close())
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.collections[c.id] = c
	if n.running != nil {
		n.start(c)
	}
	return nil
}

// openCommon opens what both kinds have.
func (n *Node) openCommon(r record) (*collection, error) {
	c := &collection{id: r.ID, dir: r.dir(n.cfg.Home), log: n.log, record: r, have: mirror.NewAvailability(), tell: make(chan struct{}, 1)}
	var err error
	if c.trust, err = trust.Open(filepath.Join(c.dir, "trust"), r.ID); err != nil {
		return nil, err
	}
	if c.pack, err = store.OpenPack(filepath.Join(c.dir, "metadata.pack")); err != nil {
		return nil, err
	}
	c.listener = mirror.NewListener(mirror.ListenConfig{
		ID: r.ID, Repository: c.trust, Pull: n.net.Pull, Peers: n.connected, News: c.news, Log: n.log,
	})
	return c, nil
}

func (n *Node) openFollower(c *collection) error {
	f := &follower{}
	disk, err := store.OpenDisk(filepath.Join(c.dir, "segments"), store.Config{
		Budget: n.cfg.Disk, Overhead: func() int64 { return c.pack.Bytes() + n.usedByOthers(c) }, Log: n.log, Tables: c.table,
		OnBad: func(ref content.Ref, path string) {
			if f.mirror != nil {
				f.mirror.Bad(ref, path)
			}
		},
	})
	if err != nil {
		return err
	}
	f.disk = disk
	c.follower = f
	f.fetch = fetch.New(fetch.Config{
		ID: c.id, Network: network{n.host}, Sink: disk, Rand: newRand(), Log: n.log,
		Wrong:    func(err error) bool { return errors.Is(err, store.ErrWrongBytes) },
		Stored:   func(ref content.Ref, size int) { f.mirror.Stored(ref, size) },
		Metadata: func(_ content.Digest, size int) { f.metadata.Add(uint64(size)) },
	})
	f.mirror, err = mirror.Open(mirror.Config{
		ID: c.id, Dir: c.dir, Pack: c.pack, Disk: disk, Fetch: f.fetch, Availability: c.have, Grace: n.cfg.Grace, Log: n.log,
		Served: func(m *content.Manifest) { n.served(c, m) },
	})
	return err
}

// newRand makes a source of randomness for decisions, seeded from the system.
func newRand() *rand.Rand { return rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())) }

// table reads a segment table out of the pack.
func (c *collection) table(d content.Digest) (*content.Table, error) {
	data, ok := c.pack.Block(d)
	if !ok {
		return nil, fmt.Errorf("segment table %s is not here", d.BlockCID())
	}
	return content.DecodeTable(data)
}

// usedByOthers is how many bytes the other mirrored collections take: the budget is for all of them.
func (n *Node) usedByOthers(c *collection) (used int64) {
	for _, o := range n.all() {
		if o != c && o.follower != nil {
			used += o.follower.disk.Used() + o.pack.Bytes()
		}
	}
	return used
}

// served hears that a mirror serves another release.
func (n *Node) served(c *collection, m *content.Manifest) {
	c.mu.Lock()
	r := c.record
	c.record.Name = m.Name
	c.mu.Unlock()
	if r.Name != m.Name {
		r.Name = m.Name
		if err := r.write(n.cfg.Home); err != nil {
			n.log.Warn("the name of the collection is not kept", "error", err)
		}
	}
	c.changed()
}

// changed has the member record sent anew.
func (c *collection) changed() {
	select {
	case c.tell <- struct{}{}:
	default:
	}
}

// news hears of newer and fresher heads.
func (c *collection) news(h gossip.Head) {
	if c.follower != nil {
		c.follower.mirror.News(h)
	}
}

// peer hears of connections.
func (c *collection) peer(id gossip.PeerID, connected bool, rtt time.Duration) {
	if c.follower == nil {
		return
	}
	if connected {
		c.follower.fetch.Connected(id, rtt)
	} else {
		c.follower.fetch.Disconnected(id)
	}
}

// connected lists the connected peers.
func (n *Node) connected() []gossip.PeerID {
	var ids []gossip.PeerID
	for _, p := range n.host.Peers() {
		if !p.Relayed {
			ids = append(ids, p.ID)
		}
	}
	return ids
}

// start begins everything of a collection that runs. The caller holds n.mu; the node is running.
func (n *Node) start(c *collection) {
	ctx, stop := context.WithCancel(n.running)
	c.mu.Lock()
	c.stop = stop
	c.mu.Unlock()
	n.host.Advertise(c.id)
	run := func(what string, fn func(context.Context) error) { n.tasks.run(ctx, what, fn) }
	run("listener", c.listener.Run)
	run("member record", func(ctx context.Context) error { return n.tellMembers(ctx, c) })
	run("neighbours", func(ctx context.Context) error { return n.neighbours(ctx, c) })
	if f := c.follower; f != nil {
		run("disk", f.disk.Run)
		run("fetcher", f.fetch.Run)
		run("mirror", f.mirror.Run)
	}
	if c.master != nil {
		run("heartbeat", func(ctx context.Context) error { return n.heartbeat(ctx, c) })
	}
	for _, id := range n.connected() {
		c.peer(id, true, n.host.RTT(id))
	}
}

// close closes what is open. Nothing of the collection runs any more.
func (c *collection) close() error {
	c.mu.Lock()
	if c.stop != nil {
		c.stop()
	}
	c.mu.Unlock()
	var errs []error
	if c.topic != nil {
		c.topic.Close()
	}
	if c.follower != nil {
		errs = append(errs, c.follower.disk.Close())
	}
	if m := c.master; m != nil {
		if m.publisher != nil {
			errs = append(errs, m.publisher.Close())
		}
		if m.refs != nil {
			errs = append(errs, m.refs.Close())
		}
	}
	return errors.Join(append(errs, c.pack.Close())...)
}
