package gateway

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
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

// TestSlowClients has 1,000 clients that ask for a large file and do not read it.
func TestSlowClients(t *testing.T) {
	if testing.Short() {
		t.Skip("2,000 sockets")
	}
	// With unsentBytes each takes a quarter of a megabyte of the kernel's memory for TCP; where that is at its end, connections of all tests
	// are cut.
	const clients = 1000
	// What a client may cost in this process, with its own side of the connection. Measured 78 KiB, of which net/http holds 32 as a
	// buffer that sendfile leaves unused.
	const each = 96 << 10
	f, data := numbers(t, 8<<20)
	begun := make(chan struct{})
	s, stop := run(t, ServerConfig{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		begun <- struct{}{}
		io.Copy(w, &filePart{file: f, left: int64(len(data))})
	})})
	before, began := inUse(), time.Now()
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
		<-begun // one after the other: on a loaded machine the last of many would be refused for not asking in time
	}
	grown := inUse() - before
	t.Logf("%d clients: %d KiB each", clients, grown/clients>>10)
	if grown > clients*each {
		t.Errorf("%d slow clients take %d MiB, want at most %d", clients, grown>>20, clients*each>>20)
	}
	if n := s.Stats().Requests; n != clients && time.Since(began) < slowWindow { // by then the first are cut off
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
