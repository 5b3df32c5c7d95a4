package p2p

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	ma "github.com/multiformats/go-multiaddr"
	"go.uber.org/goleak"

	"swarmnode/content"
	"swarmnode/gossip"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/libp2p/go-flow-metrics.(*sweeper).runActive"),
		goleak.IgnoreAnyFunction("github.com/ipfs/go-log/v2/writer.(*MirrorWriter).logRoutine"),
		goleak.IgnoreAnyFunction("go.opencensus.io/stats/view.(*worker).start"),
		// nat-pmp and SSDP look-ups end by their own time-outs.
		goleak.IgnoreAnyFunction("github.com/jackpal/go-nat-pmp.(*Client).rpc"))
}

var short = Timeouts{Open: 5 * time.Second, Progress: 400 * time.Millisecond, Total: 20 * time.Second,
	KeepAlive: 50 * time.Millisecond, Queue: 50 * time.Millisecond, Reconnect: 50 * time.Millisecond}

// patient is for tests in which no deadline matters, as newHost has it: a busy machine stands still for longer than short allows.
var patient = Timeouts{Open: 5 * time.Minute, Progress: 5 * time.Minute, Total: 5 * time.Minute, KeepAlive: 50 * time.Millisecond,
	Queue: 5 * time.Minute, Reconnect: 50 * time.Millisecond}

func newHost(t testing.TB, cfg Config, handlers Handlers) *Host {
	t.Helper()
	if cfg.Listen == nil && !cfg.Client {
		cfg.Listen = []string{"127.0.0.1:0"}
	}
	if cfg.Timeouts == (Timeouts{}) {
		cfg.Timeouts = patient
		cfg.Timeouts.Queue = short.Queue // there are tests of who is busy
	}
	h, err := New(t.Context(), cfg, handlers)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

// run runs the host until it is closed or the test ends.
func run(t testing.TB, h *Host) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil && err != ErrClosed {
			t.Errorf("Run: %v", err)
		}
	})
}

func connect(t testing.TB, from, to *Host) {
	t.Helper()
	id, err := from.Connect(t.Context(), to.Addrs()[0])
	if err != nil || id != to.ID() {
		t.Fatalf("Connect: got %s, %v, want %s", id, err, to.ID())
	}
	within(t, "the other end has the connection, too", func() bool {
		return to.host.Network().Connectedness(from.host.ID()) == network.Connected
	})
}

// hang is how long within waits: only what never comes takes as long, however loaded the machine is.
const hang = 2 * time.Minute

