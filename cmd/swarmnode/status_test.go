package main

import (
	"strings"
	"testing"

	"swarmnode/content"
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

// Who has a part of the newest release is told with how much it is, a few of many.
func TestPartHolders(t *testing.T) {
	c := control.Collection{}
	c.Nodes = []control.Holder{{Complete: true, Release: 7}}
	if got := partHolders(c); got != "" {
		t.Errorf("got %q of those who have all", got)
	}
	for i := range 6 {
		c.Nodes = append(c.Nodes, control.Holder{Release: 6, Part: 0.005 + float64(i)/8})
	}
	if got, want := partHolders(c), "; others have less than 1 %, 13 %, 25 %, 38 % (and 2 more a part)"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// `peers --json` says of each peer what it has of each collection, and nothing of those who said nothing.
func TestPeersJSON(t *testing.T) {
	id := content.NewID([]byte("a"))
	c := control.Collection{ID: id, Name: "archive"}
	c.Nodes = []control.Holder{{Peer: "q", Release: 7, Complete: true}, {Peer: "p", Release: 6, Part: 0.5}}
	for peer, want := range map[string]string{
		"p": `"bytes_out":0,"has":[{"collection":"` + id.String() + `","name":"archive","release":6,"complete":false,"part":0.5}]}`,
		"q": `"bytes_out":0,"has":[{"collection":"` + id.String() + `","name":"archive","release":7,"complete":true}]}`,
		"r": `"bytes_out":0}`,
	} {
		var out strings.Builder
		if err := printJSON(&out, peerLine{control.Peer{ID: peer}, hasOf([]control.Collection{{}, c}, peer)}); err != nil {
			t.Fatal(err)
		}
		if got := strings.TrimSpace(out.String()); !strings.HasPrefix(got, `{"id":"`+peer+`",`) || !strings.HasSuffix(got, want) {
			t.Errorf("got %s, want it to end in %s", got, want)
		}
	}
}
