package node

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	libp2pnet "github.com/libp2p/go-libp2p/core/network"

	"swarmnode/content"
	"swarmnode/gossip"
	"swarmnode/gossip/topic"
	"swarmnode/node/control"
	"swarmnode/node/p2p"
)

// startPeer runs a bare host on loopback; setup registers what it answers.
func startPeer(t *testing.T, setup func(host.Host) error) *p2p.Host {
	t.Helper()
	h, err := p2p.New(t.Context(), p2p.Config{Key: filepath.Join(t.TempDir(), "key"), Listen: []string{"/ip4/127.0.0.1/tcp/0"}, Setup: setup,
		UserAgent: "test", Log: testLog(t, "peer")}, p2p.Handlers{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

// hangs is how long a hanging peer keeps a stream: who waits for it waits longer than a busy machine takes for all else.
const hangs = time.Minute

// hanging takes requests for trust files and says nothing.
func hanging(h host.Host) error {
	h.SetStreamHandler(topic.PullProtocol, func(s libp2pnet.Stream) {
		s.Read(make([]byte, 1))
		time.AfterFunc(hangs, func() { s.Reset() })
	})
	return nil
}

// TestLyingBootstrap: what a node says it publishes is followed only if the keys of the collection say so; nothing stays of the rest.
func TestLyingBootstrap(t *testing.T) {
	t.Parallel()
	master := startNode(t, "master", t.TempDir())
	real := master.publish(t, tree(t, "one"))
	var claims []gossip.Claim
	var net *topic.Net
	liar := startPeer(t, topic.Setup(t.Context(), testLog(t, "liar"), &net))
	t.Cleanup(net.Close)
	net.Serve(func(id content.ID, name string) ([]byte, error) { return master.file(id, name) }, func() []gossip.Claim { return claims })
	stolen := master.claims()[0] // of another peer: refused before anything is asked
	forged := stolen
	forged.Peer = liar.ID()
	unknown := gossip.Claim{Collection: content.ID{9}, Name: "nothing", Peer: liar.ID(), Expires: stolen.Expires, KeyID: stolen.KeyID, Signature: stolen.Signature}

	x := startNode(t, "x", t.TempDir())
	for what, list := range map[string][]gossip.Claim{"forged": {forged}, "unknown": {unknown}, "stolen": {stolen}, "both": {forged, unknown}} {
		claims = list
		if ids, err := x.Join(t.Context(), liar.Addrs()[0], nil); err == nil {
			t.Errorf("%s: %v is followed", what, ids)
		}
	}
	for _, dir := range []string{collectionsDir, claimsDir} {
		if list, err := os.ReadDir(filepath.Join(x.home, dir)); len(list) != 0 {
			t.Errorf("left in %s: %v, %v", dir, list, err)
		}
	}
	if len(x.Status().Collections) != 0 {
		t.Errorf("followed: %+v", x.Status().Collections)
	}
	// A mirror of the real one does not lose it to a false claim.
	if _, err := x.Join(t.Context(), master.Addrs()[0], nil); err != nil {
		t.Fatal(err)
	}
	claims = []gossip.Claim{forged}
	if ids, err := x.Join(t.Context(), liar.Addrs()[0], nil); err == nil {
		t.Errorf("%v is followed", ids)
	}
	waitFor(t, real.ID, 1, x)
}

// TestMayFollow: one node cannot make this one mirror more than the limit.
func TestMayFollow(t *testing.T) {
	t.Parallel()
	n := &Node{collections: map[content.ID]*collection{}}
	for i := range maxFollowed {
		id := content.ID{byte(i), 1}
		n.collections[id] = &collection{id: id, record: record{ID: id, Bootstrap: []string{"/ip4/192.0.2.1/tcp/1/p2p/liar"}}}
	}
	if err := n.mayFollow("other"); err != nil {
		t.Errorf("another node: %v", err)
	}
	if err := n.mayFollow("liar"); err == nil || !strings.Contains(err.Error(), "64 collections") {
		t.Errorf("the same node: %v", err)
	}
}

// TestHangingPeers: neither a publisher nor a client waits for peers that take a question and never answer it.
func TestHangingPeers(t *testing.T) {
	t.Parallel()
	var boots []string
	for range 3 {
		boots = append(boots, startPeer(t, hanging).Addrs()[0])
	}
	dir := tree(t, "one")
	master := startNode(t, "master", t.TempDir())
	first := master.publish(t, dir)
	for _, b := range boots {
		if _, err := master.host.Connect(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	within(t, "hanging peers connected", func() bool { return len(master.connected()) == len(boots) })
	mirror := startNode(t, "mirror", t.TempDir())
	if _, err := mirror.Join(t.Context(), master.Addrs()[0], nil); err != nil {
		t.Fatal(err)
	}
	waitFor(t, first.ID, 1, mirror)
	write(t, dir, "more", "more")
	began := time.Now()
	if res := master.publish(t, dir); res.Release != 2 || time.Since(began) > hangs/2 {
		t.Errorf("publish took %s: %+v", time.Since(began), res)
	}
	waitFor(t, first.ID, 2, mirror)
	c, err := OpenClient(t.Context(), ClientConfig{Home: t.TempDir(), Bootstrap: append(boots, mirror.Addrs()[0])})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	began = time.Now()
	r, err := c.Release(t.Context(), first.ID)
	if err != nil || r.Head.Release != 2 || time.Since(began) > askTimeout-time.Second {
		t.Fatalf("after %s: %+v, %v", time.Since(began), r, err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := c.Release(ctx, content.ID{3}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("interrupted search: %v", err)
	}
	if len(c.fetchers) != 0 {
		t.Errorf("%d fetchers are told of peers", len(c.fetchers))
	}
}

// copyHome copies a home as a backup would.
func copyHome(t *testing.T, home string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(to, os.DirFS(home)); err != nil { // which gives every file mode 0644
		t.Fatal(err)
	}
	err := filepath.WalkDir(to, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			err = os.Chmod(path, 0o600)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return to
}

// TestFork: two homes with the same keys have signed different releases with one number. When they meet, both say so and sign
// nothing more, and mirrors are warned.
func TestFork(t *testing.T) {
	t.Parallel()
	dir, home := tree(t, "one"), t.TempDir()
	one := startNode(t, "one", home)
	first := one.publish(t, dir)
	one.halt()
	other := copyHome(t, home)
	if err := os.Remove(filepath.Join(other, "node.key")); err != nil {
		t.Fatal(err)
	}
	one, two := startNode(t, "one", home), startNode(t, "two", other)
	write(t, dir, "file", "of one")
	if res := one.publish(t, dir); res.Release != 2 {
		t.Fatalf("one: %+v", res)
	}
	write(t, dir, "file", "of the other")
	if res := two.publish(t, dir); res.Release != 2 {
		t.Fatalf("two: %+v", res)
	}
	client, err := OpenClient(t.Context(), ClientConfig{Bootstrap: []string{one.Addrs()[0]}})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := client.host.Connect(t.Context(), two.Addrs()[0]); err != nil {
		t.Fatal(err)
	}
	if r, err := client.Release(t.Context(), first.ID); err == nil {
		t.Logf("the client took release %d", r.Head.Release) // the versions of both timestamps are equal: it cannot tell
		r.Close()
	} else if !errors.Is(err, gossip.ErrFork) {
		t.Errorf("client: %v", err)
	}
	if _, err := two.host.Connect(t.Context(), one.Addrs()[0]); err != nil {
		t.Fatal(err)
	}
	within(t, "the two know of each other", func() bool {
		return slices.ContainsFunc(one.host.Peers(), func(p p2p.PeerInfo) bool { return p.ID == two.host.ID() })
	})
	write(t, dir, "file", "again")
	one.patience, two.patience = hang, hang
	_, err1 := one.publishAs(control.PublishRequest{Dir: dir, Name: "test"})
	_, err2 := two.publishAs(control.PublishRequest{Dir: dir, Name: "test"})
	if err1 == nil || err2 == nil {
		t.Fatalf("signed after the fork: %v, %v", err1, err2)
	}
	for _, x := range []*testNode{one, two} {
		if st := x.Status(); !strings.HasPrefix(st.Verdict, "alarm: the keys of test are used elsewhere") {
			t.Errorf("status: %s", st.Verdict)
		}
		c := x.collection(first.ID)
		if err := x.beat(t.Context(), c); err == nil {
			t.Error("a heartbeat was signed")
		}
		if err := x.Acknowledge("nothing"); err == nil {
			t.Error("the alarm of a collection that is not here was acknowledged")
		}
		if err := x.Acknowledge(first.ID.String()); err != nil || c.trust.Alarm() != nil {
			t.Errorf("acknowledge: %v", err)
		}
	}
}
