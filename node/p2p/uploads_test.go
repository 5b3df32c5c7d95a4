package p2p

import (
	"context"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// TestUploads: of those who wait, the network with the fewest places is next, then the one who came first; nobody waits
// longer than told.
func TestUploads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := netip.MustParsePrefix("10.0.0.0/24"), netip.MustParsePrefix("10.0.1.0/24")
		u := newUploads(2)
		for range 2 {
			if !u.enter(t.Context(), a, 0) {
				t.Fatal("a free place was not given")
			}
		}
		if u.contended() {
			t.Error("contended before anybody waits")
		}
		served := make(chan string, 3)
		wait := func(name string, group netip.Prefix) {
			go func() {
				if u.enter(context.WithoutCancel(t.Context()), group, time.Minute) {
					served <- name
				} else {
					served <- name + " gave up"
				}
			}()
			synctest.Wait()
		}
		wait("a first", a)
		wait("a second", a)
		wait("b", b)
		want := []string{"b", "a first", "a second gave up"}
		u.leave(a)
		if got := <-served; got != want[0] {
			t.Errorf("first place: got %s, want %s", got, want[0])
		}
		u.leave(a)
		if got := <-served; got != want[1] {
			t.Errorf("second place: got %s, want %s", got, want[1])
		}
		if !u.contended() {
			t.Error("not contended with one waiting")
		}
		if got := <-served; got != want[2] {
			t.Errorf("after a minute: got %s, want %s", got, want[2])
		}
		u.leave(a)
		u.leave(b)
		if u.free != 2 || len(u.held) != 0 || len(u.waiting) != 0 {
			t.Errorf("at the end: %d free, %v held, %d waiting", u.free, u.held, len(u.waiting))
		}
	})
}
