package publish

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"sync"
	"time"

	"swarmnode/content"
	"swarmnode/content/origin"
	"swarmnode/content/store"
)

const (
	// maxRounds is how often files are fetched that changed while others were.
	maxRounds = 3
	// handful is how many files may always go: of three files two are more than half.
	handful = 10
	// maxLeftOut is how many files that cannot be read are left out, or may be gone although they are listed; an origin with more has
	// another problem.
	maxLeftOut = 10_000
	// checkpoint is how long what has arrived stays unsynced at most: so much of a slow line's work a kill may cost.
	checkpoint = 5 * time.Second
)

// pull is one Publish of an origin: it lists, fetches what the last release does not have, and does so again until a listing says
// that nothing has changed while it fetched. What it fetches is kept from one Publish to the next until a release has it.
type pull struct {
	o      Options
	seen   *seenLog
	lister lister
	pulled Pulled
	saved  bool // the snapshot of the next release is written
	mending

	taking  sync.Mutex // guards what follows, and that one chunk is taken in at a time
	synced  time.Time
	stale   map[string]error // files that are not as the last listing says
	gone    map[string]bool  // files that were not there although they were listed
	heavies map[string]bool  // files that turned out to be heavy; see Listed.Heavy
	badRead []Bad            // files that cannot be read
	left    map[string]bool  // their paths
	listed  int              // files of the last listing
}

// publishOrigin is journey 1 for an origin, up to the signature.
func (r *run) publishOrigin(ctx context.Context, o Options) (Result, error) {
	r.pull = &pull{o: o, synced: time.Now(), gone: map[string]bool{}, left: map[string]bool{}, heavies: map[string]bool{}}
	if err := r.start(ctx); err != nil {
		return Result{}, err
	}
	defer r.lister.close()
	changed := false
	err := r.beside(func() (err error) { changed, err = r.listAndMend(ctx); return err })
	if err != nil {
		return Result{}, err
	}
	if r.last.manifest != nil && !changed && !o.Again {
		return r.unchanged()
	}
	if err := r.crash("scanned"); err != nil {
		return Result{}, err
	}
	if r.seen, err = openSeen(r.path(seenName)); err != nil {
		return Result{}, err
	}
	defer r.seen.close()
	if err := r.begin(); err != nil {
		return Result{}, err
	}
	r.placer = r.newPlacer(r.last)
	r.placer.now = r.now.Unix()
	if err := r.adopt(ctx); err != nil {
		return Result{}, err
	}
	err = r.beside(func() error { return r.settleDown(ctx) })
	if err == nil {
		err = r.checkLeft()
	}
	if err != nil {
		return Result{}, errors.Join(err, r.keepArrived())
	}
	r.changes.Skipped = append(r.changes.Skipped, r.badRead...)
	if o.Strict && len(r.changes.Skipped) > 0 {
		return Result{}, &ScanError{Root: r.cfg.Root, Bad: r.changes.Skipped, Strict: true}
	}
	r.progress.stage("tree", r.changes.Upserts)
	res, err := r.make(ctx, o, r.arrived)
	if err == nil && res.Request == nil {
		r.seen.forget() // a release has it; if it stays, the next run finds that
	}
	return res, err
}

// checkLeft refuses an origin that gives less than half of what it lists: it is not the files that are wrong then. Once there is a release
// that has been decided, and what it has is not left out.
func (r *run) checkLeft() error {
	n := len(r.left)
	if n <= handful || 2*n <= r.listed || r.o.AllowShrink || r.last.manifest != nil {
		return nil
	}
	return fmt.Errorf("%s does not give %d of the %d files that it lists, the first is %w; have it let them be read, --exclude them, or publish the rest with --allow-shrink", r.cfg.Root, n, r.listed, r.badRead[0].Err)
}

