package p2p

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p"
	dht "github.com/libp2p/go-libp2p-kad-dht"
	"github.com/libp2p/go-libp2p-kad-dht/records"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/metrics"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/host/autorelay"
	"github.com/libp2p/go-libp2p/p2p/host/observedaddrs"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/net/connmgr"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	circuit "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	"github.com/libp2p/go-libp2p/p2p/protocol/holepunch"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"
	libp2pquic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	ma "github.com/multiformats/go-multiaddr"

	"swarmnode/gossip"
)

const (
	// dhtPrefix separates our DHT from all others.
	dhtPrefix = "/swarmnode"
	// providerTTL is how long a node is found in the DHT after it was last announced (DESIGN section 6).
	providerTTL = time.Hour
	// firstWindow and maxWindow are the flow control windows of a stream over TCP: the first makes the first
	// round-trip times count, the second bounds what a stream that nobody reads holds.
	firstWindow, maxWindow = 1 << 20, 4 << 20
	// relayData bounds a relayed connection, each way: relays are for signalling only, which is some kilobytes. It is the library's
	// figure; with more, a public node is of use to those who want to hide where their traffic comes from.
	relayData = 128 << 10
	// observers is how many peers have to see us at an address before it is told to others. The library's four are
	// too many for a small swarm.
	observers = 2
	// closeWait is how long the library gets to close itself: it closes the connections first, and tells the router last that its ports are
	// free again, which takes 10 s if that one has gone.
	closeWait = 3 * time.Second
)

// Host is a node in the swarm. Its methods can be called from many goroutines.
type Host struct {
	cfg      Config
	handlers Handlers
	host     host.Host
	dht      *dht.IpfsDHT
	limits   *limits
	peers    *peers
	keeper   *keeper
	adverts  *adverts
	reach    *reach
	note     string      // about the port, see ListenNote
	ready    atomic.Bool // host is set: AutoRelay may ask before New has it
	lifetime
}

// lifetime is what Close ends and waits for.
type lifetime struct {
	stopped chan struct{} // closed by Close
	once    sync.Once     // Close

	mu     sync.Mutex     // guards closed, and wg.Add against wg.Wait
	closed bool           //
	wg     sync.WaitGroup // everything that runs on behalf of this host
}

// New makes a host that serves what the handlers give. It listens, and answers who connects; [Host.Run] connects to
// others. Close it in any case.
func New(ctx context.Context, cfg Config, handlers Handlers) (*Host, error) {
	return newOver(ctx, cfg, handlers, wire{probe: probe})
}

// wire is the network under a host.
type wire struct {
	transports []libp2p.Option          // empty: TCP and QUIC of this machine
	probe      func(ma.Multiaddr) error // whether an address is free to listen on
}

// newOver is New on a network that a test may simulate.
func newOver(ctx context.Context, cfg Config, handlers Handlers, w wire) (*Host, error) {
	cfg.Timeouts = cfg.Timeouts.withDefaults()
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.UserAgent == "" {
		cfg.UserAgent = "swarmnode"
	}
	boots, err := parseBootstrap(cfg.Bootstrap)
	if err != nil {
		return nil, err
	}
	plan, err := planListen(cfg, w.probe)
	if err != nil {
		return nil, err
	}
	key, err := loadKey(cfg.Key)
	if err != nil {
		return nil, err
	}
	h := &Host{cfg: cfg, handlers: handlers, limits: newLimits(cfg.MemoryBytes), peers: newPeers(newOffenders(cfg.BansFile, cfg.Log)),
		keeper: newKeeper(boots, cfg.Timeouts.Reconnect), adverts: newAdverts(), reach: newReach(), note: plan.note, lifetime: lifetime{stopped: make(chan struct{})}}
	places := slices.Clone(plan.addrs)
	for _, t := range boots {
		h.peers.bad.dials.choose(t.info)
		places = append(places, t.info.Addrs...)
	}
	if !cfg.Client { // which listens on any port
		h.peers.bad.dials.listens(places)
	}
	if err := h.peers.bad.load(time.Now()); err != nil {
		cfg.Log.Warn("the bans cannot be read and are forgotten: look at the disk of the home directory", "file", cfg.BansFile, "error", err)
	}
	if h.host, err = newLibp2p(cfg, key, h, w.transports); err != nil {
		return nil, fmt.Errorf("start the p2p host: %w", err)
	}
	h.ready.Store(true)
	if err := h.start(ctx, plan); err != nil {
		h.Close()
		return nil, err
	}
	return h, nil
}

