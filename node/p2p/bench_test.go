package p2p

import (
	"context"
	"io"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"swarmnode/content"
)

var (
	now0     = time.Unix(1_700_000_000, 0)
	isNobody = func(peer.ID) bool { return false }
)

// BenchmarkChunksLoopback moves 16 MiB per iteration, in chunks of 1 MiB (and of 64 KiB), by Chunks and by a bare
// stream between the same two hosts in turn. One request at a time, and four at a time, each with its own bare
// counterpart. DESIGN section 8 asks for a ratio of 0.8 with the stores on top.
func BenchmarkChunksLoopback(b *testing.B) {
	for _, c := range []struct {
		name     string
		size     int
		parallel int
	}{{"1MiB", 1 << 20, 1}, {"1MiB-4requests", 1 << 20, 4}, {"64KiB", 64 << 10, 1}} {
		b.Run(c.name, func(b *testing.B) { benchChunks(b, c.size, c.parallel) })
	}
}

func benchChunks(b *testing.B, size, parallel int) {
	data := make([]byte, size)
	from := newHost(b, Config{Listen: []string{"/ip4/127.0.0.1/tcp/0"}, Timeouts: Timeouts{Queue: time.Minute}}, Handlers{
		Chunk: func(_ context.Context, _ content.ID, _ content.Ref, buf []byte) ([]byte, error) {
			return append(buf, data...), nil
		}})
	to := newHost(b, Config{Listen: []string{"/ip4/127.0.0.1/tcp/0"}}, Handlers{})
	from.host.SetStreamHandler("/bare", func(s network.Stream) {
		defer s.Close()
		buf := make([]byte, writePiece)
		for left := MaxRunBytes; left > 0; left -= len(buf) {
			if _, err := s.Write(buf[:min(left, len(buf))]); err != nil {
				return
			}
		}
	})
	connect(b, to, from)
	run := content.Run{Segment: 1, Count: uint32(MaxRunBytes / size)}
	chunks := func() error {
		return to.Chunks(b.Context(), from.ID(), testID, run, func(uint32) uint32 { return uint32(size) }, nil,
			func(content.Ref, []byte) error { return nil })
	}
	bare := func() error {
		s, err := to.host.NewStream(b.Context(), from.host.ID(), "/bare")
		if err != nil {
			return err
		}
		s.CloseWrite()
		buf := make([]byte, 64<<10)
		for range MaxRunBytes / len(buf) {
			if _, err := io.ReadFull(s, buf); err != nil {
				return err
			}
		}
		return s.Close()
	}
	timed := func(fn func() error) time.Duration {
		start := time.Now()
		errs := make(chan error, parallel)
		for range parallel {
			go func() { errs <- fn() }()
		}
		for range parallel {
			if err := <-errs; err != nil {
				b.Fatal(err)
			}
		}
		return time.Since(start)
	}
	timed(chunks)
	timed(bare)
	var ours, theirs time.Duration
	for b.Loop() {
		ours += timed(chunks)
		theirs += timed(bare)
	}
	mib := float64(b.N) * MaxRunBytes / (1 << 20) * float64(parallel)
	b.ReportMetric(mib/ours.Seconds(), "MiB/s")
	b.ReportMetric(mib/theirs.Seconds(), "bare-MiB/s")
	b.ReportMetric(theirs.Seconds()/ours.Seconds(), "ratio")
	b.ReportMetric(0, "ns/op")
}
