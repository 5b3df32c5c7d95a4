package publish

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"swarmnode/content"
	"swarmnode/content/chunker"
	"swarmnode/content/durable"
	"swarmnode/content/origin"
	"swarmnode/content/store"
	"swarmnode/gossip"
	"swarmnode/gossip/trust"
)

// ErrLocked says that another publisher works on the same state.
var ErrLocked = errors.New("another swarmnode is publishing this collection; wait for it or stop it")

// Config sets up a [Publisher].
type Config struct {
	State      string            // directory of the publisher's own files: lock and snapshot. Made if need be.
	Root       string            // the tree to publish; with Origin its URL without a password, for messages
	Name       string            // the collection's name; that of the releases before, if there are any
	Pack       *store.Pack       // takes the metadata blocks; holds those of the last release
	References *store.References // over Root; takes the places of the chunks
	Signer     *trust.Signer     // knows the last release and signs the next
	Params     chunker.Params    // zero: those of the last release, chunker.Default for the first
	Log        *slog.Logger      // nil: silence

	// Origin, if not nil, is what is published instead of a directory here. It stays the caller's, who closes it.
	Origin origin.Origin
	// Arrivals takes the bytes that come from Origin, and gives its budget; References are over its directory, without links.
	Arrivals *store.Arrivals
	// Peers, if not nil, asks others for chunks that are damaged here, want of the segment with the table t, and calls each for those
	// that come, from the goroutine that called it; each gives store.ErrWrongBytes for one that is not what it should be.
	// context.DeadlineExceeded says that they take too long: then they are not asked for the other segments either.
	Peers func(ctx context.Context, segment uint32, t *content.Table, want content.Bitmap, each func(i uint32, data []byte) error) error
}

// Publisher makes the releases of one collection. It is safe for concurrent use: one Publish waits for the other.
type Publisher struct {
	cfg  Config
	lock *os.File
	mu   sync.Mutex // one Publish at a time

	// changing is held by whoever changes what releases there are, which of their chunks are kept, or what says so: by Clean, and by
	// Publish but for the time in which it fetches, which may take days. Taken after mu.
	changing sync.Mutex

	// heavy is HeavySize. Only tests set another.
	heavy int64

	// tries is origin.Retry if nil. Only tests set another.
	tries func(ctx context.Context, try func() error) error

	mended mended

	// crash is called at named points; an error stands for a crash there. Only tests set it.
	crash func(point string) error
}

// The files in Config.State.
const (
	lockName     = "publish.lock"
	snapshotName = "snapshot"
	historyName  = "releases.json"
	// unfinishedName is there while the index holds more, or less, than what belongs to the last release.
	unfinishedName = "unfinished"
)

// Open takes the lock of the state directory. The stores and the signer stay the caller's.
func Open(cfg Config) (*Publisher, error) {
	if err := content.CheckName(cfg.Name); err != nil {
		return nil, fmt.Errorf("open publisher: %w", err)
	}
	if cfg.Pack == nil || cfg.References == nil || cfg.Signer == nil {
		panic("publish: Config needs Pack, References and Signer")
	}
	if (cfg.Origin == nil) != (cfg.Arrivals == nil) {
		panic("publish: Config needs Origin and Arrivals, or neither")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if err := durable.MkdirAll(durable.OS{}, cfg.State, 0o700); err != nil {
		return nil, fmt.Errorf("open publisher: %w", err)
	}
	lock, err := durable.Lock(filepath.Join(cfg.State, lockName))
	if errors.Is(err, durable.ErrLocked) {
		err = fmt.Errorf("%w: %s", ErrLocked, cfg.State)
	}
	if err != nil {
		return nil, fmt.Errorf("open publisher: %w", err)
	}
	return &Publisher{cfg: cfg, lock: lock, heavy: HeavySize, crash: func(string) error { return nil }}, nil
}

// Close gives the lock back, after the Publish under way.
func (p *Publisher) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.changing.Lock()
	defer p.changing.Unlock()
	return p.lock.Close()
}

func (p *Publisher) path(name string) string { return filepath.Join(p.cfg.State, name) }

