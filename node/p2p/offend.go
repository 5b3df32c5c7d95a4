package p2p

import (
	"cmp"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"slices"
	"sync"
	"time"

	libp2pcontrol "github.com/libp2p/go-libp2p/core/control"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"swarmnode/content/durable"
	"swarmnode/content/guard"
	"swarmnode/gossip"
)

// Offence is something that no honest node does.
type Offence int

// The offences that a host sees itself or is told of by [Host.Offended].
const (
	WrongBytes Offence = iota // sent chunks or blocks that are not what was asked for; when to ban is policy.Transfer's decision
	BadAnswer                 // broke a protocol while it answered
	BadRequest                // sent a request that cannot be read
	Silence                   // opened a stream and asked nothing
	BadMessage                // sent a gossip message that no honest node forwards
)

const (
	// offenceMemory is how long an offence counts towards a ban: a bug in one version is seldom, an attack goes on.
	offenceMemory = 10 * time.Minute
	// offenceBan is the ban for breaking a protocol. It may be the fault of another version, so it is short.
	offenceBan = 10 * time.Minute
	// maxBan is the longest ban; one in the file that is longer was written while the clock was wrong.
	maxBan = 24 * time.Hour
	// maxOffenders is how many peers are named. An attacker can have as many identities as it likes.
	maxOffenders = 256
	// maxBansFile is the largest file of bans that is read.
	maxBansFile = 1 << 20
	// maxNamed is how many offenders the log names in a minute.
	maxNamed = 30
)

// offences says what each is called and how many within offenceMemory make a ban; 0 is none. Silence may be the end of a link: a
// peer has at most maxPeerStreams on each of the four protocols that it could have been about to ask on.
var offences = [...]struct {
	what string
	ban  int
}{
	WrongBytes: {"sent wrong bytes", 0},
	BadAnswer:  {"broke the protocol in its answers", 8},
	BadRequest: {"sent requests that cannot be read", 8},
	Silence:    {"opened streams and asked nothing", 8 * maxPeerStreams},
	BadMessage: {"sent gossip that no honest node forwards", 3}, // as GossipSub's graylist
}

// Offender is a peer that did what no honest node does.
type Offender struct {
	Peer  gossip.PeerID `json:"peer"`
	Addr  string        `json:"addr,omitempty"` // where it was connected; "" is not known
	What  string        `json:"what"`           // it did last
	Count int           `json:"count"`          // offences in a row, with less than ten minutes between two
	Last  time.Time     `json:"last"`
	Until time.Time     `json:"until,omitzero"` // banned until then
}

// offenders remembers who did what, keeps banned peers out, and is the host's connection gater.
type offenders struct {
	log      *slog.Logger
	path     string // of the bans; "" is not kept
	arrivals *arrivals
	dials    *dialRule

	saving sync.Mutex // held while the file is written; taken before mu

	mu     sync.Mutex // guards what follows
	list   map[peer.ID]*Offender
	minute time.Time // since which the log has named so many
	named  int
}

func newOffenders(path string, log *slog.Logger) *offenders {
	return &offenders{path: path, log: log, arrivals: newArrivals(), dials: newDialRule(), list: map[peer.ID]*Offender{}}
}

// load reads the bans in force.
func (o *offenders) load(now time.Time) error {
	if o.path == "" {
		return nil
	}
	raw, err := readFileLimited(o.path, maxBansFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var list []Offender
	if err == nil {
		err = json.Unmarshal(raw, &list)
	}
	if err != nil {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, e := range list {
		id, err := peer.Decode(string(e.Peer))
		if err != nil || !e.Until.After(now) || len(o.list) == maxOffenders {
			continue
		}
		if last := now.Add(maxBan); e.Until.After(last) {
			e.Until = last
		}
		o.list[id] = &e
	}
	return nil
}

// save writes the bans in force.
func (o *offenders) save(now time.Time) error {
	if o.path == "" || !guard.On(guard.BansKept) {
		return nil
	}
	o.saving.Lock()
	defer o.saving.Unlock()
	bans := slices.DeleteFunc(o.all(), func(e Offender) bool { return !e.Until.After(now) })
	raw, err := json.MarshalIndent(bans, "", "\t")
	if err != nil {
		return err
	}
	return durable.WriteFile(o.path, raw, 0o600)
}

// all lists the offenders, the latest first.
func (o *offenders) all() []Offender {
	o.mu.Lock()
	defer o.mu.Unlock()
	list := make([]Offender, 0, len(o.list))
	for _, e := range o.list {
		list = append(list, *e)
	}
	slices.SortFunc(list, func(a, b Offender) int { return cmp.Or(b.Last.Compare(a.Last), cmp.Compare(a.Peer, b.Peer)) })
	return list
}

func (o *offenders) banned(id peer.ID, now time.Time) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	e := o.list[id]
	return e != nil && e.Until.After(now) && guard.On(guard.Gater)
}

// note writes down an offence and reports whether the peer is banned from now on. ban is how long at least, 0 for what the table
// says; an exempt peer is named and not banned.
func (o *offenders) note(now time.Time, id peer.ID, addr string, what Offence, ban time.Duration, exempt bool) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	e := o.list[id]
	if e == nil {
		o.makeRoom(now)
		e = &Offender{Peer: gossip.PeerID(id.String())}
		o.list[id] = e
	}
	if now.Sub(e.Last) > offenceMemory {
		e.Count = 0
	}
	rule := offences[what]
	before := e.What
	e.Count, e.Last, e.What, e.Addr = e.Count+1, now, rule.what, cmp.Or(addr, e.Addr)
	if ban == 0 && guard.On(guard.OffenceBan) && rule.ban > 0 && e.Count >= rule.ban {
		ban = offenceBan
	}
	begins := ban > 0 && !exempt && !e.Until.After(now)
	if begins {
		e.Until = now.Add(min(ban, maxBan))
	}
	if begins || before != e.What || e.Count == 1 {
		o.name(now, e, begins)
	}
	return begins
}

