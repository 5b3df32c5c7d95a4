package origin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// opened reads a file and tells what came: where it begins, its size, and the bytes.
func opened(t *testing.T, o Origin, p string, offset int64, version string) (string, *Body) {
	t.Helper()
	b, err := o.Open(t.Context(), Entry{Path: p}, offset, version)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(b)
	if err = errors.Join(err, b.Close()); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%d/%d %s", b.Offset, b.Size, data), b
}

func TestHTTPGoesOn(t *testing.T) {
	for _, etag := range []bool{true, false} {
		s, at := newSite(t, map[string]string{"f": "0123456789"})
		s.etag = etag
		f := follow(t, at, Options{})
		all, b := opened(t, f.o, "f", 0, "")
		if all != "0/10 0123456789" || b.Version == "" || b.Still != nil {
			t.Fatalf("%s, %+v", all, b)
		}
		s.requests()
		if got, rest := opened(t, f.o, "f", 4, b.Version); got != "4/10 456789" || rest.Version != b.Version || rest.Mtime != b.Mtime {
			t.Errorf("the rest: %s, %+v", got, rest)
		}
		if got, _ := opened(t, f.o, "f", 4, ""); got != all {
			t.Errorf("the rest of nobody knows what: %s", got)
		}
		if get, _ := s.requests(); get != 2 {
			t.Errorf("%d requests", get)
		}
		// Past the end, where nothing is left to send.
		if got, _ := opened(t, f.o, "f", 10, b.Version); got != all {
			t.Errorf("from the end on: %s", got)
		}
		s.put("f", "abcdefghij", s.now.Add(-time.Hour))
		if got, now := opened(t, f.o, "f", 4, b.Version); got != "0/10 abcdefghij" || now.Version == b.Version {
			t.Errorf("another file: %s", got)
		}
	}
	// What changed in this very second could change again and keep its time: it cannot be gone on with.
	s, at := newSite(t, map[string]string{})
	s.put("f", "1", s.now)
	f := follow(t, at, Options{})
	if _, b := opened(t, f.o, "f", 0, ""); b.Version != "" {
		t.Errorf("a file as young as the answer has the version %q", b.Version)
	}
	s.files["weak"] = &paperFile{"1", time.Time{}, 0}
	s.first = func(w http.ResponseWriter, r *http.Request) bool { w.Header().Set("ETag", `W/"1"`); return false }
	if _, b := opened(t, f.o, "weak", 0, ""); b.Version != "" || b.Mtime != 0 {
		t.Errorf("a weak ETag gives the version %q and time %d", b.Version, b.Mtime)
	}
}

