package main

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	maxPacket      = 65536     // no IPv4 packet is longer
	maxQueuedBytes = 256 << 20 // on their way at a time; what comes then is lost
	readBatch      = 128       // packets taken from the device before due ones are looked at again
	lateAfter      = 2 * time.Millisecond
)

// packet is on its way until due, which counts from the start of the network.
type packet struct {
	due  time.Duration
	turn uint64 // keeps packets of the same moment in order
	data []byte
}

// transit holds the packets on their way, the next due first.
type transit []packet

func (q transit) Len() int { return len(q) }
func (q transit) Less(i, j int) bool {
	return q[i].due < q[j].due || q[i].due == q[j].due && q[i].turn < q[j].turn
}
func (q transit) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *transit) Push(x any)   { *q = append(*q, x.(packet)) }
func (q *transit) Pop() any {
	last := len(*q) - 1
	p := (*q)[last]
	(*q)[last] = packet{}
	*q = (*q)[:last]
	return p
}

// direction is the way from one node to another. Packets on it keep their order, as on a real path.
type direction struct {
	Path
	rng  *rand.Rand
	last time.Duration // when the newest one is due
}

// network decides when each packet arrives, and keeps it until then. It knows no clock and no device.
type network struct {
	topology   *Topology
	directions map[[2]int]*direction
	transit    transit
	bytes      int // in transit
	turn       uint64
	free       [][]byte

	passed, lost, refused uint64
}

func newNetwork(t *Topology) *network {
	return &network{topology: t, directions: map[[2]int]*direction{}}
}

func (n *network) direction(from, to int) *direction {
	d, ok := n.directions[[2]int{from, to}]
	if !ok {
		d = &direction{Path: n.topology.between(from, to), rng: rand.New(rand.NewPCG(n.topology.Seed, uint64(from)<<32|uint64(to)))}
		n.directions[[2]int{from, to}] = d
	}
	return d
}

// send takes a packet that enters the network now; data is copied.
func (n *network) send(now time.Duration, data []byte) {
	from, to, ok := n.ends(data)
	if !ok || n.bytes+len(data) > maxQueuedBytes {
		n.refused++
		return
	}
	d := n.direction(from, to)
	if d.Loss > 0 && d.rng.Float64() < d.Loss {
		n.lost++
		return
	}
	due := now + d.Delay
	if d.Jitter > 0 {
		due += time.Duration(d.rng.Float64() * float64(d.Jitter))
	}
	d.last = max(d.last, due)
	var buf []byte
	if last := len(n.free) - 1; last >= 0 {
		buf, n.free = n.free[last], n.free[:last]
	}
	n.turn++
	n.bytes += len(data)
	heap.Push(&n.transit, packet{d.last, n.turn, append(buf[:0], data...)})
}

// next tells when the next packet is due; false if none is on its way.
func (n *network) next() (time.Duration, bool) {
	if len(n.transit) == 0 {
		return 0, false
	}
	return n.transit[0].due, true
}

// arrive hands over the packet that is due next.
func (n *network) arrive(deliver func(data []byte)) {
	p := heap.Pop(&n.transit).(packet)
	n.bytes -= len(p.data)
	n.passed++
	deliver(p.data)
	n.free = append(n.free, p.data)
}

// ends gives the nodes that an IPv4 packet comes from and goes to.
func (n *network) ends(data []byte) (from, to int, ok bool) {
	if len(data) < 20 || data[0]>>4 != 4 {
		return 0, 0, false
	}
	src, dst := [4]byte(data[12:16]), [4]byte(data[16:20])
	from, to = int(src[3])-1, int(dst[3])-1
	ours := func(a [4]byte, i int) bool {
		return [3]byte(a[:3]) == n.topology.Net && i >= 0 && i < len(n.topology.Nodes)
	}
	return from, to, ours(src, from) && ours(dst, to) && from != to
}

// route passes packets until ctx ends or the owner does.
func route(ctx context.Context, t *Topology, tun string, owner int) error {
	dev, err := openTun(tun)
	if err != nil {
		return fmt.Errorf("open device %s: %w", tun, err)
	}
	defer unix.Close(dev)
	stop, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("make eventfd: %w", err)
	}
	defer unix.Close(stop)
	defer context.AfterFunc(ctx, func() { _, _ = unix.Write(stop, []byte{1, 0, 0, 0, 0, 0, 0, 0}) })()
	poll := []unix.PollFd{{Fd: int32(dev), Events: unix.POLLIN}, {Fd: int32(stop), Events: unix.POLLIN}}
	if owner > 0 {
		fd, err := unix.PidfdOpen(owner, 0)
		if errors.Is(err, unix.ESRCH) {
			return errOwnerGone
		} else if err != nil {
			return fmt.Errorf("watch process %d: %w", owner, err)
		}
		defer unix.Close(fd)
		poll = append(poll, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
	}
	fmt.Println("ready")
	r := router{dev: dev, network: newNetwork(t), began: time.Now(), buf: make([]byte, maxPacket)}
	defer r.report()
	return r.loop(poll)
}

// router moves packets between the device and the network.
type router struct {
	dev     int
	network *network
	began   time.Time
	buf     []byte
	late    uint64 // packets delivered more than lateAfter after they were due: the machine is too slow for the lab
}

// loop waits for the device, for the next packet that is due, for a signal (poll[1]) and for the owner's end (poll[2]).
func (r *router) loop(poll []unix.PollFd) error {
	for {
		var timeout *unix.Timespec
		if due, ok := r.network.next(); ok {
			ts := unix.NsecToTimespec(int64(max(0, due-time.Since(r.began))))
			timeout = &ts
		}
		if _, err := unix.Ppoll(poll, timeout, nil); err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("wait for packets: %w", err)
		}
		switch {
		case poll[1].Revents != 0:
			return nil
		case len(poll) > 2 && poll[2].Revents != 0:
			return errOwnerGone
		}
		if err := r.read(); err != nil {
			return err
		}
		for now := time.Since(r.began); ; {
			due, ok := r.network.next()
			if !ok || due > now {
				break
			}
			if now-due > lateAfter {
				r.late++
			}
			r.network.arrive(func(data []byte) { _, _ = unix.Write(r.dev, data) }) // a full receiver loses it, as a network does
		}
	}
}

// read takes what the device has.
func (r *router) read() error {
	for range readBatch {
		n, err := unix.Read(r.dev, r.buf)
		switch {
		case errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR):
			return nil
		case err != nil:
			return fmt.Errorf("read packets: %w", err)
		}
		r.network.send(time.Since(r.began), r.buf[:n])
	}
	return nil
}

func (r *router) report() {
	n := r.network
	fmt.Fprintf(os.Stderr, "router: %d packets passed, %d lost as set, %d refused, %d late by more than %v\n", n.passed, n.lost, n.refused, r.late, lateAfter)
}

// openTun attaches to a TUN device that exists; reads and writes are of whole packets and do not block.
func openTun(name string) (int, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return -1, err
	}
	req, err := unix.NewIfreq(name)
	if err == nil {
		req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}
