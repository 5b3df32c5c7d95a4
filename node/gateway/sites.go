package gateway

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"path"
	"strings"
	"time"

	"swarmnode/content"
)

// maxSites is how many sites of a file one document names; aria2 uses 5 at once, librepo tries them one by one.
const maxSites = 20

// site is the root of a collection at one gateway.
type site struct {
	url     string // ends with "/"
	rtt     time.Duration
	checked time.Time // zero for this gateway
}

// file is the URL of a path at the site.
func (s site) file(path string) string { return s.url + escapePath(path) }

// escapePath is the form of a path of a tree in a URL.
func escapePath(p string) string {
	parts := strings.Split(p, "/")
	for i, s := range parts {
		parts[i] = url.PathEscape(s)
	}
	return strings.Join(parts, "/")
}

// beside is a reference to a name in the directory of the document that it stands in. "./" keeps a colon in the name from being
// taken for the end of a scheme (RFC 3986 section 4.2).
func beside(name string) string { return "./" + url.PathEscape(path.Base(name)) }

// sites lists where the release can be had: here, then at the mirrors that were found to serve the same one, the nearest
// first; at most limit. It is empty if this gateway does not know its own address and knows no mirror.
func (g *Gateway) sites(r *http.Request, c *Collection, rel *Release, limit int) []site {
	dir := g.collectionPath(c)
	var list []site
	if root := g.here(r); root != "" {
		list = append(list, site{url: root + dir})
	}
	for _, m := range sameRelease(c, rel) {
		if len(list) >= limit {
			break
		}
		list = append(list, site{url: m.URL + dir, rtt: m.RTT, checked: m.Checked})
	}
	return list
}

// sameRelease lists the mirrors that serve a release.
func sameRelease(c *Collection, rel *Release) []Mirror {
	var list []Mirror
	for _, m := range c.Mirrors() {
		if m.Release == rel.Manifest.Release {
			list = append(list, m)
		}
	}
	return list
}

// collectionPath is the first part of the paths of a collection: its name, or its ID if another one here has the same name.
func (g *Gateway) collectionPath(c *Collection) string {
	for _, o := range g.cfg.Catalogue.Collections() {
		if o.Name == c.Name && o.ID != c.ID {
			return c.ID.String() + "/"
		}
	}
	return url.PathEscape(c.Name) + "/"
}

// here is the URL of this gateway: the one that the operator gave, else the address at which the request arrived. What the Host
// header says is not believed: whoever sends it would choose where others are sent by a cache in between, and wget2 1.99.1
// leaves the port out. The address of the connection is of no use where it is translated on the way, which is seen by a private
// one with a client from elsewhere, and with TLS, where the certificate is for a name; then it is "".
func (g *Gateway) here(r *http.Request) string {
	if g.cfg.URL != "" {
		return g.cfg.URL
	}
	local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if !ok || r.TLS != nil {
		return ""
	}
	at, err := netip.ParseAddrPort(local.String())
	if err != nil {
		return ""
	}
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || content.PrivateAddr(at.Addr()) && !content.PrivateAddr(from.Addr()) {
		return ""
	}
	if at.Addr().Zone() != "" {
		return "" // it means something on this machine only
	}
	return "http://" + netip.AddrPortFrom(at.Addr().Unmap(), at.Port()).String() + "/"
}
