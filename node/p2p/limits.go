package p2p

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/libp2p/go-libp2p/x/rate"
	"golang.org/x/sync/semaphore"

	"swarmnode/content"
	"swarmnode/content/guard"
	"swarmnode/node/policy"
)

const (
	// retryAfter is what a node tells those who have too many streams or ask for more than its memory; who asks for chunks is
	// told what policy.Serving says.
	retryAfter  = 500 * time.Millisecond
	retryMillis = uint32(retryAfter / time.Millisecond)
	// maxBlockAnswers is how many answers of metadata blocks are sent at a time; each holds one block.
	maxBlockAnswers = 16
	// urgentShare is the part of the memory for answers being received, one in so many, that is left for what somebody reads: five
	// answers with the largest chunks.
	urgentShare = 4
	// maxConns and maxInbound are how many connections there are: as many again as the connection manager keeps, for those that it
	// has not yet trimmed. Those whose handshake is not done come on top.
	maxConns, maxInbound = 2 * maxPeers, maxPeers + maxPeers/2
	// The connections that one address may have and open: a campus or a Kubernetes cluster behind one address. The
	// library's own figures are 8 and 0.2/s.
	maxConnsPerIP      = 128
	maxConnRatePerIP   = 10 // per second
	maxConnBurstPerIP  = 128
	protectTag         = "swarmnode-stream"
	hardStreamsPerPeer = 8 * maxPeerStreams // above this a stream is reset instead of answered
)

// limits counts what streams hold, per peer and in all.
type limits struct {
	uploads   *uploads            // answers of chunks being sent
	sending   *semaphore.Weighted // bytes of buffers of chunk answers being sent
	receiving *semaphore.Weighted // bytes of buffers of chunk answers being received
	bulk      *semaphore.Weighted // of these, those that nobody waits for: some are left for what somebody reads
	blocks    *semaphore.Weighted // answers of blocks being sent
	memory    int64               // size of sending and of receiving

	mu        sync.Mutex // guards what follows
	streams   map[streamKey]int
	total     map[protocol.ID]int
	protected map[peer.ID]int
}

type streamKey struct {
	proto protocol.ID
	peer  peer.ID
}

func newLimits(memory int64) *limits {
	if memory <= 0 {
		memory = defaultMemory
	}
	memory = max(memory, 2*sendBuffer, receiveDepth*content.MaxChunkSize)
	return &limits{
		sending: semaphore.NewWeighted(memory), receiving: semaphore.NewWeighted(memory), memory: memory,
		bulk:   semaphore.NewWeighted(max(memory-memory/urgentShare, receiveDepth*content.MaxChunkSize)),
		blocks: semaphore.NewWeighted(maxBlockAnswers), uploads: newUploads(policy.ServingConfig{}),
		streams: map[streamKey]int{}, total: map[protocol.ID]int{}, protected: map[peer.ID]int{},
	}
}

// urgentKey marks the context of a request that somebody waits for.
type urgentKey struct{}

// Urgent marks requests for chunks that somebody waits for: they find memory though all that others may have is taken.
func Urgent(ctx context.Context) context.Context { return context.WithValue(ctx, urgentKey{}, true) }

// receive takes memory for an answer with chunks, until release is called.
func (l *limits) receive(ctx context.Context, bytes int64) (release func(), err error) {
	urgent := ctx.Value(urgentKey{}) != nil
	if !urgent {
		if err := l.bulk.Acquire(ctx, bytes); err != nil {
			return nil, err
		}
	}
	giveBack := func() {
		if !urgent {
			l.bulk.Release(bytes)
		}
	}
	if err := l.receiving.Acquire(ctx, bytes); err != nil {
		giveBack()
		return nil, err
	}
	return func() {
		l.receiving.Release(bytes)
		giveBack()
	}, nil
}

