package publish

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"swarmnode/content"
	"swarmnode/content/store"
	"swarmnode/gossip"
	"swarmnode/gossip/trust"
)

// maxTakenNumbers is how many release numbers in a row may have been taken by publishes that were cut off while signing.
const maxTakenNumbers = 16

// Publish makes the present state of the tree the next release and gives the signed bundle, which the caller announces. With
// nothing changed it signs nothing. now is the time of the release. progress, if not nil, is called now and then, never twice
// at the same time. After an error, or a crash at any moment, the last release stands and the next Publish starts over.
//
// The errors to tell apart: *[ScanError], *[ChangedError], [ErrEmpty], [store.ErrDiskFull], *content.Missing (blocks of the last
// release that have to be fetched first).
func (p *Publisher) Publish(ctx context.Context, now time.Time, o Options, progress func(Progress)) (Result, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.changing.Lock()
	defer p.changing.Unlock()
	began := time.Now()
	o.heavy = p.heavy
	r := &run{Publisher: p, now: now, progress: newReporter(progress), prepare: o.Prepare, check: o.Check}
	res, err := r.publish(ctx, o)
	if err != nil {
		return Result{}, diskFull(err)
	}
	if r.pull != nil {
		res.Pulled = r.pulled
		res.Pulled.Lost = r.stillLost()
	}
	res.Took = time.Since(began)
	p.cfg.Log.Debug("published", "collection", p.cfg.Name, "release", res.Release, "unchanged", res.Unchanged, "files", res.Totals.Files,
		"bytes", res.Totals.Bytes, "new_bytes", res.NewBytes, "seconds", res.Took.Seconds())
	return res, nil
}

// diskFull makes every error of a full disk one of store.ErrDiskFull.
func diskFull(err error) error {
	if !errors.Is(err, store.ErrDiskFull) && (errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)) {
		return fmt.Errorf("%w: %w", store.ErrDiskFull, err)
	}
	return err
}

// run is one Publish.
type run struct {
	*Publisher
	now      time.Time
	progress *reporter
	last     *past
	changes  *Changes
	placer   *placer
	edits    content.Edits
	prepare  bool // ask for signatures instead of signing
	check    func(context.Context) error
	digests  digests
	*pull    // nil: what is published is a directory
}

// digests hands the new and changed files with their content to each, in order.
type digests func(ctx context.Context, each func(*Digested) error) error

// publish is journey 1 up to the signature.
func (r *run) publish(ctx context.Context, o Options) (Result, error) {
	if r.cfg.Origin != nil {
		return r.publishOrigin(ctx, o)
	}
	root, err := OpenTree(r.cfg.Root)
	if err != nil {
		return Result{}, err
	}
	defer root.Close()
	if err := r.start(ctx); err != nil {
		return Result{}, err
	}
	r.progress.stage("scan", 0)
	spill := r.path(snapshotName + ".scan")
	defer os.Remove(spill)
	if r.changes, err = Scan(ctx, r.now, root, r.before(r.last), spill, o.ScanOptions); err != nil {
		return Result{}, err
	}
	if r.last.manifest != nil && r.changes.Upserts+len(r.changes.Deletes) == 0 && !o.Again {
		return r.unchanged()
	}
	if err := r.crash("scanned"); err != nil {
		return Result{}, err
	}
	r.progress.stage("hash", r.changes.Upserts)
	if err := r.begin(); err != nil {
		return Result{}, err
	}
	r.placer = r.newPlacer(r.last)
	return r.make(ctx, o, func(ctx context.Context, each func(*Digested) error) error {
		hooks := Hooks{Read: r.progress.read, Link: r.cfg.References.Link}
		return Digest(ctx, root, r.last.params, r.changes.Files(), hooks, each)
	})
}

// start recalls the last release and brings the index in line with it.
func (r *run) start(ctx context.Context) (err error) {
	if err := r.cfg.References.CheckRoom(); err != nil {
		return fmt.Errorf("publish %s: %w", r.cfg.Root, err)
	}
	if r.last, err = r.recall(); err != nil {
		return err
	}
	return r.tidyIndex(ctx, r.last)
}

// make makes a release of the changes. digests gives the new and changed files with their content, in order.
func (r *run) make(ctx context.Context, o Options, digests digests) (Result, error) {
	r.digests = digests
	tree, err := r.buildTree(ctx)
	if err != nil {
		return Result{}, err
	}
	if r.last.manifest != nil && r.edits.Empty() && !o.Again {
		r.settle(ctx, nil, r.last.manifest.Release)
		r.keepSnapshot(tree)
		return r.unchanged()
	}
	r.progress.stage("tree", r.changes.Upserts)
	res, err := r.release(ctx, tree)
	if err != nil || res.Request != nil {
		return res, err
	}
	r.keepSnapshot(tree)
	return res, nil
}

