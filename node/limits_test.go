package node

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"swarmnode/content"
	"swarmnode/gossip"
	"swarmnode/node/limit"
	"swarmnode/node/p2p"
	"swarmnode/node/policy"
)

// limitClock is a clock for limits. It goes on only while somebody waits for bytes, so that none are lost by a slow machine: what is
// granted is a matter of arithmetic.
type limitClock struct{ at atomic.Int64 }

func (c *limitClock) now() time.Time { return time.Unix(0, c.at.Load()) }

// run moves the clock of a node until ctx ends.
func (c *limitClock) run(ctx context.Context, n *Node) {
	const step = 20 * time.Millisecond // of which six fit into the bucket
	for ctx.Err() == nil {
		if n.limit.Stats().Waiting > 0 {
			c.at.Add(int64(step))
		}
		time.Sleep(time.Millisecond)
	}
}

// TestUploadIsShared: ten peers and some HTTP clients who take all they can get from one node get what its bucket has and nothing more,
// and a network with one site gets as much as the one with all the peers.
func TestUploadIsShared(t *testing.T) {
	t.Parallel()
	const rate = 1_000_000
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "image"), make([]byte, 4<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	var clock limitClock
	clock.at.Store(time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC).UnixNano())
	master := startWith(t, "master", withGateway(Config{Home: t.TempDir(), Limit: limit.Config{
		Limits: policy.Limits{Upload: rate}, LAN: []netip.Prefix{}, Now: clock.now}}))
	id := master.publish(t, dir).ID
	ctx, stop := context.WithCancel(t.Context())
	var all sync.WaitGroup
	defer all.Wait()
	defer stop()
	all.Go(func() { clock.run(ctx, master.Node) })

	var ready sync.WaitGroup
	for range 10 {
		ready.Add(1)
		all.Go(func() { takePeer(t, ctx, id, master, ready.Done) })
	}
	from := ""
	if runtime.GOOS == "linux" { // all of 127.0.0.0/8 is this machine
		from = "127.7.7.7"
	}
	var http atomic.Int64
	for range 4 {
		all.Go(func() { takeHTTP(ctx, from, master.Gateway()+id.String()+"/image", &http) })
	}
	ready.Wait()
	began, before, httpBefore := clock.now(), master.limit.Stats().Month.Sent, http.Load()
	for clock.now().Sub(began) < 15*time.Second {
		time.Sleep(5 * time.Millisecond)
		if t.Context().Err() != nil {
			t.Fatal("it takes too long")
		}
	}
	st, took, byHTTP := master.limit.Stats(), clock.now().Sub(began), http.Load()-httpBefore
	sent, want := float64(st.Month.Sent-before), rate*took.Seconds()
	if sent < 0.97*want || sent > 1.03*want {
		t.Errorf("in %s %.0f bytes were sent, want %.0f", took, sent, want)
	}
	if float64(byHTTP) > sent+rate { // some were on their way before
		t.Errorf("HTTP clients got %d bytes of %.0f", byHTTP, sent)
	}
	if from != "" && (float64(byHTTP) < 0.25*sent || float64(byHTTP) > 0.75*sent) {
		t.Errorf("one of two networks, that of the HTTP clients, got %d bytes of %.0f", byHTTP, sent)
	}
	t.Logf("%.0f bytes in %s of the clock: %.1f %% of the limit; HTTP had %.0f %% of them", sent, took, sent/want*100, float64(byHTTP)/sent*100)
}

// takePeer downloads a release again and again until ctx ends.
func takePeer(t *testing.T, ctx context.Context, id content.ID, master *testNode, ready func()) {
	cfg := ClientConfig{Home: t.TempDir(), Bootstrap: master.Addrs(), Log: testLog(t, "client")}
	c, err := OpenClient(ctx, cfg)
	for try := 1; err != nil && try < 5 && ctx.Err() == nil; try++ { // a busy machine may miss the deadline of a handshake
		c, err = OpenClient(ctx, cfg)
	}
	ready()
	if err != nil {
		if ctx.Err() == nil {
			t.Error(err)
		}
		return
	}
	defer c.Close()
	r, err := c.Release(ctx, id)
	if err != nil {
		if ctx.Err() == nil {
			t.Error(err)
		}
		return
	}
	defer r.Close()
	for ctx.Err() == nil {
		if _, err := r.Get(ctx, "", filepath.Join(t.TempDir(), "out"), func(Progress) {}); err != nil && ctx.Err() == nil {
			t.Error(err)
		}
	}
}

