package node

import (
	"fmt"

	"swarmnode/content"
	"swarmnode/node/control"
	"swarmnode/node/mirror"
)

// budget says how many bytes the disk of a mirrored collection may hold, and what counts against it beside the chunks. One that
// keeps only what is asked for has a budget of its own if none is given for the node.
func (n *Node) budget(c *collection) (bytes int64, overhead func() int64) {
	if c.record.CacheOnly && n.cfg.Disk == 0 {
		return mirror.DefaultCache, c.pack.Bytes
	}
	return n.cfg.Disk, func() int64 {
		return c.pack.Bytes() + n.usedByOthers(c) + n.rest.bytes.Load() + c.follower.exportBytes()
	}
}

// held reports whether somebody else has a release, or a newer one: a connected peer that serves it, or a member with all of it.
func (n *Node) held(c *collection, release uint64) bool {
	if c.follower.fetch.Serves(release) {
		return true
	}
	for _, m := range c.listener.Heard(n.cfg.Now(), 0).Members {
		if m.Complete && m.Release >= release && m.Peer != n.host.ID() {
			return true
		}
	}
	return false
}

// changeMode opens a mirrored collection anew as one that keeps everything, or only what is asked for: then what is over the
// budget goes, and the rest stays until something else needs the room. The caller holds changing.
func (n *Node) changeMode(c *collection, r record, addr string) error {
	if r.Export != "" {
		return fmt.Errorf("all of %s is kept, in %s: take it off with `swarmnode collections remove` before it is joined with --cache-only", c.name(), r.Export)
	}
	r.CacheOnly = n.cfg.CacheOnly
	if addr != "" {
		r.joinedBy(addr)
	}
	if _, err := n.reopen(c, r); err != nil {
		return err
	}
	if r.CacheOnly {
		n.log.Info("only what is asked for is kept from now on; what is here stays as far as the budget goes", "name", c.name(), "collection", c.id)
	} else {
		n.log.Info("all of it is kept from now on: join again with --cache-only to keep only what is asked for", "name", c.name(), "collection", c.id)
	}
	return nil
}

// took notes that a chunk which is here goes to a reader.
func (f *follower) took(ref content.Ref) {
	f.fetch.Took(ref)
	if f.cache != nil {
		f.cache.Hit(ref)
	}
}

// chunk reads a chunk for a peer. That is use, too.
func (f *follower) chunk(ref content.Ref, buf []byte) ([]byte, error) {
	data, err := f.disk.Chunk(ref, buf)
	if err == nil && f.cache != nil {
		f.cache.Use(ref)
	}
	return data, err
}

func (f *follower) cacheStatus() *control.Cache {
	if f.cache == nil {
		return nil
	}
	s := f.cache.Stats()
	return &control.Cache{Bytes: s.Used, Budget: s.Budget, Hits: s.Hits, Misses: s.Misses}
}

// late reports whether the newest release is not served yet.
func late(x control.Collection) bool {
	return !x.Complete && (x.Cache == nil || x.Release < x.Head || x.Release == 0)
}
