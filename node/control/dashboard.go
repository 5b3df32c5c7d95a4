package control

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/net/netutil"
)

const (
	// DefaultDashboard is where a dashboard listens that is not told: for this machine only, beside the usual 4101 of the node.
	DefaultDashboard = "127.0.0.1:4180"
	// maxDashboardConns limits the connections of browsers and Prometheus servers together. Chosen: a browser opens six.
	maxDashboardConns = 64
	// maxScrapes limits the scrapes at a time. Chosen: two Prometheus servers, and somebody with curl.
	maxScrapes = 4
	// dashboardTimeout is how long an answer may take, beside the stream of events.
	dashboardTimeout = 20 * time.Second
)

// DashboardConfig says where a dashboard listens and of what it tells. Status is required.
type DashboardConfig struct {
	// Listen is host:port. "" means DefaultDashboard, and a free port of that host when it is taken: Note tells.
	Listen string
	Status func() Status
	Now    func() time.Time // default time.Now
	Log    *slog.Logger     // default: discard
}

// Dashboard shows how a node is, over HTTP: a page for people at /, metrics for Prometheus at /metrics, one line for a monitor at
// /health. Nothing can be changed by it. It answers only to addresses that no other site can take over: see hostAllowed.
type Dashboard struct {
	cfg     DashboardConfig
	note    string
	tcp     net.Listener
	http    *http.Server
	traffic traffic
	viewers chan struct{} // a place for each stream of events
	machine string        // the name of this machine, if others reach the port
	exposed bool          // others reach the port
	gate    gate
}

// ListenDashboard takes the port. Its errors say what to try.
func ListenDashboard(cfg DashboardConfig) (*Dashboard, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	d := &Dashboard{cfg: cfg, viewers: make(chan struct{}, maxViewers)}
	if err := d.listen(); err != nil {
		return nil, err
	}
	d.machine, d.exposed = machineName(d.tcp.Addr())
	d.http = &http.Server{
		Handler: d.gate.guard(noBody(d.handler())), ErrorLog: slog.NewLogLogger(cfg.Log.Handler(), slog.LevelDebug),
		ReadHeaderTimeout: 5 * time.Second, WriteTimeout: dashboardTimeout, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
	}
	return d, nil
}

func (d *Dashboard) listen() (err error) {
	address := cmp.Or(d.cfg.Listen, DefaultDashboard)
	d.tcp, err = net.Listen("tcp", address)
	if err == nil {
		return nil
	}
	if d.cfg.Listen != "" || !errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("dashboard: listen on %s: %w; give another address, host:port, or \"none\"", address, err)
	}
	host, _, _ := net.SplitHostPort(address)
	if d.tcp, err = net.Listen("tcp", net.JoinHostPort(host, "0")); err != nil {
		return fmt.Errorf("dashboard: listen on a free port of %s: %w", host, err)
	}
	d.note = fmt.Sprintf("%s is taken by another program: the dashboard is at %s", address, d.URL())
	return nil
}

// URL is where the page is, as it is reached from this machine.
func (d *Dashboard) URL() string {
	host, port, err := net.SplitHostPort(d.tcp.Addr().String())
	if err != nil {
		panic("control: the address of a TCP listener cannot be read: " + err.Error())
	}
	if ip, err := netip.ParseAddr(host); err == nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, port) + "/"
}

// Note says what the operator should know of the start; "" for nothing.
func (d *Dashboard) Note() string {
	if d.note == "" && d.exposed {
		return "the dashboard at " + d.tcp.Addr().String() + " has no password: whoever reaches it reads how this node is and who its peers are, and can change nothing; --dashboard 127.0.0.1:4180 is for this machine only"
	}
	return d.note
}

// machineName gives the name of this machine if others can reach an address.
func machineName(a net.Addr) (name string, exposed bool) {
	at, err := netip.ParseAddrPort(a.String())
	if err != nil || at.Addr().IsLoopback() {
		return "", false
	}
	name, err = os.Hostname()
	if err != nil {
		return "", true // by its addresses, then
	}
	return hostname(name), true
}

// Close gives the port back. It does nothing after Run.
func (d *Dashboard) Close() error {
	if err := d.tcp.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// Run answers until ctx ends; then all requests have ended. It is called once.
func (d *Dashboard) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	var work sync.WaitGroup
	work.Go(func() { d.sample(ctx) })
	d.http.BaseContext = func(net.Listener) context.Context { return ctx }
	done := make(chan error, 1)
	go func() { done <- d.http.Serve(netutil.LimitListener(d.tcp, maxDashboardConns)) }()
	var err error
	select {
	case err = <-done:
		err = fmt.Errorf("dashboard: %w", err)
		cancel(err)
	case <-ctx.Done():
		err = context.Cause(ctx)
		cancel(err)
		sctx, stop := context.WithTimeout(context.Background(), stopTimeout)
		if d.http.Shutdown(sctx) != nil {
			d.http.Close()
		}
		stop()
		<-done
	}
	d.gate.close()
	work.Wait()
	return err
}

// handler has all that is answered, behind the checks that each request must pass.
func (d *Dashboard) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(newRegistry(d.cfg.Status, d.cfg.Now), promhttp.HandlerOpts{
		MaxRequestsInFlight: maxScrapes, ErrorLog: slog.NewLogLogger(d.cfg.Log.Handler(), slog.LevelDebug)}))
	mux.HandleFunc("GET /health", d.serveHealth)
	d.pages(mux)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		if !hostAllowed(r.Host, d.cfg.Listen, d.machine) {
			http.Error(w, "this name is not the dashboard's: use its IP address or localhost, or start the node with --dashboard NAME:PORT", http.StatusMisdirectedRequest)
			return
		}
		if o := r.Header.Get("Origin"); o != "" && !sameOrigin(o, r.Host) {
			http.Error(w, "a page of another site asks: refused", http.StatusForbidden)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// hostAllowed refuses names that a foreign site can point to this machine, and so read the dashboard with a visitor's browser (DNS
// rebinding): allowed are IP addresses, localhost (RFC 6761, section 6.3), the name that the operator listens on, and that of the
// machine, "" if it counts for nothing: by it a Prometheus elsewhere asks.
func hostAllowed(host, listen, machine string) bool {
	name := hostname(host)
	if _, err := netip.ParseAddr(name); err == nil || name == "localhost" || strings.HasSuffix(name, ".localhost") {
		return true
	}
	own := hostname(listen)
	return own != "" && name == own || machine != "" && name == machine
}

// hostname is a host without its port and in the one form in which names are compared.
func hostname(hostport string) string {
	name := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		name = h
	}
	name = strings.TrimSuffix(strings.TrimPrefix(name, "["), "]")
	return strings.TrimSuffix(strings.ToLower(name), ".")
}

// sameOrigin reports whether a page with that origin came from this host and port.
func sameOrigin(origin, host string) bool {
	u, err := url.Parse(origin)
	return err == nil && strings.EqualFold(u.Host, host)
}

// serveHealth says the verdict: 200 when all is fine, else 503. Whatever the answer, the node runs.
func (d *Dashboard) serveHealth(w http.ResponseWriter, _ *http.Request) {
	s := d.cfg.Status()
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if !s.Fine {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	io.WriteString(w, s.Verdict+"\n")
}
