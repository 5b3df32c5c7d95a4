package p2p

import (
	"errors"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// TestLostOnce: that a bootstrap peer is not reachable is told once, however the attempts fail, and again after it was there.
func TestLostOnce(t *testing.T) {
	x := &target{info: peer.AddrInfo{ID: "x"}}
	k := newKeeper([]*target{x}, time.Second)
	for i, want := range []bool{true, false, false} {
		if got := k.tried(x, []error{errors.New("refused over IPv4"), errors.New("refused over IPv6")}[i%2], false); got != want {
			t.Errorf("failure %d is told: %v, want %v", i+1, got, want)
		}
	}
	k.changed(x.info.ID, true)
	k.changed(x.info.ID, false)
	if !k.tried(x, errors.New("refused over IPv4"), false) {
		t.Error("a failure after it was connected is not told")
	}
}
