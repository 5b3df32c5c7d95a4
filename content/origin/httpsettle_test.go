package origin

import (
	"net/http"
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
