package node

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"time"

	"swarmnode/content"
	"swarmnode/node/mirror"
	"swarmnode/node/publish"
)

const (
	// lookAfterEvery is how often the node looks after what nobody asks for.
	lookAfterEvery = time.Minute
	// cleanEvery is how often a publisher lets go of what is past its grace.
	cleanEvery = time.Hour
	// tellExpiringEvery is how often the log says that a publisher has not renewed what it signed.
	tellExpiringEvery = 24 * time.Hour
)

// housekeeping looks after the collections from time to time: it opens those whose published directory is there again, and
// tells of panics in the verifier.
func (n *Node) housekeeping(ctx context.Context) error {
	tick := time.NewTicker(lookAfterEvery)
	defer tick.Stop()
	told := map[content.ID]uint64{}    // panics of the verifier
	late := map[content.ID]time.Time{} // when it was told last that metadata was not renewed
	saved := time.Now()                // when the coordinate was written
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		n.openReturned()
		n.measureRest()
		if now := time.Now(); now.Sub(saved) >= placeEvery {
			saved = now
			if err := n.place.save(n.cfg.Home); err != nil {
				n.log.Warn("where this node is in the network is not remembered: look at the disk of the home directory", "error", err)
			}
		}
		for _, c := range n.all() {
			if p := c.trust.Stats().Panics; p > told[c.id] {
				told[c.id] = p
				n.log.Warn("somebody sends files that make the verifier panic, they are refused: update swarmnode, and report it", "collection", c.id, "panics", p)
			}
			n.tellExpiring(c, n.cfg.Now(), late)
		}
	}
}

// tellExpiring says once a day that the publisher of a mirrored collection has not renewed something in time.
func (n *Node) tellExpiring(c *collection, now time.Time, told map[content.ID]time.Time) {
	if c.master != nil || now.Sub(told[c.id]) < tellExpiringEvery {
		return
	}
	for _, e := range c.trust.Expiring(now) {
		told[c.id] = now
		n.log.Warn("the publisher has not renewed metadata: tell the publisher", "collection", c.id, "role", e.Role, "expires", e.Expires)
	}
}

// openReturned opens the collections that could not be opened because their directory was not there, such as that of a disk
// mounted later.
func (n *Node) openReturned() {
	n.changing.Lock()
	defer n.changing.Unlock()
	for _, b := range n.brokenOnes() {
		if b.record.Source == "" || b.record.From != nil || !errors.Is(b.err, fs.ErrNotExist) {
			continue
		}
		root, err := publish.OpenTree(b.record.Source)
		if err != nil {
			continue
		}
		root.Close()
		if err := n.openRecord(b.record); err == nil {
			n.log.Info("the published directory is there again", "name", b.record.Name, "directory", b.record.Source)
		}
	}
}

// clean has a publisher let go of content past its grace from time to time.
func (n *Node) clean(ctx context.Context, c *collection) error {
	grace := cmp.Or(n.cfg.Grace, mirror.DefaultGrace)
	tick := time.NewTicker(min(cleanEvery, grace))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := c.master.publisher.Clean(time.Now(), grace); err != nil {
			n.log.Warn("what is past its grace stays: look at the disk; it is tried again by itself", "collection", c.id, "error", err)
		}
		n.web.catalogue.touch()
	}
}
