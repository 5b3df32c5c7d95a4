package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"swarmnode/content"
	"swarmnode/node/export"
)

const (
	// getTick is how often the progress of a get is looked at.
	getTick = 200 * time.Millisecond
	// stallTimeout is how long a get goes on without a byte when nobody connected has what is left.
	stallTimeout = time.Minute
	// tableBatch is how many segment tables are asked for at a time.
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

// fetchInto fetches the chunks that a plan needs.
func (r *Release) fetchInto(ctx context.Context, plan *export.Plan, need map[uint32]content.Bitmap, progress func(Progress)) error {
	r.sink.set(plan)
	defer r.sink.set(nil)
	var total int64
	start := int64(r.fetch.Progress().Received)
	for seg, chunks := range need {
		t, err := r.table(seg)
		if err != nil {
			return err
		}
		for i := range t.Len() {
			if chunks.Has(i) {
				total += int64(t.Chunk(i).Size)
			}
		}
		r.fetch.Want(seg, t, chunks)
	}
	defer func() {
		for seg := range need {
			r.fetch.Want(seg, nil, nil)
		}
	}()
	done := make(chan error, 1)
	go func() { done <- r.fetch.Wait(ctx) }()
	tick := time.NewTicker(getTick)
	defer tick.Stop()
	var last uint64
	moved := time.Now()
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
		progress(Progress{Phase: "fetching", Done: int64(p.Received) - start, Total: total, Peers: p.Holders})
		if p.Trouble != nil {
			return p.Trouble
		}
		if time.Since(moved) > stallTimeout && p.InFlight == 0 {
			return fmt.Errorf("nothing came for %s: %d nodes that have the collection are connected, and none has what is left; run the same command again later, "+
				"or give more addresses with --bootstrap", stallTimeout, p.Holders)
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
	for len(missing) > 0 {
		n := min(len(missing), tableBatch)
		if err := r.fill(ctx, onceMissing(missing[:n])); err != nil {
			return err
		}
		missing = missing[n:]
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
