package control

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// Who announces a body and never sends it keeps no place: each connection is closed, and the next is answered.
func TestBodiesTakeNoPlaces(t *testing.T) {
	d := showing(t, DashboardConfig{Status: func() Status { return Status{Fine: true, Verdict: "fine"} }})
	for _, head := range []string{
		"POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nFFFF\r\nx",
	} {
		c, err := net.Dial("tcp", d.tcp.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(time.Minute)) // without an end it would hang
		io.WriteString(c, head)
		answer, err := io.ReadAll(c)
		if ne, slow := err.(net.Error); slow && ne.Timeout() || !strings.HasPrefix(string(answer), "HTTP/1.1 413 ") {
			t.Errorf("%q: %v, %s", head, err, answer)
		}
	}
	if res, _ := askPage(t, d, "GET /health HTTP/1.1", "Host: localhost"); res.StatusCode != http.StatusOK {
		t.Errorf("afterwards: %s", res.Status)
	}
}
