package p2p

import (
	"bytes"
	"context"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	ma "github.com/multiformats/go-multiaddr"
)

// purse is a Limit that counts what was sent for those without an address, and never lets more than so many bytes go.
type purse struct {
	sent, most atomic.Int64
	closed     atomic.Bool
	full       chan struct{} // closed when somebody waits for more
	once       sync.Once
}

func (p *purse) Send(ctx context.Context, to netip.Addr, n int) (int, error) {
	if to.IsValid() {
		return n, nil
	}
	if p.sent.Add(int64(n)) > p.most.Load() {
		p.once.Do(func() { close(p.full) })
		<-ctx.Done()
		return 0, context.Cause(ctx)
	}
	return n, nil
}

func (p *purse) Receive(context.Context, netip.Addr, int) error { return nil }

func (p *purse) Spend(netip.Addr, int, int) {}

func (p *purse) Closed(netip.Addr) (time.Duration, bool) { return time.Second, p.closed.Load() }

// relayClient is a node of the library that reaches others through a relay only.
func relayClient(t *testing.T) host.Host {
	t.Helper()
	h, err := libp2p.New(libp2p.NoListenAddrs, libp2p.EnableRelay(), libp2p.DisableMetrics())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

// What strangers send through a relay is held to the relay's limit, and refused when its month is used up.
func TestRelayedBytesAreLimited(t *testing.T) {
	limit := &purse{full: make(chan struct{})}
	limit.most.Store(64 << 10)
	relay := newHost(t, Config{Public: true, Limit: limit}, Handlers{})
	info := peer.AddrInfo{ID: relay.Libp2p().ID(), Addrs: relay.Libp2p().Addrs()}
	there, here := relayClient(t), relayClient(t)
	var got atomic.Int64
	there.SetStreamHandler("/test", func(s network.Stream) {
		buf := make([]byte, 4<<10)
		for n, err := 0, error(nil); err == nil; got.Add(int64(n)) {
			n, err = s.Read(buf)
		}
	})
	for _, h := range []host.Host{there, here} {
		if err := h.Connect(t.Context(), info); err != nil {
			t.Fatal(err)
		}
	}
	limit.closed.Store(true)
	if _, err := client.Reserve(t.Context(), there, info); err == nil {
		t.Error("a place was given though the month is used up")
	}
	limit.closed.Store(false)
	if _, err := client.Reserve(t.Context(), there, info); err != nil {
		t.Fatal(err)
	}
	here.Peerstore().AddAddr(there.ID(), ma.StringCast("/p2p/"+info.ID.String()+"/p2p-circuit"), peerstore.PermanentAddrTTL)
	s, err := here.NewStream(network.WithAllowLimitedConn(t.Context(), "test"), there.ID(), "/test")
	if err != nil {
		t.Fatal(err)
	}
	// More than may pass, and less than the library lets pass.
	go func() {
		_, _ = s.Write(bytes.Repeat([]byte{1}, 100<<10)) // it is cut off
		s.Close()
	}()
	<-limit.full
	if n := got.Load(); n >= 100<<10 { // before the relay is closed: who waits for the limit is let go then
		t.Errorf("%d bytes came though %d were allowed", n, limit.most.Load())
	}
	if err := relay.Close(); err != nil { // does not wait for the limit
		t.Error(err)
	}
}
