package control

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"swarmnode/content"
)

func TestWayOf(t *testing.T) {
	for _, c := range []struct {
		addr, transport string
		want            Way
	}{
		{"/ip4/192.168.1.5/tcp/4101", "tcp", WayLAN}, {"/ip4/127.0.0.1/udp/4101/quic-v1", "quic-v1", WayLAN}, {"/ip6/fe80::1/tcp/1", "tcp", WayLAN}, {"/ip6/fd00::1/tcp/1", "tcp", WayLAN},
		{"/ip4/203.0.113.7/tcp/4101", "tcp", WayDirect}, {"/ip6/2001:db8::1/tcp/1", "tcp", WayDirect}, {"/dns4/a.example/tcp/1", "tcp", WayDirect}, {"", "", WayDirect},
		{"/ip4/203.0.113.7/tcp/1/p2p/12D3/p2p-circuit", "", WayRelay}, {"/ip4/192.168.1.5/tcp/4101", "relay", WayRelay},
	} {
		if got := WayOf(Peer{Addr: c.addr, Transport: c.transport}); got != c.want {
			t.Errorf("%q by %q: got %s, want %s", c.addr, c.transport, got, c.want)
		}
	}
}

// The page says who has what, as far as a page goes.
func TestPageHolders(t *testing.T) {
	c := Collection{ID: content.NewID([]byte("root")), Name: "debian", Serving: Serving{Release: 8, Head: 8, NodesAll: 1234}}
	for i := range 200 {
		c.Nodes = append(c.Nodes, Holder{Peer: fmt.Sprintf("12D3KooW%08d", i), Release: 8, Complete: true, Way: WayDirect, RTT: 5e6, BytesIn: 2048})
	}
	c.Nodes[0] = Holder{Peer: "12D3KooWbehind99", Release: 7, Complete: true, Way: WayRelay}
	c.Nodes[1] = Holder{Peer: "12D3KooWstarting", Way: WayNone}
	c.Nodes[2] = Holder{Peer: "12D3KooWthemaster", Release: 8, Complete: true, Publisher: true, Gateway: "http://192.0.2.1:8080/"}
	d := showing(t, DashboardConfig{Status: func() Status { return Status{Collections: []Collection{c}} }})
	res, text := askPage(t, d, "GET / HTTP/1.1", "Host: localhost")
	if res.StatusCode != http.StatusOK {
		t.Fatal(res.Status)
	}
	for _, want := range []string{"Who has it: 1234 other nodes<", "…behind99", `<span class="note">all of release 7, behind</span>`, "by a relay", "nothing whole yet", "not connected",
		"</b> the publisher", `<a href="http://192.0.2.1:8080/" rel="noreferrer">`, "5.0 ms", "2.0 KiB", "…00000049", "And 1184 more"} {
		if !strings.Contains(text, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	if strings.Contains(text, "…00000050") {
		t.Error("the list goes on beyond its bound")
	}
}

func TestHas(t *testing.T) {
	for want, h := range map[string]Holder{
		"nothing whole yet": {}, "all of release 7": {Release: 7, Complete: true}, "some of release 7": {Release: 7}, "all of release 8": {Release: 8, Complete: true},
		"all of release 6, behind": {Release: 6, Complete: true}, "some of release 6, behind": {Release: 6},
		"41 % of release 7": {Part: 0.419}, "99 % of release 7": {Release: 7, Part: 0.9999}, "less than 1 % of release 7": {Release: 6, Part: 1e-5},
		"all of release 6, and 3 % of release 7": {Release: 6, Complete: true, Part: 0.03},
	} {
		if got := h.Has(7); got != want {
			t.Errorf("%+v: got %q, want %q", h, got, want)
		}
	}
}
