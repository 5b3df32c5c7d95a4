package control

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"swarmnode/content"
)

// TestPageSaysWhatMatters: all of it without JavaScript.
func TestPageSaysWhatMatters(t *testing.T) {
	now := time.Now()
	d := showing(t, DashboardConfig{Status: func() Status { return busy(now) }})
	res, text := askPage(t, d, "GET / HTTP/1.1", "Host: localhost")
	if res.StatusCode != http.StatusOK || !strings.HasPrefix(res.Header.Get("Content-Type"), "text/html") {
		t.Fatalf("%s %s", res.Status, res.Header.Get("Content-Type"))
	}
	policy := res.Header.Get("Content-Security-Policy")
	for _, want := range []string{"default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'", "form-action 'none'"} {
		if !strings.Contains(policy, want) {
			t.Errorf("the policy %q has not %s", policy, want)
		}
	}
	for _, want := range []string{"Needs a look", "behind: fetching debian", "two heads", "no room", "Release <b>7</b>, fetching <b>8</b>", "1 minute ago", "60 % of 1000 B",
		"3 other mirrors have all", "4 connected holders", "900 B of 2.0 KiB given", "42 % of requests from here", "4 connected, 2 of them came here, 3 within 50 ms", "10 ms", "not measured",
		"not connected to /ip4/192.0.2.2/tcp/4101: refused", "1 banned", "12 KiB in all", "4.0 KiB sent of 8.0 KiB given, 2.0 KiB received", "In 2026-11", "sending 1.0 KiB/s, none for receiving; Mon-Fri", `value="50"`, "9 answers, 2 failed", `<noscript><meta http-equiv="refresh"`} {
		if !strings.Contains(text, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	for _, never := range []string{"style=", "onclick", "http://www", "//cdn", "<script>", "<no value>", "{{"} {
		if strings.Contains(text, never) {
			t.Errorf("the page has %q in it", never)
		}
	}
	for _, path := range []string{"dashboard.css", "dashboard.js", "icon.svg"} {
		if res, text := askPage(t, d, "GET /"+path+" HTTP/1.1", "Host: localhost"); res.StatusCode != http.StatusOK || len(text) == 0 || strings.Contains(text, "@import") || strings.Contains(text, "url(") {
			t.Errorf("%s: %s, %d bytes", path, res.Status, len(text))
		}
	}
	if res, _ := askPage(t, d, "GET /web/grafana.json HTTP/1.1", "Host: localhost"); res.StatusCode != http.StatusNotFound {
		t.Errorf("what is not there: %s", res.Status)
	}
}

// TestPageIsNotMadeByOthers: names, addresses and errors come from outside.
func TestPageIsNotMadeByOthers(t *testing.T) {
	const bad = `"><script>alert(1)</script><img src=x onerror=alert(1)>`
	s := Status{Verdict: bad, ID: bad, Addrs: []string{bad}, Gateway: &Gateway{Local: "javascript:alert(1)", URL: "javascript:alert(1)"},
		Collections: []Collection{{Name: bad, Phase: bad, Trouble: bad, Source: bad, Serving: Serving{NodesAll: 1, Nodes: []Holder{{Peer: bad, Gateway: "javascript:alert(1)", Way: Way(bad)}}}}}, Peers: []Peer{{ID: bad, Addr: bad, Transport: bad, RTT: 1}}, Bootstrap: []Bootstrap{{Addr: bad, Error: bad}}}
	d := showing(t, DashboardConfig{Status: func() Status { return s }})
	_, text := askPage(t, d, "GET / HTTP/1.1", "Host: localhost")
	if strings.Contains(text, "<script>") || strings.Contains(text, "<img") || strings.Contains(text, `href="javascript`) {
		t.Errorf("what others wrote is in the page as it is:\n%s", text)
	}
	if !strings.Contains(text, "&lt;script&gt;alert(1)") {
		t.Error("what others wrote is not shown at all")
	}
	d = showing(t, DashboardConfig{Status: func() Status {
		return Status{Collections: []Collection{{Name: "a\r\n\r\nevent: bye\rdata: x"}}}
	}})
	if e := events(t, d, 1)[0]; e.name != "live" || !strings.Contains(e.data, "event: bye data: x") {
		t.Errorf("a name ends an event: %q %s", e.name, e.data)
	}
}

// event is one of the stream.
type event struct{ name, data string }

// events reads the first n.
func events(t *testing.T, d *Dashboard, n int) (list []event) {
	t.Helper()
	res, err := http.Get(d.URL() + "events")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if got := res.Header.Get("Content-Type"); res.StatusCode != http.StatusOK || got != "text/event-stream" {
		t.Fatalf("%s %s", res.Status, got)
	}
	return readEvents(t, bufio.NewScanner(res.Body), n)
}

func readEvents(t *testing.T, lines *bufio.Scanner, n int) (list []event) {
	t.Helper()
	var e event
	for len(list) < n && lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), ": ")
		if strings.Contains(value, "\r") { // the scanner leaves one out before \n; any other ends a line for a browser
			t.Fatalf("a line of the stream is two: %q", value)
		}
		switch name {
		case "event":
			e.name = value
		case "data":
			e.data += value + "\n"
		case "":
			list, e = append(list, e), event{}
		default:
			t.Fatalf("the stream has the line %q", lines.Text())
		}
	}
	if len(list) < n {
		t.Fatalf("the stream ended after %d events: %v", len(list), lines.Err())
	}
	return list
}

