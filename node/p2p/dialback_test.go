package p2p

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	basichost "github.com/libp2p/go-libp2p/p2p/host/basic"
	"github.com/libp2p/go-libp2p/p2p/protocol/autonatv2"
	"github.com/libp2p/go-libp2p/p2p/protocol/autonatv2/pb"
	"github.com/libp2p/go-msgio/pbio"
	ma "github.com/multiformats/go-multiaddr"
)

// mapper is a router that gives a machine a port, after a time.
type mapper struct {
	when time.Time
	at   ma.Multiaddr
}

// gone is a router that answers no longer.
type gone struct {
	mapper
	end chan struct{}
}

func (g gone) Close() error {
	<-g.end
	return nil
}

// A router that does not answer when it is told that its ports are free holds nobody up.
func TestCloseWithoutARouter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		router := gone{end: make(chan struct{})}
		defer close(router.end)
		n := newInternet(t, time.Millisecond)
		h := n.host(t, noNAT, Config{}, Handlers{}, libp2p.NATManager(func(network.Network) basichost.NATManager { return router }))
		peer := n.host(t, noNAT, Config{Bootstrap: h.Addrs()}, Handlers{})
		untilVirtual(t, time.Minute, "a connection", func() bool { return peer.connected(h.host.ID()) })
		began := time.Now()
		if err := h.Close(); err != nil || time.Since(began) > closeWait {
			t.Errorf("closed after %s: %v, want within %s", time.Since(began), err, closeWait)
		}
		untilVirtual(t, time.Minute, "the connection closed", func() bool { return !peer.connected(h.host.ID()) })
	})
}

// mapped has the router of the site that is made next give a port after so long.
func (n *internet) mapped(after time.Duration) (libp2p.Option, ma.Multiaddr) {
	n.opens = time.Now().Add(after)
	m := mapper{n.opens, ma.StringCast(fmt.Sprintf("/ip4/11.2.%d.1/udp/%d/quic-v1", n.sites+1, listenPort))}
	return libp2p.NATManager(func(network.Network) basichost.NATManager { return m }), m.at
}

func (m mapper) GetMapping(ma.Multiaddr) ma.Multiaddr {
	if time.Now().Before(m.when) {
		return nil
	}
	return m.at
}

func (m mapper) HasDiscoveredNAT() bool { return true }

func (m mapper) Close() error { return nil }

// A port that the router passes on is known as soon as one peer has come through it.
func TestMappedPortIsConfirmed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newInternet(t, 20*time.Millisecond)
		master := n.host(t, noNAT, Config{Public: true}, Handlers{})
		const given = 4 * time.Second
		router, at := n.mapped(given)
		h := n.host(t, forwarded, Config{Bootstrap: master.Addrs()}, Handlers{}, router)
		took := untilVirtual(t, time.Minute, "public at an address", func() bool { return len(h.Reach().Confirmed) > 0 })
		t.Logf("public after %s, the port was given after %s", took, given)
		// The library looks at what the router gives each 5 s.
		if r := h.Reach(); took > given+6*time.Second || r.Way != WayPublic || !r.Forwarded || len(r.Confirmed) != 1 || r.Confirmed[0] != at.String() {
			t.Errorf("after %s: %+v, want %s within 6 s of the router's answer", took, r, at)
		}
		untilVirtual(t, time.Minute, "its relay service, which it has as a public node", func() bool {
			return slices.Contains(h.host.Mux().Protocols(), "/libp2p/circuit/relay/0.2.0/hop")
		})
		// The library asks on its own meanwhile, also what it began to ask before there was a port.
		for range 600 {
			time.Sleep(time.Second)
			if r := h.Reach(); r.Way != WayPublic || len(r.Confirmed) != 1 {
				t.Fatalf("%s after the start: %+v, want public", time.Since(r.Since), r)
			}
		}
		if !slices.Contains(h.host.Mux().Protocols(), "/libp2p/circuit/relay/0.2.0/hop") {
			t.Error("after ten minutes it has no relay service")
		}
		client := n.host(t, noNAT, Config{Client: true}, Handlers{})
		if _, err := client.Connect(t.Context(), at.String()+"/p2p/"+string(h.ID())); err != nil {
			t.Error(err)
		}
		client.Close()
	})
}

// A router that gives a port and lets nobody in is found out.
func TestMappedPortThatIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newInternet(t, 20*time.Millisecond)
		master := n.host(t, noNAT, Config{Public: true}, Handlers{})
		router, _ := n.mapped(4 * time.Second)
		h := n.host(t, cone, Config{Bootstrap: master.Addrs()}, Handlers{}, router)
		untilVirtual(t, time.Minute, "a place at a relay", func() bool { return h.Reach().Way == WayRelay })
		for range 600 {
			time.Sleep(time.Second)
			if r := h.Reach(); r.Way == WayPublic || len(r.Confirmed) > 0 {
				t.Fatalf("%+v, want a node that nobody reaches", r)
			}
		}
	})
}

