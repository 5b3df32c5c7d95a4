package control

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"
)

// showing runs a dashboard on a free port until the test ends, if cfg does not say where.
func showing(t *testing.T, cfg DashboardConfig) *Dashboard {
	t.Helper()
	if cfg.Listen == "" {
		cfg.Listen = "127.0.0.1:0"
	}
	d, err := ListenDashboard(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("the dashboard ended with %v", err)
		}
		http.DefaultClient.CloseIdleConnections()
	})
	return d
}

// ask gives the answer to a request of these lines.
func askPage(t *testing.T, d *Dashboard, lines ...string) (*http.Response, string) {
	t.Helper()
	c, err := net.Dial("tcp", d.tcp.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, strings.Join(lines, "\r\n")+"\r\nConnection: close\r\n\r\n")
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(text)
}

func TestHealth(t *testing.T) {
	for _, want := range []struct {
		verdict string
		fine    bool
		code    int
	}{{"fine", true, http.StatusOK}, {"short of disk: debian", false, http.StatusServiceUnavailable}} {
		d := showing(t, DashboardConfig{Status: func() Status { return Status{Verdict: want.verdict, Fine: want.fine} }})
		res, text := askPage(t, d, "GET /health HTTP/1.1", "Host: localhost")
		if res.StatusCode != want.code || text != want.verdict+"\n" {
			t.Errorf("%s: %s %q, want %d", want.verdict, res.Status, text, want.code)
		}
	}
}

// TestOtherNamesAreRefused: a site whose name is made to point to this machine must not read the dashboard.
func TestOtherNamesAreRefused(t *testing.T) {
	for _, c := range []struct {
		listen, host string
		ok           bool
	}{
		{"", "127.0.0.1:4180", true}, {"", "localhost:4180", true}, {"", "LOCALHOST.", true}, {"", "node.localhost:80", true}, {"", "[::1]:4180", true}, {"", "[::1]", true},
		{":4180", "192.0.2.7:4180", true}, {"mirror.lan:4180", "mirror.lan:4180", true}, {"mirror.lan:4180", "Mirror.LAN.:80", true},
		{"", "evil.example:4180", false}, {":4180", "evil.example", false}, {"mirror.lan:4180", "evil.example:4180", false}, {"", "", false},
		{"", "127.0.0.1.evil.example", false}, {"", "localhost.evil.example", false}, {"", "evillocalhost", false}, {":4180", "", false},
	} {
		if got := hostAllowed(c.host, c.listen, ""); got != c.ok {
			t.Errorf("host %q at a dashboard on %q: %v, want %v", c.host, c.listen, got, c.ok)
		}
	}
	if !hostAllowed("Mirror1.example:4180", ":4180", "mirror1.example") || hostAllowed("evil.example", ":4180", "mirror1.example") {
		t.Error("of names, the machine's own one alone is to be allowed where others reach the port")
	}
	now := time.Now()
	d := showing(t, DashboardConfig{Status: func() Status { return busy(now) }})
	own := d.tcp.Addr().String()
	for _, path := range []string{"/", "/metrics", "/health", "/events"} {
		if res, text := askPage(t, d, "GET "+path+" HTTP/1.1", "Host: evil.example"); res.StatusCode != http.StatusMisdirectedRequest || strings.Contains(text, "debian") {
			t.Errorf("%s by another name: %s", path, res.Status)
		}
		if res, text := askPage(t, d, "GET "+path+" HTTP/1.1", "Host: "+own, "Origin: http://evil.example"); res.StatusCode != http.StatusForbidden || strings.Contains(text, "debian") {
			t.Errorf("%s for a page of another site: %s", path, res.Status)
		}
	}
	if res, _ := askPage(t, d, "GET /metrics HTTP/1.1", "Host: "+own, "Origin: http://"+own); res.StatusCode != http.StatusOK {
		t.Errorf("for its own page: %s", res.Status)
	}
}

// TestExposed: an operator who lets others in is told what they see, and a Prometheus elsewhere asks by the name of the machine.
func TestExposed(t *testing.T) {
	own, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for address, want := range map[string]bool{"127.0.0.1:4180": false, "[::1]:4180": false, "0.0.0.0:4180": true, "[::]:4180": true, "192.0.2.7:4180": true} {
		name, exposed := machineName(net.TCPAddrFromAddrPort(netip.MustParseAddrPort(address)))
		if exposed != want || (name == hostname(own)) != want {
			t.Errorf("%s: %v, name %q, want %v", address, exposed, name, want)
		}
	}
	d := showing(t, DashboardConfig{Status: func() Status { return Status{} }})
	if d.Note() != "" && !strings.Contains(d.Note(), "is taken") {
		t.Errorf("for this machine only: %q", d.Note())
	}
	d.exposed, d.note = true, ""
	if !strings.Contains(d.Note(), "has no password") {
		t.Errorf("for others: %q", d.Note())
	}
}

func TestNothingCanBeChanged(t *testing.T) {
	d := showing(t, DashboardConfig{Status: func() Status { return Status{} }})
	for _, method := range []string{"POST", "PUT", "DELETE", "OPTIONS"} {
		for _, path := range []string{"/metrics", "/health"} {
			if res, _ := askPage(t, d, method+" "+path+" HTTP/1.1", "Host: localhost", "Content-Length: 0"); res.StatusCode != http.StatusMethodNotAllowed {
				t.Errorf("%s %s: %s", method, path, res.Status)
			}
		}
	}
}

func TestDashboardTakesAFreePort(t *testing.T) {
	taken, err := net.Listen("tcp", DefaultDashboard)
	if err == nil {
		defer taken.Close()
	} // else somebody else has it, which is as good
	d, err := ListenDashboard(DashboardConfig{Status: func() Status { return Status{} }})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if strings.Contains(d.URL(), ":4180/") || !strings.Contains(d.Note(), d.URL()) {
		t.Errorf("at %s, note %q", d.URL(), d.Note())
	}
	if other, err := ListenDashboard(DashboardConfig{Listen: d.tcp.Addr().String()}); err == nil {
		other.Close()
		t.Error("a port that was asked for and is taken: another one is used silently")
	}
	if err := errors.Join(d.Close(), d.Close()); err != nil {
		t.Errorf("closed twice: %v", err)
	}
}
