// Package fetch carries out what policy.Transfer decides: it asks peers for runs of chunks and for metadata blocks,
// hands what comes to the store, which checks the hash, and tells Transfer what happened. It decides nothing itself.
package fetch

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"swarmnode/content"
	"swarmnode/gossip"
	"swarmnode/node/policy"
)

// Network asks one peer for one thing. Errors about what the peer did are a *[Failure].
type Network interface {
	// Chunks asks for a run, calls begun when the answer begins and each for every chunk that comes, in order. The function that
	// begun gets says at any time, also after the end, how many bytes of the answer have come.
	Chunks(ctx context.Context, from gossip.PeerID, id content.ID, run content.Run, size func(index uint32) uint32,
		begun func(came func() uint64), each func(ref content.Ref, data []byte) error) error
	// Blocks asks for metadata blocks and calls each for those that come; their hash has been checked.
	Blocks(ctx context.Context, from gossip.PeerID, id content.ID, digests []content.Digest,
		each func(d content.Digest, data []byte) error) error
	// Outline asks for a manifest and so many bytes of the blocks below it, and calls each for those that come.
	Outline(ctx context.Context, from gossip.PeerID, id content.ID, manifest content.Digest, room uint32,
		each func(d content.Digest, data []byte) error) error
	// WatchHoldings tells what the peer has, until ctx ends or the peer is lost. It reads no further while each has not
	// returned.
	WatchHoldings(ctx context.Context, from gossip.PeerID, id content.ID, each func(gossip.Holdings) error) error
}

// Failure is how a request ended other than well.
type Failure struct {
	Reason  policy.Reason // the zero value when the answer came to its end and only NotHere matters
	NotHere []content.Ref // chunks that the peer said it does not have
	Err     error
}

func (f *Failure) Error() string { return f.Err.Error() }
func (f *Failure) Unwrap() error { return f.Err }

// Sink takes chunks. Put checks the hash. An error that Config.Wrong does not know is trouble of this node, such as a full
// disk, and not held against the peer.
type Sink interface {
	Put(ref content.Ref, data []byte) error
}

// Config is what a Fetcher works with. All fields but Transfer, Room, Banned, Here, Stored, Metadata and Log may not be zero.
type Config struct {
	ID       content.ID
	Network  Network
	Sink     Sink
	Wrong    func(err error) bool // whether an error of Sink.Put says that the bytes were wrong
	Rand     *rand.Rand           // the Fetcher owns it
	Transfer policy.TransferConfig
	Room     *Room                         // that all Fetchers of the node share; nil: one of its own
	Banned   func(gossip.PeerID)           // a peer sent wrong bytes too often; may be nil
	Here     func(ref content.Ref) bool    // whether the sink has a chunk; may be nil: it has not
	Stored   func(ref content.Ref, n int)  // a chunk arrived and is stored, with its bytes; may be nil
	Log      *slog.Logger                  // default: discard
	Metadata func(d content.Digest, n int) // a metadata block arrived; may be nil
}

// Fetcher fetches the chunks and metadata blocks of one collection. Run has to be running for chunks to come.
type Fetcher struct {
	cfg   Config
	kick  chan struct{}  // something happened that Next may care about
	tasks sync.WaitGroup // requests and watches

	mu       sync.Mutex // guards all below
	transfer *policy.Transfer
	hedge    policy.Hedge // of requests for a few metadata blocks
	requests map[policy.RequestID]*asked
	peers    map[gossip.PeerID]*peer
	news     chan struct{} // closed and made anew when a peer comes or tells more
	idle     chan struct{} // closed while nothing is wanted
	step     policy.Step   // the last one, for Progress
	running  context.Context
	wanting
	reading
	storing
}

// wanting is what transfer wants.
type wanting struct {
	wants  map[uint32]*wanted // with the tables
	needed int                // segments of which something is wanted that is not only read
	held   bool               // nobody is asked for it
}

// storing is whether this node can store what comes.
type storing struct {
	trouble error         // of the sink; nil when the last Put was good or nothing is wanted
	pause   time.Duration // of the asking, doubled while the trouble lasts
	resume  time.Time     // nobody is asked before; zero when there is no trouble
}

// asked is a request that is under way.
type asked struct {
	id     policy.RequestID
	run    content.Run
	table  *content.Table
	cancel context.CancelFunc
	came   func() uint64 // bytes of its answer; nil before that begins
}

// wanted is what is wanted of one segment. One of need and reads is not empty.
type wanted struct {
	table *content.Table
	need  content.Bitmap // what Want said and is not here, canonical
	reads content.Bitmap // what is read
}

