package origin

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// tried opens one file and gives what came, or the error.
func tried(t *testing.T, rawURL, p string, o Options) (string, error) {
	t.Helper()
	t.Setenv("HOME", t.TempDir())
	opened, err := Open(t.Context(), rawURL, o)
	if err != nil {
		return "", err
	}
	defer opened.Close()
	b, err := opened.Open(t.Context(), Entry{Path: p}, 0, "")
	if err != nil {
		return "", err
	}
	defer b.Close()
	data, err := io.ReadAll(b)
	return string(data), err
}

// refusal fails the test unless err is final and has the words.
func refusal(t *testing.T, what string, err error, words ...string) {
	t.Helper()
	refused := (*RefusedError)(nil)
	if !errors.As(err, &refused) || !final(err) {
		t.Errorf("%s: %v, want a refusal", what, err)
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%s: %v, want %q in it", what, err, w)
		}
	}
}

func TestHTTPRedirects(t *testing.T) {
	t.Setenv("HTTP_PROXY", "")
	var other *httptest.Server
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		auth := r.Header.Get("Authorization") != ""
		switch r.URL.Path {
		case "/ten":
			n := len(r.URL.RawQuery)
			if n < maxRedirects-1 {
				http.Redirect(w, r, "/ten?"+strings.Repeat("x", n+1), http.StatusFound)
				return
			}
		case "/circle":
			http.Redirect(w, r, "/circle", http.StatusFound)
		case "/other":
			http.Redirect(w, r, other.URL+"/x", http.StatusMovedPermanently)
		case "/ftp":
			http.Redirect(w, r, "ftp://example.org/x", http.StatusFound)
		case "/plain":
			http.Redirect(w, r, "http://me:secret@example.org/x", http.StatusFound)
		}
		if auth {
			io.WriteString(w, "with a password")
		}
	})
	server, secure := httptest.NewServer(handler), httptest.NewTLSServer(handler)
	other = httptest.NewServer(handler)
	for _, s := range []*httptest.Server{server, other, secure} {
		defer s.Close()
	}
	o := Options{AllowPrivate: true}
	at := strings.Replace(server.URL, "http://", "http://me:secret@", 1)
	if got, err := tried(t, at, "ten", o); err != nil || got != "with a password" {
		t.Errorf("redirects on the same host: %q, %v", got, err)
	}
	if got, err := tried(t, at, "other", o); err != nil || got != "" {
		t.Errorf("a redirect to another host: %q, %v", got, err)
	}
	_, err := tried(t, at, "circle", o)
	refusal(t, "a circle", err, "more than 10 redirects")
	_, err = tried(t, at, "ftp", o)
	refusal(t, "another scheme", err, "a redirect to ftp://example.org/x is not followed")
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	o.CACert = ca
	if _, err := tried(t, secure.URL, "x", o); err != nil {
		t.Errorf("with the certificate of its authority: %v", err)
	}
	_, err = tried(t, secure.URL, "plain", o)
	refusal(t, "from HTTPS to HTTP", err, "a redirect from HTTPS to http://", "is not followed")
	if strings.Contains(err.Error(), "secret") {
		t.Errorf("a password in an error: %v", err)
	}
}

func TestHTTPPrivate(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "a printer") }))
	defer server.Close()
	got, err := tried(t, server.URL, "x", Options{})
	if got != "" {
		t.Errorf("%q", got)
	}
	refusal(t, "an address of this machine", err, "127.0.0.1 is a private address", "--allow-private")
	port := server.URL[strings.LastIndexByte(server.URL, ':'):]
	_, err = tried(t, "http://localhost"+port, "x", Options{})
	refusal(t, "a name for it", err, "is a private address")

	// A proxy of the environment may be on this machine; what it is asked for may not, as far as the URL tells.
	asked := make(chan string, 1)
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.URL.String()
		io.WriteString(w, "by the proxy")
	}))
	defer proxy.Close()
	t.Setenv("HTTP_PROXY", proxy.URL)
	t.Setenv("NO_PROXY", "")
	got, err = tried(t, "http://origin.example/", "a b", Options{})
	if err != nil || got != "by the proxy" || <-asked != "http://origin.example/a%20b" {
		t.Errorf("%q, %v", got, err)
	}
	_, err = tried(t, "http://192.168.1.1/", "x", Options{})
	refusal(t, "a private address behind a proxy", err, "192.168.1.1 is a private address")
}

