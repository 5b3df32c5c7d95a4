package gateway

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

func mustAddrPort(t testing.TB, s string) netip.AddrPort {
	t.Helper()
	ap, err := netip.ParseAddrPort(s)
	if err != nil {
		t.Fatal(err)
	}
	return ap
}

func TestAccessLogLines(t *testing.T) {
	when := time.Date(2026, 11, 22, 9, 8, 7, 0, time.FixedZone("", 3600))
	request := func(from, uri string, header http.Header) *http.Request {
		return &http.Request{Method: "GET", RequestURI: uri, Proto: "HTTP/1.1", RemoteAddr: from, Header: header}
	}
	cases := []struct {
		name   string
		full   bool
		r      *http.Request
		status int
		bytes  int64
		want   string
	}{
		{"usual", false, request("192.0.2.77:999", "/debian/x", http.Header{"User-Agent": {"apt"}, "Referer": {"http://a/"}}), 200, 5,
			`192.0.2.0 - - [22/Nov/2026:09:08:07 +0100] "GET /debian/x HTTP/1.1" 200 5 "http://a/" "apt"`},
		{"v6, no body", false, request("[2001:db8:1:2::3]:999", "/", nil), 304, 0, `2001:db8:1:: - - [22/Nov/2026:09:08:07 +0100] "GET / HTTP/1.1" 304 - "-" "-"`},
		{"v4 in v6", false, request("[::ffff:192.0.2.77]:999", "/", nil), 304, 0, `192.0.2.0 - - [22/Nov/2026:09:08:07 +0100] "GET / HTTP/1.1" 304 - "-" "-"`},
		{"whole address", true, request("192.0.2.77:999", "/", nil), 404, 9, `192.0.2.77 - - [22/Nov/2026:09:08:07 +0100] "GET / HTTP/1.1" 404 9 "-" "-"`},
		{"a forged line", false, request("192.0.2.77:999", "/\"\r\nx\xff", http.Header{"User-Agent": {"a\nb\"\\"}}), 400, 9,
			`192.0.2.0 - - [22/Nov/2026:09:08:07 +0100] "GET /\"\x0d\x0ax\xff HTTP/1.1" 400 9 "-" "a\x0ab\"\\"`},
	}
	for _, c := range cases {
		name := filepath.Join(t.TempDir(), "access.log")
		l, err := openAccessLog(name, c.full, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		l.write(c.r, c.status, c.bytes, when)
		l.close()
		l.write(c.r, c.status, c.bytes, when) // comes too late: nothing happens
		if got, _ := os.ReadFile(name); string(got) != c.want+"\n" {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, c.want)
		}
	}
	long := request("192.0.2.77:999", "/"+strings.Repeat("x", 1<<20), nil)
	l := &accessLog{name: "-", file: nil}
	if l.write(long, 200, 1, when); len(l.line) != 0 {
		t.Error("a closed log made a line")
	}
	if got := len(appendText(nil, long.RequestURI)); got != maxLogged {
		t.Errorf("%d bytes of a long URL, want %d", got, maxLogged)
	}
}

// TestAccessLogReopens renames the file under the server, as logrotate does, and sends SIGHUP.
func TestAccessLogReopens(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no SIGHUP")
	}
	name := filepath.Join(t.TempDir(), "access.log")
	s, stop := run(t, ServerConfig{Handler: say("hello"), AccessLog: name})
	fetch(t, http.DefaultTransport, get(t, s.URL()+"first"))
	if err := os.Rename(name, name+".1"); err != nil {
		t.Fatal(err)
	}
	fetch(t, http.DefaultTransport, get(t, s.URL()+"second"))
	self, err := os.FindProcess(os.Getpid())
	if err == nil {
		err = self.Signal(syscall.SIGHUP)
	}
	if err != nil {
		t.Fatal(err)
	}
	for range 3000 { // until the file is there again; a hang of half a minute fails
		if _, err := os.Stat(name); err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	fetch(t, http.DefaultTransport, get(t, s.URL()+"third"))
	stop()
	old, _ := os.ReadFile(name + ".1")
	now, _ := os.ReadFile(name)
	line := func(path string) string {
		return `127\.0\.0\.0 - - \[.*\] "GET /` + path + ` HTTP/1\.1" 200 5 "-" "Go-http-client/1\.1"\n`
	}
	if !regexp.MustCompile(`^`+line("first")+line("second")+`(`+line("third")+`)?$`).Match(old) || strings.Count(string(old)+string(now), "\n") != 3 {
		t.Errorf("before: %s\nafter: %s", old, now)
	}
}

