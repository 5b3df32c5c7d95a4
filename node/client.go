package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"swarmnode/content"
	"swarmnode/content/store"
	"swarmnode/gossip"
	"swarmnode/gossip/topic"
	"swarmnode/gossip/trust"
	"swarmnode/node/control"
	"swarmnode/node/fetch"
	"swarmnode/node/p2p"
)

const (
	// clientsDir is where clients keep what they have verified: so that a later one is not told an older release.
	clientsDir = "clients"
	// knowTimeout is how long a client looks for somebody who knows the collection.
	knowTimeout = 20 * time.Second
	// askPause is the wait before everybody is asked again.
	askPause = 300 * time.Millisecond
)

// ClientConfig says whom a client asks.
type ClientConfig struct {
	Home      string   // for what was verified, and to find the node that runs with it
	Bootstrap []string // addresses of nodes; empty: the node that runs with Home
	Log       *slog.Logger
}

// Client reads collections without being a mirror of them: it listens to nobody and serves nothing.
type Client struct {
	cfg   ClientConfig
	host  *p2p.Host
	net   *topic.Net
	ctx   context.Context // of everything that runs for the client
	stop  context.CancelCauseFunc
	tasks *tasks
}

// OpenClient connects to the swarm. Close ends it.
func OpenClient(ctx context.Context, cfg ClientConfig) (*Client, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	bootstrap := cfg.Bootstrap
	if len(bootstrap) == 0 {
		st, err := control.NewClient(cfg.Home).Status(ctx)
		if errors.Is(err, control.ErrNoNode) {
			return nil, fmt.Errorf("no address to start from: give one with --bootstrap, as `swarmnode publish` prints it, or start a node first (%w)", err)
		}
		if err != nil {
			return nil, err
		}
		bootstrap = st.Addrs
	}
	c := &Client{cfg: cfg}
	c.ctx, c.stop = context.WithCancelCause(context.WithoutCancel(ctx))
	c.tasks = newTasks(c.ctx, c.stop, cfg.Log)
	var err error
	c.host, err = p2p.New(ctx, p2p.Config{Client: true, Bootstrap: bootstrap, UserAgent: "swarmnode-client", Log: cfg.Log,
		Setup: topic.Setup(c.ctx, cfg.Log, &c.net)}, p2p.Handlers{})
	if err != nil {
		c.stop(err)
		return nil, err
	}
	if err := c.connect(ctx, bootstrap); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	c.tasks.must("p2p host", c.host.Run)
	return c, nil
}

