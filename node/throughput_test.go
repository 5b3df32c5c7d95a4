//go:build unix

package node

import (
	"context"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	streams "github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ltls "github.com/libp2p/go-libp2p/p2p/security/tls"

	"swarmnode/node/control"
)

// BenchmarkFetchOneHolder fetches a file of 1 GiB from one holder over loopback, both homes in memory, and then the same
// amount over a bare libp2p stream (TCP, TLS) in the same run. CPU seconds are those of both ends. DESIGN section 8 asks
// for 80 % of the bare stream. Run it with -benchtime 3x; without /dev/shm it measures the disk, too.
func BenchmarkFetchOneHolder(b *testing.B) {
	const size = 1 << 30
	root := b.TempDir()
	if dir, err := os.MkdirTemp("/dev/shm", "swarmnode"); err == nil {
		root = dir
		b.Cleanup(func() { os.RemoveAll(dir) })
	}
	tree := filepath.Join(root, "tree")
	writeBig(b, filepath.Join(tree, "big.xz"), size)
	holder := benchNode(b, filepath.Join(root, "holder"))
	res, err := holder.Publish(b.Context(), control.PublishRequest{Dir: tree, Name: "big"}, func(control.PublishProgress) {})
	if err != nil {
		b.Fatal(err)
	}
	var ours, bare, oursCPU, bareCPU time.Duration
	n := 0
	for b.Loop() {
		n++
		home := filepath.Join(root, "mirror")
		mirror := benchNode(b, home)
		began, cpu := time.Now(), cpuTime()
		if _, err := mirror.Join(b.Context(), holder.Addrs()[0], nil); err != nil {
			b.Fatal(err)
		}
		for st := mirror.Status(); len(st.Collections) == 0 || !st.Collections[0].Complete || st.Collections[0].Release != res.Release; st = mirror.Status() {
			time.Sleep(time.Millisecond)
		}
		ours, oursCPU = ours+time.Since(began), oursCPU+cpuTime()-cpu
		mirror.halt()
		os.RemoveAll(home)
		wall, used := bareStream(b, size)
		bare, bareCPU = bare+wall, bareCPU+used
	}
	mib := float64(n) * size / (1 << 20)
	b.ReportMetric(mib/ours.Seconds(), "MiB/s")
	b.ReportMetric(mib/bare.Seconds(), "bare-MiB/s")
	b.ReportMetric(bare.Seconds()/ours.Seconds(), "ratio")
	b.ReportMetric(oursCPU.Seconds()/float64(n), "CPU-s/GiB")
	b.ReportMetric(bareCPU.Seconds()/float64(n), "bare-CPU-s/GiB")
	b.ReportMetric(0, "ns/op")
}

func benchNode(b *testing.B, home string) *testNode {
	b.Helper()
	n, err := Open(b.Context(), Config{Home: home, Listen: []string{"/ip4/127.0.0.1/tcp/0"}})
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	x := &testNode{Node: n, home: home, stop: stop, done: make(chan error, 1)}
	go func() { x.done <- n.Run(ctx) }()
	b.Cleanup(x.halt)
	return x
}

func writeBig(b testing.TB, path string, size int64) {
	b.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		b.Fatal(err)
	}
	f, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := io.CopyN(f, rand.NewChaCha8([32]byte{1}), size); err != nil {
		b.Fatal(err)
	}
	if err := f.Close(); err != nil {
		b.Fatal(err)
	}
}

// cpuTime is what this process has used.
func cpuTime() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// bareStream moves bytes between two new hosts.
func bareStream(b *testing.B, size int) (wall, cpu time.Duration) {
	b.Helper()
	var hosts [2]host.Host
	for i := range hosts {
		h, err := libp2p.New(libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"), libp2p.Security(ltls.ID, ltls.New), libp2p.DisableMetrics())
		if err != nil {
			b.Fatal(err)
		}
		defer h.Close()
		hosts[i] = h
	}
	hosts[0].SetStreamHandler("/bare", func(s streams.Stream) {
		defer s.Close()
		buf := make([]byte, 64<<10)
		for range size / len(buf) {
			if _, err := s.Write(buf); err != nil {
				return
			}
		}
	})
	if err := hosts[1].Connect(b.Context(), peer.AddrInfo{ID: hosts[0].ID(), Addrs: hosts[0].Addrs()}); err != nil {
		b.Fatal(err)
	}
	began, used := time.Now(), cpuTime()
	s, err := hosts[1].NewStream(b.Context(), hosts[0].ID(), "/bare")
	if err != nil {
		b.Fatal(err)
	}
	s.CloseWrite()
	buf := make([]byte, 64<<10)
	for range size / len(buf) {
		if _, err := io.ReadFull(s, buf); err != nil {
			b.Fatal(err)
		}
	}
	return time.Since(began), cpuTime() - used
}