// TestEvents: the first event comes at once and is what the page has; the last says that the node stops.
func TestEvents(t *testing.T) {
	now := time.Now()
	d, err := ListenDashboard(DashboardConfig{Listen: "127.0.0.1:0", Status: func() Status { return busy(now) }, Now: func() time.Time { return now }, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	res, err := http.Get(d.URL() + "events")
	if err != nil {
		t.Fatal(err)
	}
	defer http.DefaultClient.CloseIdleConnections()
	defer res.Body.Close()
	lines := bufio.NewScanner(res.Body)
	first := readEvents(t, lines, 1)[0]
	page, err := http.Get(d.URL())
	if err != nil {
		t.Fatal(err)
	}
	text, _ := io.ReadAll(page.Body)
	page.Body.Close()
	if first.name != "live" || !strings.Contains(string(text), strings.TrimSpace(first.data)) {
		t.Errorf("event %q is not a part of the page:\n%s", first.name, first.data)
	}
	cancel()
	if last := readEvents(t, lines, 1)[0]; last.name != "bye" {
		t.Errorf("the last event is %q, want bye", last.name)
	}
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("the dashboard ended with %v", err)
	}
}

func TestTooManyViewers(t *testing.T) {
	d := showing(t, DashboardConfig{Status: func() Status { return Status{} }})
	var open []*http.Response
	for range maxViewers {
		res, err := http.Get(d.URL() + "events")
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, res)
		readEvents(t, bufio.NewScanner(res.Body), 1)
	}
	if res, _ := askPage(t, d, "GET /events HTTP/1.1", "Host: localhost"); res.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("one more: %s", res.Status)
	}
	if res, _ := askPage(t, d, "GET /health HTTP/1.1", "Host: localhost"); res.StatusCode == 0 || res.StatusCode >= 504 {
		t.Errorf("health beside them: %s", res.Status)
	}
	for _, res := range open {
		res.Body.Close()
	}
}

