package origin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// Open is that of Origin. The bytes come as they are: an encoding would be one on top of what the file is.
func (w *web) Open(ctx context.Context, e Entry, offset int64, version string) (*Body, error) {
	p := e.Path
	if e.Fetch != "" {
		p = e.Fetch
	}
	if offset > 0 && version != "" {
		b, err := w.open(ctx, p, offset, version)
		if b != nil || err != nil {
			return b, err
		}
	}
	return w.open(ctx, p, 0, "")
}

// open sends one request. Without error and body the server did not send what it was asked for: ask for the whole.
func (w *web) open(ctx context.Context, p string, offset int64, version string) (*Body, error) {
	ctx, cancel := context.WithCancel(ctx)
	req, err := w.request(ctx, http.MethodGet, w.at(p))
	if err != nil {
		cancel()
		return nil, err
	}
	req.Header.Set("Accept-Encoding", "identity")
	if offset > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", offset))
		req.Header.Set("If-Range", version)
	}
	good := []int{http.StatusOK}
	if offset > 0 {
		good = append(good, http.StatusPartialContent, http.StatusRequestedRangeNotSatisfiable)
	}
	resp, err := w.do(req, good...)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			w.notFound(p)
		}
		cancel()
		return nil, err
	}
	b := &Body{Size: resp.ContentLength, Version: validator(resp)}
	if t := modified(resp); !t.IsZero() {
		b.Mtime = t.UnixNano()
	}
	fits := true
	if resp.StatusCode != http.StatusOK {
		var first int64
		first, b.Size, fits = contentRange(resp)
		fits = fits && resp.StatusCode == http.StatusPartialContent && first == offset && (b.Version == "" || b.Version == version)
		b.Offset, b.Version = offset, version
	}
	if coding := resp.Header.Get("Content-Encoding"); fits && coding != "" && coding != "identity" {
		err = &RefusedError{Reason: fmt.Sprintf("%s comes encoded as %s although it was asked for as it is: have the server send files unencoded", resp.Request.URL.Redacted(), coding)}
	}
	if !fits || err != nil {
		cancel()
		resp.Body.Close()
		return nil, err
	}
	b.ReadCloser = &body{steady: newSteady(resp.Body, w.o.Timeout, cancel), close: resp.Body, cancel: cancel, at: b.Offset, size: b.Size}
	return b, nil
}

// contentRange reads the Content-Range of an answer that goes up to the end of the file. size may be SizeUnknown.
func contentRange(resp *http.Response) (first, size int64, ok bool) {
	told, is := strings.CutPrefix(resp.Header.Get("Content-Range"), "bytes ")
	bounds, total, slash := strings.Cut(told, "/")
	from, to, dash := strings.Cut(bounds, "-")
	first, err := strconv.ParseInt(from, 10, 64)
	last, err2 := strconv.ParseInt(to, 10, 64)
	if !is || !slash || !dash || err != nil || err2 != nil || first < 0 || last < first {
		return 0, 0, false
	}
	if resp.ContentLength >= 0 && resp.ContentLength != last-first+1 {
		return 0, 0, false
	}
	if total == "*" {
		return first, SizeUnknown, true
	}
	size, err = strconv.ParseInt(total, 10, 64)
	return first, size, err == nil && size == last+1
}

// validator gives what an If-Range may say later: a strong ETag, or a Last-Modified that cannot be of two versions because it is
// older than the answer by more than a second (RFC 9110, 8.8.2.2 and 13.1.5). "" if there is neither.
func validator(resp *http.Response) string {
	if etag := etagOf(resp); strings.HasPrefix(etag, `"`) && len(etag) > 2 {
		return etag
	}
	date, err := http.ParseTime(resp.Header.Get("Date"))
	if t := modified(resp); err == nil && !t.IsZero() && date.Sub(t) > time.Second {
		return resp.Header.Get("Last-Modified")
	}
	return ""
}

// body is what comes of a file. Its reader is asked for bytes only as fast as they are wanted.
type body struct {
	*steady
	close  io.Closer
	cancel context.CancelFunc
	at     int64 // in the file
	size   int64 // of it, or SizeUnknown
}

// Read is that of io.Reader.
func (b *body) Read(p []byte) (int, error) {
	n, err := b.steady.Read(p)
	if b.at += int64(n); err == io.ErrUnexpectedEOF {
		err = fmt.Errorf("the connection ended after %d bytes of %d: %w", b.at, b.size, err)
	}
	return n, err
}

// Close is that of io.Closer. It does not wait for the rest.
func (b *body) Close() error {
	b.cancel()
	return b.close.Close()
}

// steady is a reader that ends with an error when nothing comes for a while, or nearly nothing. Only the time in which it waits for
// bytes counts: who reads may take as long as it likes.
type steady struct {
	r      io.Reader
	within time.Duration
	timer  *time.Timer
	silent atomic.Bool
	pace
}

// newSteady makes one; stop ends a Read of r that waits.
func newSteady(r io.Reader, within time.Duration, stop func()) *steady {
	s := &steady{r: r, within: within}
	s.timer = time.AfterFunc(within, func() {
		s.silent.Store(true)
		stop()
	})
	s.timer.Stop()
	return s
}

// Read is that of io.Reader.
func (s *steady) Read(b []byte) (int, error) {
	s.timer.Reset(s.within)
	start := time.Now()
	n, err := s.r.Read(b)
	s.timer.Stop()
	slow := s.check(n, time.Since(start), s.within, slowest)
	if err == io.EOF {
		return n, err
	}
	if s.silent.Load() {
		return n, fmt.Errorf("the origin has been silent for %v", s.within)
	}
	if slow != nil {
		return n, slow
	}
	return n, err
}
