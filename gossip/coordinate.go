package gossip

import "fmt"

const (
	// CoordinateAxes is how many dimensions a coordinate has beside its height: the surface of the earth needs three; with one more a node does not
	// get stuck on the wrong side of it while it learns, and five are no better (sim: scenario nearest).
	CoordinateAxes = 4
	// MaxCoordinate is the largest value of a coordinate, in 0.1 ms: a second, three times the way around the world and back.
	MaxCoordinate = 10_000
	// MaxCoordinateError is the largest error of a coordinate, in thousandths.
	MaxCoordinateError = 1000
)

// Coordinate is where a node claims to be in the space in which distances are RTTs (policy.Coordinate). Nobody can check
// it but by measuring. It is made of whole numbers, so that every claim is a place and has one encoding. The zero value is an
// unknown place.
type Coordinate struct {
	At     [CoordinateAxes]int32 // 0.1 ms
	Height int32                 // 0.1 ms: what the access line adds
	Error  int32                 // thousandths: how far RTTs are off what the coordinate lets expect; 0 only for an unknown place
}

// Known reports whether it is a place.
func (c Coordinate) Known() bool { return c.Error != 0 }

// Valid reports whether all of it is within the limits, and an unknown place is the zero value.
func (c Coordinate) Valid() bool {
	if c.Error == 0 {
		return c == Coordinate{}
	}
	for _, v := range c.At {
		if v < -MaxCoordinate || v > MaxCoordinate {
			return false
		}
	}
	return c.Height >= 0 && c.Height <= MaxCoordinate && c.Error > 0 && c.Error <= MaxCoordinateError
}

// numbers is the encoded form: the axes, the height, the error.
func (c Coordinate) numbers() []int64 {
	var list []int64
	for _, v := range c.At {
		list = append(list, int64(v))
	}
	return append(list, int64(c.Height), int64(c.Error))
}

// coordinateOf reads what numbers gives for a known place.
func coordinateOf(list []int64) (Coordinate, error) {
	var c Coordinate
	if len(list) != CoordinateAxes+2 {
		return c, fmt.Errorf("%w: coordinate of %d numbers", ErrMalformed, len(list))
	}
	for _, v := range list {
		if v < -MaxCoordinate || v > MaxCoordinate {
			return c, fmt.Errorf("%w: %d in a coordinate", ErrMalformed, v)
		}
	}
	for k := range c.At {
		c.At[k] = int32(list[k])
	}
	c.Height, c.Error = int32(list[CoordinateAxes]), int32(list[CoordinateAxes+1])
	if !c.Known() || !c.Valid() {
		return c, fmt.Errorf("%w: coordinate %v", ErrMalformed, list)
	}
	return c, nil
}
