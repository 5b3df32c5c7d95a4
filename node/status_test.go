package node

import (
	"strings"
	"testing"
	"time"

	"swarmnode/gossip"
	"swarmnode/gossip/trust"
	"swarmnode/node/control"
	"swarmnode/node/p2p"
)

func TestWorry(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	mirror := func(change func(*standing)) standing {
		x := standing{signed: now.Add(-30 * time.Minute)}
		x.Name, x.Head, x.Release, x.Complete, x.Expires = "deb", 7, 7, true, now.Add(time.Hour)
		x.FreshAsOf, x.Bytes, x.BytesHere = x.signed, 1000, 1000
		change(&x)
		return x
	}
	incomplete := func(x *standing) { x.Complete, x.Release, x.BytesHere = false, 6, 429 }
	for _, c := range []struct {
		name  string
		x     standing
		peers int
		want  string // "" is fine
	}{
		{"fine", mirror(func(*standing) {}), 3, ""},
		{"behind", mirror(incomplete), 3, "behind: fetching deb release 7 (42 %)"},
		{"nobody has it", mirror(func(x *standing) { incomplete(x); x.Unobtainable = 4 }), 3, "behind: no connected node has 4 segments of deb release 7"},
		{"some on the way", mirror(func(x *standing) { incomplete(x); x.Unobtainable, x.BytesInFlight = 4, 1 }), 3, "behind: fetching deb release 7 (42 %)"},
		{"short", mirror(func(x *standing) { incomplete(x); x.Trouble, x.short = "2 GiB are needed", true }), 3, "short of disk: deb: 2 GiB are needed"},
		{"trouble", mirror(func(x *standing) { x.Trouble = "odd" }), 3, "deb: odd"},
		{"alone, incomplete", mirror(incomplete), 0, "alone: no other node is connected, deb is not complete"},
		{"alone, complete", mirror(func(*standing) {}), 0, "alone: no other node is connected"},
		{"waiting", mirror(func(x *standing) { x.Head, x.Release, x.Complete = 0, 0, false }), 2, "waiting: nobody reached so far has deb"},
		{"stale", mirror(func(x *standing) { x.Lag = 3 }), 2, "stale: the publisher of deb has not been heard since 2026-05-01T11:30:00Z (3 heartbeats missed)"},
		{"two missed", mirror(func(x *standing) { x.Lag = 2 }), 2, ""},
		{"expired", mirror(func(x *standing) { x.Expires = now.Add(-1) }), 2, "expired: the publisher of deb has not confirmed release 7 since 2026-05-01T11:30:00Z, or the clock here is wrong: it says " + now.UTC().Format(time.DateOnly)},
		{"expired before anything is served", mirror(func(x *standing) { incomplete(x); x.Release, x.FreshAsOf, x.Expires = 0, time.Time{}, now.Add(-1) }), 2,
			"expired: the publisher of deb has not confirmed release 7 since 2026-05-01T11:30:00Z, or the clock here is wrong: it says " + now.UTC().Format(time.DateOnly)},
		{"alarm first", mirror(func(x *standing) { x.Alarm, x.Trouble = "fork", "odd" }), 2, "alarm: the publisher of deb signed things that contradict each other (fork)"},
		{"no name yet", mirror(func(x *standing) { x.Name, x.Head = "", 0 }), 2, "waiting: nobody reached so far has " + standing{}.ID.String()},
		{"publisher", mirror(func(x *standing) { x.Published = true }), 0, ""},
		{"publisher, nothing yet", mirror(func(x *standing) { x.Published, x.Release = true, 0 }), 0, "deb: nothing has been published yet"},
		{"publisher, expired", mirror(func(x *standing) { x.Published, x.Expires = true, now.Add(-1) }), 0,
			"expired: release 7 of deb was last confirmed on 2026-05-01T11:30:00Z: leave this node running"},
		{"publisher, changed files", mirror(func(x *standing) { x.Published, x.Trouble = true, "a changed" }), 0, "deb: a changed"},
		{"not renewed", mirror(func(x *standing) {
			x.unkept = []trust.Expiring{{Role: "root", Expires: time.Date(2027, 1, 2, 0, 0, 0, 0, time.UTC)}}
		}), 2, "deb: the publisher has not renewed root, which ends on 2027-01-02: tell the publisher"},
		{"publisher, fork", mirror(func(x *standing) { x.Published, x.Alarm = true, "release 8" }), 0, "alarm: the keys of deb are used elsewhere too: release 8"},
	} {
		if got := worry(c.x, c.peers, now).text; got != c.want {
			t.Errorf("%s:\n got %q\nwant %q", c.name, got, c.want)
		}
	}
}

func TestVerdict(t *testing.T) {
	got, fine := verdict([]concern{{lonely, "alone"}, {behind, "behind b"}, {}, {alarmed, "alarm"}, {behind, "behind a"}, {lonely, "alone"}, {broke, "broken"}})
	if want := "alarm; broken; alone; behind a; behind b"; got != want || fine {
		t.Errorf("got %q, fine %v, want %q", got, fine, want)
	}
	if got, fine := verdict([]concern{{}}); got != "fine" || !fine {
		t.Errorf("got %q, fine %v", got, fine)
	}
}

