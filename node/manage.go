package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"swarmnode/content/durable"
	"swarmnode/node/control"
)

// Add begins to mirror a collection, beside those that are here. Of one that is mirrored already it remembers the addresses.
func (n *Node) Add(ctx context.Context, req control.AddRequest) (control.Collection, error) {
	ctx, leave, err := n.enter(ctx)
	if err != nil {
		return control.Collection{}, fmt.Errorf("add %s: %w", req.ID, err)
	}
	defer leave()
	for _, addr := range req.Bootstrap {
		if _, err := n.host.Connect(ctx, addr); err != nil {
			return control.Collection{}, err
		}
	}
	if err := n.add(req); err != nil {
		return control.Collection{}, err
	}
	c := n.collection(req.ID)
	if c == nil {
		return control.Collection{}, fmt.Errorf("collection %s was removed again", req.ID)
	}
	return n.collectionStatus(c, n.cfg.Now()).Collection, nil
}

func (n *Node) add(req control.AddRequest) error {
	n.changing.Lock()
	defer n.changing.Unlock()
	c := n.collection(req.ID)
	switch {
	case c != nil && c.master != nil:
		return fmt.Errorf("collection %s (%s) is published from this home directory: mirror it in another one, with --home", req.ID, c.name())
	case c != nil && c.remembered().CacheOnly != req.CacheOnly && req.CacheOnly:
		return fmt.Errorf("all of %s is kept here: remove it first, or start the node with --cache-only --collection %s", c.name(), req.ID)
	case c == nil:
		if err := n.followNew(req.ID, "", req.CacheOnly); err != nil {
			return err
		}
		c = n.collection(req.ID)
	}
	return c.remember(n.cfg.Home, func(r *record) {
		for _, addr := range req.Bootstrap {
			r.joinedBy(addr)
		}
	})
}

// Remove gives a collection up: it is closed and forgotten, and what was kept of it is deleted, unless that is to stay. Of a
// published one everything stays: what was signed must be known for ever.
func (n *Node) Remove(req control.RemoveRequest) (control.Removed, error) {
	n.changing.Lock()
	defer n.changing.Unlock()
	c, r, err := n.named(req.Collection)
	if err != nil {
		return control.Removed{}, err
	}
	res := control.Removed{ID: r.ID, Name: r.Name, Published: r.Source != "", Dir: r.dir(n.cfg.Home), Kept: req.Keep}
	if res.Published && !req.Keep {
		return res, fmt.Errorf("%s is published from here, and what was signed must not be forgotten: with --keep it is not served any more, "+
			"and everything stays for the next `swarmnode publish`", r.Name)
	}
	if res.Published {
		select {
		case n.publishing <- struct{}{}:
			defer func() { <-n.publishing }()
		default:
			return res, fmt.Errorf("a publish is under way: remove %s when it is done", r.Name)
		}
	}
	if res.Bytes, err = diskUse(res.Dir); err != nil || req.DryRun {
		return res, err
	}
	return res, n.forget(c, r, req.Keep)
}

// forget closes a collection and takes it off the disk: first the record, by which the next start would find it. The caller holds
// changing.
func (n *Node) forget(c *collection, r record, keep bool) error {
	if c != nil {
		n.host.Unadvertise(c.id)
		n.take(c)
		if err := c.close(); err != nil {
			n.log.Warn("a collection did not close well: look at the disk; what is missing is fetched again", "collection", c.id, "error", err)
		}
	}
	n.mu.Lock()
	delete(n.broken, r.ID.String())
	n.mu.Unlock()
	n.unhook(r.Name, "")
	dir := r.dir(n.cfg.Home)
	if err := os.Remove(filepath.Join(dir, recordFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove %s: %w", cmp.Or(r.Name, r.ID.String()), err)
	}
	if err := durable.SyncDir(dir); err != nil {
		return err
	}
	n.log.Info("a collection was removed", "name", r.Name, "collection", r.ID, "kept", keep)
	if keep {
		return nil
	}
	// Moved away first: if the deleting is cut off, the next start goes on with it.
	away := filepath.Join(n.cfg.Home, removedDir)
	if err := os.MkdirAll(away, 0o700); err != nil {
		return err
	}
	if err := os.Rename(dir, filepath.Join(away, r.ID.String())); err != nil {
		return err
	}
	return os.RemoveAll(away)
}

// named finds a collection by its ID or, if no ID is meant, by its name, which its publisher chose: one that is called like the ID of
// another is not found by that. c is nil if it could not be opened.
func (n *Node) named(name string) (c *collection, r record, err error) {
	type one struct {
		c *collection
		r record
	}
	var known []one
	for _, x := range n.all() {
		known = append(known, one{x, x.remembered()})
	}
	for _, b := range n.brokenOnes() {
		if !b.record.ID.IsZero() {
			known = append(known, one{nil, b.record})
		}
	}
	if i := slices.IndexFunc(known, func(k one) bool { return k.r.ID.String() == name }); i >= 0 {
		return known[i].c, known[i].r, nil
	}
	found := slices.DeleteFunc(known, func(k one) bool { return k.r.Name != name })
	switch len(found) {
	case 0:
		return nil, r, fmt.Errorf("no collection %s is here: `swarmnode collections` lists them", name)
	case 1:
		return found[0].c, found[0].r, nil
	}
	return nil, r, fmt.Errorf("%d collections here are called %s: say which by its ID; `swarmnode collections` lists them", len(found), name)
}

// Pause sets what collections do not do from now on, also after a restart.
func (n *Node) Pause(req control.PauseRequest) ([]control.Collection, error) {
	n.changing.Lock()
	defer n.changing.Unlock()
	list := n.all()
	if req.Collection != "" {
		c, r, err := n.named(req.Collection)
		if err == nil && c == nil {
			err = fmt.Errorf("%s cannot be opened: `swarmnode status` says why", cmp.Or(r.Name, req.Collection))
		}
		if err != nil {
			return nil, err
		}
		if c.master != nil && req.Fetching && !req.Serving {
			return nil, fmt.Errorf("%s is published from here: nothing of it is fetched", r.Name)
		}
		list = []*collection{c}
	}
	out := []control.Collection{}
	for _, c := range list {
		if err := n.pause(c, req); err != nil {
			return nil, err
		}
		out = append(out, n.collectionStatus(c, n.cfg.Now()).Collection)
	}
	return out, nil
}

// pause sets what a collection does not do: what was paused before stays so until it is resumed.
func (n *Node) pause(c *collection, req control.PauseRequest) error {
	p := c.remembered().Paused
	if req.Resume {
		p = control.Paused{}
	}
	p.Serving = p.Serving || req.Serving
	p.Fetching = (p.Fetching || req.Fetching) && c.follower != nil
	if p == c.remembered().Paused {
		return nil
	}
	if err := c.remember(n.cfg.Home, func(r *record) { r.Paused = p }); err != nil {
		return err
	}
	if c.follower != nil {
		c.follower.fetch.Hold(p.Fetching)
	}
	c.outlet.set(p.Serving)
	if p.Serving {
		n.host.Unadvertise(c.id)
	} else {
		n.host.Advertise(c.id)
	}
	n.web.catalogue.touch()
	c.changed()
	n.log.Info("what a collection does was changed", "name", c.name(), "collection", c.id, "fetching_paused", p.Fetching, "serving_paused", p.Serving)
	return nil
}

// diskUse is how many bytes the files of a directory take on disk.
func diskUse(dir string) (total int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) { // a temporary file that has gone meanwhile
			return nil
		}
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		st, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil {
			total += blocksOf(st)
		}
		return err
	})
	return total, err
}
