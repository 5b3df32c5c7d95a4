package gateway

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"
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
// checked, the nearest first. The form is the value of the parameter mirrorlist: json; pacman, for its mirrorlist file; plain,
// one URL a line, for dnf; else what apt's method mirror+http reads. Without a value JSON is given to who asks for it by Accept,
// and to zypper, which refuses a list in apt's form and asks for metalinks. dir is the directory that is listed, "" or ending
// with "/": a repository of dnf or zypper is one below the top.
func (g *Gateway) serveMirrorlist(w http.ResponseWriter, r *http.Request, c *Collection, dir string) {
	if c.Served == nil {
		unavailable(w, retryAfter, c.Name+" is still on its way to this gateway: nothing of it can be served yet. Try again in a minute.")
		return
	}
	if !g.cfg.Now().Before(c.Expires) {
		unavailable(w, retryAfter, "What this gateway knows of "+c.Name+" is out of date and it finds nobody who knows more. Use another mirror, or try again later.")
		return
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
	form := r.URL.Query().Get("mirrorlist")
	if accept := strings.Join(r.Header.Values("Accept"), ","); form == "" && (strings.Contains(accept, "application/json") || strings.Contains(accept, "metalink")) {
		form = "json"
	}
	w.Header().Set("Vary", "Accept")
	w.Header().Set("Cache-Control", documentCache)
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
