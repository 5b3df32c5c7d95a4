package policy

import (
	"math"
	"math/rand/v2"
	"time"

	"swarmnode/gossip"
)

// What a coordinate learns with. Sections are those of Dabek, Cox, Kaashoek and Morris, "Vivaldi: a decentralized network
// coordinate system" (2004). The figures are from scenario nearest of the simulator: share of choices within 10 ms of the best.
const (
	coordinateStep  = 0.25 // the share of an error that is moved away at most, as published (section 2.5)
	coordinateError = 0.1  // weight of a new sample in the own error; 0.25 as published gives the same place, less steadily
	// nearMs is where a sample counts half of what the nearest counts. Errors of RTTs grow with the RTT, so that of one far away
	// says little in ms; without this 91 %, with it 95 %; 20 and 100 are worse.
	nearMs = 50
	// leastHeight is the least height in ms: two nodes in one rack are not negative ms apart (section 5.4).
	leastHeight = 0.1
	// leastClaimed is the least error that a peer is believed to have: honest ones come down to about 0.2, and who claims less
	// would pull more.
	leastClaimed = 0.1
	// leastRTT in ms bounds relative errors: below it the clock of the measurement counts for as much as the way.
	leastRTT = 2
	// maxRTT is the longest RTT that is learned from; what takes longer is not a way but a queue.
	maxRTT = 5 * time.Second
	// maxMove in ms is how far one sample moves a node. The RTT to the other side of the world is 300 ms.
	maxMove = 30
	// gravityMs keeps the whole space from drifting away: a place is pulled to the origin by (distance/gravityMs)^2 ms with each
	// sample (Ledlie, Gardner and Seltzer, "Network coordinates in the wild", 2007). It is 0.01 ms for 100 ms.
	gravityMs = 1000
	// agreement is the difference of expected and measured RTT, as a logarithm, at which a sample counts half: a claim that does not fit what was measured is wrong, or the own place is; as long as that may be, it is more by the own
	// error. With a tenth of liars 92 % are within 10 ms of the best, with 1.5 here 87 %; with 0.35 honest ones learn slower.
	agreement = 0.7
	// msUnits are the units of a claim in a ms, errorUnits those in a relative error of 1.
	msUnits, errorUnits = 10, 1000
)

// Coordinate is where this node is in a space in which distances are RTTs: four dimensions in ms and a height, which is what
// the access line adds on every way (Vivaldi, section 5.4). It moves by measured RTTs and by what peers claim of their
// own places. A claim is bounded by its format, its error by leastClaimed, the step by maxMove; claims that do not fit the
// RTT hardly count. So a liar shifts its neighbours a little, and never says what an RTT is: that is measured.
type Coordinate struct {
	at     [gossip.CoordinateAxes]float64
	height float64
	err    float64 // relative, of what is expected; 1 at first
}

// NewCoordinate gives a place near the origin, so that no two are at the same one, known for nothing.
func NewCoordinate(rng *rand.Rand) Coordinate {
	c := Coordinate{height: 5, err: 1} // ms, half of what access lines have in the median
	for k := range c.at {
		c.at[k] = rng.NormFloat64()
	}
	return c
}

// RestoreCoordinate gives the place that was claimed before a restart. The node may have moved since: its error is more. It
// reports false for a claim that says nothing.
func RestoreCoordinate(claim gossip.Coordinate) (Coordinate, bool) {
	if !claim.Known() || !claim.Valid() {
		return Coordinate{}, false
	}
	c := placed(claim)
	c.err = min(1, 2*c.err)
	return c, true
}

// placed reads a claim.
func placed(claim gossip.Coordinate) Coordinate {
	c := Coordinate{height: float64(claim.Height) / msUnits, err: max(leastClaimed, float64(claim.Error)/errorUnits)}
	for k := range c.at {
		c.at[k] = float64(claim.At[k]) / msUnits
	}
	return c
}

// Claim is what others are told. A node that has learned nothing claims a place, too, with the largest error: else none of a
// new network could begin.
func (c Coordinate) Claim() gossip.Coordinate {
	if c.err == 0 {
		return gossip.Coordinate{}
	}
	units := func(v, least, most float64) int32 { return int32(math.Round(max(least, min(v, most)))) }
	claim := gossip.Coordinate{
		Height: units(c.height*msUnits, 0, gossip.MaxCoordinate), Error: units(c.err*errorUnits, 1, gossip.MaxCoordinateError)}
	for k := range claim.At {
		claim.At[k] = units(c.at[k]*msUnits, -gossip.MaxCoordinate, gossip.MaxCoordinate)
	}
	return claim
}

// Expect is the RTT that is expected to a peer by its claim; 0 if nothing is known, as long as one of the two has learned
// nothing.
func (c Coordinate) Expect(claim gossip.Coordinate) time.Duration {
	if c.err == 0 || c.err >= 1 || !claim.Known() || !claim.Valid() || claim.Error == gossip.MaxCoordinateError {
		return 0
	}
	o := placed(claim)
	return max(1, time.Duration((c.apart(&o)+c.height+o.height)*float64(time.Millisecond)))
}

// Moved is how far the node is by now from where it said it was: the most by which an RTT that others expect to it is off.
// From an unknown place it is as far as can be.
func (c Coordinate) Moved(claim gossip.Coordinate) time.Duration {
	if !claim.Known() || !claim.Valid() {
		return maxRTT
	}
	o := placed(claim)
	return time.Duration((c.apart(&o) + math.Abs(c.height-o.height)) * float64(time.Millisecond))
}

func (c *Coordinate) apart(o *Coordinate) float64 {
	sum := 0.0
	for k := range c.at {
		sum += (c.at[k] - o.at[k]) * (c.at[k] - o.at[k])
	}
	return math.Sqrt(sum)
}

// Learn moves the place after the RTT to a peer was measured (Vivaldi, section 2.5). A claim or an RTT that cannot be is
// passed over. A peer without a claim says nothing.
func (c *Coordinate) Learn(claim gossip.Coordinate, rtt time.Duration) {
	if !claim.Known() || !claim.Valid() || rtt <= 0 || rtt > maxRTT {
		return
	}
	o, ms := placed(claim), rtt.Seconds()*1000
	apart := c.apart(&o)
	expected := apart + c.height + o.height
	unfit := math.Log(max(expected, leastRTT)/max(ms, leastRTT)) / (agreement + 2*c.err)
	weight := c.err / (c.err + o.err) / (1 + unfit*unfit)
	off := min(1, math.Abs(expected-ms)/max(ms, leastRTT))
	c.err = min(1, off*coordinateError*weight+c.err*(1-coordinateError*weight))
	push := coordinateStep * weight * nearMs / (nearMs + ms) * (ms - expected)
	push = max(-maxMove, min(push, maxMove))
	far := 0.0
	for k := range c.at {
		if apart > 0 {
			c.at[k] += push * (c.at[k] - o.at[k]) / apart
		}
		far += c.at[k] * c.at[k]
	}
	for k := range c.at {
		c.at[k] -= c.at[k] * min(1, math.Sqrt(far)/(gravityMs*gravityMs))
	}
	most := float64(gossip.MaxCoordinate) / msUnits
	for k := range c.at {
		c.at[k] = max(-most, min(c.at[k], most))
	}
	c.height = max(leastHeight, min(c.height+push*(c.height+o.height)/expected, most))
}
