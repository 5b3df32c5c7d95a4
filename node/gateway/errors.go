package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"swarmnode/content"
)

// retryAfter is what a client is told to wait when bytes cannot be had: about how long it takes until another holder is found.
const retryAfter = 30 * time.Second

// pausedRetry is what a client is told to wait when the operator has paused a collection: that is a matter of hours, not of seconds.
const pausedRetry = time.Hour

// fail answers with a status and the plain sentences of why.
func fail(w http.ResponseWriter, status int, text string) {
	h := w.Header()
	for _, name := range []string{"Etag", "Last-Modified", "Content-Encoding", "Digest", "Repr-Digest", "Link"} {
		h.Del(name)
	}
	body := text + "\n"
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(body)) // a client that is gone needs no answer; after HEAD it is dropped
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
		fail(w, http.StatusNotFound, fmt.Sprintf("%s has no %s: %s. Its directory pages list what there is, from /%s/ on.", c.Name, path, noPath(err), c.Name))
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
		g.cfg.Log.Warn("a file cannot be served", "path", path, "err", err)
	}
	unavailable(w, retryAfter, "The file exists, but no mirror that is reached from here could give it in time. Try again in half a minute.")
}