// beside does what may take days while Clean may do its work: step changes nothing but what has arrived and is in no release yet.
func (r *run) beside(step func() error) error {
	r.changing.Unlock()
	defer r.changing.Lock()
	return step()
}

// listAndMend lists the origin, and puts right what is damaged here of files that it lists as they were.
func (r *run) listAndMend(ctx context.Context) (changed bool, err error) {
	if err = r.look(ctx); err == nil {
		err = r.askPeers(ctx)
	}
	if err == nil {
		changed, err = r.list(ctx)
	}
	if err == nil {
		err = r.mend(ctx)
	}
	if err == nil && len(r.doubt) > 0 {
		changed, err = r.list(ctx)
	}
	return changed, err
}

// settleDown fetches until a listing says that nothing has changed meanwhile.
func (r *run) settleDown(ctx context.Context) error {
	for round := 0; ; round++ {
		if round > 0 {
			if _, err := r.list(ctx); err != nil {
				return err
			}
		}
		files, bytes, fresh, err := r.plan(ctx)
		if err != nil || files == 0 {
			return err
		}
		if round == maxRounds {
			return r.unsettled(ctx)
		}
		if err := r.cfg.Arrivals.CheckBudget(fresh); err != nil {
			return fmt.Errorf("fetch %d files of %s: %w; give more with --disk, or leave files out with --exclude", files, r.cfg.Root, err)
		}
		r.stale = map[string]error{}
		r.progress.fetching(files, bytes)
		for _, last := range []bool{false, true} {
			if len(r.stale) > 0 {
				break // an index of files that are not there is of no use
			}
			if err := r.fetch(ctx, last); err != nil {
				return err
			}
		}
		if err := r.keepArrived(); err != nil {
			return err
		}
		if err := r.crash("fetched"); err != nil {
			return err
		}
	}
}

// unsettled says which file did not hold still.
func (r *run) unsettled(ctx context.Context) error {
	err := &UnsettledError{Root: r.cfg.Root}
	for rec, rerr := range r.changes.seen.records() {
		if rerr != nil {
			return rerr
		}
		if has, herr := r.has(ctx, &rec); herr != nil {
			return herr
		} else if has {
			continue
		}
		cause := r.stale[rec.Path]
		if err.Files++; err.Path == "" || err.Cause == nil && cause != nil {
			err.Path, err.Cause = rec.Path, cause
		}
	}
	return err
}

// UnsettledError says that an origin was different each time it was listed.
type UnsettledError struct {
	Root  string
	Files int    // that were not as listed the last time
	Path  string // the first of them of which more is known, else the first
	Cause error  // what is wrong with it; nil if it is only listed differently
}

func (e *UnsettledError) Error() string {
	cause, stale := "it is listed differently each time", (*staleError)(nil)
	if errors.As(e.Cause, &stale) {
		cause = stale.cause.Error() // without the path once more
	} else if e.Cause != nil {
		cause = e.Cause.Error()
	}
	which := fmt.Sprintf("%q is not as listed", e.Path)
	if e.Files > 1 {
		which = fmt.Sprintf("%d files are not as listed, one is %q", e.Files, e.Path)
	}
	return fmt.Sprintf("%s did not hold still: after %d rounds %s (%s); nothing is published, the next run goes on from here", e.Root, maxRounds, which, cause)
}

// Unwrap gives the cause.
func (e *UnsettledError) Unwrap() error { return e.Cause }

// plan counts what is to be fetched, and the bytes of it that take room for certain. Without the snapshot of the last release nobody
// knows how much of it is new.
func (r *run) plan(ctx context.Context) (files int, bytes, fresh int64, err error) {
	r.listed = 0
	for rec, err := range r.changes.seen.records() {
		if err != nil {
			return 0, 0, 0, err
		}
		if rec.isFile() {
			r.listed++
		}
		has, err := r.has(ctx, &rec)
		if err != nil {
			return 0, 0, 0, err
		}
		if has {
			continue
		}
		files++
		if bytes += max(0, rec.Size); bytes < 0 { // sizes that lie
			bytes = math.MaxInt64 / 2
		}
		alike, err := r.alike(&rec)
		if err != nil {
			return 0, 0, 0, err
		}
		if !alike {
			if fresh += max(0, rec.Size); fresh < 0 || fresh > bytes {
				fresh = bytes
			}
		}
	}
	if r.lister.blind {
		bytes, fresh = 0, 0
	}
	return files, bytes, fresh, nil
}

