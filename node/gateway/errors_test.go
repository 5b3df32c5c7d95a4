package gateway

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"testing"
)

// TestErrorPage: a browser gets what went wrong as a page with a way on, everybody else as text; nothing of the address is markup.
func TestErrorPage(t *testing.T) {
	r := newRig(t, file{Path: "a", Data: "a"})
	s, _ := run(t, ServerConfig{Handler: r.g})
	const path = "test/no/%3Cb%3Enone"
	for _, x := range []struct{ accept, kind, says string }{
		{"text/html,application/xhtml+xml,*/*;q=0.8", html, "<h1>Not Found</h1>"},
		{"text/html", html, `<a href="./../../">What this mirror has</a>`},
		{"text/html", html, "directory no"},
		{"*/*", plain, "There is no "},
		{"", plain, "There is no "},
	} {
		req, err := http.NewRequest("GET", s.URL()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept", x.accept)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		if res.StatusCode != 404 || res.Header.Get("Content-Type") != x.kind || !strings.Contains(string(body), x.says) || x.kind == html && strings.Contains(string(body), "<b>") {
			t.Errorf("%q: %d %s %s, want %q", x.accept, res.StatusCode, res.Header.Get("Content-Type"), body, x.says)
		}
	}
	for path, want := range map[string]string{"/x": "/", "/x/": "/", "/x/y": "/", "/prefix/x/y/": "/", "/": "/"} {
		at := url.URL{Path: path}
		if got := at.ResolveReference(&url.URL{Path: wayUp(path)}).Path; got != want {
			t.Errorf("%s: up is %s, want %s", path, got, want)
		}
	}
}

// TestListenAdvice: an address that cannot be had is told with what to do.
func TestListenAdvice(t *testing.T) {
	for address, want := range map[string]string{
		"203.0.113.1:0":   "this machine does not have that address: leave the host out", // RFC 5737: nobody has it
		"127.0.0.1:99999": "it takes host:port",
	} {
		_, err := Listen(ServerConfig{Handler: say(""), Listen: address})
		if err == nil || !strings.Contains(err.Error(), "the gateway cannot listen on "+address+": "+want) {
			t.Errorf("%s: %v, want %q", address, err, want)
		}
	}
	for err, want := range map[error]string{syscall.EACCES: "ports below 1024", &net.DNSError{}: "the host is not known: leave it out"} {
		if got := listenAdvice(&net.OpError{Op: "listen", Err: err}); !strings.Contains(got.Error(), want) || !errors.Is(got, err) {
			t.Errorf("%v: %v, want %q", err, got, want)
		}
	}
}
