package gateway

import (
	"net/http"

	"swarmnode/content"
)

// derived is what the files made from a release's files need: sums, torrents, metalinks.
type derived struct{}

// serveMirrorlist answers the list of gateways that have the collection.
func (g *Gateway) serveMirrorlist(w http.ResponseWriter, _ *http.Request, _ *Collection) {
	fail(w, http.StatusNotFound, "This mirror gives no list of mirrors.")
}

// serveDerived answers what is made from a file of the release: path is one that the release lacks, or a file for which the query asks
// for something else than its bytes. It reports whether it answered.
func (g *Gateway) serveDerived(http.ResponseWriter, *http.Request, *Collection, *Release, string) bool {
	return false
}

// links adds the Link headers of a file.
func (g *Gateway) links(http.Header, *Collection, *Release, content.Entry, string) {}
