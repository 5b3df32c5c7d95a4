package node

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"swarmnode/content/durable"
	"swarmnode/gossip"
	"swarmnode/node/policy"
)

const (
	// placeFile is where the node was, in the home directory: after a restart it need not learn that again.
	placeFile = "coordinate.json"
	// placeEvery is how often it is written. Less would lose little: the place of a node hardly changes.
	placeEvery = 10 * time.Minute
	// tellMoved is how far a node moves, in ms of RTT to where it said it was, before it says so out of turn: as far as a choice
	// among holders may be off.
	tellMoved = 10 * time.Millisecond
)

// place is where the node is in the space of RTTs, for all of its collections.
type place struct {
	mu   sync.Mutex // guards here
	here policy.Coordinate
}

// openPlace takes the place up that was written last, or begins anew.
func openPlace(home string) *place {
	p := &place{here: policy.NewCoordinate(newRand())}
	var claim gossip.Coordinate
	if raw, err := os.ReadFile(filepath.Join(home, placeFile)); err == nil && json.Unmarshal(raw, &claim) == nil {
		if c, ok := policy.RestoreCoordinate(claim); ok {
			p.here = c
		}
	}
	return p
}

// save writes the place.
func (p *place) save(home string) error {
	raw, err := json.Marshal(p.now().Claim())
	if err == nil {
		err = durable.WriteFile(filepath.Join(home, placeFile), append(raw, '\n'), 0o600)
	}
	if err != nil {
		return fmt.Errorf("write coordinate: %w", err)
	}
	return nil
}

func (p *place) now() policy.Coordinate {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.here
}

// learn moves the place after an RTT was measured.
func (p *place) learn(claim gossip.Coordinate, rtt time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.here.Learn(claim, rtt)
}
