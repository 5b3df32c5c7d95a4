package gateway

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestLimiter(t *testing.T) {
	addr := func(s string) net.Addr { return net.TCPAddrFromAddrPort(mustAddrPort(t, s)) }
	l := newLimiter(4, 2)
	cases := []struct {
		from string
		ok   bool
	}{
		{"192.0.2.1:1", true}, {"192.0.2.1:2", true}, {"[::ffff:192.0.2.1]:3", false},
		{"[2001:db8::1]:1", true}, {"[2001:db8::ffff]:1", true}, {"[2001:db8:0:1::1]:1", false}, // the last: too many in all
	}
	var leave func()
	for _, c := range cases {
		left, ok := l.enter(addr(c.from))
		if ok != c.ok {
			t.Errorf("%s let in: %v, want %v", c.from, ok, c.ok)
		}
		if ok {
			leave = left
		}
	}
	if !l.busy() {
		t.Error("full and not busy")
	}
	leave()
	leave() // a connection may be closed twice
	if _, ok := l.enter(addr("192.0.2.1:4")); ok {
		t.Error("a third from one address")
	}
	if _, ok := l.enter(addr("[2001:db8::2]:4")); !ok {
		t.Error("not let in after one had left")
	}
	if l.refused != 3 || l.all != 4 {
		t.Errorf("%d refused, %d in, want 3 and 4", l.refused, l.all)
	}
	def := newLimiter(0, 0)
	for i := range defaultConnsPerAddress + 1 {
		if _, ok := def.enter(addr("127.0.0.1:1")); !ok {
			t.Fatalf("this machine was refused at %d", i)
		}
		if _, ok := def.enter(addr("192.0.2.1:1")); ok != (i < defaultConnsPerAddress) {
			t.Fatalf("connection %d of an address: %v", i, ok)
		}
	}
}

// exchange sends text over a connection and gives all that comes back.
func exchange(t testing.TB, address, text string) string {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(30 * time.Second)) // a hang fails, nothing else
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(c)
	if err != nil {
		t.Fatalf("%v after %q", err, answer)
	}
	return string(answer)
}

func TestTooManyConnections(t *testing.T) {
	s, _ := run(t, ServerConfig{Handler: say("hello"), ConnsPerAddress: 1})
	first, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	io.WriteString(first, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	r := bufio.NewReader(first)
	resp, err := http.ReadResponse(r, nil)
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("%v, %v", resp, err)
	}
	io.Copy(io.Discard, resp.Body)
	answer := exchange(t, s.Addr(), "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	refused, err := http.ReadResponse(bufio.NewReader(strings.NewReader(answer)), nil)
	if err != nil {
		t.Fatalf("%v in %q", err, answer)
	}
	body, err := io.ReadAll(refused.Body)
	if err != nil || refused.StatusCode != 503 || refused.Header.Get("Retry-After") == "" || !bytes.Contains(body, []byte("try again")) {
		t.Errorf("%v, %v, %q", err, refused, body)
	}
	if n := s.Stats().Refused; n != 1 {
		t.Errorf("%d refused", n)
	}
}

func TestRequests(t *testing.T) {
	methods := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if b, err := io.ReadAll(r.Body); len(b) > 0 || err != nil {
			t.Errorf("the handler saw a body: %q, %v", b, err)
		}
		io.WriteString(w, r.Method)
	})
	s, _ := run(t, ServerConfig{Handler: methods})
	cases := []struct{ name, request, want string }{
		{"a header that is long", "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nRange: bytes=" + strings.Repeat("1-1,", 15<<10/4) + "1-1\r\n\r\n", "HTTP/1.1 200 "},
		{"a header that is too long", "GET / HTTP/1.1\r\nHost: x\r\nCookie: " + strings.Repeat("x", 21<<10) + "\r\n\r\n", "HTTP/1.1 431 "},
		{"GET with a body", "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", "HTTP/1.1 413 "},
		{"GET with a body in parts", "GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", "HTTP/1.1 413 "},
		{"a large POST", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\nExpect: 100-continue\r\n\r\n", "HTTP/1.1 200 "},
		{"an empty body", "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", "HTTP/1.1 200 "},
	}
	for _, c := range cases {
		if got := exchange(t, s.Addr(), c.request); !strings.HasPrefix(got, c.want) {
			t.Errorf("%s: %.60q, want %s", c.name, got, c.want)
		}
	}
}

