package topic

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"go.uber.org/goleak"

	"swarmnode/content"
	"swarmnode/gossip"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/libp2p/go-libp2p-pubsub/timecache.background"), // ends a tick after its context
	)
}

var testID = content.NewID([]byte("test"))

// node is a host with an open topic whose callback accepts what is new and remembers it.
type node struct {
	host  host.Host
	net   *Net
	topic *Topic

	mu      sync.Mutex
	verdict func(payload string) gossip.Verdict // nil accepts
	got     map[string]int                      // how often each payload was judged
	changed chan struct{}
}

func newHost(t testing.TB) host.Host {
	t.Helper()
	h, err := libp2p.New(libp2p.NoTransports, libp2p.Transport(tcp.NewTCPTransport), libp2p.DisableMetrics(), libp2p.DisableRelay(),
		libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"), libp2p.ResourceManager(&network.NullResourceManager{}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

func newNode(t testing.TB, again ...time.Duration) *node {
	t.Helper()
	n := &node{host: newHost(t), got: map[string]int{}, changed: make(chan struct{}, 1)}
	var err error
	if n.net, err = New(t.Context(), n.host, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.net.Close)
	n.net.again = again
	if n.topic, err = n.net.Open(testID, n.on); err != nil {
		t.Fatal(err)
	}
	return n
}

func (n *node) on(_ context.Context, _ gossip.PeerID, _ gossip.Kind, payload []byte) gossip.Verdict {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.got[string(payload)]++
	select {
	case n.changed <- struct{}{}:
	default:
	}
	if n.verdict != nil {
		return n.verdict(string(payload))
	}
	if n.got[string(payload)] > 1 {
		return gossip.Ignore
	}
	return gossip.Accept
}

func (n *node) count(payload string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.got[payload]
}

func (n *node) waitFor(t testing.TB, payload string) {
	t.Helper()
	for n.count(payload) == 0 {
		select {
		case <-n.changed:
		case <-time.After(20 * time.Second):
			t.Fatalf("%s did not get %q", n.id(), payload)
		}
	}
}

func (n *node) id() gossip.PeerID { return gossip.PeerID(n.host.ID().String()) }

// connect connects two nodes and waits until each knows that the other has the topic open.
func connect(t testing.TB, a, b *node) {
	t.Helper()
	dial(t, a.host, b.host)
	eventually(t, func() bool {
		return slices.Contains(a.topic.Peers(), b.id()) && slices.Contains(b.topic.Peers(), a.id())
	})
}

func dial(t testing.TB, a, b host.Host) {
	t.Helper()
	if err := a.Connect(t.Context(), peer.AddrInfo{ID: b.ID(), Addrs: b.Addrs()}); err != nil {
		t.Fatal(err)
	}
}

func eventually(t testing.TB, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it did not happen within 20 s")
		}
	}
}

func publish(t testing.TB, n *node, payload string) {
	t.Helper()
	if err := n.topic.Publish(t.Context(), gossip.KindAnnouncement, []byte(payload)); err != nil {
		t.Fatal(err)
	}
}

func TestAnnouncementTravelsAlongAChain(t *testing.T) {
	nodes := make([]*node, 5)
	for i := range nodes {
		nodes[i] = newNode(t, 10*time.Millisecond, 20*time.Millisecond)
		if i > 0 {
			connect(t, nodes[i-1], nodes[i])
		}
	}
	publish(t, nodes[0], "release 1")
	for _, n := range nodes {
		n.waitFor(t, "release 1")
	}
	eventually(t, func() bool { return nodes[0].net.Stats().Repeated == 2 })
	if got := nodes[0].count("release 1"); got != 1 {
		t.Errorf("the publisher's own callback was called %d times, want once", got)
	}
	for i, n := range nodes[1:] {
		if got := n.net.Stats(); got.Accepted != 1 {
			t.Errorf("node %d: %+v, want one accepted", i+1, got)
		}
	}
	if got, want := nodes[1].topic.Peers(), 2; len(got) != want {
		t.Errorf("second node has peers %v, want %d", got, want)
	}
}

func TestLatePeerGetsTheAnnouncement(t *testing.T) {
	var schedule []time.Duration
	for i := range 100 {
		schedule = append(schedule, time.Duration(i+1)*50*time.Millisecond)
	}
	a, late := newNode(t, schedule...), newNode(t)
	publish(t, a, "release 1") // nobody is there
	connect(t, a, late)
	late.waitFor(t, "release 1")
}

