package fetch

import (
	"testing"
	"testing/synctest"
	"time"

	"swarmnode/content"
	"swarmnode/gossip"
)

// TestRoom: two collections fetch at once and never have more in flight together than the node may; both finish.
func TestRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		room := NewRoom(4 << 20)
		var rigs []*rig
		most := uint64(0)
		for range 2 {
			r := newRig(t)
			r.cfg.Room = room
			r.cfg.Stored = func(_ content.Ref, _ int) {
				room.mu.Lock()
				defer room.mu.Unlock()
				sum := uint64(0)
				for _, s := range room.shares {
					sum += s.used
				}
				most = max(most, sum)
			}
			r.segments(4)
			rigs = append(rigs, r)
			defer r.run()()
			for _, id := range []gossip.PeerID{"a", "b", "c", "d"} {
				r.connect(id, whole(4, r.data))
			}
			r.wantAll()
		}
		for _, r := range rigs {
			if err := r.wait(time.Minute); err != nil {
				t.Fatal(err)
			}
			r.wantComplete()
		}
		if most == 0 || most > 4<<20 {
			t.Errorf("in flight together: got %d bytes, want at most %d", most, 4<<20)
		}
	})
}
