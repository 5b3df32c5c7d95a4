package node

import (
	"context"
	"fmt"
	"slices"

	"swarmnode/content"
	"swarmnode/content/store"
	"swarmnode/gossip"
	"swarmnode/node/p2p"
)

// chunk reads a chunk for a peer.
func (n *Node) chunk(ctx context.Context, id content.ID, ref content.Ref, buf []byte) ([]byte, error) {
	c := n.collection(id)
	switch {
	case c == nil:
		return nil, store.ErrNotHere
	case c.follower != nil:
		return c.follower.chunk(ref, buf)
	}
	seeds := c.seeds(p2p.Asker(ctx))
	if seeds && !c.master.seed.give(ref) {
		return nil, store.ErrNotHere
	}
	data, err := c.master.refs.Chunk(ref, buf)
	if err != nil && seeds {
		c.master.seed.back(ref)
	}
	return data, err
}

// unsent takes back a chunk that did not get through to a peer.
func (n *Node) unsent(ctx context.Context, id content.ID, ref content.Ref) {
	if c := n.collection(id); c != nil && c.master != nil && c.seeds(p2p.Asker(ctx)) {
		c.master.seed.back(ref)
	}
}

// seeds reports whether what this peer asks for may be held back: it is a mirror, which passes on what it gets and hears what
// others have, and there are enough of them. A client that only takes gets what it asks for.
func (c *collection) seeds(asker gossip.PeerID) bool {
	if !c.master.seed.active() {
		return false
	}
	mirrors := slices.DeleteFunc(c.topic.Peers(), func(p gossip.PeerID) bool { return isCache(c.listener.Member(p)) })
	return len(mirrors) >= seedAudience && slices.Contains(mirrors, asker)
}

// isCache reports whether a member keeps only what is asked for: it serves a release and does not have all of it. What it is given may be
// gone in a minute, so that nobody else can be sent to it.
func isCache(m gossip.Member, known bool) bool { return known && m.Release > 0 && !m.Complete }

// block reads a metadata block for a peer.
func (n *Node) block(id content.ID, d content.Digest) ([]byte, bool) {
	if c := n.collection(id); c != nil {
		return c.pack.Block(d)
	}
	return nil, false
}

// holdings tells a peer what this node has.
func (n *Node) holdings(ctx context.Context, id content.ID) (<-chan gossip.Holdings, error) {
	c := n.collection(id)
	if c == nil {
		return nil, fmt.Errorf("collection %s: %w", id, store.ErrNotHere)
	}
	ctx, stop := context.WithCancel(ctx)
	undo := context.AfterFunc(c.tasks.ctx, stop) // the peer asks again and hears of the collection as it was opened anew
	context.AfterFunc(ctx, func() {
		undo()
		stop()
	})
	if c.master != nil {
		return c.master.seed.watch(ctx, c.have.Watch(ctx)), nil
	}
	return c.have.Watch(ctx), nil
}

// file gives a trust file to a peer.
func (n *Node) file(id content.ID, name string) ([]byte, error) {
	c := n.collection(id)
	if c == nil {
		return nil, fmt.Errorf("collection %s: %w", id, store.ErrNotHere)
	}
	return c.trust.File(name)
}

// claims says what this node publishes.
func (n *Node) claims() []gossip.Claim {
	var list []gossip.Claim
	for _, c := range n.all() {
		if c.master != nil && c.master.signer.Head().Release > 0 && len(list) < gossip.MaxClaims {
			list = append(list, c.master.signer.Claim(n.host.ID(), n.cfg.Now()))
		}
	}
	return list
}
