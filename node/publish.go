package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"time"

	"swarmnode/content"
	"swarmnode/content/store"
	"swarmnode/gossip/trust"
	"swarmnode/node/control"
	"swarmnode/node/mirror"
	"swarmnode/node/publish"
)

// Publish makes the present state of a directory the next release of its collection, announces and serves it. It makes the
// collection the first time. Run is running, or begins soon.
func (n *Node) Publish(ctx context.Context, req control.PublishRequest, progress func(control.PublishProgress)) (control.PublishResult, error) {
	ctx, leave, err := n.enter(ctx)
	if err != nil {
		return control.PublishResult{}, fmt.Errorf("publish %s: %w", req.Dir, err)
	}
	defer leave()
	select {
	case n.publishing <- struct{}{}:
		defer func() { <-n.publishing }()
	case <-ctx.Done():
		return control.PublishResult{}, fmt.Errorf("publish %s: %w", req.Dir, context.Cause(ctx))
	}
	began := time.Now()
	c, err := n.published(req)
	if err != nil {
		return control.PublishResult{}, err
	}
	if err := n.checkHeads(ctx, c, req.Above); err != nil {
		return control.PublishResult{}, fmt.Errorf("publish %s: %w", req.Dir, err)
	}
	if len(req.Signed) > 0 {
		if done, err := n.acceptSigned(ctx, c, req.Signed, began); err != nil || done != nil {
			return *cmp.Or(done, &control.PublishResult{}), err
		}
	}
	again := c.master.signer.Supersedes(c.trust) || c.master.signer.Overtaken()
	opt := publish.Options{Prepare: req.Prepare, Again: again, ScanOptions: publish.ScanOptions{Exclude: req.Exclude, SkipBad: req.SkipBad, AllowEmpty: req.AllowEmpty}}
	res, err := c.master.publisher.Publish(ctx, n.cfg.Now(), opt, func(p publish.Progress) {
		progress(control.PublishProgress{Phase: p.Stage, Done: p.BytesRead, Files: p.Files, FilesTotal: p.FilesAll})
	})
	if err != nil && errors.Is(context.Cause(ctx), errStopping) {
		err = fmt.Errorf("publish %s: %w", req.Dir, errStopping)
	}
	if err != nil {
		return control.PublishResult{}, err
	}
	if res.Request != nil {
		raw, err := res.Request.Encode()
		return control.PublishResult{ID: c.id, Name: c.name(), Files: res.Totals.Files, Bytes: res.Totals.Bytes, Request: raw}, err
	}
	c.master.forgetBad(!res.Unchanged)
	if c.master.announced.Load() != res.Release {
		// What is signed is to be known, also when nobody waits for it any more.
		actx, cancel := context.WithTimeout(context.WithoutCancel(ctx), announceTimeout)
		defer cancel()
		if err := n.announce(actx, c); err != nil {
			return control.PublishResult{}, fmt.Errorf("release %d of %s is signed and kept, but not announced; run publish again: %w", res.Release, c.name(), err)
		}
	}
	if !res.Unchanged {
		n.told("a release is published", "name", c.name(), "collection", c.id, "release", res.Release, "files", res.Totals.Files, "bytes", res.Totals.Bytes,
			"new_bytes", res.NewBytes, "took", time.Since(began).Round(time.Millisecond))
	}
	out := control.PublishResult{
		ID: c.id, Name: c.name(), Release: res.Release, Unchanged: res.Unchanged, Files: res.Totals.Files, Bytes: res.Totals.Bytes,
		NewBytes: uint64(res.NewBytes), DeltaBytes: uint64(res.DeltaBytes), Segments: res.Segments, Addrs: n.Addrs(), Gateway: n.Gateway(),
		Seconds: time.Since(began).Seconds(),
	}
	for _, b := range res.Skipped {
		out.Skipped = append(out.Skipped, b.Err.Error())
	}
	return out, nil
}

// published finds the open collection that a request is for, or makes it.
func (n *Node) published(req control.PublishRequest) (*collection, error) {
	dir, err := filepath.Abs(req.Dir)
	if err != nil {
		return nil, fmt.Errorf("publish %s: %w", req.Dir, err)
	}
	root, err := publish.OpenTree(dir)
	if err != nil {
		return nil, err
	}
	root.Close()
	name := req.Name
	if name == "" {
		name = filepath.Base(dir)
	}
	if err := content.CheckName(name); err != nil {
		return nil, fmt.Errorf("publish %s: %w; choose a name with --name", dir, err)
	}
	n.changing.Lock()
	defer n.changing.Unlock()
	c, r, ok := n.publishedAs(name)
	switch {
	case !ok:
		return n.newPublished(name, dir, req.TimestampFor)
	case r.Source != dir && !req.Move:
		return nil, fmt.Errorf("collection %s is published from %s: choose another name for %s with --name, or say --move if it is published from there now",
			name, r.Source, dir)
	case r.Source == dir && c != nil:
		return c, nil
	}
	r.Source = dir
	return n.reopen(c, r)
}

