package origin

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// What package repositories ask a web server beside what an Origin can: is it still the same, and is it there.

// A web server is a source.
var _ source = (*web)(nil)

// openIf is that of source. The validator is an ETag, which is quoted, or a time of Last-Modified.
func (w *web) openIf(ctx context.Context, path, validator string) (*Body, string, error) {
	ctx, cancel := context.WithCancel(ctx)
	req, err := w.request(ctx, http.MethodGet, w.at(path))
	if err != nil {
		cancel()
		return nil, "", err
	}
	req.Header.Set("Accept-Encoding", "identity")
	good := []int{http.StatusOK}
	if validator != "" {
		header := "If-Modified-Since"
		if strings.HasSuffix(validator, `"`) {
			header = "If-None-Match"
		}
		req.Header.Set(header, validator)
		good = append(good, http.StatusNotModified)
	}
	resp, err := w.do(req, good...)
	if err != nil {
		cancel()
		return nil, "", err
	}
	b := &Body{ReadCloser: &body{steady: newSteady(resp.Body, w.o.Timeout, cancel), close: resp.Body, cancel: cancel}, Size: resp.ContentLength}
	switch coding := resp.Header.Get("Content-Encoding"); {
	case resp.StatusCode == http.StatusNotModified:
		_ = b.Close()
		return nil, "", ErrUnchanged
	case coding != "" && coding != "identity":
		_ = b.Close()
		return nil, "", &RefusedError{Reason: fmt.Sprintf("%s comes encoded as %s although it was asked for as it is: have the server send files unencoded", resp.Request.URL.Redacted(), coding)}
	}
	if t := modified(resp); !t.IsZero() {
		b.Mtime = t.UnixNano()
	}
	return b, lasting(resp), nil
}

// lasting gives what a conditional request may say later. A file that changed within the second before the answer may change in
// that second again, which neither its time nor an ETag that is made of it tells: it is asked for as a whole the next time.
func lasting(resp *http.Response) string {
	date, err := http.ParseTime(resp.Header.Get("Date"))
	if t := modified(resp); !t.IsZero() && (err != nil || date.Sub(t) <= time.Second) {
		return ""
	}
	if etag := etagOf(resp); strings.HasSuffix(etag, `"`) {
		return etag
	}
	return resp.Header.Get("Last-Modified")
}

// size is that of source.
func (w *web) size(ctx context.Context, path string) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, w.o.Timeout)
	defer cancel()
	req, err := w.request(ctx, http.MethodHead, w.at(path))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Accept-Encoding", "identity")
	resp, err := w.do(req, http.StatusOK, http.StatusMethodNotAllowed, http.StatusNotImplemented)
	if err != nil {
		return 0, err
	}
	resp.Body.Close()
	if resp.StatusCode == http.StatusOK {
		return resp.ContentLength, nil
	}
	b, _, err := w.openIf(ctx, path, "") // some servers do not know HEAD
	if err != nil {
		return 0, err
	}
	return b.Size, b.Close()
}
