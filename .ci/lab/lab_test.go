package main

import (
	"slices"
	"strings"
	"testing"
	"time"
)

const example = `
# two houses and a data centre
house*2 20 50 10 0.5 2   # copper
centre  -  -  1  0
pair house2 centre 40
seed 7
net 11.77.1.0/24
`

func TestTopology(t *testing.T) {
	top, err := parseTopology(strings.NewReader(example))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, n := range top.Nodes {
		names = append(names, n.Name)
	}
	if want := []string{"house1", "house2", "centre"}; !slices.Equal(names, want) || top.Seed != 7 || top.address(2) != "11.77.1.3" {
		t.Errorf("nodes %v, seed %d, the third at %s; want %v, 7, 11.77.1.3", names, top.Seed, top.address(2), want)
	}
	if n := top.Nodes[0]; n.Up != 20e6 || n.Down != 50e6 {
		t.Errorf("house1 has %v up, %v down", n.Up, n.Down)
	}
	for _, c := range []struct {
		a, b          int
		delay, jitter time.Duration
		loss          float64
	}{
		{0, 1, 20 * time.Millisecond, 4 * time.Millisecond, 1 - 0.995*0.995},
		{0, 2, 11 * time.Millisecond, 2 * time.Millisecond, 1 - 0.995},
		{1, 2, 40 * time.Millisecond, 0, 0},
		{2, 1, 40 * time.Millisecond, 0, 0},
	} {
		if got, want := top.between(c.a, c.b), (Path{c.delay, c.jitter, c.loss}); got.Delay != want.Delay || got.Jitter != want.Jitter || got.Loss-want.Loss > 1e-12 || want.Loss-got.Loss > 1e-12 {
			t.Errorf("from %d to %d: %+v, want %+v", c.a, c.b, got, want)
		}
	}
}

func TestTopologyRefuses(t *testing.T) {
	for _, text := range []string{
		"", "a 1 1 1", "a 1 1 1 1 1 1", "a x 1 1 0", "a 0 1 1 0", "a 1 1 -1 0", "a 1 1 1 101", "A 1 1 1 0", "../a 1 1 1 0", "core 1 1 1 0",
		"a 1 1 1 0\na 1 1 1 0", "a*999 1 1 1 0", "a 1 1 1 0\npair a b 1", "a 1 1 1 0\npair a a 1", "a 1 1 1 0\nseed x", "a 1 1 1 0\nnet 11.77.1.1/24", "a 1 1 1 0\nnet 11.77.0.0/16", "a 1 1 NaN 0",
	} {
		if _, err := parseTopology(strings.NewReader(text)); err == nil {
			t.Errorf("%q was accepted", text)
		}
	}
}

// ipv4 is a packet from one node to another that says something.
func ipv4(from, to byte, says string) []byte {
	p := make([]byte, 20, 20+len(says))
	p[0] = 0x45
	copy(p[12:], []byte{10, 77, 1, from + 1, 10, 77, 1, to + 1})
	return append(p, says...)
}

// deliver gives what arrives until a time, as "says@ms".
func deliver(n *network, until time.Duration) (got []string) {
	for {
		due, ok := n.next()
		if !ok || due > until {
			return got
		}
		n.arrive(func(data []byte) { got = append(got, string(data[20:])+"@"+due.String()) })
	}
}

func TestNetworkDelays(t *testing.T) {
	top, err := parseTopology(strings.NewReader("a - - 10 0\nb - - 5 0\nc - - 1 0"))
	if err != nil {
		t.Fatal(err)
	}
	n := newNetwork(top)
	n.send(0, ipv4(0, 1, "slow"))
	n.send(time.Millisecond, ipv4(1, 2, "fast"))
	n.send(time.Millisecond, ipv4(0, 1, "second"))
	for _, bad := range [][]byte{nil, ipv4(0, 0, "itself"), ipv4(0, 3, "nobody"), ipv4(9, 1, "stranger"), {0x60}} {
		n.send(0, bad)
	}
	if got, want := deliver(n, time.Second), []string{"fast@7ms", "slow@15ms", "second@16ms"}; !slices.Equal(got, want) {
		t.Errorf("arrived %v, want %v", got, want)
	}
	if n.passed != 3 || n.refused != 5 || n.bytes != 0 {
		t.Errorf("passed %d, refused %d, %d bytes left; want 3, 5, 0", n.passed, n.refused, n.bytes)
	}
}

// Loss and jitter are as set, the same for the same seed, and packets of a pair keep their order.
func TestNetworkLossAndJitter(t *testing.T) {
	const count = 20_000
	send := func(seed string) []string {
		top, err := parseTopology(strings.NewReader("a - - 10 10 3\nb - - 0 0\nseed " + seed))
		if err != nil {
			t.Fatal(err)
		}
		n := newNetwork(top)
		var arrived []string
		last := -1
		for i := range count {
			now := time.Duration(i) * time.Millisecond
			arrived = append(arrived, deliver(n, now)...)
			n.send(now, append(ipv4(0, 1, ""), byte(i>>8), byte(i)))
		}
		arrived = append(arrived, deliver(n, time.Hour)...)
		for _, a := range arrived {
			if i := int(a[0])<<8 | int(a[1]); i <= last {
				t.Fatalf("packet %d came after %d", i, last)
			} else {
				last = i
			}
		}
		return arrived
	}
	one, again, two := send("1"), send("1"), send("2")
	if !slices.Equal(one, again) || slices.Equal(one, two) {
		t.Error("chance does not come from the seed")
	}
	if lost := 1 - float64(len(one))/count; lost < 0.09 || lost > 0.11 {
		t.Errorf("lost %.3f, want 0.1", lost)
	}
}