// publishedAs finds the published collection of a name; c is nil if it could not be opened.
func (n *Node) publishedAs(name string) (c *collection, r record, ok bool) {
	for _, c := range n.all() {
		if r := c.remembered(); c.master != nil && r.Name == name {
			return c, r, true
		}
	}
	for _, b := range n.brokenOnes() {
		if b.record.Source != "" && b.record.Name == name {
			return nil, b.record, true
		}
	}
	return nil, record{}, false
}

// brokenOnes lists the collections that could not be opened, by directory.
func (n *Node) brokenOnes() map[string]broken {
	n.mu.Lock()
	defer n.mu.Unlock()
	return maps.Clone(n.broken)
}

// reopen opens a collection with another record, after closing it if it is open. The caller holds changing.
func (n *Node) reopen(c *collection, r record) (*collection, error) {
	if err := r.write(n.cfg.Home); err != nil {
		return nil, fmt.Errorf("collection %s: %w", r.Name, err)
	}
	if c != nil {
		n.take(c)
		if err := c.close(); err != nil {
			n.log.Warn("a collection did not close well: look at the disk; what is missing is fetched again", "collection", c.id, "error", err)
		}
	}
	if err := n.openRecord(r); err != nil {
		return nil, fmt.Errorf("collection %s: %w", r.Name, err)
	}
	return n.collection(r.ID), nil
}

// newPublished makes the keys of a collection, if there are none, and opens it. The caller holds changing.
func (n *Node) newPublished(name, dir string, life time.Duration) (*collection, error) {
	keys := filepath.Join(n.cfg.Home, keysDir, name)
	k, err := trust.OpenKeys(keys)
	if errors.Is(err, fs.ErrNotExist) {
		k, _, err = trust.Init(keys, n.cfg.Now(), trust.Lifetimes{Timestamp: life})
	}
	if err != nil {
		return nil, err
	}
	if c := n.collection(k.ID()); c != nil && c.master != nil { // a file system that takes Name for name
		return nil, fmt.Errorf("the keys in %s are those of %s: choose another name with --name", keys, c.name())
	} else if c != nil {
		return nil, fmt.Errorf("this node is a mirror of %s (%s), whose keys are here too: stop mirroring it in this home directory before it is published from it",
			name, k.ID())
	}
	if b, ok := n.brokenOnes()[k.ID().String()]; ok {
		return nil, fmt.Errorf("collection %s cannot be opened: %w", name, b.err)
	}
	r := record{Version: recordVersion, ID: k.ID(), Name: name, Source: dir}
	if life > 0 {
		r.Lifetime = life.String()
	}
	return n.reopen(nil, r)
}

// openMaster opens what a publisher has.
func (n *Node) openMaster(c *collection) error {
	m := &master{seed: newSeeder()}
	c.master = m
	name := c.record.Name
	life := trust.Lifetimes{}
	if c.record.Lifetime != "" {
		d, err := time.ParseDuration(c.record.Lifetime)
		if err != nil {
			return fmt.Errorf("collection %s: lifetime: %w", c.record.Name, err)
		}
		life.Timestamp = d
	}
	var err error
	if m.keys, err = trust.OpenKeys(filepath.Join(n.cfg.Home, keysDir, c.record.Name)); err != nil {
		return err
	}
	if m.keys.ID() != c.id {
		return fmt.Errorf("the keys of %s are those of %s, not of %s", c.record.Name, m.keys.ID(), c.id)
	}
	if m.signer, err = trust.OpenSigner(m.keys, filepath.Join(c.dir, "signer"), life); err != nil {
		return err
	}
	m.seed.begun = m.signer.Head().Release == 0 // else what is there now is not new to anybody
	m.refs, err = store.OpenReferences(filepath.Join(c.dir, "publisher"), c.record.Source, filepath.Join(c.dir, "links"), store.Config{
		Log: n.log, Tables: c.table, OnBad: func(ref content.Ref, path string) { m.noteBad(n, name, ref, path) },
	})
	if err != nil {
		return err
	}
	m.publisher, err = publish.Open(publish.Config{
		State: filepath.Join(c.dir, "publisher"), Root: c.record.Source, Name: c.record.Name, Pack: c.pack, References: m.refs,
		Signer: m.signer, Log: n.log,
	})
	if err != nil {
		return err
	}
	m.scrub = mirror.NewScrubber(mirror.ScrubConfig{
		Dir: c.dir, Pack: c.pack, Chunks: m.refs, Silent: true, Trust: c.trust.Scrub, Rate: n.cfg.ScrubRate, Log: n.log.With("collection", c.id),
		Held: func() int64 { return int64(m.signer.Head().Bytes) },
	})
	return n.catchUp(context.Background(), c)
}
