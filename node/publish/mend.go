package publish

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"

	"swarmnode/content"
	"swarmnode/content/origin"
	"swarmnode/content/store"
)

// mendSkip is how many bytes that are not needed are read to come to those that are: more cost as much as asking anew.
const mendSkip = 1 << 20

// mending is what one Publish of an origin does about chunks of the last release whose bytes are damaged here. The index has no place
// for them any more: who read them last, the scrubber or a peer, found that out.
type mending struct {
	lost  dying           // the chunks; taking guards them
	doubt map[string]bool // files that are not what they were, although the origin lists them so
}

// mended is what a Publisher remembers of it from one Publish to the next. Its mu guards it.
type mended struct {
	sound bool  // nothing was lost when
	bad   int64 // so many chunks had been found damaged
}

// look finds out which chunks are lost. Those that are as they should be after all have a place again.
func (r *run) look(ctx context.Context) error {
	r.lost, r.doubt = dying{}, map[string]bool{}
	bad := r.cfg.References.Stats().Bad
	if r.last.manifest == nil || r.mended == (mended{true, bad}) {
		return nil // nothing was found since nothing was lost
	}
	for n, info := range r.last.infos {
		if err := ctx.Err(); err != nil {
			return err
		}
		if info.Retired() {
			continue
		}
		missing := info.Live()
		missing.AndNot(r.cfg.References.Have(uint32(n)))
		for i := range info.Chunks {
			if !missing.Has(i) {
				continue
			}
			t, err := r.last.table(uint32(n))
			if err != nil {
				return err
			}
			if r.cfg.Arrivals.Holds(uint32(n), t, i) {
				if err := r.refer(content.Ref{Segment: uint32(n), Index: i}, t); err != nil {
					return err
				}
				continue
			}
			r.lost.add([]content.Run{{Segment: uint32(n), First: i, Count: 1}})
		}
	}
	r.mended = mended{len(r.lost) == 0, bad}
	return nil
}

// refer says that a chunk of the last release is in its place.
func (r *run) refer(ref content.Ref, t *content.Table) error {
	return r.cfg.References.Refer(ref, store.ArrivalFile(ref.Segment), int64(t.Offset(ref.Index)))
}

// stillLost counts what is lost of the release that is the newest now.
func (r *run) stillLost() (n int) {
	if r.placer != nil {
		r.lost.remove(r.placer.dying.runs())
	}
	for _, b := range r.lost {
		n += b.Count()
	}
	return n
}

// askPeers gets from mirrors what is lost: they have it already, and the origin is not bothered.
func (r *run) askPeers(ctx context.Context) error {
	if r.cfg.Peers == nil || len(r.lost) == 0 {
		return nil
	}
	for _, n := range slices.Sorted(maps.Keys(r.lost)) {
		want := r.lost[n].Clone()
		t, err := r.last.table(n)
		if err != nil {
			return err
		}
		err = r.cfg.Peers(ctx, n, t, want, func(i uint32, data []byte) error {
			r.taking.Lock()
			defer r.taking.Unlock()
			return r.mendOne(content.Ref{Segment: n, Index: i}, t, data)
		})
		if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
			r.cfg.Log.Info("mirrors take too long to give what is damaged here: the origin is asked for the rest", "chunks", r.stillLost())
			break
		}
		if err != nil {
			return err
		}
	}
	return r.cfg.References.Sync(ctx)
}

// mendOne puts a lost chunk back into its place. The caller holds taking.
func (r *run) mendOne(ref content.Ref, t *content.Table, data []byte) error {
	if err := r.cfg.Arrivals.Mend(ref.Segment, t, ref.Index, data); errors.Is(err, store.ErrWrongBytes) {
		return err
	} else if err != nil {
		return &finalError{err}
	}
	r.lost.remove([]content.Run{{Segment: ref.Segment, First: ref.Index, Count: 1}})
	r.pulled.Mended++
	return r.refer(ref, t)
}

// mendKnown puts a chunk back that comes with a file, if it is a lost one. The caller holds taking.
func (r *run) mendKnown(ref content.Ref, data []byte) error {
	if b := r.lost[ref.Segment]; b == nil || !b.Has(ref.Index) {
		return nil
	}
	t, err := loadTable(r.last.blocks, r.last.infos[ref.Segment].Table)
	if err != nil {
		return err
	}
	return r.mendOne(ref, t, data)
}

// mend fetches what is still lost of files that the origin lists as they were; those that have changed are fetched as any changed
// file is. A file that turns out to be another one is in doubt, and then the origin is listed once more.
func (r *run) mend(ctx context.Context) error {
	if len(r.lost) == 0 {
		return nil
	}
	l := r.listings()
	if l == nil {
		return nil // all is fetched anew
	}
	defer l.close()
	f := newFetcher(r)
	err := content.Walk(r.last.manifest.Tree, r.last.blocks, "", func(e content.Entry) error {
		if len(r.lost) == 0 {
			return errSpared
		}
		if err := ctx.Err(); err != nil || !e.IsFile() {
			return err
		}
		runs, err := content.EntryRuns(e, r.last.blocks)
		if err != nil || !r.anyLost(runs) {
			return err
		}
		if at, ok := l.asBefore(e); ok {
			return f.mendFile(ctx, e, at, runs)
		}
		return nil
	})
	if err != nil && err != errSpared {
		return fmt.Errorf("mend what is damaged here: %w", err)
	}
	return r.cfg.References.Sync(ctx)
}

func (r *run) anyLost(runs []content.Run) bool {
	for _, x := range runs {
		b := r.lost[x.Segment]
		for i := x.First; b != nil && i < x.First+x.Count; i++ {
			if b.Has(i) {
				return true
			}
		}
	}
	return false
}

