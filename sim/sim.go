// Package sim runs the decisions of many nodes in one process: the node's own policy.Transfer, policy.Peers and
// gossip.Inbox over a network that is computed, not there. A [Scenario] is a question with settings, [Run] answers it
// with a [Report] that is the same to the byte for the same seed. It starts no goroutine and reads no clock.
//
// The engine: a heap of events (queue), a heap of the ends of flows (ends), links that are shared max-min fairly by cached
// water levels (network), and round-trip times between cities (places). What the large figures come from, by hand, for they
// take minutes:
//
//	swarmnode sim run flash-crowd --nodes 10000 --set chunks=1024 --set decide=oracle    the engine alone
//	swarmnode sim run flash-crowd --nodes 1000                                           equal links, T over Mundinger's bound
//	swarmnode sim run flash-crowd --nodes 1000 --set links=mixed                         5-500 Mbit/s, T over the fluid bound
//	swarmnode sim run flash-crowd --nodes 200 --set liars=20                             no wrong chunk is kept
//	swarmnode sim run flash-crowd --nodes 200 --set slow=20                              a fifth serves at 1 kB/s
//	swarmnode sim run nearest                                                            3 probes among 20 holders
//	go test -run - -bench . -benchtime 1x ./sim                                          the first two as benchmarks
package sim

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Setting is one thing that can be set in a scenario.
type Setting struct {
	Name  string
	Value string // the default until it is set
	Doc   string
}

// Scenario is something to simulate. The ones there are come from [Scenarios].
type Scenario struct {
	Name     string
	Doc      string // one line
	Settings []Setting
	run      func(s *settings, seed uint64) (Report, error)
}

// Scenarios lists what can be simulated, each with its default settings.
func Scenarios() []Scenario {
	return []Scenario{releaseScenario(), flashCrowdScenario(), nearestScenario()}
}

// Find gives the scenario with this name.
func Find(name string) (Scenario, error) {
	var names []string
	for _, s := range Scenarios() {
		if s.Name == name {
			return s, nil
		}
		names = append(names, s.Name)
	}
	return Scenario{}, fmt.Errorf("no scenario %q, there are: %s", name, strings.Join(names, ", "))
}

// Set changes a setting. What the value means is checked by [Run].
func (s *Scenario) Set(name, value string) error {
	i := slices.IndexFunc(s.Settings, func(o Setting) bool { return o.Name == name })
	if i < 0 {
		var names []string
		for _, o := range s.Settings {
			names = append(names, o.Name)
		}
		return fmt.Errorf("scenario %s has no setting %q, it has: %s", s.Name, name, strings.Join(names, ", "))
	}
	s.Settings = slices.Clone(s.Settings)
	s.Settings[i].Value = value
	return nil
}

// Run simulates a scenario. The same scenario and seed give the same report.
func Run(s Scenario, seed uint64) (Report, error) {
	if s.run == nil {
		return Report{}, fmt.Errorf("scenario %q is not one of Scenarios", s.Name)
	}
	set := &settings{of: s}
	rep, err := s.run(set, seed)
	if err != nil {
		return Report{}, fmt.Errorf("simulate %s: %w", s.Name, err)
	}
	rep.Scenario, rep.Seed, rep.Settings = s.Name, seed, s.Settings
	return rep, nil
}

// settings reads the settings of a scenario; the first value that makes no sense is kept as err.
type settings struct {
	of  Scenario
	err error
}

// number reads a setting as a number between two limits.
func (s *settings) number(name string, least, most float64) float64 {
	for _, o := range s.of.Settings {
		if o.Name != name {
			continue
		}
		v, err := strconv.ParseFloat(o.Value, 64)
		if (err != nil || v != v || v < least || v > most) && s.err == nil {
			s.err = fmt.Errorf("setting %s=%q: want a number from %g to %g", name, o.Value, least, most)
		}
		return v
	}
	panic("sim: no setting " + name)
}

// word reads a setting that is a word.
func (s *settings) word(name string) string {
	for _, o := range s.of.Settings {
		if o.Name == name {
			return o.Value
		}
	}
	panic("sim: no setting " + name)
}
