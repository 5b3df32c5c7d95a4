package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"

	"swarmnode/node"
	"swarmnode/node/control"
	"swarmnode/node/gateway"
)

const (
	// readyEvery is how often a starting node is asked whether it answers. Chosen: nobody notices so short a delay.
	readyEvery = 50 * time.Millisecond
	// tellEvery is how often the service manager is told how the node is, if it wants no sign of life more often.
	tellEvery = 15 * time.Second
)

// handedOver gives a gateway the sockets that the service manager has bound for it (sd_listen_fds), if there are any.
func handedOver(cfg *node.GatewayConfig) error {
	files := activation.Files(true)
	if len(files) == 0 {
		return nil
	}
	sockets, err := asSockets(files)
	switch {
	case err != nil:
		return err
	case cfg == nil:
		return misuse("--gateway none: the service manager has bound a socket for the gateway; disable swarmnode-gateway.socket")
	case cfg.Listen != "":
		return misuse("--gateway %s: the service manager has bound %s for the gateway; leave one of them out", quote(cfg.Listen), sockets.TCP.Addr())
	}
	cfg.Sockets = sockets
	return nil
}

// asSockets finds among files one that accepts connections, and at most one for datagrams.
func asSockets(files []*os.File) (s gateway.Sockets, err error) {
	for _, f := range files {
		defer f.Close() // what is made of them has descriptors of its own
		if l, bad := net.FileListener(f); bad == nil && s.TCP == nil {
			s.TCP = l
		} else if p, bad := net.FilePacketConn(f); bad == nil && s.UDP == nil {
			s.UDP = p
		} else {
			err = fmt.Errorf("socket %s of the service manager: one ListenStream and one ListenDatagram is all that the gateway can use", f.Name())
		}
	}
	if s.TCP == nil && err == nil {
		err = fmt.Errorf("the service manager handed over %s and none that accepts TCP connections (ListenStream)", count(len(files), "socket"))
	}
	return s, err
}

// supervised tells the service manager that waits for it (sd_notify) when the node answers, how it is, and that it is alive, until
// the function that it gives is called. Without a service manager both do nothing.
func (a *app) supervised(ctx context.Context) (stop func()) {
	if socket, _ := a.env("NOTIFY_SOCKET"); socket == "" {
		return func() {}
	}
	m := manager{log: a.log(), every: tellEvery,
		ask: func(ctx context.Context) (control.Status, error) {
			ctx, cancel := context.WithTimeout(ctx, statusTimeout)
			defer cancel()
			return control.NewClient(a.home).Status(ctx)
		},
		tell: func(state string) error {
			_, err := daemon.SdNotify(false, state)
			return err
		}}
	if limit, err := daemon.SdWatchdogEnabled(false); err == nil && limit > 0 {
		m.every = min(m.every, limit/2) // sd_watchdog_enabled(3) recommends half
	}
	// A reload is for the access log, and the gateway does it. A node without that log must not end by it.
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, syscall.SIGHUP)
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() { m.run(ctx) })
	return func() {
		cancel()
		running.Wait()
		signal.Stop(reload)
	}
}

// manager is what starts, watches and stops a service.
type manager struct {
	log   *slog.Logger
	every time.Duration
	ask   func(context.Context) (control.Status, error) // the way that `swarmnode status` goes: who hangs does not answer
	tell  func(state string) error
}

// run tells until ctx ends.
func (m *manager) run(ctx context.Context) {
	ready := false
	for ctx.Err() == nil {
		wait := m.every
		s, err := m.ask(ctx)
		switch {
		case err == nil && ready:
			m.say(daemon.SdNotifyWatchdog, "STATUS="+inOneLine(s.Verdict))
		case err == nil:
			ready = true
			m.say(daemon.SdNotifyReady, daemon.SdNotifyWatchdog, "STATUS="+inOneLine(s.Verdict))
		case !ready:
			wait = readyEvery
		case ctx.Err() == nil:
			m.log.Warn("the node does not answer: the service manager may start it again", "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
	m.say(daemon.SdNotifyStopping, "STATUS=stopping")
}

func (m *manager) say(lines ...string) {
	if err := m.tell(strings.Join(lines, "\n")); err != nil {
		m.log.Warn("the service manager cannot be told: look at NotifyAccess= of its unit", "error", err)
	}
}

// inOneLine is text in which nothing can be taken for another line of the message.
func inOneLine(text string) string { return strings.Join(strings.Fields(text), " ") }
