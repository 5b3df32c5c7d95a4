package mirror

import (
	"context"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"swarmnode/content"
	"swarmnode/gossip"
	"swarmnode/gossip/topic"
	"swarmnode/gossip/trust"
)

// signer makes a publisher's signer in dir, with new keys if there are none.
func signer(t *testing.T, dir string) *trust.Signer {
	t.Helper()
	keys, err := trust.OpenKeys(filepath.Join(dir, "keys"))
	if errors.Is(err, os.ErrNotExist) {
		keys, _, err = trust.Init(filepath.Join(dir, "keys"), time.Now(), trust.Lifetimes{})
	}
	if err != nil {
		t.Fatal(err)
	}
	return must(trust.OpenSigner(keys, filepath.Join(dir, "signer"), trust.Lifetimes{}))
}

// sign signs a release and gives the payload of its announcement.
func sign(s *trust.Signer, number uint64, what string) []byte {
	return must(gossip.EncodeBundle(must(s.Sign(time.Now(), trust.Release{
		Name: "debian", Number: number, Manifest: content.Sum([]byte(what)), Size: 100, Bytes: 1000, Files: 10}))))
}

// ear is a Listener with what it told.
type ear struct {
	*Listener
	mu    sync.Mutex // guards what follows
	news  []gossip.Head
	peers map[gossip.PeerID]func(ctx context.Context, name string) ([]byte, error)
}

func newEar(t *testing.T, id content.ID) *ear {
	e := &ear{peers: map[gossip.PeerID]func(context.Context, string) ([]byte, error){}}
	e.Listener = NewListener(ListenConfig{
		ID: id, Repository: must(trust.Open(t.TempDir(), id)),
		News: func(h gossip.Head) { e.mu.Lock(); defer e.mu.Unlock(); e.news = append(e.news, h) },
		Peers: func() (ids []gossip.PeerID) {
			e.mu.Lock()
			defer e.mu.Unlock()
			for p := range e.peers {
				ids = append(ids, p)
			}
			return ids
		},
		Pull: func(ctx context.Context, from gossip.PeerID, _ content.ID, name string, _ int64) ([]byte, error) {
			e.mu.Lock()
			pull := e.peers[from]
			e.mu.Unlock()
			if pull == nil {
				return nil, errors.New("not connected")
			}
			return pull(ctx, name)
		},
	})
	return e
}

func (e *ear) add(p gossip.PeerID, pull func(context.Context, string) ([]byte, error)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.peers[p] = pull
}

func (e *ear) heard() []gossip.Head {
	synctest.Wait()
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.news
}

func (e *ear) run() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	return func() { cancel(); <-done }
}

func serving(s *trust.Signer) func(context.Context, string) ([]byte, error) {
	return func(_ context.Context, name string) ([]byte, error) { return s.File(name) }
}

func stalled(ctx context.Context, _ string) ([]byte, error) { <-ctx.Done(); return nil, ctx.Err() }

func TestListenerHears(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := signer(t, t.TempDir())
		e := newEar(t, s.ID())
		defer e.run()()
		ctx := context.Background()
		first := sign(s, 1, "one")
		if v := e.Message(ctx, "nobody", gossip.KindAnnouncement, first); v != gossip.Ignore {
			t.Errorf("an announcement under a root that is not here: %s", v)
		}
		e.add("stalled", stalled)
		e.add("stalled too", stalled)
		time.Sleep(time.Minute)
		e.add("master", serving(s))
		time.Sleep(10 * time.Minute) // two of three choices are stalled ones: 1 in 10^15 that it is not asked in that time
		if h := e.heard(); len(h) != 1 || h[0].Release != 1 {
			t.Fatalf("heard %+v, want release 1", h)
		}
		time.Sleep(time.Second)
		second := sign(s, 2, "two")
		if v := e.Message(ctx, "master", gossip.KindAnnouncement, second); v != gossip.Accept {
			t.Errorf("release 2: %s", v)
		}
		if v := e.Message(ctx, "other", gossip.KindAnnouncement, second); v != gossip.Ignore {
			t.Errorf("release 2 again: %s", v)
		}
		if v := e.Message(ctx, "other", gossip.KindAnnouncement, first); v != gossip.Ignore {
			t.Errorf("release 1 after it: %s", v)
		}
		if v := e.Message(ctx, "other", gossip.KindAnnouncement, []byte("rubbish")); v != gossip.Reject {
			t.Errorf("rubbish: %s", v)
		}
		if h := e.heard(); len(h) != 2 || h[1].Release != 2 || e.Head().Release != 2 {
			t.Errorf("heard %+v, want release 2", h)
		}
		time.Sleep(time.Hour)
		sign(s, 3, "three")        // nobody says so: it is asked for
		time.Sleep(100 * askEvery) // as above
		if h := e.Head(); h.Release != 3 {
			t.Errorf("head %+v, want release 3", h)
		}
		if heard := e.Heard(time.Now(), 3); heard.Alarm != "" || heard.FreshAsOf.IsZero() {
			t.Errorf("heard %+v", heard)
		}
	})
}

