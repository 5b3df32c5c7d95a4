package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"time"

	"swarmnode/content"
	"swarmnode/content/origin"
	"swarmnode/content/store"
	"swarmnode/gossip/trust"
	"swarmnode/node/control"
	"swarmnode/node/mirror"
	"swarmnode/node/publish"
)

// Publish makes the present state of a directory or an origin the next release of its collection, announces and serves it. It makes
// the collection the first time. With triggers it goes on by itself from then on. Run is running, or begins soon.
func (n *Node) Publish(ctx context.Context, req control.PublishRequest, progress func(control.PublishProgress)) (control.PublishResult, error) {
	what := req.Dir
	if req.From != nil {
		what = origin.WithoutPassword(req.From.URL)
	}
	ctx, leave, err := n.enter(ctx)
	if err != nil {
		return control.PublishResult{}, fmt.Errorf("publish %s: %w", what, err)
	}
	defer leave()
	select {
	case n.publishing <- struct{}{}:
	case <-ctx.Done():
		return control.PublishResult{}, fmt.Errorf("publish %s: %w", what, context.Cause(ctx))
	}
	c, err := n.published(ctx, req)
	if err == nil && c.master.runs != nil && !req.Prepare && len(req.Signed) == 0 {
		<-n.publishing // an origin may take days
		return n.publishByRun(ctx, c, once{req.AllowEmpty, req.AllowShrink, req.Above, true}, progress)
	}
	defer func() { <-n.publishing }()
	if err != nil {
		return control.PublishResult{}, err
	}
	e := errand{above: req.Above, signed: req.Signed, ask: true, Options: publish.Options{Prepare: req.Prepare,
		ScanOptions: publish.ScanOptions{Exclude: req.Exclude, SkipBad: req.SkipBad, AllowEmpty: req.AllowEmpty}, PullOptions: publish.PullOptions{AllowShrink: req.AllowShrink}}}
	return n.makeRelease(ctx, c, e, progress)
}

// errand is what one publish is to do.
type errand struct {
	publish.Options
	above  uint64 // the release gets a greater number
	signed []byte // what holders of keys have signed
	ask    bool   // others are asked first whether they know of a newer release
}

// makeRelease publishes, announces and serves.
func (n *Node) makeRelease(ctx context.Context, c *collection, e errand, progress func(control.PublishProgress)) (control.PublishResult, error) {
	began, what := time.Now(), c.remembered().Source
	if f := c.remembered().From; f != nil {
		e.Connections, e.Rate, e.Strict = f.Connections, f.Rate, f.Strict
		defer c.master.origin.use()()
	}
	err, told := c.contested(n.cfg.Now()), true
	if e.ask {
		told, err = n.checkHeads(ctx, c, e.above)
	} else if err == nil {
		err = c.master.signer.Adopt(c.trust)
	}
	if err != nil {
		return control.PublishResult{}, fmt.Errorf("publish %s: %w", what, err)
	}
	if len(e.signed) > 0 {
		if done, err := n.acceptSigned(ctx, c, e.signed, began); err != nil || done != nil {
			return *cmp.Or(done, &control.PublishResult{}), err
		}
	}
	e.Check = func(ctx context.Context) error { return n.checkLast(ctx, c, told) }
	e.Again = c.master.signer.Supersedes(c.trust) || c.master.signer.Overtaken()
	res, err := c.master.publisher.Publish(ctx, n.cfg.Now(), e.Options, func(p publish.Progress) {
		progress(control.PublishProgress{Phase: p.Stage, Done: p.BytesRead, Total: p.BytesAll, Files: p.Files, FilesTotal: p.FilesAll})
	})
	if err != nil && errors.Is(context.Cause(ctx), errStopping) {
		err = fmt.Errorf("publish %s: %w", what, errStopping)
	}
	if err != nil {
		return control.PublishResult{}, err
	}
	if res.Request != nil {
		raw, err := res.Request.Encode()
		return control.PublishResult{ID: c.id, Name: c.name(), Files: res.Totals.Files, Bytes: res.Totals.Bytes, Request: raw}, err
	}
	c.master.forgetBad(c.master.origin == nil && !res.Unchanged || c.master.origin != nil && res.Pulled.Lost == 0)
	if c.master.announced.Load() != res.Release {
		// What is signed is to be known, also when nobody waits for it any more.
		actx, cancel := context.WithTimeout(context.WithoutCancel(ctx), announceTimeout)
		defer cancel()
		if err := n.announce(actx, c); err != nil {
			return control.PublishResult{}, fmt.Errorf("release %d of %s is signed and kept, but not announced; run publish again: %w", res.Release, c.name(), err)
		}
	}
	return n.tellRelease(c, res, time.Since(began)), nil
}

