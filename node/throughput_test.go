//go:build unix

package node

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	streams "github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ltls "github.com/libp2p/go-libp2p/p2p/security/tls"

	"swarmnode/content"
	"swarmnode/node/control"
)

// holderRoot is set in the process that holds the file of BenchmarkFetchOneHolder: the directory with its tree.
const holderRoot = "SWARMNODE_HOLDER_ROOT"

// bareProtocol moves fetchSize bytes and nothing else.
const bareProtocol = "/bare"

// fetchSize is how much BenchmarkFetchOneHolder moves at a time.
const fetchSize = 1 << 30

// spent is the time that moving fetchSize took: by the clock, and of the processors at both ends.
type spent struct{ wall, sender, receiver time.Duration }

func (s *spent) add(o spent) {
	s.wall, s.sender, s.receiver = s.wall+o.wall, s.sender+o.sender, s.receiver+o.receiver
}

func (s spent) cpu() time.Duration { return s.sender + s.receiver }

// BenchmarkFetchOneHolder fetches a file of 1 GiB over loopback from a holder that is a process of its own, both homes in
// memory, and then the same amount over a bare libp2p stream (TCP, TLS) between the same two processes. DESIGN section 8 asks
// for 80 % of the bare stream. CPU seconds are given for each end, and floor-CPU is what the task cannot be done without: the
// bare stream, one SHA-256 of every byte, one read of the file and one write of another. A first round is not counted: a
// virtual machine pays several times as much for memory that it touches for the first time, and the holder hashes then as
// well. Run it with -benchtime 3x; without /dev/shm it measures the disk, too.
func BenchmarkFetchOneHolder(b *testing.B) {
	root := b.TempDir()
	if dir, err := os.MkdirTemp("/dev/shm", "swarmnode"); err == nil {
		root = dir
		b.Cleanup(func() { os.RemoveAll(dir) })
	}
	writeBig(b, filepath.Join(root, "tree", "big.xz"), fetchSize)
	holder := startHolder(b, root)
	var ours, bare spent
	var local time.Duration
	round := func() {
		ours.add(holder.fetch(b, filepath.Join(root, "mirror")))
		bare.add(holder.bareStream(b))
		local += localWork(b, root)
	}
	round()
	ours, bare, local = spent{}, spent{}, 0
	n := 0.0
	for b.Loop() {
		round()
		n++
	}
	b.ReportMetric(n*fetchSize/(1<<20)/ours.wall.Seconds(), "MiB/s")
	b.ReportMetric(n*fetchSize/(1<<20)/bare.wall.Seconds(), "bare-MiB/s")
	b.ReportMetric(bare.wall.Seconds()/ours.wall.Seconds(), "ratio")
	b.ReportMetric(ours.sender.Seconds()/n, "sender-CPU-s/GiB")
	b.ReportMetric(ours.receiver.Seconds()/n, "receiver-CPU-s/GiB")
	b.ReportMetric(bare.sender.Seconds()/n, "bare-sender-CPU-s/GiB")
	b.ReportMetric(bare.receiver.Seconds()/n, "bare-receiver-CPU-s/GiB")
	b.ReportMetric((bare.cpu()+local).Seconds()/n, "floor-CPU-s/GiB")
	b.ReportMetric(0, "ns/op")
}

// remoteHolder is the process that holds the file.
type remoteHolder struct {
	told holderTold
	ask  io.Writer
	says *bufio.Scanner
}

// holderTold is the first line that the holder prints.
type holderTold struct {
	Node    string // its address
	Release uint64
	Bare    peer.AddrInfo
}

// startHolder starts the process and waits until it has published.
func startHolder(b *testing.B, root string) *remoteHolder {
	b.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env, cmd.Stderr = append(os.Environ(), holderRoot+"="+root), os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			b.Error(err)
		}
	})
	h := &remoteHolder{ask: in, says: bufio.NewScanner(out)}
	if !h.says.Scan() {
		b.Fatal("the holder did not start")
	}
	if err := json.Unmarshal(h.says.Bytes(), &h.told); err != nil {
		b.Fatal(err)
	}
	return h
}

