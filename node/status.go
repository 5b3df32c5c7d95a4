package node

import (
	"fmt"
	"strings"
	"time"

	"swarmnode/gossip"
	"swarmnode/node/control"
)

// staleAfter is how many missed heartbeats are worth a warning (DESIGN section 5).
const staleAfter = 3

// Status tells how the node is, the worst first.
func (n *Node) Status() control.Status {
	now := time.Now()
	s := control.Status{ID: string(n.host.ID()), Addrs: n.host.Addrs(), Home: n.cfg.Home, Started: n.started}
	s.BytesIn, s.BytesOut = n.host.Traffic()
	for _, p := range n.host.Peers() {
		peer := control.Peer{ID: string(p.ID), Transport: p.Transport, RTT: p.RTT, Inbound: p.Inbound, Since: p.Since, BytesIn: p.BytesIn, BytesOut: p.BytesOut}
		if len(p.Addrs) > 0 {
			peer.Addr = p.Addrs[0]
		}
		s.Peers = append(s.Peers, peer)
	}
	for _, b := range n.host.Bootstrap() {
		e := control.Bootstrap{Addr: b.Addr, Connected: b.Connected}
		if b.Err != nil {
			e.Error = b.Err.Error()
		}
		s.Bootstrap = append(s.Bootstrap, e)
	}
	var worries []string
	for _, c := range n.all() {
		x := n.collectionStatus(c, now)
		s.Collections = append(s.Collections, x)
		if w := worry(x, len(s.Peers)); w != "" {
			worries = append(worries, w)
		}
	}
	for dir, err := range n.brokenOnes() {
		worries = append(worries, fmt.Sprintf("collection %s cannot be opened: %v", dir, err))
	}
	switch {
	case len(worries) > 0:
		s.Verdict = strings.Join(worries, "; ")
	case len(s.Collections) == 0:
		s.Verdict = "idle: no collection is mirrored or published"
	default:
		s.Verdict, s.Fine = "fine", true
	}
	return s
}

func (n *Node) collectionStatus(c *collection, now time.Time) control.Collection {
	head := c.listener.Head()
	x := control.Collection{ID: c.id, Name: c.name()}
	x.Head, x.Expires = head.Release, head.Expires
	if c.master != nil {
		n.masterStatus(c, head, &x)
	} else {
		n.followerStatus(c, head, &x)
	}
	heard := c.listener.Heard(now, x.Release)
	x.FreshAsOf, x.Alarm = heard.FreshAsOf, heard.Alarm
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

func (n *Node) masterStatus(c *collection, head gossip.Head, x *control.Collection) {
	c.mu.Lock()
	x.Source = c.record.Source
	c.mu.Unlock()
	x.Published, x.Phase, x.Release, x.Files = true, "published", head.Release, head.Files
	x.Bytes, x.BytesHere, x.Complete = int64(head.Bytes), int64(head.Bytes), true
	c.master.mu.Lock()
	defer c.master.mu.Unlock()
	if bad := c.master.bad; len(bad) > 0 {
		x.Complete = false
		x.Trouble = fmt.Sprintf("%q changed since it was published: publish again", bad[0])
		if len(bad) > 1 {
			x.Trouble = fmt.Sprintf("%q and %d others changed since they were published: publish again", bad[0], len(bad)-1)
		}
	}
}

func (n *Node) followerStatus(c *collection, head gossip.Head, x *control.Collection) {
	p, f := c.follower.mirror.Progress(), c.follower.fetch.Progress()
	x.Phase, x.Release, x.Files = p.Phase, p.Served, p.ServedSum.Files
	x.Segments, x.SegmentsComplete, x.Bytes, x.BytesHere = p.Segments, p.Complete, p.Bytes, p.Here
	x.Complete = p.Served > 0 && p.Served == head.Release
	x.BytesOnDisk, x.BytesBudget = c.follower.disk.Used()+c.pack.Bytes(), n.cfg.Disk
	x.MetadataBytes = c.follower.metadata.Load()
	x.ReceivedBytes, x.WastedBytes = f.Received+f.Wasted+x.MetadataBytes, f.Wasted
	x.BytesInFlight, x.Unobtainable, x.Holders = f.InFlight, f.Unobtainable, f.Holders
	x.AnnouncedToComplete = p.Took.Seconds()
	if p.Trouble != nil {
		x.Trouble = p.Trouble.Error()
	} else if f.Trouble != nil {
		x.Trouble = f.Trouble.Error()
	}
}

// worry is what an operator has to know of a collection, or "".
func worry(x control.Collection, peers int) string {
	name := x.Name
	if name == "" {
		name = x.ID.String()
	}
	now := time.Now()
	switch {
	case x.Alarm != "":
		return fmt.Sprintf("alarm: the publisher of %s signed things that contradict each other (%s)", name, x.Alarm)
	case x.Trouble != "":
		return fmt.Sprintf("%s: %s", name, x.Trouble)
	case x.Published && x.Release == 0:
		return fmt.Sprintf("%s: nothing has been published yet", name)
	case x.Published:
		return ""
	case peers == 0 && !x.Complete:
		return fmt.Sprintf("alone: no other node is connected, %s is not complete", name)
	case x.Head == 0:
		return fmt.Sprintf("waiting: nobody reached so far has %s", name)
	case !x.Expires.IsZero() && now.After(x.Expires):
		return fmt.Sprintf("expired: the publisher of %s has not confirmed release %d since %s", name, x.Release, x.FreshAsOf.Format(time.RFC3339))
	case !x.Complete && x.Unobtainable > 0 && x.BytesInFlight == 0:
		return fmt.Sprintf("behind: no connected node has %d segments of %s release %d", x.Unobtainable, name, x.Head)
	case !x.Complete:
		return fmt.Sprintf("behind: fetching %s release %d (%s)", name, x.Head, percent(x.BytesHere, x.Bytes))
	case peers == 0:
		return "alone: no other node is connected"
	case x.Lag >= staleAfter:
		return fmt.Sprintf("stale: the publisher of %s has not been heard since %s (%d heartbeats missed)", name, x.FreshAsOf.Format(time.RFC3339), x.Lag)
	}
	return ""
}

func percent(here, all int64) string {
	if all <= 0 {
		return "0 %"
	}
	return fmt.Sprintf("%d %%", min(100*here/all, 100))
}
