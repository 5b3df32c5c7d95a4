package mirror

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"swarmnode/content"
	"swarmnode/gossip"
	"swarmnode/gossip/topic"
	"swarmnode/gossip/trust"
)

const (
	// askEvery is how often a random member is asked for the head beside gossip (DESIGN section 9).
	askEvery = time.Minute
	// askSoon is how often as long as nothing is known.
	askSoon = time.Second
	// pullTimeout bounds one pull of the trust files from a peer.
	pullTimeout = 20 * time.Second
	// pullQueue is how many peers can wait to be asked.
	pullQueue = 16
	// pullsAtOnce is how many peers are asked at a time: one that does not answer holds up no other.
	pullsAtOnce = 4
)

// ListenConfig is what a Listener works with. All fields but Log are required.
type ListenConfig struct {
	ID         content.ID
	Repository *trust.Repository
	// Pull asks a peer for a file of the collection's trust state.
	Pull func(ctx context.Context, from gossip.PeerID, id content.ID, name string, max int64) ([]byte, error)
	// Peers lists the connected peers that may know the collection.
	Peers func() []gossip.PeerID
	// News is called for every head that is newer or fresher, one call at a time. It must not wait.
	News func(gossip.Head)
	Log  *slog.Logger
	Now  func() time.Time // default time.Now
}

// Listener hears what is said of one collection and believes what is proved: it owns the Inbox, the view of the members, and
// pulls from peers what gossip did not bring.
type Listener struct {
	cfg   ListenConfig
	pulls chan gossip.PeerID

	mu      sync.Mutex // guards all below
	inbox   *gossip.Inbox
	members *gossip.Members
	alarm   string
	under   int64 // version of the root of the head when the alarm was raised
}

// NewListener starts from what the repository has verified before.
func NewListener(cfg ListenConfig) *Listener {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	l := &Listener{
		cfg: cfg, pulls: make(chan gossip.PeerID, pullQueue),
		inbox: gossip.NewInbox(cfg.Repository, cfg.Repository.Head()), members: gossip.NewMembers(cfg.ID),
	}
	if a := cfg.Repository.Alarm(); a != nil { // a restart does not make it good
		l.alarm, l.under = a.String(), cfg.Repository.Head().Root
	}
	return l
}

// Message judges a message of the collection's topic.
func (l *Listener) Message(_ context.Context, from gossip.PeerID, kind gossip.Kind, payload []byte) gossip.Verdict {
	now := l.cfg.Now()
	if kind == gossip.KindMember {
		return l.member(now, payload)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	d := l.inbox.Receive(now, from, payload)
	l.decided(d)
	if d.Pull {
		select {
		case l.pulls <- from:
		default: // the peers that wait to be asked know as much
		}
	}
	if d.Err != nil {
		l.cfg.Log.Debug("announcement not accepted", "from", from, "verdict", d.Verdict, "error", d.Err)
	}
	return d.Verdict
}

func (l *Listener) member(now time.Time, payload []byte) gossip.Verdict {
	m, err := topic.OpenMember(payload)
	if newer := (*content.NewerError)(nil); errors.As(err, &newer) {
		return gossip.Ignore // an honest node of a later version
	}
	if err != nil || m.Collection != l.cfg.ID {
		return gossip.Reject
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.members.Put(now, m) {
		return gossip.Ignore
	}
	return gossip.Accept
}

// decided acts on what the inbox found. The caller holds mu.
func (l *Listener) decided(d gossip.Decision) {
	if d.Alarm != "" && l.alarm == "" { // the first says it; the same comes again in other words with every pull
		l.alarm, l.under = d.Alarm, l.inbox.Head().Root
		l.cfg.Log.Error("the publisher's keys contradict themselves: ask the publisher before you trust new releases",
			"collection", l.cfg.ID, "what", d.Alarm)
	}
	if l.alarm != "" && d.News != nil && d.News.Root > l.under && l.cfg.Repository.Alarm() == nil {
		l.alarm = "" // a release under new keys: the publisher has control again
		l.cfg.Log.Info("the publisher has signed a release with new keys: the alarm is over", "collection", l.cfg.ID, "release", d.News.Release)
	}
	if d.News != nil || d.Fresh {
		l.cfg.News(l.inbox.Head())
	}
}

// Acknowledge ends the alarm: the operator has looked into it. It reports whether there was one.
func (l *Listener) Acknowledge() (bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.cfg.Repository.Acknowledge(); err != nil {
		return false, err
	}
	was := l.alarm != ""
	l.alarm = ""
	return was, nil
}

// Adopt takes in what the repository has verified without the inbox: after a pull, or from this node's own signer.
func (l *Listener) Adopt() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.decided(l.inbox.Adopt(l.cfg.Repository.Head()))
}

// Run asks peers for what gossip did not bring, until ctx ends.
func (l *Listener) Run(ctx context.Context) error {
	l.mu.Lock()
	if h := l.inbox.Head(); h.Release > 0 {
		l.cfg.News(h) // known from before the start
	}
	l.mu.Unlock()
	var tasks sync.WaitGroup
	defer tasks.Wait()
	free := make(chan struct{}, pullsAtOnce)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		var from gossip.PeerID
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case from = <-l.pulls:
		case <-timer.C:
			peers := l.cfg.Peers()
			if len(peers) > 0 {
				from = peers[rand.IntN(len(peers))]
			}
			if len(peers) == 0 || l.Head().Release == 0 {
				timer.Reset(askSoon)
			} else {
				timer.Reset(askEvery)
			}
		}
		if from == "" {
			continue
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case free <- struct{}{}:
		}
		tasks.Go(func() {
			defer func() { <-free }()
			if err := l.PullFrom(ctx, from); err != nil && ctx.Err() == nil {
				l.cfg.Log.Debug("pull of the head", "from", from, "error", err)
			}
		})
	}
}

// PullFrom asks one peer for everything newer than what is here.
func (l *Listener) PullFrom(ctx context.Context, from gossip.PeerID) error {
	ctx, cancel := context.WithTimeout(ctx, pullTimeout)
	defer cancel()
	err := l.cfg.Repository.Refresh(ctx, l.cfg.Now(), func(ctx context.Context, name string, max int64) ([]byte, error) {
		return l.cfg.Pull(ctx, from, l.cfg.ID, name, max)
	})
	if errors.Is(err, gossip.ErrFork) || errors.Is(err, gossip.ErrRollback) {
		l.mu.Lock()
		l.decided(gossip.Decision{Alarm: err.Error()})
		l.mu.Unlock()
	}
	if err != nil {
		return fmt.Errorf("pull %s from %s: %w", l.cfg.ID, from, err)
	}
	l.Adopt()
	return nil
}

// Head is the newest verified head; its Release is 0 as long as there is none.
func (l *Listener) Head() gossip.Head {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.inbox.Head()
}

// Member gives the newest record of a peer.
func (l *Listener) Member(p gossip.PeerID) (gossip.Member, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.members.Get(p)
}

// Heard is what the listener knows beside the head.
type Heard struct {
	FreshAsOf time.Time       // newest verified timestamp that names the release asked about
	Lag       int             // heartbeats missed
	Alarm     string          // the publisher's keys contradict themselves; "" if not
	Members   []gossip.Member // that are believed, by peer ID
}

// Heard tells what is known of the collection and of a release of it that is being served.
func (l *Listener) Heard(now time.Time, release uint64) Heard {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.members.Expire(now)
	return Heard{FreshAsOf: l.inbox.FreshAsOf(release), Lag: l.inbox.Lag(now), Alarm: l.alarm, Members: l.members.All()}
}
