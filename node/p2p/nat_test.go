package p2p

import (
	"bytes"
	"errors"
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	ma "github.com/multiformats/go-multiaddr"

	"swarmnode/content"
	"swarmnode/gossip"
)

// untilVirtual waits, in a bubble, and gives the time that it took.
func untilVirtual(t *testing.T, limit time.Duration, what string, ok func() bool) time.Duration {
	t.Helper()
	began := time.Now()
	for !ok() {
		if time.Since(began) > limit {
			t.Fatalf("after %s still not: %s", limit, what)
		}
		time.Sleep(10 * time.Millisecond)
	}
	return time.Since(began)
}

// neighbours is a simulated network with a public node and, behind routers of that kind, two that know it and hold the chunks.
func neighbours(t *testing.T, kind nat, public Handlers, behind segment) (n *internet, master *Host, two [2]*Host) {
	n = newInternet(t, 20*time.Millisecond)
	master = n.host(t, noNAT, Config{Public: true}, public)
	for i := range two {
		two[i] = n.host(t, kind, Config{Bootstrap: master.Addrs()}, Handlers{Chunk: behind.chunk})
		two[i].Advertise(testID)
	}
	for i, h := range two {
		took := untilVirtual(t, time.Minute, "a place at a relay", func() bool { return h.Reach().Way == WayRelay })
		if i == 0 {
			t.Logf("a place at a relay after %s", took)
		}
		if got := h.Reach().Relays; len(got) != 1 || got[0] != master.ID() {
			t.Errorf("relays %v, want the public node %s", got, master.ID())
		}
		untilVirtual(t, time.Minute, "the relay, which serves the DHT as well, names it with its address there", func() bool {
			return slices.ContainsFunc(master.host.Peerstore().Addrs(h.host.ID()), func(a ma.Multiaddr) bool {
				relay, err := relayOf(a)
				return err == nil && relay == master.host.ID()
			})
		})
	}
	return n, master, two
}

// search is Find: whom it gives.
func search(t *testing.T, h *Host) (found []gossip.PeerID, took time.Duration) {
	t.Helper()
	began := time.Now()
	if err := h.Find(t.Context(), testID, func(p gossip.PeerID) { found = append(found, p) }); err != nil {
		t.Error(err)
	}
	return found, time.Since(began)
}

// pull fetches the chunks of a segment from a peer.
func pull(t *testing.T, h *Host, from gossip.PeerID, want segment) error {
	t.Helper()
	got := segment{}
	err := h.Chunks(t.Context(), from, testID, content.Run{Segment: 7, Count: uint32(len(want))}, want.size, nil, collect(got))
	if err == nil && !maps.EqualFunc(got, want, bytes.Equal) {
		t.Errorf("from %s: other chunks than it has", from)
	}
	return err
}

func byRelay(h *Host, p gossip.PeerID) bool {
	return !slices.ContainsFunc(h.Peers(), func(i PeerInfo) bool { return i.ID == p && !i.Relayed })
}

func TestBehindConeNAT(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSegment(1, 5000, 70_000, 300_000)
		n, master, two := neighbours(t, cone, Handlers{}, s)
		found, took := search(t, two[0])
		if !slices.Contains(found, two[1].ID()) || byRelay(two[0], two[1].ID()) {
			t.Fatalf("the search gives %v, peers %v; want a direct connection to %s", found, two[0].Peers(), two[1].ID())
		}
		untilVirtual(t, time.Second, "told of hole punching", func() bool { return two[1].Reach().Punched == 1 })
		t.Logf("found in the DHT and connected directly within %s; hole punching took %s", took, two[1].Reach().PunchTime)
		if err := pull(t, two[0], two[1].ID(), s); err != nil {
			t.Error(err)
		}
		if in, out := master.Traffic(); in+out != 0 {
			t.Errorf("%d bytes of content passed the public node", in+out)
		}
		for _, kind := range []nat{noNAT, cone} { // a client has just started, and knows nobody but the public node
			client := n.host(t, kind, Config{Client: true, Bootstrap: master.Addrs()}, Handlers{})
			if _, err := client.Connect(t.Context(), master.Addrs()[0]); err != nil {
				t.Fatal(err)
			}
			found, took := search(t, client)
			t.Logf("a client (NAT %d) has found both after %s", kind, took)
			for _, h := range two {
				if !slices.Contains(found, h.ID()) {
					t.Errorf("the search of a client (NAT %d) gives %v, want %s in it", kind, found, h.ID())
				} else if err := pull(t, client, h.ID(), s); err != nil {
					t.Errorf("a client (NAT %d): %v", kind, err)
				}
			}
			client.Close()
		}
	})
}

func TestBehindSymmetricNAT(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSegment(1, 5000, 70_000, 300_000)
		_, master, two := neighbours(t, symmetric, Handlers{Chunk: s.chunk}, s)
		master.Advertise(testID)
		var found []gossip.PeerID
		untilVirtual(t, 5*time.Minute, "the public node is found in the DHT", func() bool {
			found, _ = search(t, two[0])
			return slices.Contains(found, master.ID())
		})
		if slices.Contains(found, two[1].ID()) {
			t.Error("the search gives a holder that is only to be met through a relay")
		}
		if !byRelay(two[0], two[1].ID()) {
			t.Error("a direct connection through two symmetric routers")
		}
		var where []string
		for _, a := range two[1].host.Addrs() {
			where = append(where, a.String())
		}
		began := time.Now()
		if err := two[0].ConnectAny(t.Context(), two[1].ID(), where); !errors.Is(err, ErrOnlyRelayed) {
			t.Errorf("connecting through a relay gives %v, want %v", err, ErrOnlyRelayed)
		}
		t.Logf("that the routers prevent it is known after %s", time.Since(began))
		if r := two[1].Reach(); r.Punched != 0 || r.Unpunched == 0 {
			t.Errorf("%d direct connections, %d failed; want none and some", r.Punched, r.Unpunched)
		}

		// Over the relay no content is asked for; the other holder gives it.
		c, err := two[0].host.Network().DialPeer(t.Context(), two[1].host.ID())
		if err != nil || !c.Stat().Limited {
			t.Fatalf("through the relay: %v, %v", c, err)
		}
		before, _ := master.Traffic()
		if err := pull(t, two[0], two[1].ID(), s); err == nil {
			t.Error("content came over a relay")
		} else {
			t.Logf("asked over the relay: %v", err)
		}
		if _, out := two[1].Traffic(); out != 0 {
			t.Errorf("%d bytes were sent into the relay", out)
		}
		if err := pull(t, two[0], master.ID(), s); err != nil {
			t.Errorf("from the other holder: %v", err)
		}
		if in, _ := master.Traffic(); in == before {
			t.Error("the other holder was not asked")
		}
	})
}