// takeHTTP downloads a file again and again until ctx ends, and counts what comes.
func takeHTTP(ctx context.Context, from, url string, got *atomic.Int64) {
	dialer := net.Dialer{}
	if from != "" {
		dialer.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	client := http.Client{Transport: &http.Transport{DialContext: dialer.DialContext}}
	defer client.CloseIdleConnections()
	for ctx.Err() == nil {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			panic(err)
		}
		res, err := client.Do(req)
		if err != nil {
			continue
		}
		io.Copy(counting{got}, res.Body) // it may be cut at the end of ctx
		res.Body.Close()
	}
}

type counting struct{ n *atomic.Int64 }

func (c counting) Write(p []byte) (int, error) {
	c.n.Add(int64(len(p)))
	return len(p), nil
}

// TestMonthUsedUp: a node that has sent all that it may in a month says so to everybody, and is back when it may send more.
func TestMonthUsedUp(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	writeTree(t, dir, 3)
	const url = "http://mirror.example.org/"
	master := startWith(t, "master", withGateway(Config{Home: t.TempDir(), Web: Web{Gateway: &GatewayConfig{URL: url}}, Limit: limit.Config{LAN: []netip.Prefix{}}}))
	id := master.publish(t, dir).ID
	mirror := mirrorOf(t, master, Config{})
	record := func() (m gossip.Member) {
		for _, o := range mirror.collection(id).listener.Heard(time.Now(), 0).Members {
			if o.Peer == master.ID() {
				m = o
			}
		}
		return m
	}
	within(t, "the master says that it has all", func() bool { m := record(); return m.Gateway == url && m.Complete })

	if err := master.SetLimits(map[string]string{"monthly": "1B"}); err != nil {
		t.Fatal(err)
	}
	head := master.collection(id).master.signer.Head()
	err := mirror.host.Blocks(t.Context(), master.ID(), id, []content.Digest{head.Manifest}, func(content.Digest, []byte) error { return nil })
	if busy := (*p2p.BusyError)(nil); !errors.As(err, &busy) || busy.RetryAfter < time.Second {
		t.Errorf("a peer is told %v", err)
	}
	err = mirror.host.Chunks(t.Context(), master.ID(), id, content.Run{Segment: 0, Count: 1}, func(uint32) uint32 { return 100 }, nil,
		func(content.Ref, []byte) error { return errors.New("a chunk came") })
	if busy := (*p2p.BusyError)(nil); !errors.As(err, &busy) || busy.RetryAfter < time.Second {
		t.Errorf("a peer that asks for a chunk is told %v", err)
	}
	if a := master.ask(t, "GET", "/test/"); a.StatusCode != 503 || a.Header.Get("Retry-After") == "" || !strings.Contains(string(a.body), "month") {
		t.Errorf("a client is told %s, %v: %s", a.Status, a.Header, a.body)
	}
	if a := master.ask(t, "GET", "/-/health"); a.StatusCode != 200 {
		t.Errorf("whether it lives: %s", a.Status)
	}
	if st := master.Status(); st.Fine || !strings.Contains(st.Verdict, "month used up") || !st.Limits.Over {
		t.Errorf("status: %q, %+v", st.Verdict, st.Limits)
	}
	within(t, "the others hear that it gives nothing", func() bool { m := record(); return m.Gateway == "" && !m.Complete })

	if err := master.SetLimits(map[string]string{"monthly": "none"}); err != nil {
		t.Fatal(err)
	}
	if a := master.ask(t, "GET", "/test/"); a.StatusCode != 200 {
		t.Errorf("with more to give: %s", a.Status)
	}
	within(t, "the others hear that it gives again", func() bool { m := record(); return m.Gateway == url && m.Complete })

	sent := master.limit.Stats().Month.Sent
	master.halt()
	again := startWith(t, "master", Config{Home: master.home})
	if got := again.Status().Limits.Sent; sent == 0 || got < sent {
		t.Errorf("after a restart %d bytes of %d are remembered", got, sent)
	}
}
