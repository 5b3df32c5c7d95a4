package trust

import (
	"crypto/ed25519"
	"fmt"
	"slices"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"swarmnode/content/guard"
	"swarmnode/gossip"
)

// VerifyClaim checks that the online role of this collection says of c.Peer that it publishes it. That the peer on the
// other end of a connection is c.Peer is for the caller to check. A repository without files answers
// gossip.ErrIncomplete: refresh first.
func (r *Repository) VerifyClaim(now time.Time, c gossip.Claim) error {
	r.mu.Lock()
	root, targets := r.set.root, r.set.targets[roleTargets]
	now = r.floored(now)
	r.mu.Unlock()
	if err := verifyClaim(r, now, root, targets, c); err != nil {
		return fmt.Errorf("claim of %.64s to publish %s: %w", c.Peer, c.Collection, err)
	}
	return nil
}

func verifyClaim(r *Repository, now time.Time, root *metadata.Metadata[metadata.RootType],
	targets *metadata.Metadata[metadata.TargetsType], c gossip.Claim) error {
	expires := time.Unix(c.Expires, 0)
	switch {
	case c.Collection != r.id || c.Peer == "":
		return fmt.Errorf("%w: it is about another collection or no peer", gossip.ErrMalformed)
	case targets == nil:
		return gossip.ErrIncomplete
	case guard.On(guard.ClaimExpiry) && now.After(expires):
		return gossip.ErrExpired
	case guard.On(guard.ClaimLife) && expires.Sub(now) > MaxClaimLife+MaxClockStep:
		return fmt.Errorf("%w: valid for longer than %s", gossip.ErrMalformed, MaxClaimLife)
	}
	role, err := releaseAuthority(targets)
	if err != nil {
		return err
	}
	// A publisher whose release keys are elsewhere has the timestamp keys at hand.
	online := authorityOf(root, roleTimestamp)
	key := role.keys[c.KeyID]
	if slices.Contains(online.ids, c.KeyID) {
		key = online.keys[c.KeyID]
	} else if !slices.Contains(role.ids, c.KeyID) {
		key = nil
	}
	if key == nil {
		return fmt.Errorf("%w: by a stranger's key", gossip.ErrBadSignature)
	}
	public, err := key.ToPublicKey()
	if err != nil {
		return fmt.Errorf("%w: %w", gossip.ErrMalformed, err)
	}
	ed, ok := public.(ed25519.PublicKey)
	if !ok || len(ed) != ed25519.PublicKeySize {
		return fmt.Errorf("%w: the key of the release role is not Ed25519", gossip.ErrMalformed)
	}
	if guard.On(guard.ClaimSignature) && !ed25519.Verify(ed, c.SignedBytes(), c.Signature) {
		return gossip.ErrBadSignature
	}
	return nil
}
