package origin

import (
	"errors"
	"fmt"
	"html"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// site is a web server with index pages as nginx or apache writes them, and a clock of its own.
type site struct {
	mu    sync.Mutex
	files map[string]*paperFile // by path, without a '/' before it
	now   time.Time
	zone  time.Duration                                            // what the pages' times are ahead of UTC
	bare  bool                                                     // pages have no times
	etag  bool                                                     // answers have one
	first func(w http.ResponseWriter, r *http.Request) (done bool) // sees each request before
	count map[string]int                                           // requests by method
	heads []string                                                 // paths that were asked for by HEAD
}

type paperFile struct {
	data  string
	mtime time.Time
	tag   int
}

// newSite starts one; the clock says noon, and what put lays is ten days old.
func newSite(t *testing.T, files map[string]string) (*site, string) {
	t.Helper()
	s := &site{files: map[string]*paperFile{}, now: time.Date(2026, 11, 23, 12, 0, 30, 0, time.UTC), count: map[string]int{}}
	for p, data := range files {
		s.files[p] = &paperFile{data: data, mtime: s.now.Add(-240 * time.Hour)}
	}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	return s, server.URL + "/dist/"
}

// put writes a file at a time.
func (s *site) put(p, data string, mtime time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	tag := 0
	if f := s.files[p]; f != nil {
		tag = f.tag + 1
	}
	s.files[p] = &paperFile{data, mtime, tag}
}

// requests gives how many there have been since the last time.
func (s *site) requests() (get, head int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	get, head = s.count["GET"], s.count["HEAD"]
	clear(s.count)
	s.heads = nil
	return get, head
}

func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count[r.Method]++
	w.Header().Set("Date", s.now.UTC().Format(http.TimeFormat))
	if s.first != nil && s.first(w, r) {
		return
	}
	p, below := strings.CutPrefix(r.URL.Path, "/dist/")
	if f := s.files[p]; below && f != nil {
		if r.Method == "HEAD" {
			s.heads = append(s.heads, p)
		}
		if s.etag {
			w.Header().Set("ETag", fmt.Sprintf(`"%d-%d"`, f.mtime.Unix(), f.tag))
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		http.ServeContent(w, r, "", f.mtime, strings.NewReader(f.data))
		return
	}
	if !below || p != "" && !strings.HasSuffix(p, "/") {
		http.NotFound(w, r)
		return
	}
	s.index(w, p)
}

// index writes the page of a directory, as apache does.
func (s *site) index(w http.ResponseWriter, dir string) {
	w.Header().Set("Content-Type", "text/html")
	fmt.Fprintf(w, "<title>Index of /dist/%s</title><pre><a href=\"?C=N;O=D\">Name</a><hr><a href=\"../\">Parent Directory</a>   -\n", dir)
	done := map[string]bool{}
	for _, p := range slices.Sorted(maps.Keys(s.files)) {
		rest, in := strings.CutPrefix(p, dir)
		name, _, sub := strings.Cut(rest, "/")
		if !in || done[name] {
			continue
		}
		done[name] = true
		href, size := url.PathEscape(name), "-"
		if strings.Contains(name, ":") {
			href = "./" + href
		}
		if sub {
			href += "/"
		} else if n := len(s.files[p].data); n < 1000 {
			size = strconv.Itoa(n)
		} else {
			size = fmt.Sprintf("%.1fK", float64(n)/1000)
		}
		when := s.files[p].mtime.UTC().Add(s.zone).Format("2006-01-02 15:04") + "  " + size
		if s.bare {
			when = ""
		}
		fmt.Fprintf(w, "<img src=\"/icons/x.gif\"> <a href=\"%s\">%s</a>   %s\n", html.EscapeString(href), html.EscapeString(name), when)
	}
	fmt.Fprint(w, "<hr></pre>")
}

// follower lists an origin again and again, each time with what it said before, like the publisher.
type follower struct {
	t      *testing.T
	o      Origin
	before Before
	seen   map[string]Entry
}

func follow(t *testing.T, rawURL string, o Options) *follower {
	t.Helper()
	t.Setenv("HOME", t.TempDir())
	o.AllowPrivate = true
	opened, err := Open(t.Context(), rawURL, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { opened.Close() })
	if w, ok := opened.(*web); ok {
		w.settling = 0 // the clock of the site stands still
	}
	return &follower{t: t, o: opened}
}

// next lists once more, and gives the paths whose entries are new, others, or vouch for nothing, and with a '-' those that are gone.
func (f *follower) next() string {
	f.t.Helper()
	seen, _, l := listed(f.t, f.o, f.before)
	var changed []string
	for p, e := range seen {
		if was, ok := f.seen[p]; !ok || was != e || e.IsFile() && e.Stamp == "" {
			changed = append(changed, p)
		}
	}
	for p := range f.seen {
		if _, ok := seen[p]; !ok {
			changed = append(changed, "-"+p)
		}
	}
	for _, b := range l.Bad {
		changed = append(changed, "!"+b.Path)
	}
	f.seen = seen
	f.before = Before{Memo: l.Memo, Entry: func(p string) (Entry, bool) { e, ok := seen[p]; return e, ok }}
	slices.Sort(changed)
	return strings.Join(changed, " ")
}

func TestHTTPListing(t *testing.T) {
	files := map[string]string{"a/b/c": "x", "a/z": "zz", "top": "t", "odd/100%": "1", "odd/a b": "2", "odd/a+b": "3", "odd/?C=N;O=D": "4", "odd/#": "5", "odd/ü": "6",
		"odd/co:lon": "7", "odd/&amp;": "8", "odd/\"q'": "9"}
	s, at := newSite(t, files)
	f := follow(t, at, Options{Exclude: []string{"z"}})
	want := `a a/b a/b/c odd odd/"q' odd/# odd/& odd/100% odd/?C=N;O=D odd/a b odd/a+b odd/co:lon odd/ü top`
	if got := f.next(); got != strings.Replace(want, "odd/& ", "odd/&amp; ", 1) {
		t.Errorf("%s, want\n%s", got, want)
	}
	if get, head := s.requests(); get != 4 || head != 0 {
		t.Errorf("%d GET and %d HEAD for 4 directories", get, head)
	}
	for range 3 {
		if got := f.next(); got != "" {
			t.Errorf("%q has changed", got)
		}
	}
	if get, head := s.requests(); get != 12 || head != 0 {
		t.Errorf("%d GET and %d HEAD for 4 directories three times", get, head)
	}
	for p, data := range files {
		if p == "a/z" {
			continue
		}
		b, err := f.o.Open(t.Context(), f.seen[p], 0, "")
		if err != nil {
			t.Error(err)
			continue
		}
		got, err := io.ReadAll(b)
		if err = errors.Join(err, b.Close()); err != nil || string(got) != data || b.Size != int64(len(data)) || b.Mtime != s.files[p].mtime.Truncate(time.Second).UnixNano() {
			t.Errorf("%q: %q, %+v, %v", p, got, b, err)
		}
	}
}

// A file that is replaced in the same minute, with a size that is rounded to the same, is found, in whatever zone the pages' times
// are; and once its minute is over nobody asks for it any more.
func TestHTTPSameMinute(t *testing.T) {
	for _, c := range []struct {
		name string
		zone time.Duration
		etag bool
	}{{"UTC", 0, false}, {"ETag", 0, true}, {"west", -5 * time.Hour, false}, {"Nepal", 345 * time.Minute, true}, {"far east", 14 * time.Hour, false}} {
		t.Run(c.name, func(t *testing.T) {
			s, at := newSite(t, map[string]string{"old": "o", "d/f": strings.Repeat("a", 2000), "d/g": "g"})
			s.zone, s.etag = c.zone, c.etag
			f := follow(t, at, Options{})
			f.next()
			tick := func(d time.Duration) {
				s.mu.Lock()
				defer s.mu.Unlock()
				s.now = s.now.Add(d)
			}
			s.put("d/f", strings.Repeat("b", 2001), s.now.Add(-20*time.Second))
			if got := f.next(); got != "d/f" {
				t.Fatalf("after a change: %q", got)
			}
			if got := f.next(); got != "" {
				t.Fatalf("at once again: %q", got)
			}
			// In the same minute, with the same rounded size.
			tick(10 * time.Second)
			s.put("d/f", strings.Repeat("c", 2002), s.now.Add(-4*time.Second))
			if got := f.next(); got != "d/f" {
				t.Fatalf("after a second change in the minute: %q", got)
			}
			s.put("d/f", strings.Repeat("d", 2003), s.now.Add(-1*time.Second))
			s.requests()
			tick(4 * time.Minute)
			if got := f.next(); got != "d/f" {
				t.Fatalf("after a third change just behind the listing, seen when the minute is over: %q", got)
			}
			if _, head := s.requests(); head != 1 {
				t.Errorf("%d HEAD for one young file", head)
			}
			if got := f.next(); got != "" {
				t.Fatalf("a file that has grown old: %q", got)
			}
			if get, head := s.requests(); get != 2 || head != 0 {
				t.Errorf("%d GET and %d HEAD for two directories of old files", get, head)
			}
			tick(24 * time.Hour)
			if got := f.next(); got != "" {
				t.Fatalf("a day later: %q", got)
			}
		})
	}
}

// What changed within the step of the clock is read once more: neither time nor size could tell.
func TestHTTPSameSecond(t *testing.T) {
	s, at := newSite(t, map[string]string{"f": "1"})
	f := follow(t, at, Options{})
	s.put("f", "2", s.now)
	f.next()
	s.put("f", "3", s.now) // without a trace
	s.now = s.now.Add(time.Minute)
	if got := f.next(); got != "f" {
		t.Errorf("%q", got)
	}
	if got := f.next(); got != "" {
		t.Errorf("once it is old: %q", got)
	}
}

// Pages without times leave only HEAD.
func TestHTTPBare(t *testing.T) {
	s, at := newSite(t, map[string]string{"f": "1", "g": "2"})
	s.bare = true
	f := follow(t, at, Options{})
	f.next()
	if got := f.next(); got != "" {
		t.Errorf("%q", got)
	}
	if get, head := s.requests(); get != 2 || head != 4 || f.seen["f"].Size != 1 {
		t.Errorf("%d GET, %d HEAD, %+v", get, head, f.seen["f"])
	}
	s.put("g", "3", s.now.Add(-time.Hour))
	if got := f.next(); got != "g" {
		t.Errorf("%q", got)
	}
	// Nothing vouches for anything.
	s.first = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == "HEAD" {
			w.WriteHeader(http.StatusMethodNotAllowed)
		}
		return r.Method == "HEAD"
	}
	f.next()
	if got := f.next(); got != "f g" {
		t.Errorf("without an answer to HEAD: %q", got)
	}
}

