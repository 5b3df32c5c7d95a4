package fetch

import (
	"context"
	"errors"
	"fmt"
	"time"

	"swarmnode/content"
	"swarmnode/gossip"
)

// errLate ends a request that another peer may answer sooner.
var errLate = errors.New("the answer does not begin")

// Outline asks the first peer that serves the collection for a manifest and as many bytes of the blocks below it, which saves a
// round trip for each level, and calls each for every block that comes. Who does not have it, or is late while there are
// others, is no error: what is missing afterwards is for [Fetcher.Blocks]. The error is that of each or of ctx.
func (f *Fetcher) Outline(ctx context.Context, manifest content.Digest, room uint32, each func(d content.Digest, data []byte) error) error {
	from, others, err := f.firstPeer(ctx)
	if err != nil {
		return fmt.Errorf("fetch the outline of a release: %w", err)
	}
	actx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	began := func() {}
	if others {
		f.mu.Lock()
		late := time.AfterFunc(f.hedge.After(), func() { cancel(errLate) })
		f.mu.Unlock()
		began = func() { late.Stop() }
		defer began()
	}
	asked := time.Now()
	first := true
	var failed error
	err = f.cfg.Network.Outline(actx, from, f.cfg.ID, manifest, room, func(d content.Digest, data []byte) error {
		if first {
			first = false
			began()
			f.answeredIn(time.Since(asked))
		}
		f.receivedBlock(len(data))
		f.cfg.Metadata(d, len(data))
		failed = each(d, data)
		return failed
	})
	if err != nil {
		f.cfg.Log.Debug("no outline", "peer", from, "error", err)
	}
	if failed == nil {
		failed = context.Cause(ctx)
	}
	if failed != nil {
		return fmt.Errorf("fetch the outline of a release: %w", failed)
	}
	return nil
}

// firstPeer waits for a peer that serves the collection, and says whether there are others.
func (f *Fetcher) firstPeer(ctx context.Context) (id gossip.PeerID, others bool, err error) {
	for {
		peers, news := f.blockPeers(nil)
		if len(peers) > 0 {
			return peers[0], len(peers) > 1, nil
		}
		select {
		case <-ctx.Done():
			return "", false, context.Cause(ctx)
		case <-news:
		}
	}
}
