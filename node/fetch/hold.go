package fetch

import (
	"errors"

	"swarmnode/node/policy"
)

// errHeld is why nothing is read from others while fetching is held.
var errHeld = errors.New("fetching is paused")

// Hold stops the asking, or lets it go on. What is under way ends at once; what was wanted stays wanted, and what is read
// meanwhile and not here gives [ErrNobody]. What peers have is followed all the same. It may be called before Run.
func (f *Fetcher) Hold(held bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.held == held {
		return
	}
	f.held = held
	if held {
		for _, r := range f.requests {
			r.cancel()
		}
		f.step = policy.Step{}
		f.cfg.Room.leave(f)
	}
	f.told() // who waits for a peer to ask looks again
	f.wake()
}