// listings are what the origin lists now, and what it listed for the last release.
type listings struct{ now, before *prior }

// listings gives both; nil without the snapshot of the last release.
func (r *run) listings() *listings {
	s, err := r.openPrevious(r.last.manifest.Tree)
	if err != nil || s.tree != r.last.manifest.Tree {
		return nil
	}
	l := &listings{now: &prior{snapshot: s}, before: &prior{snapshot: s}}
	if r.changes.seen != nil { // else nothing has changed
		l.now.snapshot = r.changes.seen
	}
	return l
}

func (l *listings) close() {
	l.now.close()
	l.before.close()
}

// asBefore gives what is listed of a file of the last release, if it is said to be still the same.
func (l *listings) asBefore(e content.Entry) (at origin.Entry, ok bool) {
	at, ok = l.now.find(e.Path)
	if !ok || !at.IsFile() || at.Size >= 0 && uint64(at.Size) != e.Size {
		return at, false
	}
	if !at.SHA256.IsZero() {
		return at, at.SHA256 == e.SHA256
	}
	was, ok := l.before.find(e.Path)
	return at, ok && at.Stamp != "" && at.Stamp == was.Stamp && at.Size == was.Size
}

// mendFile fetches what is lost of one file. What cannot be read is left as it is: the rest of the collection goes on, and status says
// what is damaged.
func (f *fetcher) mendFile(ctx context.Context, e content.Entry, at origin.Entry, runs []content.Run) error {
	var settled error // to ask once more changes nothing
	err := f.again(ctx, func() error {
		err := f.mendParts(ctx, e, at, runs)
		if settled = nil; decided(err) || errors.Is(err, store.ErrWrongBytes) {
			settled, err = err, nil
		}
		return err
	})
	err = cmp.Or(err, settled)
	refused, own := (*origin.RefusedError)(nil), (*finalError)(nil)
	switch {
	case errors.As(err, &own):
		return f.own(e.Path, own.cause)
	case errors.Is(err, store.ErrWrongBytes) && at.SHA256.IsZero():
		f.doubt[e.Path] = true
	case errors.Is(err, store.ErrWrongBytes), errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission), errors.As(err, &refused):
		f.cfg.Log.Warn("a part of a file is damaged here and the origin does not give it: see that it can be read there, and is what its metadata say", "path", e.Path, "error", err)
	case err != nil:
		return fmt.Errorf("%q: %w", e.Path, err)
	}
	if err == nil {
		f.pulled.Files++
	}
	return nil
}

// part is a chunk of a file and where it lies in it.
type part struct {
	content.Ref
	offset int64
	table  *content.Table
}

// lostParts gives the lost chunks of a file, in order.
func (f *fetcher) lostParts(runs []content.Run) (parts []part, err error) {
	offset := int64(0)
	for _, r := range runs {
		t, err := f.last.table(r.Segment)
		if err != nil {
			return nil, err
		}
		for i := r.First; i < r.First+r.Count; i++ {
			if b := f.lost[r.Segment]; b != nil && b.Has(i) {
				parts = append(parts, part{content.Ref{Segment: r.Segment, Index: i}, offset, t})
			}
			offset += int64(t.Chunk(i).Size)
		}
	}
	return parts, nil
}

// mendParts reads a file from one lost chunk to the next. Where many bytes lie between it asks anew for those behind them, if the origin
// can give a part of the same version.
func (f *fetcher) mendParts(ctx context.Context, e content.Entry, at origin.Entry, runs []content.Run) error {
	parts, err := f.lostParts(runs)
	if err != nil || len(parts) == 0 {
		return err
	}
	body, err := f.cfg.Origin.Open(ctx, at, 0, "")
	if err != nil {
		return err
	}
	defer func() {
		if body != nil {
			body.Close()
		}
	}()
	here, skips := body.Offset, !body.Whole
	for _, p := range parts {
		if skips && p.offset-here > mendSkip && body.Version != "" {
			version := body.Version
			body.Close() // first: an origin may give only one file at a time, and nobody would read this one
			if body, err = f.cfg.Origin.Open(ctx, at, p.offset, version); err != nil {
				return err
			}
			here = body.Offset
			skips = here > 0
		}
		if body.Size >= 0 && uint64(body.Size) != e.Size {
			return fmt.Errorf("it has %d bytes instead of %d: %w", body.Size, e.Size, store.ErrWrongBytes)
		}
		if here > p.offset {
			return fmt.Errorf("it was opened at %d instead of %d", here, p.offset)
		}
		if err := f.mendPart(ctx, body, p, p.offset-here); err != nil {
			return err
		}
		here = p.offset + int64(p.table.Chunk(p.Index).Size)
	}
	return nil
}

// mendPart reads over some bytes, then a chunk.
func (f *fetcher) mendPart(ctx context.Context, body io.Reader, p part, over int64) error {
	block := f.blocks.Get().(*[arriveBlock]byte)
	defer f.blocks.Put(block)
	read := func(n int) error {
		n, err := f.fill(ctx, body, block[:n])
		f.counted(n)
		if err == io.EOF {
			err = nil
		}
		return err
	}
	for ; over > 0; over -= min(over, int64(len(block))) {
		if err := read(int(min(over, int64(len(block))))); err != nil {
			return err
		}
	}
	size := int(p.table.Chunk(p.Index).Size)
	if err := read(size); err != nil {
		return err
	}
	f.taking.Lock()
	defer f.taking.Unlock()
	if b := f.lost[p.Segment]; b == nil || !b.Has(p.Index) {
		return nil // it is in the file twice
	}
	return f.mendOne(p.Ref, p.table, block[:size])
}
