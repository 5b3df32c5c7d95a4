package gateway

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"runtime"
	"strings"
	"time"

	"swarmnode/content"
)

// pageKey names a rendered directory.
type pageKey struct {
	objectKey
	id      content.ID
	release uint64
	json    bool
}

// page is a rendered directory, ready to be sent. It is never changed.
type page struct{ body []byte }

// row is one entry of a directory, as people and machines are shown it.
type row struct {
	Name   string       `json:"name"`
	Type   string       `json:"type"` // file, directory, or broken: a symlink that leads nowhere
	Size   *uint64      `json:"size,omitempty"`
	Time   *time.Time   `json:"mtime,omitempty"`
	SHA256 string       `json:"sha256,omitempty"`
	Target string       `json:"target,omitempty"` // of a symlink
	Href   template.URL `json:"-"`
}

// directory is what a directory page shows. Nothing in it depends on the gateway or the time: all gateways of a release give the same.
type directory struct {
	Collection string       `json:"collection"`
	ID         content.ID   `json:"id"`
	Release    uint64       `json:"release"`
	Created    time.Time    `json:"created"`
	Path       string       `json:"path"` // begins and ends with a slash
	Entries    []row        `json:"entries"`
	Style      template.CSS `json:"-"`
}

//go:embed style.css
var style string

//go:embed listing.html
var listingHTML string

//go:embed front.html
var frontHTML string

var (
	listing = template.Must(template.New("listing").Funcs(forPages).Parse(listingHTML))
	front   = template.Must(template.New("front").Funcs(forPages).Parse(frontHTML))
	// forPages are what the templates call.
	forPages = template.FuncMap{"size": shortSize, "day": day, "crumbs": crumbs}
	// pagePolicy lets a page of ours use its own style sheet and nothing else.
	pagePolicy = func() string {
		sum := sha256.Sum256([]byte(style))
		return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
	}()
)

// serveListing answers a directory: a page that people read and that crawlers walk, or JSON with ?json.
func (g *Gateway) serveListing(w http.ResponseWriter, r *http.Request, c *Collection, f found) {
	asJSON := r.URL.Query().Has("json")
	key := pageKey{objectKey{f.rel.Manifest.Tree, f.path}, c.ID, f.rel.Manifest.Release, asJSON}
	p, err := g.page(r.Context(), c, f, key)
	if err != nil {
		g.failLookup(w, r, c, f.path, err)
		return
	}
	// A listing has no Last-Modified: `wget --mirror` goes no deeper when a page has not changed since the last time, so that one that
	// was interrupted would never come to its end.
	w.Header().Set("Cache-Control", "public, no-cache")
	servePage(w, r, asJSON, p.body)
	runtime.KeepAlive(p) // until here it is being sent
}

// page gives a directory as it is sent: as it was remembered or is being sent to somebody else, or rendered.
func (g *Gateway) page(ctx context.Context, c *Collection, f found, key pageKey) (*page, error) {
	have := func() (*page, bool) {
		if p, ok := g.pages.get(key); ok {
			return p, true
		}
		return g.sending.get(key)
	}
	if p, ok := have(); ok {
		return p, nil
	}
	done, err := g.turns.take(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	if p, ok := have(); ok { // somebody was faster
		return p, nil
	}
	body, err := g.renderListing(ctx, c, f, key.json)
	if err != nil {
		return nil, err
	}
	p := &page{body}
	g.pages.put(key, p, len(body)+200)
	g.sending.put(key, p)
	return p, nil
}

// servePage sends a page of ours, with what keeps foreign content out of it.
func servePage(w http.ResponseWriter, r *http.Request, asJSON bool, body []byte) {
	if asJSON {
		serveText(w, r, "application/json", body)
		return
	}
	w.Header().Set("Content-Security-Policy", pagePolicy)
	w.Header().Set("Referrer-Policy", "no-referrer")
	serveText(w, r, html, body)
}

func (g *Gateway) renderListing(ctx context.Context, c *Collection, f found, asJSON bool) ([]byte, error) {
	entries, err := content.List(f.rel.Manifest.Tree, g.tree(f.rel), f.entry.Path)
	if err != nil {
		return nil, err
	}
	m := f.rel.Manifest
	d := directory{Collection: c.Name, ID: c.ID, Release: m.Release, Created: sinceEpoch(m.Created), Path: "/" + f.path + "/",
		Entries: make([]row, 0, len(entries)), Style: template.CSS(style)}
	if f.path == "" {
		d.Path = "/"
	}
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		row, err := g.newRow(f.rel, e)
		if err != nil {
			return nil, err
		}
		d.Entries = append(d.Entries, row)
	}
	if asJSON {
		return marshal(d), nil
	}
	var b bytes.Buffer
	if err := listing.Execute(&b, d); err != nil {
		panic("gateway: the listing's template: " + err.Error()) // it does not depend on the data
	}
	return b.Bytes(), nil
}

// newRow describes an entry; a symlink as what it leads to, under its own name.
func (g *Gateway) newRow(rel *Release, e content.Entry) (row, error) {
	name := e.Path[strings.LastIndexByte(e.Path, '/')+1:]
	r := row{Name: name, Target: e.Target}
	if e.IsLink() {
		at, err := g.follow(rel, e.Path)
		switch {
		case errors.Is(err, content.ErrNoEntry):
			r.Type = "broken"
			return r, nil
		case err != nil:
			return r, err
		}
		e = at
	}
	if e.IsDir() {
		r.Type, r.Href = "directory", template.URL(escapeName(name)+"/")
		return r, nil
	}
	r.Type, r.Href, r.Size, r.SHA256 = "file", template.URL(escapeName(name)), &e.Size, e.SHA256.String()
	if t := sinceEpoch(e.Mtime); !t.IsZero() {
		r.Time = &t
	}
	return r, nil
}

// escapeName writes a file's name as a relative link: everything but letters, digits and -._~ is escaped, so that it needs no
// escapes of HTML, which simple crawlers do not know, and that a colon does not make it a scheme.
func escapeName(name string) string {
	var b strings.Builder
	for i := range len(name) {
		switch c := name[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.IndexByte("-._~", c) >= 0:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// shortSize writes a size as Apache does in its listings, which lftp can read: 12, 3.4K, 56M.
func shortSize(n uint64) string {
	if n < 1000 {
		return fmt.Sprint(n)
	}
	v := float64(n)
	for _, unit := range "KMGTPE" {
		v /= 1024
		switch {
		case v < 9.95:
			return fmt.Sprintf("%.1f%c", v, unit)
		case v < 999.5 || unit == 'E':
			return fmt.Sprintf("%.0f%c", v, unit)
		}
	}
	return ""
}

func day(t time.Time) string { return t.UTC().Format("2006-01-02 15:04") }

// crumb is a link to a directory above.
type crumb struct {
	Name string
	Href template.URL
}

// crumbs are the directories from the collection down to the parent of a path that begins and ends with a slash, and its own name.
func crumbs(name, path string) []crumb {
	parts := append([]string{name}, strings.FieldsFunc(path, func(c rune) bool { return c == '/' })...)
	out := make([]crumb, len(parts))
	for i, p := range parts {
		out[i] = crumb{Name: p, Href: template.URL(strings.Repeat("../", len(parts)-1-i))}
	}
	return out
}

func marshal(v any) []byte {
	data, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		panic("gateway: " + err.Error()) // our own types can be written
	}
	return append(data, '\n')
}