// alike reports whether a file as large and as old as a record is here: it is read once more to be sure, and most likely takes no room.
func (r *run) alike(rec *record) (bool, error) {
	if was, err := r.seen.newest(rec.Path); err != nil || was.Done && was.Offset == rec.Size && was.Mtime/1e9 == rec.Mtime/1e9 {
		return err == nil, err
	}
	if r.last.manifest == nil {
		return false, nil
	}
	e, err := content.Lookup(r.last.manifest.Tree, r.last.blocks, rec.Path)
	if errors.Is(err, content.ErrNoEntry) {
		return false, nil
	}
	return err == nil && e.IsFile() && int64(e.Size) == rec.Size && e.Mtime == rec.Mtime/1e9, err
}

// has reports whether the content of a record is here.
func (r *run) has(ctx context.Context, rec *record) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	if !rec.changed || !rec.isFile() || rec.kept || r.leftOut(rec.Path) {
		return true, nil
	}
	if old, ok, err := r.old(rec); err != nil || ok && sameSum(rec, old) {
		return err == nil, err
	}
	return r.seen.has(&rec.File)
}

// old finds what the last release has of a record whose content the metadata of the origin tell.
func (r *run) old(rec *record) (e content.Entry, ok bool, err error) {
	if rec.Listed.SHA256.IsZero() || r.last.manifest == nil {
		return e, false, nil
	}
	e, err = content.Lookup(r.last.manifest.Tree, r.last.blocks, rec.Path)
	if errors.Is(err, content.ErrNoEntry) {
		return e, false, nil
	}
	return e, err == nil, err
}

// sameSum reports whether the metadata of the origin say that a file is what the last release has.
func sameSum(rec *record, old content.Entry) bool {
	return old.IsFile() && old.SHA256 == rec.Listed.SHA256 && (rec.Size < 0 || old.Size == uint64(rec.Size))
}

// fetch fetches the files that are not here: indexes, or the others.
func (r *run) fetch(ctx context.Context, last bool) error {
	f := newFetcher(r)
	return f.all(ctx, cmp.Or(r.o.Connections, origin.DefaultConnections), func(yield func(File, error) bool) {
		for rec, err := range r.changes.seen.records() {
			has := false
			if err == nil {
				has, err = r.has(ctx, &rec)
			}
			if err != nil || !has && rec.Last == last {
				if !yield(rec.File, err) {
					return
				}
			}
		}
	})
}

// arrived gives the new and changed files with their content.
func (r *run) arrived(ctx context.Context, each func(*Digested) error) error {
	for rec, err := range r.changes.seen.records() {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		if !rec.changed || r.leftOut(rec.Path) {
			continue
		}
		d := &Digested{File: rec.File, Undated: rec.isFile() && rec.Mtime == 0}
		if rec.isFile() {
			if err := r.content(&rec, d); err != nil {
				return err
			}
		}
		if rec.isFile() && rec.Size < 0 && d.Size >= r.heavy && !rec.Heavy {
			r.heavies[rec.Path] = true
			r.changes.heavy = append(r.changes.heavy, rec.Path)
		}
		if err := each(d); err != nil {
			return err
		}
	}
	return nil
}

