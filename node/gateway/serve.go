package gateway

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"
	"time"
)

// serveFile answers a request for a file: conditions first (RFC 9110, section 13.2.2), then ranges, then bytes.
func (g *Gateway) serveFile(w http.ResponseWriter, r *http.Request, c *Collection, f found) {
	h := w.Header()
	f.validators(h)
	switch precondition(r.Header, f.etag[0], f.mtime) {
	case http.StatusNotModified:
		w.WriteHeader(http.StatusNotModified)
		return
	case http.StatusPreconditionFailed:
		fail(w, http.StatusPreconditionFailed, "The file is not the one that your request was meant for. Ask again without the condition.")
		return
	}
	size := int64(f.entry.Size)
	ranges, whole := []byteRange(nil), true
	if header, ok := r.Header["Range"]; ok && ifRange(r.Header, f.etag[0], f.modified) {
		ranges, whole = parseRanges(header, size)
	}
	if whole {
		ranges = []byteRange{{0, size}}
	}
	if len(ranges) == 0 {
		h.Set("Content-Range", "bytes */"+strconv.FormatInt(size, 10))
		refuseRange(w, size)
		return
	}
	f.describe(h)
	g.links(h, c, f.rel, f.entry, f.path)
	a := answer{status: http.StatusOK, length: size, ranges: ranges}
	switch {
	case len(ranges) > 1:
		a.parts = newParts(rand.Text(), f.ctype[0], ranges, size)
		a.status, a.length = http.StatusPartialContent, a.parts.length(ranges)
		h.Set("Content-Type", "multipart/byteranges; boundary="+a.parts.boundary)
	case !whole:
		a.status, a.length = http.StatusPartialContent, ranges[0].to-ranges[0].from
		h.Set("Content-Range", ranges[0].contentRange(size))
	}
	if h["Content-Length"] = f.length; !whole {
		h.Set("Content-Length", strconv.FormatInt(a.length, 10))
	}
	if r.Method == http.MethodHead || size == 0 {
		w.WriteHeader(a.status)
		return
	}
	g.send(w, r, c, f, a)
}

// refuseRange answers 416: nothing of what was asked for exists. Also a client whose copy is complete gets it when it resumes.
func refuseRange(w http.ResponseWriter, size int64) {
	text := fmt.Sprintf("The file has %d bytes; the range that was asked for is behind its end. If you have them all, it is complete.\n", size)
	w.Header().Set("Content-Type", plain)
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
	_, _ = w.Write([]byte(text)) // a client that is gone needs no answer
}

// answer is what is sent with a status of success.
type answer struct {
	status int
	length int64
	ranges []byteRange
	parts  parts // for more than one range
}

// send writes the headers once the first chunk is here, then the body. What cannot be had afterwards cuts the connection: a client
// resumes what is short, but would keep what is wrong.
func (g *Gateway) send(w http.ResponseWriter, r *http.Request, c *Collection, f found, a answer) {
	ctx := r.Context()
	from, err := g.open(ctx, c, f.rel, f.entry)
	if err != nil {
		clearDescription(w.Header())
		g.failLookup(w, r, c, f.path, err)
		return
	}
	defer from.close()
	if err := from.load(ctx, a.ranges[0].from, a.ranges[0].to, firstByte); err != nil {
		clearDescription(w.Header())
		g.failBody(w, r, f.path, err)
		return
	}
	w.WriteHeader(a.status)
	from.to = w
	for i, b := range a.ranges {
		if a.parts.heads != nil {
			_, err = w.Write([]byte(a.parts.heads[i]))
		}
		if err == nil {
			err = from.copy(ctx, w, b, nextByte)
		}
		if err != nil {
			g.cfg.Log.Debug("an answer was cut", "path", f.path, "error", err)
			panic(http.ErrAbortHandler)
		}
	}
	if a.parts.heads != nil {
		_, _ = w.Write([]byte(a.parts.end)) // a client that is gone needs no end
	}
}

// clearDescription takes back what was said of a body that is not sent.
func clearDescription(h http.Header) {
	for _, name := range []string{"Content-Range", "Accept-Ranges", "Content-Security-Policy"} {
		h.Del(name)
	}
}

// precondition gives 304 or 412 if the conditions of the request say so, else 0. ETags win over dates.
func precondition(h http.Header, etag string, mtime time.Time) int {
	if match := h.Values("If-Match"); len(match) > 0 {
		if !matches(match, etag, false) {
			return http.StatusPreconditionFailed
		}
	} else if since, ok := date(h, "If-Unmodified-Since"); ok && !mtime.IsZero() && mtime.After(since) {
		return http.StatusPreconditionFailed
	}
	if none := h.Values("If-None-Match"); len(none) > 0 {
		if matches(none, etag, true) {
			return http.StatusNotModified
		}
	} else if since, ok := date(h, "If-Modified-Since"); ok && !mtime.IsZero() && !mtime.After(since) {
		return http.StatusNotModified
	}
	return 0
}

// date reads a header. Most requests have none, and finding that out by parsing would cost six errors.
func date(h http.Header, name string) (time.Time, bool) {
	v := h.Get(name)
	if v == "" {
		return time.Time{}, false
	}
	at, err := http.ParseTime(v)
	return at, err == nil
}

// matches reports whether a list of ETags has this one. Ours hold no comma, so cutting at commas finds it.
func matches(values []string, etag string, weak bool) bool {
	for _, v := range values {
		for tag := range strings.SplitSeq(v, ",") {
			tag = textproto.TrimString(tag)
			if weak {
				tag = strings.TrimPrefix(tag, "W/")
			}
			if tag == etag || tag == "*" {
				return true
			}
		}
	}
	return false
}

// ifRange reports whether the ranges of a request count: without If-Range they do; with it the client's ETag or date has to be exactly
// ours, so that parts of two files are never put together.
func ifRange(h http.Header, etag string, modified []string) bool {
	v := textproto.TrimString(h.Get("If-Range"))
	if v == "" || v == etag {
		return true
	}
	since, err := http.ParseTime(v)
	return err == nil && len(modified) == 1 && since.UTC().Format(http.TimeFormat) == modified[0]
}

// serveText answers with bytes made here: a page, a list. They are the same as long as nothing changes, which their ETag tells.
func serveText(w http.ResponseWriter, r *http.Request, ctype string, body []byte) {
	h := w.Header()
	sum := sha256.Sum256(body)
	etag := `"` + hex.EncodeToString(sum[:]) + `"`
	h.Set("Etag", etag)
	if h.Get("Cache-Control") == "" {
		h.Set("Cache-Control", "no-cache")
	}
	modified, _ := date(h, "Last-Modified") // zero if it has none
	if s := precondition(r.Header, etag, modified); s != 0 {
		w.WriteHeader(s)
		return
	}
	h.Set("Content-Type", ctype)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(http.StatusOK)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body) // a client that is gone needs no answer
	}
}
