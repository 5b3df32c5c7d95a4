// Package topic carries what package gossip defines over libp2p: announcements and member records on one GossipSub topic
// per collection, small files and claims by request from one peer. It moves and seals bytes; whether a release is true
// and what to do about it is decided by whoever opens the topic.
package topic

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"

	"swarmnode/content"
	"swarmnode/gossip"
)

const (
	// topicPrefix and the collection's ID make the name of a topic.
	topicPrefix = "/swarmnode/"
	// maxRPC is the largest pubsub message, in bytes: the largest announcement and room for the protocol around it.
	maxRPC = 96 << 10
	// seenTTL is how long pubsub drops a message it has seen before it reaches the validator.
	seenTTL = 10 * time.Minute
	// validateTimeout bounds one call of an open topic's callback.
	validateTimeout = 10 * time.Second
	// validateConcurrency bounds the calls that wait at the same time, and with maxRPC the memory they hold: 3 MiB.
	validateConcurrency = 32
)

// The score of a neighbour falls only by messages that no honest node forwards: invalidWeight times the square of their
// number, which halves in about invalidMemory/7. One is forgiven, the third puts the neighbour on the graylist: nothing
// that it sends is looked at. Every other rule of GossipSub's scoring would punish quiet topics or nodes behind one NAT.
const (
	invalidWeight      = -10
	invalidMemory      = 10 * time.Minute
	gossipThreshold    = -15
	publishThreshold   = -30
	graylistThreshold  = -60
	retainScore        = time.Hour
	acceptPXThreshold  = 0
	scoreDecayInterval = time.Second
	scoreDecayToZero   = 0.01
)

// ErrClosed is the error of everything asked of a closed Net or Topic.
var ErrClosed = errors.New("closed")

// Callback judges a message of an open topic. It is called by several goroutines at once, with the payload for itself.
type Callback func(ctx context.Context, from gossip.PeerID, kind gossip.Kind, payload []byte) gossip.Verdict

// Net is this node's side of all topics and of the pull protocol. It is safe for concurrent use.
type Net struct {
	host    host.Host
	ps      *pubsub.PubSub
	log     *slog.Logger
	stop    context.CancelFunc // ends pubsub
	pull    *pullServer
	filter  *subscriptions
	again   []time.Duration // when an announcement is sent again, after it was sent first
	stats   counters
	reject  atomic.Pointer[func(gossip.PeerID)] // see OnReject
	closing sync.Once

	mu     sync.Mutex // guards topics and closed
	topics map[content.ID]*Topic
	closed bool
}

type counters struct {
	received, accepted, ignored, rejected, sent, repeated atomic.Uint64
}

// Stats counts the messages of all topics: those of neighbours by verdict, and those that this node sent.
type Stats struct {
	Received, Accepted, Ignored, Rejected uint64
	Sent, Repeated                        uint64 // Repeated are announcements sent again for late peers
	Pulls, PullsRefused                   uint64 // requests of other peers, answered and not
}

// New starts pubsub and the pull protocol on a host. Do it before the host connects to anybody: peers that connect
// earlier learn of late protocols slowly or never. Everything ends with ctx or, waited for, with Close.
func New(ctx context.Context, h host.Host, log *slog.Logger) (*Net, error) {
	run, stop := context.WithCancel(ctx)
	n := &Net{
		host: h, log: log, stop: stop, topics: map[content.ID]*Topic{},
		again: []time.Duration{time.Second, 5 * time.Second, 15 * time.Second},
	}
	n.filter = newSubscriptions(h.Network())
	ps, err := pubsub.NewGossipSub(run, h, n.options()...)
	if err != nil {
		stop()
		n.filter.close()
		return nil, fmt.Errorf("start gossipsub: %w", err)
	}
	n.ps = ps
	n.pull = newPullServer(h, log)
	context.AfterFunc(run, n.Close)
	return n, nil
}

