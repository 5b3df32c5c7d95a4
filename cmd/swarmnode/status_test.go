package main

import (
	"testing"

	"swarmnode/node/control"
)

func TestReachLine(t *testing.T) {
	for _, c := range []struct {
		r    control.Reach
		want string
	}{
		{control.Reach{Way: "unknown", Punched: 3}, "not known yet: it takes another node with a public address to find out"},
		{control.Reach{Way: "public"}, "by anybody"},
		{control.Reach{Way: "public", Confirmed: []string{"/ip4/11.2.2.2/tcp/4101"}, Forwarded: true}, "by anybody, confirmed at /ip4/11.2.2.2/tcp/4101, which the router passes on"},
		{control.Reach{Way: "outbound"}, "by nobody: it serves over the connections that it opens; let TCP and UDP to its port through the router to change that"},
		{control.Reach{Way: "relay", Relays: []string{"a", "b"}, Punched: 1, Unpunched: 2, PunchTime: 0.267},
			"through 2 relays at first, then directly where the routers let it; content passes no relay\n            1 direct connection through both routers, 2 failed, the last one took 0.27 s"},
	} {
		if got := reachLine(c.r); got != c.want {
			t.Errorf("%+v:\n got %q\nwant %q", c.r, got, c.want)
		}
	}
}
