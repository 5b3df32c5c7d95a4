package fetch

import (
	"context"
	"errors"
	"slices"
	"time"

	"swarmnode/content"
	"swarmnode/gossip"
	"swarmnode/node/policy"
)

const (
	// storePause and maxStorePause are the pauses before anybody is asked again after this node could not store what came.
	storePause    = 5 * time.Second
	maxStorePause = 30 * time.Second
	// minBusy is how long a peer is left alone that was busy before it sent anything, even if it says less.
	minBusy = 250 * time.Millisecond
	// firstWatch and maxWatch are the pauses before the holdings of a connected peer are asked for again.
	firstWatch = time.Second
	maxWatch   = time.Minute
	// tellCost and tellBurst limit the messages about holdings of one peer: one each tellCost, and so many more at a time as
	// make up tellBurst. An honest peer sends one each 100 ms, and at first what a node has in parts.
	tellCost  = 50 * time.Millisecond
	tellBurst = 10 * time.Second
)

// Run drives the transfer until ctx ends; all requests have ended when it returns. It is called once.
func (f *Fetcher) Run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer f.end(stop)
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
			f.cfg.Log.Warn("peer sent wrong bytes and is banned: nothing to do, others are asked", "peer", p, "collection", f.cfg.ID)
			f.cfg.Banned(p)
		}
		timer.Stop()
		if !step.Wake.IsZero() {
			timer.Reset(max(time.Until(step.Wake), time.Millisecond))
		}
	}
}

// end stops all that Run began and waits for it. The lock lets nobody begin more meanwhile.
func (f *Fetcher) end(stop context.CancelFunc) {
	f.mu.Lock()
	stop()
	f.mu.Unlock()
	f.tasks.Wait()
	f.cfg.Room.leave(f)
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
	now := time.Now()
	if f.held {
		return policy.Step{}
	}
	paused := now.Before(f.resume)
	if paused && len(f.chunks) == 0 {
		return policy.Step{Wake: f.resume}
	}
	f.urge(now)
	step := f.cfg.Room.step(now, f, func(limit uint64) policy.Step {
		if paused { // what is read goes to its readers, whether it can be stored or not
			limit = 0
		}
		f.transfer.Limit(limit)
		return f.transfer.Next(now)
	})
	if paused && (step.Wake.IsZero() || f.resume.Before(step.Wake)) {
		step.Wake = f.resume
	}
	for _, id := range step.Banned {
		f.forget(id)
	}
	for _, id := range step.Cancel {
		if r := f.requests[id]; r != nil {
			r.cancel()
		}
	}
	for _, r := range step.Ask {
		rctx, cancel := context.WithCancel(ctx)
		if r.Urgent {
			rctx = context.WithValue(rctx, urgentKey{}, true)
		}
		a := &asked{id: r.ID, run: r.Run, table: f.wants[r.Run.Segment].table, cancel: cancel}
		f.requests[r.ID] = a
		f.tasks.Go(func() { f.ask(rctx, r, a) })
	}
	f.step = step
	return step
}

// errStore marks trouble of this node while it stores a chunk.
type errStore struct{ error }

// ask makes one request and reports how it went.
func (f *Fetcher) ask(ctx context.Context, r policy.Request, a *asked) {
	wrong, came := policy.Reason{}, 0
	err := f.cfg.Network.Chunks(ctx, r.Peer, f.cfg.ID, r.Run, func(i uint32) uint32 { return a.table.Chunk(i).Size },
		func(came func() uint64) { f.began(r.ID, came) }, func(ref content.Ref, data []byte) error {
			if err := f.cfg.Sink.Put(ref, data); err != nil {
				if f.cfg.Wrong(err) || content.Sum(data) != a.table.Chunk(ref.Index).Digest { // a sink that has no room may not look
					wrong = policy.Reason{Kind: policy.Bad, Ref: ref}
					return err
				}
				came++
				if !f.pass(a, ref, data) {
					return errStore{err}
				}
				return nil
			}
			came++
			f.cfg.Stored(ref, len(data))
			f.got(r.ID, ref, data)
			return nil
		})
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests[r.ID].cancel()
	delete(f.requests, r.ID)
	now := time.Now()
	failure := (*Failure)(nil)
	store := errStore{}
	switch {
	case err == nil:
		f.transfer.Finished(now, r.ID)
	case wrong.Kind == policy.Bad:
		f.cfg.Log.Warn("peer sent wrong bytes: nothing to do, they were thrown away", "peer", r.Peer, "segment", wrong.Ref.Segment, "chunk", wrong.Ref.Index)
		f.transfer.Failed(now, r.ID, wrong)
	case f.held: // the peer is not to blame
		f.transfer.Failed(now, r.ID, policy.Reason{Kind: policy.Busy})
	case errors.As(err, &store):
		f.cannotStore(now, store.error)
		f.transfer.Failed(now, r.ID, policy.Reason{Kind: policy.Busy}) // the peer is not to blame
	case errors.As(err, &failure):
		f.failed(now, r, failure, came)
	default:
		f.cfg.Log.Debug("request broke", "peer", r.Peer, "run", r.Run, "error", err)
		f.transfer.Failed(now, r.ID, policy.Reason{Kind: policy.Broken})
	}
	f.settle()
	f.wake()
}

