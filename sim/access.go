package sim

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
)

const mbit = 1e6 / 8 // bytes/s

// Mean uplinks and downlinks of countries in Mbit/s at the quantiles of countryRanks, and how lines differ within a country
// (notes/simulation.md).
const (
	withinSigma = 1 // lognormal
	leastUp     = 1 // Mbit/s; slower lines do not volunteer
)

var (
	countryRanks = []float64{0, .05, .25, .5, .75, .95, 1}
	countryUp    = []float64{8, 8, 13, 20, 38, 117, 117}
	countryDown  = []float64{11, 11, 23, 36, 70, 140, 140}
)

// accessClasses are the presets of access lines.
var accessClasses = []string{"equal", "mixed", "countries"}

// mixed lines: uplinks from 5 to 500 Mbit/s, evenly on a log scale.
const mixedLeast, mixedMost = 5, 500

// newLinks draws the uplinks and downlinks of all nodes in bytes/s. Downlinks are ratio times the uplinks, but for the class
// countries, which has its own.
func newLinks(w *World, class string, equal, ratio float64) (up, down []float64, err error) {
	rng := rand.New(rand.NewPCG(w.seed, linksStream))
	for _, p := range w.places {
		var u, d float64
		switch class {
		case "equal":
			u, d = equal, equal*ratio
		case "mixed":
			u = mixedLeast * math.Pow(mixedMost/mixedLeast, rng.Float64())
			d = u * ratio
		case "countries":
			rank := float64(mix(uint64(p.country[0])<<8|uint64(p.country[1]))>>11) / (1 << 53)
			f := lognormal(rng, withinSigma)
			u, d = max(leastUp, f*between(countryRanks, countryUp, rank)), max(2*leastUp, f*between(countryRanks, countryDown, rank))
		default:
			return nil, nil, fmt.Errorf("links=%q: want one of %s", class, strings.Join(accessClasses, ", "))
		}
		up, down = append(up, u*mbit), append(down, d*mbit)
	}
	return up, down, nil
}

// between interpolates ys over xs on a log scale.
func between(xs, ys []float64, x float64) float64 {
	k := 1
	for k < len(xs)-1 && x > xs[k] {
		k++
	}
	t := (x - xs[k-1]) / (xs[k] - xs[k-1])
	return ys[k-1] * math.Pow(ys[k]/ys[k-1], t)
}