// runHolder is the process that holds the file: it publishes the tree in root, says where it is, and answers every line with
// the processor time it has used, in nanoseconds.
func runHolder(root string) error {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	n, err := Open(ctx, Config{Home: filepath.Join(root, "holder"), Listen: []string{"/ip4/127.0.0.1/tcp/0"}})
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	res, err := n.Publish(ctx, control.PublishRequest{Dir: filepath.Join(root, "tree"), Name: "big"}, func(control.PublishProgress) {})
	if err != nil {
		return err
	}
	bare, err := bareHost()
	if err != nil {
		return err
	}
	defer bare.Close()
	bare.SetStreamHandler(bareProtocol, func(s streams.Stream) {
		defer s.Close()
		buf := make([]byte, bareBuffer)
		for left := fetchSize; left > 0; left -= len(buf) {
			if _, err := s.Write(buf[:min(left, len(buf))]); err != nil {
				return
			}
		}
	})
	told, err := json.Marshal(holderTold{Node: n.Addrs()[0], Release: res.Release,
		Bare: peer.AddrInfo{ID: bare.ID(), Addrs: bare.Addrs()}})
	if err != nil {
		return err
	}
	fmt.Println(string(told))
	for asked := bufio.NewScanner(os.Stdin); asked.Scan(); {
		fmt.Println(int64(cpuTime()))
	}
	stop()
	return <-done
}

// cpuTime asks the holder what it has used.
func (h *remoteHolder) cpuTime(b *testing.B) time.Duration {
	b.Helper()
	fmt.Fprintln(h.ask)
	h.says.Scan()
	ns, err := strconv.ParseInt(h.says.Text(), 10, 64)
	if err != nil {
		b.Fatal(err)
	}
	return time.Duration(ns)
}

// measure runs work and says what it cost both ends.
func (h *remoteHolder) measure(b *testing.B, work func()) spent {
	b.Helper()
	sender, receiver, began := h.cpuTime(b), cpuTime(), time.Now()
	work()
	return spent{wall: time.Since(began), receiver: cpuTime() - receiver, sender: h.cpuTime(b) - sender}
}

// fetch mirrors the collection into a new home, which it removes again.
func (h *remoteHolder) fetch(b *testing.B, home string) spent {
	b.Helper()
	mirror := benchNode(b, home)
	cost := h.measure(b, func() {
		if _, err := mirror.Join(b.Context(), h.told.Node, nil); err != nil {
			b.Fatal(err)
		}
		for st := mirror.Status(); len(st.Collections) == 0 || !st.Collections[0].Complete || st.Collections[0].Release != h.told.Release; st = mirror.Status() {
			time.Sleep(5 * time.Millisecond)
		}
	})
	mirror.halt()
	os.RemoveAll(home)
	return cost
}

// bareStream moves the same amount from a new host.
func (h *remoteHolder) bareStream(b *testing.B) spent {
	b.Helper()
	to, err := bareHost()
	if err == nil {
		defer to.Close()
		err = to.Connect(b.Context(), h.told.Bare)
	}
	if err != nil {
		b.Fatal(err)
	}
	return h.measure(b, func() {
		s, err := to.NewStream(b.Context(), h.told.Bare.ID, bareProtocol)
		if err != nil {
			b.Fatal(err)
		}
		s.CloseWrite()
		buf := make([]byte, 64<<10)
		for got := 0; got < fetchSize; {
			n, err := s.Read(buf)
			if got += n; err != nil && got < fetchSize {
				b.Fatal(err)
			}
		}
	})
}

// bareBuffer is how much the bare stream writes at once: with its header it fills a frame of the multiplexer.
const bareBuffer = 64<<10 - 12

func bareHost() (host.Host, error) {
	return libp2p.New(libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"), libp2p.Security(ltls.ID, ltls.New), libp2p.DisableMetrics())
}

// localWork hashes, reads and writes what a fetch has to, and says what that costs.
func localWork(b *testing.B, root string) time.Duration {
	b.Helper()
	from, err := os.Open(filepath.Join(root, "tree", "big.xz"))
	if err != nil {
		b.Fatal(err)
	}
	defer from.Close()
	to, err := os.Create(filepath.Join(root, "copy"))
	if err != nil {
		b.Fatal(err)
	}
	defer os.Remove(to.Name())
	defer to.Close()
	buf := make([]byte, content.MaxChunkSize)
	began := cpuTime()
	for at := int64(0); at < fetchSize; at += int64(len(buf)) {
		_, rerr := from.ReadAt(buf, at)
		content.Sum(buf)
		_, werr := to.WriteAt(buf, at)
		if err := errors.Join(rerr, werr); err != nil {
			b.Fatal(err)
		}
	}
	return cpuTime() - began
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