func (r *run) unchanged() (res Result, err error) {
	m := r.last.manifest
	res = Result{Unchanged: true, Release: m.Release, Manifest: r.last.digest, Totals: m.Totals, Skipped: r.changes.Skipped}
	if r.prepare {
		if res.Request, err = r.cfg.Signer.PrepareRenewal(r.now); err == nil && res.Request == nil {
			err = fmt.Errorf("%w, and release %d has all that is in %s", errNothingToSign, m.Release, r.cfg.Root)
		}
	}
	return res, err
}

// buildTree makes the file tree, with the chunks of what is new or changed placed and referred to.
func (r *run) buildTree(ctx context.Context) (tree content.Digest, err error) {
	if err := r.placer.look(r.changes.Upserts); err != nil {
		return content.Digest{}, err
	}
	defer func() { r.placer.old.stop() }()
	if r.last.manifest == nil {
		tree, err = r.firstTree(ctx)
	} else {
		tree, err = r.nextTree(ctx)
	}
	if err != nil {
		return content.Digest{}, err
	}
	return tree, r.crash("tree")
}

// digest hands the entry of each new or changed file to each; changed is false if only the time of the inode was new.
func (r *run) digest(ctx context.Context, each func(e content.Entry, changed bool) error) error {
	err := r.digests(ctx, func(d *Digested) error {
		e, changed, err := r.placer.place(d)
		if err != nil {
			return fmt.Errorf("place %q: %w", d.Path, err)
		}
		r.progress.file()
		return each(e, changed)
	})
	if err == nil && r.pull == nil {
		err = r.placer.flush()
	}
	if err == nil {
		err = r.crash("hashed")
	}
	return err
}

// firstTree builds the tree of a first release while the files are hashed: its entries are never all in memory.
func (r *run) firstTree(ctx context.Context) (content.Digest, error) {
	stopped := errors.New("stopped")
	tree, _, err := content.BuildTree(func(yield func(content.Entry, error) bool) {
		err := r.digest(ctx, func(e content.Entry, _ bool) error {
			if !yield(e, nil) {
				return stopped
			}
			return nil
		})
		if err != nil && !errors.Is(err, stopped) {
			yield(content.Entry{}, err)
		}
	}, r.cfg.Pack.Put)
	return tree, err
}

// nextTree applies what changed to the last tree.
func (r *run) nextTree(ctx context.Context) (content.Digest, error) {
	err := r.digest(ctx, func(e content.Entry, changed bool) error {
		if changed {
			r.edits.Upserts = append(r.edits.Upserts, e)
		}
		return nil
	})
	if err != nil {
		return content.Digest{}, err
	}
	old, err := r.last.find(len(r.changes.Deletes))
	if err != nil {
		return content.Digest{}, err
	}
	defer old.stop()
	for _, path := range r.changes.Deletes {
		was, err := r.placer.gone(old, path)
		if err != nil {
			return content.Digest{}, fmt.Errorf("take out %q: %w", path, err)
		}
		if was {
			r.edits.Deletes = append(r.edits.Deletes, path)
		}
	}
	if r.edits.Empty() {
		return r.last.manifest.Tree, nil
	}
	return content.UpdateTree(r.last.manifest.Tree, r.cfg.Pack, r.edits, r.cfg.Pack.Put)
}

// release makes all of the manifest durable, then signs it.
func (r *run) release(ctx context.Context, tree content.Digest) (Result, error) {
	pl := r.placer
	if r.pull != nil {
		if err := pl.flush(); err != nil { // only now: a segment that no release needs goes on growing
			return Result{}, err
		}
	}
	if err := pl.spare(ctx, tree, r.edits.Upserts); err != nil {
		return Result{}, err
	}
	unused, err := pl.leaveUnused()
	if err != nil {
		return Result{}, err
	}
	delta := content.Delta{Edits: r.edits, Segments: pl.segments, Dead: append(pl.dying.runs(), unused...)}
	if len(pl.segments) > 0 {
		delta.First = pl.first
	}
	m := &content.Manifest{Collection: r.cfg.Signer.ID(), Name: r.cfg.Name, Release: 1, Created: r.now.Unix(), Tree: tree,
		Chunking: content.Encode(r.last.params), Totals: pl.totals, LiveBytes: uint64(pl.newBytes)}
	res := Result{Totals: pl.totals, NewBytes: pl.newBytes, NewChunks: pl.newChunks, Segments: len(pl.segments), Skipped: r.changes.Skipped}
	dead, err := r.last.chunks(pl.dying.runs())
	if err != nil {
		return Result{}, err
	}
	for _, c := range dead {
		res.DeadBytes += int64(c.Size)
	}
	if prev := r.last.manifest; prev != nil {
		m.Release, m.Previous = prev.Release+1, r.last.digest
		m.LiveBytes += prev.LiveBytes - uint64(res.DeadBytes)
		for _, part := range content.EncodeDelta(delta) {
			d, err := r.cfg.Pack.Put(part)
			if err != nil {
				return Result{}, err
			}
			m.Delta = append(m.Delta, d)
			res.DeltaBytes += int64(len(part))
		}
	}
	infos, err := delta.ApplyDirectory(r.last.infos)
	if err != nil {
		return Result{}, fmt.Errorf("update the segment directory: %w", err)
	}
	if m.Directory, err = content.BuildDirectory(infos, r.cfg.Pack.Put); err != nil {
		return Result{}, err
	}
	if err := r.saveSnapshot(tree); err != nil {
		return res, err
	}
	if err := r.sign(ctx, m, &res); err != nil || res.Request != nil {
		return res, err
	}
	r.settle(ctx, dead, res.Release)
	return res, nil
}

