package node

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"swarmnode/content/store"
	"swarmnode/gossip"
	"swarmnode/gossip/trust"
	"swarmnode/node/control"
	"swarmnode/node/p2p"
	"swarmnode/node/publish"
)

// staleAfter is how many missed heartbeats are worth a warning (DESIGN section 5).
const staleAfter = 3

// Status tells how the node is, the worst first.
func (n *Node) Status() control.Status {
	now := n.cfg.Now()
	s := control.Status{ID: string(n.host.ID()), Addrs: n.host.Addrs(), Home: n.cfg.Home, Started: n.started}
	s.Gateway, s.Reach = n.web.status(), n.reach()
	if n.web.dashboard != nil {
		s.Dashboard = n.web.dashboard.URL()
	}
	s.BytesIn, s.BytesOut = n.host.Traffic()
	for _, p := range n.host.Peers() {
		peer := control.Peer{ID: string(p.ID), Transport: p.Transport, RTT: p.RTT, Inbound: p.Inbound, Since: p.Since, BytesIn: p.BytesIn, BytesOut: p.BytesOut}
		if len(p.Addrs) > 0 {
			peer.Addr = p.Addrs[0]
		}
		s.Peers = append(s.Peers, peer)
	}
	for _, o := range n.host.Offenders() {
		s.Offenders = append(s.Offenders, control.Offender{Peer: string(o.Peer), Addr: o.Addr, What: o.What, Count: o.Count, Last: o.Last, BannedUntil: o.Until})
	}
	for _, b := range n.host.Bootstrap() {
		e := control.Bootstrap{Addr: b.Addr, Connected: b.Connected}
		if b.Err != nil {
			e.Error = b.Err.Error()
		}
		s.Bootstrap = append(s.Bootstrap, e)
	}
	s.Limits = n.limitStatus()
	worries := []concern{spentWorry(s.Limits)}
	for _, c := range n.all() {
		x := n.collectionStatus(c, now)
		x.Nodes, x.NodesAll = holders(c.listener.Heard(now, 0).Members, n.host.ID(), c.remembered().Publisher, s.Peers)
		if c.follower != nil {
			c.follower.weigh(x.Nodes, x.Head)
		}
		s.Collections = append(s.Collections, x.Collection)
		worries = append(worries, worry(x, len(s.Peers), now))
		worries = append(worries, unreached(x, s.Reach))
	}
	for dir, b := range n.brokenOnes() {
		worries = append(worries, concern{broke, fmt.Sprintf("broken: collection %s cannot be opened: %v", cmp.Or(b.record.Name, dir), b.err)})
	}
	s.Verdict, s.Fine = verdict(worries)
	if s.Fine && len(s.Collections) == 0 {
		s.Verdict, s.Fine = "idle: nothing is mirrored or published yet; `swarmnode collections add ID --bootstrap ADDRESS` changes that", false
	}
	return s
}

// reach tells how others get to this node.
func (n *Node) reach() control.Reach {
	r := n.host.Reach()
	x := control.Reach{Way: string(r.Way), Since: r.Since, Confirmed: r.Confirmed, Forwarded: r.Forwarded, Punched: r.Punched,
		Unpunched: r.Unpunched, PunchTime: r.PunchTime.Seconds()}
	for _, id := range r.Relays {
		x.Relays = append(x.Relays, string(id))
	}
	return x
}

// verdict is all there is to worry about in one line, the worst first.
func verdict(worries []concern) (line string, fine bool) {
	worries = slices.DeleteFunc(worries, func(c concern) bool { return c.text == "" })
	slices.SortFunc(worries, func(a, b concern) int { return cmp.Or(cmp.Compare(a.weight, b.weight), cmp.Compare(a.text, b.text)) })
	var texts []string
	for _, c := range slices.Compact(worries) {
		texts = append(texts, c.text)
	}
	if len(texts) == 0 {
		return "fine", true
	}
	return strings.Join(texts, "; "), false
}

// standing is the status of a collection, with what only the verdict needs.
type standing struct {
	control.Collection
	signed time.Time        // when the newest head was signed
	short  bool             // Trouble is that there is no room
	unkept []trust.Expiring // what the publisher has not renewed in time
}

