package gateway

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"strconv"
	"strings"
	"time"

	"swarmnode/content"
)

// retryAfter is what a client is told to wait when bytes cannot be had: about how long it takes until another holder is found.
const retryAfter = 30 * time.Second

// pausedRetry is what a client is told to wait when the operator has paused a collection: that is a matter of hours, not of seconds.
const pausedRetry = time.Hour

//go:embed error.html
var errorHTML string

var errorPage = template.Must(template.New("error").Parse(errorHTML))

// fail answers with a status and the plain sentences of why: as text, or as a page for a browser, where text would be too small to read
// on a phone.
func fail(w http.ResponseWriter, status int, text string) {
	h := w.Header()
	for _, name := range []string{"Etag", "Last-Modified", "Content-Encoding", "Digest", "Repr-Digest", "Link"} {
		h.Del(name)
	}
	body := text + "\n"
	if out, ok := w.(*response); ok && out.up != "" {
		body = renderError(status, text, out.up)
		h.Set("Content-Type", html)
		h.Set("Content-Security-Policy", pagePolicy)
	} else {
		h.Set("Content-Type", "text/plain; charset=utf-8")
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(body)) // a client that is gone needs no answer; after HEAD it is dropped
}

// renderError makes a page of the sentences.
func renderError(status int, text, up string) string {
	var b strings.Builder
	err := errorPage.Execute(&b, struct {
		Title, Text string
		Up          template.URL
		Style       template.CSS
	}{http.StatusText(status), text, template.URL(up), template.CSS(style)})
	if err != nil {
		panic("gateway: the template of errors: " + err.Error()) // it does not depend on the data
	}
	return b.String()
}

// wayUp is the relative address of the gateway's first page as seen from a path: a proxy in front may have put a prefix before it.
func wayUp(path string) string {
	return "./" + strings.Repeat("../", max(strings.Count(path, "/")-1, 0))
}

// unavailable answers that something exists and cannot be had now.
func unavailable(w http.ResponseWriter, after time.Duration, text string) {
	w.Header().Set("Retry-After", strconv.Itoa(int(after/time.Second)))
	fail(w, http.StatusServiceUnavailable, text)
}

// notFound is why a path is nowhere: a sentence for people.
type notFound struct{ why string }

func (e *notFound) Error() string { return e.why }

func (e *notFound) Unwrap() error { return content.ErrNoEntry }

// failLookup answers a request whose path could not be followed.
func (g *Gateway) failLookup(w http.ResponseWriter, r *http.Request, c *Collection, path string, err error) {
	var missing *content.Missing
	switch {
	case errors.Is(err, content.ErrNoEntry):
		fail(w, http.StatusNotFound, fmt.Sprintf("There is no %q in the collection %s: %s. Its directory pages list what there is, from /%s/ on.", path, c.Name, noPath(err), c.Name))
	case errors.As(err, &missing):
		unavailable(w, retryAfter, fmt.Sprintf("This mirror is still fetching the list of files of %s. Try again in a moment.", c.Name))
	default:
		g.failBody(w, r, path, err)
	}
}

func noPath(err error) string {
	if e := (*notFound)(nil); errors.As(err, &e) {
		return e.why
	}
	return "no release that this mirror has holds it"
}

// failBody answers a request of which no byte was sent yet and whose bytes cannot be had.
func (g *Gateway) failBody(w http.ResponseWriter, r *http.Request, path string, err error) {
	if r.Context().Err() != nil {
		panic(http.ErrAbortHandler) // the client is gone
	}
	if !errors.Is(err, ErrUnavailable) && !errors.Is(err, context.DeadlineExceeded) {
		g.cfg.Log.Warn("a file cannot be served: look at the disk, swarmnode scrub finds what else is damaged", "path", path, "error", err)
	}
	unavailable(w, retryAfter, "The file exists, but no mirror that is reached from here could give it in time. Try again in half a minute.")
}
