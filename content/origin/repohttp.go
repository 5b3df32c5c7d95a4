package origin

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// What package repositories ask a web server beside what an Origin can: is it still the same, and is it there.

// openIf is that of source. The validator is an ETag, which is quoted, or a time of Last-Modified.
func (w *web) openIf(ctx context.Context, path, validator string) (*Body, string, error) {
	ctx, cancel := context.WithCancel(ctx)
	req, err := w.request(ctx, http.MethodGet, w.at(path))
	if err != nil {
		cancel()
		return nil, "", err
	}
	req.Header.Set("Accept-Encoding", "identity")
	header := "If-Modified-Since"
	if strings.HasSuffix(validator, `"`) {
		header = "If-None-Match"
	}
	if validator != "" {
		req.Header.Set(header, validator)
	}
	resp, err := w.do(req, http.StatusOK, http.StatusNotModified)
	if err != nil {
		cancel()
		return nil, "", err
	}
	if resp.StatusCode == http.StatusNotModified {
		resp.Body.Close()
		cancel()
		if validator == "" {
			return nil, "", fmt.Errorf("%s: 304 Not Modified although nothing was said of another version", resp.Request.URL.Redacted())
		}
		return nil, "", ErrUnchanged
	}
	body := &Body{ReadCloser: cancelBody{newSteady(resp.Body, w.o.Timeout, cancel), resp.Body, cancel}, Size: resp.ContentLength}
	if t := modified(resp); !t.IsZero() {
		body.Mtime = t.UnixNano()
	}
	validator = resp.Header.Get("ETag")
	if validator == "" {
		validator = resp.Header.Get("Last-Modified")
	}
	return body, validator, nil
}

// cancelBody ends the request with the body.
type cancelBody struct {
	io.Reader
	io.Closer
	cancel context.CancelFunc
}

func (c cancelBody) Close() error {
	defer c.cancel()
	return c.Closer.Close()
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
	resp, err := w.do(req, http.StatusOK)
	if err != nil {
		return 0, err
	}
	resp.Body.Close()
	return resp.ContentLength, nil
}

// A web server is a source.
var _ source = (*web)(nil)