func TestUnreached(t *testing.T) {
	master, mirror := standing{}, standing{}
	master.Name, master.Published = "deb", true
	for _, c := range []struct {
		what string
		x    standing
		way  p2p.Way
		want string
	}{
		{"a master behind a router", master, p2p.WayOutbound, "unreachable: nobody can connect to this node, which publishes deb: let TCP and UDP to its port through the router or firewall"},
		{"a mirror behind one", mirror, p2p.WayOutbound, ""},
		{"a master with a relay", master, p2p.WayRelay, ""},
		{"nobody to test it", master, p2p.WayUnknown, ""},
	} {
		if got := unreached(c.x, control.Reach{Way: string(c.way)}).text; got != c.want {
			t.Errorf("%s: %q, want %q", c.what, got, c.want)
		}
	}
}

// A relay is found a quarter of a minute after the start: the others have to hear of it, or they never find the way.
func TestTellerTellsOfNewAddresses(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	x := teller{told: map[gossip.PeerID]bool{}, addrs: []string{"/ip4/192.168.1.2/tcp/4101"}}
	x.issue(now, nil)
	relayed := []string{"/ip4/11.1.1.1/tcp/4101/p2p/R/p2p-circuit", "/ip4/192.168.1.2/tcp/4101"}
	for _, c := range []struct {
		after time.Duration
		addrs []string
		want  bool
	}{
		{time.Hour, x.addrs, false},
		{tellElsewhereAfter / 2, relayed, false},
		{tellElsewhereAfter, relayed, true},
	} {
		if got := x.elsewhere(now.Add(c.after), c.addrs); got != c.want {
			t.Errorf("after %s at %v: %v", c.after, c.addrs, got)
		}
	}
}

func TestPercent(t *testing.T) {
	for _, c := range []struct {
		here, all int64
		want      string
	}{{0, 0, "0 %"}, {5, 0, "0 %"}, {999, 1000, "99 %"}, {1000, 1000, "100 %"}, {2000, 1000, "100 %"}, {-5, 10, "0 %"}, {1 << 61, 1 << 62, "50 %"}} {
		if got := percent(c.here, c.all); got != c.want {
			t.Errorf("percent(%d, %d) is %q, want %q", c.here, c.all, got, c.want)
		}
	}
}

func TestHeartbeatTimes(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name  string
		h     gossip.Head
		wait  time.Duration
		isDue bool
	}{
		{"nothing published", gossip.Head{}, time.Hour, false},
		{"just signed", gossip.Head{Release: 1, Signed: now}, time.Hour, false},
		{"half an hour ago", gossip.Head{Release: 1, Signed: now.Add(-30 * time.Minute)}, 30 * time.Minute, false},
		{"a week ago: first hear what others have", gossip.Head{Release: 1, Signed: now.Add(-7 * 24 * time.Hour)}, heartbeatRetry, true},
		{"the clock was wrong by a year", gossip.Head{Release: 1, Signed: now.Add(365 * 24 * time.Hour)}, time.Hour, true},
	} {
		if wait, due := heartbeatIn(c.h, now), heartbeatDue(c.h, now); wait != c.wait || due != c.isDue {
			t.Errorf("%s: look in %s, due %v, want %s, %v", c.name, wait, due, c.wait, c.isDue)
		}
	}
}

func TestTeller(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	x := teller{told: map[gossip.PeerID]bool{}}
	if got := x.issue(now, nil); got != 1_000_000 {
		t.Errorf("first issued at %d", got)
	}
	if got := x.issue(now, []gossip.PeerID{"a"}); got != 1_000_001 { // the same second would count as old
		t.Errorf("second issued at %d", got)
	}
	for _, c := range []struct {
		after   time.Duration
		peers   []gossip.PeerID
		members int
		want    bool
	}{
		{time.Hour, nil, 0, false},
		{time.Hour, []gossip.PeerID{"a"}, 0, false},
		{tellAgain / 2, []gossip.PeerID{"a", "b"}, 0, false},
		{tellAgain, []gossip.PeerID{"a", "b"}, 0, true},
		{tellAgain, []gossip.PeerID{"a", "b"}, 100, false},
		{tellAgainLarge, []gossip.PeerID{"a", "b"}, 100, true},
	} {
		if got := x.again(now.Add(c.after), c.peers, c.members); got != c.want {
			t.Errorf("after %s with %v of %d: %v", c.after, c.peers, c.members, got)
		}
	}
}

func TestBootstraps(t *testing.T) {
	var many []string
	for range maxBootstrap {
		many = append(many, "/x"+strings.Repeat("y", len(many)))
	}
	records := []record{{Bootstrap: []string{"/old", "/new"}}, {Bootstrap: []string{"/b"}}, {Bootstrap: many[:maxRecordBootstrap]}}
	if got := bootstraps([]string{"/b"}, records)[:3]; strings.Join(got, " ") != "/b /new "+many[maxRecordBootstrap-1] {
		t.Errorf("order: %v", got)
	}
	if got := bootstraps(many, records); len(got) != maxBootstrap {
		t.Errorf("%d addresses for a host that takes %d", len(got), maxBootstrap)
	}
	var r record
	for _, a := range many {
		r.joinedBy(a)
	}
	r.joinedBy(many[len(many)-2])
	if len(r.Bootstrap) != maxRecordBootstrap || r.Bootstrap[maxRecordBootstrap-1] != many[len(many)-2] {
		t.Errorf("kept: %d, last %q", len(r.Bootstrap), r.Bootstrap[len(r.Bootstrap)-1])
	}
}

// find gives the status of a collection by name.
func (x *testNode) find(t *testing.T, name string) control.Collection {
	t.Helper()
	for _, c := range x.Status().Collections {
		if c.Name == name {
			return c
		}
	}
	t.Fatalf("no collection %s in %+v", name, x.Status())
	return control.Collection{}
}
