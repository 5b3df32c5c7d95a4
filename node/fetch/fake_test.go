package fetch

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"swarmnode/content"
	"swarmnode/gossip"
	"swarmnode/node/policy"
)

// segment makes a segment of n chunks of size bytes.
func segment(number uint32, n int, size int) (*content.Table, map[content.Ref][]byte) {
	chunks := make([]content.Chunk, n)
	data := map[content.Ref][]byte{}
	for i := range chunks {
		b := bytes.Repeat(fmt.Appendf(nil, "%d/%d;", number, i), size)[:size]
		chunks[i] = content.Chunk{Digest: content.Sum(b), Size: uint32(size)}
		data[content.Ref{Segment: number, Index: uint32(i)}] = b
	}
	return content.NewTable(chunks), data
}

// fakePeer answers requests of a fakeNet. Its fields are set before it is connected, or under the net's lock.
type fakePeer struct {
	holdings chan gossip.Holdings
	data     map[content.Ref][]byte
	blocks   map[content.Digest][]byte
	chunks   func(ctx context.Context, run content.Run) error // if set, comes instead of the data when it gives an error
	metadata error                                            // comes instead of blocks
	late     time.Duration                                    // of an answer with blocks
	trickle  time.Duration                                    // how long the bytes of an answer take after it began
	asked    int
	served   int
}

// whole is a peer that has all of some segments below a number.
func whole(below uint32, data map[content.Ref][]byte) *fakePeer {
	p := &fakePeer{holdings: make(chan gossip.Holdings, 1000), data: data, blocks: map[content.Digest][]byte{}}
	p.holdings <- gossip.Holdings{Reset: true, Below: below}
	return p
}

// fakeNet is a Network of fakePeers. Every request takes 10 ms.
type fakeNet struct {
	mu    sync.Mutex
	peers map[gossip.PeerID]*fakePeer
}

func (n *fakeNet) peer(id gossip.PeerID) *fakePeer {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.peers[id]
}

func (n *fakeNet) Chunks(ctx context.Context, from gossip.PeerID, _ content.ID, run content.Run, size func(uint32) uint32,
	begun func(came func() uint64), each func(content.Ref, []byte) error) error {
	p := n.peer(from)
	n.mu.Lock()
	p.asked++
	behave := p.chunks
	n.mu.Unlock()
	if wait(ctx, 10*time.Millisecond); ctx.Err() != nil {
		return ctx.Err()
	}
	if behave != nil {
		if err := behave(ctx, run); err != nil {
			return err
		}
	}
	answered := time.Now()
	begun(func() uint64 { return uint64(time.Since(answered) / time.Millisecond) })
	if wait(ctx, p.trickle); ctx.Err() != nil {
		return ctx.Err()
	}
	f := &Failure{Err: errors.New("not here")}
	for i := run.First; i < run.First+run.Count; i++ {
		ref := content.Ref{Segment: run.Segment, Index: i}
		n.mu.Lock()
		data, ok := p.data[ref]
		p.served++
		n.mu.Unlock()
		if !ok {
			f.NotHere = append(f.NotHere, ref)
			continue
		}
		if uint32(len(data)) != size(i) {
			return fmt.Errorf("chunk of %d bytes", len(data))
		}
		if err := each(ref, data); err != nil {
			return err
		}
	}
	if f.NotHere != nil {
		return f
	}
	return nil
}

func (n *fakeNet) Blocks(ctx context.Context, from gossip.PeerID, _ content.ID, digests []content.Digest,
	each func(content.Digest, []byte) error) error {
	p := n.peer(from)
	n.mu.Lock()
	p.asked++
	broken := p.metadata
	n.mu.Unlock()

	if wait(ctx, 10*time.Millisecond+p.late); ctx.Err() != nil {
		return ctx.Err()
	}
	if broken != nil {
		return broken
	}
	missing := false
	for _, d := range digests {
		n.mu.Lock()
		data, ok := p.blocks[d]
		n.mu.Unlock()
		switch {
		case !ok:
			missing = true
		case content.Sum(data) != d: // as package p2p does
			return &Failure{Reason: policy.Reason{Kind: policy.Broken}, Err: errors.New("another hash")}
		default:
			if err := each(d, data); err != nil {
				return err
			}
		}
	}
	if missing {
		return &Failure{Err: errors.New("not here")}
	}
	return nil
}