// sign syncs everything that the manifest names, and it, and has it signed.
func (r *run) sign(ctx context.Context, m *content.Manifest, res *Result) error {
	r.progress.stage("sign", r.changes.Upserts)
	targets, err := r.targets(m)
	if err != nil {
		return err
	}
	if r.pull != nil {
		if err := r.cfg.Arrivals.Sync(ctx); err != nil {
			return err
		}
	}
	if err := r.cfg.References.Sync(ctx); err != nil {
		return err
	}
	if err := r.crash("referred"); err != nil {
		return err
	}
	if r.check != nil {
		if err := r.check(ctx); err != nil {
			return err
		}
	}
	m.Release = max(m.Release, r.cfg.Signer.Next())
	for last := m.Release + maxTakenNumbers; ; m.Release++ {
		block := m.Encode()
		d, err := r.cfg.Pack.Put(block)
		if err == nil {
			err = r.cfg.Pack.Sync()
		}
		if err == nil {
			err = r.crash("packed")
		}
		if err != nil {
			return err
		}
		rel := trust.Release{Name: m.Name, Number: m.Release, Manifest: d, Size: int64(len(block)), Bytes: m.Totals.Bytes, Files: m.Totals.Files,
			Targets: targets}
		if r.prepare {
			if res.Request, err = r.cfg.Signer.Prepare(r.now, rel); err == nil && res.Request == nil {
				err = errNothingToSign
			}
		} else {
			res.Bundle, err = r.cfg.Signer.Sign(r.now, rel)
		}
		if (errors.Is(err, gossip.ErrFork) || errors.Is(err, gossip.ErrOld)) && m.Release < last {
			continue // a publish that was cut off while signing has taken the number; nobody has seen its release
		}
		res.Release, res.Manifest = m.Release, d
		if err == nil {
			err = r.crash("signed")
		}
		return err
	}
}

// placedChunk is a chunk and its place.
type placedChunk struct {
	content.Chunk
	ref content.Ref
}

// chunks lists the chunks of runs in segments of the last release.
func (l *past) chunks(runs []content.Run) ([]placedChunk, error) {
	var out []placedChunk
	for _, r := range runs {
		t, err := l.table(r.Segment)
		if err != nil {
			return nil, err
		}
		for i := r.First; i < r.First+r.Count; i++ {
			out = append(out, placedChunk{t.Chunk(i), content.Ref{Segment: r.Segment, Index: i}})
		}
	}
	return out, nil
}

// settle ends the changes of the index and of the links: release is the newest by now. It stands: if this fails, the next
// publish makes up for it.
func (r *run) settle(ctx context.Context, dead []placedChunk, release uint64) {
	err := r.forget(dead)
	for _, f := range r.placer.replaced {
		if err == nil {
			err = r.cfg.References.Retire(f.path, f.inode, release)
		}
	}
	for _, path := range r.edits.Deletes {
		if err == nil {
			err = r.cfg.References.Retire(path, 0, release)
		}
	}
	if err == nil {
		_, err = r.remember(r.now)
	}
	if err == nil {
		err = r.cfg.References.Sync(ctx)
	}
	if err == nil {
		err = r.finish()
	}
	if err != nil {
		r.cfg.Log.Warn("the next publish fills the index again and takes longer: look at the disk of the home directory", "error", err)
	}
}

// forget makes the index not find dead chunks any more.
func (r *run) forget(dead []placedChunk) error {
	for _, c := range dead {
		if ref, ok := r.cfg.References.Find(c.Digest); ok && ref == c.ref {
			if err := r.cfg.References.Forget(c.Digest); err != nil {
				return err
			}
		}
	}
	return nil
}
