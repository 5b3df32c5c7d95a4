package mirror

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"swarmnode/content"
	"swarmnode/content/guard"
	"swarmnode/content/store"
	"swarmnode/node/policy"
)

const (
	// DefaultScrubRate is how fast a node reads what it holds, in bytes per second: a tenth of what a plain hard disk reads.
	DefaultScrubRate = 8 << 20
	// maxScrubRate bounds the rate that a large collection needs for a pass within passEvery: 166 TB fit into that.
	maxScrubRate = 64 << 20
	// passEvery is how often everything is read: as file systems that scrub do it, since disks lose a sector in years.
	passEvery = 30 * 24 * time.Hour
	// scrubLook is how often the scrubber looks whether a pass is due.
	scrubLook = time.Minute
	// savePosition is how often the position of a pass is written: at most as much is read twice after a kill.
	savePosition = 10 * time.Second
	// mendPatience is how long metadata that was lost is waited for before newer releases get their turn.
	mendPatience = 20 * time.Second
)

// Chunks is what a scrub reads: a store.Disk or store.References.
type Chunks interface {
	Segments() []uint32
	Have(segment uint32) content.Bitmap
	// Check reads a chunk, quarantines it if it is bad, and says how many bytes it read. ErrNotHere if it is bad.
	Check(ref content.Ref, buf []byte) (int, error)
}

// ScrubConfig is what a Scrubber works with. Dir, Pack and Chunks are required.
type ScrubConfig struct {
	Dir    string // of the collection, for the position
	Pack   *store.Pack
	Chunks Chunks
	Silent bool // Chunks does not tell Lost of each chunk: what Check does not find counts
	// Trust compares the trust files with what was verified and mends them.
	Trust func() (checked, damaged int, err error)
	// Blocks fetches metadata blocks again that are needed and not here. May be nil: a publisher has nobody to ask.
	Blocks func(ctx context.Context, lost []content.Digest) error
	// Live says which chunks of a segment are still needed; nil: all.
	Live func(segment uint32) content.Bitmap
	Held func() int64 // bytes held, which a pass has to read
	Rate int64        // bytes per second; 0: DefaultScrubRate, or as much as a pass in 30 days needs
	Log  *slog.Logger
}

// ScrubReport says how the scrub of a collection stands.
type ScrubReport struct {
	Running  bool
	Passes   uint64    // finished, ever
	Finished time.Time // when the last one was
	Checked  int64     // chunks, metadata blocks and trust files read by the pass under way, or by the last one
	Bytes    int64     // the same in bytes
	Bad      int64     // found damaged since the start of the node, whoever read them
	Repaired int64     // of these, here again
	Missing  int64     // of these, still needed and not here
}

// Scrubber reads all that a node holds of one collection, slowly and again and again, so that what a disk loses is noticed
// and mended while others still have it.
type Scrubber struct {
	cfg   ScrubConfig
	again chan int64 // a pass is to begin now, with this rate

	mu     sync.Mutex // guards all below
	at     position
	report ScrubReport
	lost   map[uint32]content.Bitmap // chunks found bad and not here again
	blocks map[content.Digest]bool   // the same of metadata blocks
	saved  time.Time
}

// errAgain ends a pass because another is to begin.
var errAgain = errors.New("a new pass begins")

// NewScrubber makes one and reads where the last one stood.
func NewScrubber(cfg ScrubConfig) *Scrubber {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Scrubber{cfg: cfg, again: make(chan int64, 1), lost: map[uint32]content.Bitmap{}, blocks: map[content.Digest]bool{}}
	s.at = readPosition(cfg.Dir, time.Now())
	s.report = ScrubReport{Passes: s.at.Passes, Finished: s.at.Finished, Checked: s.at.Checked, Bytes: s.at.Bytes}
	return s
}

// Lost hears of a chunk that was found damaged, by a scrub or by whoever read it.
func (s *Scrubber) Lost(ref content.Ref) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.lost[ref.Segment]
	if b.Has(ref.Index) {
		return
	}
	b.Set(ref.Index)
	s.lost[ref.Segment] = b
	s.report.Bad++
}

