package gateway

import (
	"context"
	"sync"
	"time"

	"swarmnode/content"
)

// largeBuffers is how many chunks above smallRead can be in memory at once, waiting for bytes from peers or for a client to take
// them: 64 MiB, as much as a node has in flight from peers. Who finds none free waits within its time for the next byte.
const largeBuffers = 64

// room is the memory for chunks on their way to clients. It is safe for concurrent use.
type room struct {
	tiny  sync.Pool     // of *[]byte with smallRead bytes
	big   sync.Pool     // of *[]byte with content.MaxChunkSize bytes
	slots chan struct{} // one for each that is in use
}

func newRoom() *room {
	return &room{
		tiny:  sync.Pool{New: func() any { b := make([]byte, smallRead); return &b }},
		big:   sync.Pool{New: func() any { b := make([]byte, content.MaxChunkSize); return &b }},
		slots: make(chan struct{}, largeBuffers),
	}
}

func (m *room) small() *[]byte { return m.tiny.Get().(*[]byte) }

func (m *room) giveSmall(b *[]byte) { m.tiny.Put(b) }

// large waits until there is room for a chunk, but not longer than wait.
func (m *room) large(ctx context.Context, wait time.Duration) (*[]byte, error) {
	select {
	case m.slots <- struct{}{}:
		return m.big.Get().(*[]byte), nil
	default:
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	select {
	case m.slots <- struct{}{}:
		return m.big.Get().(*[]byte), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (m *room) giveLarge(b *[]byte) {
	m.big.Put(b)
	<-m.slots
}