// within waits for something that other goroutines bring about.
func within(t testing.TB, what string, ok func() bool) {
	t.Helper()
	end := time.Now().Add(hang)
	for !ok() {
		if time.Now().After(end) {
			t.Fatalf("not within %s: %s", hang, what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func TestIdentity(t *testing.T) {
	path := filepath.Join(t.TempDir(), "deep", "identity")
	a := newHost(t, Config{Key: path}, Handlers{})
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("identity file: %v, %v, want mode 0600", info, err)
	}
	a.Close()
	b := newHost(t, Config{Key: path}, Handlers{})
	if a.ID() != b.ID() {
		t.Errorf("second start is %s, want %s", b.ID(), a.ID())
	}
	if c := newHost(t, Config{}, Handlers{}); c.ID() == a.ID() {
		t.Error("an ephemeral host has the identity of another")
	}
	os.Chmod(path, 0o644)
	if _, err := loadKey(path); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("readable by all: %v", err)
	}
	os.WriteFile(path, []byte("garbage"), 0o600)
	if _, err := loadKey(path); err == nil || !strings.Contains(err.Error(), "backup") {
		t.Errorf("garbage: %v", err)
	}
}

// listening lists the sockets of a host, without the relay's pseudo address.
func listening(h *Host) []ma.Multiaddr {
	return slices.DeleteFunc(h.host.Network().ListenAddresses(), func(a ma.Multiaddr) bool {
		_, _, _, ok := endpoint(a)
		return !ok
	})
}

func TestExplicitPortTaken(t *testing.T) {
	a := newHost(t, Config{}, Handlers{})
	var taken []string
	for _, l := range listening(a) {
		taken = append(taken, l.String())
	}
	for _, addr := range taken { // one TCP, one UDP
		_, err := New(t.Context(), Config{Listen: []string{addr}}, Handlers{})
		if err == nil || !strings.Contains(err.Error(), "in use by another program") {
			t.Errorf("%s a second time: %v", addr, err)
		}
	}
}

func TestDefaultPortTaken(t *testing.T) {
	for _, network := range []string{"tcp", "udp"} {
		var err error
		var c interface{ Close() error }
		if network == "tcp" {
			c, err = net.Listen("tcp4", ":"+strconv.Itoa(DefaultPort))
		} else {
			c, err = net.ListenPacket("udp4", ":"+strconv.Itoa(DefaultPort))
		}
		if err == nil {
			defer c.Close()
		} // else somebody else has it: just as good
		h, err := New(t.Context(), Config{}, Handlers{})
		if err != nil {
			t.Fatal(err)
		}
		ports := map[int]bool{}
		for _, a := range listening(h) {
			_, port, _, _ := endpoint(a)
			ports[port] = true
		}
		if h.ListenNote() == "" || len(ports) != 1 || ports[DefaultPort] {
			t.Errorf("%s taken: ports %v, note %q", network, ports, h.ListenNote())
		}
		h.Close()
	}
}

func TestParseAddr(t *testing.T) {
	id := "12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X"
	for _, c := range []struct{ addr, want string }{
		{"", "is empty"},
		{"example.org:4101", "must look like"},
		{"/ip4/1.2.3.4/tcp/4101", "/p2p/ID is missing"},
		{"/ip4/1.2.3/tcp/4101/p2p/" + id, "is not the address"},
		{"/p2p/" + id, "does not say where"},
		{"/ip4/0.0.0.0/tcp/4101/p2p/" + id, "cannot be connected to"},
		{"/ip4/1.2.3.4/tcp/0/p2p/" + id, "cannot be connected to"},
		{"/ip4/1.2.3.4/tcp/4101/p2p/nonsense", "is not the address"},
		{"/ip4/1.2.3.4/tcp/4101/p2p/" + id, ""},
		{"/dns4/mirror.example.org/udp/4101/quic-v1/p2p/" + id, ""},
	} {
		_, err := parseAddr(c.addr)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(strings.ReplaceAll(err.Error(), "but not", "cannot be"), c.want)) {
			t.Errorf("%q: %v, want %q", c.addr, err, c.want)
		}
	}
	for _, bad := range []string{"4101", "/tcp/4101", "/ip4/1.2.3.4", "nohost:x", "example.org:4101"} {
		if _, err := parseListen(bad); err == nil {
			t.Errorf("listen address %q is accepted", bad)
		}
	}
}

func TestConnectErrors(t *testing.T) {
	a, b, c := newHost(t, Config{}, Handlers{}), newHost(t, Config{}, Handlers{}), newHost(t, Config{}, Handlers{})
	for _, addr := range b.Addrs() { // over TCP and over QUIC
		wrong := strings.Replace(addr, string(b.ID()), string(c.ID()), 1)
		_, err := a.Connect(t.Context(), wrong)
		var mismatch *PeerMismatchError
		if !errors.As(err, &mismatch) || mismatch.Got != string(b.ID()) || mismatch.Want != string(c.ID()) {
			t.Errorf("%s: %v, want a mismatch", wrong, err)
		}
	}
	gone := c.Addrs()[0]
	c.Close()
	if _, err := a.Connect(t.Context(), gone); err == nil || !strings.Contains(err.Error(), "cannot reach") {
		t.Errorf("unreachable: %v", err)
	}
	if _, err := a.Connect(t.Context(), a.Addrs()[0]); err == nil || !strings.Contains(err.Error(), "itself") {
		t.Errorf("itself: %v", err)
	}
	a.Close()
	if _, err := a.Connect(t.Context(), b.Addrs()[0]); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if err := a.Run(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("Run after Close: %v", err)
	}
}

func TestPrefersTCP(t *testing.T) {
	var a, b *Host
	var got []PeerInfo
	for range 10 { // QUIC is dialed a moment later, and a machine that stands still for that moment dials both at once
		a, b = newHost(t, Config{}, Handlers{}), newHost(t, Config{}, Handlers{})
		if err := a.host.Connect(t.Context(), *host.InfoFromHost(b.host)); err != nil {
			t.Fatal(err)
		}
		if got = a.Peers(); len(got) > 0 && got[0].Transport == "tcp" {
			break
		}
	}
	if len(got) != 1 || got[0].Transport != "tcp" || got[0].ID != b.ID() || got[0].Inbound || got[0].Since.IsZero() {
		t.Errorf("peers: %+v, want one over TCP", got)
	}
	if s := a.host.Network().Conns()[0].ConnState(); s.Security != "/tls/1.0.0" {
		t.Errorf("security is %s, want TLS", s.Security)
	}
	within(t, "identified", func() bool { return len(b.Peers()) == 1 && b.Peers()[0].Agent == "swarmnode" })
	if !b.Peers()[0].Inbound {
		t.Error("b sees an outbound connection")
	}
}

func TestReconnect(t *testing.T) {
	dir := t.TempDir()
	boot := newHost(t, Config{Key: filepath.Join(dir, "boot")}, Handlers{})
	var listen []string
	for _, a := range listening(boot) {
		listen = append(listen, a.String())
	}
	h := newHost(t, Config{Bootstrap: []string{boot.Addrs()[0]}}, Handlers{})
	events := make(chan bool, 16)
	h.OnPeer(func(id gossip.PeerID, connected bool) {
		if id == boot.ID() {
			events <- connected
		}
	})
	run(t, h)
	next := func(want bool) {
		t.Helper()
		select {
		case got := <-events:
			if got != want {
				t.Fatalf("connected is %v, want %v", got, want)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("no event within 10 s, want connected = %v", want)
		}
	}
	next(true)
	if s := h.Bootstrap(); len(s) != 1 || !s[0].Connected || s[0].Err != nil {
		t.Errorf("status: %+v", s)
	}
	boot.Close()
	next(false)
	within(t, "an error in the status", func() bool { return h.Bootstrap()[0].Err != nil })
	again := newHost(t, Config{Key: filepath.Join(dir, "boot"), Listen: listen}, Handlers{})
	next(true)
	if again.ID() != boot.ID() || !h.Bootstrap()[0].Connected || h.Bootstrap()[0].Err != nil {
		t.Errorf("status: %+v", h.Bootstrap())
	}
}

func TestPeersFile(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "peers.json")
	a := newHost(t, Config{}, Handlers{})
	b := newHost(t, Config{PeersFile: file}, Handlers{})
	connect(t, b, a)
	within(t, "a good peer", func() bool { return len(b.goodPeers(time.Now())) == 1 })
	b.Close()
	raw, err := os.ReadFile(file)
	if err != nil || !bytes.Contains(raw, []byte(a.ID())) {
		t.Fatalf("peers file: %s, %v", raw, err)
	}
	c := newHost(t, Config{PeersFile: file}, Handlers{})
	run(t, c)
	within(t, "connected from the file", func() bool { return len(c.Peers()) == 1 })
	c.Close()

	os.WriteFile(file, []byte("{broken"), 0o600)
	d := newHost(t, Config{PeersFile: file}, Handlers{})
	d.Close()
	if _, err := parsePeers(must(os.ReadFile(file))); err != nil {
		t.Errorf("a broken file is not replaced: %v", err)
	}
	none := newHost(t, Config{PeersFile: filepath.Join(dir, "none.json")}, Handlers{})
	none.Close()
	if _, err := os.Stat(filepath.Join(dir, "none.json")); errors.Is(err, fs.ErrNotExist) {
		t.Error("no file at close")
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestSetupBeforeListening(t *testing.T) {
	called := false
	h := newHost(t, Config{Setup: func(h host.Host) error {
		called = len(h.Addrs()) == 0 && len(h.Mux().Protocols()) > 3
		h.SetStreamHandler("/other", func(s network.Stream) { s.Close() })
		return nil
	}}, Handlers{})
	if !called || len(h.Addrs()) == 0 {
		t.Errorf("Setup before listening: %v, addresses %v", called, h.Addrs())
	}
	boom := errors.New("boom")
	if _, err := New(t.Context(), Config{Listen: []string{"127.0.0.1:0"}, Setup: func(host.Host) error { return boom }}, Handlers{}); !errors.Is(err, boom) {
		t.Errorf("Setup's error: %v", err)
	}
}

func TestDHT(t *testing.T) {
	id := content.NewID([]byte("collection"))
	boot := newHost(t, Config{}, Handlers{})
	run(t, boot)
	var hosts []*Host
	for range 3 {
		h := newHost(t, Config{Bootstrap: []string{boot.Addrs()[0]}}, Handlers{})
		hosts = append(hosts, h)
	}
	hosts[0].Advertise(id) // before it knows anybody
	for _, h := range hosts {
		run(t, h)
	}
	client := newHost(t, Config{Client: true}, Handlers{})
	connect(t, client, boot)
	for _, h := range []*Host{hosts[2], client} {
		within(t, "the holder is found", func() bool {
			ok := false
			if err := h.Find(t.Context(), id, func(p gossip.PeerID) { ok = ok || p == hosts[0].ID() }); err != nil {
				t.Fatal(err)
			}
			return ok
		})
	}
	if n := len(client.Addrs()); n != 0 {
		t.Errorf("the client tells of %d addresses", n)
	}
	if err := client.Find(t.Context(), content.NewID([]byte("other")), func(p gossip.PeerID) { t.Errorf("%s has it", p) }); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := client.Find(ctx, id, func(gossip.PeerID) {}); !errors.Is(err, context.Canceled) {
		t.Errorf("after cancel: %v", err)
	}
}

func TestConfigurations(t *testing.T) {
	for name, cfg := range map[string]Config{
		"public": {Public: true}, "client": {Client: true}, "mdns": {MDNS: true}, "any": {Listen: []string{":0"}, MDNS: true},
		"client with mdns": {Client: true, MDNS: true},
	} {
		h := newHost(t, cfg, Handlers{})
		run(t, h)
		h.Advertise(testID)
		if (len(h.Addrs()) == 0) != cfg.Client {
			t.Errorf("%s: addresses %v", name, h.Addrs())
		}
		h.Unadvertise(testID)
		if err := h.Close(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestMDNS(t *testing.T) {
	a := newHost(t, Config{Listen: []string{":0"}, MDNS: true}, Handlers{})
	b := newHost(t, Config{Listen: []string{":0"}, MDNS: true}, Handlers{})
	run(t, a)
	run(t, b)
	looks := 300
	if os.Getenv("SWARMNODE_E2E") == "1" { // nobody waits there, and it is busier
		looks *= 10
	}
	for range looks {
		// Others on this LAN are found as well: only whether these two have each other can be told beforehand.
		if a.connected(b.host.ID()) && b.connected(a.host.ID()) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	if addrs, err := net.InterfaceAddrs(); err != nil || len(addrs) < 3 || os.Getenv("SWARMNODE_E2E") != "1" {
		t.Skip("not found within 3 s: this machine may have no multicast")
	}
	t.Error("not found within 30 s")
}
