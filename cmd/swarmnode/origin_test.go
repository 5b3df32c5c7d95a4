package main

import (
	"context"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"swarmnode/node/control"
)

// shop is a TLS server with index pages for those who have its password. It notes what it was asked, and by whom.
type shop struct {
	*httptest.Server
	mu     sync.Mutex // guards what follows
	open   int        // requests for files under way
	most   int
	agents map[string]bool
	gate   chan struct{} // a file is given when something comes from it; nil: at once
}

const shopFiles = 6

func newShop(t *testing.T) *shop {
	t.Helper()
	s := &shop{agents: map[string]bool{}}
	s.Server = httptest.NewTLSServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *shop) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	user, password, _ := r.BasicAuth()
	if user != "mirror" || password != "open-sesame" {
		w.Header().Set("WWW-Authenticate", `Basic realm="shop"`)
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	s.mu.Lock()
	s.agents[r.UserAgent()] = true
	s.mu.Unlock()
	modified := time.Date(2026, 1, 1, 10, 0, 0, 0, time.UTC)
	if r.URL.Path != "/pub/" {
		if r.Method == http.MethodGet {
			s.enter(1)
			defer s.enter(-1)
			if s.gate != nil {
				<-s.gate
			}
		}
		http.ServeContent(w, r, "", modified, strings.NewReader(strings.Repeat(r.URL.Path[len("/pub/"):], 100)))
		return
	}
	w.Header().Set("Content-Type", "text/html")
	fmt.Fprint(w, "<html><head><title>Index of /pub/</title></head><body><h1>Index of /pub/</h1><hr><pre><a href=\"../\">../</a>\r\n")
	for i := range shopFiles {
		fmt.Fprintf(w, "<a href=\"%d.deb\">%[1]d.deb</a>     %s    500\r\n", i, modified.Format("02-Jan-2006 15:04"))
	}
	fmt.Fprint(w, "</pre><hr></body></html>\r\n")
}

func (s *shop) enter(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open += n
	s.most = max(s.most, s.open)
}

// publishFrom runs publish --from until it has ended or printed the text.
func publishFrom(t *testing.T, home, from, text string, flags ...string) (code int, printed string) {
	t.Helper()
	t.Setenv("SWARMNODE_CONFIG", noFile)
	ctx, stop := context.WithCancelCause(t.Context())
	defer stop(nil)
	var out lockedBuffer
	ended := make(chan int, 1)
	args := append([]string{"publish", "--from", from, "--home", home, "--listen", "/ip4/127.0.0.1/tcp/0", "--gateway", "none", "--dashboard", "none", "--no-mdns",
		"--no-port-mapping", "--every", "0"}, flags...)
	go func() { ended <- run(ctx, args, os.Stdin, &out, &out) }()
	for tick := time.NewTicker(10 * time.Millisecond); ; <-tick.C {
		select {
		case code := <-ended:
			return code, out.String()
		default:
		}
		if text != "" && strings.Contains(out.String(), text) {
			stop(errInterrupted)
			text = ""
		}
	}
}

