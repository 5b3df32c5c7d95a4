// Package node puts a running swarmnode together: it takes the lock of the home directory, starts the host, opens each
// collection that this node follows or publishes, and stops it all again ([Node]). [Client] is the short-lived reader
// behind get, ls and verify. What the parts do is in the packages below.
package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"swarmnode/content"
	"swarmnode/content/durable"
	"swarmnode/gossip"
	"swarmnode/gossip/topic"
	"swarmnode/node/control"
	"swarmnode/node/fetch"
	"swarmnode/node/limit"
	"swarmnode/node/p2p"
)

// Config says what a node is. Only Home is required.
type Config struct {
	Home       string       // directory of everything that the node keeps; locked while it runs
	Listen     []string     // multiaddrs or host:port; empty: the default port on all addresses, or a free one
	Bootstrap  []string     // nodes to stay connected to, beside those remembered
	MDNS       bool         // find nodes on the LAN
	NATPortMap bool         // ask the router for a port
	Public     bool         // this node is known to be reachable from everywhere
	Disk       int64        // bytes that all mirrored collections may take together; 0: free space less 10 %
	CacheOnly  bool         // collections that are joined from now on keep only what is asked for
	Limit      limit.Config // what may be sent and received; File, Now, Changed and Log are the node's own
	Web
	Upkeep
	UserAgent string       // default "swarmnode"
	Log       *slog.Logger // default: discard
	// Now is the clock by which signatures and records are judged and made; default time.Now.
	Now func() time.Time
}

// Web is what a node shows over HTTP.
type Web struct {
	Gateway   *GatewayConfig // the server for ordinary clients; nil: none
	Dashboard *string        // host:port of the operator's page; "": control.DefaultDashboard, or a free port when it is taken; nil: none
}

// Upkeep says how what a node keeps is looked after. The zero value is useful.
type Upkeep struct {
	Grace     time.Duration // how long replaced content stays; default 24 h
	Export    string        // directory in which what is mirrored lies as plain trees, each under its name; "": it lies in the home
	ScrubRate int64         // bytes per second at which what is held is read again; 0: see mirror.DefaultScrubRate
}

// maxBootstrap is how many bootstrap addresses a host takes; those that collections were joined by fill up what the
// operator's leave.
const maxBootstrap = 64

// errStopping is the end of a call that needs a running node.
var errStopping = errors.New("the node is stopping")

// Node is a running swarmnode.
type Node struct {
	cfg     Config
	log     *slog.Logger
	lock    *os.File
	started time.Time
	links
	web web

	triggers triggers

	begun      chan struct{} // closed when Run has begun
	gone       chan struct{} // closed by Close
	publishing chan struct{} // capacity 1: held by the one Publish under way
	changing   sync.Mutex    // held while a collection is opened, closed or given another record; taken before mu

	mu          sync.Mutex // guards all below
	collections map[content.ID]*collection
	broken      map[string]broken // collections on disk that could not be opened, by directory
	tasks       *tasks            // of Run; nil before
}

// links is what connects a node with others.
type links struct {
	host    *p2p.Host
	net     *topic.Net
	stopNet context.CancelFunc
	room    *fetch.Room // bytes in flight, of all collections
	place   *place      // where this node is
	limit   *limit.Limiter
	rest    *rest // what the home holds beside collections

	patience time.Duration // askPatience; longer in tests of what others answer
}

// Open starts the host and opens the collections of the home directory. Close must be called, or Run, which closes at its end.
func Open(ctx context.Context, cfg Config) (*Node, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Home == "" {
		return nil, errors.New("open node: no home directory")
	}
	cfg.Log = slog.New(control.NewJournal(cfg.Log.Handler()))
	home, err := filepath.Abs(cfg.Home)
	if err != nil {
		return nil, fmt.Errorf("open node: %w", err)
	}
	cfg.Home = home
	if err := durable.MkdirAll(durable.OS{}, home, 0o700); err != nil {
		return nil, homeTrouble(home, err)
	}
	lock, err := takeHome(home)
	if err != nil {
		return nil, err
	}
	n := &Node{cfg: cfg, log: cfg.Log, lock: lock, started: time.Now(), begun: make(chan struct{}), gone: make(chan struct{}),
		links: links{room: fetch.NewRoom(0), place: openPlace(home), rest: &rest{home: home}, patience: askPatience}, publishing: make(chan struct{}, 1), triggers: newTriggers(), collections: map[content.ID]*collection{}, broken: map[string]broken{}}
	if err := n.open(ctx); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return n, nil
}

