package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"swarmnode/gossip"
	"swarmnode/gossip/topic"
	"swarmnode/node/control"
	"swarmnode/node/fetch"
	"swarmnode/node/p2p"
)

// clientsDir is where clients keep what they have verified: so that a later one is not told an older release.
const clientsDir = "clients"

// ClientConfig says whom a client asks.
type ClientConfig struct {
	Home      string        // for what was verified, and to find the node that runs with it; "": nothing is remembered
	Bootstrap []string      // addresses of nodes; empty: the node that runs with Home
	Stall     time.Duration // how long to go on without a byte when nobody connected has what is left; default a minute
	Log       *slog.Logger
}

// Client reads collections without being a mirror of them: it tells nobody where it listens, and serves nothing. It is safe for concurrent
// use.
type Client struct {
	cfg   ClientConfig
	host  *p2p.Host
	net   *topic.Net
	tasks *tasks

	mu       sync.Mutex              // guards fetchers
	fetchers map[*fetch.Fetcher]bool // of the open releases: they are told of peers
}

// OpenClient connects to the swarm. Close ends it.
func OpenClient(ctx context.Context, cfg ClientConfig) (*Client, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Stall == 0 {
		cfg.Stall = stallTimeout
	}
	if cfg.Home != "" {
		if err := checkHome(cfg.Home); err != nil {
			return nil, err
		}
	}
	bootstrap := cfg.Bootstrap
	if len(bootstrap) == 0 {
		var err error
		if bootstrap, err = addrsOf(ctx, cfg.Home); err != nil {
			return nil, err
		}
	}
	c := &Client{cfg: cfg, tasks: newTasks(context.WithoutCancel(ctx), cfg.Log), fetchers: map[*fetch.Fetcher]bool{}}
	var err error
	c.host, err = p2p.New(ctx, p2p.Config{Client: true, Bootstrap: bootstrap, UserAgent: "swarmnode-client", Log: cfg.Log,
		Setup: topic.Setup(c.tasks.ctx, cfg.Log, &c.net)}, p2p.Handlers{})
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	c.host.OnPeer(c.peer)
	if err := c.connect(ctx, bootstrap); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	c.tasks.must("p2p host", c.host.Run)
	return c, nil
}

// addrsOf gives the addresses of the node that runs with a home directory.
func addrsOf(ctx context.Context, home string) ([]string, error) {
	const hint = "no address to start from: give one with --bootstrap, as `swarmnode publish` prints it, or start a node first"
	st, err := control.NewClient(home).Status(ctx)
	switch {
	case errors.Is(err, control.ErrNoNode):
		return nil, fmt.Errorf("%s (%w)", hint, err)
	case err != nil:
		return nil, err
	case len(st.Addrs) == 0:
		return nil, errors.New(hint + " (the running node has none)")
	}
	return st.Addrs[:min(len(st.Addrs), maxBootstrap)], nil
}

// connect reaches one of the addresses, or says why none answers. All are tried at the same time; those that are slower are
// dialed again by the host.
func (c *Client) connect(ctx context.Context, addrs []string) error {
	dctx, cancel := context.WithTimeout(ctx, dialTimeout)
	var dials sync.WaitGroup
	defer dials.Wait()
	defer cancel()
	answers := make(chan error, len(addrs))
	for _, a := range addrs {
		dials.Go(func() {
			_, err := c.host.Connect(dctx, a)
			answers <- err
		})
	}
	var errs []error
	for range addrs {
		err := <-answers
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return errors.Join(errs...)
}

// peer hears of connections.
func (c *Client) peer(id gossip.PeerID, connected bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for f := range c.fetchers {
		if connected {
			f.Connected(id, c.host.RTT(id))
		} else {
			f.Disconnected(id)
		}
	}
}

// use has a fetcher told of peers: who is connected and who comes and goes.
func (c *Client) use(f *fetch.Fetcher) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fetchers[f] = true
	for _, p := range c.host.Peers() {
		if !p.Relayed {
			f.Connected(p.ID, p.RTT)
		}
	}
}

func (c *Client) drop(f *fetch.Fetcher) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.fetchers, f)
}

// Close ends the client. Its releases are closed before.
func (c *Client) Close() error {
	c.tasks.stop(context.Canceled)
	if c.net != nil {
		c.net.Close()
	}
	var err error
	if c.host != nil {
		err = c.host.Close()
	}
	c.tasks.wait()
	return err
}