// began tells the transfer that a request does not wait for its turn at the peer any more.
func (f *Fetcher) began(id policy.RequestID, came func() uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests[id].came = came
	if f.transfer.Began(time.Now(), id) {
		f.wake()
	}
}

// progress is how many bytes of an answer have come. The caller holds mu.
func (f *Fetcher) progress(id policy.RequestID) uint64 {
	if r := f.requests[id]; r != nil && r.came != nil {
		return r.came()
	}
	return 0
}

// failed reports a request that the peer did not answer in full; so many chunks came before. The caller holds mu.
func (f *Fetcher) failed(now time.Time, r policy.Request, failure *Failure, came int) {
	f.cfg.Log.Debug("request ended early", "peer", r.Peer, "run", r.Run, "error", failure.Err)
	for _, ref := range failure.NotHere {
		f.transfer.NotHere(now, r.ID, ref)
	}
	why := failure.Reason
	if why.Kind == 0 {
		f.transfer.Finished(now, r.ID)
		return
	}
	if why.Kind == policy.Busy && came == 0 {
		why.RetryAfter = max(why.RetryAfter, minBusy)
	}
	f.transfer.Failed(now, r.ID, why)
}

// cannotStore stops the asking for a while: what came would be thrown away. The caller holds mu.
func (f *Fetcher) cannotStore(now time.Time, err error) {
	if f.trouble == nil {
		f.cfg.Log.Warn("cannot store what arrives: make room, or look at the disk", "error", err, "collection", f.cfg.ID)
	}
	f.trouble = err
	if !now.Before(f.resume) { // else a request that was on its way when the trouble was noticed
		f.pause = min(max(2*f.pause, storePause), maxStorePause)
		f.resume = now.Add(f.pause)
	}
}

// got tells the transfer of a stored chunk.
func (f *Fetcher) got(id policy.RequestID, ref content.Ref, data []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.storing = storing{}
	f.isHere(ref, data, true)
	f.arrived(id, ref, len(data))
	if w := f.wants[ref.Segment]; w != nil {
		if w.need.Has(ref.Index) {
			if w.need.Clear(ref.Index); len(w.need) == 0 {
				f.needed--
			}
		}
		f.forgetWant(ref.Segment, w)
	}
	f.settle()
	f.wake()
}

// arrived counts a chunk that is here, stored or not. The caller holds mu.
func (f *Fetcher) arrived(id policy.RequestID, ref content.Ref, n int) {
	now := time.Now()
	f.hedge.Received(uint64(n))
	f.cfg.Room.received(now, n)
	f.transfer.Got(now, id, ref, uint32(n))
	if w := f.wants[ref.Segment]; w != nil {
		w.reads.Clear(ref.Index)
	}
}

// Connected says that a peer is connected, with its RTT (0: unknown), or that its RTT is known better. What it has of the
// collection is asked from now on.
func (f *Fetcher) Connected(id gossip.PeerID, rtt time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if slices.Contains(f.transfer.Banned(time.Now()), id) {
		return
	}
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
	f.wake()
}

// Disconnected says that a peer is not connected any more.
func (f *Fetcher) Disconnected(id gossip.PeerID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.forget(id)
	f.transfer.Gone(time.Now(), id)
	f.wake()
}

// forget ends the watch of a peer. The caller holds mu.
func (f *Fetcher) forget(id gossip.PeerID) {
	if p := f.peers[id]; p != nil {
		if p.stop != nil {
			p.stop()
		}
		delete(f.peers, id)
	}
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
	var paid time.Time // until when the messages that came are paid for
	for ctx.Err() == nil {
		err := f.cfg.Network.WatchHoldings(ctx, id, f.cfg.ID, func(h gossip.Holdings) error {
			now := time.Now()
			paid = paid.Add(tellCost)
			if least := now.Add(-tellBurst); paid.Before(least) {
				paid = least
			}
			wait(ctx, paid.Sub(now))
			pause = firstWatch
			return f.holds(ctx, id, p, h)
		})
		f.cfg.Log.Debug("holdings of a peer ended", "peer", id, "collection", f.cfg.ID, "error", err)
		f.mu.Lock()
		p.tells = false
		f.mu.Unlock()
		wait(ctx, pause)
		pause = min(2*pause, maxWatch)
	}
}

// holds takes in what a peer says it has.
func (f *Fetcher) holds(ctx context.Context, id gossip.PeerID, p *peer, h gossip.Holdings) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.peers[id] != p {
		return context.Canceled
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	f.transfer.Holds(time.Now(), id, h)
	if newer := h.Release > p.release; newer || !p.tells {
		p.tells, p.release = true, max(p.release, h.Release)
		f.told()
	}
	f.wake()
	return nil
}

// wait waits for d or the end of ctx.
func wait(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
