package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"swarmnode/content/store"
	"swarmnode/gossip/trust"
	"swarmnode/node/control"
	"swarmnode/node/mirror"
)

// scrubber gives the scrubber of a collection.
func (c *collection) scrubber() *mirror.Scrubber {
	if c.follower != nil {
		return c.follower.scrub
	}
	return c.master.scrub
}

// Scrub begins a scrub of all collections now. rate is in bytes per second for each; 0 is the usual one.
func (n *Node) Scrub(rate int64) {
	for _, c := range n.all() {
		c.scrubber().Begin(rate)
	}
}

// ScrubHome scrubs the mirrored collections of a home directory that no node uses, and calls each with what was found. What is
// damaged is no longer there afterwards; the next start fetches it again. rate is in bytes per second; 0 is the usual one.
func ScrubHome(ctx context.Context, home string, rate int64, log *slog.Logger, each func(control.Collection) error) (err error) {
	if _, err := os.Stat(home); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("nothing is kept in %s, which is not there: name the home directory of a node with --home", home)
	}
	lock, err := takeHome(home)
	if err != nil {
		return err
	}
	defer lock.Close()
	n := &Node{cfg: Config{Home: home}, log: log, broken: map[string]broken{}}
	records, err := n.readRecords()
	if err != nil {
		return err
	}
	for _, b := range n.broken {
		err = errors.Join(err, b.err)
	}
	for _, r := range records {
		if r.Source != "" {
			log.Warn("a published collection is scrubbed only while its node runs: start it with swarmnode publish", "name", r.Name)
			continue
		}
		x, serr := n.scrubRecord(ctx, r, rate)
		if serr != nil {
			return errors.Join(err, fmt.Errorf("scrub %s: %w", r.ID, serr))
		}
		if serr := each(x); serr != nil {
			return serr
		}
	}
	return err
}

// scrubRecord scrubs a mirrored collection that is not open.
func (n *Node) scrubRecord(ctx context.Context, r record, rate int64) (x control.Collection, err error) {
	c := &collection{id: r.ID, dir: r.dir(n.cfg.Home), record: r}
	x.ID, x.Name, x.Phase = r.ID, r.Name, "stopped"
	if c.pack, err = store.OpenPack(filepath.Join(c.dir, packFile)); err != nil {
		return x, err
	}
	defer func() { err = errors.Join(err, c.pack.Close()) }()
	if c.trust, err = trust.Open(filepath.Join(c.dir, "trust"), r.ID); err != nil {
		return x, err
	}
	var s *mirror.Scrubber
	cfg := store.Config{Log: n.log, Tables: c.table}
	disk, err := store.OpenDisk(filepath.Join(c.dir, segmentsDir), cfg)
	if err != nil {
		return x, err
	}
	defer func() { err = errors.Join(err, disk.Close()) }()
	s = mirror.NewScrubber(mirror.ScrubConfig{Dir: c.dir, Pack: c.pack, Chunks: disk, Silent: true, Trust: c.trust.Scrub, Rate: rate, Log: n.log,
		Held: func() int64 { return disk.Stats().Used + c.pack.Bytes() }})
	err = s.Pass(ctx, rate)
	x.Scrub = control.Scrub(s.Report())
	x.BytesOnDisk = disk.Stats().Used + c.pack.Bytes()
	x.BytesHere, x.Head = disk.Stats().Used, c.trust.Head().Release
	return x, err
}