// The audit finds what keeps its time and rounded size, within a day of its hourly steps, and asks for each file about once.
func TestHTTPAudit(t *testing.T) {
	files := map[string]string{}
	for i := range 50 {
		files[fmt.Sprintf("d%d/f%d", i%3, i)] = strings.Repeat("x", 5000)
	}
	s, at := newSite(t, files)
	f := follow(t, at, Options{})
	f.next()
	clock := time.Now()
	day := func() (changed []string, head int) {
		t.Helper()
		for range 24 {
			// As if the last listing had been an hour ago.
			var from, last, n int64
			if _, err := fmt.Sscan(f.before.Memo[memoAudit], &from, &last, &n); err != nil {
				t.Fatal(err)
			}
			f.before.Memo[memoAudit] = fmt.Sprintf("%d %d %d", from, clock.Add(-auditStep-time.Second).Unix(), n)
			if got := f.next(); got != "" {
				changed = append(changed, got)
			}
			_, h := s.requests()
			head += h
		}
		return changed, head
	}
	if changed, head := day(); len(changed) > 0 || head < 48 || head > 54 {
		t.Errorf("the first day: %q, %d HEAD for 50 files", changed, head)
	}
	was := s.files["d1/f1"].mtime
	s.put("d1/f1", strings.Repeat("y", 5001), was)
	if got := f.next(); got != "" {
		t.Errorf("%q shows on the page", got)
	}
	if changed, _ := day(); len(changed) != 1 || changed[0] != "d1/f1" {
		t.Errorf("the second day: %q", changed)
	}
	if changed, _ := day(); len(changed) > 0 {
		t.Errorf("the third day: %q", changed)
	}
	if got := f.next(); got != "" {
		t.Errorf("%q", got)
	}
}