func TestHTTPLogin(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		if user != "ann" || password != "s3cret/@" {
			w.WriteHeader(http.StatusUnauthorized)
		}
		io.WriteString(w, "in")
	}))
	defer server.Close()
	o := Options{AllowPrivate: true}
	if got, err := tried(t, strings.Replace(server.URL, "//", "//ann:s3cret%2F%40@", 1), "x", o); err != nil || got != "in" {
		t.Errorf("by the URL: %q, %v", got, err)
	}
	_, err := tried(t, strings.Replace(server.URL, "//", "//ann:wr0ng@", 1), "x", o)
	refusal(t, "a wrong password", err, "asks for a user name and a password", "machine 127.0.0.1 login NAME")
	if strings.Contains(err.Error(), "wr0ng") {
		t.Errorf("the password is in the error: %v", err)
	}
	other := httptest.NewServer(http.RedirectHandler(server.URL+"/x", http.StatusFound))
	defer other.Close()
	_, err = tried(t, strings.Replace(other.URL, "//", "//ann:s3cret%2F%40@", 1), "x", o)
	refusal(t, "a redirect to where a password is wanted", err, "not sent there", "name "+server.URL+"/ as the origin")
	o.Netrc = filepath.Join(t.TempDir(), "netrc")
	if err := os.WriteFile(o.Netrc, []byte("machine 127.0.0.1 login ann password s3cret/@"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := tried(t, server.URL, "x", o); err != nil || got != "in" {
		t.Errorf("by netrc: %q, %v", got, err)
	}
}

// certificate makes one that signs itself.
func certificate(t *testing.T, change func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature}
	change(c)
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func TestHTTPTLS(t *testing.T) {
	for _, c := range []struct {
		name    string
		change  func(*x509.Certificate)
		unknown bool
		want    string
	}{
		{"good", func(*x509.Certificate) {}, false, ""},
		{"expired", func(c *x509.Certificate) {
			c.NotAfter = time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)
			c.NotBefore = c.NotAfter.Add(-time.Hour)
		}, false, "its certificate expired at 2020-01-02 03:04:05"},
		{"not yet", func(c *x509.Certificate) {
			c.NotBefore = time.Date(2050, 1, 2, 3, 4, 5, 0, time.UTC)
			c.NotAfter = c.NotBefore.Add(time.Hour)
		}, false, "valid only from 2050-01-02 03:04:05 on: is the clock here right?"},
		{"another name", func(c *x509.Certificate) { c.IPAddresses = nil; c.DNSNames = []string{"mirror.example"} }, false, "is for other names (mirror.example)"},
		{"unknown authority", func(*x509.Certificate) {}, true, "signed by an authority unknown here: if it is your own, name it with --ca-cert"},
	} {
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "in") }))
		server.Config.ErrorLog = log.New(io.Discard, "", 0)
		cert := certificate(t, c.change)
		server.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
		server.EnableHTTP2 = true
		server.StartTLS()
		o := Options{AllowPrivate: true}
		if !c.unknown {
			o.CACert = filepath.Join(t.TempDir(), "ca.pem")
			if err := os.WriteFile(o.CACert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]}), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		got, err := tried(t, server.URL, "x", o)
		if c.want == "" {
			if err != nil || got != "in" {
				t.Errorf("%s: %q, %v", c.name, got, err)
			}
		} else {
			refusal(t, c.name, err, c.want, "127.0.0.1:")
		}
		server.Close()
	}
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	_, err := tried(t, strings.Replace(plain.URL, "http:", "https:", 1), "x", Options{AllowPrivate: true})
	refusal(t, "HTTP where TLS is spoken", err, "plain HTTP")
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = tried(t, plain.URL, "x", Options{Access: Access{CACert: empty}})
	refusal(t, "a file without a certificate", err, "no certificate in PEM form")
	if _, err = tried(t, plain.URL, "x", Options{Access: Access{CACert: empty + "x"}}); err == nil {
		t.Error("a file of certificates that is not there")
	}
}

func TestHTTPURL(t *testing.T) {
	w := &web{base: &url.URL{Scheme: "http", Host: "h", Path: "/a b/", RawPath: "/a%20b/"}}
	for p, want := range map[string]string{
		"":                    "http://h/a%20b/",
		"x/y z":               "http://h/a%20b/x/y%20z",
		"a+b%c?d#e;f&g=h'i\"": "http://h/a%20b/a%2Bb%25c%3Fd%23e%3Bf&g=h%27i%22",
		"ü:@~":                "http://h/a%20b/%C3%BC:@~",
		"C:/x":                "http://h/a%20b/C:/x",
	} {
		if got := w.at(p).String(); got != want {
			t.Errorf("%q: %s, want %s", p, got, want)
		}
	}
	for _, raw := range []string{"http://h/?x", "http://h/#x", "http://h/?"} {
		_, err := Open(t.Context(), raw, Options{})
		refusal(t, raw, err, "without ? and #")
	}
}
