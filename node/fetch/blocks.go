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
	// maxFails is how many broken answers in a row are told apart when peers are put in order.
	maxFails = 4
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
	fruitless := 0 // rounds in a row that brought nothing
	var peers []gossip.PeerID
	var news <-chan struct{}
	for shift := 0; len(left) > 0; shift++ {
		peers, news = f.blockPeers(peers)
		before := len(left)
		b.round(ctx, left, peers, shift)
		if err := cmp.Or(b.err, context.Cause(ctx)); err != nil {
			return fmt.Errorf("fetch %d metadata blocks: %w", len(left), err)
		}
		left = slices.DeleteFunc(left, func(d content.Digest) bool { return !want[d] })
		if fruitless++; len(left) < before {
			fruitless = 0
		}
		if fruitless < len(peers) || len(left) == 0 {
			continue
		}
		fruitless = 0 // everybody was asked for everything
		select {
		case <-ctx.Done():
		case <-news:
		case <-time.After(blockPause):
		}
	}
	return nil
}

// blockPeers lists the peers that serve the collection: first those of before, which keep their order so that nobody is passed
// over, then the others: those whose last answer was good first, of these those with the newest release, of these the nearest.
// The channel is closed when there is one more or one has a newer release.
func (f *Fetcher) blockPeers(before []gossip.PeerID) ([]gossip.PeerID, <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var ids []gossip.PeerID
	for id, p := range f.peers {
		if p.tells && !f.held && !slices.Contains(before, id) {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, func(a, b gossip.PeerID) int {
		x, y := f.peers[a], f.peers[b]
		return cmp.Or(cmp.Compare(x.fails, y.fails), cmp.Compare(y.release, x.release), cmp.Compare(x.rtt, y.rtt), cmp.Compare(a, b))
	})
	before = slices.DeleteFunc(before, func(id gossip.PeerID) bool { return f.held || f.peers[id] == nil || !f.peers[id].tells })
	return append(before, ids...), f.news
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
		from, other := peers[(lane+shift)%len(peers)], peers[(lane+shift+1)%len(peers)]
		tasks.Go(func() {
			for i := lane * blockShare; i < len(left); i += lanes * blockShare {
				if !b.hedged(ctx, from, other, left[i:min(i+blockShare, len(left))]) {
					return
				}
			}
		})
	}
}

// ask asks one peer and reports whether to go on with it. began is called when its answer begins.
func (b *blockFetch) ask(ctx context.Context, from gossip.PeerID, digests []content.Digest, began func()) bool {
	err := b.f.cfg.Network.Blocks(ctx, from, b.f.cfg.ID, digests, func(d content.Digest, data []byte) error {
		began()
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.err != nil || !b.want[d] {
			return b.err
		}
		b.want[d] = false
		b.f.receivedBlock(len(data))
		b.f.cfg.Metadata(d, len(data))
		b.err = b.each(d, data)
		return b.err
	})
	var failure *Failure
	good := err == nil || errors.As(err, &failure) && failure.Reason.Kind == 0
	if err != nil {
		b.f.cfg.Log.Debug("metadata blocks did not all come", "peer", from, "asked", len(digests), "error", err)
	}
	if good || ctx.Err() == nil {
		b.f.answered(from, good)
	}
	return good
}

// answered notes how a peer answered a request for metadata blocks.
func (f *Fetcher) answered(from gossip.PeerID, good bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.peers[from]
	switch {
	case p == nil:
	case good:
		p.fails = 0
	default:
		p.fails = min(p.fails+1, maxFails)
	}
}
