package fetch

import (
	"context"
	"errors"
	"time"

	"swarmnode/content"
	"swarmnode/gossip"
	"swarmnode/node/policy"
)

const (
	// storePause is how long a peer is left alone after this node could not store what it sent.
	storePause = 5 * time.Second
	// firstWatch and maxWatch are the pauses before the holdings of a connected peer are asked for again.
	firstWatch = time.Second
	maxWatch   = time.Minute
)

// Run drives the transfer until ctx ends; all requests have ended when it returns. It is called once.
func (f *Fetcher) Run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer f.tasks.Wait()
	defer stop()
	f.begin(ctx)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-f.kick:
		case <-timer.C:
		}
		step := f.next(ctx)
		for _, p := range step.Banned {
			f.cfg.Log.Warn("peer sent wrong bytes and is banned", "peer", p, "collection", f.cfg.ID)
			f.cfg.Banned(p)
		}
		timer.Stop()
		if !step.Wake.IsZero() {
			timer.Reset(max(time.Until(step.Wake), time.Millisecond))
		}
	}
}

// begin starts the watches of peers that connected before Run.
func (f *Fetcher) begin(ctx context.Context) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.running = ctx
	for id, p := range f.peers {
		f.startWatch(id, p)
	}
}

// next takes one step: it cancels and starts requests.
func (f *Fetcher) next(ctx context.Context) policy.Step {
	f.mu.Lock()
	defer f.mu.Unlock()
	step := f.transfer.Next(time.Now())
	for _, id := range step.Cancel {
		if cancel, ok := f.requests[id]; ok {
			cancel()
		}
	}
	for _, r := range step.Ask {
		table := f.tables[r.Run.Segment]
		rctx, cancel := context.WithCancel(ctx)
		f.requests[r.ID] = cancel
		f.tasks.Go(func() { f.ask(rctx, r, table) })
	}
	f.step = step
	return step
}

// errStore marks trouble of this node while it stores a chunk.
type errStore struct{ error }

// ask makes one request and reports how it went.
func (f *Fetcher) ask(ctx context.Context, r policy.Request, t *content.Table) {
	wrong := policy.Reason{}
	err := f.cfg.Network.Chunks(ctx, r.Peer, f.cfg.ID, r.Run, func(i uint32) uint32 { return t.Chunk(i).Size },
		func(ref content.Ref, data []byte) error {
			if err := f.cfg.Sink.Put(ref, data); err != nil {
				if f.cfg.Wrong(err) {
					wrong = policy.Reason{Kind: policy.Bad, Ref: ref}
					return err
				}
				return errStore{err}
			}
			f.cfg.Stored(ref, len(data))
			f.got(r.ID, ref, len(data))
			return nil
		})
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests[r.ID]()
	delete(f.requests, r.ID)
	now := time.Now()
	failure := (*Failure)(nil)
	store := errStore{}
	switch {
	case err == nil:
		f.transfer.Finished(now, r.ID)
	case wrong.Kind == policy.Bad:
		f.cfg.Log.Warn("peer sent wrong bytes", "peer", r.Peer, "segment", wrong.Ref.Segment, "chunk", wrong.Ref.Index)
		f.transfer.Failed(now, r.ID, wrong)
	case errors.As(err, &store):
		if f.trouble == nil {
			f.cfg.Log.Warn("cannot store what arrives", "error", store.error, "collection", f.cfg.ID)
		}
		f.trouble = store.error
		f.transfer.Failed(now, r.ID, policy.Reason{Kind: policy.Busy, RetryAfter: storePause})
	case errors.As(err, &failure):
		for _, ref := range failure.NotHere {
			f.transfer.NotHere(now, r.ID, ref)
		}
		if failure.Reason.Kind == 0 {
			f.transfer.Finished(now, r.ID)
		} else {
			f.transfer.Failed(now, r.ID, failure.Reason)
		}
		f.cfg.Log.Debug("request ended early", "peer", r.Peer, "run", r.Run, "error", err)
	default:
		f.cfg.Log.Debug("request broke", "peer", r.Peer, "run", r.Run, "error", err)
		f.transfer.Failed(now, r.ID, policy.Reason{Kind: policy.Broken})
	}
	f.settle()
	f.wake()
}

// got tells the transfer of a stored chunk.
func (f *Fetcher) got(id policy.RequestID, ref content.Ref, n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.trouble = nil
	f.transfer.Got(time.Now(), id, ref, uint32(n))
	f.settle()
	f.wake()
}

// Connected says that a peer is connected, with its RTT (0: unknown), or that its RTT is known better. What it has of the
// collection is asked from now on.
func (f *Fetcher) Connected(id gossip.PeerID, rtt time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.peers[id]
	if p == nil {
		p = &peer{}
		f.peers[id] = p
		if f.running != nil {
			f.startWatch(id, p)
		}
	}
	p.rtt = rtt
	f.transfer.Found(time.Now(), id, rtt)
	f.told()
	f.wake()
}

// Disconnected says that a peer is not connected any more.
func (f *Fetcher) Disconnected(id gossip.PeerID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if p := f.peers[id]; p != nil {
		if p.stop != nil {
			p.stop()
		}
		delete(f.peers, id)
	}
	f.transfer.Gone(time.Now(), id)
	f.wake()
}

// told wakes those who wait for a peer. The caller holds mu.
func (f *Fetcher) told() {
	close(f.news)
	f.news = make(chan struct{})
}

// startWatch follows what a peer has. The caller holds mu.
func (f *Fetcher) startWatch(id gossip.PeerID, p *peer) {
	if f.running.Err() != nil {
		return
	}
	ctx, stop := context.WithCancel(f.running)
	p.stop = stop
	f.tasks.Go(func() {
		defer stop()
		f.watch(ctx, id, p)
	})
}

func (f *Fetcher) watch(ctx context.Context, id gossip.PeerID, p *peer) {
	pause := firstWatch
	for ctx.Err() == nil {
		err := f.cfg.Network.WatchHoldings(ctx, id, f.cfg.ID, func(h gossip.Holdings) error {
			f.mu.Lock()
			defer f.mu.Unlock()
			if f.peers[id] != p {
				return context.Canceled
			}
			pause = firstWatch
			f.transfer.Holds(time.Now(), id, h)
			if !p.tells {
				p.tells = true
				f.told()
			}
			f.wake()
			return nil
		})
		f.cfg.Log.Debug("holdings of a peer ended", "peer", id, "collection", f.cfg.ID, "error", err)
		f.mu.Lock()
		p.tells = false
		f.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		pause = min(2*pause, maxWatch)
	}
}
