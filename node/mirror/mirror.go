// Package mirror follows a collection: it hears of a new release ([Listener]), fetches the metadata blocks that are new, wants
// the segments that this node keeps, and makes the release the served one when all of it is here and durable ([Mirror]).
// What this node has is told to peers ([Availability]). Who is asked for what is decided in package policy and carried out
// through the [Fetcher].
package mirror

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"swarmnode/content"
	"swarmnode/content/guard"
	"swarmnode/content/store"
	"swarmnode/gossip"
)

const (
	// DefaultGrace is how long content that a newer release has replaced stays (DESIGN section 9).
	DefaultGrace = 24 * time.Hour
	// lookEvery is how often segments that have all their chunks are looked at: complete is what is synced.
	lookEvery = time.Second
	// cleanEvery is how often content past its grace is looked for.
	cleanEvery = 10 * time.Minute
	// retryEvery is how often a release that could not be taken in is tried again.
	retryEvery = 30 * time.Second
	// deltaPatience is how long a delta is waited for without a block of it coming: those who joined late do not have it.
	deltaPatience = 15 * time.Second
	// missingNodes is how many missing tree nodes are asked for at a time.
	missingNodes = 4096
	// tablesAtOnce is how many missing segment tables are asked for at a time.
	tablesAtOnce = 512
	// outlineRoom is how much metadata comes along with the first manifest: all of it is needed, so as much as peers give.
	outlineRoom = 1 << 20
)

// Fetcher gets content from peers; package fetch has it.
type Fetcher interface {
	// Blocks fetches metadata blocks and calls each for every one, until all are here or ctx ends.
	Blocks(ctx context.Context, digests []content.Digest, each func(d content.Digest, data []byte) error) error
	// Outline fetches a manifest and as many bytes of the blocks below it as one peer gives; what is missing is for Blocks.
	Outline(ctx context.Context, manifest content.Digest, room uint32, each func(d content.Digest, data []byte) error) error
	// Want sets which chunks of a segment are wanted.
	Want(segment uint32, t *content.Table, need content.Bitmap)
	// Wait returns when nothing is wanted any more.
	Wait(ctx context.Context) error
}

// Export is a tree outside in which the content of releases lies; package export has it.
type Export interface {
	// Keeps reports whether the content of a release has to stay although its grace time is over.
	Keeps(manifest content.Digest) bool
	// Drop removes the files that only releases have which are not kept any more.
	Drop(kept func(manifest content.Digest) bool) error
}

// Config is what a Mirror works with. All fields but Cache, Held, Export, Grace, Served, Changed and Log are required.
type Config struct {
	ID           content.ID
	Dir          string // of the collection, for the state
	Pack         *store.Pack
	Disk         *store.Disk
	Fetch        Fetcher
	Availability *Availability
	Cache        *Cache                  // of a node that keeps only what is asked for; nil: all is kept
	Held         func(uint64) bool       // whether others have a release with this number or a newer one; required with Cache
	Export       Export                  // nil: none
	Grace        time.Duration           // default DefaultGrace
	Served       func(*content.Manifest) // called when another release is served, one call at a time; may be nil
	Changed      func()                  // called when Releases gives something else; it must not wait or call the Mirror; may be nil
	Log          *slog.Logger
}

// Mirror keeps a whole collection and follows its releases.
type Mirror struct {
	cfg   Config
	heads chan gossip.Head // the newest head to follow, at most one

	// metadata is held while blocks are fetched that no release known here names yet: compact must not throw them away.
	metadata sync.Mutex
	// work is held, for a moment, while segments are added or freed and while the state changes. It is taken before mu.
	work sync.Mutex

	mu       sync.Mutex // guards all below
	state    state
	served   *release // nil as long as nothing is
	target   *release // that is being fetched, once its metadata is here; nil if none
	progress Progress
	wanted   map[uint32]bool // segments of the release followed that were not whole and durable when last looked at
	lost     map[uint32]bool // segments that have lost chunks; true when these are asked for
}

// release is a release whose metadata is here. It does not change.
type release struct {
	*content.Manifest
	infos []content.SegmentInfo
}

// info is what a release says of a segment; a nil one says that all are retired.
func (r *release) info(segment uint32) content.SegmentInfo {
	if r == nil || int(segment) >= len(r.infos) {
		return content.SegmentInfo{}
	}
	return r.infos[segment]
}

// Progress is where a Mirror stands with the release that it follows.
type Progress struct {
	Head      gossip.Head   // that it follows
	Phase     string        // what it is doing, in a word or two
	Segments  int           // live segments of the release
	Complete  int           // of these, how many are here and durable
	Bytes     int64         // live bytes of the release
	Here      int64         // of these, how many are here
	Trouble   error         // why it does not get on; nil if it does
	Heard     time.Time     // when the head was heard of
	Took      time.Duration // from hearing of the served release to serving it; 0 when it was served at the start
	Served    uint64        // number of the served release
	ServedAs  string        // name of the collection as the served release has it
	ServedSum content.Totals
}

