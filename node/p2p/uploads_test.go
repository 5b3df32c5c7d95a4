package p2p

import (
	"context"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"swarmnode/gossip"
	"swarmnode/node/policy"
)

// TestUploads: who waits gets the place that another leaves, or is sent away in the end; who stops waiting leaves nothing
// behind. Who is next is a question for policy.Serving.
func TestUploads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUploads(policy.ServingConfig{Places: 1})
		ended := make(chan string, 3)
		enter := func(ctx context.Context, name string) *upload {
			r, busy := u.enter(ctx, gossip.PeerID(name), netip.Prefix{}, func() uint64 { return 0 }, func() {})
			if r == nil && busy <= 0 {
				t.Errorf("%s was refused and told to come back after %s", name, busy)
			}
			return r
		}
		first := enter(t.Context(), "first")
		if first == nil {
			t.Fatal("a free place was not given")
		}
		gone, cancel := context.WithCancel(t.Context())
		wait := func(ctx context.Context, name string) {
			go func() {
				if r := enter(ctx, name); r != nil {
					ended <- name + " served"
					<-t.Context().Done()
				} else {
					ended <- name + " sent away"
				}
			}()
			synctest.Wait()
		}
		wait(gone, "one that goes")
		wait(t.Context(), "second")
		wait(t.Context(), "third")
		cancel()
		if got := <-ended; got != "one that goes sent away" {
			t.Errorf("after the end of its context: got %s", got)
		}
		time.Sleep(time.Second)
		u.leave(first)
		if got := <-ended; got != "second served" {
			t.Errorf("after a second: got %s, want second served", got)
		}
		if got := <-ended; got != "third sent away" {
			t.Errorf("after ten seconds: got %s, want third sent away", got)
		}
		if len(u.requests) != 1 {
			t.Errorf("at the end: %d requests, want that of second alone", len(u.requests))
		}
	})
}