func (n *Net) options() []pubsub.Option {
	return []pubsub.Option{
		pubsub.WithMessageSignaturePolicy(pubsub.StrictNoSign), pubsub.WithNoAuthor(), // payloads carry their signatures
		pubsub.WithMessageIdFn(messageID),
		pubsub.WithFloodPublish(true),
		pubsub.WithPeerExchange(true),
		pubsub.WithMaxMessageSize(maxRPC),
		pubsub.WithSeenMessagesTTL(seenTTL),
		pubsub.WithPeerOutboundQueueSize(128), // times maxRPC at most, and only on a link that is stuck
		pubsub.WithSubscriptionFilter(n.filter),
		pubsub.WithPeerScore(
			&pubsub.PeerScoreParams{
				SkipAtomicValidation: true, AppSpecificScore: func(peer.ID) float64 { return 0 },
				Topics:        map[string]*pubsub.TopicScoreParams{}, // join adds to it
				DecayInterval: scoreDecayInterval, DecayToZero: scoreDecayToZero, RetainScore: retainScore,
			},
			&pubsub.PeerScoreThresholds{
				SkipAtomicValidation: true, GossipThreshold: gossipThreshold, PublishThreshold: publishThreshold,
				GraylistThreshold: graylistThreshold, AcceptPXThreshold: acceptPXThreshold,
			}),
		pubsub.WithLogger(slog.New(demoted{n.log.Handler()})), pubsub.WithRPCLogger(slog.New(slog.DiscardHandler)),
	}
}

// messageID names a message by its content, so that every copy of it is one message whoever sent it.
func messageID(m *pb.Message) string {
	d := content.Sum(append([]byte(m.GetTopic()+"\x00"), m.GetData()...))
	return string(d[:])
}

// Stats gives the counters.
func (n *Net) Stats() Stats {
	c := &n.stats
	return Stats{
		Received: c.received.Load(), Accepted: c.accepted.Load(), Ignored: c.ignored.Load(), Rejected: c.rejected.Load(),
		Sent: c.sent.Load(), Repeated: c.repeated.Load(),
		Pulls: n.pull.answered.Load(), PullsRefused: n.pull.refused.Load(),
	}
}

// OnReject has fn called, by several goroutines at once, for every peer that sent a message which no honest node forwards.
func (n *Net) OnReject(fn func(from gossip.PeerID)) { n.reject.Store(&fn) }

// Close closes all topics, ends the pull protocol and pubsub, and waits for what this package started.
func (n *Net) Close() {
	n.closing.Do(func() {
		n.mu.Lock()
		n.closed = true
		open := make([]*Topic, 0, len(n.topics))
		for _, t := range n.topics {
			open = append(open, t)
		}
		n.mu.Unlock()
		for _, t := range open {
			t.Close()
		}
		n.pull.close()
		n.stop()
		n.filter.close()
	})
}

// Topic is an open collection.
type Topic struct {
	net    *Net
	id     content.ID
	name   string
	topic  *pubsub.Topic
	leave  func() // leaves the mesh
	on     Callback
	stop   context.CancelFunc
	done   chan struct{}                  // closed when the republisher has ended
	latest chan []byte                    // this node's announcement to send again; holds one
	passOn chan []byte                    // an accepted announcement of somebody else to send to all peers; holds one
	own    atomic.Pointer[content.Digest] // of the last announcement of this node, which others pass on to it
	sends  atomic.Uint32                  // numbers the messages of this node, which makes their ids differ
	once   sync.Once
}

// Open joins the topic of a collection. Each message that this node has not seen is handed to on, whose verdict decides
// whether it is forwarded; those that this node publishes are handed to it, too.
func (n *Net) Open(id content.ID, on func(ctx context.Context, from gossip.PeerID, kind gossip.Kind, payload []byte) gossip.Verdict) (*Topic, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return nil, fmt.Errorf("open topic of %s: %w", id, ErrClosed)
	}
	if n.topics[id] != nil {
		return nil, fmt.Errorf("open topic of %s: it is open already", id)
	}
	t := &Topic{net: n, id: id, name: topicPrefix + id.String(), on: on,
		done: make(chan struct{}), latest: make(chan []byte, 1), passOn: make(chan []byte, 1)}
	if err := t.join(); err != nil {
		return nil, fmt.Errorf("open topic of %s: %w", id, err)
	}
	n.topics[id] = t
	ctx, stop := context.WithCancel(context.Background()) // Close ends it; the context of New does so through Net.Close
	t.stop = stop
	go t.repeat(ctx)
	return t, nil
}

