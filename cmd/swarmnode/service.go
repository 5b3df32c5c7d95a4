package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"swarmnode/node"
	"swarmnode/node/control"
)

// watchEvery is how often a command looks at the status of the node that it tells about.
const watchEvery = 300 * time.Millisecond

// noDashboard is the value of --dashboard for a node that shows itself only by `status`.
const noDashboard = "none"

// nodeFlags are the flags of the commands that run a node.
type nodeFlags struct {
	listen    []string
	bootstrap []string
	noMDNS    bool
	noNAT     bool
	public    bool
	json      bool
	scrubRate sizeFlag
	gatewayFlags
	limitFlags
	dashboard string
}

func (f *nodeFlags) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringSliceVar(&f.listen, "listen", nil, "`ADDRESS` to listen on, such as :4101 or /ip4/192.0.2.1/tcp/4101; may be repeated (default port 4101 on all addresses, else a free one)")
	fl.StringSliceVar(&f.bootstrap, "bootstrap", nil, "`ADDRESS` of a node to connect to, as that node prints it; may be repeated")
	fl.BoolVar(&f.noMDNS, "no-mdns", false, "do not look for nodes on the local network")
	fl.BoolVar(&f.noNAT, "no-port-mapping", false, "do not ask the router to open a port")
	fl.BoolVar(&f.public, "public", false, "this machine is reachable from everywhere: do not test it, help others to find each other")
	fl.Var(&f.scrubRate, "scrub-rate", "how much per second of what is kept is read again and compared, such as 20MB (default 8MiB, or what a pass in 30 days needs)")
	fl.BoolVar(&f.json, "json", false, "print one JSON object per line, for scripts")
	fl.StringVar(&f.dashboard, "dashboard", "", "host:port of the page and the metrics for you, the operator, such as :4180 for all addresses of this machine; it changes nothing and has no password, so that whoever reaches it reads it; \"none\" for none (default 127.0.0.1:4180, else a free port)")
	f.addGateway(fl)
	f.addLimits(fl)
}

func (f *nodeFlags) config(a *app) (node.Config, error) {
	gateway, err := f.gatewayConfig()
	if err == nil {
		err = handedOver(gateway)
	}
	if err != nil {
		return node.Config{}, err
	}
	limits, err := f.limitConfig()
	if err == nil {
		err = checkDashboard(f.dashboard)
	}
	if err != nil {
		return node.Config{}, err
	}
	dashboard := &f.dashboard
	if f.dashboard == noDashboard {
		dashboard = nil
	}
	return node.Config{Web: node.Web{Gateway: gateway, Dashboard: dashboard}, Limit: limits, Home: a.home, Listen: f.listen, Bootstrap: f.bootstrap, MDNS: !f.noMDNS, NATPortMap: !f.noNAT, Public: f.public, Upkeep: node.Upkeep{ScrubRate: int64(f.scrubRate)},
		UserAgent: "swarmnode/" + version(), Log: a.log(), Now: a.clock()}, err
}

// serve runs a node around work: work ends by itself or with ctx, then the node is stopped. If the node fails, the ctx of
// work ends with the reason.
func (a *app) serve(ctx context.Context, cfg node.Config, work func(ctx context.Context, n *node.Node) error) error {
	n, err := node.Open(ctx, cfg)
	if err != nil {
		return err
	}
	for _, note := range n.Notes() {
		a.note(note)
	}
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	running, stop := context.WithCancel(context.WithoutCancel(ctx)) // work leans on the node, so it ends first
	defer stop()
	ended := make(chan error, 1)
	go func() {
		err := n.Run(running)
		if err == nil && running.Err() == nil {
			err = errors.New("the node stopped by itself")
		}
		fail(err)
		ended <- err
	}()
	if a.ending != nil {
		defer context.AfterFunc(ctx, a.ending)() // also when the node fails
	}
	quiet := a.supervised(ctx)
	err = work(ctx, n)
	quiet()
	stop()
	if nodeErr := <-ended; nodeErr != nil {
		return nodeErr
	}
	return err
}

// interrupted reports whether ctx ended because the user wants it, and nothing else is wrong.
func interrupted(ctx context.Context) bool { return errors.Is(context.Cause(ctx), errInterrupted) }

// watch calls look from time to time until it says done or fails, or ctx ends: that is nil if the user wanted it.
func watch(ctx context.Context, look func() (done bool, err error)) error {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		if done, err := look(); done || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			if interrupted(ctx) {
				_, err := look() // what happened since the last time is told, too
				if errors.Is(err, context.Canceled) {
					err = nil
				}
				return err
			}
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// mirrored lists the collections that a node mirrors.
func mirrored(s control.Status) []control.Collection {
	var list []control.Collection
	for _, c := range s.Collections {
		if !c.Published {
			list = append(list, c)
		}
	}
	return list
}

// printJSON writes v as one line.
func printJSON(out io.Writer, v any) error {
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// clockVariable moves the clock by which signatures are judged, e.g. by "8760h": so that the tests see what a node with a wrong
// clock says and does. Nobody else has a use for it.
const clockVariable = "SWARMNODE_TEST_CLOCK"

// clock is the clock of a node.
func (a *app) clock() func() time.Time {
	by, err := time.ParseDuration(os.Getenv(clockVariable))
	if err != nil || by == 0 {
		return time.Now
	}
	a.log().Warn("the clock is moved for a test: unset the variable", "variable", clockVariable, "by", by)
	return func() time.Time { return time.Now().Add(by) }
}
