package p2p

import (
	"errors"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// TestLostOnce: that a bootstrap peer is not reachable is told once, however the attempts fail, and again after it was there.
func TestLostOnce(t *testing.T) {
	x := &target{info: peer.AddrInfo{ID: "x"}, text: "/dns/x"}
	k := newKeeper([]*target{x}, time.Second)
	for i, want := range []bool{true, false, false} {
		if got, _ := k.tried(x, []error{errors.New("refused over IPv4"), errors.New("refused over IPv6")}[i%2], false); got != want {
			t.Errorf("failure %d is told: %v, want %v", i+1, got, want)
		}
	}
	if got := k.changed(x.info.ID, true); got != x.text {
		t.Errorf("that it is back: %q, want %q", got, x.text)
	}
	if got := k.changed(x.info.ID, true); got != "" {
		t.Errorf("that it is back is told twice: %q", got)
	}
	k.changed(x.info.ID, false)
	if lost, _ := k.tried(x, errors.New("refused over IPv4"), false); !lost {
		t.Error("a failure after it was connected is not told")
	}
}
