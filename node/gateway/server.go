package gateway

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

const (
	// DefaultListen is where a gateway listens that is not told: for this machine only, on the port that people expect of a web server
	// which is not the system's own.
	DefaultListen = "127.0.0.1:8080"

	// maxHeaderBytes is what notes on clients ask for: apt and zchunk send long Range headers. net/http takes 4 KiB more.
	maxHeaderBytes = 16 << 10
	// headerTimeout is for sending the header of a request, and for the TLS handshake. Chosen: a slow link needs one second.
	headerTimeout = 5 * time.Second
	// idleTimeout is how long a connection may wait for its next request. Longer than apt and browsers pause between two.
	idleTimeout = time.Minute
	// maxStreams is how many requests one HTTP/2 or HTTP/3 connection may have open. Browsers load a listing with fewer; RFC 9113
	// (6.5.2) wants no fewer than 100.
	maxStreams = 100
	// maxUniStreams is how many streams of its own a client of HTTP/3 may open: it needs three (RFC 9114, 6.2), the others are for what
	// is added to the protocol.
	maxUniStreams = 8
	// receiveWindow is what a client of HTTP/2 or HTTP/3 may send before somebody reads it. Requests have a header and no body; HTTP/2
	// takes no smaller one.
	receiveWindow = 64 << 10
	// stopTimeout is how long Run lets requests finish: with the closing after it that stays within 5 s.
	stopTimeout = 4 * time.Second
	// portTries is how often a free port is asked for until it is free for TCP and UDP. Chosen: one more try nearly always does.
	portTries = 10
)

// ServerConfig says where a Server listens and what it allows. Handler is required; the zero value of everything else is useful.
type ServerConfig struct {
	Handler http.Handler
	// Listen is host:port. "" means DefaultListen, and a free port of that host when it is taken: Note tells.
	Listen string
	// CertFile and KeyFile are PEM files, both or none. With them the server speaks TLS with HTTP/1.1 and HTTP/2 and, on UDP of the
	// same port, HTTP/3. They are read again when they change.
	CertFile, KeyFile string
	// AccessLog is the file that gets a line for each request, "-" for standard output, "" for none. It is opened again on SIGHUP.
	AccessLog string
	// FullAddresses keeps the whole addresses of clients in the access log; otherwise they are cut to their network.
	FullAddresses bool
	// Conns limits connections, and requests that are being answered. Default 4096.
	Conns int
	// ConnsPerAddress limits the connections of one IPv4 address or one IPv6 /64. Default 128, and no limit for this machine itself:
	// a proxy here speaks for many.
	ConnsPerAddress int
	Limit           Limit        // of the bytes that are sent; nil: none
	Log             *slog.Logger // default: discard
}

// Server answers HTTP requests for a handler that trusts its clients with nothing: it limits connections, headers, bodies and slow
// readers, counts, and keeps the access log.
type Server struct {
	cfg     ServerConfig
	note    string
	tcp     net.Listener
	http    *http.Server
	pair    *keyPair       // nil without TLS
	udp     net.PacketConn // nil without TLS; so are the next two
	quic    *quic.Transport
	http3   *http3.Server
	log     *accessLog // nil without one
	limiter *limiter
	counts  *counters
	// requests are those in a handler. stop ends them when they had their time.
	requests gate
	stop     context.CancelFunc
	// accepting are the goroutines that Run started, and what those started.
	accepting sync.WaitGroup
}

// Listen binds to the address, loads the certificate and opens the access log. Its errors say what to try.
func Listen(cfg ServerConfig) (_ *Server, err error) {
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	s := &Server{cfg: cfg, limiter: newLimiter(cfg.Conns, cfg.ConnsPerAddress), counts: newCounters()}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	if (cfg.CertFile == "") != (cfg.KeyFile == "") {
		return nil, errors.New("gateway: a certificate needs its key and a key its certificate: give both files or none")
	}
	if cfg.CertFile != "" {
		if s.pair, err = loadPair(cfg.CertFile, cfg.KeyFile, cfg.Log); err != nil {
			return nil, fmt.Errorf("gateway: %w", err)
		}
	}
	if cfg.AccessLog != "" {
		if s.log, err = openAccessLog(cfg.AccessLog, cfg.FullAddresses, cfg.Log); err != nil {
			return nil, fmt.Errorf("gateway: %w", err)
		}
	}
	if err = s.bind(); err != nil {
		return nil, err
	}
	s.setUp()
	return s, nil
}