// connect reaches one of the addresses, or says why none answers.
func (c *Client) connect(ctx context.Context, addrs []string) error {
	var errs []error
	for _, a := range addrs {
		dctx, cancel := context.WithTimeout(ctx, dialTimeout)
		_, err := c.host.Connect(dctx, a)
		cancel()
		if err == nil {
			return nil
		}
		errs = append(errs, err)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	return errors.Join(errs...)
}

// Close ends the client.
func (c *Client) Close() error {
	c.stop(context.Canceled)
	c.net.Close()
	err := c.host.Close()
	c.tasks.wait()
	return err
}

// Release is a verified release as a client sees it. It is not safe for concurrent use.
type Release struct {
	Head     gossip.Head
	Manifest *content.Manifest

	client *Client
	id     content.ID
	dir    string
	lock   *os.File
	temp   bool
	pack   *store.Pack
	fetch  *fetch.Fetcher
	sink   *sink
	infos  []content.SegmentInfo
	stop   context.CancelFunc
}

// Release finds the newest release of a collection that anybody reached knows and proves. Close ends it.
func (c *Client) Release(ctx context.Context, id content.ID) (*Release, error) {
	r := &Release{client: c, id: id, sink: &sink{}}
	if err := r.open(ctx); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

func (r *Release) open(ctx context.Context) error {
	if err := r.takeDir(); err != nil {
		return err
	}
	var err error
	if r.pack, err = store.OpenPack(filepath.Join(r.dir, "metadata.pack")); err != nil {
		return err
	}
	repo, err := trust.Open(filepath.Join(r.dir, "trust"), r.id)
	if err != nil {
		return err
	}
	if err := r.learn(ctx, repo); err != nil {
		return err
	}
	r.Head = repo.Head()
	if time.Now().After(r.Head.Expires) {
		r.client.cfg.Log.Warn("the publisher has not confirmed this release for long: there may be a newer one", "release", r.Head.Release, "expired", r.Head.Expires)
	}
	r.begin(r.client.ctx)
	err = r.fill(ctx, func() error {
		data, ok := r.pack.Block(r.Head.Manifest)
		if !ok {
			return &content.Missing{Blocks: []content.Digest{r.Head.Manifest}}
		}
		r.Manifest, err = content.DecodeManifest(data)
		return err
	})
	if err != nil {
		return fmt.Errorf("manifest of release %d: %w", r.Head.Release, err)
	}
	return nil
}

// takeDir takes the directory for what is verified of the collection; if another client has it, one for this run only.
func (r *Release) takeDir() error {
	dir := filepath.Join(r.client.cfg.Home, clientsDir, r.id.String())
	err := os.MkdirAll(dir, 0o700)
	if err == nil {
		r.lock, err = lockHome(dir)
	}
	if err == nil {
		r.dir = dir
		return nil
	}
	if !errors.Is(err, ErrHomeBusy) {
		r.client.cfg.Log.Warn("what is verified is not remembered for the next time", "reason", err)
	}
	r.temp = true
	r.dir, err = os.MkdirTemp("", "swarmnode-client-")
	return err
}

// learn asks everybody connected, and those whom the DHT names, until somebody proves a release.
func (r *Release) learn(ctx context.Context, repo *trust.Repository) error {
	ctx, cancel := context.WithTimeoutCause(ctx, knowTimeout, errKnow)
	defer cancel()
	r.client.tasks.run(ctx, "search in the DHT", func(ctx context.Context) error {
		return r.client.host.Find(ctx, r.id, func(gossip.PeerID) {})
	})
	asked := 0
	var last error
	for {
		known := false
		peers := r.client.host.Peers()
		for _, p := range peers {
			err := repo.Refresh(ctx, time.Now(), func(ctx context.Context, name string, max int64) ([]byte, error) {
				return r.client.net.Pull(ctx, p.ID, r.id, name, max)
			})
			if err == nil {
				known = true
			} else if ctx.Err() == nil {
				last = err
			}
		}
		asked = max(asked, len(peers))
		if known && repo.Head().Release > 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			if context.Cause(ctx) != errKnow {
				return context.Cause(ctx)
			}
			if asked == 0 {
				last = errors.New("nobody is connected")
			}
			return fmt.Errorf("none of the %d nodes reached has collection %s: check the ID, or give the address of a node that has it with --bootstrap (%w)",
				asked, r.id, last)
		case <-time.After(askPause):
		}
	}
}

// errKnow ends the search for somebody who knows the collection.
var errKnow = errors.New("nobody knows the collection")

// begin starts the fetcher.
func (r *Release) begin(ctx context.Context) {
	ctx, r.stop = context.WithCancel(ctx)
	r.fetch = fetch.New(fetch.Config{
		ID: r.id, Network: network{r.client.host}, Sink: r.sink, Rand: newRand(), Log: r.client.cfg.Log,
		Wrong: func(err error) bool { return errors.Is(err, store.ErrWrongBytes) },
	})
	r.client.host.OnPeer(func(id gossip.PeerID, connected bool) {
		if connected {
			r.fetch.Connected(id, r.client.host.RTT(id))
		} else {
			r.fetch.Disconnected(id)
		}
	})
	r.client.tasks.run(ctx, "fetcher", r.fetch.Run)
}

// Close ends the release.
func (r *Release) Close() error {
	if r.stop != nil {
		r.stop()
	}
	var errs []error
	if r.pack != nil {
		errs = append(errs, r.pack.Close())
	}
	if r.lock != nil {
		errs = append(errs, r.lock.Close())
	}
	if r.temp {
		errs = append(errs, os.RemoveAll(r.dir))
	}
	return errors.Join(errs...)
}

// fill runs look and fetches the metadata blocks that it misses.
func (r *Release) fill(ctx context.Context, look func() error) error {
	return content.Fill(look, func(missing []content.Digest) error {
		return r.fetch.Blocks(ctx, missing, func(_ content.Digest, data []byte) error {
			_, err := r.pack.Put(data)
			return err
		})
	})
}

// Stat gives the entry of a path; "" is the top directory.
func (r *Release) Stat(ctx context.Context, path string) (e content.Entry, err error) {
	path = content.CleanDir(path)
	if path == "" {
		return content.Entry{Mode: content.ModeDir | 0o755}, nil
	}
	err = r.fill(ctx, func() error {
		e, err = content.Lookup(r.Manifest.Tree, r.pack, path)
		return err
	})
	if err != nil {
		return e, fmt.Errorf("%s release %d: %w", r.Manifest.Name, r.Head.Release, err)
	}
	return e, nil
}

// List gives the entries directly in a directory.
func (r *Release) List(ctx context.Context, dir string) (list []content.Entry, err error) {
	if e, err := r.Stat(ctx, dir); err != nil || !e.IsDir() {
		return []content.Entry{e}, err
	}
	err = r.fill(ctx, func() error {
		list, err = content.List(r.Manifest.Tree, r.pack, content.CleanDir(dir))
		return err
	})
	return list, err
}

// walk gives all entries of a path; for the whole release the top directory comes first.
func (r *Release) walk(ctx context.Context, path string) (list []content.Entry, err error) {
	path = content.CleanDir(path)
	err = r.fill(ctx, func() error {
		list = list[:0]
		if path == "" {
			list = append(list, content.Entry{Mode: content.ModeDir | 0o755})
		}
		return content.Walk(r.Manifest.Tree, r.pack, path, func(e content.Entry) error {
			list = append(list, e)
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("%s release %d: %w", r.Manifest.Name, r.Head.Release, err)
	}
	return list, nil
}

// strip is the prefix that paths lose when path is written to a directory: a/b is written as b.
func strip(path string) string {
	path = content.CleanDir(path)
	return path[:strings.LastIndexByte(path, '/')+1]
}
