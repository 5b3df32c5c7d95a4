package node

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"swarmnode/content"
	"swarmnode/node/control"
	"swarmnode/node/trigger"
)

// site is a web server with index pages as nginx makes them.
type site struct {
	*httptest.Server
	dir   string
	down  atomic.Bool
	calls atomic.Int64
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{dir: t.TempDir()}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.calls.Add(1)
	if user, password, _ := r.BasicAuth(); user != "me" || password != "let me in" {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	if s.down.Load() {
		w.Header().Set("Retry-After", "3600")
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	path := filepath.Join(s.dir, filepath.FromSlash(r.URL.Path))
	if !strings.HasSuffix(r.URL.Path, "/") {
		http.ServeFile(w, r, path)
		return
	}
	list, err := os.ReadDir(path)
	if err != nil {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	fmt.Fprintf(w, "<html>\r\n<head><title>Index of %s</title></head>\r\n<body>\r\n<h1>Index of %[1]s</h1><hr><pre><a href=\"../\">../</a>\r\n", html.EscapeString(r.URL.Path))
	for _, e := range list {
		name, size := e.Name(), "-"
		if st, err := e.Info(); err == nil && !e.IsDir() {
			size = fmt.Sprint(st.Size())
		}
		if e.IsDir() {
			name += "/"
		}
		fmt.Fprintf(w, "<a href=\"%s\">%s</a>   01-Jan-2026 10:00  %s\r\n", (&url.URL{Path: name}).EscapedPath(), html.EscapeString(name), size)
	}
	fmt.Fprint(w, "</pre><hr></body>\r\n</html>\r\n")
}

// from is a request for it, with its password.
func (s *site) from(name string) control.PublishRequest {
	u := strings.Replace(s.URL, "http://", "http://me:let%20me%20in@", 1) + "/"
	return control.PublishRequest{Name: name, From: &control.From{URL: u, Private: true, Contact: "test@example.org"}}
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func publishes(t *testing.T, x *testNode, req control.PublishRequest) control.PublishResult {
	t.Helper()
	res, err := x.Publish(t.Context(), req, func(control.PublishProgress) {})
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// served waits until the gateway of a node gives a text at a path, and tells how long that took.
func served(t *testing.T, x *testNode, name, path, want string) time.Duration {
	t.Helper()
	began := time.Now()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // a connection goes on with the release that it began with
	var last string
	for time.Since(began) < 45*time.Second {
		if res, err := client.Get(x.Gateway() + name + "/" + path); err == nil {
			raw, err := io.ReadAll(res.Body)
			res.Body.Close()
			if last = string(raw); err == nil && res.StatusCode == http.StatusOK && last == want {
				return time.Since(began)
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("%s/%s is not %q after %v, but %q", name, path, want, time.Since(began), last)
	return 0
}

func origins(x *testNode, name string) control.Origin {
	for _, c := range x.Status().Collections {
		if c.Name == name && c.Origin != nil {
			return *c.Origin
		}
	}
	return control.Origin{}
}

// TestTriggers: a change at the origin is served by a mirror, whatever has the master look.
func TestTriggers(t *testing.T) {
	s := newSite(t)
	put(t, filepath.Join(s.dir, "pool", "a b.deb"), strings.Repeat("package ", 20_000))
	put(t, filepath.Join(s.dir, "index"), "1")
	secretFile := filepath.Join(t.TempDir(), "secret")
	put(t, secretFile, strings.Repeat("s3cret", 6)+"\n")
	master := startWith(t, "master", Config{Home: t.TempDir(), Web: Web{Gateway: &GatewayConfig{Listen: "127.0.0.1:0"}}})
	req := s.from("site")
	req.Triggers = &control.Triggers{Every: time.Hour, Webhook: "127.0.0.1:0", SecretFile: secretFile}
	res := publishes(t, master, req)
	if res.Release != 1 || res.Files != 2 || res.Pulled == nil || res.Pulled.Files != 2 {
		t.Errorf("the first run: %+v", res)
	}
	watched := t.TempDir()
	put(t, filepath.Join(watched, "index"), "1")
	publishes(t, master, control.PublishRequest{Dir: watched, Name: "local", Triggers: &control.Triggers{Every: time.Hour, Watch: true}})

	mirror := startWith(t, "mirror", Config{Home: t.TempDir(), Bootstrap: master.Addrs(), Web: Web{Gateway: &GatewayConfig{Listen: "127.0.0.1:0"}}})
	for _, id := range []content.ID{res.ID, collectionID(t, master, "local")} {
		if _, err := mirror.Add(t.Context(), control.AddRequest{ID: id, Bootstrap: master.Addrs()}); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("first run, until the mirror serves it: %v", served(t, mirror, "site", "index", "1"))
	served(t, mirror, "local", "index", "1")

	put(t, filepath.Join(s.dir, "index"), "two")
	began := time.Now()
	now, err := master.PublishNow(t.Context(), control.NowRequest{Collection: "site"}, func(control.PublishProgress) {})
	if err != nil || now.Release != 2 || now.Pulled.Files != 1 {
		t.Fatalf("publish --now: %+v, %v", now, err)
	}
	t.Logf("publish --now: %v, then the mirror: %v", time.Since(began), served(t, mirror, "site", "index", "two"))

	put(t, filepath.Join(s.dir, "index"), "three")
	if code := callHook(t, origins(master, "site").Webhook, secretFile); code != http.StatusAccepted {
		t.Fatalf("webhook: status %d", code)
	}
	t.Logf("webhook: %v", served(t, mirror, "site", "index", "three"))

	put(t, filepath.Join(watched, "index"), "changed")
	t.Logf("watched directory: %v", served(t, mirror, "local", "index", "changed"))

	self, err := os.FindProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(s.dir, "index"), "by signal")
	if err := self.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	t.Logf("SIGHUP: %v", served(t, mirror, "site", "index", "by signal"))

	o := origins(master, "site")
	if o.Runs != 4 || o.Changes != 4 || o.Failures != 0 || o.Files != 5 || strings.Contains(o.URL, "let") || o.Next.IsZero() {
		t.Errorf("status: %+v", o)
	}
	if _, err := mirror.PublishNow(t.Context(), control.NowRequest{Collection: "site"}, nil); err == nil || !strings.Contains(err.Error(), "mirrored") {
		t.Errorf("publish --now of a mirror: %v", err)
	}
}

func collectionID(t *testing.T, x *testNode, name string) content.ID {
	t.Helper()
	for _, c := range x.Status().Collections {
		if c.Name == name {
			return c.ID
		}
	}
	t.Fatalf("there is no collection %s", name)
	return content.ID{}
}

// callHook calls a webhook as the README does.
func callHook(t *testing.T, hook, secretFile string) int {
	t.Helper()
	secret, err := trigger.ReadSecret(secretFile)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequest(http.MethodPost, hook, strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	at := strconv.FormatInt(time.Now().Unix(), 10)
	mac := hmac.New(sha256.New, secret)
	fmt.Fprintf(mac, "%s.{}", at)
	req.Header.Set(trigger.SignatureHeader, fmt.Sprintf("t=%s,v1=%x", at, mac.Sum(nil)))
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	return res.StatusCode
}

// TestOriginRestart: what was published is served while the origin is down, also after a restart; the password is in no file; the
// same command goes on.
func TestOriginRestart(t *testing.T) {
	s := newSite(t)
	put(t, filepath.Join(s.dir, "file"), "1")
	home := t.TempDir()
	cfg := Config{Home: home, Web: Web{Gateway: &GatewayConfig{Listen: "127.0.0.1:0"}}}
	x := startWith(t, "master", cfg)
	req := s.from("site")
	req.Triggers = &control.Triggers{Every: time.Hour}
	publishes(t, x, req)
	s.down.Store(true)
	if _, err := x.Publish(t.Context(), req, func(control.PublishProgress) {}); err == nil {
		t.Error("a run succeeded while the origin was down")
	}
	if o := origins(x, "site"); o.Failures != 1 || o.Error == "" || o.Failing.IsZero() || time.Until(o.Next) < 50*time.Minute {
		t.Errorf("after a failure with Retry-After of an hour: %+v", o)
	}
	x.halt()

	err := filepath.WalkDir(home, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || !d.Type().IsRegular() {
			return err
		}
		raw, err := os.ReadFile(path)
		if bytes.Contains(raw, []byte("let%20me")) || bytes.Contains(raw, []byte("let me in")) {
			t.Errorf("the password is in %s", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}

	x = startWith(t, "master", cfg)
	served(t, x, "site", "file", "1")
	s.down.Store(false)
	put(t, filepath.Join(s.dir, "file"), "second")
	if res := publishes(t, x, req); res.Release != 2 {
		t.Errorf("the same command after a restart: %+v", res)
	}
	served(t, x, "site", "file", "second")

	// Another interval is a change of options, another place is not.
	req.Triggers = &control.Triggers{Every: 5 * time.Minute}
	if res := publishes(t, x, req); !res.Unchanged {
		t.Errorf("another interval: %+v", res)
	}
	if o := origins(x, "site"); o.Every != 300 {
		t.Errorf("every %v seconds", o.Every)
	}
	other := newSite(t).from("site")
	if _, err := x.Publish(t.Context(), other, func(control.PublishProgress) {}); err == nil || !strings.Contains(err.Error(), "--move") {
		t.Errorf("another origin under the same name: %v", err)
	}
	dir := control.PublishRequest{Name: "site", Dir: s.dir}
	if _, err := x.Publish(t.Context(), dir, func(control.PublishProgress) {}); err == nil || !strings.Contains(err.Error(), "--name") {
		t.Errorf("a directory under the name of an origin: %v", err)
	}
}

// A collection without triggers is published when somebody says so, and only then; one whose triggers are taken away, too.
func TestTriggersTaken(t *testing.T) {
	dir := t.TempDir()
	put(t, filepath.Join(dir, "file"), "1")
	x := startWith(t, "master", Config{Home: t.TempDir()})
	req := control.PublishRequest{Name: "test", Dir: dir, Exclude: []string{"*.tmp"}, Triggers: &control.Triggers{Every: time.Hour}}
	publishes(t, x, req)
	put(t, filepath.Join(dir, "x.tmp"), "1")
	now := control.NowRequest{Collection: "test"}
	if res, err := x.PublishNow(t.Context(), now, func(control.PublishProgress) {}); err != nil || !res.Unchanged {
		t.Errorf("what is excluded stays so: %+v, %v", res, err)
	}
	req.Triggers = nil
	publishes(t, x, req)
	if _, err := x.PublishNow(t.Context(), now, func(control.PublishProgress) {}); err == nil || !strings.Contains(err.Error(), "--every") {
		t.Errorf("publish --now without triggers: %v", err)
	}
	busy, err := trigger.ListenHooks("127.0.0.1:0", time.Now, testLog(t, "busy"))
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	for want, w := range map[string]control.Triggers{"address already in use": {Webhook: busy.Addr()}, "--webhook-secret-file": {Webhook: ":0"}, "openssl": {Webhook: "127.0.0.1:0", SecretFile: dir + "/none"}} {
		req.Triggers = &w
		if _, err := x.Publish(t.Context(), req, func(control.PublishProgress) {}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: got %v, want %q", w, err, want)
		}
	}
}

func TestBehindOrigin(t *testing.T) {
	now := time.Now()
	x := standing{Collection: control.Collection{Name: "debian", Published: true, Serving: control.Serving{Release: 3}, Origin: &control.Origin{Error: "connection refused", Behind: true}}}
	x.Origin.Failing = now.Add(-time.Hour)
	if w := worry(x, 1, now); !strings.HasPrefix(w.text, "behind: debian is behind its origin since ") || !strings.Contains(w.text, "refused") {
		t.Errorf("got %q", w.text)
	}
	x.Origin.Behind = false
	if w := worry(x, 1, now); w.text != "" {
		t.Errorf("one failure is no reason to worry: %q", w.text)
	}
}

func TestOriginName(t *testing.T) {
	for rawURL, want := range map[string]string{"https://example.org/pub/debian/": "debian", "https://example.org": "example.org", "https://example.org/": "example.org",
		"rsync://h/m/a%20b/": "h", "/srv/tree": "tree", "apt+https://example.org/debian?suite=bookworm": "debian"} {
		if got := OriginName(rawURL); got != want {
			t.Errorf("%s: got %q, want %q", rawURL, got, want)
		}
	}
}

// A record of before origins opens as it was.
func TestRecordBeforeOrigins(t *testing.T) {
	var r record
	if err := json.Unmarshal([]byte(`{"version":1,"name":"debian","source":"/srv/debian"}`), &r); err != nil {
		t.Fatal(err)
	}
	if r.From != nil || r.Triggers != nil || r.Scan != nil || r.place() != "/srv/debian" {
		t.Errorf("%+v", r)
	}
}
