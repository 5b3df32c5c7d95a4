package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"swarmnode/content"
	"swarmnode/gossip"
	"swarmnode/gossip/trust"
)

const (
	// maxFollowed is how many collections one node can make this one mirror by saying that it publishes them: keys cost nothing.
	maxFollowed = gossip.MaxClaims
	// claimsTimeout bounds the checks of all claims of a node.
	claimsTimeout = time.Minute
)

// ErrNothingPublished says that the peer that was asked publishes no collection itself.
var ErrNothingPublished = errors.New("publishes no collection itself: say which one to mirror with --collection ID, as its publisher's `swarmnode publish` prints it")

// Join makes this node a mirror of collections: those of ids, or those that the node at addr publishes, which proves it. With
// ids, addr may be empty. It gives what is mirrored; fetching goes on in the background. Run is running, or begins soon.
func (n *Node) Join(ctx context.Context, addr string, ids []content.ID) ([]content.ID, error) {
	ctx, leave, err := n.enter(ctx)
	if err != nil {
		return nil, fmt.Errorf("join: %w", err)
	}
	defer leave()
	var from gossip.PeerID
	if addr != "" {
		if from, err = n.host.Connect(ctx, addr); err != nil {
			return nil, err
		}
	}
	if len(ids) == 0 {
		return n.joinPublished(ctx, from, addr)
	}
	for _, id := range ids {
		if err := n.follow(id, addr); err != nil {
			return nil, err
		}
	}
	return ids, nil
}

// joinPublished mirrors what a peer publishes. A claim that proves wrong is left out; it is an error if nothing else is there.
func (n *Node) joinPublished(ctx context.Context, from gossip.PeerID, addr string) ([]content.ID, error) {
	if from == "" {
		return nil, errors.New("join: neither an address nor a collection is given")
	}
	claims, err := n.net.Claims(ctx, from)
	if err != nil {
		return nil, fmt.Errorf("join %s: %w", addr, err)
	}
	if len(claims) == 0 {
		return nil, fmt.Errorf("%s %w", addr, ErrNothingPublished)
	}
	ctx, cancel := context.WithTimeout(ctx, claimsTimeout)
	defer cancel()
	var ids []content.ID
	var errs []error
	for _, claim := range claims {
		err := n.followClaim(ctx, from, addr, claim)
		if err == nil {
			ids = append(ids, claim.Collection)
			continue
		}
		errs = append(errs, fmt.Errorf("%s says that it publishes %s: %w", addr, claim.Collection, err))
		if ctx.Err() != nil {
			break
		}
	}
	if len(ids) == 0 {
		return nil, errors.Join(errs...)
	}
	for _, err := range errs {
		n.log.Warn("a collection is not mirrored: the error says why; join it again by its ID", "error", err)
	}
	return ids, nil
}

// followClaim mirrors what a peer says it publishes, if the collection's keys say so too. Nothing is kept of it before.
func (n *Node) followClaim(ctx context.Context, from gossip.PeerID, addr string, claim gossip.Claim) error {
	if claim.Peer != from {
		return fmt.Errorf("the proof is for another node, %s", claim.Peer)
	}
	c := n.collection(claim.Collection)
	if c == nil {
		if err := n.mayFollow(from); err != nil {
			return err
		}
		if err := n.checkClaim(ctx, from, claim); err != nil {
			return err
		}
	} else if c.trust.VerifyClaim(n.cfg.Now(), claim) != nil {
		if err := c.listener.PullFrom(ctx, from); err != nil {
			return err
		}
		if err := c.trust.VerifyClaim(n.cfg.Now(), claim); err != nil {
			return err
		}
	}
	if err := n.follow(claim.Collection, addr); err != nil {
		return err
	}
	if c = n.collection(claim.Collection); c != nil {
		if c.remembered().Publisher != from {
			if err := c.remember(n.cfg.Home, func(r *record) { r.Publisher = from }); err != nil {
				return err
			}
		}
		if err := c.listener.PullFrom(ctx, from); err != nil {
			n.log.Debug("pull of the head", "from", from, "error", err) // it is asked again
		}
	}
	return nil
}

// mayFollow refuses when a peer has made this node mirror as many collections as one peer may.
func (n *Node) mayFollow(from gossip.PeerID) error {
	count := 0
	for _, c := range n.all() {
		if slices.ContainsFunc(c.remembered().Bootstrap, func(a string) bool { return strings.HasSuffix(a, "/p2p/"+string(from)) }) {
			count++
		}
	}
	if count >= maxFollowed {
		return fmt.Errorf("%d collections are mirrored from that node already, which is the most for one; name others with --collection", count)
	}
	return nil
}

// checkClaim checks a claim for a collection of which nothing is here yet, with the trust files that the claimant gives.
func (n *Node) checkClaim(ctx context.Context, from gossip.PeerID, claim gossip.Claim) error {
	all := filepath.Join(n.cfg.Home, claimsDir)
	if err := os.MkdirAll(all, 0o700); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(all, "")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) // else at the next start
	repo, err := trust.Open(dir, claim.Collection)
	if err != nil {
		return err
	}
	err = repo.Refresh(ctx, n.cfg.Now(), func(ctx context.Context, name string, max int64) ([]byte, error) {
		return n.net.Pull(ctx, from, claim.Collection, name, max)
	})
	if err != nil {
		return err
	}
	return repo.VerifyClaim(n.cfg.Now(), claim)
}

// follow opens a collection as a mirror, if it is not open yet, and remembers the address that it was joined by.
func (n *Node) follow(id content.ID, addr string) error {
	n.changing.Lock()
	defer n.changing.Unlock()
	c := n.collection(id)
	if c == nil {
		return n.followNew(id, addr, n.cfg.CacheOnly)
	}
	if c.master != nil {
		return fmt.Errorf("collection %s (%s) is published from this home directory: mirror it in another one, with --home", id, c.name())
	}
	if r := c.remembered(); r.CacheOnly != n.cfg.CacheOnly {
		return n.changeMode(c, r, addr)
	}
	if addr == "" || slices.Contains(c.remembered().Bootstrap, addr) {
		return nil
	}
	return c.remember(n.cfg.Home, func(r *record) { r.joinedBy(addr) })
}

// followNew opens a collection that is not open. The caller holds changing.
func (n *Node) followNew(id content.ID, addr string, cacheOnly bool) error {
	r := record{Version: recordVersion, ID: id, CacheOnly: cacheOnly}
	if b, ok := n.brokenOnes()[id.String()]; ok {
		if b.record.ID.IsZero() || b.record.Source != "" {
			return fmt.Errorf("collection %s cannot be opened: %w", id, b.err)
		}
		r = b.record
		r.CacheOnly = cacheOnly
	}
	if addr != "" {
		r.joinedBy(addr)
	}
	if err := r.write(n.cfg.Home); err != nil {
		return fmt.Errorf("collection %s: %w", id, err)
	}
	if err := n.openRecord(r); err != nil {
		return fmt.Errorf("collection %s: %w", id, err)
	}
	n.told("a collection is mirrored from now on", "collection", id, "cache_only", cacheOnly)
	return nil
}

// joinedBy puts an address last, which is where the newest is, and drops the oldest beyond the limit.
func (r *record) joinedBy(addr string) {
	list := slices.DeleteFunc(slices.Clone(r.Bootstrap), func(a string) bool { return a == addr })
	list = append(list, addr)
	r.Bootstrap = list[max(0, len(list)-maxRecordBootstrap):]
}