// TestPipelined sends ten requests at once, as apt does; they are answered in order.
func TestPipelined(t *testing.T) {
	s, _ := run(t, ServerConfig{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.URL.Path) })})
	var all strings.Builder
	for i := range 10 {
		fmt.Fprintf(&all, "GET /%d HTTP/1.1\r\nHost: x\r\nConnection: %s\r\n\r\n", i, map[bool]string{true: "close", false: "keep-alive"}[i == 9])
	}
	r := bufio.NewReader(strings.NewReader(exchange(t, s.Addr(), all.String())))
	for i := range 10 {
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		if body, err := io.ReadAll(resp.Body); err != nil || string(body) != fmt.Sprintf("/%d", i) {
			t.Errorf("answer %d is %q, %v", i, body, err)
		}
	}
}

// pipeListener hands out one side of pipes, so that timeouts pass at once in a bubble.
type pipeListener struct{ conns chan net.Conn }

func (l *pipeListener) Accept() (net.Conn, error) {
	c, ok := <-l.conns
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}
func (l *pipeListener) Close() error   { return nil }
func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{} }

func TestTimeouts(t *testing.T) {
	cases := []struct {
		name, send string
		want       time.Duration
	}{
		{"nothing is sent", "", headerTimeout},
		{"half a header", "GET / HTTP/1.1\r\nHo", headerTimeout},
		{"nothing after a request", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", idleTimeout},
	}
	for _, c := range cases {
		synctest.Test(t, func(t *testing.T) {
			s, err := Listen(ServerConfig{Handler: say("hello"), Listen: "127.0.0.1:0"})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			l := &pipeListener{conns: make(chan net.Conn)}
			done := make(chan struct{})
			go func() { defer close(done); s.http.Serve(l) }()
			ours, theirs := net.Pipe()
			l.conns <- theirs
			began := time.Now()
			go io.WriteString(ours, c.send)
			io.Copy(io.Discard, ours)
			if took := time.Since(began); took != c.want {
				t.Errorf("%s: closed after %v, want %v", c.name, took, c.want)
			}
			ours.Close()
			close(l.conns)
			<-done
			s.http.Close()
		})
	}
}

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

// TestSlowClients has 2,000 clients that ask for a large file and do not read it.
func TestSlowClients(t *testing.T) {
	if testing.Short() {
		t.Skip("4,000 sockets")
	}
	const clients = 2000
	// What a client may cost in this process, with its own side of the connection. Measured 56 KiB, of which net/http holds 32 as a
	// buffer that sendfile leaves unused.
	const each = 96 << 10
	f, data := numbers(t, 8<<20)
	begun := make(chan struct{}, clients)
	s, stop := run(t, ServerConfig{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		begun <- struct{}{}
		io.Copy(w, &filePart{file: f, left: int64(len(data))})
	})})
	before := inUse()
	var conns []net.Conn
	for range clients {
		c, err := net.Dial("tcp", s.Addr())
		if err != nil {
			t.Fatalf("client %d: %v", len(conns), err)
		}
		defer c.Close()
		if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
	}
	for range clients {
		<-begun
	}
	grown := inUse() - before
	t.Logf("%d clients: %d KiB each", clients, grown/clients>>10)
	if grown > clients*each {
		t.Errorf("%d slow clients take %d MiB, want at most %d", clients, grown>>20, clients*each>>20)
	}
	if n := s.Stats().Requests; n != clients {
		t.Errorf("%d requests are answered at once, want %d", n, clients)
	}
	for _, c := range conns {
		c.Close()
	}
	stop()
}

// inUse gives the memory of the process that is in use: heap and stacks.
func inUse() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse + m.StackInuse)
}
