package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"swarmnode/content"
	"swarmnode/content/store"
	"swarmnode/gossip"
	"swarmnode/gossip/trust"
	"swarmnode/node/control"
	"swarmnode/node/publish"
)

const (
	// meetTimeout is how long a publish waits for somebody to ask whether there are newer releases, if this node has known
	// anybody before.
	meetTimeout = 5 * time.Second
	// askHeads is how many peers are asked for the newest release before a new one is signed.
	askHeads = 8
	// emptyList is the most bytes of a peers file that lists nobody.
	emptyList = 64
	// badShown is how many changed files are remembered for the status.
	badShown = 20
)

// Publish makes the present state of a directory the next release of its collection, announces and serves it. It makes the
// collection the first time. Run is running.
func (n *Node) Publish(ctx context.Context, req control.PublishRequest, progress func(control.PublishProgress)) (control.PublishResult, error) {
	n.publishing.Lock()
	defer n.publishing.Unlock()
	began := time.Now()
	c, err := n.published(req)
	if err != nil {
		return control.PublishResult{}, err
	}
	if err := n.checkHeads(ctx, c); err != nil {
		return control.PublishResult{}, err
	}
	opt := publish.Options{ScanOptions: publish.ScanOptions{Exclude: req.Exclude, SkipBad: req.SkipBad, AllowEmpty: req.AllowEmpty}}
	res, err := c.master.publisher.Publish(ctx, time.Now(), opt, func(p publish.Progress) {
		progress(control.PublishProgress{Phase: p.Stage, Done: p.BytesRead, Files: p.Files, FilesTotal: p.FilesAll})
	})
	if err != nil {
		return control.PublishResult{}, err
	}
	if !res.Unchanged {
		c.master.forgetBad()
		if err := n.announce(ctx, c); err != nil {
			return control.PublishResult{}, err
		}
	}
	out := control.PublishResult{
		ID: c.id, Name: c.name(), Release: res.Release, Unchanged: res.Unchanged, Files: res.Totals.Files, Bytes: res.Totals.Bytes,
		NewBytes: uint64(res.NewBytes), DeltaBytes: uint64(res.DeltaBytes), Segments: res.Segments, Addrs: n.Addrs(),
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
	for _, c := range n.all() {
		if c.master == nil || c.name() != name {
			continue
		}
		c.mu.Lock()
		r := c.record
		c.mu.Unlock()
		if r.Source == dir {
			return c, nil
		}
		if !req.Move {
			return nil, fmt.Errorf("collection %s is published from %s: choose another name for %s with --name, or say --move if it is published from there now",
				name, r.Source, dir)
		}
		r.Source = dir
		return n.reopen(c, r)
	}
	for id, err := range n.brokenOnes() {
		if strings.HasSuffix(id, name) {
			return nil, fmt.Errorf("collection %s cannot be opened: %w", name, err)
		}
	}
	return n.newPublished(name, dir, req.TimestampFor)
}

// brokenOnes lists the published collections that could not be opened, by ID and name.
func (n *Node) brokenOnes() map[string]error {
	n.mu.Lock()
	defer n.mu.Unlock()
	list := map[string]error{}
	for id, err := range n.broken {
		list[id] = err
	}
	return list
}

// reopen closes a collection and opens it with another record.
func (n *Node) reopen(c *collection, r record) (*collection, error) {
	if err := r.write(n.cfg.Home); err != nil {
		return nil, fmt.Errorf("collection %s: %w", r.Name, err)
	}
	n.mu.Lock()
	delete(n.collections, c.id)
	n.mu.Unlock()
	if err := c.close(); err != nil {
		return nil, err
	}
	if err := n.openRecord(r); err != nil {
		return nil, err
	}
	return n.collection(r.ID), nil
}

// newPublished makes the keys of a collection, if there are none, and opens it.
func (n *Node) newPublished(name, dir string, life time.Duration) (*collection, error) {
	keys := filepath.Join(n.cfg.Home, keysDir, name)
	k, err := trust.OpenKeys(keys)
	if errors.Is(err, fs.ErrNotExist) {
		k, _, err = trust.Init(keys, time.Now(), trust.Lifetimes{Timestamp: life})
	}
	if err != nil {
		return nil, err
	}
	if c := n.collection(k.ID()); c != nil {
		return nil, fmt.Errorf("this node is a mirror of %s (%s), whose keys are here too: stop mirroring it in this home directory before it is published from it",
			name, k.ID())
	}
	r := record{Version: recordVersion, ID: k.ID(), Name: name, Source: dir}
	if life > 0 {
		r.Lifetime = life.String()
	}
	if err := r.write(n.cfg.Home); err != nil {
		return nil, fmt.Errorf("collection %s: %w", name, err)
	}
	if err := n.openRecord(r); err != nil {
		return nil, err
	}
	return n.collection(k.ID()), nil
}

// openMaster opens what a publisher has.
func (n *Node) openMaster(c *collection) error {
	m := &master{}
	c.master = m
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
	m.refs, err = store.OpenReferences(filepath.Join(c.dir, "publisher"), c.record.Source, filepath.Join(c.dir, "links"), store.Config{
		Log: n.log, Tables: c.table, OnBad: func(_ content.Ref, path string) { m.noteBad(n, c, path) },
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
	return n.catchUp(context.Background(), c)
}

// catchUp brings the verified state and what peers are told in line with what was signed.
func (n *Node) catchUp(ctx context.Context, c *collection) error {
	if c.master.signer.Head().Release == 0 {
		return nil
	}
	if err := c.trust.Refresh(ctx, time.Now(), c.master.signer.Source); err != nil {
		n.log.Warn("the own release does not verify", "collection", c.id, "error", err)
	}
	c.listener.Adopt()
	data, ok := c.pack.Block(c.master.signer.Head().Manifest)
	if !ok {
		return fmt.Errorf("collection %s: the manifest of release %d is not in %s: restore that file", c.record.Name, c.master.signer.Head().Release, c.dir)
	}
	man, err := content.DecodeManifest(data)
	if err != nil {
		return err
	}
	infos, err := content.LoadDirectory(man.Directory, c.pack)
	if err != nil {
		return fmt.Errorf("collection %s: %w", c.record.Name, err)
	}
	c.have.Switch(man.Release, uint32(len(infos)))
	c.changed()
	return nil
}

// announce makes a signed release known.
func (n *Node) announce(ctx context.Context, c *collection) error {
	if err := n.catchUp(ctx, c); err != nil {
		return err
	}
	b, err := c.master.signer.Bundle()
	if err != nil {
		return err
	}
	raw, err := gossip.EncodeBundle(b)
	if err != nil {
		return err
	}
	return c.topic.Publish(ctx, gossip.KindAnnouncement, raw)
}

// checkHeads asks those who may know for the newest release and refuses to sign past one that this node does not have.
func (n *Node) checkHeads(ctx context.Context, c *collection) error {
	known := c.master.signer.Head()
	if known.Release == 0 && !n.knowsOthers() {
		return nil
	}
	if n.knowsOthers() {
		n.meet(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, meetTimeout)
	defer cancel()
	for i, p := range n.connected() {
		if i == askHeads {
			break
		}
		if err := c.listener.PullFrom(ctx, p); err != nil {
			n.log.Debug("peer not asked for the newest release", "peer", p, "error", err)
		}
	}
	return publish.CheckExtends(known, []gossip.Head{c.trust.Head()})
}

// knowsOthers reports whether this node was told of peers or remembers some.
func (n *Node) knowsOthers() bool {
	if len(n.host.Bootstrap()) > 0 {
		return true
	}
	st, err := os.Stat(filepath.Join(n.cfg.Home, peersFile))
	return err == nil && st.Size() > emptyList
}

// meet waits until somebody is connected, but not for long.
func (n *Node) meet(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, meetTimeout)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for len(n.connected()) == 0 {
		select {
		case <-ctx.Done():
			n.log.Warn("none of the peers known from before answers: whether they have a newer release is not known")
			return
		case <-tick.C:
		}
	}
}

// heartbeat announces what was signed last at the start, and signs a new timestamp every hour.
func (n *Node) heartbeat(ctx context.Context, c *collection) error {
	if c.master.signer.Head().Release > 0 {
		if err := n.announce(ctx, c); err != nil {
			n.log.Warn("release not announced", "collection", c.id, "error", err)
		}
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		h := c.master.signer.Head()
		wait := gossip.Heartbeat
		if h.Release > 0 {
			wait = max(time.Until(h.Signed.Add(gossip.Heartbeat)), time.Minute)
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		if h = c.master.signer.Head(); h.Release == 0 || time.Since(h.Signed) < gossip.Heartbeat {
			continue
		}
		if _, err := c.master.signer.Heartbeat(time.Now()); err != nil {
			n.log.Error("no heartbeat was signed: mirrors will take the release for stale", "collection", c.id, "error", err)
			continue
		}
		if err := n.announce(ctx, c); err != nil {
			n.log.Warn("heartbeat not announced", "collection", c.id, "error", err)
		}
	}
}

// noteBad hears of a published file that no longer has the published bytes.
func (m *master) noteBad(n *Node, c *collection, path string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.bad) < badShown {
		m.bad = append(m.bad, path)
	}
	n.log.Warn("a published file has changed: its old content cannot be served any more; publish again", "file", path, "collection", c.record.Name)
}

func (m *master) forgetBad() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.bad = nil
}
