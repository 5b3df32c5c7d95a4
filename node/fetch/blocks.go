package fetch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"swarmnode/content"
	"swarmnode/gossip"
)

const (
	// blockPeers is how many peers are asked for metadata blocks at a time.
	blockPeers = 4
	// blockShare is the most blocks in one request: about 1 MiB of tree nodes.
	blockShare = 256
	// blockPause is the wait before peers that did not have a block are asked for it again.
	blockPause = 2 * time.Second
)

// Blocks fetches metadata blocks and calls each once for every one, from one goroutine at a time. It asks peer after peer
// until all are here, also peers that connect meanwhile, and gives up only with ctx or with the error of each.
func (f *Fetcher) Blocks(ctx context.Context, digests []content.Digest, each func(d content.Digest, data []byte) error) error {
	want := map[content.Digest]bool{}
	var left []content.Digest
	for _, d := range digests {
		if !want[d] {
			want[d] = true
			left = append(left, d)
		}
	}
	b := &blockFetch{f: f, want: want, each: each}
	for shift := 0; len(left) > 0; shift++ {
		peers, news := f.blockPeers()
		before := len(left)
		b.round(ctx, left, peers, shift)
		if err := cmp.Or(b.err, context.Cause(ctx)); err != nil {
			return fmt.Errorf("fetch %d metadata blocks: %w", len(left), err)
		}
		left = slices.DeleteFunc(left, func(d content.Digest) bool { return !want[d] })
		if len(left) < before || len(left) > 0 && shift%max(len(peers), 1) != 0 && len(peers) > 0 {
			continue
		}
		if len(left) > 0 {
			select {
			case <-ctx.Done():
			case <-news:
			case <-time.After(blockPause):
			}
		}
	}
	return nil
}

// blockPeers lists the peers to ask, those that serve the collection first and of these the nearest, and a channel that is
// closed when there may be more.
func (f *Fetcher) blockPeers() ([]gossip.PeerID, <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var ids []gossip.PeerID
	for id, p := range f.peers {
		if p.tells {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, func(a, b gossip.PeerID) int {
		return cmp.Or(cmp.Compare(f.peers[a].rtt, f.peers[b].rtt), cmp.Compare(a, b))
	})
	return ids, f.news
}

// blockFetch is one call of Blocks.
type blockFetch struct {
	f *Fetcher

	mu   sync.Mutex // guards all below
	want map[content.Digest]bool
	each func(content.Digest, []byte) error
	err  error
}

// round asks for all blocks left, spread over some peers. In the next round, with another shift, each block is asked of
// another peer.
func (b *blockFetch) round(ctx context.Context, left []content.Digest, peers []gossip.PeerID, shift int) {
	if len(peers) == 0 {
		return
	}
	var tasks sync.WaitGroup
	defer tasks.Wait()
	lanes := min(blockPeers, len(peers), (len(left)+blockShare-1)/blockShare)
	for lane := range lanes {
		from := peers[(lane+shift)%len(peers)]
		tasks.Go(func() {
			for i := lane * blockShare; i < len(left); i += lanes * blockShare {
				if !b.ask(ctx, from, left[i:min(i+blockShare, len(left))]) {
					return
				}
			}
		})
	}
}

// ask asks one peer and reports whether to go on with it.
func (b *blockFetch) ask(ctx context.Context, from gossip.PeerID, digests []content.Digest) bool {
	err := b.f.cfg.Network.Blocks(ctx, from, b.f.cfg.ID, digests, func(d content.Digest, data []byte) error {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.err != nil || !b.want[d] {
			return b.err
		}
		b.want[d] = false
		b.f.cfg.Metadata(d, len(data))
		b.err = b.each(d, data)
		return b.err
	})
	var failure *Failure
	if err != nil {
		b.f.cfg.Log.Debug("metadata blocks did not all come", "peer", from, "asked", len(digests), "error", err)
	}
	return err == nil || errors.As(err, &failure) && failure.Reason.Kind == 0
}
