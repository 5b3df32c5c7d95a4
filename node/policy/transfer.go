package policy

import (
	"math/rand/v2"
	"slices"
	"time"

	"swarmnode/content"
	"swarmnode/gossip"
)

// TransferConfig holds the limits of a [Transfer]. The zero value means the defaults, which DESIGN section 6 gives
// reasons for. Sizes are in bytes.
type TransferConfig struct {
	InFlight    uint64                     // most bytes asked for and not yet here, of all peers together; default 64 MiB
	StartWindow uint64                     // most bytes in flight at a peer of which no rate is known; default 2 MiB
	MaxWindow   uint64                     // most bytes in flight at any peer; default 16 MiB
	WindowTime  time.Duration              // a peer's window is rate x (RTT + WindowTime); default 750 ms
	PeerAsks    int                        // most requests at one peer at a time; default 8
	MinRun      uint64                     // a request is at least this large where the want allows; default 1 MiB, never less than a chunk can be
	MaxRun      uint64                     // and never larger than this; default 16 MiB
	Patience    time.Duration              // a request without progress is cancelled no sooner than this; default 15 s
	BadLimit    int                        // wrong chunks after which a peer is banned; default 3
	BanTime     time.Duration              // how long a ban lasts; default 24 h
	Exempt      func(p gossip.PeerID) bool // peers that are never banned (the pinned publisher); nil means none
	// Progress is how many bytes of the answer to a request have come, those of chunks not complete too. It is called by Next, for
	// requests that began. nil: not known, and slow peers show themselves by what does not come.
	Progress func(id RequestID) uint64
}

const (
	randomFirst  = 4  // requests whose segment is chosen at random, before rarest first: diversity at the start
	exploreOneIn = 16 // one choice of a holder in so many is random, so that estimates do not go stale
	bestHolders  = 4  // the choice of two is made among so many of the best
	startSamples = 6  // places in a segment of which the rarest is where a run begins
	defaultRTT   = 100 * time.Millisecond
	defaultRate  = 1 << 20          // bytes/s assumed of a peer that has not delivered yet, when ranking
	slowRate     = 128 << 10        // bytes/s assumed of the same peer when waiting for it
	patienceOver = 4                // a request may take this many times as long as expected
	maxPatience  = 2 * time.Minute  // and never longer without progress
	firstPause   = 5 * time.Second  // a peer that let a request time out or broke it is left alone for this long, then twice as long …
	maxPause     = 5 * time.Minute  // … up to this
	maxBusy      = 10 * time.Minute // the longest "busy, come back after" that is believed
	maxRecords   = 4096             // peers whose wrong chunks are remembered
	maxSources   = 4096             // peers that are asked for chunks; node/p2p keeps 400 connections at most
)

func (c TransferConfig) withDefaults() TransferConfig {
	set := func(v *uint64, def uint64) {
		if *v == 0 {
			*v = def
		}
	}
	set(&c.InFlight, 64<<20)
	set(&c.StartWindow, 2<<20)
	set(&c.MaxWindow, 16<<20)
	set(&c.MinRun, 1<<20)
	set(&c.MaxRun, 16<<20)
	c.MinRun = max(c.MinRun, content.MaxChunkSize)
	c.MaxRun = max(c.MaxRun, c.MinRun)
	c.StartWindow = max(c.StartWindow, c.MinRun)
	c.MaxWindow = max(c.MaxWindow, c.StartWindow)
	c.InFlight = max(c.InFlight, c.MinRun)
	if c.WindowTime == 0 {
		c.WindowTime = 750 * time.Millisecond
	}
	if c.PeerAsks == 0 {
		c.PeerAsks = 8
	}
	if c.Patience == 0 {
		c.Patience = 15 * time.Second
	}
	if c.BadLimit == 0 {
		c.BadLimit = 3
	}
	if c.BanTime == 0 {
		c.BanTime = 24 * time.Hour
	}
	return c
}

// RequestID names a request of one [Transfer]. It is never used again.
type RequestID uint64

// Request asks one peer for one run of chunks. It ends with [Transfer.Finished], [Transfer.Failed], [Transfer.Gone]
// or by being in [Step.Cancel].
type Request struct {
	ID    RequestID
	Peer  gossip.PeerID
	Run   content.Run
	Bytes uint64 // sum of the run's chunk sizes
	// Urgent says that somebody reads its chunks, or soon will.
	Urgent bool
	// From is the open request that these chunks were taken from because its peer is slow, 0 if none. That one goes
	// on, without them: it is in Step.Cancel after the last chunk that was left to it, in the same step if none was.
	From RequestID
}

