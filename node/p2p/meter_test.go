package p2p

import (
	"context"
	"io"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"

	"swarmnode/content"
)

// countingLimit counts what asked first and what did not, and can keep those who ask waiting.
type countingLimit struct {
	mu                   sync.Mutex // guards what follows
	asked                int        // bytes to and from others
	addrs                map[netip.Addr]bool
	waiting              int
	gate                 chan struct{} // Send waits for its end; nil: it does not
	sentSpent, recvSpent int
}

func (l *countingLimit) Send(ctx context.Context, _ netip.Addr, n int) (int, error) {
	l.mu.Lock()
	l.asked += n
	gate := l.gate
	l.waiting++
	l.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting--
	return n, nil
}

func (l *countingLimit) Receive(_ context.Context, _ netip.Addr, n int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked += n
	return nil
}

func (l *countingLimit) Spend(addr netip.Addr, sent, received int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.addrs == nil {
		l.addrs = map[netip.Addr]bool{}
	}
	l.addrs[addr] = true
	l.sentSpent += sent
	l.recvSpent += received
}

func (l *countingLimit) Closed(netip.Addr) (time.Duration, bool) { return 0, false }

// read gives the figures.
func (l *countingLimit) read() (asked, sent, received, waiting int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.asked, l.sentSpent, l.recvSpent, l.waiting
}

// TestTalkIsCounted: what other protocols than ours move is counted, once, under the peer's address; it does not wait while chunks
// do; and what chunks move is not counted there.
func TestTalkIsCounted(t *testing.T) {
	limit := &countingLimit{gate: make(chan struct{})}
	seg := newSegment(5, content.MaxChunkSize, content.MaxChunkSize, 300_000)
	server := newHost(t, Config{Limit: limit, Timeouts: patient}, Handlers{Chunk: seg.chunk})
	asker := newHost(t, Config{Timeouts: patient}, Handlers{})
	const said = 100_000
	server.Libp2p().SetStreamHandler("/test/talk", func(s network.Stream) {
		defer s.Close()
		io.Copy(s, s) // its end is the asker's
	})
	connect(t, asker, server)
	within(t, "identify is counted both ways", func() bool {
		_, sent, received, _ := limit.read()
		return sent > 0 && received > 0
	})

	got := segment{}
	done := make(chan error, 1)
	go func() {
		done <- asker.Chunks(t.Context(), server.ID(), testID, content.Run{Segment: 7, Count: 3}, seg.size, nil, collect(got))
	}()
	within(t, "the answer waits for the limit", func() bool { _, _, _, waiting := limit.read(); return waiting > 0 })
	_, sent, received, _ := limit.read()
	s, err := asker.Libp2p().NewStream(t.Context(), server.Libp2p().ID(), "/test/talk")
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(s, strings.Repeat("x", said))
	s.CloseWrite()
	if back, err := io.ReadAll(s); err != nil || len(back) != said {
		t.Fatalf("while chunks wait, %d bytes of the talk came back: %v", len(back), err)
	}
	within(t, "the talk is counted", func() bool {
		_, sentNow, receivedNow, _ := limit.read()
		return sentNow-sent >= said && receivedNow-received >= said
	})
	_, before, _, _ := limit.read()
	close(limit.gate)
	if err := <-done; err != nil || len(got) != 3 {
		t.Fatalf("%d chunks: %v", len(got), err)
	}
	asked, after, _, _ := limit.read()
	if least := 2*content.MaxChunkSize + 300_000; asked < least || asked > least+10_000 {
		t.Errorf("chunks of %d bytes asked for %d", least, asked)
	}
	if after-before > 50_000 {
		t.Errorf("beside the chunks %d bytes were counted as talk", after-before)
	}
	limit.mu.Lock()
	defer limit.mu.Unlock()
	if len(limit.addrs) != 1 || !limit.addrs[netip.MustParseAddr("127.0.0.1")] {
		t.Errorf("counted for %v", limit.addrs)
	}
}
