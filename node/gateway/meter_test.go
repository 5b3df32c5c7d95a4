package gateway

import (
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go/http3"
)

// fakeLimit grants little at a time and counts it.
type fakeLimit struct {
	sent   atomic.Int64
	asked  atomic.Int64
	closed atomic.Bool
	full   chan struct{} // not nil: whoever asks waits for ever
}

func (l *fakeLimit) Send(ctx context.Context, to netip.Addr, n int) (int, error) {
	if to != netip.MustParseAddr("127.0.0.1") {
		panic("bytes for " + to.String())
	}
	if l.full != nil {
		l.asked.Add(1)
		<-ctx.Done()
		close(l.full)
		return 0, context.Cause(ctx)
	}
	n = min(n, 10_000)
	l.sent.Add(int64(n))
	l.asked.Add(1)
	return n, nil
}

func (l *fakeLimit) Closed(netip.Addr) (time.Duration, bool) { return time.Minute, l.closed.Load() }

// TestMeter: every byte of an answer is asked for and no more, in HTTP/1.1 with a file that the kernel sends, and in all other
// protocols.
func TestMeter(t *testing.T) {
	const size = 300_000
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, make([]byte, size), 0o600); err != nil {
		t.Fatal(err)
	}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f, err := os.Open(name)
		if err != nil {
			t.Error(err)
			return
		}
		defer f.Close()
		if n, err := io.Copy(w, &filePart{file: f, left: size}); n != size || err != nil {
			t.Errorf("%s: sent %d, %v", r.Proto, n, err)
		}
	})
	limit := &fakeLimit{}
	certFile, keyFile := pairFor(t, t.TempDir(), "gateway")
	plain, _ := run(t, ServerConfig{Handler: handler, Limit: limit})
	secure, _ := run(t, ServerConfig{Handler: handler, Limit: limit, CertFile: certFile, KeyFile: keyFile})
	trusting := &tls.Config{InsecureSkipVerify: true}
	h1, h2 := &http.Transport{}, &http.Transport{TLSClientConfig: trusting.Clone(), ForceAttemptHTTP2: true}
	h3 := &http3.Transport{TLSClientConfig: trusting.Clone()}
	defer h1.CloseIdleConnections()
	defer h2.CloseIdleConnections()
	defer h3.Close()
	for want, c := range map[string]struct {
		rt  http.RoundTripper
		url string
	}{"HTTP/1.1": {h1, plain.URL()}, "HTTP/2.0": {h2, secure.URL()}, "HTTP/3.0": {h3, secure.URL()}} {
		limit.closed.Store(false)
		before, asked := limit.sent.Load(), limit.asked.Load()
		resp, body := fetch(t, c.rt, get(t, c.url))
		sent := limit.sent.Load() - before
		if resp.Proto != want || len(body) != size || sent < size || sent > size+size/10 || limit.asked.Load()-asked < size/10_000 {
			t.Errorf("%s: %d bytes came by %s, %d were asked for in %d pieces", want, len(body), resp.Proto, sent, limit.asked.Load()-asked)
		}
		limit.closed.Store(true)
		resp, _ = fetch(t, c.rt, get(t, c.url))
		if resp.StatusCode != 503 || resp.Header.Get("Retry-After") != "60" {
			t.Errorf("%s with nothing left: %s, %v", want, resp.Status, resp.Header)
		}
	}
}

// TestMeterCuts: an answer that is under way when the month is used up is broken off, not ended as if it were whole.
func TestMeterCuts(t *testing.T) {
	limit := &fakeLimit{}
	s, _ := run(t, ServerConfig{Limit: limit, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for range 2 {
			if _, err := w.Write(make([]byte, 1000)); err != nil {
				panic(http.ErrAbortHandler)
			}
			limit.closed.Store(true)
		}
	})})
	resp, err := http.DefaultTransport.RoundTrip(get(t, s.URL()))
	if err == nil {
		defer resp.Body.Close()
		_, err = io.ReadAll(resp.Body)
	}
	if err == nil {
		t.Error("the answer was whole")
	}
}

// TestMeterStops: who waits to send does not hold up the end of the server.
func TestMeterStops(t *testing.T) {
	t.Parallel()
	limit := &fakeLimit{full: make(chan struct{})}
	s, stop := run(t, ServerConfig{Handler: say("hello"), Limit: limit})
	go func() {
		if resp, err := http.DefaultTransport.RoundTrip(get(t, s.URL())); err == nil {
			resp.Body.Close()
		}
	}()
	for limit.asked.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	stop()
	select {
	case <-limit.full:
	case <-time.After(10 * time.Second):
		t.Error("it still waits")
	}
}