func (n *Node) open(ctx context.Context) error {
	if err := durable.MkdirAll(durable.OS{}, filepath.Join(n.cfg.Home, collectionsDir), 0o700); err != nil {
		return fmt.Errorf("open node: %w", err)
	}
	if err := n.openLimit(); err != nil {
		return err
	}
	if err := n.openWeb(); err != nil {
		return err
	}
	for _, left := range []string{claimsDir, removedDir} { // by a join or a removal that was cut off
		if err := os.RemoveAll(filepath.Join(n.cfg.Home, left)); err != nil {
			return fmt.Errorf("open node: %w", err)
		}
	}
	records, err := n.readRecords()
	if err != nil {
		return err
	}
	if err := n.checkExport(records); err != nil {
		return err
	}
	nctx, stop := context.WithCancel(context.WithoutCancel(ctx)) // ends with Close
	n.stopNet = stop
	n.host, err = p2p.New(ctx, p2p.Config{
		Key: filepath.Join(n.cfg.Home, "node.key"), Listen: n.cfg.Listen, Public: n.cfg.Public, NATPortMap: n.cfg.NATPortMap, MDNS: n.cfg.MDNS,
		Bootstrap: bootstraps(n.cfg.Bootstrap, records), PeersFile: filepath.Join(n.cfg.Home, peersFile), BansFile: filepath.Join(n.cfg.Home, bansFile),
		UserAgent: cmp.Or(n.cfg.UserAgent, "swarmnode"), Log: n.log, Setup: topic.Setup(nctx, n.log, &n.net), Limit: n.limit,
	}, p2p.Handlers{Chunk: n.chunk, Unsent: n.unsent, Block: n.block, Holdings: n.holdings})
	if err != nil {
		return err
	}
	n.net.Serve(n.file, n.claims)
	n.net.OnReject(func(p gossip.PeerID) { n.host.Offended(p, p2p.BadMessage) })
	n.net.OnBadPull(func(p gossip.PeerID, answered bool) {
		what := p2p.BadRequest
		if answered {
			what = p2p.BadAnswer
		}
		n.host.Offended(p, what)
	})
	for _, r := range records {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := n.openRecord(r); err != nil {
			n.log.Error("a collection cannot be opened: the error says why; repair it and start the node again", "name", r.Name, "collection", r.ID, "error", err)
		}
	}
	n.measureRest()
	n.host.OnPeer(n.peer)
	return nil
}

// bootstraps adds to the operator's addresses those that collections were joined by, of each collection the newest first, as
// long as there is room.
func bootstraps(given []string, records []record) []string {
	list := slices.Clone(given)
	for back := 1; back <= maxRecordBootstrap; back++ {
		for _, r := range records {
			if i := len(r.Bootstrap) - back; i >= 0 && len(list) < maxBootstrap && !slices.Contains(list, r.Bootstrap[i]) {
				list = append(list, r.Bootstrap[i])
			}
		}
	}
	return list
}

// Run works until ctx ends; then everything is stopped and closed. It is called once.
func (n *Node) Run(ctx context.Context) error {
	t := newTasks(ctx, n.log)
	defer t.stop(context.Canceled)
	n.mu.Lock()
	if n.tasks != nil {
		n.mu.Unlock()
		return errors.New("run node: it ran before")
	}
	n.tasks = t
	for _, c := range n.collections {
		n.start(c)
	}
	n.mu.Unlock()
	t.must("p2p host", n.host.Run)
	t.must("limits", n.limit.Run)
	n.startWeb(t)
	t.must("control socket", func(ctx context.Context) error { return control.Serve(ctx, n.cfg.Home, n, n.log) })
	t.run(t.ctx, "housekeeping", n.housekeeping, nil)
	t.run(t.ctx, "hangup", n.hangup, nil)
	close(n.begun)
	n.told("the node runs", "version", strings.TrimPrefix(n.cfg.UserAgent, "swarmnode/"), "peer", string(n.ID()), "addresses", strings.Join(n.Addrs(), " "), "collections", len(n.all()))
	<-t.ctx.Done()
	n.told("the node stops")
	var err error
	if ctx.Err() == nil { // a part failed, nobody asked for the end
		err = context.Cause(t.ctx)
	}
	for _, c := range n.all() { // all at once, then one by one
		c.tasks.stop(context.Canceled)
	}
	t.wait() // also for calls, after which no collection begins any more
	for _, c := range n.all() {
		c.tasks.wait()
	}
	return errors.Join(err, n.Close())
}