// makeRoom forgets the oldest if the list is full, one that is banned only if all are. The caller holds mu.
func (o *offenders) makeRoom(now time.Time) {
	if len(o.list) < maxOffenders {
		return
	}
	var oldest peer.ID
	for id, e := range o.list {
		old := o.list[oldest]
		if old == nil {
			oldest = id
			continue
		}
		a, b := e.Until.After(now), old.Until.After(now)
		if a == b && e.Last.Before(old.Last) || b && !a {
			oldest = id
		}
	}
	delete(o.list, oldest)
}

// name writes to the log who did what. The caller holds mu.
func (o *offenders) name(now time.Time, e *Offender, banned bool) {
	if now.Sub(o.minute) >= time.Minute {
		o.minute, o.named = now, 0
	}
	if o.named++; o.named > maxNamed {
		return
	}
	if banned {
		o.log.Warn("a peer is banned: nothing to do, unless it is a node of yours", "peer", e.Peer, "address", e.Addr, "what", e.What, "until", e.Until)
	} else {
		o.log.Warn("a peer is suspect: nothing to do, it is banned if it goes on", "peer", e.Peer, "address", e.Addr, "what", e.What)
	}
}

// The methods of the connection gater.

// InterceptPeerDial is called by the library.
func (o *offenders) InterceptPeerDial(p peer.ID) bool { return !o.banned(p, time.Now()) }

// InterceptAddrDial is called by the library.
func (o *offenders) InterceptAddrDial(p peer.ID, a ma.Multiaddr) bool { return o.dials.allows(p, a) }

// InterceptAccept is called by the library, before it is known who connects.
func (o *offenders) InterceptAccept(network.ConnMultiaddrs) bool { return true }

// InterceptSecured is called by the library.
func (o *offenders) InterceptSecured(d network.Direction, p peer.ID, c network.ConnMultiaddrs) bool {
	o.arrivals.done(c)
	if d == network.DirOutbound {
		o.dials.reached(p, c.LocalMultiaddr(), c.RemoteMultiaddr())
	}
	return !o.banned(p, time.Now())
}

// InterceptUpgraded is called by the library.
func (o *offenders) InterceptUpgraded(network.Conn) (bool, libp2pcontrol.DisconnectReason) {
	return true, 0
}

// Offended notes that a peer did what no honest node does. It is named in the log, and banned when it does so again and again;
// a bootstrap peer is named only: the operator chose it.
func (h *Host) Offended(id gossip.PeerID, what Offence) { h.offended(id, what, 0) }

// Ban closes the connections to a peer and keeps it out for a time, over restarts as well.
func (h *Host) Ban(id gossip.PeerID, what Offence, d time.Duration) { h.offended(id, what, d) }

func (h *Host) offended(id gossip.PeerID, what Offence, ban time.Duration) {
	p, err := peer.Decode(string(id))
	if err != nil || !h.begin() {
		return
	}
	defer h.wg.Done()
	addr := ""
	if conns := h.host.Network().ConnsToPeer(p); len(conns) > 0 {
		addr = conns[0].RemoteMultiaddr().String()
	}
	exempt := slices.ContainsFunc(h.keeper.targets, func(t *target) bool { return t.info.ID == p })
	if !h.peers.bad.note(time.Now(), p, addr, what, ban, exempt) {
		return
	}
	// Not here: the caller may be a handler of a stream that is closed with the connection.
	h.wg.Go(func() {
		h.host.Network().ClosePeer(p)
		if err := h.peers.bad.save(time.Now()); err != nil {
			h.cfg.Log.Warn("the bans are not kept over a restart: look at the disk of the home directory", "file", h.cfg.BansFile, "error", err)
		}
	})
}

// Offenders lists who did what no honest node does, the latest first.
func (h *Host) Offenders() []Offender { return h.peers.bad.all() }