func TestListenerStartsWithWhatItKnows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := signer(t, t.TempDir())
		sign(s, 4, "four")
		e := newEar(t, s.ID())
		e.add("master", serving(s))
		if err := e.PullFrom(context.Background(), "master"); err != nil {
			t.Fatal(err)
		}
		e.Listener = NewListener(e.cfg)
		stop := e.run()
		if h := e.heard(); len(h) != 2 || h[1].Release != 4 {
			t.Errorf("heard %+v, want release 4 twice", h)
		}
		stop()
	})
}

func TestListenerRaisesTheAlarmOnAFork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		s := signer(t, dir)
		sign(s, 1, "one")
		twin := filepath.Join(t.TempDir(), "twin")
		if err := os.CopyFS(twin, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		other := signer(t, twin)
		e := newEar(t, s.ID())
		e.add("master", serving(s))
		if err := e.PullFrom(context.Background(), "master"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if v := e.Message(context.Background(), "a", gossip.KindAnnouncement, sign(s, 2, "two")); v != gossip.Accept {
			t.Errorf("release 2: %s", v)
		}
		time.Sleep(time.Second)
		sign(other, 2, "another two")
		time.Sleep(time.Second)
		b := must(gossip.EncodeBundle(must(other.Heartbeat(time.Now()))))
		if v := e.Message(context.Background(), "b", gossip.KindAnnouncement, b); v != gossip.Ignore {
			t.Errorf("another release 2: %s", v)
		}
		heard := e.Heard(time.Now(), 2)
		if heard.Alarm == "" {
			t.Error("no alarm")
		}
		e.add("forger", serving(other))
		if err := e.PullFrom(context.Background(), "forger"); err == nil {
			t.Error("the fork was pulled")
		}
		if again := e.Heard(time.Now(), 2).Alarm; again != heard.Alarm {
			t.Errorf("the alarm %q became %q", heard.Alarm, again)
		}
		if h := e.Head(); h.Manifest != content.Sum([]byte("two")) {
			t.Errorf("head %+v", h)
		}
		if was, err := e.Acknowledge(); !was || err != nil || e.Heard(time.Now(), 2).Alarm != "" || e.cfg.Repository.Alarm() != nil {
			t.Errorf("acknowledged: %v, %v, and there is %q", was, err, e.Heard(time.Now(), 2).Alarm)
		}
		if was, err := e.Acknowledge(); was || err != nil {
			t.Errorf("acknowledged again: %v, %v", was, err)
		}
	})
}

func TestMemberRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		id := content.NewID([]byte("members"))
		e := newEar(t, id)
		key, _, err := crypto.GenerateEd25519Key(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		self := gossip.PeerID(must(peer.IDFromPrivateKey(key)).String())
		record := func(id content.ID, age time.Duration) []byte {
			return must(topic.SealMember(key, gossip.Member{Collection: id, Release: 1, Issued: time.Now().Add(-age).Unix()}))
		}
		broken := record(id, 0)
		broken[len(broken)-1] ^= 1
		for _, c := range []struct {
			name string
			raw  []byte
			want gossip.Verdict
		}{
			{"new", record(id, time.Minute), gossip.Accept},
			{"again", record(id, time.Minute), gossip.Ignore},
			{"older", record(id, 2*time.Minute), gossip.Ignore},
			{"newer", record(id, 0), gossip.Accept},
			{"of another collection", record(content.NewID([]byte("x")), 0), gossip.Reject},
			{"broken", broken, gossip.Reject},
			{"nothing", nil, gossip.Reject},
		} {
			if got := e.Message(context.Background(), "from", gossip.KindMember, c.raw); got != c.want {
				t.Errorf("%s: %s, want %s", c.name, got, c.want)
			}
		}
		if m := e.Heard(time.Now(), 0).Members; len(m) != 1 || m[0].Peer != self {
			t.Errorf("members %+v", m)
		}
	})
}
