package node

import (
	"context"
	"errors"
	"fmt"
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
	"swarmnode/node/export"
	"swarmnode/node/fetch"
	"swarmnode/node/mirror"
	"swarmnode/node/p2p"
	"swarmnode/node/policy"
	"swarmnode/node/publish"
)

// collection is one collection that is open: what a follower and a publisher both have, and what only one of them has.
type collection struct {
	id       content.ID
	dir      string
	pack     *store.Pack
	trust    *trust.Repository
	listener *mirror.Listener
	sharing
	topic    *topic.Topic
	tell     chan struct{} // the member record has changed
	follower *follower     // nil for a publisher
	master   *master       // nil for a follower

	tasks   *tasks     // what runs for it; ends with close
	writing sync.Mutex // held while the record changes; taken before mu

	mu     sync.Mutex // guards all below
	record record
	failed error // of a part that should run and does not
}

// sharing is what others get.
type sharing struct {
	have   *mirror.Availability // that they are told
	outlet *outlet              // whether it is given to them
}

// packFile and segmentsDir are where a collection's directory has metadata blocks and, of a mirror, chunks.
const (
	packFile    = "metadata.pack"
	segmentsDir = "segments"
)

// follower is what a mirror of a collection has.
type follower struct {
	disk     *store.Disk
	cache    *mirror.Cache // nil: all is kept
	fetch    *fetch.Fetcher
	mirror   *mirror.Mirror
	metadata atomic.Uint64      // bytes of metadata blocks received
	banned   chan gossip.PeerID // that sent wrong bytes too often; the neighbourhood takes them
	scrub    *mirror.Scrubber
	export   *export.Directory // nil: the content lies in segments
}

// master is what the publisher of a collection has.
type master struct {
	keys      *trust.Keys
	signer    *trust.Signer
	refs      *store.References
	publisher *publish.Publisher
	seed      *seeder
	scrub     *mirror.Scrubber
	origin    *lateOrigin     // nil: a directory is published
	arrivals  *store.Arrivals // with origin
	runs      *runs           // nil: it is published when somebody says so

	announced atomic.Uint64 // the release that was announced last since the start

	mu     sync.Mutex // guards all below
	bad    []badFile  // published files that changed under the running master
	silent error      // why the last heartbeat was not sent
}

func (c *collection) name() string { return c.remembered().Name }

// remembered gives the record.
func (c *collection) remembered() record {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.record
}

// remember changes the record, here and on disk.
func (c *collection) remember(home string, change func(*record)) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	r := c.remembered()
	change(&r)
	if err := r.write(home); err != nil {
		return fmt.Errorf("collection %s: %w", c.id, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.record = r
	return nil
}

// fail hears that a part of the collection does not run any more.
func (c *collection) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failed = err
}

// openRecord opens a collection that is on disk, and starts it if the node runs. If it cannot be opened it is remembered as
// broken, and nothing of it stays open. The caller holds changing, or nobody else knows the node yet.
func (n *Node) openRecord(r record) error {
	c, err := n.openParts(r)
	n.mu.Lock()
	defer n.mu.Unlock()
	if err != nil {
		n.broken[r.ID.String()] = broken{record: r, err: err}
		return err
	}
	delete(n.broken, r.ID.String())
	n.collections[c.id] = c
	n.web.catalogue.touch()
	if n.tasks != nil {
		n.start(c)
	}
	return nil
}