// Begin has a pass begin now, whatever is under way. rate is in bytes per second; 0 is the usual one.
func (s *Scrubber) Begin(rate int64) {
	s.mu.Lock()
	s.report.Running = true
	s.mu.Unlock()
	for {
		select {
		case s.again <- rate:
			return
		case <-s.again: // the newest counts
		}
	}
}

// Report says how the scrub stands.
func (s *Scrubber) Report() ScrubReport {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle()
	return s.report
}

// settle looks which of the lost are here again or needed no more. The caller holds mu.
func (s *Scrubber) settle() {
	var missing int64
	for n, lost := range s.lost {
		back := s.cfg.Chunks.Have(n)
		for i := range uint32(len(lost) * 8) {
			if lost.Has(i) && back.Has(i) {
				lost.Clear(i)
				s.report.Repaired++
			}
		}
		if s.cfg.Live != nil {
			dead := lost.Clone()
			dead.AndNot(s.cfg.Live(n))
			lost.AndNot(dead)
		}
		if s.lost[n] = lost; lost.Count() == 0 {
			delete(s.lost, n)
		}
		missing += int64(lost.Count())
	}
	for d := range s.blocks {
		if s.cfg.Pack.Has(d) {
			delete(s.blocks, d)
			s.report.Repaired++
		}
	}
	s.report.Missing = missing + int64(len(s.blocks))
}

// Run scrubs until ctx ends: what was begun goes on, and all is read once in passEvery.
func (s *Scrubber) Run(ctx context.Context) error {
	defer s.save()
	tick := time.NewTicker(scrubLook)
	defer tick.Stop()
	rate := int64(0)
	for {
		if s.due(time.Now()) {
			err := s.Pass(ctx, rate)
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err != nil && !errors.Is(err, errAgain) {
				s.cfg.Log.Warn("the scrub stopped and goes on later: look at the disk", "error", err)
			}
			rate = 0
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case rate = <-s.again:
			s.restart(time.Now())
		case <-tick.C:
		}
	}
}

// due says whether a pass is to begin or to go on. Nothing is read as long as nothing is held.
func (s *Scrubber) due(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.at.Under && now.Sub(s.at.Began) >= passEvery && s.cfg.Held() > 0 {
		s.at.restart(now)
	}
	return s.at.Under
}

func (s *Scrubber) restart(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at.restart(now)
}

// rate is the usual rate for so many bytes.
func (s *Scrubber) rate() int64 {
	if s.cfg.Rate > 0 {
		return s.cfg.Rate
	}
	return min(max(DefaultScrubRate, s.cfg.Held()/int64(passEvery/time.Second)), maxScrubRate)
}

// Pass goes on with the pass that is under way, or makes one, and ends with it. rate is in bytes per second; 0 is the usual one.
func (s *Scrubber) Pass(ctx context.Context, rate int64) error {
	if rate <= 0 {
		rate = s.rate()
	}
	s.mu.Lock()
	if !s.at.Under {
		s.at.restart(time.Now())
	}
	s.report.Running = true
	from, blocks := s.at.Segment, s.at.Blocks
	s.mu.Unlock()
	defer s.stopped()
	p := &pass{Scrubber: s, bucket: policy.NewBucket(rate, content.MaxChunkSize), buf: make([]byte, content.MaxChunkSize)}
	if !blocks {
		if err := p.metadata(ctx); err != nil {
			return err
		}
	}
	for _, n := range s.cfg.Chunks.Segments() {
		if n < from {
			continue
		}
		if err := p.segment(ctx, n); err != nil {
			return err
		}
	}
	s.finish(time.Now())
	return nil
}

func (s *Scrubber) stopped() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.report.Running = len(s.again) > 0
}

func (s *Scrubber) finish(now time.Time) {
	s.mu.Lock()
	s.at.Under, s.at.Finished = false, now
	s.at.Passes++
	s.settle()
	s.report.Passes, s.report.Finished = s.at.Passes, now
	r, took := s.report, now.Sub(s.at.Began)
	s.mu.Unlock()
	s.save()
	s.cfg.Log.Info("scrub finished", "checked", r.Checked, "bytes", r.Bytes, "took", took.Round(time.Millisecond), "bad", r.Bad,
		"repaired", r.Repaired, "missing", r.Missing)
}