// told logs what the commands that run a node tell in words of their own, too.
func (n *Node) told(message string, facts ...any) {
	n.log.Log(context.Background(), control.LevelTold, message, facts...)
}

// enter begins a call that needs a running node; it waits for Run to begin. The context that it gives ends with the node, too.
// What it gives last ends the call.
func (n *Node) enter(ctx context.Context) (context.Context, func(), error) {
	select {
	case <-n.begun:
	case <-n.gone:
		return nil, nil, errStopping
	case <-ctx.Done():
		return nil, nil, context.Cause(ctx)
	}
	t := n.running()
	if !t.begin() {
		return nil, nil, errStopping
	}
	ctx, stop := context.WithCancelCause(ctx)
	undo := context.AfterFunc(t.ctx, func() { stop(errStopping) })
	return ctx, func() {
		undo()
		stop(context.Canceled)
		t.wg.Done()
	}, nil
}

// running gives the tasks of Run; nil before.
func (n *Node) running() *tasks {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.tasks
}

// Close stops and closes everything; Run has ended or was never called. A second call does nothing.
func (n *Node) Close() error {
	n.mu.Lock()
	select {
	case <-n.gone:
		n.mu.Unlock()
		return nil
	default:
	}
	close(n.gone)
	n.mu.Unlock()
	errs := []error{n.closeWeb(), n.triggers.close()}
	if n.net != nil {
		n.net.Close()
	}
	if n.stopNet != nil {
		n.stopNet()
	}
	if n.host != nil {
		errs = append(errs, n.host.Close(), n.place.save(n.cfg.Home)) // waits for its handlers, which look for collections
	}
	for _, c := range n.all() { // after the host: nobody reads any more
		n.take(c)
		errs = append(errs, c.close())
	}
	if n.lock != nil {
		errs = append(errs, n.lock.Close())
	}
	return errors.Join(errs...)
}

// take takes a collection out of those that are open. Closing it is left to the caller.
func (n *Node) take(c *collection) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.collections, c.id)
	n.web.catalogue.touch()
}

// ID is the node's peer ID.
func (n *Node) ID() gossip.PeerID { return n.host.ID() }

// Journal has the newest records of the log.
func (n *Node) Journal() *control.Journal { return n.log.Handler().(*control.Journal) } // Open put it there

// Addrs lists the addresses by which others can bootstrap from this node.
func (n *Node) Addrs() []string { return n.host.Addrs() }

// Notes says what the operator should know of the start, such as that a default port was taken.
func (n *Node) Notes() []string {
	notes := []string{n.host.ListenNote()}
	if n.web.server != nil {
		notes = append(notes, n.web.server.Note())
	}
	if n.web.dashboard != nil {
		notes = append(notes, n.web.dashboard.Note())
	}
	return slices.DeleteFunc(notes, func(s string) bool { return s == "" })
}

// collection finds an open collection; nil if there is none.
func (n *Node) collection(id content.ID) *collection {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.collections[id]
}

// all lists the open collections by name.
func (n *Node) all() []*collection {
	n.mu.Lock()
	list := slices.Collect(maps.Values(n.collections))
	n.mu.Unlock()
	slices.SortFunc(list, func(a, b *collection) int {
		return cmp.Or(cmp.Compare(a.name(), b.name()), cmp.Compare(a.id.String(), b.id.String()))
	})
	return list
}

// peer hears of connections.
func (n *Node) peer(id gossip.PeerID, connected bool) {
	for _, c := range n.all() {
		c.peer(id, connected, n.host.RTT(id))
	}
}