// Open makes a Mirror from what is on disk; if a release was served before, it is again.
func Open(cfg Config) (*Mirror, error) {
	if cfg.Grace <= 0 {
		cfg.Grace = DefaultGrace
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Served == nil {
		cfg.Served = func(*content.Manifest) {}
	}
	if cfg.Changed == nil {
		cfg.Changed = func() {}
	}
	m := &Mirror{cfg: cfg, heads: make(chan gossip.Head, 1), wanted: map[uint32]bool{}, lost: map[uint32]bool{}}
	m.progress.Phase = "waiting for a release"
	var err error
	m.state, err = readState(filepath.Join(cfg.Dir, stateFile))
	if errors.Is(err, errDamagedState) {
		cfg.Log.Warn("a file of this node is damaged and is made again: look at the disk", "collection", cfg.ID, "error", err)
	} else if err != nil {
		return nil, err
	}
	m.connectCache()
	m.tellWhatIsHere()
	if m.state.Served.IsZero() {
		return m, m.fitCache()
	}
	if err := m.resume(); err != nil {
		cfg.Log.Warn("the served release is not whole on disk, it is fetched again: look at the disk", "collection", cfg.ID, "error", err)
	}
	return m, m.fitCache()
}

// tellWhatIsHere makes known what the disk holds from before the start.
func (m *Mirror) tellWhatIsHere() {
	for _, n := range m.cfg.Disk.Segments() {
		if b := m.cfg.Disk.Have(n); b.Count() > 0 {
			m.cfg.Availability.Have(n, b)
		}
	}
}

// resume serves the release of the state again, if all of it is here.
func (m *Mirror) resume() error {
	man, err := m.manifest(m.state.Served)
	if err != nil {
		return err
	}
	infos, err := content.LoadDirectory(man.Directory, m.cfg.Pack)
	if err != nil {
		return err
	}
	missing, err := content.MissingNodes(man.Tree, m.cfg.Pack, 1)
	if err == nil && len(missing) > 0 {
		err = &content.Missing{Blocks: missing}
	}
	if err != nil {
		return fmt.Errorf("file tree: %w", err)
	}
	for n, s := range infos {
		if !s.Retired() && !m.cfg.Pack.Has(s.Table) {
			return fmt.Errorf("the table of segment %d is missing", n)
		}
	}
	r := &release{man, infos}
	if err := m.durable(r); err != nil {
		return err
	}
	m.setServed(r, 0)
	return nil
}

// durable reports whether all of a release is on disk and survives a crash.
func (m *Mirror) durable(r *release) error {
	if m.cfg.Cache != nil || !guard.On(guard.SwitchWhole) {
		return nil
	}
	for n, s := range r.infos {
		if lacking := lacking(s, m.cfg.Disk.Synced(uint32(n))); lacking.Count() > 0 {
			return fmt.Errorf("%d chunks of segment %d are missing", lacking.Count(), n)
		}
	}
	return nil
}

// lacking gives the live chunks of a segment that are not among those here.
func lacking(s content.SegmentInfo, here content.Bitmap) content.Bitmap {
	live := s.Live()
	live.AndNot(here)
	return live
}

// manifest reads a manifest that is here.
func (m *Mirror) manifest(d content.Digest) (*content.Manifest, error) {
	data, ok := m.cfg.Pack.Block(d)
	if !ok {
		return nil, &content.Missing{Blocks: []content.Digest{d}}
	}
	return content.DecodeManifest(data)
}

// News says that a head is newer or fresher than the one before.
func (m *Mirror) News(h gossip.Head) {
	for {
		select {
		case m.heads <- h:
			return
		case <-m.heads: // only the newest counts
		}
	}
}

// Run follows the heads that News brings, until ctx ends.
func (m *Mirror) Run(ctx context.Context) error {
	var tasks sync.WaitGroup
	defer tasks.Wait()
	tasks.Go(func() { m.look(ctx) })
	tasks.Go(func() { m.clean(ctx) })
	var head gossip.Head
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case head = <-m.heads:
		}
		for head.Release > 0 && ctx.Err() == nil {
			next, again := m.followOne(ctx, head)
			if !again {
				break
			}
			head = next
		}
	}
}

// followOne takes in one release. It gives the head to go on with, if there is one: a newer one that came meanwhile, or the same
// after a pause.
func (m *Mirror) followOne(ctx context.Context, head gossip.Head) (gossip.Head, bool) {
	if m.isServed(head) {
		return head, false
	}
	m.update(func(p *Progress) {
		if p.Head.Release != head.Release {
			p.Heard = time.Now()
		}
		p.Head, p.Trouble = head, nil
	})
	fctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- m.follow(fctx, head) }()
	var err error
	for running := true; running; {
		select {
		case err = <-done:
			running = false
		case next := <-m.heads:
			if next.Release > head.Release || next.Manifest != head.Manifest {
				if cancel(); <-done == nil {
					return next, true // it was just done
				}
				m.cfg.Log.Info("a newer release came: the incomplete one is dropped", "dropped", head.Release, "newer", next.Release)
				return next, true
			}
		}
	}
	if err == nil || ctx.Err() != nil {
		return head, false
	}
	m.update(func(p *Progress) { p.Trouble = err })
	m.cfg.Log.Warn("cannot take in the release: it is tried again by itself; the error says what is missing", "collection", m.cfg.ID, "release", head.Release, "error", err, "again_in", retryEvery)
	select {
	case <-ctx.Done():
		return head, false
	case next := <-m.heads:
		return next, true
	case <-time.After(retryEvery):
		return head, true
	}
}

func (m *Mirror) isServed(h gossip.Head) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.served == nil || m.state.Served != h.Manifest {
		return false
	}
	m.progress.Head, m.progress.Trouble = h, nil
	return true
}

func (m *Mirror) update(fn func(*Progress)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	fn(&m.progress)
}

// Progress tells where the mirror stands.
func (m *Mirror) Progress() Progress {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.progress
	p.Complete = max(0, p.Segments-len(m.wanted))
	if m.cfg.Cache != nil {
		p.Here, p.Complete = m.cfg.Disk.Stats().Used, 0
	}
	p.Here = min(p.Here, p.Bytes)
	if m.served != nil {
		p.Served, p.ServedAs, p.ServedSum = m.served.Release, m.served.Name, m.served.Totals
	}
	return p
}

// Served is the manifest of the served release, nil as long as there is none.
func (m *Mirror) Served() *content.Manifest {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.served == nil {
		return nil
	}
	return m.served.Manifest
}
