package origin

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http/httpproxy"
)

const (
	// maxHeaderBytes is how long the head of an answer may be: eight times what common servers send at most.
	maxHeaderBytes = 64 << 10
	// maxValidator is how long an ETag may be that is kept, one for each file: theirs have 100 bytes at most.
	maxValidator = 1 << 10
)

// maxRedirects is how many redirects are followed, as browsers do.
const maxRedirects = 10

// newClient makes the client for one origin, whose password, if it has one, goes to no other host.
func newClient(o *Options, base *url.URL, secret bool) (*http.Client, error) {
	config, err := tlsConfig(o)
	if err != nil {
		return nil, err
	}
	p := &proxied{o: o, of: httpproxy.FromEnvironment().ProxyFunc(), addrs: map[string]bool{}}
	t := &http.Transport{
		Proxy:                 p.proxy,
		DialContext:           p.dial,
		TLSClientConfig:       config,
		ForceAttemptHTTP2:     true,
		MaxConnsPerHost:       o.Connections,
		MaxIdleConnsPerHost:   o.Connections,
		IdleConnTimeout:       o.Timeout,
		TLSHandshakeTimeout:   dialTimeout,
		ResponseHeaderTimeout: o.Timeout,

		MaxResponseHeaderBytes: maxHeaderBytes,
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: o.Timeout / 2, PingTimeout: dialTimeout},
	}
	return &http.Client{Transport: t, CheckRedirect: func(req *http.Request, via []*http.Request) error {
		switch {
		case len(via) >= maxRedirects:
			return &RefusedError{Reason: fmt.Sprintf("more than %d redirects: they go in a circle, perhaps", maxRedirects)}
		case req.URL.Scheme != "http" && req.URL.Scheme != "https":
			return &RefusedError{Reason: fmt.Sprintf("a redirect to %s is not followed: name that as the origin if it is meant", req.URL.Redacted())}
		case via[0].URL.Scheme == "https" && req.URL.Scheme != "https":
			return &RefusedError{Reason: fmt.Sprintf("a redirect from HTTPS to %s is not followed: what comes could be anybody's", req.URL.Redacted())}
		}
		if req.URL.User = nil; secret && (req.URL.Host != base.Host || req.URL.Scheme != base.Scheme) {
			req.Header.Del("Authorization")
		}
		return nil
	}}, nil
}

// tlsConfig believes the system's authorities, and those of Access.CACert.
func tlsConfig(o *Options) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.CACert == "" {
		return config, nil
	}
	pem, err := os.ReadFile(o.CACert)
	if err != nil {
		return nil, fmt.Errorf("certificates of authorities: %w", err)
	}
	if config.RootCAs, err = x509.SystemCertPool(); err != nil {
		config.RootCAs = x509.NewCertPool()
	}
	if !config.RootCAs.AppendCertsFromPEM(pem) {
		return nil, &RefusedError{Reason: fmt.Sprintf("%s holds no certificate in PEM form", o.CACert)}
	}
	return config, nil
}

// proxied dials origins, or the proxies that the environment names (HTTP_PROXY, HTTPS_PROXY, NO_PROXY). The address of a proxy may be
// private: who sets the variable means it. What the proxy dials then is for it to check; all that can be refused here is an address
// that the URL itself names.
type proxied struct {
	o     *Options
	of    func(*url.URL) (*url.URL, error)
	mu    sync.Mutex
	addrs map[string]bool // of proxies
}

func (p *proxied) proxy(req *http.Request) (*url.URL, error) {
	via, err := p.of(req.URL)
	if via == nil || err != nil {
		return via, err
	}
	host := req.URL.Hostname()
	if a, err := netip.ParseAddr(host); err == nil && !p.o.AllowPrivate {
		if err := refusePrivate("", netip.AddrPortFrom(a, 0).String(), nil); err != nil {
			return nil, err
		}
	}
	port := via.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443", "socks5": "1080", "socks5h": "1080"}[via.Scheme]
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.addrs[net.JoinHostPort(via.Hostname(), port)] = true
	return via, nil
}

func (p *proxied) dial(ctx context.Context, network, address string) (net.Conn, error) {
	d := newDialer(p.o)
	p.mu.Lock()
	if p.addrs[address] {
		d.Control = nil
	}
	p.mu.Unlock()
	return d.DialContext(ctx, network, address)
}

// errWithheld says that a server has a file and does not give it. Where nobody knows whether it has one, that is no answer: see [absent].
var errWithheld = fmt.Errorf("it is not given: %w", fs.ErrPermission)