func TestRejectedIsNotForwardedAndItsSenderLosesItsVoice(t *testing.T) {
	a, b, c := newNode(t, 10*time.Millisecond, 20*time.Millisecond), newNode(t), newNode(t)
	b.verdict = func(payload string) gossip.Verdict {
		if payload[:3] == "bad" {
			return gossip.Reject
		}
		return gossip.Accept
	}
	connect(t, a, b)
	connect(t, b, c)
	publish(t, a, "good 1")
	c.waitFor(t, "good 1")
	for i := range 3 {
		publish(t, a, fmt.Sprint("bad ", i))
		eventually(t, func() bool { return b.net.Stats().Rejected >= uint64(i)+1 })
	}
	eventually(t, func() bool { return a.net.Stats().Repeated >= 2 })
	before := a.net.Stats().Repeated
	publish(t, a, "good 2")
	eventually(t, func() bool { return a.net.Stats().Repeated >= before+2 })
	publish(t, b, "good 3")
	c.waitFor(t, "good 3")
	for _, p := range []string{"bad 0", "bad 1", "bad 2", "good 2"} {
		if c.count(p) != 0 {
			t.Errorf("%q was forwarded", p)
		}
	}
	if b.count("good 2") != 0 {
		t.Error("a peer that sent three invalid messages is still listened to")
	}
}

func TestGarbageMessages(t *testing.T) {
	big := append([]byte{1, 0, byte(gossip.KindMember)}, make([]byte, gossip.MaxSealedMember+1)...)
	for _, raw := range [][]byte{{1}, {1, 0}, {1, 0, byte(gossip.KindAnnouncement)}, big} {
		a, b := newNode(t), newNode(t)
		connect(t, a, b)
		if err := a.topic.topic.Publish(t.Context(), raw); err != nil {
			t.Fatal(err)
		}
		eventually(t, func() bool { return b.net.Stats().Rejected == 1 })
	}
	c, d := newNode(t), newNode(t)
	connect(t, c, d)
	if err := c.topic.topic.Publish(t.Context(), []byte{1, 0, 200, 1}); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool { return d.net.Stats().Ignored == 1 }) // a kind of a later program
}

func TestOwnRejectionIsAnError(t *testing.T) {
	a := newNode(t)
	a.verdict = func(string) gossip.Verdict { return gossip.Reject }
	if err := a.topic.Publish(t.Context(), gossip.KindAnnouncement, []byte("x")); !errors.Is(err, gossip.ErrMalformed) {
		t.Errorf("got %v, want ErrMalformed", err)
	}
	if err := a.topic.Publish(t.Context(), gossip.KindAnnouncement, make([]byte, gossip.MaxBundle+1)); !errors.Is(err, gossip.ErrMalformed) {
		t.Errorf("too large: got %v, want ErrMalformed", err)
	}
}

func TestLargestAnnouncementFits(t *testing.T) {
	a, b := newNode(t), newNode(t)
	connect(t, a, b)
	large := string(bytes.Repeat([]byte{7}, gossip.MaxBundle))
	publish(t, a, large)
	b.waitFor(t, large)
}

func TestOpenCloseOpen(t *testing.T) {
	a, b := newNode(t), newNode(t)
	connect(t, a, b)
	if _, err := a.net.Open(testID, a.on); err == nil {
		t.Error("a topic could be opened twice")
	}
	a.topic.Close()
	a.topic.Close()
	if err := a.topic.Publish(t.Context(), gossip.KindMember, []byte("x")); !errors.Is(err, ErrClosed) {
		t.Errorf("publish to a closed topic: %v, want ErrClosed", err)
	}
	eventually(t, func() bool { return len(b.topic.Peers()) == 0 })
	var err error
	if a.topic, err = a.net.Open(testID, a.on); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool { return len(b.topic.Peers()) == 1 })
	publish(t, b, "again")
	a.waitFor(t, "again")
	a.net.Close()
	if _, err := a.net.Open(testID, a.on); !errors.Is(err, ErrClosed) {
		t.Errorf("open on a closed net: %v, want ErrClosed", err)
	}
}

func TestNetEndsWithItsContext(t *testing.T) {
	h := newHost(t)
	ctx, cancel := context.WithCancel(t.Context())
	n, err := New(ctx, h, slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.Open(testID, nil); err != nil {
		t.Fatal(err)
	}
	cancel()
	n.Close() // waits for the closing that the context began
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.topics) != 0 {
		t.Error("a topic is still open")
	}
}

func TestSubscriptionFilter(t *testing.T) {
	s := &subscriptions{have: map[peer.ID]map[string]bool{}}
	for topic, want := range map[string]bool{
		"/swarmnode/" + testID.String(): true, "/swarmnode/": false, "/swarmnode/x": false, "": false,
		testID.String(): false, "/swarmnode/" + testID.String() + "/x": false,
	} {
		if got := s.CanSubscribe(topic); got != want {
			t.Errorf("CanSubscribe(%q) = %v, want %v", topic, got, want)
		}
	}
}