func (t *Topic) join() error {
	ps := t.net.ps
	err := ps.RegisterTopicValidator(t.name, t.validate,
		pubsub.WithValidatorTimeout(validateTimeout), pubsub.WithValidatorConcurrency(validateConcurrency))
	if err != nil {
		return err
	}
	undo := func(err error) error { return errors.Join(err, ps.UnregisterTopicValidator(t.name)) }
	if t.topic, err = ps.Join(t.name); err != nil {
		return undo(err)
	}
	err = t.topic.SetScoreParams(&pubsub.TopicScoreParams{
		SkipAtomicValidation: true, TopicWeight: 1, InvalidMessageDeliveriesWeight: invalidWeight,
		InvalidMessageDeliveriesDecay: pubsub.ScoreParameterDecay(invalidMemory),
		TimeInMeshQuantum:             time.Second, // has no weight, but pubsub v0.17 divides by it: zero would be a crash
	})
	if err != nil {
		return undo(errors.Join(err, t.topic.Close()))
	}
	// The validator sees every message, so a relay is enough: a subscription would only need somebody to drain it.
	if t.leave, err = relay(t.topic); err != nil {
		return undo(errors.Join(err, t.topic.Close()))
	}
	return nil
}

func relay(t *pubsub.Topic) (func(), error) {
	cancel, err := t.Relay()
	return func() { cancel() }, err
}

// Publish hands a payload to this node's own callback and sends it to all peers of the topic. Only a payload that the
// callback rejects is not sent: what it ignores may be old news here and new to others. An announcement is sent again
// after 1, 5 and 15 seconds, for peers that were just connecting, unless a newer one was published; nodes that have it
// do not forward it twice. Nobody listening is not an error.
func (t *Topic) Publish(ctx context.Context, kind gossip.Kind, payload []byte) error {
	msg, err := gossip.EncodeMessage(kind, payload)
	if err != nil {
		return fmt.Errorf("publish to %s: %w", t.id, err)
	}
	if t.on(ctx, gossip.PeerID(t.net.host.ID().String()), kind, slices.Clone(payload)) == gossip.Reject {
		return fmt.Errorf("publish to %s: %w: this node itself rejects it", t.id, gossip.ErrMalformed)
	}
	if kind == gossip.KindAnnouncement {
		d := content.Sum(msg)
		t.own.Store(&d)
	}
	if err := t.send(ctx, t.next(), msg); err != nil {
		return fmt.Errorf("publish to %s: %w", t.id, err)
	}
	t.net.stats.sent.Add(1)
	if kind == gossip.KindAnnouncement {
		replace(t.latest, msg)
	}
	return nil
}

// replace puts msg into a channel that holds one, in place of what is in there.
func replace(c chan []byte, msg []byte) {
	select {
	case <-c:
	default:
	}
	select {
	case c <- msg:
	default: // somebody else was faster
	}
}

// header is in front of every message: how often its publisher had sent something before, and how many nodes have passed
// it on. Both are there to make ids differ, because pubsub never sends one id twice; counting nodes makes all copies that
// a node can hear from neighbours at one distance from the publisher one message.
type header struct{ attempt, passed byte }

const (
	headerSize = 2
	// maxPassed is how often an announcement is sent on to all peers; farther away the mesh alone carries it.
	maxPassed = 32
)

func (t *Topic) next() header { return header{attempt: byte(t.sends.Add(1))} }

