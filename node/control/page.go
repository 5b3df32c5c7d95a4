package control

import (
	"bytes"
	"cmp"
	"embed"
	"fmt"
	"html/template"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
)

const (
	// maxViewers is how many pages may be open and live at a time. Chosen: more than one operator has screens.
	maxViewers = 16
	// shownPeers is how many peers the page lists, the nearest first. Chosen: a page that a phone still scrolls.
	shownPeers = 50
	// shownNodes is how many nodes the page lists of a collection, those that have least first.
	shownNodes = 50
	// shownAddrs is how many addresses of this node the page lists.
	shownAddrs = 8
)

//go:embed web/dashboard.html web/dashboard.css web/dashboard.js web/icon.svg
var files embed.FS

// pageTemplate is the page; its template "live" is what is sent again when it changes.
var pageTemplate = template.Must(template.New("dashboard.html").Funcs(template.FuncMap{
	"way":   func(w Way) string { return wayWords[w] },
	"size":  func(n int64) string { return humanize.IBytes(uint64(max(n, 0))) },
	"count": func(n uint64) string { return humanize.Comma(int64(min(n, 1<<62))) },
	"rate":  func(f float64) string { return humanize.IBytes(uint64(max(f, 0))) + "/s" },
}).ParseFS(files, "web/dashboard.html"))

// wayWords are the ways as the page calls them.
var wayWords = map[Way]string{WayDirect: "direct", WayLAN: "local network", WayRelay: "by a relay", WayNone: "not connected"}

// view is what the page shows, worked out, so that the template only places it.
type view struct {
	Verdict     string
	Fine        bool
	Needs       []need
	Collections []card
	Traffic     trafficView
	Ring        ring
	Peers       []peerRow
	MorePeers   int
	Node        nodeView
}

// nodeView is what the page shows of the node itself.
type nodeView struct {
	ID, Gateway, GatewayURL string
	Running                 string
	Clock                   string // when the page was made
	Addrs                   []string
	GatewayStats            *Gateway
}

// card is a collection on the page.
type card struct {
	Collection
	Title     string
	State     string // a few words
	Look      string // of these words: good, note or bad
	Fresh     string // since when the release is known to be the newest
	FreshAt   string
	Expires   string
	Percent   int // of the release that is here
	Disk      string
	DiskShare int // of the budget, in percent; -1 without one
	HitShare  int // of a cache, in percent; -1 before the first request
	Nodes     []nodeRow
	MoreNodes int
}

// nodeRow is another node that has something of a collection.
type nodeRow struct {
	Holder
	Short, Has, RTT string
	Look            string // of Has
}

// peerRow is a peer in the list.
type peerRow struct {
	Short, ID, Addr, Transport, RTT, Way, Since string
	In, Out                                     int64
}

func viewOf(s Status, rates []rate, now time.Time) view {
	v := view{Verdict: s.Verdict, Fine: s.Fine, Needs: needs(s, now), Traffic: trafficOf(s, rates), Ring: ringOf(s.Peers)}
	v.Node = nodeView{ID: s.ID, Addrs: s.Addrs[:min(len(s.Addrs), shownAddrs)], Running: ago(s.Started, now, ""), Clock: now.Format("15:04:05 MST"), GatewayStats: s.Gateway}
	if g := s.Gateway; g != nil {
		v.Node.Gateway, v.Node.GatewayURL = g.Local, g.URL
	}
	for _, c := range s.Collections {
		v.Collections = append(v.Collections, cardOf(c, now))
	}
	peers := slices.Clone(s.Peers)
	slices.SortStableFunc(peers, func(a, b Peer) int {
		return cmp.Or(compareRTT(a.RTT, b.RTT), cmp.Compare(a.ID, b.ID))
	})
	for _, p := range peers[:min(len(peers), shownPeers)] {
		row := peerRow{Short: short(p.ID), ID: p.ID, Addr: p.Addr, Transport: p.Transport, RTT: roundTrip(p.RTT), Way: "we went there", Since: ago(p.Since, now, ""), In: p.BytesIn, Out: p.BytesOut}
		if p.Inbound {
			row.Way = "came here"
		}
		v.Peers = append(v.Peers, row)
	}
	v.MorePeers = len(peers) - len(v.Peers)
	return v
}

// compareRTT puts the nearest first and those that were not measured last.
func compareRTT(a, b time.Duration) int {
	if (a > 0) != (b > 0) {
		return cmp.Compare(b, a)
	}
	return cmp.Compare(a, b)
}