// content fills in what was fetched of a file, or what the last release has of it.
func (r *run) content(rec *record, d *Digested) error {
	old, was, err := r.placer.old.entry(rec.Path)
	if err != nil {
		return err
	}
	if was && old.IsFile() && (rec.kept || sameSum(rec, old)) {
		d.SHA256, d.Size = old.SHA256, int64(old.Size)
		return nil
	}
	done, err := r.seen.read(rec.Path)
	if err != nil {
		return err
	}
	if !done.whole(&rec.File) {
		return fmt.Errorf("%q: %w", rec.Path, errLost)
	}
	d.SHA256, d.Size, d.Chunks = content.Digest(done.Sum), done.Offset, done.chunks
	if done.Mtime != 0 {
		d.Mtime, d.Undated = done.Mtime, false
	}
	return nil
}

// leftOut reports whether a path of the listing could not be read.
func (p *pull) leftOut(path string) bool {
	p.taking.Lock()
	defer p.taking.Unlock()
	return p.left[path]
}

// adopt goes on with what earlier runs have fetched and no release has: of files that are still to be fetched as they were listed
// then. All other bytes are void.
func (r *run) adopt(ctx context.Context) error {
	wanted, err := r.seen.renew(func(yield func(File, error) bool) {
		for rec, err := range r.changes.seen.records() {
			if (err != nil || rec.changed && rec.isFile()) && !yield(rec.File, err) {
				return
			}
		}
	})
	if err != nil {
		return err
	}
	if _, err := os.Stat(r.path(nextSnapshotName)); err == nil {
		wanted = nil // the release before is perhaps about to be signed elsewhere, and may want anything
	}
	segments, err := r.cfg.Arrivals.Start(r.placer.first)
	if err != nil {
		return err
	}
	for _, s := range segments {
		if err := ctx.Err(); err != nil {
			return err
		}
		void := wanted.void(s.Table)
		if err := r.placer.addSegment(s.Number, s.Table, void); err != nil {
			return err
		}
		if err := r.adoptChunks(s.Number, s.Table, void); err != nil {
			return err
		}
		if err := r.void(s.Number, s.Table, void); err != nil {
			return err
		}
	}
	if number, t := r.cfg.Arrivals.Growing(); t != nil {
		void := wanted.void(t)
		if err := r.adoptChunks(number, t, void); err != nil {
			return err
		}
		if err := r.void(number, nil, void); err != nil {
			return err
		}
	}
	return r.seen.check(func(d content.Digest) bool {
		_, ok := r.placer.known(d)
		return ok
	})
}

// void frees what of a segment no file needs. The index forgets it before, so that nobody looks for it and finds it damaged.
func (r *run) void(number uint32, t *content.Table, void content.Bitmap) error {
	if len(void) == 0 {
		return nil
	}
	if err := r.cfg.References.UnreferAll(number, void); err != nil {
		return err
	}
	return r.cfg.Arrivals.Void(number, t, void)
}

// adoptChunks says where the chunks of a segment are: a kill may have lost that.
func (r *run) adoptChunks(number uint32, t *content.Table, void content.Bitmap) error {
	for i := range t.Len() {
		if !void.Has(i) {
			ref := content.Ref{Segment: number, Index: i}
			if err := r.cfg.References.Refer(ref, store.ArrivalFile(number), int64(t.Offset(i))); err != nil {
				return err
			}
		}
	}
	return nil
}

// keepArrived makes durable what has arrived, so that the next run goes on from here.
func (r *run) keepArrived() error {
	r.taking.Lock()
	defer r.taking.Unlock()
	r.synced = time.Now()
	if err := r.cfg.Arrivals.Sync(context.Background()); err != nil {
		return err
	}
	return r.seen.sync()
}

// again is origin.Retry, or what a test has instead.
func (p *Publisher) again(ctx context.Context, try func() error) error {
	if p.tries != nil {
		return p.tries(ctx, try)
	}
	return origin.Retry(ctx, try)
}

// removeSpill removes a listing that is not used any more.
func removeSpill(s *snapshot) {
	if s != nil {
		os.Remove(s.path)
	}
}