// enter takes one of the peer's places on a protocol, and one of limit in all.
func (l *limits) enter(proto protocol.ID, p peer.ID, limit int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := streamKey{proto, p}
	if guard.On(guard.PeerStreams) && l.streams[k] >= maxPeerStreams || l.total[proto] >= limit {
		return false
	}
	l.streams[k]++
	l.total[proto]++
	return true
}

func (l *limits) leave(proto protocol.ID, p peer.ID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := streamKey{proto, p}
	l.total[proto]--
	if l.streams[k]--; l.streams[k] == 0 {
		delete(l.streams, k)
	}
}

// protect keeps the connection manager from cutting a peer's connections until release is called: an open stream
// alone does not (go-libp2p issue 475).
func (l *limits) protect(cm connmgr.ConnManager, p peer.ID) (release func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.protected[p]++; l.protected[p] == 1 {
		cm.Protect(p, protectTag)
	}
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.protected[p]--; l.protected[p] == 0 {
			delete(l.protected, p)
			cm.Unprotect(p, protectTag)
		}
	}
}

// acquire waits a little for memory and says whether it got it.
func acquire(ctx context.Context, sem *semaphore.Weighted, n int64, wait time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	return sem.Acquire(ctx, n) == nil
}

// newResourceManager bounds what strangers can make the library hold. Our own limits above answer "busy" long before
// these reset streams.
func newResourceManager() (network.ResourceManager, error) {
	scal := rcmgr.DefaultLimits
	for _, proto := range []protocol.ID{chunksProtocol, blocksProtocol, outlineProtocol, holdingsProtocol} {
		streams := rcmgr.BaseLimit{Streams: 8192, StreamsInbound: 4096, StreamsOutbound: 4096, Memory: 256 << 20}
		perPeer := rcmgr.BaseLimit{Streams: 4 * hardStreamsPerPeer, StreamsInbound: hardStreamsPerPeer,
			StreamsOutbound: 2 * hardStreamsPerPeer, Memory: 128 << 20}
		scal.AddProtocolLimit(proto, streams, rcmgr.BaseLimitIncrease{Memory: 256 << 20})
		scal.AddProtocolPeerLimit(proto, perPeer, rcmgr.BaseLimitIncrease{})
	}
	lim := rcmgr.PartialLimitConfig{
		System: rcmgr.ResourceLimits{
			Conns: maxConns + maxTransient, ConnsInbound: maxInbound + maxTransient, ConnsOutbound: maxPeers,
			Streams: 16384, StreamsInbound: 8192, StreamsOutbound: 8192,
		},
		Transient: rcmgr.ResourceLimits{Conns: 128 + maxTransient, ConnsInbound: maxTransient, ConnsOutbound: 128, FD: 128 + maxTransient},
	}.Build(scal.AutoScale())
	v4 := []rcmgr.ConnLimitPerSubnet{{PrefixLength: 32, ConnCount: maxConnsPerIP}}
	v6 := []rcmgr.ConnLimitPerSubnet{{PrefixLength: 56, ConnCount: maxConnsPerIP}, {PrefixLength: 48, ConnCount: 4 * maxConnsPerIP}}
	perIP := rate.Limit{RPS: maxConnRatePerIP, Burst: maxConnBurstPerIP}
	return rcmgr.NewResourceManager(rcmgr.NewFixedLimiter(lim), rcmgr.WithMetricsDisabled(),
		rcmgr.WithLimitPerSubnet(v4, v6),
		rcmgr.WithConnRateLimiters(&rate.Limiter{
			NetworkPrefixLimits: []rate.PrefixLimit{ // the zero limit is none
				{Prefix: netip.MustParsePrefix("127.0.0.0/8")}, {Prefix: netip.MustParsePrefix("::1/128")},
			},
			SubnetRateLimiter: rate.SubnetLimiter{
				IPv4SubnetLimits: []rate.SubnetLimit{{PrefixLength: 32, Limit: perIP}},
				IPv6SubnetLimits: []rate.SubnetLimit{{PrefixLength: 56, Limit: perIP}},
				GracePeriod:      time.Minute,
			},
		}))
}
