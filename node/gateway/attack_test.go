package gateway

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quic-go/quic-go/http3"

	"swarmnode/content"
)

// TestBodyThatNeverComes: a client that announces a body and does not send it holds no connection.
func TestBodyThatNeverComes(t *testing.T) {
	for _, head := range []string{
		"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
		"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 10\r\n\r\n",
	} {
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
			go io.WriteString(ours, head)
			defer time.AfterFunc(time.Hour, func() { ours.Close() }).Stop()
			io.Copy(io.Discard, ours)
			if took := time.Since(began); took > 2*headerTimeout {
				t.Errorf("%q: closed after %v", head, took)
			}
			ours.Close()
			close(l.conns)
			<-done
			s.http.Close()
		})
	}
}

// TestClosedWindow: an HTTP/2 client that opens streams and lets nothing come on them is dropped like any slow reader, also when
// the answers are so small that the handlers have returned.
func TestClosedWindow(t *testing.T) {
	certFile, keyFile := pairFor(t, t.TempDir(), "x")
	synctest.Test(t, func(t *testing.T) {
		s, err := Listen(ServerConfig{Handler: say("hello"), Listen: "127.0.0.1:0", CertFile: certFile, KeyFile: keyFile})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		l := &pipeListener{conns: make(chan net.Conn)}
		done := make(chan struct{})
		go func() { defer close(done); s.http.ServeTLS(l, "", "") }()
		ours, theirs := net.Pipe()
		l.conns <- theirs
		c := tls.Client(ours, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
		const streams = 3
		go func() {
			frames := "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + "\x00\x00\x06\x04\x00\x00\x00\x00\x00" + "\x00\x04\x00\x00\x00\x00" // the first window of all streams is 0
			for i := range streams {
				frames += "\x00\x00\x06\x01\x05\x00\x00\x00" + string(rune(1+2*i)) + "\x82\x87\x84\x41\x01x" // GET https://x/
			}
			io.WriteString(c, frames)
		}()
		resets, began := 0, time.Now()
		defer time.AfterFunc(time.Hour, func() { ours.Close() }).Stop()
		for head := make([]byte, 9); resets < streams; {
			if _, err := io.ReadFull(c, head); err != nil {
				break
			}
			io.CopyN(io.Discard, c, int64(head[0])<<16|int64(head[1])<<8|int64(head[2]))
			if head[3] == 3 { // RST_STREAM
				resets++
			}
		}
		if took := time.Since(began); resets != streams || took > slowWindow+time.Second || s.Stats().Slow != streams {
			t.Errorf("after %v %d of %d streams were ended, %d counted as slow", took, resets, streams, s.Stats().Slow)
		}
		ours.Close()
		close(l.conns)
		<-done
		s.http.Close()
	})
}

// TestCollectionsDoNotMix: a publisher who says of its own files what another one says of others (their tree, their hashes) cannot change
// what is answered for the other collection.
func TestCollectionsDoNotMix(t *testing.T) {
	const size = 100_000
	good := someBytes(size)
	make := func(name string, data string, cut int, claim content.Digest) *Collection {
		cat, src := newFake(t)
		c := cat.c
		c.ID, c.Name = content.NewID([]byte(name)), name
		store := content.Blocks{}
		put := func(b []byte) (content.Digest, error) { return store.Put(b), nil }
		var chunks []content.Chunk
		for i, part := range []string{data[:cut], data[cut:]} {
			src.keep(t, content.Ref{Index: uint32(i)}, []byte(part))
			chunks = append(chunks, content.Chunk{Digest: content.Sum([]byte(part)), Size: uint32(len(part))})
		}
		table := content.NewTable(chunks)
		d, _ := put(table.Encode())
		infos := []content.SegmentInfo{{Table: d, Size: table.Size(), Chunks: 2}}
		directory, err := content.BuildDirectory(infos, put)
		if err != nil {
			t.Fatal(err)
		}
		e := content.Entry{Path: "Release", Mode: content.ModeFile | 0o644, Size: size, SHA256: claim, Runs: []content.Run{{Count: 2}}}
		tree, _, err := content.BuildTree(func(yield func(content.Entry, error) bool) { yield(e, nil) }, put)
		if err != nil {
			t.Fatal(err)
		}
		c.Served = &Release{Infos: infos, Blocks: store, Manifest: &content.Manifest{Collection: c.ID, Name: name, Release: 1, Tree: tree, Directory: directory}}
		return c
	}
	sum := content.Sum([]byte(good))
	honest, evil := make("honest", good, 60_000, sum), make("evil", strings.Repeat("x", size), 40_000, sum)
	if honest.Served.Manifest.Tree != evil.Served.Manifest.Tree {
		t.Fatal("the trees differ: nothing is tried")
	}
	r := newRig(t)
	r.g.cfg.Catalogue, r.g.cfg.URL = fixed{evil, honest}, "http://here/"
	var torrents, pages []string
	for _, c := range []*Collection{evil, honest} {
		want := map[*Collection]string{evil: strings.Repeat("x", size), honest: good}[c]
		for _, span := range [][2]int{{0, 99_999}, {45_000, 55_000}, {50_000, 99_999}} {
			got := r.get("/"+c.Name+"/Release", fmt.Sprintf("Range: bytes=%d-%d", span[0], span[1]))
			if got.StatusCode != 206 || got.body != want[span[0]:span[1]+1] {
				t.Errorf("%s, bytes %v: %d, other bytes than the release has", c.Name, span, got.StatusCode)
			}
		}
		torrents = append(torrents, strings.ReplaceAll(r.get("/"+c.Name+"/Release.torrent").body, c.Name, ""))
		pages = append(pages, r.get("/"+c.Name+"/?json").body)
	}
	if torrents[0][strings.Index(torrents[0], "pieces20:"):][:29] == torrents[1][strings.Index(torrents[1], "pieces20:"):][:29] {
		t.Error("the torrent of one has the hashes of the other")
	}
	if !strings.Contains(pages[1], honest.ID.String()) {
		t.Errorf("the listing of one is that of the other: %s", pages[1])
	}
	for _, c := range []*Collection{evil, honest} {
		s, err := r.g.suite(t.Context(), c.Served, c, content.Entry{Path: "Release", Size: size, SHA256: sum, Runs: []content.Run{{Count: 2}}})
		if err != nil {
			t.Fatal(err)
		}
		if again, _ := r.g.sums.get(sumsKey{c.ID, sum}); again != s {
			t.Errorf("%s: the sums were not its own", c.Name)
		}
	}
}

// closedClient takes nothing until it is opened.
type closedClient struct {
	http.ResponseWriter
	head http.Header
	open chan struct{}
	got  []byte
}

func (c *closedClient) Header() http.Header { return c.head }
func (c *closedClient) WriteHeader(int)     {}
func (c *closedClient) Write(p []byte) (int, error) {
	<-c.open
	c.got = append(c.got, p...)
	return len(p), nil
}

// TestStalledClientsLeaveRoom: clients that take nothing at all, as many as there are buffers, keep nobody else waiting, and get the right
// bytes when they go on.
func TestStalledClientsLeaveRoom(t *testing.T) {
	t.Parallel()
	data := []byte(someBytes(300_000))
	synctest.Test(t, func(t *testing.T) {
		cat, src := newFake(t)
		src.keep(t, content.Ref{}, data)
		src.offsets = nil
		store := content.Blocks{}
		e := content.Entry{Path: "f", Mode: content.ModeFile | 0o644, Size: uint64(len(data)), SHA256: content.Sum(data), Runs: []content.Run{{Count: 1}}}
		tree, _, err := content.BuildTree(func(yield func(content.Entry, error) bool) { yield(e, nil) }, func(b []byte) (content.Digest, error) { return store.Put(b), nil })
		if err != nil {
			t.Fatal(err)
		}
		cat.c.Served = &Release{Manifest: &content.Manifest{Release: 1, Tree: tree}, Blocks: store}
		g := New(Config{Catalogue: cat})
		open := make(chan struct{})
		get := func(open chan struct{}) {
			w := &closedClient{head: http.Header{}, open: open}
			g.ServeHTTP(w, httptest.NewRequest("GET", "/test/f", nil))
			if string(w.got) != string(data) {
				t.Errorf("a client got %d bytes, or others than those of the file", len(w.got))
			}
		}
		var wait sync.WaitGroup
		for range largeBuffers {
			wait.Go(func() { get(open) })
		}
		time.Sleep(10 * time.Millisecond)
		began, opened := time.Now(), make(chan struct{})
		close(opened)
		get(opened)
		if took := time.Since(began); took > time.Second {
			t.Errorf("somebody waited %v for clients that take nothing", took)
		}
		close(open)
		wait.Wait()
		if n := len(g.room.slots); n != 0 {
			t.Errorf("%d buffers are still in use", n)
		}
	})
}

// countedReader counts what is read from it, without an end; little at a time, so that what a client holds itself does not count.
type countedReader struct{ n atomic.Int64 }

func (r *countedReader) Read(p []byte) (int, error) {
	p = p[:min(len(p), 4<<10)]
	r.n.Add(int64(len(p)))
	return len(p), nil
}

// TestBodiesAreNotBuffered: what a client sends as the body of a request, which nobody reads, takes little memory while the answer is made.
func TestBodiesAreNotBuffered(t *testing.T) {
	certFile, keyFile := pairFor(t, t.TempDir(), "gateway")
	release := make(chan struct{})
	s, _ := run(t, ServerConfig{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { <-release }), CertFile: certFile, KeyFile: keyFile})
	trusting := &tls.Config{InsecureSkipVerify: true}
	h2 := &http.Transport{TLSClientConfig: trusting.Clone(), ForceAttemptHTTP2: true}
	h3 := &http3.Transport{TLSClientConfig: trusting.Clone()}
	defer h2.CloseIdleConnections()
	defer h3.Close()
	var wait sync.WaitGroup
	defer wait.Wait()
	defer close(release)
	for name, rt := range map[string]http.RoundTripper{"HTTP/2": h2, "HTTP/3": h3} {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var body countedReader
		req, err := http.NewRequestWithContext(ctx, "POST", s.URL(), &body)
		if err != nil {
			t.Fatal(err)
		}
		wait.Go(func() {
			if resp, err := rt.RoundTrip(req); err == nil {
				resp.Body.Close()
			}
		})
		for body.n.Load() < receiveWindow/2 {
			time.Sleep(time.Millisecond)
		}
		time.Sleep(200 * time.Millisecond) // for more to come if it may
		if n := body.n.Load(); n > 4*receiveWindow {
			t.Errorf("%s: %d bytes of a body were taken that nobody reads", name, n)
		}
	}
}