func TestNextAudit(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	for _, c := range []struct {
		memo string
		want audit
		next string
	}{
		{"", audit{}, "0 1000000 "},
		{"nonsense", audit{}, "0 1000000 "},
		{"5 999000 10", audit{5, 0}, ""},
		{"0 996400 10", audit{0, 2730}, "2730 1000000 "},
		{"65000 996400 10", audit{65000, 2730}, "2194 1000000 "},
		{"7 0 10", audit{7, auditSlots}, "7 1000000 "},
		{"0 0 10000", audit{0, auditSlots / 2}, "32768 1000000 "},
		{"0 2000000 10", audit{0, 2730}, "2730 1000000 "},
	} {
		got, next := nextAudit(c.memo, now)
		if next != c.next || next != "" && got != c.want || next == "" && got.width != 0 {
			t.Errorf("%q: %v, %q, want %v, %q", c.memo, got, next, c.want, c.next)
		}
	}
}

func FuzzPrints(f *testing.F) {
	f.Add(prints{1: 2, 3: 4}.encode())
	f.Fuzz(func(t *testing.T, s string) {
		p := decodePrints(s)
		if again := decodePrints(p.encode()); !maps.Equal(p, again) {
			t.Errorf("%v, again %v", p, again)
		}
		nextAudit(s, time.Unix(0, 0))
	})
}

