package gateway

import (
	"bytes"
	"html/template"
	"net/http"
	"time"

	"swarmnode/content"

	"github.com/dustin/go-humanize"
)

// summary is what the gateway says of one collection, in /-/status.json and on its first page.
type summary struct {
	ID      content.ID `json:"id"`
	Name    string     `json:"name"`
	Release uint64     `json:"release"` // that is served; 0: none yet
	Newest  uint64     `json:"newest"`  // that is known
	Fresh   time.Time  `json:"fresh"`
	Expires time.Time  `json:"expires"`
	Files   uint64     `json:"files"`
	Bytes   uint64     `json:"bytes"`
}

func summarize(c *Collection) summary {
	s := summary{ID: c.ID, Name: c.Name, Newest: c.Newest, Fresh: c.Fresh.UTC(), Expires: c.Expires.UTC()}
	if c.Served != nil {
		m := c.Served.Manifest
		s.Release, s.Files, s.Bytes = m.Release, m.Totals.Files, m.Totals.Bytes
	}
	return s
}

// statusJSON is what other gateways and programs read: which releases are served here and how fresh they are.
func statusJSON(all []*Collection) []byte {
	out := struct {
		Collections []summary `json:"collections"`
	}{make([]summary, 0, len(all))}
	for _, c := range all {
		out.Collections = append(out.Collections, summarize(c))
	}
	return marshal(out)
}

// silence is how long the publisher may be silent before the first page says so: three of his hourly signatures, as for the node's
// own status.
const silence = 3 * time.Hour

// card is a collection on the first page.
type card struct {
	summary
	Href  template.URL
	State string // one word or sentence for people
	Good  bool
	Ago   string
}

// serveFront answers / with the collections and how fresh each is.
func (g *Gateway) serveFront(w http.ResponseWriter, r *http.Request, all []*Collection) {
	w.Header().Set("Cache-Control", "no-cache")
	if r.URL.Query().Has("json") {
		serveText(w, r, "application/json", statusJSON(all))
		return
	}
	now := g.cfg.Now()
	named := map[string]int{}
	for _, c := range all {
		named[c.Name]++
	}
	page := struct {
		Cards []card
		Style template.CSS
	}{Style: template.CSS(style)}
	for _, c := range all {
		k := card{summary: summarize(c), Href: template.URL(escapeName(c.Name) + "/"), Ago: humanize.RelTime(c.Fresh, now, "ago", "from now")}
		if named[c.Name] > 1 {
			k.Href = template.URL(c.ID.String() + "/")
		}
		switch {
		case c.Served == nil:
			k.State, k.Href = "The first release is still being fetched.", ""
		case now.After(c.Expires):
			k.State = "The publisher's signature has ended, so nothing here can be called current: only packages and images are served."
		case c.Newest > k.Release:
			k.State, k.Good = "A newer release is being fetched.", true
		case now.Sub(c.Fresh) > silence:
			k.State = "The publisher has not confirmed this since then: there may be a newer release."
		default:
			k.State, k.Good = "Current.", true
		}
		page.Cards = append(page.Cards, k)
	}
	var b bytes.Buffer
	if err := front.Execute(&b, page); err != nil {
		panic("gateway: the template of the first page: " + err.Error()) // it does not depend on the data
	}
	servePage(w, r, false, b.Bytes())
}
