package node

import (
	"cmp"
	"slices"

	"swarmnode/gossip"
	"swarmnode/node/control"
)

// maxHoldersTold bounds the nodes of a collection in one status. Chosen: more than anybody reads; a collection can have thousands.
const maxHoldersTold = 200

// holders tells of the nodes that said what they have of a collection, those that want attention first: who has least, then who is
// not connected, then the farthest. all is how many there are.
func holders(members []gossip.Member, self, publisher gossip.PeerID, peers []control.Peer) (list []control.Holder, all int) {
	connected := make(map[string]control.Peer, len(peers))
	for _, p := range peers {
		connected[p.ID] = p
	}
	for _, m := range members {
		if m.Peer == self {
			continue
		}
		h := control.Holder{Peer: string(m.Peer), Release: m.Release, Complete: m.Complete, Publisher: m.Peer == publisher, Gateway: m.Gateway, Way: control.WayNone}
		if p, ok := connected[h.Peer]; ok {
			h.Way, h.RTT, h.BytesIn, h.BytesOut = control.WayOf(p), p.RTT, p.BytesIn, p.BytesOut
		}
		list = append(list, h)
	}
	slices.SortFunc(list, func(a, b control.Holder) int {
		return cmp.Or(cmp.Compare(a.Release, b.Release), compareTruth(a.Complete, b.Complete), compareTruth(a.Way != control.WayNone, b.Way != control.WayNone),
			cmp.Compare(b.RTT, a.RTT), cmp.Compare(a.Peer, b.Peer))
	})
	return list[:min(len(list), maxHoldersTold)], len(list)
}

// maxWeighed bounds the segments that are gone through in one status to tell what parts of releases others have: some tens of
// milliseconds.
const maxWeighed = 1 << 19

// weigh notes which part of the newest release those have who are connected and do not have all of it.
func (f *follower) weigh(list []control.Holder, head uint64) {
	r := f.mirror.Releases()
	newest := r.Target
	if newest == nil {
		newest = r.Served
	}
	if newest == nil || newest.Manifest.Release != head {
		return // what it consists of is not known here
	}
	left := maxWeighed
	for i := range list {
		h := &list[i]
		if h.Way == control.WayNone || h.Complete && h.Release >= head {
			continue
		}
		if left -= len(newest.Infos); left < 0 {
			return
		}
		if part := f.fetch.Held(gossip.PeerID(h.Peer), newest.Infos); part < 1 {
			h.Part = part // all of it is told by its record, which follows a moment later
		}
	}
}

// compareTruth puts false first.
func compareTruth(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}