// Step is what the driver has to do now, and when to ask again.
type Step struct {
	Ask          []Request
	Cancel       []RequestID     // stop these; they are forgotten, but a chunk of them that still arrives is welcome
	Complete     []uint32        // segments of which the last wanted chunk has arrived since the last step
	Banned       []gossip.PeerID // banned since the last step: disconnect and name them
	Unobtainable int             // segments with wanted chunks that no known peer has: with nothing in flight the node is alone
	InFlight     uint64          // bytes asked for and not yet here
	Wake         time.Time       // call Next at this time even if nothing happens; zero: only an event can change anything
	Done         bool            // nothing is wanted
}

// Stats are counters since the start, in bytes and events.
type Stats struct {
	Received uint64 // bytes of wanted chunks
	Wasted   uint64 // bytes that arrived twice, or wrong
	Asked    uint64 // requests made
	NotHere  uint64 // chunks that the asked peer turned out not to have
	Busy     uint64 // refusals for lack of room
	Timeouts uint64
	Bad      uint64 // wrong chunks
	Broken   uint64
	Moved    uint64 // requests taken from a peer where they waited to an idle one
	Slow     uint64 // requests taken back because another peer is much faster
	Stolen   uint64 // bytes asked of another peer because the first was slow
}

// Transfer decides which peer is asked for which run of chunks. Its driver reports what happens by calling the event
// methods ([Transfer.Want], [Transfer.Found], [Transfer.Holds], [Transfer.Got], [Transfer.Failed] …), then calls
// [Transfer.Next] and obeys the [Step]. Any number of events may come before one Next. A chunk is never expected of
// two peers at a time. Time must not go back.
type Transfer struct {
	cfg   TransferConfig
	rng   *rand.Rand
	stats Stats
	wants wantIndex

	sources map[gossip.PeerID]*source
	numbers []uint16          // of sources, not in use
	parts   map[uint32]*parts // by segment, wanted or not
	base    time.Time         // when the first was found
	order   []*source         // in the order they were found: what loops go over, for maps have none

	asking
	stealing
	reading
	scratch scratch
	records map[gossip.PeerID]record // wrong chunks and bans, outliving the connection
	news    news
}

// asking is what is open.
type asking struct {
	requests  map[RequestID]*request
	deadlines deadlines
	lastID    RequestID
	inFlight  uint64 // bytes
}

// stealing is the state of steal and move.
type stealing struct {
	risk       uint64    // bytes that thefts and moves have probably wasted
	stealAt    time.Time // when a theft may pay that does not now; zero: an event has to come first
	tellsBegan bool      // the driver calls Began
	moveAt     time.Time // when there may be something to move
}

// news is what the next Step tells.
type news struct {
	cancel   []RequestID
	banned   []gossip.PeerID
	complete []uint32
}

// scratch is memory that is used again and means nothing between calls.
type scratch struct {
	free, rare content.Bitmap // for choosing a run
	touched    []*want        // for Holds
	open       []*source      // for choosing a segment
	now        time.Time      // for since
	since      time.Duration  // its answer
	fastest    float64        // the rate of the fastest peer, in this Next
	waiting    []*request     // for move
}

// NewTransfer makes a Transfer that wants nothing and knows nobody. All randomness comes from rng.
func NewTransfer(cfg TransferConfig, rng *rand.Rand) *Transfer {
	return &Transfer{
		cfg:     cfg.withDefaults(),
		rng:     rng,
		wants:   wantIndex{bySegment: map[uint32]*want{}},
		sources: map[gossip.PeerID]*source{},
		asking:  asking{requests: map[RequestID]*request{}},
		records: map[gossip.PeerID]record{},
		parts:   map[uint32]*parts{},
	}
}

// Limit sets the most bytes in flight from now on, instead of [TransferConfig.InFlight]. What is in flight above it stays.
func (t *Transfer) Limit(bytes uint64) { t.cfg.InFlight = bytes }

// Stats gives the counters.
func (t *Transfer) Stats() Stats { return t.stats }

// Unobtainable lists the segments with wanted chunks that no known peer has, in order. It looks at every want; the
// number alone is in each [Step].
func (t *Transfer) Unobtainable() []uint32 {
	var segs []uint32
	for _, w := range t.wants.slots {
		if w != nil && w.stuck {
			segs = append(segs, w.seg)
		}
	}
	slices.Sort(segs)
	return segs
}

// Left is how many chunks are wanted and not here, in flight or not.
func (t *Transfer) Left() int { return t.wants.left }
