package control

import (
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Holder is a node that said what it has of a collection.
type Holder struct {
	Peer      string        `json:"peer"`
	Publisher bool          `json:"publisher,omitempty"`
	Release   uint64        `json:"release"`           // that it serves; 0 for none yet
	Complete  bool          `json:"complete"`          // it has all of that release
	Part      float64       `json:"part,omitempty"`    // of the newest release that it has, by what it told, above 0 and below 1; 0: not known
	Way       Way           `json:"way"`               // how it is connected
	RTT       time.Duration `json:"rtt_ns,omitempty"`  // 0: not measured
	BytesIn   int64         `json:"bytes_in"`          // from it, of all collections, while it is connected
	BytesOut  int64         `json:"bytes_out"`         // to it
	Gateway   string        `json:"gateway,omitempty"` // where it serves ordinary clients
}

// Way is how a node is connected.
type Way string

// The ways.
const (
	WayDirect Way = "direct"
	WayLAN    Way = "lan" // at an address of a private network, or of this machine
	WayRelay  Way = "relayed"
	WayNone   Way = "not connected"
)

// WayOf tells how a peer is connected, by its address.
func WayOf(p Peer) Way {
	if p.Transport == "relay" || strings.Contains(p.Addr, "/p2p-circuit") {
		return WayRelay
	}
	if parts := strings.Split(p.Addr, "/"); len(parts) > 2 { // /ip4/192.0.2.1/tcp/4101
		if ip, err := netip.ParseAddr(parts[2]); err == nil && (ip.IsPrivate() || ip.IsLoopback() || ip.IsLinkLocalUnicast()) {
			return WayLAN
		}
	}
	return WayDirect
}

// Has says in a few words what a node has of a collection of which head is the newest release.
func (h Holder) Has(head uint64) string {
	switch {
	case h.Part > 0 && h.Release < head && h.Complete:
		return "all of release " + number(h.Release) + ", and " + h.Percent() + " of release " + number(head)
	case h.Part > 0 && !(h.Complete && h.Release >= head):
		return h.Percent() + " of release " + number(head)
	case h.Release == 0:
		return "nothing whole yet"
	case h.Release < head && h.Complete:
		return "all of release " + number(h.Release) + ", behind"
	case h.Release < head:
		return "some of release " + number(h.Release) + ", behind"
	case h.Complete:
		return "all of release " + number(h.Release)
	}
	return "some of release " + number(h.Release)
}

// Percent writes Part, which is neither nothing nor all.
func (h Holder) Percent() string {
	if h.Part < 0.01 {
		return "less than 1 %"
	}
	return strconv.Itoa(min(int(h.Part*100), 99)) + " %"
}

func number(n uint64) string { return strconv.FormatUint(n, 10) }
