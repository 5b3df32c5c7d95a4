package node

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"swarmnode/gossip"
	"swarmnode/gossip/topic"
	"swarmnode/node/p2p"
)

const (
	// askPatience is how long a publish waits for somebody to ask whether there are newer releases, if this node has known anybody before,
	// and then for all of that asking: a publisher whose peers are gone or hang publishes all the same, a little later.
	askPatience = 5 * time.Second
	// askHeads is how many peers are asked for the newest release before a new one is signed.
	askHeads = 8
	// askHeadsTries is how often one peer is asked, and askHeadsPause how long it is left alone before the second time, before the third twice
	// that: a peer that is busy, or whose connection breaks just then, may be the only one that knows.
	askHeadsTries = 4
	askHeadsPause = 250 * time.Millisecond
	// emptyList is the most bytes of a peers file that lists nobody.
	emptyList = 64
)

// checkHeads asks those who may know for the newest release and refuses to sign past one that this node does not have.
// After keys were replaced, numbers that somebody has taken with the old ones are skipped, and those up to above. told says that somebody
// who has the collection was asked.
func (n *Node) checkHeads(ctx context.Context, c *collection, above uint64) (told bool, err error) {
	others := n.knowsOthers()
	if others {
		n.meet(ctx)
	}
	if others || c.master.signer.Head().Release > 0 {
		told = n.askHeads(ctx, c)
	}
	if ctx.Err() != nil {
		return told, context.Cause(ctx)
	}
	if err := c.contested(n.cfg.Now()); err != nil {
		return told, err
	}
	if err := c.master.signer.Adopt(c.trust); err != nil { // what another home with the same keys has confirmed since
		return told, err
	}
	if above > 0 {
		return told, c.master.signer.Skip(above)
	}
	if err := c.overtaken(n.cfg.Now()); err != nil && c.master.signer.Retaking() {
		return told, err
	}
	return told, nil // later on, status says so: a liar must not keep an owner from publishing for ever
}

// checkLast is checkHeads at the moment of the signature, which can be hours later: what was heard meanwhile counts, and if nobody who has
// the collection could be asked before, those who are connected by now are.
func (n *Node) checkLast(ctx context.Context, c *collection, told bool) error {
	if !told {
		n.askHeads(ctx, c)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return c.contested(n.cfg.Now())
}

// overtaken says that mirrors tell of a release that this home cannot know: whoever had the keys before they were replaced may
// have signed it, and mirrors that believed him take no smaller number. They only say so, hence the owner decides.
func (c *collection) overtaken(now time.Time) error {
	s := c.master.signer
	if !s.Rotated() {
		return nil
	}
	greatest, count := uint64(0), 0
	for _, m := range c.listener.Heard(now, 0).Members {
		if m.Release > s.Taken() {
			greatest, count = max(greatest, m.Release), count+1
		}
	}
	if count == 0 {
		return nil
	}
	return fmt.Errorf("%d mirrors of %s say that they have release %d or less, which was not signed here: if it is by a thief of the old keys, they "+
		"refuse a smaller number: say --above %d; if it is a lie, say --above %d", count, c.name(), greatest, greatest, s.Taken())
}

// askHeads asks some peers at the same time, those that share the collection first, so that one that hangs does not keep the
// others from being heard. It reports whether one of them has the collection.
func (n *Node) askHeads(ctx context.Context, c *collection) (told bool) {
	ctx, cancel := context.WithTimeout(ctx, n.patience)
	defer cancel()
	peers := c.topic.Peers()
	rand.Shuffle(len(peers), func(i, j int) { peers[i], peers[j] = peers[j], peers[i] })
	for _, p := range n.connected() {
		if !slices.Contains(peers, p) {
			peers = append(peers, p)
		}
	}
	var (
		asked   sync.WaitGroup
		mu      sync.Mutex // guards what follows
		answers int
		last    error
	)
	peers = peers[:min(len(peers), askHeads)]
	for _, p := range peers {
		asked.Go(func() {
			err := insist(ctx, func() error {
				// Before it may learn from this node that the keys were replaced, and forget what was signed with the old ones.
				err := c.master.signer.SkipReplaced(ctx, func(ctx context.Context, name string, max int64) ([]byte, error) {
					return n.net.Pull(ctx, p, c.id, name, max)
				})
				return errors.Join(err, c.listener.PullFrom(ctx, p))
			})
			mu.Lock()
			defer mu.Unlock()
			if err == nil || decided(err) {
				answers++
				told = told || err == nil || !topic.Answered(err) // else it has nothing to say
				return
			}
			last = err
			n.log.Debug("peer not asked for the newest release", "peer", p, "error", err)
		})
	}
	asked.Wait()
	if last != nil && answers == 0 {
		n.log.Warn("nobody who is connected says whether there is a newer release: look at the error, and at `swarmnode status` of a mirror if this home was restored from a copy",
			"collection", c.name(), "error", last)
	}
	return told
}

// insist asks until there is an answer, but not for long.
func insist(ctx context.Context, ask func() error) error {
	for try := 1; ; try++ {
		err := ask()
		if err == nil || decided(err) || try == askHeadsTries {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(askHeadsPause << (try - 1)):
		}
	}
}

// decided reports whether an error is an answer: asking again would bring it again.
func decided(err error) bool {
	return topic.Answered(err) || errors.Is(err, gossip.ErrFork) || errors.Is(err, gossip.ErrRollback)
}

// knowsOthers reports whether this node was told of peers or remembers some.
func (n *Node) knowsOthers() bool {
	if len(n.host.Bootstrap()) > 0 {
		return true
	}
	st, err := os.Stat(filepath.Join(n.cfg.Home, peersFile))
	return err == nil && st.Size() > emptyList
}

// met reports whether there is somebody to ask: not while one whom this node was told of may still come, for others may know nothing of
// its collections.
func met(connected int, named []p2p.Bootstrap) bool {
	return connected > 0 && (slices.ContainsFunc(named, func(b p2p.Bootstrap) bool { return b.Connected }) ||
		!slices.ContainsFunc(named, func(b p2p.Bootstrap) bool { return b.Err == nil }))
}

// meet waits until somebody is connected who may know, but not for long.
func (n *Node) meet(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, n.patience)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !met(len(n.connected()), n.host.Bootstrap()) {
		select {
		case <-ctx.Done():
			if !errors.Is(context.Cause(ctx), context.DeadlineExceeded) || len(n.connected()) > 0 {
				return
			}
			n.log.Warn("none of the peers known from before answers: whether they have a newer release is not known")
			return
		case <-tick.C:
		}
	}
}