// TestOriginFlags: what the flags say reaches the origin, and without them the error names the one that is missing.
func TestOriginFlags(t *testing.T) {
	s, dir := newShop(t), t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	ca := file("ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})))
	netrc := file("netrc", "machine "+u.Hostname()+"\n  login mirror\n  password open-sesame\n")
	t.Setenv("HOME", dir) // nobody's ~/.netrc
	for _, c := range []struct {
		flags []string
		want  string
	}{
		{nil, "--from-private"},
		{[]string{"--from-private"}, "--ca-cert"},
		{[]string{"--from-private", "--ca-cert", ca}, "--netrc"},
		{[]string{"--from-private", "--ca-cert", netrc, "--netrc", netrc}, "certificate"},
		{[]string{"--from-private", "--ca-cert", ca, "--netrc", filepath.Join(dir, "none")}, "none"},
	} {
		if code, out := publishFrom(t, filepath.Join(dir, "refused"), s.URL+"/pub/", "", c.flags...); code != 1 || !strings.Contains(out, c.want) {
			t.Errorf("%v: exit code %d and %q, want 1 and %q", c.flags, code, out, c.want)
		}
	}

	s.gate = make(chan struct{})
	full := make(chan struct{}) // two files are asked for at a time
	go func() {
		for tick := time.NewTicker(time.Millisecond); ; <-tick.C {
			s.mu.Lock()
			n := s.open
			s.mu.Unlock()
			if n >= 2 {
				break
			}
			if t.Context().Err() != nil {
				return
			}
		}
		close(full)
		close(s.gate)
	}()
	home := filepath.Join(dir, "home")
	code, out := publishFrom(t, home, s.URL+"/pub/", "Serving it until", "--from-private", "--ca-cert", ca, "--netrc", netrc,
		"--contact", "you@example.org", "--connections", "2", "--rate", "8Mbit")
	if want := fmt.Sprintf("From the origin: %d files", shopFiles); code != 0 || !strings.Contains(out, want) {
		t.Fatalf("exit code %d and %q, want 0 and %q", code, out, want)
	}
	<-full
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.most != 2 {
		t.Errorf("%d files at a time with --connections 2", s.most)
	}
	for agent := range s.agents {
		if !strings.HasPrefix(agent, "swarmnode/") || !strings.HasSuffix(agent, " (+you@example.org)") {
			t.Errorf("the server was asked by %q", agent)
		}
	}
	records, err := filepath.Glob(filepath.Join(home, "collections", "*", "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	rate := false
	for _, path := range records {
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		rate = rate || strings.Contains(string(raw), `"rate":1000000`) || strings.Contains(string(raw), `"rate": 1000000`)
	}
	if !rate {
		t.Errorf("no record in %v has the rate", records)
	}
}

func TestOriginLines(t *testing.T) {
	now := time.Date(2026, 5, 6, 7, 8, 9, 0, time.UTC)
	at := func(ago time.Duration) time.Time { return now.Add(-ago) }
	c := control.Collection{Name: "pub", Serving: control.Serving{Release: 3}}
	for _, x := range []struct {
		o    control.Origin
		want []string
	}{
		{control.Origin{URL: "https://example.org/pub/", Every: 300, OriginTimes: control.OriginTimes{Next: at(-3 * time.Second)}},
			[]string{"https://example.org/pub/, every 5m, when somebody says `swarmnode publish --now pub`", "not looked at since the start, next in 3.0 s"}},
		{control.Origin{URL: "/srv", Watch: true, Webhook: "http://localhost:9000/pub", Running: true, Cause: "webhook", OriginTimes: control.OriginTimes{Begun: at(90 * time.Second)},
			Progress: &control.PublishProgress{Phase: "fetch", Done: 1 << 20, Total: 4 << 20, Files: 1, FilesTotal: 12}},
			[]string{"/srv, when files change, when http://localhost:9000/pub is called, when somebody says `swarmnode publish --now pub`",
				"looked at now (webhook), for 1m30s: fetching, 1.0 MiB of 4.0 MiB, 1 of 12 paths"}},
		{control.Origin{URL: "/srv", Running: true, Cause: "asked", OriginTimes: control.OriginTimes{Begun: at(time.Second)}},
			[]string{"/srv, when somebody says `swarmnode publish --now pub`", "looked at now (asked), for 1.0 s"}},
		{control.Origin{URL: "/srv", Cause: "interval", Error: "connection refused", Change: control.LastChange{Release: 3, At: at(time.Hour), Files: 2, Bytes: 2048, Seconds: 1},
			LeftOut:     control.LeftOut{Paths: 5, Reasons: []string{`"x": a link out of the tree`}},
			OriginRuns:  control.OriginRuns{Runs: 4, Failures: 1, Changes: 1, Files: 2, Bytes: 2048, LastRequests: 1, LastSeconds: 0.5},
			OriginTimes: control.OriginTimes{Last: at(2 * time.Second), Failing: at(2 * time.Second), Next: at(-15 * time.Second), Dated: at(50 * time.Hour)}},
			[]string{"/srv, when somebody says `swarmnode publish --now pub`", "looked at 2.0 s ago (interval) in 500 ms, 1 request, next in 15.0 s",
				"its metadata are of " + at(50*time.Hour).Local().Format(time.DateTime) + ", 2 days ago",
				"release 3 came 1h0m0s ago: 2 files, 2.0 KiB fetched in 1.0 s",
				"4 looks since the start, 1 release made, 1 failed; 2 files, 2.0 KiB fetched", "5 paths left out, such as:", `  "x": a link out of the tree`,
				"failing since " + at(2*time.Second).Local().Format(time.DateTime) + ": connection refused; release 3 is served meanwhile"}},
	} {
		c.Origin = &x.o
		if got, want := strings.Join(originLines(c, now), "\n"), strings.Join(x.want, "\n"); got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	}
}
