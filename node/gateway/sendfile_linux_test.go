package gateway

import (
	"io"
	"net"
	"net/http"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The kernel holds little for a client that does not read. Without the bound it holds some megabytes.
func TestUnsentIsBounded(t *testing.T) {
	f, data := numbers(t, 16<<20)
	unsent := make(chan int, 1)
	s, stop := run(t, ServerConfig{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(unsent)
		c := connOf(r.Context()).Conn                   // beside net/http, which closes it after the deadline
		c.SetWriteDeadline(time.Now().Add(time.Second)) // to fill the buffers; a machine that is too slow for that passes
		part := filePart{file: f, left: int64(len(data))}
		part.sendTo(c)
		raw, err := c.(syscall.Conn).SyscallConn()
		if err != nil {
			t.Error(err)
		}
		err = raw.Control(func(fd uintptr) {
			n, err := unix.IoctlGetInt(int(fd), unix.SIOCOUTQNSD)
			if err != nil {
				t.Error(err)
			}
			unsent <- n
		})
		if err != nil {
			t.Error(err)
		}
	})})
	defer stop()
	c, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	// A packet over loopback is 64 KiB, and the last one may go beyond the bound.
	if n := <-unsent; n == 0 || n > unsentBytes+64<<10 {
		t.Errorf("the kernel holds %d bytes that it cannot send, want at most %d", n, unsentBytes+64<<10)
	}
}
