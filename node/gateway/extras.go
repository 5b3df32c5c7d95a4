package gateway

import (
	"fmt"
	"net/http"
	"path"
	"strings"
	"time"
)

// noAddress says why a document that only consists of addresses cannot be made.
const noAddress = "This gateway does not know the address by which it is reached, and no other one either. Its operator gives the address with --gateway-url."

// derived is what the files made from a release's files need.
type derived struct {
	pieces *pieces
}

func newDerived(now func() time.Time) derived { return derived{pieces: newPieces(now)} }

// Close ends what still runs for requests that are over: torrents being computed. Call it after the server has ended.
func (d *derived) Close() error {
	d.pieces.close()
	return nil
}

// serveDerived answers for what can be computed of a file of the release: its sum, torrent and metalinks, under a path that ends
// so and that the tree does not have, or under the file's own path with ?meta4 or ?metalink. It reports whether it answered.
func (g *Gateway) serveDerived(w http.ResponseWriter, r *http.Request, c *Collection, current *Release, p string) bool {
	ext := path.Ext(p)
	base := strings.TrimSuffix(p, ext)
	if kind := metalinkKind(r.URL.Query()); kind != "" {
		ext, base = "."+kind, p
	} else if ext != ".sha256" && ext != ".torrent" && ext != ".meta4" && ext != ".metalink" {
		return false
	}
	if base == "" || strings.HasSuffix(base, "/") {
		return false
	}
	f, err := g.locate(r.Context(), current, c, base)
	if err != nil || !f.entry.IsFile() || ext == ".torrent" && f.entry.Size == 0 { // a torrent without a piece is refused by clients
		return false
	}
	if g.cfg.Now().After(c.Expires) && mutable(base) {
		unavailable(w, time.Hour, fmt.Sprintf("%s may be out of date by now, so nothing is told of it. Take another mirror.", base))
		return true
	}
	switch ext {
	case ".sha256":
		if f.modified != nil {
			w.Header().Set("Last-Modified", f.modified[0])
		}
		w.Header().Set("Cache-Control", cacheControl(base))
		serveText(w, r, "text/plain; charset=utf-8", sum(f.entry, base))
	case ".torrent":
		g.serveTorrent(w, r, c, f, base)
	default:
		g.serveMetalink(w, r, c, f.rel, f.entry, base, ext[1:])
	}
	return true
}

// serveDocument answers with what was made of a file. name is that under which a browser saves it.
func serveDocument(w http.ResponseWriter, r *http.Request, kind, name string, body []byte) {
	h := w.Header()
	h.Set("Cache-Control", documentCache)
	h.Set("Content-Disposition", "attachment; filename*=UTF-8''"+strings.ReplaceAll(escapePath(path.Base(name)), "'", "%27")) // RFC 8187
	serveText(w, r, kind, body)
}

// documentCache lets caches keep for a minute what depends on which mirrors are known: they come and go.
const documentCache = "public, max-age=60"
