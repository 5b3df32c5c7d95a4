package gateway

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go/http3"
)

var errStopped = errors.New("the test is over")

// run starts a server and gives it with what stops it and waits for it.
func run(t testing.TB, cfg ServerConfig) (*Server, func()) {
	t.Helper()
	if cfg.Listen == "" {
		cfg.Listen = "127.0.0.1:0"
	}
	s, err := Listen(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(context.Background()) // t.Context() ends before the cleanup
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel(errStopped)
		if err := <-done; !errors.Is(err, errStopped) {
			t.Errorf("Run ended with %v, want the cause of its context", err)
		}
	})
	t.Cleanup(stop)
	return s, stop
}

// pairFor writes a certificate for 127.0.0.1 with this name and its key, and gives the files.
func pairFor(t testing.TB, dir, name string) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key")
	for file, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: cert}, keyFile: {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certFile, keyFile
}

func say(text string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, text) })
}

// fetch gives the answer with its body read.
func fetch(t testing.TB, rt http.RoundTripper, req *http.Request) (*http.Response, string) {
	t.Helper()
	resp, err := rt.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func get(t testing.TB, url string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

func TestProtocols(t *testing.T) {
	certFile, keyFile := pairFor(t, t.TempDir(), "gateway")
	s, _ := run(t, ServerConfig{Handler: say("hello"), CertFile: certFile, KeyFile: keyFile})
	if !strings.HasPrefix(s.URL(), "https://127.0.0.1:") {
		t.Errorf("URL %s", s.URL())
	}
	trusting := &tls.Config{InsecureSkipVerify: true}
	h1 := &http.Transport{TLSClientConfig: trusting.Clone(), TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{}}
	h2 := &http.Transport{TLSClientConfig: trusting.Clone(), ForceAttemptHTTP2: true}
	h3 := &http3.Transport{TLSClientConfig: trusting.Clone()}
	defer h1.CloseIdleConnections()
	defer h2.CloseIdleConnections()
	defer h3.Close()
	for want, rt := range map[string]http.RoundTripper{"HTTP/1.1": h1, "HTTP/2.0": h2, "HTTP/3.0": h3} {
		resp, body := fetch(t, rt, get(t, s.URL()))
		if resp.Proto != want || body != "hello" {
			t.Errorf("%s answered with %q, want %s", resp.Proto, body, want)
		}
		_, port, _ := net.SplitHostPort(s.Addr())
		if got, want := resp.Header.Get("Alt-Svc"), `h3=":`+port+`"; ma=86400`; (got == want) == (resp.ProtoMajor == 3) {
			t.Errorf("%s: Alt-Svc %q, want %q below HTTP/3 only", resp.Proto, got, want)
		}
	}
}

func TestPlain(t *testing.T) {
	s, _ := run(t, ServerConfig{Handler: say("hello")})
	resp, body := fetch(t, http.DefaultTransport, get(t, s.URL()))
	if body != "hello" || resp.Header.Get("Alt-Svc") != "" {
		t.Errorf("%q, %v", body, resp.Header)
	}
	if st := s.Stats(); st.Answers[2] != 1 || st.Bytes != 5 {
		t.Errorf("%+v", st)
	}
}

func TestListen(t *testing.T) {
	first, err := Listen(ServerConfig{Handler: say("")})
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	second, err := Listen(ServerConfig{Handler: say("")})
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if note := second.Note(); !strings.Contains(note, DefaultListen) || !strings.Contains(note, second.Addr()) {
		t.Errorf("note %q", note)
	}
	_, err = Listen(ServerConfig{Handler: say(""), Listen: second.Addr()})
	if err == nil || !strings.Contains(err.Error(), "another program has the port: stop that one, or take another port") {
		t.Errorf("a taken address: %v", err)
	}
	if _, err := Listen(ServerConfig{Handler: say(""), Listen: "127.0.0.1:0", CertFile: "x"}); err == nil || !strings.Contains(err.Error(), "give both files or none") {
		t.Errorf("a certificate alone: %v", err)
	}
	if _, err := Listen(ServerConfig{Handler: say(""), Listen: "127.0.0.1:0", CertFile: "x", KeyFile: "y"}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("files that are not there: %v", err)
	}
}

func TestURL(t *testing.T) {
	for listen, want := range map[string]string{"127.0.0.1:0": "http://127.0.0.1:", "0.0.0.0:0": "http://127.0.0.1:", ":0": "http://127.0.0.1:", "[::1]:0": "http://[::1]:"} {
		s, err := Listen(ServerConfig{Handler: say(""), Listen: listen})
		if err != nil {
			t.Errorf("%s: %v", listen, err)
			continue
		}
		if got := s.URL(); !strings.HasPrefix(got, want) || !strings.HasSuffix(got, "/") {
			t.Errorf("listen %s: URL %s, want %s…/", listen, got, want)
		}
		s.Close()
	}
}

// TestStop ends a server while a client reads without end and another does nothing.
func TestStop(t *testing.T) {
	t.Parallel()
	certFile, keyFile := pairFor(t, t.TempDir(), "gateway")
	begun := make(chan struct{}, 3)
	endless := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		begun <- struct{}{}
		for {
			if _, err := w.Write(make([]byte, 1<<16)); err != nil {
				return
			}
		}
	})
	s, stop := run(t, ServerConfig{Handler: endless, CertFile: certFile, KeyFile: keyFile})
	idle, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	trusting := &tls.Config{InsecureSkipVerify: true}
	h2 := &http.Transport{TLSClientConfig: trusting.Clone(), ForceAttemptHTTP2: true}
	h3 := &http3.Transport{TLSClientConfig: trusting.Clone()}
	defer h3.Close()
	var readers sync.WaitGroup
	for _, rt := range []http.RoundTripper{h2, h3} {
		resp, err := rt.RoundTrip(get(t, s.URL()))
		if err != nil {
			t.Fatal(err)
		}
		<-begun
		readers.Go(func() {
			defer resp.Body.Close()
			if _, err := io.Copy(io.Discard, resp.Body); err == nil {
				t.Error("an endless answer ended as if it were whole")
			}
		})
	}
	stop()
	readers.Wait()
	if n := s.Stats().Requests; n != 0 {
		t.Errorf("%d requests run on", n)
	}
}
