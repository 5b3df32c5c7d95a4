package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"swarmnode/gossip"
)

// upload is a simulated uplink and what is asked of it: each request of a mebibyte, sent side by side.
type upload struct {
	t       *testing.T
	s       *Serving
	now     time.Time
	rate    float64            // of the uplink, bytes/s
	readers map[string]float64 // the most that a peer reads, bytes/s; 0: as much as comes
	peers   map[Ticket]string
	sent    map[Ticket]float64
	active  []Ticket
	begun   []string // the peers that got places, in order
	served  map[string]int
}

const (
	asked = 1 << 20
	tick  = 10 * time.Millisecond
)

func newUpload(t *testing.T, rate float64, cfg ServingConfig) *upload {
	u := &upload{t: t, now: epoch, rate: rate, readers: map[string]float64{}, peers: map[Ticket]string{}, sent: map[Ticket]float64{}, served: map[string]int{}}
	cfg.Sent = func(t Ticket) uint64 { return uint64(u.sent[t]) }
	u.s = NewServing(cfg)
	return u
}

// ask lets a peer ask; its group is named by the part before the dot.
func (u *upload) ask(peer string) Ticket {
	group, _, _ := strings.Cut(peer, ".")
	t := u.s.Ask(u.now, gossip.PeerID(peer), netip.MustParsePrefix(fmt.Sprintf("10.0.%d.0/24", group[0])))
	u.peers[t] = peer
	u.obey()
	return t
}

func (u *upload) obey() {
	step := u.s.Next(u.now)
	for _, t := range step.Begin {
		u.active, u.begun = append(u.active, t), append(u.begun, u.peers[t])
	}
	for _, t := range step.Break {
		u.leave(t)
	}
}

func (u *upload) leave(t Ticket) {
	u.s.Leave(u.now, t)
	u.active = slices.DeleteFunc(u.active, func(o Ticket) bool { return o == t })
	u.obey()
}

// pass lets time pass; those who have been served ask again at once if they are to.
func (u *upload) pass(d time.Duration, again bool) {
	for end := u.now.Add(d); u.now.Before(end); {
		u.now = u.now.Add(tick)
		left, open, slow := u.rate, 0, 0.0
		for _, t := range u.active {
			slow += u.readers[u.peers[t]]
		}
		for _, t := range u.active {
			if r := u.readers[u.peers[t]] * min(1, u.rate/max(slow, 1)); r > 0 {
				u.sent[t] += r * tick.Seconds()
				left -= r
			} else {
				open++
			}
		}
		for _, t := range slices.Clone(u.active) {
			if u.readers[u.peers[t]] == 0 {
				u.sent[t] += max(left, 0) / float64(open) * tick.Seconds()
			}
			if u.sent[t] >= asked {
				u.served[u.peers[t]]++
				u.leave(t)
				if again {
					u.ask(u.peers[t])
				}
			}
		}
		u.obey()
	}
}

func (u *upload) want(what string, got, want any) {
	u.t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		u.t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// TestServingOrder: the network with the fewest places is next, then the peer with the fewest, then the one who came first; a
// peer that was served goes behind those who wait; more than four are told to come back.
func TestServingOrder(t *testing.T) {
	u := newUpload(t, 2.5e6, ServingConfig{Places: 2})
	first, second := u.ask("a.1"), u.ask("a.2")
	for _, p := range []string{"a.1", "a.3", "b.1", "a.3", "c.1"} {
		u.ask(p)
	}
	u.want("with two places", u.begun, []string{"a.1", "a.2"})
	u.leave(first)
	u.leave(second)
	u.want("the other network first, then who came first", u.begun[2:], []string{"b.1", "a.3"})
	u.leave(u.active[0])
	u.leave(u.active[0])
	u.want("and one that was served behind the others", u.begun[4:], []string{"c.1", "a.1"})
	for _, p := range []string{"d.1", "e.1", "f.1"} {
		if u.ask(p) == 0 {
			t.Errorf("%s was refused with less than four waiting", p)
		}
	}
	u.want("a fifth", u.ask("h.1"), 0)
	if u.ask("d.1") == 0 {
		t.Error("another request of one who waits was refused")
	}
	u.want("what a refused one is told while nothing is known", u.s.RetryAfter(), busyUnknown)
	if u.s.Turn(u.now, u.active[0]) {
		t.Error("a turn ends at once")
	}
	u.now = u.now.Add(turnTime)
	if !u.s.Turn(u.now, u.active[0]) {
		t.Error("a turn does not end")
	}
	u.want("who has waited too long", len(u.s.Next(u.now).Refuse), 5)
}

// TestServingPlaces: a slow uplink serves one or two at a time and a fast one many; both are used in full.
func TestServingPlaces(t *testing.T) {
	for _, c := range []struct {
		mbit        float64
		least, most int
	}{{1, 1, 3}, {20, 1, 3}, {100, 5, 7}, {1000, 12, 12}} {
		u := newUpload(t, c.mbit*1e6/8, ServingConfig{Waiting: -1})
		for i := range 20 {
			u.ask(fmt.Sprintf("%c.1", 'a'+i))
		}
		u.pass(time.Minute, true)
		if n := len(u.active); n < c.least || n > c.most {
			t.Errorf("%.0f Mbit/s: got %d places, want %d to %d", c.mbit, n, c.least, c.most)
		}
	}
}

// TestServingReceivers: when it is the readers who are slow, there are more places until the uplink is used.
func TestServingReceivers(t *testing.T) {
	u := newUpload(t, 2.5e6, ServingConfig{Waiting: -1})
	for i := range 20 {
		u.ask(fmt.Sprintf("%c.1", 'a'+i))
	}
	u.pass(20*time.Second, true)
	for i := range 20 {
		u.readers[fmt.Sprintf("%c.1", 'a'+i)] = 0.5e6
	}
	u.pass(20*time.Second, true)
	if n := len(u.active); n < 4 || n > 7 {
		t.Errorf("readers of a fifth of the uplink: got %d places, want 4 to 7", n)
	}
	u.rate = 1e6
	u.pass(2*time.Minute, true)
	if best := u.s.pace.best; best > 1.5e6 {
		t.Errorf("two minutes after the uplink got slower: best is %.0f, want about 1e6", best)
	}
}

// TestServingSlowReaders: readers at 1 kB/s take nothing away from the others, and are broken off when there are too many.
func TestServingSlowReaders(t *testing.T) {
	u := newUpload(t, 2.5e6, ServingConfig{Waiting: -1})
	u.ask("z.1")
	u.pass(10*time.Second, true) // the uplink is known
	for i := range 40 {
		slow := fmt.Sprintf("%c.2", 'A'+i)
		u.readers[slow] = 1000
		u.ask(slow)
	}
	u.pass(time.Minute, true)
	before := u.served["z.1"]
	u.pass(time.Minute, true)
	if got := float64(u.served["z.1"]-before) * asked / 60; got < 0.8*u.rate {
		t.Errorf("one good reader among 40 slow ones got %.0f bytes/s of %.0f", got, u.rate)
	}
	if n := len(u.active); n > maxPlaces+maxSlow {
		t.Errorf("%d requests are served at a time, want at most %d", n, maxPlaces+maxSlow)
	}
}
