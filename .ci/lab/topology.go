package main

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// maxNodes is what one /24 of addresses holds, less the ends.
const maxNodes = 250

// Node is one machine of the lab.
type Node struct {
	Name     string
	Up, Down float64 // bit/s of TCP payload, 0 for no limit
	Path     Path    // from the node to the middle of the network
}

// Path is what happens to packets one way.
type Path struct {
	Delay, Jitter time.Duration
	Loss          float64 // 0 to 1
}

// Topology is what a topology file says.
type Topology struct {
	Seed  uint64
	MTU   int
	Net   [3]byte // of all addresses
	Nodes []Node
	pairs map[[2]int]Path // the smaller index first
}

// address is where node i is reached. The addresses exist inside the namespaces of the lab only.
func (t *Topology) address(i int) string {
	return fmt.Sprintf("%d.%d.%d.%d", t.Net[0], t.Net[1], t.Net[2], i+1)
}

// between gives the path of a packet from node a to node b.
func (t *Topology) between(a, b int) Path {
	if p, ok := t.pairs[[2]int{min(a, b), max(a, b)}]; ok {
		return p
	}
	x, y := t.Nodes[a].Path, t.Nodes[b].Path
	return Path{Delay: x.Delay + y.Delay, Jitter: x.Jitter + y.Jitter, Loss: 1 - (1-x.Loss)*(1-y.Loss)}
}

func readTopology(path string) (*Topology, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read topology: %w", err)
	}
	defer f.Close()
	t, err := parseTopology(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return t, nil
}

func parseTopology(r io.Reader) (*Topology, error) {
	t := &Topology{Seed: 1, MTU: 1500, Net: [3]byte{10, 77, 1}, pairs: map[[2]int]Path{}}
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		text, _, _ := strings.Cut(lines.Text(), "#")
		fields := strings.Fields(text)
		if len(fields) == 0 {
			continue
		}
		var err error
		switch fields[0] {
		case "seed":
			err = t.seed(fields[1:])
		case "mtu":
			err = t.mtu(fields[1:])
		case "net":
			err = t.net(fields[1:])
		case "pair":
			err = t.pair(fields[1:])
		default:
			err = t.node(fields)
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if len(t.Nodes) == 0 {
		return nil, fmt.Errorf("no node in it")
	}
	return t, nil
}

func (t *Topology) seed(f []string) (err error) {
	if len(f) != 1 {
		return fmt.Errorf("want: seed NUMBER")
	}
	t.Seed, err = strconv.ParseUint(f[0], 10, 64)
	return err
}

func (t *Topology) mtu(f []string) (err error) {
	if len(f) == 1 {
		t.MTU, err = strconv.Atoi(f[0])
	}
	if len(f) != 1 || err != nil || t.MTU < 576 || t.MTU > 65000 {
		return fmt.Errorf("want: mtu BYTES, 576 to 65000")
	}
	return nil
}

func (t *Topology) net(f []string) error {
	if len(f) == 1 {
		if p, err := netip.ParsePrefix(f[0]); err == nil && p.Bits() == 24 && p.Addr().Is4() && p == p.Masked() {
			a := p.Addr().As4()
			t.Net = [3]byte(a[:3])
			return nil
		}
	}
	return fmt.Errorf("want: net A.B.C.0/24")
}

// What a full packet has beside TCP's payload: Ethernet's header, which the kernel counts, IPv4's, and TCP's with timestamps.
const ethernet, headers = 14, 20 + 32

// onWire gives the rate that a link needs to carry that much TCP payload in full packets.
func (t *Topology) onWire(payload float64) int64 {
	return int64(payload * float64(t.MTU+ethernet) / float64(t.MTU-headers))
}

// nodeName keeps names usable in namespace names and file names.
var nodeName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,30}(\*[0-9]{1,3})?$`)

func (t *Topology) node(f []string) error {
	if len(f) < 5 || len(f) > 6 || !nodeName.MatchString(f[0]) {
		return fmt.Errorf("want: NODE UP DOWN DELAY LOSS [JITTER], with a NODE of small letters and digits")
	}
	up, err := rate(f[1])
	if err != nil {
		return err
	}
	down, err := rate(f[2])
	if err != nil {
		return err
	}
	path, err := parsePath(f[3:])
	if err != nil {
		return err
	}
	name, many, ok := strings.Cut(f[0], "*")
	names := []string{name}
	if ok {
		count, _ := strconv.Atoi(many) // the pattern allows only digits
		names = nil
		for i := 1; i <= count; i++ {
			names = append(names, name+strconv.Itoa(i))
		}
	}
	for _, name := range names {
		if t.index(name) >= 0 || name == "core" {
			return fmt.Errorf("the name %s is taken", name)
		}
		t.Nodes = append(t.Nodes, Node{Name: name, Up: up, Down: down, Path: path})
	}
	if len(t.Nodes) > maxNodes {
		return fmt.Errorf("more than %d nodes", maxNodes)
	}
	return nil
}

func (t *Topology) pair(f []string) error {
	if len(f) < 3 || len(f) > 5 {
		return fmt.Errorf("want: pair A B DELAY [LOSS [JITTER]]")
	}
	a, b := t.index(f[0]), t.index(f[1])
	if a < 0 || b < 0 || a == b {
		return fmt.Errorf("pair %s %s: want two nodes that have a line above", f[0], f[1])
	}
	path, err := parsePath(f[2:])
	if err != nil {
		return err
	}
	t.pairs[[2]int{min(a, b), max(a, b)}] = path
	return nil
}

func (t *Topology) index(name string) int {
	for i, n := range t.Nodes {
		if n.Name == name {
			return i
		}
	}
	return -1
}

// parsePath reads DELAY [LOSS [JITTER]].
func parsePath(f []string) (Path, error) {
	var v [3]float64
	for i, s := range f {
		x, err := number(s)
		if err != nil {
			return Path{}, err
		}
		v[i] = x
	}
	if v[0] > 60_000 || v[1] > 100 || v[2] > 60_000 {
		return Path{}, fmt.Errorf("a delay, loss or jitter out of range: at most 60000 ms and 100 %%")
	}
	ms := float64(time.Millisecond)
	return Path{Delay: time.Duration(v[0] * ms), Loss: v[1] / 100, Jitter: time.Duration(v[2] * ms)}, nil
}

// rate reads Mbit/s into bit/s.
func rate(s string) (float64, error) {
	if s == "-" {
		return 0, nil
	}
	x, err := number(s)
	if err == nil && (x < 0.1 || x > 10_000) {
		err = fmt.Errorf("a rate of %s: want 0.1 to 10000 Mbit/s, or - for no limit", s)
	}
	return x * 1e6, err
}

func number(s string) (float64, error) {
	x, err := strconv.ParseFloat(s, 64)
	if err != nil || x < 0 || math.IsNaN(x) || math.IsInf(x, 0) {
		return 0, fmt.Errorf("%q is no number from 0 up", s)
	}
	return x, nil
}