func (n *fakeNet) Outline(ctx context.Context, from gossip.PeerID, id content.ID, manifest content.Digest, _ uint32,
	each func(content.Digest, []byte) error) error {
	return n.Blocks(ctx, from, id, []content.Digest{manifest}, func(d content.Digest, data []byte) error {
		outline := content.NewOutline(manifest)
		for d, below, ok := outline.Next(); ok; d, below, ok = outline.Next() {
			n.mu.Lock()
			data, ok := n.peers[from].blocks[d]
			n.mu.Unlock()
			if !ok {
				continue
			}
			if err := cmp.Or(below(data), each(d, data)); err != nil {
				return err
			}
		}
		return nil
	})
}

func (n *fakeNet) WatchHoldings(ctx context.Context, from gossip.PeerID, _ content.ID, each func(gossip.Holdings) error) error {
	p := n.peer(from)
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case h, ok := <-p.holdings:
			if !ok {
				return errors.New("it closed the stream")
			}
			if err := each(h); err != nil {
				return err
			}
		}
	}
}

var errWrong = errors.New("wrong bytes")

// memory is a sink in memory.
type memory struct {
	mu     sync.Mutex
	tables map[uint32]*content.Table
	has    map[content.Ref]bool
	err    error // of every Put
	puts   int
}

func (m *memory) Put(ref content.Ref, data []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.puts++
	if m.err != nil {
		return m.err
	}
	if content.Sum(data) != m.tables[ref.Segment].Chunk(ref.Index).Digest {
		return errWrong
	}
	m.has[ref] = true
	return nil
}

func (m *memory) fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.err = err
}

// rig is a Fetcher between a fakeNet and a memory. Nothing runs before run.
type rig struct {
	*Fetcher
	t      *testing.T
	net    *fakeNet
	sink   *memory
	banned chan gossip.PeerID
	data   map[content.Ref][]byte
}

func newRig(t *testing.T) *rig {
	r := &rig{t: t, net: &fakeNet{peers: map[gossip.PeerID]*fakePeer{}}, banned: make(chan gossip.PeerID, 10),
		sink: &memory{tables: map[uint32]*content.Table{}, has: map[content.Ref]bool{}}, data: map[content.Ref][]byte{}}
	r.Fetcher = New(Config{Network: r.net, Sink: r.sink, Rand: rand.New(rand.NewPCG(1, 2)),
		Wrong: func(err error) bool { return errors.Is(err, errWrong) }, Banned: func(id gossip.PeerID) { r.banned <- id }})
	return r
}

// segments makes n segments of 40 chunks of 64 KiB, whose bytes are in data.
func (r *rig) segments(n uint32) {
	for s := range n {
		t, data := segment(s, 40, 64<<10)
		r.sink.tables[s] = t
		for ref, b := range data {
			r.data[ref] = b
		}
	}
}

func (r *rig) wantAll() {
	for s, t := range r.sink.tables {
		r.Want(s, t, content.Full(t.Len()))
	}
}

func (r *rig) connect(id gossip.PeerID, p *fakePeer) *fakePeer {
	r.net.mu.Lock()
	r.net.peers[id] = p
	r.net.mu.Unlock()
	r.Connected(id, 20*time.Millisecond)
	return p
}

// run runs the Fetcher; the function that it gives ends it.
func (r *rig) run() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			r.t.Errorf("Run gave %v", err)
		}
	}
}

// wait waits for everything wanted, at most so long.
func (r *rig) wait(most time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), most)
	defer cancel()
	return r.Wait(ctx)
}

func (r *rig) wantComplete() {
	r.t.Helper()
	if got, want := len(r.sink.has), len(r.data); got != want {
		r.t.Errorf("%d chunks are here, want %d", got, want)
	}
}