// Mend has metadata that was lost fetched again, until ctx ends.
func (s *Scrubber) Mend(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	seen := int64(0)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		s.mu.Lock()
		s.settle()
		var lost []content.Digest
		for d := range s.blocks {
			lost = append(lost, d)
		}
		s.mu.Unlock()
		bad := s.cfg.Pack.Stats().Bad // also those that were found when a peer asked for them
		if s.cfg.Blocks == nil || bad == seen && len(lost) == 0 {
			continue
		}
		mctx, cancel := context.WithTimeout(ctx, mendPatience)
		err := s.cfg.Blocks(mctx, lost)
		cancel()
		if err == nil {
			seen = bad
			s.forget(lost)
		} else if ctx.Err() == nil {
			s.cfg.Log.Debug("metadata that was damaged is not here again yet", "error", err)
		}
	}
}

// forget drops blocks that no release needs: all that are needed are here.
func (s *Scrubber) forget(lost []content.Digest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle()
	for _, d := range lost {
		delete(s.blocks, d)
	}
}

// pass is one pass under way.
type pass struct {
	*Scrubber
	bucket *policy.Bucket
	buf    []byte
}

// read notes what was read and waits as long as the rate wants. Of what was damaged the size is not known: it counts as large.
func (p *pass) read(ctx context.Context, n int, damaged bool) error {
	p.mu.Lock()
	p.at.Checked, p.at.Bytes = p.at.Checked+1, p.at.Bytes+int64(n)
	p.report.Checked, p.report.Bytes = p.at.Checked, p.at.Bytes
	p.mu.Unlock()
	if damaged {
		n = content.MaxChunkSize
	}
	wait := p.bucket.Take(time.Now(), int64(n))
	if !guard.On(guard.ScrubRate) {
		wait = 0
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case rate := <-p.again: // not lost: Run takes it next
		p.Begin(rate)
		return errAgain
	case <-timer.C:
		return ctx.Err()
	}
}

// metadata reads the trust files and the pack.
func (p *pass) metadata(ctx context.Context) error {
	if p.cfg.Trust != nil {
		checked, bad, err := p.cfg.Trust()
		if bad > 0 {
			p.cfg.Log.Warn("trust files on disk were damaged and are written anew: look at the disk", "files", bad)
		}
		p.mu.Lock()
		p.at.Checked += int64(checked)
		p.report.Bad += int64(bad)
		if err == nil {
			p.report.Repaired += int64(bad)
		}
		p.mu.Unlock()
		if err != nil {
			return err
		}
	}
	for _, d := range p.cfg.Pack.Digests() {
		before := p.cfg.Pack.Stats().Bad
		n, err := p.cfg.Pack.Check(d)
		switch {
		case errors.Is(err, store.ErrNotHere):
			p.badBlock(d)
		case err != nil:
			return err
		case p.cfg.Pack.Stats().Bad > before && n > 0 && p.cfg.Pack.Has(d):
			p.badBlock(d) // its head only: it was put anew
		}
		if err := p.read(ctx, n, false); err != nil {
			return err
		}
	}
	if err := p.cfg.Pack.Sync(); err != nil {
		return err
	}
	p.mu.Lock()
	p.at.Blocks = true
	p.mu.Unlock()
	return nil
}

func (p *pass) badBlock(d content.Digest) {
	p.cfg.Log.Warn("a metadata block was damaged on disk, it is fetched again: look at the disk", "block", d.BlockCID())
	p.mu.Lock()
	defer p.mu.Unlock()
	p.blocks[d] = true
	p.report.Bad++
}

// segment reads the chunks of a segment.
func (p *pass) segment(ctx context.Context, n uint32) error {
	have := p.cfg.Chunks.Have(n)
	for i := range uint32(len(have) * 8) {
		if !have.Has(i) {
			continue
		}
		ref := content.Ref{Segment: n, Index: i}
		size, err := p.cfg.Chunks.Check(ref, p.buf)
		bad := errors.Is(err, store.ErrNotHere)
		switch {
		case bad && p.cfg.Silent:
			p.Lost(ref)
		case err != nil && !bad:
			return err
		}
		if err := p.read(ctx, size, bad); err != nil {
			return err
		}
	}
	p.mu.Lock()
	p.at.Segment = n + 1
	old := time.Since(p.saved) >= savePosition
	p.mu.Unlock()
	if old {
		p.save()
	}
	return nil
}
