package p2p

import (
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/test"

	"swarmnode/content"
	"swarmnode/gossip"
)

// TestLiarIsBanned: a peer that breaks the protocol again and again is named, cut off and kept out, over a restart as well.
func TestLiarIsBanned(t *testing.T) {
	var text strings.Builder
	bans := filepath.Join(t.TempDir(), "bans.json")
	h := newHost(t, Config{BansFile: bans, Log: slog.New(slog.NewTextHandler(&text, nil))}, Handlers{})
	bad := hostile(t, chunksProtocol, func(s network.Stream) {
		readFrame(s, maxRequest)
		io.WriteString(s, "GET / HTTP/1.1\r\n\r\n")
	})
	id := gossip.PeerID(bad.ID().String())
	if err := h.host.Connect(t.Context(), *host.InfoFromHost(bad)); err != nil {
		t.Fatal(err)
	}
	for range offences[BadAnswer].ban {
		if len(h.host.Network().ConnsToPeer(bad.ID())) == 0 {
			t.Fatal("cut off too early")
		}
		h.Chunks(t.Context(), id, testID, content.Run{Count: 1}, func(uint32) uint32 { return 10 }, nil,
			func(content.Ref, []byte) error { return nil })
	}
	within(t, "the liar is cut off", func() bool { return len(h.host.Network().ConnsToPeer(bad.ID())) == 0 })
	list := h.Offenders()
	if len(list) != 1 || list[0].Peer != id || list[0].Addr == "" || list[0].Count != offences[BadAnswer].ban || !list[0].Until.After(time.Now()) {
		t.Errorf("named: %+v", list)
	}
	if err := bad.Connect(t.Context(), *host.InfoFromHost(h.host)); err == nil {
		within(t, "it is refused", func() bool { return len(h.host.Network().ConnsToPeer(bad.ID())) == 0 })
	}
	if err := h.dial(t.Context(), *host.InfoFromHost(bad)); err == nil {
		t.Error("a banned peer is dialed")
	}
	h.Close() // waits for what is written
	for _, want := range []string{"a peer is suspect", "a peer is banned", string(id), "/ip4/127.0.0.1"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("%q is not in the log:\n%s", want, text.String())
		}
	}
	again := newHost(t, Config{BansFile: bans}, Handlers{})
	if err := again.dial(t.Context(), *host.InfoFromHost(bad)); err == nil {
		t.Error("the ban did not survive a restart")
	}
}

// TestSilentStreamsAreBanned: opening streams and asking nothing is an offence, and an operator's bootstrap peer is never cut off.
func TestSilentStreamsAreBanned(t *testing.T) {
	h := newHost(t, Config{Timeouts: Timeouts{Open: 200 * time.Millisecond}}, Handlers{})
	bad := hostile(t, "", nil)
	if err := bad.Connect(t.Context(), *host.InfoFromHost(h.host)); err != nil {
		t.Fatal(err)
	}
	within(t, "the silent one is cut off", func() bool {
		for range maxPeerStreams {
			if s, err := bad.NewStream(network.WithNoDial(t.Context(), "test"), h.host.ID(), chunksProtocol); err == nil {
				t.Cleanup(func() { s.Reset() })
				s.Write(nil) // what negotiates the protocol goes out with it
			}
		}
		return len(h.Offenders()) == 1 && !h.Offenders()[0].Until.IsZero() && len(h.host.Network().ConnsToPeer(bad.ID())) == 0
	})
	friend := hostile(t, "", nil)
	trusting := newHost(t, Config{Bootstrap: []string{friend.Addrs()[0].String() + "/p2p/" + friend.ID().String()}}, Handlers{})
	for range 100 {
		trusting.Offended(gossip.PeerID(friend.ID().String()), BadMessage)
	}
	if list := trusting.Offenders(); len(list) != 1 || list[0].Count != 100 || !list[0].Until.IsZero() {
		t.Errorf("the bootstrap peer: %+v", list)
	}
}

func TestOffendersAreBounded(t *testing.T) {
	var text strings.Builder
	o := newOffenders("", slog.New(slog.NewTextHandler(&text, nil)))
	now := time.Unix(1e9, 0)
	id := func() peer.ID {
		id, err := test.RandPeerID()
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	first := id()
	o.note(now, first, "", WrongBytes, 48*time.Hour, false)
	if !o.banned(first, now.Add(maxBan-1)) || o.banned(first, now.Add(maxBan)) {
		t.Error("a ban lasts as long as maxBan at most")
	}
	for i := range 2 * maxOffenders {
		o.note(now.Add(time.Duration(i)*time.Millisecond), id(), "", BadRequest, 0, false)
	}
	if n := len(o.all()); n != maxOffenders {
		t.Errorf("%d are remembered", n)
	}
	if !o.banned(first, now.Add(time.Minute)) {
		t.Error("a ban was forgotten for suspects")
	}
	if n := strings.Count(text.String(), "\n"); n > maxNamed {
		t.Errorf("the log names %d in a minute", n)
	}
	often := id()
	for i := range offences[BadMessage].ban {
		if begins := o.note(now.Add(time.Duration(i)*time.Second), often, "", BadMessage, 0, false); begins != (i == offences[BadMessage].ban-1) {
			t.Errorf("offence %d: banned %t", i+1, begins)
		}
	}
	p := id()
	for i := range 3 * offences[BadMessage].ban { // seldom
		if o.note(now.Add(time.Duration(i)*(offenceMemory+1)), p, "", BadMessage, 0, false) {
			t.Error("banned for what it did long ago")
		}
	}
}