func TestNeeds(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	id := content.NewID([]byte("x"))
	peers := []Peer{{ID: "a"}}
	of := func(c Collection) Status {
		c.ID, c.Name = id, "debian"
		return Status{Fine: true, Collections: []Collection{c}, Peers: peers}
	}
	for _, c := range []struct {
		name string
		s    Status
		want []string // "!" before what is bad
	}{
		{"fine", of(Collection{}), nil},
		{"nothing here", Status{Verdict: "idle: no collection is mirrored or published"}, []string{"!idle: no collection is mirrored or published"}},
		{"an alarm before the trouble that it makes", of(Collection{Alarm: "two", Trouble: "one"}), []string{"!debian: signed things contradict each other: two", "!debian: one"}},
		{"expired", of(Collection{Serving: Serving{Expires: now.Add(-time.Second)}}), []string{"!debian: the publisher's signature has ended"}},
		{"soon expired", of(Collection{Serving: Serving{Expires: now.Add(48 * time.Hour)}}), []string{"debian: the publisher's signature ends in 48h0m0s"}},
		{"not so soon", of(Collection{Serving: Serving{Expires: now.Add(soonExpired)}}), nil},
		{"unheard", of(Collection{Serving: Serving{Lag: 3}}), []string{"!debian: the publisher was not heard 3 times"}},
		{"late", of(Collection{Serving: Serving{Lag: 2}}), nil},
		{"gaps", of(Collection{Transfer: Transfer{Unobtainable: 2}}), []string{"!debian: no connected node has 2 of its segments"}},
		{"gaps, still fetching", of(Collection{Transfer: Transfer{Unobtainable: 2, BytesInFlight: 1}}), []string{"debian: no connected node has 2 of its segments"}},
		{"rot", of(Collection{Storage: Storage{Scrub: Scrub{Bad: 2, Repaired: 1, Missing: 1}}}), []string{"!debian: 1 damaged pieces are not repaired yet"}},
		{"rot, repaired", of(Collection{Storage: Storage{Scrub: Scrub{Bad: 2, Repaired: 2}}}), []string{"debian: 2 damaged pieces were found since the start, all repaired"}},
		{"nearly full", of(Collection{Storage: Storage{BytesOnDisk: 95, BytesBudget: 100}}), []string{"debian: its disk space is nearly used up"}},
		{"a full cache", of(Collection{Cache: &Cache{}, Storage: Storage{BytesOnDisk: 95, BytesBudget: 100}}), nil},
		{"a bad thing comes first", Status{Fine: true, Peers: peers, Bootstrap: []Bootstrap{{Addr: "x"}}, Collections: []Collection{{Name: "a", Trouble: "t"}}}, []string{"!a: t", "not connected to x"}},
		{"alone", Status{Fine: true, Bootstrap: []Bootstrap{{Addr: "x", Error: "refused"}}, Collections: []Collection{{Name: "a"}}}, []string{"!not connected to x: refused", "no other node is connected"}},
		{"banned", Status{Fine: true, Peers: peers, Offenders: []Offender{{BannedUntil: now.Add(1)}, {BannedUntil: now}}}, []string{"1 banned for what no honest node does"}},
		{"month used up", Status{Peers: peers, Traffic: Traffic{Limits: Limits{Over: true, Ends: now}}}, []string{"!what may be sent this month is used up: nothing is given to others before " + now.Format(time.DateOnly)}},
		{"only the verdict knows", Status{Verdict: "broken: x", Peers: peers, Bootstrap: []Bootstrap{{Addr: "x"}}}, []string{"!broken: x", "not connected to x"}},
	} {
		var got []string
		for _, n := range needs(c.s, now) {
			mark := ""
			if n.Bad {
				mark = "!"
			}
			got = append(got, mark+n.What)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

func TestRing(t *testing.T) {
	r := ringOf([]Peer{{ID: "near", RTT: 2 * time.Millisecond}, {ID: "far", RTT: 200 * time.Millisecond, Inbound: true}, {ID: "unknown"}, {ID: "farther", RTT: time.Hour}, {ID: "nearest", RTT: 1}})
	from := func(d dot) float64 {
		x, y := d.X-ringSize/2, d.Y-ringSize/2
		return x*x + y*y
	}
	near, far, unknown, farther, nearest := r.Dots[0], r.Dots[1], r.Dots[2], r.Dots[3], r.Dots[4]
	if !(from(nearest) < from(near) && from(near) < from(far) && from(far) < from(farther) && from(farther) < from(unknown)) {
		t.Errorf("out of order: %+v", r.Dots)
	}
	if from(unknown) >= ringSize*ringSize/4 || from(nearest) < 7*7 {
		t.Errorf("outside of the picture, or under this node: %+v", r.Dots)
	}
	if r.Unmeasured != 1 || unknown.Known || !far.Inbound || near.Inbound {
		t.Errorf("%+v", r)
	}
	if again := ringOf([]Peer{{ID: "far", RTT: 200 * time.Millisecond, Inbound: true}}); again.Dots[0] != far {
		t.Errorf("a peer moved: %+v, was %+v", again.Dots[0], far)
	}
}

func TestTraffic(t *testing.T) {
	var kept traffic
	begin := time.Unix(1_800_000_000, 0)
	for i := range keptSamples + 10 {
		kept.add(sample{at: begin.Add(time.Duration(i) * 2 * time.Second), in: int64(i) * 2048, out: int64(i) * 4096})
	}
	rates := kept.rates()
	if len(rates) != keptSamples-1 || rates[0].in != 1024 || rates[0].out != 2048 || rates[0].http != 0 || !rates[0].at.Equal(begin.Add(22*time.Second)) {
		t.Errorf("%d rates, the first %+v", len(rates), rates[0])
	}
	v := trafficOf(Status{Traffic: Traffic{BytesIn: 5}}, rates)
	if v.In != 1024 || v.Top != 2048 || v.Minutes != 7 || v.TotalIn != 5 || !strings.HasPrefix(v.OutLine, "0.0,1.0 ") || !strings.HasSuffix(v.InLine, " 600.0,60.0") {
		t.Errorf("in %v, top %v, %d minutes, total %d, lines %.20q %q", v.In, v.Top, v.Minutes, v.TotalIn, v.OutLine, v.InLine[len(v.InLine)-12:])
	}
	kept.add(sample{at: begin}) // the clock was set back, and a counter begins again
	if n := len(kept.rates()); n != keptSamples-2 {
		t.Errorf("%d rates with a clock that was set back, want %d", n, keptSamples-2)
	}
}

func TestWords(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	for _, c := range []struct{ got, want string }{
		{ago(time.Time{}, now, " ago"), "–"}, {ago(now.Add(time.Hour), now, " ago"), "a moment ago"}, {ago(now.Add(-30*time.Second), now, " ago"), "30 seconds ago"},
		{ago(now.Add(-3*time.Minute), now, ""), "3 minutes"}, {roundTrip(0), "–"}, {roundTrip(1500 * time.Microsecond), "1.5 ms"}, {roundTrip(123 * time.Millisecond), "123 ms"},
		{short("12D3KooWabcdefgh"), "abcdefgh"}, {short("abc"), "abc"},
	} {
		if c.got != c.want {
			t.Errorf("got %q, want %q", c.got, c.want)
		}
	}
	for _, c := range []struct {
		part, all int64
		want      int
	}{{0, 0, 0}, {1, 0, 0}, {999, 1000, 99}, {1000, 1000, 100}, {2000, 1000, 100}, {-1, 10, 0}} {
		if got := share(c.part, c.all); got != c.want {
			t.Errorf("%d of %d is %d %%, want %d", c.part, c.all, got, c.want)
		}
	}
}