// A name with nothing behind it, a directory with an index.html, one that may not be read, one that is gone.
func TestHTTPHoles(t *testing.T) {
	s, at := newSite(t, map[string]string{"a/f": "1", "gone/f": "1", "locked/f": "1", "shadow/f": "1", "young": "1"})
	s.first = func(w http.ResponseWriter, r *http.Request) bool {
		switch r.URL.Path {
		case "/dist/gone/", "/dist/young":
			http.NotFound(w, r)
		case "/dist/locked/":
			w.WriteHeader(http.StatusForbidden)
		case "/dist/shadow/":
			w.Header().Set("Content-Type", "text/html")
			io.WriteString(w, "<title>My project</title>")
		default:
			return false
		}
		return true
	}
	s.put("young", "1", s.now)
	f := follow(t, at, Options{})
	if got := f.next(); got != "!locked !shadow !young a a/f" {
		t.Errorf("%q", got)
	}
	// What was listed before and cannot be now ends the run.
	f.before.Entry = func(string) (Entry, bool) { return Entry{}, true }
	_, err := f.o.List(t.Context(), f.before, func(Entry) error { return nil })
	if refused := (*RefusedError)(nil); !errors.As(err, &refused) || !errors.Is(err, fs.ErrPermission) {
		t.Errorf("%v", err)
	}
	s.mu.Lock()
	s.first = func(w http.ResponseWriter, r *http.Request) bool {
		io.WriteString(w, "<title>My project</title>")
		return true
	}
	s.mu.Unlock()
	if _, err := f.o.List(t.Context(), Before{}, nil); err == nil || !strings.Contains(err.Error(), "no index of a directory: take the index.html") {
		t.Errorf("a page at the top: %v", err)
	}
}

// After an error in the middle of many questions, those that were answered are not asked again.
func TestHTTPAsksOnce(t *testing.T) {
	files := map[string]string{}
	for i := range 40 {
		files[fmt.Sprint("f", i)] = "x"
	}
	s, at := newSite(t, files)
	s.bare = true
	fail := 20
	s.first = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != "HEAD" {
			return false
		}
		if fail--; fail == 0 {
			w.WriteHeader(http.StatusInternalServerError)
			return true
		}
		return false
	}
	f := follow(t, at, Options{})
	f.next()
	get, head := s.requests()
	if len(f.seen) != 40 || get != 2 || head < 41 || head > 41+2*DefaultConnections {
		t.Errorf("%d files with %d GET and %d HEAD", len(f.seen), get, head)
	}
}
