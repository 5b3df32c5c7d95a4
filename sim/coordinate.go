package sim

import (
	"math"
	"math/rand/v2"
	"time"
)

// dimensions of the space of coordinates, beside the height.
const dimensions = 5

// coordinate is where a node is in the space of Vivaldi, in ms: the distance of two is the RTT that is expected between
// them (Dabek, Cox, Kaashoek and Morris, "Vivaldi: a decentralized network coordinate system", 2004). The height is what
// its access line adds. Nodes learn them from the RTTs that they measure anyway, and tell them to each other.
type coordinate struct {
	at     [dimensions]float64
	height float64
	err    float64 // relative, of what it expects
}

const (
	vivaldiError  = 0.25 // weight of a new sample in err, as published
	vivaldiStep   = 0.25 // the same of the place
	vivaldiHeight = 0.5  // least height, ms
)

func newCoordinate(rng *rand.Rand) coordinate {
	c := coordinate{height: 5, err: 1}
	for k := range c.at {
		c.at[k] = rng.NormFloat64() // so that no two are at one place
	}
	return c
}

// to is the expected RTT in ms.
func (c *coordinate) to(o *coordinate) float64 { return c.apart(o) + c.height + o.height }

func (c *coordinate) apart(o *coordinate) float64 {
	sum := 0.0
	for k := range c.at {
		sum += (c.at[k] - o.at[k]) * (c.at[k] - o.at[k])
	}
	return math.Sqrt(sum)
}

// learn moves c after the RTT to one at o was measured.
func (c *coordinate) learn(o *coordinate, rtt time.Duration) {
	ms := rtt.Seconds() * 1000
	expected := c.to(o)
	weight := c.err / (c.err + o.err)
	off := math.Abs(expected-ms) / ms
	c.err = min(1, off*vivaldiError*weight+c.err*(1-vivaldiError*weight))
	push := vivaldiStep * weight * (ms - expected)
	apart := max(c.apart(o), 1e-9)
	for k := range c.at {
		c.at[k] += push * (c.at[k] - o.at[k]) / apart
	}
	c.height = max(vivaldiHeight, c.height+push*(c.height+o.height)/expected)
}
