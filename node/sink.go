package node

import (
	"sync"

	"swarmnode/content"
	"swarmnode/node/fetch"
)

// sink hands chunks to whoever takes them at the moment.
type sink struct {
	mu sync.RWMutex // guards to; held for reading while a chunk is handed on
	to fetch.Sink
}

// Put hands a chunk on. One that comes too late, after whoever wanted it has gone, is nobody's fault and dropped.
func (s *sink) Put(ref content.Ref, data []byte) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.to == nil {
		return nil
	}
	return s.to.Put(ref, data)
}

// set changes who takes the chunks. When it returns, whoever took them before gets no more.
func (s *sink) set(to fetch.Sink) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.to = to
}