// TestHalfStreams: an HTTP/2 client that begins and does not go on holds no connection for longer than an idle one, nor does one that
// sends parts of a header without an end.
func TestHalfStreams(t *testing.T) {
	certFile, keyFile := pairFor(t, t.TempDir(), "x")
	const settings, halfHeader = "\x00\x00\x00\x04\x00\x00\x00\x00\x00", "\x00\x00\x03\x01\x01\x00\x00\x00\x01\x82\x87\x84"
	more := "\x00\x40\x00\x09\x00\x00\x00\x00\x01" + strings.Repeat("\x82", 16<<10) // CONTINUATION
	for name, frames := range map[string]string{
		"half a handshake": "",
		"nothing":          "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings,
		"half a header":    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings + halfHeader,
		"endless header":   "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings + halfHeader + strings.Repeat(more, 100),
	} {
		synctest.Test(t, func(t *testing.T) {
			s, err := Listen(ServerConfig{Handler: say("hello"), Listen: "127.0.0.1:0", CertFile: certFile, KeyFile: keyFile})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			l := &pipeListener{conns: make(chan net.Conn)}
			done := make(chan struct{})
			go func() { defer close(done); s.http.ServeTLS(l, "", "") }()
			ours, theirs := net.Pipe()
			l.conns <- theirs
			began := time.Now()
			defer time.AfterFunc(time.Hour, func() { ours.Close() }).Stop()
			if c := tls.Client(ours, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}); frames == "" {
				io.Copy(io.Discard, ours)
			} else {
				go io.WriteString(c, frames)
				io.Copy(io.Discard, c)
			}
			if took := time.Since(began); took > idleTimeout+headerTimeout {
				t.Errorf("%s: closed after %v", name, took)
			}
			ours.Close()
			close(l.conns)
			<-done
			s.http.Close()
		})
	}
}

// TestIdle: a connection ends when nothing was asked on it for a while, and not while an answer is under way.
func TestIdle(t *testing.T) {
	certFile, keyFile := pairFor(t, t.TempDir(), "x")
	synctest.Test(t, func(t *testing.T) {
		s, err := Listen(ServerConfig{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { time.Sleep(3 * idleTimeout) }), Listen: "127.0.0.1:0",
			CertFile: certFile, KeyFile: keyFile})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		began, ended := time.Now(), make(chan time.Duration, 1)
		gone, cancel := context.WithCancel(t.Context())
		defer cancel()
		ctx := withIdle(gone, func() { ended <- time.Since(began) })
		time.Sleep(idleTimeout / 2)
		s.serve(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil).WithContext(ctx))
		if got, want := <-ended, 4*idleTimeout+idleTimeout/2; got != want {
			t.Errorf("ended after %v, want %v", got, want)
		}
	})
}