func (n *Node) openParts(r record) (*collection, error) {
	c, err := n.openCommon(r)
	if err != nil {
		return nil, err
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
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}

// openCommon opens what both kinds have.
func (n *Node) openCommon(r record) (*collection, error) {
	c := &collection{id: r.ID, dir: r.dir(n.cfg.Home), record: r,
		sharing: sharing{mirror.NewAvailability(), newOutlet(r.Paused.Serving)},
		tell:    make(chan struct{}, 1), tasks: newTasks(context.Background(), n.log)}
	var err error
	if c.trust, err = trust.Open(filepath.Join(c.dir, "trust"), r.ID); err != nil {
		return nil, err
	}
	if st := c.trust.Stats(); st.Damaged > 0 {
		n.log.Warn("trust files on disk are damaged and are asked for again: look at the disk", "collection", r.ID, "files", st.Damaged)
	}
	if c.pack, err = store.OpenPack(filepath.Join(c.dir, packFile)); err != nil {
		return nil, err
	}
	c.listener = mirror.NewListener(mirror.ListenConfig{
		ID: r.ID, Repository: c.trust, Pull: n.net.Pull, Peers: n.connected, News: func(h gossip.Head) { n.news(c, h) }, Log: n.log, Now: n.cfg.Now,
	})
	return c, nil
}

func (n *Node) openFollower(c *collection) error {
	f := &follower{banned: make(chan gossip.PeerID, 16)}
	budget, overhead := n.budget(c)
	cfg := store.Config{
		Budget: budget, Overhead: overhead, Log: n.log, Tables: c.table,
		OnBad: func(ref content.Ref, path string) {
			if f.mirror != nil {
				f.scrub.Lost(ref)
				f.mirror.Bad(ref, path)
			}
		},
	}
	var err error
	if f.export, err = n.openExport(c, f); err != nil {
		return err
	}
	if f.export != nil {
		cfg.Tree = f.export.References()
	}
	if f.disk, err = store.OpenDisk(filepath.Join(c.dir, segmentsDir), cfg); err != nil {
		return errors.Join(err, f.closeExport())
	}
	if f.export != nil {
		f.export.Follow(f.disk)
	}
	c.follower = f
	disk := f.disk
	var sink fetch.Sink = disk
	if c.record.CacheOnly {
		f.cache = mirror.NewCache(disk, n.log)
		sink = f.cache
	}
	f.scrub = mirror.NewScrubber(mirror.ScrubConfig{
		Dir: c.dir, Pack: c.pack, Chunks: disk, Trust: c.trust.Scrub, Held: c.used, Rate: n.cfg.ScrubRate, Log: n.log.With("collection", c.id),
		Blocks: func(ctx context.Context, lost []content.Digest) error { return f.mirror.Blocks(ctx, lost) },
		Live:   func(segment uint32) content.Bitmap { return f.mirror.Live(segment) },
	})
	f.fetch = fetch.New(fetch.Config{
		ID: c.id, Network: network{n.host}, Room: n.room, Sink: sink, Here: disk.Has, Rand: newRand(), Log: n.log,
		Wrong:    func(err error) bool { return errors.Is(err, store.ErrWrongBytes) },
		Stored:   func(ref content.Ref, size int) { f.mirror.Stored(ref, size) },
		Metadata: func(_ content.Digest, size int) { f.metadata.Add(uint64(size)) },
		Banned: func(p gossip.PeerID) {
			n.host.Ban(p, p2p.WrongBytes, banTime)
			select {
			case f.banned <- p:
			default: // as many are being dealt with; the fetcher does not ask it anyway
			}
		},
		Transfer: policy.TransferConfig{BanTime: banTime, Exempt: func(p gossip.PeerID) bool { return p == c.remembered().Publisher }},
	})
	f.fetch.Hold(c.record.Paused.Fetching)
	mcfg := mirror.Config{
		ID: c.id, Dir: c.dir, Pack: c.pack, Disk: disk, Fetch: f.fetch, Availability: c.have, Grace: n.cfg.Grace, Log: n.log,
		Served: func(m *content.Manifest) { n.served(c, m) }, Changed: n.web.catalogue.touch,
		Cache: f.cache, Held: func(release uint64) bool { return n.held(c, release) },
	}
	if f.export != nil {
		mcfg.Export = f.export
	}
	f.mirror, err = mirror.Open(mcfg)
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

// counts reports whether the collection counts what its content takes: one that is mirrored, or comes from an origin.
func (c *collection) counts() bool {
	return c.follower != nil || c.master != nil && c.master.arrivals != nil
}

// used is how many bytes a collection takes that counts them.
func (c *collection) used() int64 {
	if c.follower == nil {
		return c.master.arrivals.Used() + c.pack.Bytes()
	}
	return c.follower.disk.Stats().Used + c.pack.Bytes() + c.follower.exportBytes()
}

// usedByOthers is how many bytes the other collections take that count them: the budget is for all of them.
func (n *Node) usedByOthers(c *collection) (used int64) {
	for _, o := range n.all() {
		if o != c && o.counts() {
			used += o.used()
		}
	}
	return used
}

// served hears that a mirror serves another release.
func (n *Node) served(c *collection, m *content.Manifest) {
	if c.name() != m.Name {
		if err := c.remember(n.cfg.Home, func(r *record) { r.Name = m.Name }); err != nil {
			n.log.Warn("the name of the collection is not kept: look at the disk of the home directory", "error", err)
		}
	}
	c.changed()
	n.measureRest()
	n.told("a release is served", "name", m.Name, "collection", c.id, "release", m.Release, "bytes", m.LiveBytes)
	if c.follower.export != nil {
		c.follower.export.Poke()
	}
}

// changed has the member record sent anew.
func (c *collection) changed() {
	select {
	case c.tell <- struct{}{}:
	default:
	}
}

// news hears of newer and fresher heads.
func (n *Node) news(c *collection, h gossip.Head) {
	n.web.catalogue.touch()
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
	if !c.outlet.shut() {
		n.host.Advertise(c.id)
	}
	run := func(what string, fn func(context.Context) error) { c.tasks.run(c.tasks.ctx, what, fn, c.fail) }
	run("listener", c.listener.Run)
	run("member record", func(ctx context.Context) error { return n.tellMembers(ctx, c) })
	run("neighbours", func(ctx context.Context) error { return n.neighbours(ctx, c) })
	if n.web.server != nil {
		run("gateways", func(ctx context.Context) error { return n.checkGateways(ctx, c) })
	}
	if f := c.follower; f != nil {
		run("disk", f.disk.Run)
		if f.cache != nil {
			run("cache", f.cache.Run)
		}
		run("fetcher", f.fetch.Run)
		run("mirror", f.mirror.Run)
		run("mending", f.scrub.Mend)
		run("scrub", f.scrub.Run)
		if f.export != nil {
			run("export", f.export.Run)
		}
	}
	if c.master != nil {
		run("heartbeat", func(ctx context.Context) error { return n.heartbeat(ctx, c) })
		run("cleaning", func(ctx context.Context) error { return n.clean(ctx, c) })
		run("scrub", c.master.scrub.Run)
		n.startRuns(c)
	}
	for _, id := range n.connected() {
		c.peer(id, true, n.host.RTT(id))
	}
}

// close ends what runs and closes what is open.
func (c *collection) close() error {
	c.tasks.end()
	if c.topic != nil {
		c.topic.Close()
	}
	var errs []error
	if c.follower != nil {
		errs = append(errs, c.follower.disk.Close(), c.follower.closeExport())
	}
	if m := c.master; m != nil {
		if m.publisher != nil {
			errs = append(errs, m.publisher.Close())
		}
		if m.refs != nil {
			errs = append(errs, m.refs.Close())
		}
		if m.origin != nil {
			errs = append(errs, m.origin.Close(), m.arrivals.Close())
		}
	}
	return errors.Join(append(errs, c.pack.Close())...)
}
