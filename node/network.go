package node

import (
	"context"
	"errors"

	"swarmnode/content"
	"swarmnode/gossip"
	"swarmnode/node/fetch"
	"swarmnode/node/p2p"
	"swarmnode/node/policy"
)

// network is the host as a Fetcher sees it: errors of peers in the terms of package policy.
type network struct{ *p2p.Host }

func (w network) Chunks(ctx context.Context, from gossip.PeerID, id content.ID, run content.Run, size func(uint32) uint32,
	begun func(came func() uint64), each func(content.Ref, []byte) error) error {
	if fetch.Urgent(ctx) {
		ctx = p2p.Urgent(ctx)
	}
	return failure(w.Host.Chunks(ctx, from, id, run, size, begun, each))
}

func (w network) Blocks(ctx context.Context, from gossip.PeerID, id content.ID, digests []content.Digest,
	each func(content.Digest, []byte) error) error {
	return failure(w.Host.Blocks(ctx, from, id, digests, each))
}

func (w network) Outline(ctx context.Context, from gossip.PeerID, id content.ID, manifest content.Digest, room uint32,
	each func(content.Digest, []byte) error) error {
	return failure(w.Host.Outline(ctx, from, id, manifest, room, each))
}

// failure says what an error of the host means for the request.
func failure(err error) error {
	if err == nil {
		return nil
	}
	f := &fetch.Failure{Err: err}
	var missing *p2p.NotHereError
	if errors.As(err, &missing) {
		f.NotHere = missing.Refs
	}
	var busy *p2p.BusyError
	switch {
	case errors.As(err, &busy):
		f.Reason = policy.Reason{Kind: policy.Busy, RetryAfter: busy.RetryAfter}
	case errors.Is(err, p2p.ErrTimeout):
		f.Reason = policy.Reason{Kind: policy.Timeout}
	case errors.Is(err, p2p.ErrBadAnswer):
		f.Reason = policy.Reason{Kind: policy.Broken}
	case missing != nil: // all else came
	default:
		return err
	}
	return f
}
