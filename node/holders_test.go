package node

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"swarmnode/gossip"
	"swarmnode/node/control"
)

// Who wants attention comes first: less of it, then not connected, then far away.
func TestHolders(t *testing.T) {
	members := []gossip.Member{
		{Peer: "far", Release: 7, Complete: true}, {Peer: "self", Release: 7}, {Peer: "master", Release: 7, Complete: true, Gateway: "http://192.0.2.1/"},
		{Peer: "gone", Release: 7, Complete: true}, {Peer: "old", Release: 6, Complete: true}, {Peer: "new"}, {Peer: "cache", Release: 7},
	}
	peers := []control.Peer{
		{ID: "far", RTT: 200 * time.Millisecond, Addr: "/ip4/203.0.113.9/tcp/1", BytesIn: 5, BytesOut: 6}, {ID: "master", RTT: time.Millisecond, Addr: "/ip4/192.168.1.2/tcp/4101"},
		{ID: "old", Transport: "relay"}, {ID: "cache"}, {ID: "other"},
	}
	list, all := holders(members, "self", "master", peers)
	var got []string
	for _, h := range list {
		got = append(got, h.Peer)
	}
	if want := []string{"new", "old", "cache", "gone", "far", "master"}; !slices.Equal(got, want) || all != len(want) {
		t.Fatalf("got %v of %d, want %v", got, all, want)
	}
	if got, want := list[4], (control.Holder{Peer: "far", Release: 7, Complete: true, Way: control.WayDirect, RTT: 200 * time.Millisecond, BytesIn: 5, BytesOut: 6}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if h := list[5]; !h.Publisher || h.Gateway != "http://192.0.2.1/" || h.Way != control.WayLAN {
		t.Errorf("the publisher: %+v", h)
	}
	if list[1].Way != control.WayRelay || list[0].Way != control.WayNone || list[0].Publisher {
		t.Errorf("ways %s, %s", list[1].Way, list[0].Way)
	}
	members = nil
	for i := range 5000 {
		members = append(members, gossip.Member{Peer: gossip.PeerID(fmt.Sprint(i)), Release: uint64(5000 - i)})
	}
	if list, all := holders(members, "self", "", nil); len(list) != maxHoldersTold || all != 5000 || list[0].Release != 1 {
		t.Errorf("%d of %d, the first has release %d", len(list), all, list[0].Release)
	}
}
