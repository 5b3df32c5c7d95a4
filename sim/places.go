package sim

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"time"
)

// place is where a node is, for latency, and in which country, for its access line.
type place struct {
	country string
	x, y, z float64       // on the unit sphere
	spread  float64       // how much its paths differ from what distance suggests, as an exponent
	access  time.Duration // delay of the access line, there and back
}

// Constants of the latency model, fitted on 29,985 pairs of cities (notes/simulation.md).
const (
	rttLeast    = 7.5     // ms
	rttPerKm    = 0.01703 // ms: there and back in fibre, with the detours that cables make
	rttFactor   = 0.14    // exponent common to all pairs
	placeSigma  = 0.15    // of the exponent of a place
	pairSigma   = 0.27    // of the exponent of a pair
	accessMs    = 9       // median delay of an access line: fibre 3, cable and DSL 12-20
	accessSigma = 0.7     // lognormal
	earthRadius = 6371    // km
)

// crowded are the countries in which crowdedShare of all nodes are, evenly; the rest is anywhere. That puts the RTT to the
// nearest of k holders near what it is between real cities (TestNearest).
const (
	crowded      = "US DE FR GB NL SE PL IT ES CH CZ AT CA JP"
	crowdedShare = 0.5
)

// newPlaces draws n places among the cities.
func newPlaces(n int, rng *rand.Rand) []place {
	all := strings.Split(strings.ReplaceAll(cities, "\n", ""), ";")
	byCountry := map[string][]string{}
	for _, line := range all {
		byCountry[line[:2]] = append(byCountry[line[:2]], line)
	}
	countries := strings.Fields(crowded)
	places := make([]place, n)
	for i := range places {
		from := all
		if rng.Float64() < crowdedShare {
			from = byCountry[countries[rng.IntN(len(countries))]]
		}
		p := parseCity(from[rng.IntN(len(from))])
		p.spread = placeSigma * rng.NormFloat64()
		p.access = time.Duration(accessMs * 1e6 * lognormal(rng, accessSigma))
		places[i] = p
	}
	return places
}

func parseCity(line string) place {
	var country string
	var lat, lon float64
	if _, err := fmt.Sscanf(line, "%s %f %f", &country, &lat, &lon); err != nil {
		panic(fmt.Sprintf("sim: cities has %q: %v", line, err))
	}
	lat, lon = lat/100*math.Pi/180, lon/100*math.Pi/180
	return place{country: country, x: math.Cos(lat) * math.Cos(lon), y: math.Cos(lat) * math.Sin(lon), z: math.Sin(lat)}
}

// rtt is the round-trip time between two places. What differs from pair to pair comes from a hash of the two, so that
// no table of all pairs is needed.
func (w *World) rtt(i, j int) time.Duration {
	if i > j {
		i, j = j, i
	}
	a, b := &w.places[i], &w.places[j]
	cos := max(-1, min(1, a.x*b.x+a.y*b.y+a.z*b.z))
	km := earthRadius * math.Acos(cos)
	ms := (rttLeast + rttPerKm*km) * math.Exp(rttFactor+a.spread+b.spread+pairSigma*w.pairNormal(i, j))
	return time.Duration(ms*float64(time.Millisecond)) + a.access + b.access
}

// pairNormal is a number for a pair of nodes as if drawn from the standard normal distribution (Box and Muller).
func (w *World) pairNormal(i, j int) float64 {
	h := mix(w.seed + pairStream<<56 + mix(uint64(i)<<32|uint64(j)))
	u := (float64(h>>11) + 0.5) / (1 << 53)
	v := float64(mix(h)>>11) / (1 << 53)
	return math.Sqrt(-2*math.Log(u)) * math.Cos(2*math.Pi*v)
}

// mix is the finalizer of SplitMix64: every bit of x bears on every bit of the answer.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// lognormal draws a factor with median 1.
func lognormal(rng *rand.Rand, sigma float64) float64 { return math.Exp(sigma * rng.NormFloat64()) }
