package policy

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"swarmnode/gossip"
)

// at is a claim of a place on the first axis, in ms.
func at(x int32) gossip.Coordinate {
	return gossip.Coordinate{At: [gossip.CoordinateAxes]int32{msUnits * x}, Height: 1, Error: 200}
}

// TestCoordinateLearns: four nodes on a line, each of which hears what the others claim, come to expect the RTTs that they have;
// one that lies about its place among them moves the honest ones a little only.
func TestCoordinateLearns(t *testing.T) {
	where := []float64{0, 10, 60, 160, 200}
	for name, liar := range map[string]gossip.Coordinate{"honest": {}, "liar": {At: [gossip.CoordinateAxes]int32{-9000, 9000}, Error: 1}} {
		rng := rand.New(rand.NewPCG(1, 1))
		nodes := make([]Coordinate, len(where))
		for i := range nodes {
			nodes[i] = NewCoordinate(rng)
		}
		rtt := func(i, j int) time.Duration {
			return time.Duration((math.Abs(where[i]-where[j]) + 4) * float64(time.Millisecond))
		}
		for range 1000 {
			for i := range nodes {
				for j := range nodes {
					claim := nodes[j].Claim()
					if j == 4 && liar.Known() {
						claim = liar
					}
					if i != j {
						nodes[i].Learn(claim, rtt(i, j))
					}
				}
			}
		}
		for i := range 4 {
			for j := range i {
				got, want := nodes[i].Expect(nodes[j].Claim()), rtt(i, j)
				if off := (got - want).Abs(); off > 3*time.Millisecond+want/4 {
					t.Errorf("%s: from %d to %d: expected %v, want %v", name, i, j, got, want)
				}
			}
		}
	}
}

// TestCoordinateRefuses: what cannot be is not learned from.
func TestCoordinateRefuses(t *testing.T) {
	for name, s := range map[string]struct {
		claim gossip.Coordinate
		rtt   time.Duration
	}{
		"unknown place":  {gossip.Coordinate{}, time.Millisecond},
		"beyond limits":  {gossip.Coordinate{At: [gossip.CoordinateAxes]int32{math.MinInt32}, Error: 1}, time.Millisecond},
		"negative error": {gossip.Coordinate{Error: -5}, time.Millisecond},
		"no RTT":         {at(10), 0},
		"negative RTT":   {at(10), -time.Second},
		"endless RTT":    {at(10), time.Hour},
	} {
		c := NewCoordinate(rand.New(rand.NewPCG(1, 1)))
		before := c
		if c.Learn(s.claim, s.rtt); c != before {
			t.Errorf("%s: moved from %v to %v", name, before, c)
		}
	}
}

// TestCoordinateStaysBounded: whatever is claimed, one sample moves a node by maxMove at most, and its own claim is always valid.
func TestCoordinateStaysBounded(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 2))
	c := NewCoordinate(rng)
	for i := range 20_000 {
		claim := gossip.Coordinate{Height: rng.Int32N(gossip.MaxCoordinate + 1), Error: 1 + rng.Int32N(gossip.MaxCoordinateError)}
		for k := range claim.At {
			claim.At[k] = rng.Int32N(2*gossip.MaxCoordinate+1) - gossip.MaxCoordinate
		}
		if i%3 == 0 {
			claim = c.Claim() // at the same place
		}
		before := c
		c.Learn(claim, time.Duration(rng.ExpFloat64()*float64(50*time.Millisecond)))
		moved := c.apart(&before)
		if got := c.Claim(); !got.Known() || !got.Valid() || math.IsNaN(moved) || moved > maxMove+2 { // 2: what gravity does at the edge
			t.Fatalf("sample %d: moved by %.1f ms from %v to %v, claims %v", i, moved, before, c, got)
		}
	}
}

// TestCoordinateWeights: a claim that fits weighs more than one that does not, one with a small error not more than
// leastClaimed lets it, and a near one more than a far one.
func TestCoordinateWeights(t *testing.T) {
	start := Coordinate{height: 1, err: 0.2}
	moved := func(claim gossip.Coordinate, rtt time.Duration) float64 {
		c := start
		c.Learn(claim, rtt)
		return c.apart(&start)
	}
	sure, surest := at(100), at(100)
	sure.Error, surest.Error = int32(leastClaimed*errorUnits), 1
	if a, b := moved(sure, 80*time.Millisecond), moved(surest, 80*time.Millisecond); a != b {
		t.Errorf("moved %.3f ms by an error of %v and %.3f ms by the least; want the same", a, leastClaimed, b)
	}
	if fits, lie := moved(at(100), 80*time.Millisecond)/20, moved(at(900), 5*time.Millisecond)/895; lie > fits {
		t.Errorf("moved %.4f of the error by a claim that fits and %.4f by one that does not", fits, lie)
	}
	if near, far := moved(at(20), 10*time.Millisecond)/11, moved(at(200), 100*time.Millisecond)/101; far > near {
		t.Errorf("moved %.4f of the error by a near peer and %.4f by a far one", near, far)
	}
}

// TestRestoreCoordinate: a restart goes on where the node was, less sure.
func TestRestoreCoordinate(t *testing.T) {
	claim := gossip.Coordinate{At: [gossip.CoordinateAxes]int32{123, -456, 7, 0}, Height: 31, Error: 150}
	c, ok := RestoreCoordinate(claim)
	want := claim
	want.Error = 300
	if got := c.Claim(); !ok || got != want || c.Moved(claim) != 0 {
		t.Errorf("restored: got %+v, %v; want %+v", got, ok, want)
	}
	for _, bad := range []gossip.Coordinate{{}, {Height: 1}, {Error: 2000}} {
		if c, ok := RestoreCoordinate(bad); ok {
			t.Errorf("%+v was restored as %+v", bad, c)
		}
	}
}

// TestPeersByCoordinate: of peers that were never met, those that are expected to be near are dialed first, and the measured
// RTT counts afterwards whatever was claimed.
func TestPeersByCoordinate(t *testing.T) {
	here, _ := RestoreCoordinate(at(0))
	p := NewPeers(PeersConfig{Low: 3, High: 3, Dials: 3, Random: -1}, rand.New(rand.NewPCG(1, 1)))
	p.Here(here)
	for id, x := range map[gossip.PeerID]int32{"near": 5, "nearer": 2, "far": 200, "liar": 0, "farther": 300} {
		p.Learned(id)
		p.Claimed(id, at(x))
	}
	p.Learned("unknown")
	st := p.Next(epoch)
	want := []gossip.PeerID{"liar", "nearer", "near"}
	if len(st.Dial) != 3 || st.Dial[0] != want[0] || st.Dial[1] != want[1] || st.Dial[2] != want[2] {
		t.Fatalf("dial %v, want %v", st.Dial, want)
	}
	p.Connected("liar", 250*time.Millisecond)
	p.Connected("nearer", 3*time.Millisecond)
	p.Connected("near", 6*time.Millisecond)
	st = p.Next(epoch.Add(4 * time.Minute)) // enough neighbours: some are tried
	if len(st.Dial) != 3 || st.Dial[0] != "far" || st.Dial[1] != "farther" || st.Dial[2] != "unknown" {
		t.Fatalf("explore %v, want far, farther and unknown", st.Dial)
	}
	p.Connected("far", 200*time.Millisecond)
	if st = p.Next(epoch.Add(4 * time.Minute)); len(st.Drop) != 1 || st.Drop[0] != "liar" {
		t.Errorf("drop %v, want the liar, which is farthest", st.Drop)
	}
}
