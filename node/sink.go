package node

import (
	"errors"
	"sync"

	"swarmnode/content"
	"swarmnode/node/fetch"
)

// sink hands chunks to whoever takes them at the moment.
type sink struct {
	mu sync.Mutex // guards to
	to fetch.Sink
}

// errNobody says that a chunk came too late.
var errNobody = errors.New("nobody wants the chunk any more")

// Put hands a chunk on.
func (s *sink) Put(ref content.Ref, data []byte) error {
	s.mu.Lock()
	to := s.to
	s.mu.Unlock()
	if to == nil {
		return errNobody
	}
	return to.Put(ref, data)
}

func (s *sink) set(to fetch.Sink) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.to = to
}
