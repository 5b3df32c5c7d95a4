package node

import (
	"context"
	"fmt"
	"time"

	"swarmnode/content"
	"swarmnode/content/store"
	"swarmnode/gossip"
)

// chunk reads a chunk for a peer.
func (n *Node) chunk(_ context.Context, id content.ID, ref content.Ref, buf []byte) ([]byte, error) {
	c := n.collection(id)
	switch {
	case c == nil:
		return nil, store.ErrNotHere
	case c.follower != nil:
		return c.follower.disk.Chunk(ref, buf)
	}
	return c.master.refs.Chunk(ref, buf)
}

// block reads a metadata block for a peer.
func (n *Node) block(id content.ID, d content.Digest) ([]byte, bool) {
	if c := n.collection(id); c != nil {
		return c.pack.Block(d)
	}
	return nil, false
}

// holdings tells a peer what this node has.
func (n *Node) holdings(ctx context.Context, id content.ID) (<-chan gossip.Holdings, error) {
	if c := n.collection(id); c != nil {
		return c.have.Watch(ctx), nil
	}
	return nil, fmt.Errorf("collection %s: %w", id, store.ErrNotHere)
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
			list = append(list, c.master.signer.Claim(n.host.ID(), time.Now()))
		}
	}
	return list
}
