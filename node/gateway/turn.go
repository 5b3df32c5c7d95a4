package gateway

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"weak"
)

// turns bounds the work that costs a processor much and a client a line: rendering large directories, looking through kept releases
// and for hashes. Who finds all turns taken waits, at most as long as for a first byte; other requests go on meanwhile.
type turns chan struct{}

// newTurns leaves half of the processors to everything else.
func newTurns() turns { return make(turns, max(1, runtime.GOMAXPROCS(0)/2)) }

// take waits for a turn, which done ends. Work with a turn waits for nobody, and so for no second turn.
func (t turns) take(ctx context.Context) (done func(), err error) {
	select {
	case t <- struct{}{}:
		return func() { <-t }, nil
	default:
	}
	ctx, cancel := context.WithTimeout(ctx, firstByte)
	defer cancel()
	select {
	case t <- struct{}{}:
		return func() { <-t }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("too much is asked for at once: %w", ctx.Err())
	}
}

// sending knows the pages that are on their way to somebody, so that one that is too large to be remembered is in memory once and not
// once a client.
type sending struct {
	mu    sync.Mutex // guards pages
	pages map[pageKey]weak.Pointer[page]
}

// sendingSwept is how many pages are noted before those that nobody has any more are looked for.
const sendingSwept = 256

func (s *sending) get(key pageKey) (*page, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.pages[key].Value()
	return p, p != nil
}

func (s *sending) put(key pageKey, p *page) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pages == nil || len(s.pages) >= sendingSwept {
		old := s.pages
		s.pages = map[pageKey]weak.Pointer[page]{}
		for k, w := range old {
			if w.Value() != nil {
				s.pages[k] = w
			}
		}
	}
	s.pages[key] = weak.Make(p)
}
