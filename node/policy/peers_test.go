package policy

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"swarmnode/gossip"
)

// connectAll answers every dial at once; the RTT of a peer is its number in milliseconds.
func connectAll(p *Peers, st PeersStep) {
	for _, id := range st.Dial {
		var n int
		_, _ = fmt.Sscanf(string(id), "p%d", &n)
		p.Connected(id, time.Duration(n+1)*time.Millisecond)
	}
}

func learned(n int, cfg PeersConfig) *Peers {
	p := NewPeers(cfg, rand.New(rand.NewPCG(1, 1)))
	for i := range n {
		p.Learned(gossip.PeerID(fmt.Sprintf("p%d", i)))
	}
	return p
}

// TestPeersNear: exploring for some hours leaves 40 to 50 neighbours, most of them near, about a fifth not.
func TestPeersNear(t *testing.T) {
	p := learned(300, PeersConfig{})
	now := epoch
	for range 600 {
		st := p.Next(now)
		connectAll(p, st)
		if st.Wake.After(now) {
			now = st.Wake
		}
	}
	near, far := 0, 0
	for _, c := range p.all {
		if c.state != connected {
			continue
		}
		if c.rtt <= 60*time.Millisecond {
			near++
		} else {
			far++
		}
	}
	if n := near + far; n < 40 || n > 50 || near < 35 || far < 4 || far > 14 {
		t.Errorf("after exploring: %d near and %d far neighbours; want 40-50, about four fifths near", near, far)
	}
}

// TestPeersBackoff: a dial that fails is repeated later and later, up to the limit.
func TestPeersBackoff(t *testing.T) {
	p := learned(1, PeersConfig{Retry: time.Second, MaxRetry: 10 * time.Second})
	now := epoch
	for i, longest := range []time.Duration{1, 2, 4, 8, 10, 10} {
		st := p.Next(now)
		if !slices.Equal(st.Dial, []gossip.PeerID{"p0"}) {
			t.Fatalf("dial %d: got %v, want p0", i, st.Dial)
		}
		p.DialFailed(now, "p0")
		st = p.Next(now)
		wait := st.Wake.Sub(now)
		if len(st.Dial) > 0 || wait > longest*time.Second || wait < longest*time.Second/2 {
			t.Errorf("after failure %d: dial %v, wake in %v; want none, in %v/2 to %v", i+1, st.Dial, wait, longest*time.Second, longest*time.Second)
		}
		now = st.Wake
	}
}

// TestPeersBan: a banned neighbour is dropped and not dialed until the ban is over.
func TestPeersBan(t *testing.T) {
	p := learned(1, PeersConfig{})
	connectAll(p, p.Next(epoch))
	p.Ban("p0", epoch.Add(24*time.Hour))
	st := p.Next(epoch)
	if !slices.Equal(st.Drop, []gossip.PeerID{"p0"}) || len(st.Dial) > 0 || !st.Wake.Equal(epoch.Add(24*time.Hour)) {
		t.Errorf("banned: got %+v, want p0 dropped and a wake in a day", st)
	}
	if st = p.Next(st.Wake); !slices.Equal(st.Dial, []gossip.PeerID{"p0"}) {
		t.Errorf("after the ban: got %+v, want p0 dialed", st)
	}
}

// TestPeersLimits: no more than so many dials at a time and so many candidates; a neighbour is never forgotten.
func TestPeersLimits(t *testing.T) {
	p := learned(100, PeersConfig{Candidates: 30, Dials: 3})
	if len(p.all) != 30 {
		t.Errorf("candidates: got %d, want 30", len(p.all))
	}
	if st := p.Next(epoch); len(st.Dial) != 3 {
		t.Errorf("dials: got %d, want 3", len(st.Dial))
	}
	if st := p.Next(epoch); len(st.Dial) != 0 || !st.Wake.IsZero() {
		t.Errorf("with all dials under way: got %+v, want nothing", st)
	}
	p = learned(5, PeersConfig{Candidates: 5})
	connectAll(p, p.Next(epoch))
	for i := range 100 {
		p.Learned(gossip.PeerID(fmt.Sprintf("q%d", i)))
	}
	for i := range 5 {
		if p.byID[gossip.PeerID(fmt.Sprintf("p%d", i))] == nil {
			t.Errorf("neighbour p%d was forgotten", i)
		}
	}
}
