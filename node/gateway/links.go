package gateway

import (
	"fmt"
	"net/http"
	"path"

	"swarmnode/content"
)

const (
	// linksFrom is the size from which a file's answer names other gateways: below it a second connection costs more than it brings.
	linksFrom = 1 << 20
	// linkHeaders bounds the Link headers of an answer, to about 2 KiB: clients take headers of 8 to 16 KiB.
	linkHeaders = 8
)

// links adds where else the same bytes are (RFC 6249): aria2 then fetches from several gateways at once. What it gets is bound by
// the Digest header. The metalink of the file is named, too, relative to the file, so that it holds behind any address.
func (g *Gateway) links(h http.Header, c *Collection, rel *Release, e content.Entry, p string) {
	if e.Size < linksFrom {
		return
	}
	h.Add("Link", fmt.Sprintf(`<%s>; rel=describedby; type="application/metalink4+xml"`, beside(path.Base(p)+".meta4")))
	dir := ""
	for i, m := range sameRelease(c, rel) {
		if i == 0 {
			dir = g.collectionPath(c)
		}
		if i+1 >= linkHeaders {
			break
		}
		h.Add("Link", fmt.Sprintf(`<%s>; rel=duplicate; pri=%d`, site{url: m.URL + dir}.file(p), i+1))
	}
}
