package gateway

import "net/http"

// tuf is what serving TUF repositories needs.
type tuf struct{}

// serveMetadata answers metadata/… and targets/… of a collection, as a TUF client asks for them.
func (g *Gateway) serveMetadata(w http.ResponseWriter, _ *http.Request, _ *Collection, _ string) {
	fail(w, http.StatusNotFound, "This mirror serves no TUF metadata.")
}