func (t *Topic) send(ctx context.Context, h header, msg []byte) error {
	err := t.topic.Publish(ctx, append([]byte{h.attempt, h.passed}, msg...))
	if errors.Is(err, pubsub.ErrTopicClosed) {
		return ErrClosed
	}
	return err
}

// repeat sends the latest announcement of this node again by the schedule and passes on those of others, until ctx ends.
func (t *Topic) repeat(ctx context.Context) {
	defer close(t.done)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	timer.Stop()
	var msg []byte
	var first time.Time
	step := 0
	next := func() {
		if step < len(t.net.again) {
			timer.Reset(time.Until(first.Add(t.net.again[step])))
		}
	}
	for {
		select {
		case <-ctx.Done():
			return
		case msg = <-t.latest:
			first, step = time.Now(), 0
			next()
		case other := <-t.passOn:
			if err := t.send(ctx, header{other[0], other[1] + 1}, other[headerSize:]); err != nil {
				t.net.log.Debug("announcement not passed on", "collection", t.id, "error", err)
			}
		case <-timer.C:
			if err := t.send(ctx, t.next(), msg); err != nil {
				t.net.log.Debug("announcement not sent again", "collection", t.id, "error", err)
			} else {
				t.net.stats.repeated.Add(1)
			}
			step++
			next()
		}
	}
}

// validate is pubsub's validator: it maps a message to the callback and the verdict back.
func (t *Topic) validate(ctx context.Context, from peer.ID, m *pubsub.Message) pubsub.ValidationResult {
	if from == t.net.host.ID() {
		return pubsub.ValidationAccept // Publish asked the callback
	}
	c := &t.net.stats
	c.received.Add(1)
	switch data := m.GetData(); t.judge(ctx, from, data) {
	case gossip.Accept:
		c.accepted.Add(1)
		// GossipSub forwards along its mesh, which a new peer joins at the next heartbeat: what comes in between would
		// never reach it. Announcements are rare and small enough to send to every peer.
		if gossip.Kind(data[headerSize]) == gossip.KindAnnouncement && data[1] < maxPassed {
			replace(t.passOn, slices.Clone(data))
		}
		return pubsub.ValidationAccept
	case gossip.Reject:
		c.rejected.Add(1)
		t.net.log.Debug("message rejected", "collection", t.id, "peer", from)
		if fn := t.net.reject.Load(); fn != nil {
			(*fn)(gossip.PeerID(from.String()))
		}
		return pubsub.ValidationReject
	}
	c.ignored.Add(1)
	return pubsub.ValidationIgnore
}

func (t *Topic) judge(ctx context.Context, from peer.ID, data []byte) gossip.Verdict {
	if len(data) < headerSize {
		return gossip.Reject
	}
	kind, payload, err := gossip.DecodeMessage(data[headerSize:])
	var unknown *gossip.UnknownKindError
	switch {
	case errors.As(err, &unknown):
		return gossip.Ignore
	case err != nil:
		return gossip.Reject
	}
	if own := t.own.Load(); own != nil && content.Sum(data[headerSize:]) == *own {
		return gossip.Ignore
	}
	return t.on(ctx, gossip.PeerID(from.String()), kind, slices.Clone(payload))
}

// Peers gives the connected peers that have the topic open, sorted.
func (t *Topic) Peers() []gossip.PeerID {
	list := t.topic.ListPeers()
	peers := make([]gossip.PeerID, len(list))
	for i, p := range list {
		peers[i] = gossip.PeerID(p.String())
	}
	slices.Sort(peers)
	return peers
}

// Close leaves the topic and waits for its republisher. The collection can be opened again.
func (t *Topic) Close() {
	t.once.Do(func() {
		t.stop()
		<-t.done
		t.leave()
		n := t.net
		n.mu.Lock()
		defer n.mu.Unlock()
		err := errors.Join(t.topic.Close(), n.ps.UnregisterTopicValidator(t.name))
		if err != nil && !errors.Is(err, context.Canceled) {
			n.log.Debug("topic not closed in order", "collection", t.id, "error", err)
		}
		delete(n.topics, t.id)
	})
}
