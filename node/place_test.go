package node

import (
	"testing"
	"time"

	"swarmnode/content"
	"swarmnode/gossip"
)

// heardPlace waits until a node has a record of a peer with a coordinate that the test accepts.
func heardPlace(t *testing.T, x *testNode, id content.ID, peer gossip.PeerID, want func(gossip.Coordinate) bool) gossip.Coordinate {
	t.Helper()
	deadline := time.Now().Add(hang)
	var last gossip.Coordinate
	for time.Now().Before(deadline) {
		for _, m := range x.collection(id).listener.Heard(time.Now(), 0).Members {
			if m.Peer == peer {
				if last = m.Coordinate; want(last) {
					return last
				}
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatalf("%s has of %s the coordinate %+v", x.home, peer, last)
	return last
}

// TestCoordinates: two nodes tell each other where they are, each in its member record, and learn from the RTT between them; after
// a restart a node begins where it was.
func TestCoordinates(t *testing.T) {
	tree := t.TempDir()
	writeTree(t, tree, 1)
	master := startNode(t, "master", t.TempDir())
	id := master.publish(t, tree).ID
	began := master.place.now().Claim()
	home := t.TempDir()
	mirror := startNode(t, "mirror", home, master.Addrs()...)
	if _, err := mirror.Join(t.Context(), master.Addrs()[0], nil); err != nil {
		t.Fatal(err)
	}
	heardPlace(t, mirror, id, master.ID(), gossip.Coordinate.Known)
	mirrorBegan := heardPlace(t, master, id, mirror.ID(), gossip.Coordinate.Known)
	learned := func(x *testNode, began gossip.Coordinate) {
		deadline := time.Now().Add(hang)
		for x.place.now().Claim() == began {
			if time.Now().After(deadline) {
				t.Fatalf("%s has learned nothing", x.home)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	learned(master, began)
	learned(mirror, mirrorBegan)
	mirror.halt()
	was := mirror.place.now().Claim()
	again := openPlace(home).now().Claim()
	if again.At != was.At || again.Height != was.Height || again.Error < was.Error {
		t.Errorf("after the restart: at %+v, want %+v and less sure", again, was)
	}
}