// Who says that it has connected, and has not, is not believed.
func TestDialBackHasToBeProved(t *testing.T) {
	type proof int
	const (
		none proof = iota
		old        // over the connection that is there
		fresh
	)
	const number = 7
	for _, c := range []struct {
		what   string
		answer *pb.Message
		prove  proof
		want   bool
		err    error
	}{
		{"it could not", answerOf(pb.DialResponse_OK, pb.DialStatus_E_DIAL_ERROR), none, false, nil},
		{"it refuses", answerOf(pb.DialResponse_E_DIAL_REFUSED, 0), none, false, errUnanswered},
		{"it wants data first", &pb.Message{Msg: &pb.Message_DialDataRequest{DialDataRequest: &pb.DialDataRequest{NumBytes: 30_000}}}, none, false, errUnanswered},
		{"it lies", answerOf(pb.DialResponse_OK, pb.DialStatus_OK), none, false, errUnanswered},
		{"it could", answerOf(pb.DialResponse_OK, pb.DialStatus_OK), fresh, true, nil},
		{"its answer says less than it did", answerOf(pb.DialResponse_OK, pb.DialStatus_E_DIAL_BACK_ERROR), fresh, true, nil},
		{"it could not, and yet it proves it", answerOf(pb.DialResponse_OK, pb.DialStatus_E_DIAL_ERROR), fresh, false, nil},
		{"it proves it over the connection that is there", answerOf(pb.DialResponse_OK, pb.DialStatus_OK), old, false, errUnanswered},
	} {
		t.Run(c.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newInternet(t, time.Millisecond)
				h := n.host(t, noNAT, Config{}, Handlers{})
				p := n.host(t, noNAT, Config{Bootstrap: h.Addrs(), Client: true}, Handlers{}).host
				p.SetStreamHandler(autonatv2.DialProtocol, func(s network.Stream) {
					defer s.Close()
					var question pb.Message
					if err := pbio.NewDelimitedReader(s, maxAnswer).ReadMsg(&question); err != nil {
						t.Error(err)
					}
					from := p
					if c.prove == fresh {
						from = n.host(t, noNAT, Config{Client: true}, Handlers{}).host
						if err := from.Connect(t.Context(), peer.AddrInfo{ID: h.host.ID(), Addrs: h.host.Addrs()}); err != nil {
							t.Error(err)
						}
					}
					if c.prove != none {
						prove(t, from, h, question.GetDialRequest().GetNonce())
					}
					if err := pbio.NewDelimitedWriter(s).WriteMsg(c.answer); err != nil {
						t.Error(err)
					}
				})
				untilVirtual(t, time.Minute, "a connection", func() bool { return h.connected(p.ID()) })
				d, err := newDialBacks(h.host)
				if err != nil {
					t.Fatal(err)
				}
				got, err := d.ask(t.Context(), p.ID(), h.host.Addrs()[0])
				if got != c.want || !errors.Is(err, c.err) || (err == nil) != (c.err == nil) {
					t.Errorf("%v, %v; want %v, %v", got, err, c.want, c.err)
				}
				if len(d.waiting) > 0 {
					t.Error("a number is waited for after the answer")
				}
				// What nobody waits for goes on to the library, which does not know it either and says so.
				if s := prove(t, p, h, number); s == nil {
					t.Error("the library did not look at a number")
				}
			})
		})
	}
}

func answerOf(status pb.DialResponse_ResponseStatus, dialed pb.DialStatus) *pb.Message {
	return &pb.Message{Msg: &pb.Message_DialResponse{DialResponse: &pb.DialResponse{Status: status, DialStatus: dialed}}}
}

// prove sends a number and gives the error with which it was answered.
func prove(t *testing.T, p host.Host, to *Host, number uint64) error {
	s, err := p.NewStream(t.Context(), to.host.ID(), autonatv2.DialBackProtocol)
	if err != nil {
		t.Error(err)
		return nil
	}
	defer s.Close()
	if err := pbio.NewDelimitedWriter(s).WriteMsg(&pb.DialBack{Nonce: number}); err != nil {
		t.Error(err)
	}
	return pbio.NewDelimitedReader(s, maxAnswer).ReadMsg(&pb.DialBackResponse{})
}

// The library's own questions are answered through the same handler.
func TestLibraryGetsItsDialBacks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newInternet(t, 20*time.Millisecond)
		one, two := n.host(t, noNAT, Config{Public: true}, Handlers{}), n.host(t, noNAT, Config{Public: true}, Handlers{})
		h := n.host(t, noNAT, Config{Bootstrap: slices.Concat(one.Addrs(), two.Addrs())}, Handlers{})
		events, err := h.host.EventBus().Subscribe(new(event.EvtHostReachableAddrsChanged))
		if err != nil {
			t.Fatal(err)
		}
		defer events.Close()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		for {
			select {
			case e := <-events.Out():
				if len(e.(event.EvtHostReachableAddrsChanged).Reachable) > 0 {
					return
				}
			case <-ctx.Done():
				t.Fatal("the library has not found this node reachable within a minute")
			}
		}
	})
}

func FuzzDialBack(f *testing.F) {
	for _, n := range []uint64{0, 7, 1 << 63} {
		var b bytes.Buffer
		if err := pbio.NewDelimitedWriter(&b).WriteMsg(&pb.DialBack{Nonce: n}); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes())
		f.Add(b.Bytes()[:b.Len()/2])
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		r := bytes.NewReader(raw)
		_, taken, err := readNumber(r)
		rest, rerr := io.ReadAll(r)
		if rerr != nil || !bytes.Equal(append(taken, rest...), raw) {
			t.Errorf("%d bytes were taken and %d left of %d (%v)", len(taken), len(rest), len(raw), err)
		}
	})
}
