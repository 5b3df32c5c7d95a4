package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"swarmnode/node"
	"swarmnode/node/control"
)

// TestManager has a node that does not answer at first, then does, then hangs: ready is said once and not before, and no sign of life while it hangs.
func TestManager(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var told []string
		m := manager{log: slog.New(slog.DiscardHandler), every: 10 * time.Second,
			ask: func(context.Context) (control.Status, error) {
				if d := time.Since(began); d < time.Second || d > 15*time.Second && d < 45*time.Second {
					return control.Status{}, errors.New("no answer")
				}
				return control.Status{Verdict: "all is\nREADY=0"}, nil
			},
			tell: func(state string) error {
				told = append(told, time.Since(began).Truncate(time.Second).String()+" "+strings.ReplaceAll(state, "\n", "|"))
				return nil
			}}
		ctx, cancel := context.WithTimeout(t.Context(), 55*time.Second)
		defer cancel()
		m.run(ctx)
		want := "1s READY=1|WATCHDOG=1|STATUS=all is READY=0; 11s WATCHDOG=1|STATUS=all is READY=0; 51s WATCHDOG=1|STATUS=all is READY=0; 55s STOPPING=1|STATUS=stopping"
		if got := strings.Join(told, "; "); got != want {
			t.Errorf("told\n%s\nwant\n%s", got, want)
		}
	})
}

// TestAsSockets takes the sockets apart that a service manager hands over.
func TestAsSockets(t *testing.T) {
	tcp := func() *os.File {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		f, err := l.(*net.TCPListener).File()
		if err != nil {
			t.Skipf("no descriptors of sockets on this system: %v", err)
		}
		return f
	}
	udp := func() *os.File {
		p, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		f, err := p.(*net.UDPConn).File()
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	for _, c := range []struct {
		files    []*os.File
		ok       bool
		tcp, udp bool
	}{
		{[]*os.File{tcp()}, true, true, false},
		{[]*os.File{udp(), tcp()}, true, true, true},
		{[]*os.File{udp()}, false, false, true},
		{[]*os.File{tcp(), tcp()}, false, true, false},
	} {
		s, err := asSockets(c.files)
		if (err == nil) != c.ok || (s.TCP != nil) != c.tcp || (s.UDP != nil) != c.udp {
			t.Errorf("%d sockets: %+v, %v; want ok %v, TCP %v, UDP %v", len(c.files), s, err, c.ok, c.tcp, c.udp)
		}
		if s.TCP != nil {
			s.TCP.Close()
		}
		if s.UDP != nil {
			s.UDP.Close()
		}
	}
	if err := handedOver(&node.GatewayConfig{Listen: ":80"}); err != nil {
		t.Errorf("without a service manager: %v", err)
	}
}
