package control

import (
	"fmt"
	"hash/fnv"
	"math"
	"strings"
	"time"
)

const (
	// ringSize is the side of the picture in its own units; the node is in the middle.
	ringSize = 320
	// ringInner and ringOuter are where the nearest and the farthest peers are, from the middle.
	ringInner, ringOuter = 22, 132
	// nearest and farthest RTT that are told apart; each tenfold is as wide as the next.
	ringNearest, ringFarthest = 100 * time.Microsecond, time.Second
)

// ring is a picture of the peers around this node: the farther out, the longer the round trip; the direction means nothing, it only stays
// the same for a peer.
type ring struct {
	Size, Middle int
	Circles      []circle
	Dots         []dot
	Unmeasured   int // of the dots: their round trip is not known, they are outside of all circles
	Summary      string
}

// circle is a round trip time in the picture.
type circle struct {
	R     int
	Label string
	Y     int // of the label
}

// dot is a peer in the picture.
type dot struct {
	X, Y    float64
	Inbound bool
	Known   bool
	Title   string
}

// distance is where in the picture a round trip time is.
func distance(rtt time.Duration) float64 {
	rtt = max(ringNearest, min(rtt, ringFarthest))
	part := math.Log(float64(rtt)/float64(ringNearest)) / math.Log(float64(ringFarthest)/float64(ringNearest))
	return ringInner + part*(ringOuter-ringInner)
}

func ringOf(peers []Peer) ring {
	r := ring{Size: ringSize, Middle: ringSize / 2}
	for _, c := range []struct {
		rtt  time.Duration
		text string
	}{{time.Millisecond, "1 ms"}, {10 * time.Millisecond, "10 ms"}, {100 * time.Millisecond, "100 ms"}, {time.Second, "1 s"}} {
		at := int(math.Round(distance(c.rtt)))
		r.Circles = append(r.Circles, circle{at, c.text, r.Middle - at - 3})
	}
	near, inbound := 0, 0
	for _, p := range peers {
		h := fnv.New64a()
		h.Write([]byte(p.ID))
		angle := float64(h.Sum64()%3600) / 3600 * 2 * math.Pi
		out := distance(p.RTT)
		if p.RTT <= 0 {
			out = ringOuter + 14
			r.Unmeasured++
		} else if p.RTT < 50*time.Millisecond {
			near++
		}
		if p.Inbound {
			inbound++
		}
		r.Dots = append(r.Dots, dot{X: round1(float64(r.Middle) + out*math.Cos(angle)), Y: round1(float64(r.Middle) + out*math.Sin(angle)),
			Inbound: p.Inbound, Known: p.RTT > 0, Title: strings.TrimSpace(fmt.Sprintf("…%s %s %s", short(p.ID), roundTrip(p.RTT), p.Addr))})
	}
	if len(peers) == 0 {
		r.Summary = "No other node is connected"
		return r
	}
	r.Summary = fmt.Sprintf("%d connected, %d of them came here, %d within 50 ms", len(peers), inbound, near)
	return r
}

func round1(f float64) float64 { return math.Round(f*10) / 10 }
