package gateway

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quic-go/quic-go/http3"
)

// TestSlowConn lets readers of different speed take a large answer through a pipe, which has no buffer.
func TestSlowConn(t *testing.T) {
	cases := []struct {
		name   string
		bps    int
		pause  time.Duration // of the writer, between its writes
		writes int
		want   error
	}{
		{"too slow", 900, 0, 10, errSlow},
		{"nothing is read", 0, 0, 10, errSlow},
		{"just fast enough", 1100, 0, 10, nil},
		{"the gateway waits for peers", 5000, time.Minute, 5, nil},
	}
	for _, c := range cases {
		synctest.Test(t, func(t *testing.T) {
			reader, writer := net.Pipe()
			var slow atomic.Uint64
			w := &conn{Conn: writer, leave: func() {}, slow: &slow}
			done := make(chan struct{})
			go func() {
				defer close(done)
				buf := make([]byte, 100)
				for c.bps > 0 {
					n, err := reader.Read(buf)
					if err != nil {
						return
					}
					time.Sleep(time.Duration(n) * time.Second / time.Duration(c.bps))
				}
			}()
			var err error
			for range c.writes {
				if _, err = w.Write(make([]byte, 40_000)); err != nil {
					break
				}
				time.Sleep(c.pause)
			}
			if !errors.Is(err, c.want) || slow.Load() != map[bool]uint64{true: 1}[c.want != nil] {
				t.Errorf("%s: %v, %d counted as slow, want %v", c.name, err, slow.Load(), c.want)
			}
			w.Close()
			<-done
			reader.Close()
		})
	}
}

// stream is the writer of a stream whose client never reads.
type stream struct {
	http.ResponseWriter
	late chan struct{}
}

func (s *stream) Header() http.Header { return http.Header{} }
func (s *stream) WriteHeader(int)     {}
func (s *stream) Write(p []byte) (int, error) {
	<-s.late
	return 0, os.ErrDeadlineExceeded
}
func (s *stream) SetWriteDeadline(at time.Time) error {
	if at.Before(time.Now()) {
		close(s.late)
	}
	return nil
}

func TestSlowStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var slow atomic.Uint64
		w := newResponse(&stream{late: make(chan struct{})}, &http.Request{ProtoMajor: 2}, &slow)
		time.Sleep(2 * slowWindow) // the gateway waits for peers: that is not the client's fault
		began := time.Now()
		if _, err := w.Write(make([]byte, 1<<20)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != slowWindow || slow.Load() != 1 {
			t.Errorf("%v after %v, %d counted", err, time.Since(began), slow.Load())
		}
		w.end(false)
	})
}

// numbers gives a file in which each place is different.
func numbers(t testing.TB, size int) (*os.File, []byte) {
	t.Helper()
	data := make([]byte, 0, size+16)
	for i := 0; len(data) < size; i++ {
		data = fmt.Appendf(data, "%d,", i)
	}
	data = data[:size]
	name := filepath.Join(t.TempDir(), "numbers")
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f, data
}

// TestFilePart sends parts of one open file to many clients at once: they do not disturb each other, and the kernel does it.
func TestFilePart(t *testing.T) {
	t.Parallel()
	f, data := numbers(t, 3<<20)
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, ok := w.(io.ReaderFrom); !ok {
			t.Error("what is around the response hides ReadFrom")
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(data)-1000))
		io.Copy(w, &filePart{file: f, offset: 1000, left: int64(len(data)) - 1000})
	})
	certFile, keyFile := pairFor(t, t.TempDir(), "gateway")
	for _, cfg := range []ServerConfig{{Handler: handler}, {Handler: handler, CertFile: certFile, KeyFile: keyFile}} {
		s, _ := run(t, cfg)
		results := make(chan error)
		for range 8 {
			go func() {
				results <- func() error {
					resp, err := trusting().Get(s.URL())
					if err != nil {
						return err
					}
					defer resp.Body.Close()
					got, err := io.ReadAll(resp.Body)
					if !bytes.Equal(got, data[1000:]) {
						return fmt.Errorf("%d bytes that differ from the %d of the file: %v", len(got), len(data)-1000, err)
					}
					return nil
				}()
			}()
		}
		for range 8 {
			if err := <-results; err != nil {
				t.Error(err)
			}
		}
	}
}

