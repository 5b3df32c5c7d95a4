package gateway

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// TestSockets serves on sockets that somebody else has bound, and refuses what cannot be meant.
func TestSockets(t *testing.T) {
	hello := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") })
	bind := func() net.Listener {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	tcp := bind()
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, err := Listen(ServerConfig{Handler: hello, Sockets: Sockets{TCP: tcp, UDP: udp}})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := s.Addr(), tcp.Addr().String(); got != want {
		t.Errorf("it listens on %s, want %s", got, want)
	}
	if _, err := udp.WriteTo(nil, udp.LocalAddr()); err == nil {
		t.Error("without TLS the socket for HTTP/3 is still open")
	}
	s.Close()

	tcp = bind()
	if _, err := Listen(ServerConfig{Handler: hello, Listen: ":80", Sockets: Sockets{TCP: tcp}}); err == nil || !strings.Contains(err.Error(), "give one of them") {
		t.Errorf("with an address, too: %v", err)
	}
	if _, err := tcp.Accept(); err == nil {
		t.Error("what was refused is still open")
	}

	local, err := net.Listen("unix", t.TempDir()+"/s")
	if err != nil {
		t.Skipf("no Unix sockets: %v", err)
	}
	if _, err := Listen(ServerConfig{Handler: hello, Sockets: Sockets{TCP: local}}); err == nil || !strings.Contains(err.Error(), "not one of TCP") {
		t.Errorf("with a Unix socket: %v", err)
	}

	cert, key := pairFor(t, t.TempDir(), "one")
	s, err = Listen(ServerConfig{Handler: hello, CertFile: cert, KeyFile: key, Sockets: Sockets{TCP: bind()}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if got, want := s.udp.LocalAddr().(*net.UDPAddr).Port, s.tcp.Addr().(*net.TCPAddr).Port; got != want {
		t.Errorf("HTTP/3 is on port %d, want %d", got, want)
	}
}
