package node

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"swarmnode/content"
	"swarmnode/node/export"
	"swarmnode/node/fetch"
)

const (
	// getTick is how often the progress of a get is looked at.
	getTick = 200 * time.Millisecond
	// stallTimeout is how long a get goes on without a byte when nobody connected has what is left; patience is how many times
	// that as long as somebody is being asked.
	stallTimeout = time.Minute
	patience     = 3
	// segmentBatch is how many segments are fetched at a time: 64 GiB, with a few MB of tables.
	segmentBatch = 1024
	// tableBatch is how many segment tables or run blocks are asked for at a time.
	tableBatch = 512
)

// Progress is where a get or verify stands.
type Progress struct {
	Phase string // "metadata", "checking what is here", "fetching", "finishing"
	Done  int64  // bytes
	Total int64  // bytes; 0 as long as unknown
	Peers int    // connected peers that serve the collection
}

// GetResult is a finished get.
type GetResult struct {
	Release uint64
	Files   int
	Bytes   int64 // of all files
	Fetched int64 // bytes that came from peers, metadata not counted
	Kept    int64 // bytes that were in the directory already
	Seconds float64

	LinksLeft  int      // symlinks left out because they lead to parts of the release that were not asked for
	LinksNamed []string // the first of them
}

// Get writes a path of the release into a directory: path a/b becomes dir/b, "" all of it. What dir holds already is kept as far
// as it is right. It can be ended at any moment and run again.
func (r *Release) Get(ctx context.Context, path, dir string, progress func(Progress)) (GetResult, error) {
	began := time.Now()
	progress(Progress{Phase: "metadata"})
	entries, err := r.walk(ctx, path)
	if err != nil {
		return GetResult{}, err
	}
	if err := r.tables(ctx, entries); err != nil {
		return GetResult{}, err
	}
	plan, err := export.NewPlan(dir, entries, strip(path), r.runs, r.table)
	if err != nil {
		return GetResult{}, err
	}
	need, err := plan.Prepare(ctx, func(done, total int64) {
		progress(Progress{Phase: "checking what is here", Done: done, Total: total})
	})
	if err == nil {
		err = r.fetchInto(ctx, plan, need, progress)
	}
	if err == nil {
		progress(Progress{Phase: "finishing"})
		err = plan.Finish(ctx)
	}
	if cerr := plan.Close(); err == nil {
		err = cerr
	}
	st := plan.Stats()
	return GetResult{Release: r.Head.Release, Files: st.Files, Bytes: st.Bytes, Kept: st.Kept, Fetched: st.Fetched,
		Seconds: time.Since(began).Seconds(), LinksLeft: st.LinksLeft, LinksNamed: st.LinksNamed}, err
}

