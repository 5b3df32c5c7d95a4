package fetch

import (
	"context"
	"sync"
	"time"

	"swarmnode/content"
	"swarmnode/gossip"
)

const (
	// hedgeBlocks is the most metadata blocks in a request that is hedged: somebody waits for a few, many are bulk.
	hedgeBlocks = 16
	// blockBytes is about what a block has: tree nodes are made so (DESIGN section 4).
	blockBytes = 4 << 10
)

// hedged asks one peer, and a second one too if the answer of the first is late and hedging has something left to spend. It
// returns when one of them has answered in full, and reports whether to go on with the first.
func (b *blockFetch) hedged(ctx context.Context, from, other gossip.PeerID, digests []content.Digest) bool {
	if other == from || len(digests) > hedgeBlocks {
		return b.ask(ctx, from, digests, func() {})
	}
	ctx, cancel := context.WithCancel(ctx)
	var second sync.WaitGroup
	defer second.Wait()
	defer cancel()
	asked := time.Now()
	answers := make(chan struct{}) // closed when the first answer begins
	var once sync.Once
	began := func() {
		once.Do(func() {
			b.f.answeredIn(time.Since(asked))
			close(answers)
		})
	}
	second.Go(func() {
		if !b.late(ctx, answers, uint64(len(digests))*blockBytes) {
			return
		}
		b.f.cfg.Log.Debug("metadata blocks are late, asking another peer", "peer", from, "other", other, "blocks", len(digests))
		if b.ask(ctx, other, digests, func() {}) && b.all(digests) {
			cancel()
		}
	})
	return b.ask(ctx, from, digests, began) || b.all(digests)
}

// late waits and reports whether a second peer may be asked: no answer has begun and the time for it is over.
func (b *blockFetch) late(ctx context.Context, answers <-chan struct{}, bytes uint64) bool {
	b.f.mu.Lock()
	timer := time.NewTimer(b.f.hedge.After())
	b.f.mu.Unlock()
	defer timer.Stop()
	select {
	case <-answers:
		return false
	case <-ctx.Done():
		return false
	case <-timer.C:
	}
	b.f.mu.Lock()
	defer b.f.mu.Unlock()
	return b.f.hedge.Take(bytes)
}

// all reports whether all of these are here.
func (b *blockFetch) all(digests []content.Digest) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, d := range digests {
		if b.want[d] {
			return false
		}
	}
	return true
}

// answeredIn notes how long a peer took to begin its answer.
func (f *Fetcher) answeredIn(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hedge.Answered(d)
}

// receivedBlock counts a metadata block.
func (f *Fetcher) receivedBlock(bytes int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hedge.Received(uint64(bytes))
}