// TestShortFile breaks the answer off when the file is shorter than promised, and does not fill it up.
func TestShortFile(t *testing.T) {
	f, data := numbers(t, 100_000)
	s, _ := run(t, ServerConfig{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(2*len(data)))
		if _, err := io.Copy(w, &filePart{file: f, left: int64(2 * len(data))}); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("sending gave %v", err)
		}
		panic(http.ErrAbortHandler)
	})})
	resp, err := http.Get(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got, err := io.ReadAll(resp.Body); err == nil || len(got) > len(data) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// TestAcknowledged looks at what the kernel says that the other side has.
func TestAcknowledged(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux tells")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	out, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	in, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	before := acknowledged(out)
	if _, err := out.Write(make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(in, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	// The acknowledgement of the last bytes comes with the answer.
	in.Write([]byte("!"))
	io.ReadFull(out, make([]byte, 1))
	if got := acknowledged(out) - before; got != 1000 {
		t.Errorf("%d bytes acknowledged, want 1000", got)
	}
}

// segments counts what is written to a connection, and how long it is.
type segments struct {
	net.Conn
	mu      sync.Mutex
	lengths []int
}

func (c *segments) Write(p []byte) (int, error) {
	c.mu.Lock()
	c.lengths = append(c.lengths, len(p))
	c.mu.Unlock()
	return c.Conn.Write(p)
}

// TestOnePiece looks at what a client gets in one write: a small answer whole, a large one as it comes, and what was flushed before
// the handler waits.
func TestOnePiece(t *testing.T) {
	waiting := make(chan struct{})
	s, err := Listen(ServerConfig{Listen: "127.0.0.1:0", Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var size int
		fmt.Sscanf(r.URL.Path, "/%d", &size)
		w.Header().Set("Content-Length", fmt.Sprint(size))
		if r.Method == http.MethodHead {
			return
		}
		half := size / 2
		w.Write(bytes.Repeat([]byte("a"), half))
		if r.URL.RawQuery == "wait" {
			if err := http.NewResponseController(w).Flush(); err != nil {
				t.Error(err)
			}
			<-waiting
		}
		w.Write(bytes.Repeat([]byte("b"), size-half))
	})})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	l := &pipeListener{conns: make(chan net.Conn)}
	done := make(chan struct{})
	go func() { defer close(done); s.http.Serve(l) }()
	ours, theirs := net.Pipe()
	counted := &segments{Conn: theirs}
	l.conns <- &conn{Conn: counted, leave: func() {}, slow: new(atomic.Uint64)}
	in := bufio.NewReader(ours)
	cases := []struct {
		method, target string
		size, writes   int
	}{
		{"GET", "/10", 10, 1}, {"GET", "/4096", 4096, 1}, {"GET", "/30000", 30000, 1}, {"HEAD", "/10", 0, 1}, {"GET", "/100000", 100000, 0}, {"GET", "/4096?wait", 4096, 2},
	}
	for _, c := range cases {
		counted.mu.Lock()
		counted.lengths = nil
		counted.mu.Unlock()
		fmt.Fprintf(ours, "%s %s HTTP/1.1\r\nHost: x\r\n\r\n", c.method, c.target)
		resp, err := http.ReadResponse(in, &http.Request{Method: c.method})
		if err != nil {
			t.Fatal(err)
		}
		var body []byte
		if strings.HasSuffix(c.target, "?wait") {
			body = make([]byte, c.size/2)
			io.ReadFull(resp.Body, body) // comes although the handler goes on only now
			close(waiting)
		}
		rest, err := io.ReadAll(resp.Body)
		body = append(body, rest...)
		want := strings.Repeat("a", c.size/2) + strings.Repeat("b", c.size-c.size/2)
		if err != nil || string(body) != want {
			t.Errorf("%s %s: %d bytes, %v, want %d", c.method, c.target, len(body), err, c.size)
		}
		counted.mu.Lock()
		if n := len(counted.lengths); c.writes != 0 && n != c.writes {
			t.Errorf("%s %s: writes of %v bytes, want %d", c.method, c.target, counted.lengths, c.writes)
		}
		counted.mu.Unlock()
	}
	ours.Close()
	close(l.conns)
	<-done
	s.http.Close()
}

// TestOneRelease asks twice over one connection while a release comes between, and then over another one.
func TestOneRelease(t *testing.T) {
	t.Parallel()
	certFile, keyFile := pairFor(t, t.TempDir(), "gateway")
	for _, version := range []int{1, 2, 3} {
		f, src := newFake(t)
		f.publish(t, src, 1, file{Path: "index", Data: "old"})
		s, stop := run(t, ServerConfig{Handler: New(Config{Catalogue: f}), CertFile: certFile, KeyFile: keyFile})
		client := func() http.RoundTripper {
			config := &tls.Config{InsecureSkipVerify: true}
			if version == 3 {
				h3 := &http3.Transport{TLSClientConfig: config}
				t.Cleanup(func() { h3.Close() })
				return h3
			}
			tr := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: version == 2}
			t.Cleanup(tr.CloseIdleConnections)
			return tr
		}
		first := client()
		for i, want := range []string{"old", "old", "new"} {
			from := first
			if i == 2 {
				from = client()
			}
			if resp, got := fetch(t, from, get(t, s.URL()+"test/index")); got != want || resp.ProtoMajor != version {
				t.Errorf("HTTP/%d: answer %d is %q, want %q", resp.ProtoMajor, i, got, want)
			}
			if i == 0 {
				f.publish(t, src, 2, file{Path: "index", Data: "new"})
			}
		}
		if st := s.Stats(); len(st.Collections) != 1 || st.Collections[0] != (ServedCounts{ID: testID, Requests: 3, Bytes: 9}) {
			t.Errorf("HTTP/%d: counted %+v", version, st.Collections)
		}
		first.(interface{ CloseIdleConnections() }).CloseIdleConnections()
		stop()
	}
}