// Options are the choices for one Publish.
type Options struct {
	ScanOptions
	// Prepare makes everything but the signatures that need keys from elsewhere: Result.Request asks for them.
	Prepare bool
	// Again makes a release even if nothing has changed.
	Again bool
	// Check is asked last, when all of the release is there: its error keeps it from being signed. nil: nothing is asked.
	Check func(context.Context) error
	// PullOptions are for an origin. Of ScanOptions it heeds AllowEmpty alone: what to leave out was said when it was opened.
	PullOptions
}

// PullOptions are the choices for one Publish of an origin.
type PullOptions struct {
	Connections int   // how many files are fetched at a time; 0: origin.DefaultConnections
	Rate        int64 // bytes a second that are read from it; 0: no limit
	Strict      bool  // a path that cannot be published refuses the run, with a *ScanError, instead of being left out
	AllowShrink bool  // that more than half of the files are gone is meant
}

// Progress tells how far a Publish is. Files and bytes are of those that are new or changed.
type Progress struct {
	Stage     string // "scan", "hash", "tree", "sign"; of an origin "list" and "fetch" come instead of the first two, up to four times
	Files     int    // done
	FilesAll  int    // 0 until the scan is done
	BytesRead int64
	BytesAll  int64 // that will have been read at the end of "fetch", if what is listed is right; else 0
}

// Result is what a Publish has made. With Unchanged it is the release that was there before, and nothing was signed.
type Result struct {
	Unchanged  bool
	Release    uint64
	Manifest   content.Digest
	Bundle     gossip.Bundle // to be announced
	Totals     content.Totals
	NewBytes   int64 // of chunks that no release had
	NewChunks  int
	Segments   int   // new ones
	DeadBytes  int64 // of chunks that no file uses any more
	DeltaBytes int64 // of the release's delta; 0 for the first and for one that is too large for a delta
	Skipped    []Bad // left out, with ScanOptions.SkipBad or without PullOptions.Strict
	Pulled     Pulled
	Took       time.Duration

	Request *trust.Request // of Options.Prepare; the release is not there before it is signed
}

// Pulled says what a Publish asked of an origin.
type Pulled struct {
	Requests int       // that its listings took
	Files    int       // that were fetched, each time counted
	Bytes    int64     // that were read of them
	Rounds   int       // listings: one if nothing has changed, else one more after each time something was fetched
	Mended   int       // damaged chunks whose bytes are right again
	Lost     int       // damaged chunks of the release that neither peers nor the origin had
	Dated    time.Time // of the last listing; see origin.Listing
}

// ShrinkError says that an origin has lost more of its files than is likely to be meant.
type ShrinkError struct {
	Root      string
	Had, Gone int // files
}

func (e *ShrinkError) Error() string {
	return fmt.Sprintf("%s lists %d of the %d files of the last release no more: it may be half-mounted or moved. Nothing is published; if they are to go, `swarmnode publish --now NAME --allow-shrink` publishes it",
		e.Root, e.Gone, e.Had)
}

// AheadError says that releases of the collection exist that this publisher does not know.
type AheadError struct {
	Known, Seen gossip.Head
}

func (e *AheadError) Error() string {
	if e.Seen.Release == e.Known.Release {
		return fmt.Sprintf("release %d of %s is known here with the manifest %s, and the network has another one, %s: the keys were used in "+
			"two places. Publish only from one of them; to go on from here, bring the state directory of the other here",
			e.Seen.Release, e.Seen.Name, e.Known.Manifest.BlockCID(), e.Seen.Manifest.BlockCID())
	}
	return fmt.Sprintf("the network has release %d of %s, but this state directory ends with release %d: signing from here would fork the "+
		"collection. Restore the state directory that signed it, or fetch the newest release into this one first",
		e.Seen.Release, e.Seen.Name, e.Known.Release)
}

// Is makes the error one of gossip.ErrFork.
func (e *AheadError) Is(target error) bool { return target == gossip.ErrFork }

// CheckExtends refuses to sign after current, the last release known here, if one of the verified heads seen elsewhere is
// newer, or is another release under the same number. The error is an *AheadError.
func CheckExtends(current gossip.Head, seen []gossip.Head) error {
	for _, h := range seen {
		if h.Collection != current.Collection && !current.Collection.IsZero() {
			continue
		}
		if h.Release > current.Release || h.Release == current.Release && h.Release > 0 && h.Manifest != current.Manifest {
			return &AheadError{Known: current, Seen: h}
		}
	}
	return nil
}