// peer is a connected peer as the Fetcher sees it.
type peer struct {
	rtt   time.Duration
	stop  context.CancelFunc // ends the watch of its holdings
	tells bool               // it serves the collection: its holdings came
	fails int                // requests for metadata blocks in a row that broke

	release uint64 // the newest that it said it serves
}

// New makes a Fetcher that wants nothing and knows nobody.
func New(cfg Config) *Fetcher {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Here == nil {
		cfg.Here = func(content.Ref) bool { return false }
	}
	if cfg.Stored == nil {
		cfg.Stored = func(content.Ref, int) {}
	}
	if cfg.Metadata == nil {
		cfg.Metadata = func(content.Digest, int) {}
	}
	if cfg.Banned == nil {
		cfg.Banned = func(gossip.PeerID) {}
	}
	if cfg.Room == nil {
		cfg.Room = NewRoom(cfg.Transfer.InFlight)
	}
	idle := make(chan struct{})
	close(idle)
	f := &Fetcher{
		cfg: cfg, kick: make(chan struct{}, 1),
		wanting: wanting{wants: map[uint32]*wanted{}}, requests: map[policy.RequestID]*asked{},
		peers: map[gossip.PeerID]*peer{}, news: make(chan struct{}), idle: idle,
		reading: reading{chunks: map[content.Ref]*pending{}, readers: map[uint64]*reader{}, windows: map[content.Ref][]*reader{}, urged: true},
	}
	cfg.Transfer.Progress = f.progress
	f.transfer = policy.NewTransfer(cfg.Transfer, cfg.Rand)
	return f
}

// Want sets which chunks of a segment are wanted; an empty need is none. What is read of the
// segment is not touched.
func (f *Fetcher) Want(segment uint32, t *content.Table, need content.Bitmap) {
	f.mu.Lock()
	defer f.mu.Unlock()
	need = need.Clone().Trim()
	w := f.wants[segment]
	if w == nil {
		w = &wanted{}
		f.wants[segment] = w
	}
	gone := w.need.Clone()
	gone.AndNot(need)
	gone.AndNot(w.reads)
	f.transfer.Unwant(segment, gone)
	if len(w.need) > 0 {
		f.needed--
	}
	if w.need = need; len(need) > 0 {
		f.needed++
		w.table = t
		f.transfer.Want(segment, func(i uint32) uint32 { return t.Chunk(i).Size }, need)
	}
	f.forgetWant(segment, w)
	f.settle()
	f.wake()
}

// forgetWant lets go of the table of a segment of which nothing is wanted any more. The caller holds mu.
func (f *Fetcher) forgetWant(segment uint32, w *wanted) {
	if len(w.need) == 0 && len(w.reads) == 0 {
		delete(f.wants, segment)
	}
}

// settle opens or closes idle. The caller holds mu.
func (f *Fetcher) settle() {
	done := f.needed == 0
	select {
	case <-f.idle:
		if !done {
			f.idle = make(chan struct{})
		}
	default:
		if done {
			close(f.idle)
			f.storing = storing{} // nothing is left to store
		}
	}
}

func (f *Fetcher) wake() {
	select {
	case f.kick <- struct{}{}:
	default:
	}
}

// Wait returns when nothing is wanted any more but what somebody reads, or with the error of ctx.
func (f *Fetcher) Wait(ctx context.Context) error {
	f.mu.Lock()
	idle := f.idle
	f.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Serves reports whether a connected peer said that it serves a release with this number or a newer one.
func (f *Fetcher) Serves(release uint64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range f.peers {
		if p.tells && p.release >= release {
			return true
		}
	}
	return false
}

// Held is which part of a release a peer has, by what it told, between 0 and 1; see [policy.Transfer.Held].
func (f *Fetcher) Held(peer gossip.PeerID, infos []content.SegmentInfo) float64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.transfer.Held(peer, infos)
}

// Progress is where a Fetcher stands.
type Progress struct {
	policy.Stats
	Left         int    // chunks wanted and not here
	InFlight     uint64 // bytes asked for
	Unobtainable int    // segments wanted that no connected peer has
	Holders      int    // connected peers that serve the collection
	Trouble      error  // what keeps this node from storing, nil if nothing
}

// Progress tells where the Fetcher stands.
func (f *Fetcher) Progress() Progress {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := Progress{Stats: f.transfer.Stats(), Left: f.transfer.Left(), InFlight: f.step.InFlight,
		Unobtainable: f.step.Unobtainable, Trouble: f.trouble}
	for _, x := range f.peers {
		if x.tells {
			p.Holders++
		}
	}
	return p
}