// Ranges that are not what was asked for must not get into a file.
func TestHTTPWrongRanges(t *testing.T) {
	s, at := newSite(t, map[string]string{"f": "0123456789"})
	f := follow(t, at, Options{})
	for _, c := range []struct {
		name, contentRange, etag, body string
		code                           int
		want                           string
	}{
		{"right", "bytes 4-9/10", `"v"`, "456789", 206, "4/10 456789"},
		{"of unknown size", "bytes 4-9/*", "", "456789", 206, "4/-1 456789"},
		{"elsewhere", "bytes 3-9/10", `"v"`, "3456789", 206, "0/10 0123456789"},
		{"not to the end", "bytes 4-8/10", `"v"`, "45678", 206, "0/10 0123456789"},
		{"of another length", "bytes 4-9/10", `"v"`, "45678", 206, "0/10 0123456789"},
		{"of another version", "bytes 4-9/10", `"w"`, "456789", 206, "0/10 0123456789"},
		{"without a place", "", `"v"`, "456789", 206, "0/10 0123456789"},
		{"of nonsense", "bytes x-y/z", `"v"`, "456789", 206, "0/10 0123456789"},
		{"below zero", "bytes -4-9/10", `"v"`, "456789", 206, "0/10 0123456789"},
		{"not satisfiable", "bytes */10", `"v"`, "", 416, "0/10 0123456789"},
	} {
		s.mu.Lock()
		s.first = func(w http.ResponseWriter, r *http.Request) bool {
			if r.Header.Get("Range") != "bytes=4-" || r.Header.Get("If-Range") != `"v"` {
				return false
			}
			w.Header().Set("Content-Range", c.contentRange)
			w.Header().Set("ETag", c.etag)
			w.WriteHeader(c.code)
			io.WriteString(w, c.body)
			return true
		}
		s.mu.Unlock()
		if got, _ := opened(t, f.o, "f", 4, `"v"`); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

func TestHTTPAnswers(t *testing.T) {
	s, at := newSite(t, nil)
	f := follow(t, at, Options{UserAgent: "swarmnode/9 (+ops@example.org)"})
	after := s.now.Add(90 * time.Second).Format(http.TimeFormat)
	for _, c := range []struct {
		code   int
		header string
		is     error
		busy   time.Duration // -1: not
		want   string
	}{
		{404, "", ErrGone, -1, "gone since it was listed"},
		{410, "", fs.ErrNotExist, -1, "410 Gone"},
		{403, "", fs.ErrPermission, -1, "403"},
		{401, "", nil, -1, "asks for a user name and a password"},
		{407, "", nil, -1, "the proxy asks"},
		{429, "Retry-After: 120", nil, 2 * time.Minute, "asks to wait for 2m0s"},
		{503, "Retry-After: " + after, nil, 90 * time.Second, "asks to wait for 1m30s"},
		{503, "Retry-After: soon", nil, 0, "the origin is busy: 503"},
		{503, "Retry-After: -5", nil, 0, "the origin is busy: 503"},
		{503, "Retry-After: 99999999999999999999", nil, 0, "the origin is busy: 503"},
		{502, "", nil, 0, "busy"},
		{504, "", nil, 0, "busy"},
		{500, "", nil, -1, "answers 500 Internal Server Error"},
		{400, "", fs.ErrPermission, -1, "400 Bad Request"},
		{418, "", nil, -1, "answers 418"},
		{200, "Content-Encoding: gzip", nil, -1, "encoded as gzip"},
	} {
		s.mu.Lock()
		s.first = func(w http.ResponseWriter, r *http.Request) bool {
			if k, v, ok := strings.Cut(c.header, ": "); ok {
				w.Header().Set(k, v)
			}
			if got := r.Header.Get("User-Agent") + r.Header.Get("Accept-Encoding"); got != "swarmnode/9 (+ops@example.org)identity" {
				t.Errorf("the request says %q", got)
			}
			w.WriteHeader(c.code)
			return true
		}
		s.mu.Unlock()
		b, err := f.o.Open(t.Context(), Entry{Path: "f"}, 0, "")
		if b != nil || err == nil || c.is != nil && !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%d %s: %v, want %q", c.code, c.header, err, c.want)
			continue
		}
		busy, refused := (*BusyError)(nil), (*RefusedError)(nil)
		if errors.As(err, &busy) != (c.busy >= 0) || busy != nil && busy.After != c.busy {
			t.Errorf("%d %s: %v is busy, want %v", c.code, c.header, busy, c.busy)
		}
		held := &f.o.(*web).busy
		if time.Now().Before(held.until) != (c.busy > 0) {
			t.Errorf("%d %s: other requests wait until %v", c.code, c.header, held.until)
		}
		held.until = time.Time{} // the next one shall not wait
		if again := c.code >= 429 && c.code != 418 || c.is != nil; errors.As(err, &refused) == again {
			t.Errorf("%d: %v: final %v", c.code, err, again)
		}
	}
}

// A connection that is cut in the middle of a file is an error, not its end.
func TestHTTPCut(t *testing.T) {
	for _, length := range []string{"100", ""} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if length != "" {
				w.Header().Set("Content-Length", length)
			}
			io.WriteString(w, "the beginning")
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}))
		defer server.Close()
		f := follow(t, server.URL, Options{})
		b, err := f.o.Open(t.Context(), Entry{Path: "f"}, 0, "")
		if err != nil {
			t.Fatal(err)
		}
		if data, err := io.ReadAll(b); err == nil || string(data) != "the beginning" {
			t.Errorf("%q, %v", data, err)
		}
		b.Close()
	}
}

// A server that falls silent, at whatever point, is left.
func TestHTTPSilent(t *testing.T) {
	stay := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "mute") {
			w.Header().Set("Content-Length", "100")
			w.Header().Set("Content-Type", "text/html")
			io.WriteString(w, "<title>Index of /</title>")
			w.(http.Flusher).Flush()
		}
		<-stay
	}))
	defer server.Close()
	defer close(stay)
	f := follow(t, server.URL, Options{Timeout: 400 * time.Millisecond})
	if _, err := f.o.Open(t.Context(), Entry{Path: "mute"}, 0, ""); err == nil {
		t.Error("an answer that never comes")
	}
	b, err := f.o.Open(t.Context(), Entry{Path: "f"}, 0, "")
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if _, err := io.ReadAll(b); err == nil || !strings.Contains(err.Error(), "silent for 400ms") {
		t.Errorf("%v", err)
	}
	if _, _, _, err := f.o.(*web).readDir(t.Context(), ""); err == nil || !strings.Contains(err.Error(), "silent for 400ms") {
		t.Errorf("a listing: %v", err)
	}
}

// One byte a second is not enough; what the reader waits for itself does not count.
func TestSteady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, w := io.Pipe()
		var wg sync.WaitGroup
		wg.Go(func() {
			for {
				time.Sleep(time.Second)
				if _, err := w.Write([]byte{1}); err != nil {
					return
				}
			}
		})
		n, err := io.Copy(io.Discard, newSteady(r, time.Minute, func() { r.Close() }))
		if n != 60 || err == nil || !strings.Contains(err.Error(), "sent 60 bytes in 1m0s") {
			t.Errorf("%d bytes, %v", n, err)
		}
		r.Close()
		wg.Wait()
	})
	synctest.Test(t, func(t *testing.T) {
		r, w := io.Pipe()
		go func() {
			for range 300 {
				time.Sleep(time.Second)
				w.Write(make([]byte, slowest))
			}
			w.Close()
		}()
		s := newSteady(r, time.Minute, func() { r.Close() })
		var n int
		buf := make([]byte, slowest)
		for {
			time.Sleep(10 * time.Minute) // a slow disk
			got, err := s.Read(buf)
			if n += got; err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if n != 300*slowest {
			t.Errorf("%d bytes", n)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		r, _ := io.Pipe()
		context.AfterFunc(ctx, func() { r.Close() })
		start := time.Now()
		if _, err := newSteady(r, time.Minute, cancel).Read(make([]byte, 1)); err == nil || time.Since(start) != time.Minute {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}
