package gateway

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"swarmnode/content"
)

const (
	// maxList bounds a mirror list in bytes: apt takes no more.
	maxList = 1 << 20
	// listedRest is what an entry has beside its URL at most, in the longest form, which is JSON.
	listedRest = 160
)

// listedMirror is one entry of the JSON form. zypper takes an array of objects and looks at url.
type listedMirror struct {
	URL      string  `json:"url"`
	Priority int     `json:"priority"`
	Release  uint64  `json:"release"`
	RTTms    float64 `json:"rtt_ms,omitempty"` // as measured from this gateway; not for itself
	Checked  string  `json:"checked,omitempty"`
}

// serveMirrorlist answers with the gateways that serve the same release as this one: this one first, then those that it has
// checked, the nearest first. dir is the directory that is listed: a repository of dnf or zypper is one below the top. It is
// asked for as /-/NAME/mirrorlist/DIR or /NAME/DIR/?mirrorlist; zypper leaves queries out.
func (g *Gateway) serveMirrorlist(w http.ResponseWriter, r *http.Request, c *Collection, dir string) {
	if c.Served == nil {
		unavailable(w, retryAfter, c.Name+" is still on its way to this gateway: nothing of it can be served yet. Try again in a minute.")
		return
	}
	if !g.cfg.Now().Before(c.Expires) {
		unavailable(w, retryAfter, "What this gateway knows of "+c.Name+" is out of date and it finds nobody who knows more. Use another mirror, or try again later.")
		return
	}
	if dir = content.CleanDir(dir); dir != "" {
		f, err := g.locate(r.Context(), c.Served, c, dir)
		if err == nil && !f.entry.IsDir() {
			err = &notFound{"it is a file, and mirror lists are of directories"}
		}
		if err != nil {
			g.failLookup(w, r, c, dir, err)
			return
		}
		dir += "/"
	}
	sites := g.sites(r, c, c.Served, maxList/listedRest)
	if len(sites) == 0 {
		unavailable(w, retryAfter, noAddress)
		return
	}
	for i, size := 0, 0; i < len(sites); i++ {
		sites[i].url = sites[i].file(dir)
		if size += len(sites[i].url) + listedRest; size > maxList {
			sites = sites[:i]
		}
	}
	h := w.Header()
	h.Set("Vary", "Accept, User-Agent")
	h.Set("Cache-Control", documentCache)
	form := listForm(r)
	if form == "json" {
		serveText(w, r, "application/json", mirrorlistJSON(sites, c.Served.Manifest.Release))
		return
	}
	var b strings.Builder
	for i, p := range sites {
		switch form {
		case "pacman":
			fmt.Fprintf(&b, "Server = %s$repo/os/$arch\n", p.url)
		case "plain":
			fmt.Fprintf(&b, "%s\n", p.url)
		default:
			fmt.Fprintf(&b, "%s\tpriority:%d\n", p.url, i+1)
		}
	}
	serveText(w, r, "text/plain; charset=utf-8", []byte(b.String()))
}

// listForm gives the form of a mirror list: the value of the parameter mirrorlist, which is json; pacman, for its mirrorlist file;
// plain, one URL a line; else what apt's method mirror+http reads, with priorities. Without a value JSON is for who asks for
// it by Accept. zypper and dnf take a URL with a priority behind it for no URL, and zypper of Debian 12 JSON for none either (v); they
// get the plain form by their names, as they send nothing else to tell them by.
func listForm(r *http.Request) string {
	form := r.URL.Query().Get("mirrorlist")
	agent := r.UserAgent()
	switch {
	case form != "":
	case strings.Contains(strings.Join(r.Header.Values("Accept"), ","), "application/json"):
		form = "json"
	case strings.HasPrefix(agent, "ZYpp"), strings.HasPrefix(agent, "libdnf"), strings.HasPrefix(agent, "dnf"), strings.HasPrefix(agent, "librepo"):
		form = "plain"
	}
	return form
}

func mirrorlistJSON(sites []site, release uint64) []byte {
	list := make([]listedMirror, len(sites))
	for i, p := range sites {
		list[i] = listedMirror{URL: p.url, Priority: i + 1, Release: release, RTTms: float64(p.rtt.Microseconds()) / 1000}
		if !p.checked.IsZero() {
			list[i].Checked = p.checked.UTC().Format(time.RFC3339)
		}
	}
	raw, err := json.MarshalIndent(list, "", "  ")
	if err != nil {
		panic("a mirror list is not JSON: " + err.Error()) // strings and finite numbers always are
	}
	return append(raw, '\n')
}