// Requests do not wait for who reads the log on standard output, and what he missed is told elsewhere. A log that waits hangs this test.
func TestAccessLogWithoutReader(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var told bytes.Buffer
	l := &accessLog{name: "-", log: slog.New(slog.NewJSONHandler(&told, nil))}
	l.through(w)
	const lines = 2000 // of about 1 KiB, twice what is kept
	req := &http.Request{Method: "GET", RequestURI: "/" + strings.Repeat("x", 1<<10), Proto: "HTTP/1.1", RemoteAddr: "192.0.2.77:999"}
	for range lines {
		l.write(req, 200, 1, time.Now())
	}
	l.close() // waits in vain
	came := make(chan int)
	go func() {
		b, err := io.ReadAll(r)
		if err != nil {
			t.Error(err)
		}
		came <- bytes.Count(b, []byte("\n"))
	}()
	for !l.queue.Flush(logFlush) {
	}
	w.Close()
	n := <-came
	var got struct{ Lines int }
	if err := json.Unmarshal(told.Bytes(), &got); err != nil || got.Lines == 0 || got.Lines+n != lines {
		t.Errorf("%d lines came, %v, told: %s", n, err, told.String())
	}
}

func TestAccessLogErrors(t *testing.T) {
	_, err := Listen(ServerConfig{Handler: say(""), Listen: "127.0.0.1:0", AccessLog: filepath.Join(t.TempDir(), "no", "log")})
	if err == nil || !strings.Contains(err.Error(), "name a file that this user may write to, in a directory that exists") {
		t.Errorf("got %v", err)
	}
}

func TestCounts(t *testing.T) {
	c := &Collection{ID: testID}
	var text strings.Builder
	s, _ := run(t, ServerConfig{Log: slog.New(slog.NewTextHandler(&text, nil)), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answeredBy(w, c)
		switch r.URL.Path {
		case "/missing":
			http.NotFound(w, r)
		case "/broken":
			http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		case "/bug":
			panic("a bug")
		default:
			io.WriteString(w, "hello")
		}
	})})
	fetch(t, http.DefaultTransport, get(t, s.URL()))
	head := get(t, s.URL())
	head.Method = http.MethodHead
	fetch(t, http.DefaultTransport, head)
	fetch(t, http.DefaultTransport, get(t, s.URL()+"missing"))
	for _, path := range []string{"broken", "bug"} {
		resp, err := http.DefaultTransport.RoundTrip(get(t, s.URL()+path))
		if err == nil {
			_, err = io.ReadAll(resp.Body)
			resp.Body.Close()
		}
		if err == nil {
			t.Errorf("%s ended as if it were whole", path)
		}
	}
	st := s.Stats()
	if want := [6]uint64{0: 2, 2: 2, 4: 1}; st.Answers != want {
		t.Errorf("answers %v, want %v", st.Answers, want)
	}
	if len(st.Collections) != 1 || st.Collections[0] != (ServedCounts{ID: testID, Requests: 5, Bytes: uint64(5 + len("404 page not found\n"))}) {
		t.Errorf("collections %+v", st.Collections)
	}
	if got := text.String(); strings.Count(got, "level=ERROR") != 1 || !strings.Contains(got, "a bug") || strings.Contains(got, "goroutine") {
		t.Errorf("log %q", got)
	}
}