// bind finds the port.
func (s *Server) bind() error {
	address := cmp.Or(s.cfg.Listen, DefaultListen)
	err := s.bindTo(address)
	if err == nil {
		return nil
	}
	if s.cfg.Listen != "" || !errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("the gateway cannot listen on %s: %w", address, listenAdvice(err))
	}
	host, _, _ := net.SplitHostPort(address)
	if err := s.bindTo(net.JoinHostPort(host, "0")); err != nil {
		return fmt.Errorf("gateway: listen on a free port of %s: %w", host, err)
	}
	s.note = fmt.Sprintf("%s is taken by another program: the gateway listens on %s", address, s.Addr())
	return nil
}

// listenAdvice says what to do about an address that cannot be had.
func listenAdvice(err error) error {
	var unknown *net.DNSError
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("another program has the port: stop that one, or take another port (0 is any free one): %w", err)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("ports below 1024 are not for every user: take a port such as 8080, or start it by systemd with AmbientCapabilities=CAP_NET_BIND_SERVICE: %w", err)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("this machine does not have that address: leave the host out for all that it has, as in :8080: %w", err)
	case errors.As(err, &unknown):
		return fmt.Errorf("the host is not known: leave it out for all addresses of this machine, as in :8080: %w", err)
	}
	return fmt.Errorf("it takes host:port, or :port for all addresses of this machine: %w", err)
}

// bindTo listens on TCP and, with a certificate, on the same port of UDP.
func (s *Server) bindTo(address string) error {
	for try := 1; ; try++ {
		tcp, err := net.Listen("tcp", address)
		if err != nil {
			return err
		}
		if s.pair == nil {
			s.tcp = tcp
			return nil
		}
		udp, err := net.ListenPacket("udp", tcp.Addr().String())
		if err == nil {
			s.tcp, s.udp = tcp, udp
			return nil
		}
		tcp.Close()
		if _, port, _ := net.SplitHostPort(address); port != "0" || try == portTries {
			return fmt.Errorf("HTTP/3: %w", err)
		}
	}
}

// setUp makes the servers of the protocols.
func (s *Server) setUp() {
	ctx, cancel := context.WithCancel(context.Background())
	s.stop = cancel
	handler := http.HandlerFunc(s.serve)
	quiet := slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelDebug) // clients that break off are no news
	s.http = &http.Server{Handler: handler, ErrorLog: quiet, ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeaderBytes,
		HTTP2: &http.HTTP2Config{MaxConcurrentStreams: maxStreams, MaxReceiveBufferPerConnection: receiveWindow, MaxReceiveBufferPerStream: receiveWindow}, BaseContext: func(net.Listener) context.Context { return ctx },
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(WithConnection(ctx), connKey{}, c)
		}}
	if s.pair == nil {
		return
	}
	s.http.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: s.pair.get}
	s.quic = &quic.Transport{Conn: s.udp, VerifySourceAddress: func(net.Addr) bool { return s.limiter.busy() }}
	s.http3 = &http3.Server{Handler: handler, MaxHeaderBytes: maxHeaderBytes, IdleTimeout: idleTimeout,
		TLSConfig: http3.ConfigureTLSConfig(s.http.TLSConfig), // before the other server adds its protocols
		ConnContext: func(ctx context.Context, c *quic.Conn) context.Context {
			return withIdle(WithConnection(ctx), func() { c.CloseWithError(quic.ApplicationErrorCode(http3.ErrCodeNoError), "nothing was asked for") })
		}}
}

