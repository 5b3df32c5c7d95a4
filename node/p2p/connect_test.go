package p2p

import (
	"io"
	"net"
	"strings"
	"sync"
	"testing"
)

// TestBothDialed: when two nodes have dialed each other at the same moment, each meets one that sends what it sends itself. An address
// that gives back the bytes of the first connection is such a node; what comes next it hands on to the peer.
func TestBothDialed(t *testing.T) {
	peer, here := newHost(t, Config{Timeouts: patient}, Handlers{}), newHost(t, Config{Timeouts: patient}, Handlers{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	defer serving.Wait()
	defer l.Close()
	where := strings.Split(peer.Addrs()[0], "/") // "", "ip4", address, "tcp", port, "p2p", ID
	behind := net.JoinHostPort(where[2], where[4])
	serving.Go(func() {
		if c, err := l.Accept(); err == nil {
			serving.Go(func() { _, _ = io.Copy(c, c); c.Close() })
		}
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			to, err := net.Dial("tcp", behind)
			if err != nil {
				t.Error(err)
				c.Close()
				return
			}
			serving.Go(func() { _, _ = io.Copy(to, c); to.Close() })
			serving.Go(func() { _, _ = io.Copy(c, to); c.Close() })
		}
	})
	_, port, _ := net.SplitHostPort(l.Addr().String())
	where[4] = port
	if _, err := here.Connect(t.Context(), strings.Join(where, "/")); err != nil {
		t.Error(err)
	}
	if err := here.Close(); err != nil { // ends what is handed on
		t.Error(err)
	}
}