// start registers everything that peers can ask for, and only then listens.
func (h *Host) start(ctx context.Context, plan listenPlan) error {
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	h.wg.Go(func() { <-h.stopped; cancel() })
	events, err := h.subscribe()
	if err != nil {
		return err
	}
	h.wg.Go(func() { h.watchPeers(life, events) })
	if err := h.watchReach(life); err != nil {
		return err
	}
	h.wg.Go(func() { h.peers.tell(life) })
	h.handle(life, chunksProtocol, 2048, h.serveChunks)
	h.handle(life, blocksProtocol, 2048, h.serveBlocks)
	h.handle(life, outlineProtocol, 2048, h.serveOutline)
	h.handle(life, holdingsProtocol, maxHoldingsStreams, h.serveHoldings)
	mode := dht.ModeAutoServer
	switch {
	case h.cfg.Client:
		mode = dht.ModeClient
	case h.cfg.Public:
		mode = dht.ModeServer
	}
	if h.dht, err = dht.New(h.host, dht.ProtocolPrefix(dhtPrefix), dht.Mode(mode), dht.DisableValues(),
		dht.ProviderManagerOpts(records.ProvideValidity(providerTTL), records.ProviderAddrTTL(providerTTL),
			records.CleanupInterval(providerTTL/6))); err != nil {
		return fmt.Errorf("start the DHT: %w", err)
	}
	if h.cfg.Setup != nil {
		if err := h.cfg.Setup(h.host); err != nil {
			return err
		}
	}
	if err := h.keeper.load(h.cfg.PeersFile); err != nil {
		h.cfg.Log.Warn("the remembered peers cannot be read and are ignored: look at the disk of the home directory", "file", h.cfg.PeersFile, "error", err)
	}
	if err := plan.listen(h.host.Network()); err != nil && !h.cfg.Client { // a client does without
		return err
	}
	if listening, err := h.host.Network().InterfaceListenAddresses(); err == nil && !h.cfg.Public {
		h.reach.guess(listening)
	}
	if h.note != "" {
		h.cfg.Log.Debug(h.note) // who runs the host is told by ListenNote
	}
	return nil
}

var setObservers sync.Once // the library keeps the number in a package variable

// newLibp2p makes the library's host. Of h it uses only what is there before that host is.
func newLibp2p(cfg Config, key crypto.PrivKey, h *Host, transports []libp2p.Option) (host.Host, error) {
	gater := h.peers.bad
	setObservers.Do(func() { observedaddrs.ActivationThresh = observers })
	rm, err := newResourceManager()
	if err != nil {
		return nil, err
	}
	cm, err := connmgr.NewConnManager(minPeers, maxPeers, connmgr.WithGracePeriod(time.Minute))
	if err != nil {
		return nil, err
	}
	mux := *yamux.DefaultTransport.Config()
	mux.InitialStreamWindowSize, mux.MaxStreamWindowSize = firstWindow, maxWindow
	if len(transports) == 0 {
		transports = []libp2p.Option{libp2p.Transport(gater.arrivals.newTCP), libp2p.Transport(libp2pquic.NewTransport)}
	}
	opts := slices.Concat(transports, []libp2p.Option{
		libp2p.Identity(key),
		libp2p.Security(libp2ptls.ID, libp2ptls.New), libp2p.Security(noise.ID, noise.New),
		libp2p.Muxer(yamux.ID, (*yamux.Transport)(&mux)),
		libp2p.ResourceManager(rm), libp2p.ConnectionManager(cm), libp2p.ConnectionGater(gater),
		// In a small swarm the black-hole detection never sees enough dials to let AutoNAT answer (go-libp2p issue 3491).
		libp2p.UDPBlackHoleSuccessCounter(nil), libp2p.IPv6BlackHoleSuccessCounter(nil),
		libp2p.SwarmOpts(swarm.WithDialRanker(h.reach.rank), swarm.WithDialTimeout(10*time.Second), swarm.WithDialTimeoutLocal(3*time.Second)),
		libp2p.UserAgent(cfg.UserAgent), libp2p.ProtocolVersion(protocolVersion), libp2p.DisableMetrics(),
	})
	if cfg.Limit != nil {
		opts = append(opts, libp2p.BandwidthReporter(talk{metrics.NewBandwidthCounter(), h}))
	}
	opts = append(opts, libp2p.EnableRelay(), libp2p.NoListenAddrs, // it listens once all handlers are there
		libp2p.EnableHolePunching(holepunch.WithTracer(h.reach)))
	if cfg.Client { // where it listens is told in hole punching only
		return libp2p.New(append(opts, libp2p.AddrsFactory(func([]ma.Multiaddr) []ma.Multiaddr { return nil }))...)
	}
	opts = append(opts, libp2p.EnableAutoNATv2(),
		// The DHT's mode and AutoRelay listen to version 1 only.
		libp2p.EnableNATService(), libp2p.AutoNATServiceRateLimit(60, 6, time.Minute))
	if cfg.NATPortMap {
		opts = append(opts, libp2p.NATPortMap())
	}
	rc := relay.DefaultResources()
	rc.Limit.Data, rc.MaxReservationsPerIP = relayData, 32
	// It runs while this node is known to be public.
	opts = append(opts, libp2p.EnableRelayService(append(relayed{cfg.Limit, h.stopped}.options(), relay.WithResources(rc))...))
	if cfg.Public {
		opts = append(opts, libp2p.ForceReachabilityPublic())
	} else {
		// The library's figures are for a big network: it would wait for minutes.
		opts = append(opts, libp2p.EnableAutoRelayWithPeerSource(h.relays, autorelay.WithBootDelay(5*time.Second),
			autorelay.WithMinCandidates(1), autorelay.WithNumRelays(2), autorelay.WithBackoff(time.Minute),
			autorelay.WithMinInterval(10*time.Second)))
	}
	return libp2p.New(opts...)
}

