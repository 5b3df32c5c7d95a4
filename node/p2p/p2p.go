// Package p2p is the node's libp2p host: its identity and ports, the peers it stays connected to (bootstrap list,
// remembered peers, DHT, LAN), and the three protocols that move content between nodes - runs of chunks, metadata
// blocks and holdings. What is fetched from whom, and what is believed, are questions for others: this package
// checks frames, lengths, deadlines and limits, and for blocks the hash.
//
// # Limits
//
// What a stranger can make a node hold or do, and what happens beyond:
//
//	connections, in all          600 inbound, 800 (maxConns)            refused; over 400 (maxPeers) the least useful are closed
//	TCP, handshake not done      256, 128 of one address (maxArriving)  the silent and the oldest of the most crowded address are closed
//	TCP, nothing said            5 s (maxSilence)                       closed
//	connections, one address     128, 10 new ones a second              refused; loopback is exempt
//	streams, one peer, protocol  8 (maxPeerStreams)                     told "busy"; over 64 reset
//	streams, in all, protocol    2048                                   told "busy"
//	request                      9280 bytes (maxRequest)                reset, an offence
//	request not sent             15 s (Timeouts.Open)                   reset, an offence if not a byte came
//	answer without progress      20 s; 30 min in all                    ended, asked of another
//	answer of chunks             16 MiB (MaxRunBytes)                   cut, the rest is asked for again
//	answer of blocks             256 blocks, 16 MiB                     cut, the rest is asked for again
//	buffers of chunk answers     64 MiB each way (MemoryBytes)          told "busy"; own requests wait
//	pulls of small files         4 of a peer, 32 in all, 1 MiB each     told "busy"
//	gossip message               96 KiB; 256 topics a peer              dropped; a false one is an offence
//	member records               10,000 a collection, 8 addresses each  the oldest is forgotten
//	addresses that it names      on the Internet, see dialRule          not dialed: a LAN and its services are none of its business
//	holders from one search      50 (maxProviders), 8 dialed at a time  the others are not looked at
//	offences                     see offences                           ban: 10 min, 24 h for wrong bytes
//	offenders                    256 (maxOffenders), 30 log lines/min   the oldest suspect, then the oldest ban, is forgotten
//
// A banned peer can come back with a new identity: bans name who lies, the limits above bound what it costs.
package p2p

import (
	"context"
	"log/slog"
	"time"

	"github.com/libp2p/go-libp2p/core/host"

	"swarmnode/content"
	"swarmnode/gossip"
)

const (
	// DefaultPort is the TCP and UDP port of a node (DESIGN section 9).
	DefaultPort = 4101
	// MaxRunBytes is the most bytes of chunks in one request (DESIGN section 6: 1-16 MiB).
	MaxRunBytes = 16 << 20
	// MaxBlocksPerRequest is how many metadata blocks one request names; [Host.Blocks] makes several requests of more.
	MaxBlocksPerRequest = 256
	// maxBlockBytes is the most bytes in the answer to one request for blocks; the rest is asked for again.
	maxBlockBytes = 16 << 20
	// maxPeerStreams is how many streams one peer can have open to us per protocol; more get "busy".
	maxPeerStreams = 8
	// maxHoldingsStreams is how many peers and collections together can follow our holdings.
	maxHoldingsStreams = 2048
	// defaultMemory is the memory for answers being sent and, once more, for answers being received.
	defaultMemory = 64 << 20
	// maxPeers and minPeers are the water marks of the connection manager: 40-50 neighbours in a handful of
	// collections, and as many again who found us.
	maxPeers, minPeers = 400, 250
)

// The protocols. A change of a frame is a new number.
const (
	chunksProtocol   = "/swarmnode/1/chunks"
	blocksProtocol   = "/swarmnode/1/blocks"
	outlineProtocol  = "/swarmnode/1/outline"
	holdingsProtocol = "/swarmnode/1/holdings"
	// protocolVersion is what identify says of the swarm that this host belongs to.
	protocolVersion = "/swarmnode/1"
)

// Config says how a host is reached and whom it knows. The zero value is a host with a new identity on the default
// port that knows nobody.
type Config struct {
	Key         string   // identity file, made on first use; "" is a new identity that is forgotten at the end
	Listen      []string // multiaddrs or host:port (TCP and QUIC); empty: DefaultPort on all addresses, else a free port
	Client      bool     // be found by nobody and do not serve the DHT: a short-lived `get`
	Public      bool     // this node is known to be reachable: do not guess, be a DHT server and relay for signalling
	NATPortMap  bool     // ask the router for a port by UPnP (NAT-PMP finds no gateway with go-netroute v0.4.0, which refuses to look up 0.0.0.0)
	MDNS        bool     // find nodes on the LAN
	Bootstrap   []string // multiaddrs ending in /p2p/ID, dialed for ever while not connected
	PeersFile   string   // where good peers are remembered; "" is not at all
	BansFile    string   // where bans are remembered; "" is not at all
	UserAgent   string   // default "swarmnode"
	MemoryBytes int64    // memory for answers being sent, and again for those being received; default 64 MiB
	Limit       Limit    // of the bytes that are sent and received; nil: none
	Timeouts    Timeouts
	Log         *slog.Logger // default: discard

	// Setup is called before the host listens: the place for stream handlers of others (pubsub), so that no peer
	// connects before they are known (identify pushes are rate limited).
	Setup func(host.Host) error
}

// Timeouts are the deadlines of streams. Zero fields get the defaults; tests make them short.
type Timeouts struct {
	Open      time.Duration // opening a stream and sending the request: default 15 s
	Progress  time.Duration // without a byte in either direction: default 20 s
	Total     time.Duration // for one answer of chunks or blocks: default 30 min
	KeepAlive time.Duration // between frames of a holdings stream with nothing to say: default 30 s
	Queue     time.Duration // an asker waits this long for memory before it is told "busy": default 2 s
	Reconnect time.Duration // first pause before a bootstrap peer is dialed again: default 3 s
}

func (t Timeouts) withDefaults() Timeouts {
	set := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	set(&t.Open, 15*time.Second)
	set(&t.Progress, 20*time.Second)
	set(&t.Total, 30*time.Minute)
	set(&t.KeepAlive, 30*time.Second)
	set(&t.Queue, 2*time.Second)
	set(&t.Reconnect, 3*time.Second)
	return t
}

// Handlers give what this node serves. A nil handler has nothing. They are called from many goroutines.
type Handlers struct {
	// Chunk reads a chunk into buf (length 0, capacity content.MaxChunkSize) and returns it; data elsewhere than in
	// buf is copied. A *BusyError is told to the asker with its time, every other error is "not here".
	Chunk func(ctx context.Context, id content.ID, ref content.Ref, buf []byte) ([]byte, error)
	// Unsent says that a chunk which Chunk gave has not been sent to its end: the asker went away or the stream broke. ctx is
	// as for Chunk. It may be nil.
	Unsent func(ctx context.Context, id content.ID, ref content.Ref)
	// Block gives a metadata block. The caller does not change it.
	Block func(id content.ID, d content.Digest) ([]byte, bool)
	// Holdings gives a full message first, then changes at least 100 ms apart, until ctx ends. An error, or a closed
	// channel, ends the stream.
	Holdings func(ctx context.Context, id content.ID) (<-chan gossip.Holdings, error)
}
