package origin

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"path"
	"strings"
	"testing"
	"time"
)

// A symlink to nowhere is on the page like a file. Once its reader has not found it, listings ask for it, leave it out and say so; and
// one that leads somewhere again is listed.
func TestHTTPNowhere(t *testing.T) {
	s, at := newSite(t, map[string]string{"a": "1", "d/nowhere": "2", "d/x": "3"})
	nowhere := true
	s.first = func(w http.ResponseWriter, r *http.Request) bool {
		if nowhere && path.Base(r.URL.Path) == "nowhere" {
			http.NotFound(w, r)
			return true
		}
		return false
	}
	open := func() *web {
		o, err := Open(t.Context(), at, Options{AllowPrivate: true})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { o.Close() })
		return o.(*web)
	}
	w := open()
	var stamps map[string]string
	list := func(before Before) (paths string, l Listing) {
		t.Helper()
		stamps = map[string]string{}
		l, err := w.List(t.Context(), before, func(e Entry) error { paths += e.Path + " "; stamps[e.Path] = e.Stamp; return nil })
		if err != nil {
			t.Fatal(err)
		}
		return paths, l
	}
	if got, l := list(Before{}); got != "a d d/nowhere d/x " || len(l.Bad) > 0 {
		t.Fatalf("listed %s and %v before anybody read it", got, l.Bad)
	}
	first := stamps["d/nowhere"]
	if _, err := w.Open(t.Context(), Entry{Path: "d/nowhere"}, 0, ""); !errors.Is(err, ErrGone) {
		t.Fatal(err)
	}
	s.requests()
	memo := map[string]string{}
	for _, run := range []string{"the same process", "another one", "another one"} {
		got, l := list(Before{Memo: memo})
		if get, head := s.requests(); got != "a d d/x " || get != 2 || head != 1 {
			t.Errorf("%s: listed %s with %d GET and %d HEAD, want 2 and 1", run, got, get, head)
		}
		if len(l.Bad) != 1 || l.Bad[0].Path != "d/nowhere" || !strings.Contains(l.Bad[0].Err.Error(), "a symlink to nowhere?") {
			t.Errorf("%s: %v", run, l.Bad)
		}
		memo, w = l.Memo, open()
	}
	nowhere = false
	got, l := list(Before{Memo: memo})
	if got != "a d d/nowhere d/x " || len(l.Bad) > 0 || l.Memo[memoMissing] != "" || stamps["d/nowhere"] != first {
		t.Errorf("listed %s, %v, %q, stamp %q after %q", got, l.Bad, l.Memo, stamps["d/nowhere"], first)
	}
}

// A link to its own directory is told by what the page says, even though a name on it was found to be nothing in one of the two and not
// asked for in the other, and another file is asked for in one only.
func TestHTTPLoopWithNowhere(t *testing.T) {
	s, at := newSite(t, map[string]string{"links/loop/none": "", "links/nowhere": "2", "links/x": "3", "links/y": "4"})
	s.first = func(w http.ResponseWriter, r *http.Request) bool {
		for strings.Contains(r.URL.Path, "/loop/") {
			r.URL.Path = strings.Replace(r.URL.Path, "/loop/", "/", 1)
		}
		if path.Base(r.URL.Path) == "nowhere" {
			http.NotFound(w, r)
			return true
		}
		return false
	}
	s.put("links/y", "4", s.now.Add(-time.Minute)) // young: the server is asked, and its next listing says it again
	f := follow(t, at, Options{})
	if got := f.next(); got != "!links/loop links links/nowhere links/x links/y" {
		t.Fatalf("first: %q", got)
	}
	if _, err := f.o.Open(t.Context(), Entry{Path: "links/nowhere"}, 0, ""); !errors.Is(err, ErrGone) {
		t.Fatal(err)
	}
	s.mu.Lock()
	s.now = s.now.Add(10 * time.Minute)
	s.mu.Unlock()
	for _, want := range []string{"!links/loop !links/nowhere -links/nowhere", "!links/loop !links/nowhere"} {
		if got := f.next(); got != want {
			t.Errorf("later: %q, want %q", got, want)
		}
	}
}

// A URL at which there is nothing has not gone since it was listed: it never was.
func TestHTTPNothing(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	or, err := Open(t.Context(), server.URL+"/nothing/", Options{AllowPrivate: true, Access: Access{Netrc: "/dev/null"}})
	if err != nil {
		t.Fatal(err)
	}
	defer or.Close()
	_, err = or.List(t.Context(), Before{}, func(Entry) error { return nil })
	refusal(t, "a URL with nothing behind it", err, "404", "must be that of a directory")
	if err != nil && strings.Contains(err.Error(), "gone since") {
		t.Errorf("it was never listed: %v", err)
	}
}