// relays names connected peers that offer to relay, for a node that nobody can reach.
func (h *Host) relays(_ context.Context, n int) <-chan peer.AddrInfo {
	ch := make(chan peer.AddrInfo, n)
	defer close(ch)
	if !h.ready.Load() {
		return ch
	}
	for _, p := range h.host.Network().Peers() {
		if len(ch) == n {
			break
		}
		got, err := h.host.Peerstore().SupportsProtocols(p, circuit.ProtoIDv2Hop)
		if err == nil && len(got) > 0 && h.host.Network().Connectedness(p) == network.Connected {
			ch <- h.host.Peerstore().PeerInfo(p)
		}
	}
	return ch
}

// begin registers something that runs on behalf of the host; after Close it refuses. wg.Done ends it.
func (h *Host) begin() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return false
	}
	h.wg.Add(1)
	return true
}

// Run stays connected to the bootstrap peers and to enough others, announces what is advertised, looks around on the
// LAN and remembers good peers, until ctx ends or the host is closed.
func (h *Host) Run(ctx context.Context) error {
	if !h.begin() {
		return ErrClosed
	}
	defer h.wg.Done()
	ctx, cancel := context.WithCancel(ctx)
	var parts sync.WaitGroup
	defer parts.Wait()
	defer cancel()
	if h.cfg.MDNS && !h.cfg.Client {
		stop, err := h.startMDNS(ctx, &parts)
		if err != nil {
			h.cfg.Log.Warn("nodes on the LAN are not found by mDNS: give their addresses with --bootstrap, or say --no-mdns", "error", err)
		} else {
			defer stop()
		}
	}
	parts.Go(func() { h.keepConnected(ctx) })
	parts.Go(func() { h.keepAdvertised(ctx) })
	parts.Go(func() { h.keepPeersFile(ctx) })
	select {
	case <-ctx.Done():
	case <-h.stopped:
	}
	return nil
}

// Close ends every stream and connection and waits for all that runs on behalf of the host, Run included; for what the library does
// beyond that it waits only a while.
func (h *Host) Close() error {
	var err error
	h.once.Do(func() {
		h.mu.Lock()
		h.closed = true
		h.mu.Unlock()
		if serr := h.savePeers(); serr != nil {
			h.cfg.Log.Warn("the peers were not remembered: look at the disk of the home directory", "file", h.cfg.PeersFile, "error", serr)
		}
		close(h.stopped)
		if h.dht != nil {
			err = h.dht.Close()
		}
		closed := make(chan error, 1)
		go func() { closed <- h.host.Close() }()
		select {
		case herr := <-closed:
			err = cmp.Or(err, herr)
		case <-time.After(closeWait):
			h.cfg.Log.Debug("the library is not done closing, which is not waited for")
		}
		h.wg.Wait()
	})
	return err
}

// Libp2p is the host for those who speak other protocols over it.
func (h *Host) Libp2p() host.Host { return h.host }

// ID is this node's peer ID.
func (h *Host) ID() gossip.PeerID { return gossip.PeerID(h.host.ID().String()) }

// Addrs lists this node's addresses as others can give them to [Host.Connect], those for other machines first.
func (h *Host) Addrs() []string {
	var near, far []string
	for _, a := range h.host.Addrs() {
		s := a.String() + "/p2p/" + h.host.ID().String()
		if isLoopback(a) {
			near = append(near, s)
		} else {
			far = append(far, s)
		}
	}
	return slices.Concat(far, near)
}

// ListenNote says in a sentence that the default port was taken and which one is used instead; "" if it was free.
func (h *Host) ListenNote() string { return h.note }
