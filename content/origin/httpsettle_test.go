package origin

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// What was written just before a listing is listed once more when its second is over, so that the next listing says the same of it:
// a webhook comes right after an upload, and nothing is to be read twice.
func TestHTTPSettles(t *testing.T) {
	s, at := newSite(t, map[string]string{"old": "1", "d/old": "2"})
	f := follow(t, at, Options{})
	f.o.(*web).settling = time.Millisecond
	s.put("d/new", "3", s.now)
	s.first = func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodHead {
			s.now = s.now.Add(2 * youngExact) // the wait, by the clock of the server: this answer has the time before
		}
		return false
	}
	if got := f.next(); got != "d d/new d/old old" {
		t.Fatalf("listed %s", got)
	}
	// The top page, d twice, and its new file at each.
	if get, head := s.requests(); get != 3 || head != 2 {
		t.Errorf("%d GET and %d HEAD, want 3 and 2", get, head)
	}
	if got := f.next(); got != "" {
		t.Errorf("the next listing says something else of %s", got)
	}
}

// A file with a time in the future is as young the next time: nobody waits for it.
func TestHTTPFuture(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `[{"name":"f","type":"file","size":1,"mtime":"`+time.Now().AddDate(1, 0, 0).UTC().Format(http.TimeFormat)+`"}]`)
	}))
	defer server.Close()
	o, err := Open(t.Context(), server.URL, Options{AllowPrivate: true, Access: Access{Netrc: "/dev/null"}})
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	w := o.(*web)
	w.settling = time.Hour
	ctx, stop := context.WithTimeout(t.Context(), time.Minute) // else it would be the hour
	defer stop()
	entries, _, requests, err := w.readDir(ctx, "")
	if err != nil || requests != 1 || len(entries) != 1 || !strings.HasSuffix(entries[0].Stamp, stampYoung) {
		t.Errorf("%+v, %d requests, %v", entries, requests, err)
	}
}
