package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"swarmnode/gossip"
	"swarmnode/gossip/trust"
)

const (
	// knowTimeout is how long a client looks for somebody who knows the collection.
	knowTimeout = 20 * time.Second
	// askTimeout bounds the questions to one peer, of which askAtOnce are asked at the same time.
	askTimeout = 8 * time.Second
	askAtOnce  = 16
	// askPause is the wait before a peer is asked again.
	askPause = 300 * time.Millisecond
	// askSettle is how long the others have to bring something newer once a release is proved.
	askSettle = time.Second
)

// errKnow ends the search for somebody who knows the collection.
var errKnow = errors.New("nobody knows the collection")

// answer is what came of asking a peer for the newest release.
type answer struct {
	from gossip.PeerID
	err  error
}

// learning is one search for the newest release.
type learning struct {
	r    *Release
	repo *trust.Repository

	answers chan answer // room for askAtOnce
	asking  map[gossip.PeerID]bool
	asked   map[gossip.PeerID]time.Time // when the last answer came
	last    error                       // of the last answer that was one
}

// learn asks everybody connected, and those whom the DHT names, until somebody proves a release. Peers are asked at the same
// time, so that one that hangs keeps nobody waiting.
func (r *Release) learn(ctx context.Context, repo *trust.Repository) error {
	ctx, cancel := context.WithTimeoutCause(ctx, knowTimeout, errKnow)
	defer cancel()
	l := &learning{r: r, repo: repo, answers: make(chan answer, askAtOnce), asking: map[gossip.PeerID]bool{}, asked: map[gossip.PeerID]time.Time{}}
	r.tasks.run(ctx, "search in the DHT", func(ctx context.Context) error {
		return r.client.host.Find(ctx, r.id, func(gossip.PeerID) {})
	}, nil)
	tick := time.NewTicker(askPause / 2)
	defer tick.Stop()
	var settle <-chan time.Time
	for {
		l.ask(ctx, time.Now())
		select {
		case <-ctx.Done():
			if settle != nil && errors.Is(context.Cause(ctx), errKnow) {
				return nil
			}
			return l.nobody(ctx)
		case <-settle:
			return nil
		case a := <-l.answers:
			if err := l.heard(ctx, a); err != nil {
				return err
			}
			if a.err == nil && settle == nil {
				settle = time.After(askSettle)
			}
			if settle != nil && len(l.asking) == 0 {
				return nil
			}
		case <-tick.C:
		}
	}
}

// ask asks those who are not being asked.
func (l *learning) ask(ctx context.Context, now time.Time) {
	for _, p := range l.r.client.host.Peers() {
		if l.asking[p.ID] || len(l.asking) == askAtOnce || now.Sub(l.asked[p.ID]) < askPause {
			continue
		}
		l.asking[p.ID] = true
		l.r.tasks.run(ctx, "ask for the newest release", func(ctx context.Context) error {
			actx, cancel := context.WithTimeout(ctx, askTimeout)
			defer cancel()
			err := l.repo.Refresh(actx, time.Now(), func(ctx context.Context, name string, max int64) ([]byte, error) {
				return l.r.client.net.Pull(ctx, p.ID, l.r.id, name, max)
			})
			l.answers <- answer{p.ID, err} // has room
			return nil
		}, nil)
	}
}

// heard takes in an answer. The error is one with which nothing of the collection can be believed.
func (l *learning) heard(ctx context.Context, a answer) error {
	delete(l.asking, a.from)
	l.asked[a.from] = time.Now()
	if a.err != nil && ctx.Err() == nil && (l.last == nil || !errors.Is(a.err, context.DeadlineExceeded)) {
		l.last = a.err
	}
	switch {
	case errors.Is(a.err, gossip.ErrFork):
		return fmt.Errorf("the publisher's keys have signed two different releases with one number: ask the publisher which of them is right (%w)", a.err)
	case errors.Is(a.err, gossip.ErrRollback):
		l.r.client.cfg.Log.Warn("the publisher's keys contradict themselves: ask the publisher before you trust new releases", "peer", a.from, "what", a.err)
	}
	return nil
}

// nobody says why nothing is known when the time is over.
func (l *learning) nobody(ctx context.Context) error {
	if !errors.Is(context.Cause(ctx), errKnow) {
		return context.Cause(ctx)
	}
	asked := len(l.asked)
	for p := range l.asking {
		if _, ok := l.asked[p]; !ok {
			asked++
		}
	}
	switch {
	case asked == 0:
		l.last = errors.New("nobody is connected")
	case l.last == nil:
		l.last = errors.New("none of them answers")
	case errors.Is(l.last, gossip.ErrExpired):
		return fmt.Errorf("what the %d nodes reached have of collection %s has expired: its publisher has not confirmed it for long, there may be a newer release; "+
			"ask the publisher to start its node (%w)", asked, l.r.id, l.last)
	}
	return fmt.Errorf("none of the %d nodes reached has collection %s: check the ID, or give the address of a node that has it with --bootstrap (%w)",
		asked, l.r.id, l.last)
}