func (n *Node) collectionStatus(c *collection, now time.Time) standing {
	head := c.listener.Head()
	x := standing{Collection: control.Collection{ID: c.id, Name: c.name()}, signed: head.Signed}
	x.Head, x.Expires = head.Release, head.Expires
	x.Paused = c.remembered().Paused
	if c.master != nil {
		n.masterStatus(c, &x)
	} else {
		n.followerStatus(c, head, &x)
		x.unkept = c.trust.Expiring(now)
	}
	x.Scrub = control.Scrub(c.scrubber().Report())
	c.mu.Lock()
	if c.failed != nil {
		x.Trouble = fmt.Sprintf("a part of it has stopped, start the node again: %v", c.failed)
	}
	c.mu.Unlock()
	heard := c.listener.Heard(now, x.Release)
	x.FreshAsOf = heard.FreshAsOf
	x.Alarm = cmp.Or(heard.Alarm, x.Alarm)
	if x.Release > 0 && c.master == nil {
		x.Lag = heard.Lag
	}
	for _, m := range heard.Members {
		if m.Peer != n.host.ID() && m.Complete && m.Release == head.Release && head.Release > 0 {
			x.Mirrors++
		}
	}
	return x
}

func (n *Node) masterStatus(c *collection, x *standing) {
	m, head := c.master, c.master.signer.Head() // not what the listener has: that may be signed elsewhere
	x.Source = c.remembered().Source
	x.Origin = n.originStatus(c, time.Now())
	x.Published, x.Phase, x.Release, x.Files = true, "published", head.Release, head.Files
	x.Bytes, x.BytesHere, x.Complete = int64(head.Bytes), int64(head.Bytes), head.Release > 0
	if head.Release == 0 {
		x.Phase = "not published yet"
	}
	if err := publish.CheckExtends(head, []gossip.Head{c.trust.Head()}); err != nil {
		x.Alarm = err.Error()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch bad := m.bad; {
	case len(bad) > 0 && m.origin != nil:
		x.Trouble = fmt.Sprintf("fetched content is damaged on the disk: look at the disk; the next run gets it from a mirror or the origin, `swarmnode publish --now %s` begins one", x.Name)
	case len(bad) == 1:
		x.Trouble = fmt.Sprintf("%q changed since it was published: publish again", bad[0].path)
	case len(bad) > 1:
		x.Trouble = fmt.Sprintf("%q and %d others changed since they were published: publish again", bad[0].path, len(bad)-1)
	case m.silent != nil && x.Alarm == "":
		x.Trouble = fmt.Sprintf("no heartbeat could be signed: %v", m.silent)
	}
	if err := c.overtaken(n.cfg.Now()); x.Trouble == "" && err != nil {
		x.Trouble = err.Error()
	}
	if due := m.signer.Renewals(n.cfg.Now()); x.Trouble == "" && len(due) > 0 {
		x.Trouble = fmt.Sprintf("%s expires on %s and its keys are elsewhere: run %s", due[0].Role, due[0].Expires.Format(time.DateOnly), renewCommand(x.Name))
	}
	x.Complete = x.Complete && len(m.bad) == 0
}

func (n *Node) followerStatus(c *collection, head gossip.Head, x *standing) {
	p, f := c.follower.mirror.Progress(), c.follower.fetch.Progress()
	if name := cmp.Or(p.ServedAs, head.Name); name != "" {
		x.Name = name // the record follows a moment later
	}
	x.Phase, x.Release, x.Files = p.Phase, p.Served, p.ServedSum.Files
	x.Segments, x.SegmentsComplete, x.Bytes, x.BytesHere = p.Segments, p.Complete, p.Bytes, p.Here
	x.Complete = p.Served > 0 && p.Served == head.Release && c.follower.cache == nil
	x.Cache = c.follower.cacheStatus()
	exported, exportTrouble := c.follower.exportStatus()
	x.Export = exported
	x.BytesOnDisk, x.BytesBudget = c.used(), c.follower.disk.Budget()
	x.MetadataBytes = c.follower.metadata.Load()
	x.ReceivedBytes, x.WastedBytes = f.Received+f.Wasted+x.MetadataBytes, f.Wasted
	x.BytesInFlight, x.Unobtainable, x.Holders = f.InFlight, f.Unobtainable, f.Holders
	x.AnnouncedToComplete = p.Took.Seconds()
	trouble := p.Trouble
	if trouble = cmp.Or(trouble, f.Trouble); trouble == nil {
		trouble = exportTrouble
	}
	if trouble != nil {
		var budget *store.BudgetError
		x.Trouble, x.short = trouble.Error(), errors.As(trouble, &budget) || errors.Is(trouble, store.ErrDiskFull)
	}
}

// concern is something to worry about.
type concern struct {
	weight weight
	text   string // "" for nothing
}

// weight orders concerns, the worst first.
type weight int

const (
	alarmed weight = iota
	broke
	crowded
	usedUp
	troubled
	expired
	unreachable
	lonely
	behind
	stale
	waiting
	paused
)

// worry is what an operator has to know of a collection.
func worry(x standing, peers int, now time.Time) concern {
	name := cmp.Or(x.Name, x.ID.String())
	tell := func(w weight, format string, args ...any) concern { return concern{w, fmt.Sprintf(format, args...)} }
	gone := !x.Expires.IsZero() && now.After(x.Expires)
	switch {
	case x.Alarm != "" && x.Published:
		return tell(alarmed, "alarm: the keys of %s are used elsewhere too: %s", name, x.Alarm)
	case x.Alarm != "":
		return tell(alarmed, "alarm: the publisher of %s signed things that contradict each other (%s)", name, x.Alarm)
	case x.short:
		return tell(crowded, "short of disk: %s: %s", name, x.Trouble)
	case x.Trouble != "":
		return tell(troubled, "%s: %s", name, x.Trouble)
	case x.Origin != nil && x.Origin.Behind:
		return tell(behind, "behind: %s is behind its origin since %s: %s", name, x.Origin.Failing.UTC().Format(time.RFC3339), x.Origin.Error)
	case x.Published && x.Release == 0:
		return tell(waiting, "%s: nothing has been published yet", name)
	case x.Published && gone:
		return tell(expired, "expired: release %d of %s was last confirmed on %s: leave this node running", x.Release, name, x.signed.UTC().Format(time.RFC3339))
	case x.Paused.Serving && (x.Paused.Fetching || x.Published):
		return tell(paused, "paused: nothing of %s is fetched or served, as was asked for: `swarmnode resume` ends it", name)
	case x.Paused.Serving:
		return tell(paused, "paused: nothing of %s is served, as was asked for: `swarmnode resume` ends it", name)
	case x.Paused.Fetching:
		return tell(paused, "paused: nothing of %s is fetched, as was asked for: `swarmnode resume` ends it", name)
	case x.Published:
		return concern{}
	case peers == 0 && late(x.Collection):
		return tell(lonely, "alone: no other node is connected, %s is not complete", name)
	case x.Head == 0:
		return tell(waiting, "waiting: nobody reached so far has %s", name)
	case x.signed.Sub(now) > trust.MaxClockStep:
		return tell(troubled, "%s: the clock here says %s, but release %d was confirmed on %s: set the clock", name, now.UTC().Format(time.DateOnly),
			x.Head, x.signed.UTC().Format(time.RFC3339))
	case gone:
		return tell(expired, "expired: the publisher of %s has not confirmed release %d since %s, or the clock here is wrong: it says %s", name, x.Head,
			x.signed.UTC().Format(time.RFC3339), now.UTC().Format(time.DateOnly))
	case x.Cache != nil && late(x.Collection):
		return tell(behind, "behind: %s release %d is not served yet: %s", name, x.Head, x.Phase)
	case late(x.Collection) && x.Unobtainable > 0 && x.BytesInFlight == 0:
		return tell(behind, "behind: no connected node has %d segments of %s release %d", x.Unobtainable, name, x.Head)
	case late(x.Collection):
		return tell(behind, "behind: fetching %s release %d (%s)", name, x.Head, percent(x.BytesHere, x.Bytes))
	case peers == 0:
		return tell(lonely, "alone: no other node is connected")
	case x.Lag >= staleAfter:
		return tell(stale, "stale: the publisher of %s has not been heard since %s (%d heartbeats missed)", name, x.FreshAsOf.UTC().Format(time.RFC3339), x.Lag)
	case len(x.unkept) > 0:
		return tell(stale, "%s: the publisher has not renewed %s, which ends on %s: tell the publisher", name, x.unkept[0].Role,
			x.unkept[0].Expires.UTC().Format(time.DateOnly))
	}
	return concern{}
}

// unreached is what an operator has to know of a publisher that nobody reaches. A mirror serves over the connections that it
// opens.
func unreached(x standing, r control.Reach) concern {
	if !x.Published || r.Way != string(p2p.WayOutbound) {
		return concern{}
	}
	return concern{unreachable, fmt.Sprintf("unreachable: nobody can connect to this node, which publishes %s: let TCP and UDP to its port through the router or firewall",
		cmp.Or(x.Name, x.ID.String()))}
}

func percent(here, all int64) string {
	if all <= 0 {
		return "0 %"
	}
	return fmt.Sprintf("%d %%", max(0, min(int64(float64(here)/float64(all)*100), 100)))
}
