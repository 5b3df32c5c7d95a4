package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"swarmnode/content"
	"swarmnode/gossip"
)

// ErrNothingPublished says that the peer that was asked publishes no collection itself.
var ErrNothingPublished = errors.New("publishes no collection itself: say which one to mirror with --collection ID, as its publisher's `swarmnode publish` prints it")

// Join makes this node a mirror of collections: those of ids, or those that the node at addr publishes, which proves it. With
// ids, addr may be empty. It gives what is mirrored; fetching goes on in the background. Run is running.
func (n *Node) Join(ctx context.Context, addr string, ids []content.ID) ([]content.ID, error) {
	var from gossip.PeerID
	if addr != "" {
		var err error
		if from, err = n.host.Connect(ctx, addr); err != nil {
			return nil, err
		}
	}
	if len(ids) > 0 {
		for _, id := range ids {
			if err := n.follow(id, addr); err != nil {
				return nil, err
			}
		}
		return ids, nil
	}
	if from == "" {
		return nil, errors.New("join: neither an address nor a collection is given")
	}
	claims, err := n.net.Claims(ctx, from)
	if err != nil {
		return nil, fmt.Errorf("ask %s what it publishes: %w", addr, err)
	}
	if len(claims) == 0 {
		return nil, fmt.Errorf("%s %w", addr, ErrNothingPublished)
	}
	for _, c := range claims {
		if err := n.followClaim(ctx, from, addr, c); err != nil {
			return nil, fmt.Errorf("%s says that it publishes %s: %w", addr, c.Collection, err)
		}
		ids = append(ids, c.Collection)
	}
	return ids, nil
}

// followClaim mirrors what a peer says it publishes, if the collection's keys say so too.
func (n *Node) followClaim(ctx context.Context, from gossip.PeerID, addr string, claim gossip.Claim) error {
	if claim.Peer != from {
		return fmt.Errorf("the proof is for another node, %s", claim.Peer)
	}
	isNew := n.collection(claim.Collection) == nil
	if err := n.follow(claim.Collection, addr); err != nil {
		return err
	}
	c := n.collection(claim.Collection)
	err := c.listener.PullFrom(ctx, from)
	if err == nil {
		err = c.trust.VerifyClaim(time.Now(), claim)
	}
	if err != nil && isNew {
		err = errors.Join(err, n.forget(c))
	}
	return err
}

// follow opens a collection as a mirror, if it is not open yet, and remembers the address that it was joined by.
func (n *Node) follow(id content.ID, addr string) error {
	r := record{Version: recordVersion, ID: id}
	c := n.collection(id)
	if c != nil {
		c.mu.Lock()
		r = c.record
		c.mu.Unlock()
	}
	if addr != "" && !slices.Contains(r.Bootstrap, addr) {
		r.Bootstrap = append(slices.Clone(r.Bootstrap), addr)
	} else if c != nil {
		return nil
	}
	if err := r.write(n.cfg.Home); err != nil {
		return fmt.Errorf("collection %s: %w", id, err)
	}
	if c != nil {
		c.mu.Lock()
		c.record = r
		c.mu.Unlock()
		return nil
	}
	return n.openRecord(r)
}

// forget closes a collection and removes what is on disk of it.
func (n *Node) forget(c *collection) error {
	n.mu.Lock()
	delete(n.collections, c.id)
	n.mu.Unlock()
	n.host.Unadvertise(c.id)
	return errors.Join(c.close(), os.RemoveAll(c.dir))
}
