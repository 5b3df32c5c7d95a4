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
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"swarmnode/content"
	"swarmnode/gossip"
	"swarmnode/gossip/topic"
	"swarmnode/node/control"
	"swarmnode/node/p2p"
)

// Config says what a node is. Only Home is required.
type Config struct {
	Home       string        // directory of everything that the node keeps; locked while it runs
	Listen     []string      // multiaddrs or host:port; empty: the default port on all addresses, or a free one
	Bootstrap  []string      // nodes to stay connected to, beside those remembered
	MDNS       bool          // find nodes on the LAN
	NATPortMap bool          // ask the router for a port
	Public     bool          // this node is known to be reachable from everywhere
	Disk       int64         // bytes that all mirrored collections may take together; 0: free space less 10 %
	Grace      time.Duration // how long replaced content stays; default 24 h
	UserAgent  string        // default "swarmnode"
	Log        *slog.Logger  // default: discard
}

// Node is a running swarmnode.
type Node struct {
	cfg     Config
	log     *slog.Logger
	lock    *os.File
	host    *p2p.Host
	net     *topic.Net
	started time.Time
	stopNet context.CancelFunc

	mu          sync.Mutex // guards all below
	collections map[content.ID]*collection
	broken      map[string]error // collections on disk that could not be opened, by directory
	running     context.Context  // of Run; nil before
	tasks       *tasks

	publishing sync.Mutex // one Publish that makes a collection at a time
}

// Open starts the host and opens the collections of the home directory. Close must be called, or Run, which closes at its end.
func Open(ctx context.Context, cfg Config) (*Node, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Home == "" {
		return nil, errors.New("open node: no home directory")
	}
	home, err := filepath.Abs(cfg.Home)
	if err != nil {
		return nil, fmt.Errorf("open node: %w", err)
	}
	cfg.Home = home
	if err := os.MkdirAll(filepath.Join(home, collectionsDir), 0o700); err != nil {
		return nil, fmt.Errorf("open node: %w", err)
	}
	lock, err := lockHome(home)
	if err != nil {
		return nil, err
	}
	n := &Node{cfg: cfg, log: cfg.Log, lock: lock, started: time.Now(), collections: map[content.ID]*collection{}, broken: map[string]error{}}
	if err := n.open(ctx); err != nil {
		n.Close()
		return nil, err
	}
	return n, nil
}

func (n *Node) open(ctx context.Context) error {
	records, err := n.readRecords()
	if err != nil {
		return err
	}
	bootstrap := slices.Clone(n.cfg.Bootstrap)
	for _, r := range records {
		for _, b := range r.Bootstrap {
			if !slices.Contains(bootstrap, b) {
				bootstrap = append(bootstrap, b)
			}
		}
	}
	nctx, stop := context.WithCancel(context.WithoutCancel(ctx)) // ends with Close
	n.stopNet = stop
	n.host, err = p2p.New(ctx, p2p.Config{
		Key: filepath.Join(n.cfg.Home, "node.key"), Listen: n.cfg.Listen, Public: n.cfg.Public, NATPortMap: n.cfg.NATPortMap, MDNS: n.cfg.MDNS,
		Bootstrap: bootstrap, PeersFile: filepath.Join(n.cfg.Home, peersFile), UserAgent: cmp.Or(n.cfg.UserAgent, "swarmnode"), Log: n.log,
		Setup: topic.Setup(nctx, n.log, &n.net),
	}, p2p.Handlers{Chunk: n.chunk, Block: n.block, Holdings: n.holdings})
	if err != nil {
		return err
	}
	n.net.Serve(n.file, n.claims)
	for _, r := range records {
		if err := n.openRecord(r); err != nil {
			n.log.Error("a collection cannot be opened", "name", r.Name, "collection", r.ID, "error", err)
			n.broken[r.ID.String()] = err
		}
	}
	n.host.OnPeer(n.peer)
	return nil
}

// Run works until ctx ends; then everything is stopped and closed. It is called once.
func (n *Node) Run(ctx context.Context) error {
	ctx, stop := context.WithCancelCause(ctx)
	t := newTasks(ctx, stop, n.log)
	n.mu.Lock()
	n.running, n.tasks = ctx, t
	for _, c := range n.collections {
		n.start(c)
	}
	n.mu.Unlock()
	t.must("p2p host", n.host.Run)
	t.must("control socket", func(ctx context.Context) error { return control.Serve(ctx, n.cfg.Home, n, n.log) })
	<-ctx.Done()
	t.wait()
	err := context.Cause(ctx)
	if cerr := n.Close(); cerr != nil {
		err = cerr
	}
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// Close stops and closes everything; Run has ended or was never called.
func (n *Node) Close() error {
	var errs []error
	if n.net != nil {
		n.net.Close()
	}
	if n.stopNet != nil {
		n.stopNet()
	}
	if n.host != nil {
		errs = append(errs, n.host.Close()) // waits for its handlers, which look for collections
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for id, c := range n.collections { // after the host: nobody reads any more
		errs = append(errs, c.close())
		delete(n.collections, id)
	}
	if n.lock != nil {
		errs = append(errs, n.lock.Close())
		n.lock = nil
	}
	return errors.Join(errs...)
}

// ID is the node's peer ID.
func (n *Node) ID() gossip.PeerID { return n.host.ID() }

// Addrs lists the addresses by which others can bootstrap from this node.
func (n *Node) Addrs() []string { return n.host.Addrs() }

// Note says what the operator should know of the start, such as that the default port was taken; "" for nothing.
func (n *Node) Note() string { return n.host.ListenNote() }

// collection finds an open collection; nil if there is none.
func (n *Node) collection(id content.ID) *collection {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.collections[id]
}

// all lists the open collections by name.
func (n *Node) all() []*collection {
	n.mu.Lock()
	defer n.mu.Unlock()
	var list []*collection
	for _, c := range n.collections {
		list = append(list, c)
	}
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