func cardOf(c Collection, now time.Time) card {
	k := card{Collection: c, Title: cmp.Or(c.Name, c.ID.String()), Look: "bad", Percent: share(c.BytesHere, c.Bytes), DiskShare: -1, HitShare: -1}
	for _, h := range c.Nodes[:min(len(c.Nodes), shownNodes)] {
		row := nodeRow{Holder: h, Short: short(h.Peer), Has: h.Has(c.Head), RTT: roundTrip(h.RTT)}
		switch {
		case h.Release < c.Head || h.Release == 0:
			row.Look = "note"
		case h.Complete:
			row.Look = "good"
		}
		k.Nodes = append(k.Nodes, row)
	}
	k.MoreNodes = c.NodesAll - len(k.Nodes)
	gone := !c.Expires.IsZero() && now.After(c.Expires)
	switch {
	case c.Alarm != "":
		k.State = "alarm"
	case c.Trouble != "":
		k.State = "trouble"
	case gone:
		k.State = "signature has ended"
	case c.Published && c.Release == 0:
		k.State, k.Look = "not published yet", "note"
	case c.Published:
		k.State, k.Look = "published here", "good"
	case c.Cache != nil && c.Release > 0 && c.Release == c.Head:
		k.State, k.Look = "kept as asked for", "good"
	case c.Complete:
		k.State, k.Look = "complete", "good"
	case c.Head == 0:
		k.State, k.Look = "waiting for news", "note"
	default:
		k.State, k.Look = c.Phase, "note"
	}
	if !c.FreshAsOf.IsZero() {
		k.Fresh, k.FreshAt = ago(c.FreshAsOf, now, " ago"), c.FreshAsOf.UTC().Format(time.DateTime)+" UTC"
	}
	if !c.Expires.IsZero() {
		k.Expires = humanize.RelTime(c.Expires, now, "ago", "from now")
	}
	if c.BytesOnDisk > 0 {
		k.Disk = humanize.IBytes(uint64(c.BytesOnDisk))
		if c.BytesBudget > 0 {
			k.Disk += " of " + humanize.IBytes(uint64(c.BytesBudget)) + " given"
			k.DiskShare = share(c.BytesOnDisk, c.BytesBudget)
		}
	}
	if x := c.Cache; x != nil && x.Hits+x.Misses > 0 {
		k.HitShare = int(float64(x.Hits) / float64(x.Hits+x.Misses) * 100)
	}
	return k
}

// share is part of all in percent, rounded down: 100 means all.
func share(part, all int64) int {
	if all <= 0 {
		return 0
	}
	return max(0, min(int(float64(part)/float64(all)*100), 100))
}

// ago says how long something is over, with suffix behind; "a moment" for less than two seconds and clocks that differ.
func ago(t, now time.Time, suffix string) string {
	if t.IsZero() {
		return "–"
	}
	d := now.Sub(t)
	if d < 2*time.Second {
		return "a moment" + suffix
	}
	if d < time.Minute {
		return fmt.Sprintf("%d seconds%s", int(d.Seconds()), suffix)
	}
	return strings.TrimSpace(humanize.RelTime(t, now, "", "")) + suffix
}

func roundTrip(d time.Duration) string {
	switch {
	case d <= 0:
		return "–"
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
	}
	return fmt.Sprintf("%d ms", d.Milliseconds())
}

// short is the end of a peer ID, by which people tell peers apart: all begin alike.
func short(id string) string { return id[max(0, len(id)-8):] }

// render makes the whole page, or with name "live" only what is sent again.
func (d *Dashboard) render(name string) []byte {
	now := d.cfg.Now()
	s := d.cfg.Status()
	var b bytes.Buffer
	if err := pageTemplate.ExecuteTemplate(&b, name, viewOf(s, d.traffic.rates(), now)); err != nil {
		panic("control: the template of the dashboard: " + err.Error()) // it does not depend on the data
	}
	return b.Bytes()
}

// pages serves what a browser asks for.
func (d *Dashboard) pages(mux *http.ServeMux) {
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Write(d.render("dashboard.html"))
	})
	mux.HandleFunc("GET /events", d.serveEvents)
	for name, kind := range map[string]string{"dashboard.css": "text/css; charset=utf-8", "dashboard.js": "text/javascript; charset=utf-8", "icon.svg": "image/svg+xml"} {
		body, err := files.ReadFile("web/" + name)
		if err != nil {
			panic("control: a file of the dashboard is not in the program: " + err.Error())
		}
		mux.HandleFunc("GET /"+name, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", kind)
			w.Header().Set("Cache-Control", "no-cache")
			w.Write(body)
		})
	}
}

// serveEvents sends what the page shows again and again, as server-sent events (HTML Living Standard, section 9.2), each line of it a
// line of data. It says "bye" at its end, so that a page knows a node that stops from a line that broke.
func (d *Dashboard) serveEvents(w http.ResponseWriter, r *http.Request) {
	select {
	case d.viewers <- struct{}{}:
		defer func() { <-d.viewers }()
	default:
		http.Error(w, "too many pages are open", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	to := http.NewResponseController(w)
	send := func(event string, data []byte) bool {
		if to.SetWriteDeadline(time.Now().Add(sendTimeout)) != nil {
			return false
		}
		var b bytes.Buffer
		fmt.Fprintf(&b, "event: %s\n", event)
		data = bytes.ReplaceAll(data, []byte("\r"), []byte(" ")) // it ends a line, too, and may be in what others named
		for line := range bytes.Lines(data) {
			fmt.Fprintf(&b, "data: %s\n", bytes.TrimSuffix(line, []byte("\n")))
		}
		b.WriteString("\n")
		_, err := w.Write(b.Bytes())
		return err == nil && to.Flush() == nil
	}
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	for send("live", d.render("live")) {
		select {
		case <-r.Context().Done():
			send("bye", []byte("the node stops"))
			return
		case <-tick.C:
		}
	}
}
