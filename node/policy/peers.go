package policy

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"time"

	"swarmnode/gossip"
)

// PeersConfig holds the limits of a [Peers]. The zero value means the defaults.
type PeersConfig struct {
	Low        int           // fewer neighbours than this: dial; default 40
	High       int           // more than this: let some go, down to it; default 50
	Random     float64       // share of the neighbours kept whatever their RTT; default 0.2 (notes/simulation.md), negative for none
	Dials      int           // most dials under way; default 8
	Retry      time.Duration // pause after the first failed dial, doubled each time; default 5 s
	MaxRetry   time.Duration // longest such pause; default 30 min
	Explore    time.Duration // with enough neighbours, new ones are tried this often, for a nearer may be there; default 3 min
	Probes     int           // how many are tried then; default 3: as many find one near the best of 20 (sim: scenario nearest)
	Candidates int           // most peers remembered; default gossip.MaxMembers
}

func (c PeersConfig) withDefaults() PeersConfig {
	c.Low = cmp.Or(c.Low, 40)
	c.High = max(cmp.Or(c.High, 50), c.Low)
	c.Random = max(0, cmp.Or(c.Random, 0.2))
	c.Dials = cmp.Or(c.Dials, 8)
	c.Retry = cmp.Or(c.Retry, 5*time.Second)
	c.MaxRetry = cmp.Or(c.MaxRetry, 30*time.Minute)
	c.Explore = cmp.Or(c.Explore, 3*time.Minute)
	c.Probes = cmp.Or(c.Probes, 3)
	c.Candidates = cmp.Or(c.Candidates, gossip.MaxMembers)
	return c
}

// PeersStep says whom to dial and whom to let go.
type PeersStep struct {
	Dial []gossip.PeerID
	Drop []gossip.PeerID
	Wake time.Time // call Next at this time even if nothing happens; zero: only an event can change anything
}

type peerState uint8

const (
	idle peerState = iota
	dialing
	connected
)

// candidate is a peer that shares the collection.
type candidate struct {
	id     gossip.PeerID
	rtt    time.Duration // 0: never measured
	state  peerState
	claim  gossip.Coordinate
	random bool    // as a neighbour it belongs to the random share
	fails  uint8   // dials in a row; no more are counted than make a difference
	limits *limits // nil: none
}

// limits are times before which something is not done to a candidate. Most have none.
type limits struct {
	after  time.Time // not dialed before
	banned time.Time // neither dialed nor kept before
}

// limit is the limits of c, to be changed.
func (c *candidate) limit() *limits {
	if c.limits == nil {
		c.limits = &limits{}
	}
	return c.limits
}

// free is when c may be dialed.
func (c *candidate) free() time.Time {
	if c.limits == nil {
		return time.Time{}
	}
	return later(c.limits.after, c.limits.banned)
}

// isBanned reports whether c is banned at this time.
func (c *candidate) isBanned(now time.Time) bool {
	return c.limits != nil && c.limits.banned.After(now)
}

// wait keeps c from being dialed until then.
func (c *candidate) wait(until time.Time) {
	l := c.limit()
	l.after = later(l.after, until)
}

// Peers chooses the neighbours of one collection: mostly near ones, a share at random, which keeps the whole connected.
// Near is what was measured to be, and of peers that were never met what their coordinates let expect: these are tried
// first, and measured; the best are kept. The driver reports candidates, dials, RTTs and coordinates, and obeys
// [Peers.Next].
type Peers struct {
	cfg     PeersConfig
	here    Coordinate
	rng     *rand.Rand
	byID    map[gossip.PeerID]*candidate
	all     []*candidate // in the order in which they were learned
	explore time.Time    // when the next one is tried though there are enough
}

// NewPeers makes a Peers that knows nobody. All randomness comes from rng.
func NewPeers(cfg PeersConfig, rng *rand.Rand) *Peers {
	return &Peers{cfg: cfg.withDefaults(), rng: rng, byID: map[gossip.PeerID]*candidate{}}
}

// Learned says that a peer shares the collection. Beyond the limit an idle one is forgotten for it, or the new one
// is passed over.
func (p *Peers) Learned(peer gossip.PeerID) { p.learn(peer) }

func (p *Peers) learn(peer gossip.PeerID) *candidate {
	if c := p.byID[peer]; c != nil {
		return c
	}
	if len(p.all) >= p.cfg.Candidates {
		i := p.rng.IntN(len(p.all))
		if p.all[i].state != idle {
			return nil
		}
		delete(p.byID, p.all[i].id)
		p.all = slices.Delete(p.all, i, i+1)
	}
	c := &candidate{id: peer}
	p.byID[peer] = c
	p.all = append(p.all, c)
	return c
}

// Connected says that there is a connection, whoever dialed. A zero rtt means not measured yet.
func (p *Peers) Connected(peer gossip.PeerID, rtt time.Duration) {
	c := p.learn(peer)
	if c == nil {
		return
	}
	if c.state != connected {
		c.random = p.rng.Float64() < p.cfg.Random
	}
	c.state, c.fails = connected, 0
	if rtt > 0 {
		c.rtt = rtt
	}
}

// Disconnected says that the connection ended. The peer may be dialed again after the first retry time.
func (p *Peers) Disconnected(now time.Time, peer gossip.PeerID) {
	if c := p.byID[peer]; c != nil && c.state == connected {
		c.state = idle
		c.wait(now.Add(p.jitter(p.cfg.Retry)))
	}
}

// maxFails doublings of any pause make more than the longest pause, and do not overflow.
const maxFails = 30