// fetchInto fetches the chunks that a plan needs, so many segments at a time that their tables do not fill the memory.
func (r *Release) fetchInto(ctx context.Context, plan *export.Plan, need map[uint32]content.Bitmap, progress func(Progress)) error {
	var total int64
	segments := slices.Sorted(maps.Keys(need))
	for _, seg := range segments {
		t, err := r.table(seg)
		if err != nil {
			return err
		}
		for i := range t.Len() {
			if need[seg].Has(i) {
				total += int64(t.Chunk(i).Size)
			}
		}
	}
	r.sink.set(plan)
	defer r.sink.set(nil)
	start := r.fetch.Progress().Received
	for batch := range slices.Chunk(segments, segmentBatch) {
		for _, seg := range batch {
			t, err := r.table(seg)
			if err != nil {
				return err
			}
			r.fetch.Want(seg, t, need[seg])
			defer r.fetch.Want(seg, nil, nil) // nothing if it is all here
		}
		err := r.await(ctx, func(p fetch.Progress) {
			progress(Progress{Phase: "fetching", Done: int64(p.Received - start), Total: total, Peers: p.Holders})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// await waits until nothing is wanted any more, and gives up when this node cannot store what comes, or nothing comes.
func (r *Release) await(ctx context.Context, tell func(fetch.Progress)) error {
	ctx, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	var waiting sync.WaitGroup
	defer waiting.Wait()
	defer stop()
	waiting.Go(func() { done <- r.fetch.Wait(ctx) })
	tick := time.NewTicker(getTick)
	defer tick.Stop()
	last, moved := r.fetch.Progress().Received, time.Now()
	for {
		select {
		case err := <-done:
			return err
		case <-tick.C:
		}
		p := r.fetch.Progress()
		if p.Received != last {
			last, moved = p.Received, time.Now()
		}
		tell(p)
		if p.Trouble != nil {
			return p.Trouble
		}
		// A request under way may still bring something, but peers that take requests and give nothing are no reason to go on.
		if idle := time.Since(moved); idle > r.client.cfg.Stall && p.InFlight == 0 || idle > patience*r.client.cfg.Stall {
			return r.stalled()
		}
	}
}

// Verify compares a directory with a path of the release.
func (r *Release) Verify(ctx context.Context, path, dir string, progress func(Progress)) (export.Report, error) {
	progress(Progress{Phase: "metadata"})
	entries, err := r.walk(ctx, path)
	if err != nil {
		return export.Report{}, err
	}
	return export.Verify(ctx, dir, entries, strip(path), func(done, total int64) {
		progress(Progress{Phase: "checking", Done: done, Total: total})
	})
}

// tables fetches the segment directory, the tables and the run blocks that entries need.
func (r *Release) tables(ctx context.Context, entries []content.Entry) error {
	err := r.fill(ctx, func() (err error) {
		r.infos, err = content.LoadDirectory(r.Manifest.Directory, r.pack)
		return err
	})
	if err != nil {
		return fmt.Errorf("segment directory of release %d: %w", r.Head.Release, err)
	}
	var runs []content.Digest
	for _, e := range entries {
		for _, d := range e.RunBlocks {
			if !r.pack.Has(d) {
				runs = append(runs, d)
			}
		}
	}
	if err := r.fetchBlocks(ctx, runs); err != nil {
		return err
	}
	var used content.Bitmap
	for _, e := range entries {
		err := r.fill(ctx, func() error {
			runs, err := content.EntryRuns(e, r.pack)
			for _, run := range runs {
				used.Set(run.Segment)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	var missing []content.Digest
	for n, s := range r.infos {
		if used.Has(uint32(n)) && !s.Retired() && !r.pack.Has(s.Table) {
			missing = append(missing, s.Table)
		}
	}
	return r.fetchBlocks(ctx, missing)
}

// fetchBlocks fetches metadata blocks that are not here.
func (r *Release) fetchBlocks(ctx context.Context, missing []content.Digest) error {
	for batch := range slices.Chunk(missing, tableBatch) {
		if err := r.fill(ctx, onceMissing(batch)); err != nil {
			return err
		}
	}
	return nil
}

// onceMissing is a look that misses these blocks the first time.
func onceMissing(digests []content.Digest) func() error {
	asked := false
	return func() error {
		if asked {
			return nil
		}
		asked = true
		return &content.Missing{Blocks: digests}
	}
}

// runs gives the chunks of an entry; its blocks are here.
func (r *Release) runs(e content.Entry) ([]content.Run, error) { return content.EntryRuns(e, r.pack) }

// table gives the table of a segment; its block is here.
func (r *Release) table(segment uint32) (*content.Table, error) {
	if int(segment) >= len(r.infos) || r.infos[segment].Retired() {
		return nil, fmt.Errorf("%w: a file of the release has chunks in segment %d, which the release does not have", content.ErrFormat, segment)
	}
	data, ok := r.pack.Block(r.infos[segment].Table)
	if !ok {
		return nil, errors.New("a segment table is not here")
	}
	return content.DecodeTable(data)
}