// Run serves until ctx ends, lets requests finish for 4 s, closes what is left and waits for it. It gives the cause of the end.
func (s *Server) Run(ctx context.Context) error {
	defer s.Close()
	failed := make(chan error, 2) // one of each protocol
	s.accepting.Go(func() {
		l := net.Listener(&listener{Listener: s.tcp, s: s})
		if s.pair != nil {
			failed <- s.http.ServeTLS(l, "", "")
		} else {
			failed <- s.http.Serve(l)
		}
	})
	if s.http3 != nil {
		s.accepting.Go(func() { failed <- s.serveQUIC() })
	}
	reopen := make(chan os.Signal, 1)
	if s.log != nil {
		signal.Notify(reopen, syscall.SIGHUP)
		defer signal.Stop(reopen)
	}
	var err error
	for err == nil {
		select {
		case <-reopen:
			s.log.reopen()
		case err = <-failed:
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
	}
	s.finish()
	return err
}

// finish stops to accept, lets requests end, and closes all that is left of them.
func (s *Server) finish() {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if s.http3 != nil {
			s.http3.Shutdown(ctx)
		}
	}()
	if s.http.Shutdown(ctx) != nil {
		s.http.Close()
	}
	select {
	case <-ended:
	case <-ctx.Done():
	}
	s.stop()
	s.closeSockets() // ends the HTTP/3 connections, which their server leaves to us
	<-ended
	s.accepting.Wait()
	s.requests.close() // the node must not close what they use
}

// serveQUIC accepts HTTP/3 connections.
func (s *Server) serveQUIC() error {
	l, err := s.quic.ListenEarly(s.http3.TLSConfig, &quic.Config{MaxIdleTimeout: idleTimeout, MaxIncomingStreams: maxStreams,
		HandshakeIdleTimeout: headerTimeout, MaxIncomingUniStreams: maxUniStreams,
		InitialStreamReceiveWindow: receiveWindow, MaxStreamReceiveWindow: receiveWindow,
		InitialConnectionReceiveWindow: 2 * receiveWindow, MaxConnectionReceiveWindow: 2 * receiveWindow})
	if err != nil {
		return fmt.Errorf("gateway: HTTP/3: %w", err)
	}
	defer l.Close()
	for {
		c, err := l.Accept(context.Background()) // ends when the transport is closed
		if err != nil {
			return fmt.Errorf("gateway: HTTP/3: %w", err)
		}
		leave, ok := s.limiter.enter(c.RemoteAddr())
		if !ok {
			c.CloseWithError(quic.ApplicationErrorCode(http3.ErrCodeExcessiveLoad), "too many connections")
			continue
		}
		s.accepting.Go(func() {
			defer leave()
			s.http3.ServeQUICConn(c) // what it fails with is the client's affair
			c.CloseWithError(quic.ApplicationErrorCode(http3.ErrCodeNoError), "")
		})
	}
}

// Addr gives the host:port it listens on.
func (s *Server) Addr() string { return s.tcp.Addr().String() }

// URL gives the address of the root as it is reached from this machine.
func (s *Server) URL() string {
	scheme := "http"
	if s.pair != nil {
		scheme = "https"
	}
	a := s.tcp.Addr().(*net.TCPAddr)
	host := a.IP.String()
	if a.IP.IsUnspecified() {
		host = "127.0.0.1" // also where it shows as ::, which Go listens on for both families
	}
	return scheme + "://" + net.JoinHostPort(host, strconv.Itoa(a.Port)) + "/"
}

// Loopback reports whether it is reached from this machine only.
func (s *Server) Loopback() bool { return s.tcp.Addr().(*net.TCPAddr).IP.IsLoopback() }

// Note says that the default port was taken, in a sentence for people; "" otherwise.
func (s *Server) Note() string { return s.note }

// Close gives back what Listen took. It is for a server that never ran: Run does it at its end.
func (s *Server) Close() error {
	if s.stop != nil {
		s.stop()
	}
	s.closeSockets()
	if s.log != nil {
		return s.log.close()
	}
	return nil
}

func (s *Server) closeSockets() {
	if s.tcp != nil {
		s.tcp.Close()
	}
	if s.quic != nil {
		s.quic.Close()
	}
	if s.udp != nil {
		s.udp.Close()
	}
}

// gate counts requests, which the servers do not wait for when they are closed.
type gate struct {
	mu       sync.Mutex // guards closed, and that no request enters beside close
	closed   bool
	requests sync.WaitGroup
}

// enter reports whether one more may be answered; leave follows then.
func (g *gate) enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return false
	}
	g.requests.Add(1)
	return true
}

func (g *gate) leave() { g.requests.Done() }

// close lets no more in and waits for those that are.
func (g *gate) close() {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	g.requests.Wait()
}