// statusError makes an error of an answer that is none.
func statusError(resp *http.Response) error {
	u, err := resp.Request.URL.Redacted(), error(nil)
	switch code := resp.StatusCode; {
	case code == http.StatusNotFound, code == http.StatusGone:
		return fmt.Errorf("%s: %s: %w", u, resp.Status, ErrGone)
	case code == http.StatusForbidden:
		err = fs.ErrPermission // of this path
	case code == http.StatusBadRequest, code == http.StatusNotAcceptable, code == http.StatusRequestURITooLong, code == http.StatusUnavailableForLegalReasons:
		err = errWithheld // with a name that the server itself cannot take it is a 400
	case code == http.StatusUnauthorized && resp.Request.Response != nil && resp.Request.Response.Request.Header.Get("Authorization") != "" && resp.Request.Header.Get("Authorization") == "":
		from, to := resp.Request.Response.Request.URL, resp.Request.URL
		return &RefusedError{Reason: fmt.Sprintf("%s asks for a user name and a password, and those for %s://%s were not sent there with the redirect: name %s://%s/ as the origin if that is what is meant", u, from.Scheme, from.Host, to.Scheme, to.Host)}
	case code == http.StatusUnauthorized:
		return &RefusedError{Reason: fmt.Sprintf("%s asks for a user name and a password, or does not take those it got: \"machine %s login NAME password WORD\" in ~/.netrc, or the file of --netrc, tells them", u, resp.Request.URL.Hostname())}
	case code == http.StatusProxyAuthRequired:
		return &RefusedError{Reason: u + ": the proxy asks for a user name and a password: HTTP_PROXY=http://NAME:WORD@HOST:PORT tells them"}
	case code == http.StatusTooManyRequests, code == http.StatusTooEarly, code == http.StatusBadGateway, code == http.StatusServiceUnavailable, code == http.StatusGatewayTimeout:
		return fmt.Errorf("%s: %w", u, &BusyError{After: retryAfter(resp), Cause: resp.Status})
	case code >= 500, code == http.StatusRequestTimeout, code == http.StatusMisdirectedRequest:
		return fmt.Errorf("%s answers %s", u, resp.Status)
	default:
		return &RefusedError{Reason: fmt.Sprintf("%s answers %s", u, resp.Status)}
	}
	return fmt.Errorf("%s: %s: %w", u, resp.Status, err)
}

// retryAfter reads Retry-After, in seconds or as a date (RFC 9110, 10.2.3).
func retryAfter(resp *http.Response) time.Duration {
	told := resp.Header.Get("Retry-After")
	if seconds, err := strconv.ParseUint(told, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if t, err := http.ParseTime(told); err == nil {
		return max(t.Sub(dateOf(resp)), 0)
	}
	return 0
}

// inWords says what has become of a request, and makes refusals of errors that trying again does not change: what TLS has against a server, in the words of people.
func inWords(at *url.URL, err error) error {
	var (
		refused *RefusedError
		invalid x509.CertificateInvalidError
		name    x509.HostnameError
		unknown x509.UnknownAuthorityError
		record  tls.RecordHeaderError
	)
	failed, to := (*url.Error)(nil), "" // a redirect may lead elsewhere
	if errors.As(err, &failed) {
		if u, perr := url.Parse(failed.URL); perr == nil && u.Host != at.Host {
			to = "redirected to " + u.Host + ": "
			at = u
		}
	}
	refuse := func(format string, args ...any) error {
		return &RefusedError{Reason: at.Host + ": " + fmt.Sprintf(format, args...)}
	}
	switch {
	case errors.As(err, &refused): // without the URL around it: a redirect may have a password in it
		return fmt.Errorf("%s%w", to, refused)
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired && invalid.Cert != nil && time.Now().Before(invalid.Cert.NotBefore):
		return refuse("its certificate is valid only from %s on: is the clock here right?", invalid.Cert.NotBefore.Format(time.DateTime))
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired && invalid.Cert != nil:
		return refuse("its certificate expired at %s: who runs it has to renew it", invalid.Cert.NotAfter.Format(time.DateTime))
	case errors.As(err, &invalid):
		return refuse("its certificate is not valid: %v", invalid)
	case errors.As(err, &name):
		names := slices.Clone(name.Certificate.DNSNames)
		for _, ip := range name.Certificate.IPAddresses {
			names = append(names, ip.String())
		}
		if len(names) == 0 {
			return refuse("its certificate is for no host at all: who runs it has to make one with a subjectAltName")
		}
		return refuse("its certificate is for other names (%s): use one of them in the URL", strings.Join(shortList(names), ", "))
	case errors.As(err, &unknown):
		return refuse("its certificate is signed by an authority unknown here: if it is your own, name it with --ca-cert FILE")
	case errors.As(err, &record):
		return refuse("there is no TLS at this port: is it http:// or another port?")
	case strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		return refuse("it speaks plain HTTP at this port: say http://, or another port")
	case failed != nil: // without the URL, which the caller names
		return fmt.Errorf("%s%w", to, failed.Err)
	}
	return err
}

// shortList is enough of a list to read.
func shortList(names []string) []string {
	const enough = 5
	if len(names) > enough {
		return append(names[:enough:enough], "…")
	}
	return names
}
