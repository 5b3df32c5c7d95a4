package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"swarmnode/content"
	"swarmnode/content/store"
	"swarmnode/gossip"
	"swarmnode/node/publish"
)

const (
	// heartbeatRetry is the pause before a heartbeat that was not signed is tried again, and before the first one after a start:
	// by then this node has heard if somebody else signs with the same keys.
	heartbeatRetry = time.Minute
	// announceTimeout bounds an announcement: it works on this node's disk and hands the bytes to the topic.
	announceTimeout = 10 * time.Second
	// badShown is how many changed files are remembered for the status.
	badShown = 20
)

// heartbeat announces what was signed last at the start, and signs a new timestamp every hour.
func (n *Node) heartbeat(ctx context.Context, c *collection) error {
	m := c.master
	// What is behind a release that this node has verified would only alarm those who have it.
	if h := m.signer.Head(); h.Release > 0 && h.Release >= c.trust.Head().Release {
		if err := n.announce(ctx, c); err != nil {
			n.log.Warn("a release was not announced: nothing to do, mirrors ask for it by themselves", "collection", c.id, "error", err)
		}
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		timer.Reset(heartbeatIn(m.signer.Head(), n.cfg.Now()))
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		if !heartbeatDue(m.signer.Head(), n.cfg.Now()) {
			continue
		}
		err := n.beat(ctx, c)
		m.note(err)
		if err != nil {
			n.log.Error("no heartbeat was sent, mirrors will take the release for stale: look at the keys of the collection (swarmnode keys show)", "collection", c.id, "error", err)
		}
	}
}

// beat signs a timestamp and announces it, unless the keys are in use elsewhere: signing an older release as the present
// one would raise an alarm on every mirror.
func (n *Node) beat(ctx context.Context, c *collection) error {
	if err := c.contested(n.cfg.Now()); err != nil {
		return err
	}
	if err := c.master.signer.Adopt(c.trust); err != nil { // the same release, confirmed by another home with the same keys
		return err
	}
	if c.master.signer.Retaking() {
		n.askHeads(ctx, c)
		if err := c.overtaken(n.cfg.Now()); err != nil {
			return err
		}
	}
	if c.master.signer.Overtaken() {
		return fmt.Errorf("%s: somebody has signed a greater release with keys that were replaced: run publish, it takes control back", c.name())
	}
	for _, r := range c.master.signer.Renewals(n.cfg.Now()) {
		n.log.Warn("metadata has to be signed again: the holders of its keys run what is said here", "role", r.Role, "expires", r.Expires, "run", renewCommand(c.name()))
	}
	if _, err := c.master.signer.Heartbeat(n.cfg.Now()); err != nil {
		return err
	}
	return n.announce(ctx, c)
}

// heartbeatIn is when to look whether a heartbeat is due.
func heartbeatIn(h gossip.Head, now time.Time) time.Duration {
	if h.Release == 0 {
		return gossip.Heartbeat
	}
	return min(max(h.Signed.Add(gossip.Heartbeat).Sub(now), heartbeatRetry), gossip.Heartbeat)
}

// heartbeatDue reports whether the last signature is an hour old. One from the future was made while the clock was wrong: it
// is no reason to be silent until then.
func heartbeatDue(h gossip.Head, now time.Time) bool {
	age := now.Sub(h.Signed)
	return h.Release > 0 && (age >= gossip.Heartbeat || age < 0)
}

// contested says why this node must not sign: the keys were used elsewhere, for a release that it does not have or for things
// that contradict each other.
func (c *collection) contested(now time.Time) error {
	if alarm := c.listener.Heard(now, 0).Alarm; alarm != "" {
		return fmt.Errorf("the keys of %s have signed things that contradict each other, so nothing more is signed here (%s): publish from one "+
			"home directory only, and run `swarmnode keys acknowledge %s` when that is sure; if the keys were stolen, stop this node, run `swarmnode keys "+
			"rotate snapshot timestamp release --name %s` and publish", c.name(), alarm, c.id, c.name())
	}
	if c.master.signer.Supersedes(c.trust) {
		return nil // signed with keys that were replaced since: the next release follows on it
	}
	return publish.CheckExtends(c.master.signer.Head(), []gossip.Head{c.trust.Head()})
}

// catchUp brings the verified state and what peers are told in line with what was signed.
func (n *Node) catchUp(ctx context.Context, c *collection) error {
	head := c.master.signer.Head()
	if head.Release == 0 {
		return nil
	}
	if err := c.trust.Refresh(ctx, n.cfg.Now(), c.master.signer.Source); err != nil {
		n.log.Warn("the release of this node does not verify: publish again, with the clock right and the keys of before", "collection", c.id, "error", err)
	}
	c.listener.Adopt()
	data, ok := c.pack.Block(head.Manifest)
	if !ok {
		return fmt.Errorf("collection %s: the manifest of release %d is not in %s: restore that file", c.name(), head.Release, c.dir)
	}
	man, err := content.DecodeManifest(data)
	if err != nil {
		return fmt.Errorf("collection %s: %w", c.name(), err)
	}
	infos, err := content.LoadDirectory(man.Directory, c.pack)
	if err != nil {
		return fmt.Errorf("collection %s: %w", c.name(), err)
	}
	c.master.seed.release(infos)
	c.have.Switch(man.Release, uint32(len(infos)))
	n.web.catalogue.touch()
	c.changed()
	return nil
}

// announce makes a signed release known.
func (n *Node) announce(ctx context.Context, c *collection) error {
	head := c.master.signer.Head()
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
	if err := c.topic.Publish(ctx, gossip.KindAnnouncement, raw); err != nil {
		return err
	}
	c.master.announced.Store(head.Release)
	return nil
}

// badFile is a published file that no longer had the published bytes when a chunk of it was read.
type badFile struct {
	path string
	ref  content.Ref
}

// noteBad hears of a published file that no longer has the published bytes.
func (m *master) noteBad(n *Node, name string, ref content.Ref, path string) {
	m.mu.Lock()
	if len(m.bad) < badShown {
		m.bad = append(m.bad, badFile{path, ref})
	}
	m.mu.Unlock()
	if m.origin != nil {
		n.log.Warn("content that was fetched from an origin is damaged on the disk: the next run gets it again; look at the disk", "file", path, "collection", name)
		return
	}
	n.log.Warn("a published file has changed: its old content cannot be served any more; publish again", "file", path, "collection", name)
}

// forgetBad forgets the changed files after a publish: all of them when it made a release, or found that no content from an origin is
// damaged any more, else those that are as they were published again.
func (m *master) forgetBad(all bool) {
	m.mu.Lock()
	list := m.bad
	m.bad = nil
	m.mu.Unlock()
	if all {
		return
	}
	for _, b := range list {
		if _, err := m.refs.Chunk(b.ref, nil); errors.Is(err, store.ErrNotHere) {
			m.mu.Lock()
			m.bad = append(m.bad, b)
			m.mu.Unlock()
		}
	}
}

// note keeps what came of the last heartbeat for the status.
func (m *master) note(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.silent = err
}