// tellRelease says in the log and in the result what was published.
func (n *Node) tellRelease(c *collection, res publish.Result, took time.Duration) control.PublishResult {
	if !res.Unchanged {
		n.told("a release is published", "name", c.name(), "collection", c.id, "release", res.Release, "files", res.Totals.Files, "bytes", res.Totals.Bytes,
			"new_bytes", res.NewBytes, "took", took.Round(time.Millisecond))
	}
	out := control.PublishResult{
		ID: c.id, Name: c.name(), Release: res.Release, Unchanged: res.Unchanged, Files: res.Totals.Files, Bytes: res.Totals.Bytes,
		NewBytes: uint64(res.NewBytes), DeltaBytes: uint64(res.DeltaBytes), Segments: res.Segments, Addrs: n.Addrs(), Gateway: n.Gateway(),
		Seconds: took.Seconds(),
	}
	if c.remembered().From != nil {
		out.Pulled = &control.Pulled{Requests: res.Pulled.Requests, Files: res.Pulled.Files, Bytes: uint64(res.Pulled.Bytes), Dated: res.Pulled.Dated}
	}
	for _, b := range res.Skipped {
		out.Skipped = append(out.Skipped, b.Err.Error())
	}
	return out
}

// wanted is the record that a request asks for, without what the collection itself has.
func (n *Node) wanted(ctx context.Context, req control.PublishRequest) (r record, url string, err error) {
	r = record{Version: recordVersion, Name: req.Name, Triggers: req.Triggers}
	if req.From != nil {
		from := *req.From
		url, from.URL = from.URL, origin.WithoutPassword(from.URL)
		r.From, r.Source = &from, from.URL
		err = n.checkOrigin(ctx, &r, url)
		r.Name = cmp.Or(r.Name, OriginName(url))
	} else if r.Source, err = filepath.Abs(req.Dir); err == nil {
		var root *os.Root
		if root, err = publish.OpenTree(r.Source); err == nil {
			root.Close()
		}
		r.Name = cmp.Or(r.Name, filepath.Base(r.Source))
	}
	if err != nil {
		return r, "", err
	}
	if r.From != nil || r.Triggers != nil {
		r.Scan = &scanning{Exclude: req.Exclude, SkipBad: req.SkipBad}
	}
	if req.TimestampFor > 0 {
		r.Lifetime = req.TimestampFor.String()
	}
	if err := content.CheckName(r.Name); err != nil {
		return r, "", fmt.Errorf("publish %s: %w; choose a name with --name", r.Source, err)
	}
	return r, url, n.checkHook(r)
}

// published finds the open collection that a request is for, or makes it.
func (n *Node) published(ctx context.Context, req control.PublishRequest) (*collection, error) {
	want, url, err := n.wanted(ctx, req)
	if err != nil {
		return nil, err
	}
	n.changing.Lock()
	defer n.changing.Unlock()
	c, r, ok := n.publishedAs(want.Name)
	if !ok {
		return n.newPublished(want, url)
	}
	switch {
	case (r.From == nil) != (want.From == nil):
		return nil, fmt.Errorf("collection %s is published from %s, and a directory and an origin are kept in different ways: choose another name for %s with --name",
			r.Name, r.Source, want.Source)
	case r.place() != want.place() && !req.Move:
		return nil, fmt.Errorf("collection %s is published from %s: choose another name for %s with --name, or say --move if it is published from there now",
			r.Name, r.Source, want.Source)
	}
	same := r.Source == want.Source && reflect.DeepEqual(r.From, want.From) && reflect.DeepEqual(r.Triggers, want.Triggers) && reflect.DeepEqual(r.Scan, want.Scan) &&
		n.triggers.url(r.ID) == url
	if same && c != nil {
		return c, nil
	}
	n.triggers.keepURL(r.ID, url)
	r.Source, r.From, r.Triggers, r.Scan = want.Source, want.From, want.Triggers, want.Scan
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
func (n *Node) newPublished(r record, url string) (*collection, error) {
	name := r.Name
	var life time.Duration
	if r.Lifetime != "" {
		life, _ = time.ParseDuration(r.Lifetime) // wanted wrote it
	}
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
	r.ID = k.ID()
	n.triggers.keepURL(r.ID, url)
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
	cfg := publish.Config{State: filepath.Join(c.dir, "publisher"), Root: c.record.Source, Name: c.record.Name, Pack: c.pack, Signer: m.signer, Log: n.log}
	tree, links := c.record.Source, filepath.Join(c.dir, "links")
	if c.record.From != nil {
		if err := n.openOrigin(c, m); err != nil {
			return err
		}
		cfg.Origin, cfg.Arrivals, cfg.Peers = m.origin, m.arrivals, n.fromPeers(c)
		tree, links = filepath.Join(c.dir, arrivalsDir), ""
	}
	m.refs, err = store.OpenReferences(cfg.State, tree, links, store.Config{
		Log: n.log, Tables: c.table, OnBad: func(ref content.Ref, path string) { m.noteBad(n, name, ref, path) },
	})
	if err != nil {
		return err
	}
	cfg.References = m.refs
	if m.publisher, err = publish.Open(cfg); err != nil {
		return err
	}
	n.openRuns(c)
	m.scrub = mirror.NewScrubber(mirror.ScrubConfig{
		Dir: c.dir, Pack: c.pack, Chunks: m.refs, Silent: true, Trust: c.trust.Scrub, Rate: n.cfg.ScrubRate, Log: n.log.With("collection", c.id),
		Held: func() int64 { return int64(m.signer.Head().Bytes) },
	})
	return n.catchUp(context.Background(), c)
}
