package gateway

import (
	"crypto/tls"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"
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