// DialFailed says that a dial did not lead to a connection.
func (p *Peers) DialFailed(now time.Time, peer gossip.PeerID) {
	c := p.byID[peer]
	if c == nil || c.state != dialing {
		return
	}
	c.state = idle
	wait := p.cfg.MaxRetry
	if c.fails < maxFails {
		wait = min(wait, p.cfg.Retry<<c.fails)
	}
	if c.fails < maxFails {
		c.fails++
	}
	c.wait(now.Add(p.jitter(wait)))
}

// Ban keeps a peer from being a neighbour until then.
func (p *Peers) Ban(peer gossip.PeerID, until time.Time) {
	if c := p.learn(peer); c != nil {
		l := c.limit()
		l.banned = later(l.banned, until)
	}
}

// RTT says how far a peer was measured to be.
func (p *Peers) RTT(peer gossip.PeerID, rtt time.Duration) {
	if c := p.byID[peer]; c != nil && rtt > 0 {
		c.rtt = rtt
	}
}

// Here says where this node is.
func (p *Peers) Here(c Coordinate) { p.here = c }

// Claimed says where a peer claims to be. It is passed over for one that is not known.
func (p *Peers) Claimed(peer gossip.PeerID, claim gossip.Coordinate) {
	if c := p.byID[peer]; c != nil {
		c.claim = claim
	}
}

// expected is how far a candidate was measured to be, else how far its claim lets expect; 0 if there is neither.
func (p *Peers) expected(c *candidate) time.Duration {
	return cmp.Or(c.rtt, p.here.Expect(c.claim))
}

// jitter spreads a wait over half to all of it, so that peers that lost each other together do not return together.
func (p *Peers) jitter(d time.Duration) time.Duration {
	return d/2 + time.Duration(p.rng.Float64()*float64(d/2))
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// Next says whom to dial and whom to let go now. A peer in Dial is being dialed until Connected or DialFailed.
func (p *Peers) Next(now time.Time) PeersStep {
	var step PeersStep
	var ready []*candidate
	have, under := 0, 0
	for _, c := range p.all {
		switch {
		case c.state == connected && c.isBanned(now):
			step.Drop = append(step.Drop, c.id)
			c.state = idle
		case c.state == connected:
			have++
		case c.state == dialing:
			under++
		case !c.free().After(now):
			ready = append(ready, c)
		}
	}
	if have > p.cfg.High {
		step.Drop = append(step.Drop, p.surplus(now, have-p.cfg.High)...)
		have = p.cfg.High
	}
	wanted := min(p.cfg.Low-have-under, p.cfg.Dials-under)
	if have+under >= p.cfg.Low && under == 0 && have <= p.cfg.High && len(ready) > 0 && !now.Before(p.explore) {
		wanted = min(p.cfg.Probes, p.cfg.Dials)
		ready = slices.DeleteFunc(ready, func(c *candidate) bool { return c.rtt != 0 })
	}
	for ; wanted > 0 && len(ready) > 0; wanted-- {
		c := p.draw(&ready)
		c.state = dialing
		step.Dial = append(step.Dial, c.id)
		p.explore = now.Add(p.cfg.Explore)
	}
	step.Wake = p.wake(now, have, under+len(step.Dial))
	return step
}

// draw takes one out of ready: the nearest with the share of the near, any otherwise.
func (p *Peers) draw(ready *[]*candidate) *candidate {
	best := p.rng.IntN(len(*ready))
	if p.rng.Float64() >= p.cfg.Random {
		least := p.expected((*ready)[best])
		for i, c := range *ready {
			if d := p.expected(c); d > 0 && (least == 0 || d < least) {
				best, least = i, d
			}
		}
	}
	c := (*ready)[best]
	*ready = slices.Delete(*ready, best, best+1)
	return c
}

// surplus lets n neighbours go: the farthest that are not of the random share, then the farthest of all. One of
// unknown distance counts as nearest: it has just come.
func (p *Peers) surplus(now time.Time, n int) []gossip.PeerID {
	var in []*candidate
	for _, c := range p.all {
		if c.state == connected {
			in = append(in, c)
		}
	}
	p.thinRandom(in)
	slices.SortStableFunc(in, func(a, b *candidate) int {
		if a.random != b.random {
			if b.random {
				return -1
			}
			return 1
		}
		return cmp.Compare(b.rtt, a.rtt)
	})
	var drop []gossip.PeerID
	for _, c := range in[:n] {
		c.state = idle
		c.wait(now.Add(p.jitter(p.cfg.MaxRetry)))
		drop = append(drop, c.id)
	}
	return drop
}

// thinRandom keeps the random share from growing: it is drawn anew from those that came in by chance.
func (p *Peers) thinRandom(in []*candidate) {
	var random []*candidate
	for _, c := range in {
		if c.random {
			random = append(random, c)
		}
	}
	keep := int(p.cfg.Random * float64(p.cfg.High))
	p.rng.Shuffle(len(random), func(i, j int) { random[i], random[j] = random[j], random[i] })
	for i := keep; i < len(random); i++ {
		random[i].random = false
	}
}

// wake is when the next candidate comes out of its backoff, if one is wanted, or when the next is to be explored.
func (p *Peers) wake(now time.Time, have, under int) time.Time {
	if under > 0 && (have+under >= p.cfg.Low || under >= p.cfg.Dials) {
		return time.Time{}
	}
	var at time.Time
	for _, c := range p.all {
		if c.state != idle || (have >= p.cfg.Low && c.rtt != 0) {
			continue
		}
		when := later(c.free(), now)
		if have >= p.cfg.Low {
			when = later(when, p.explore)
		}
		if at.IsZero() || when.Before(at) {
			at = when
		}
	}
	return at
}
