package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path"
	"path/filepath"
	"strings"
	"sync"

	"swarmnode/content"
	"swarmnode/content/origin"
	"swarmnode/content/store"
)

// arrivalsDir is where in a collection's directory the content lies that came from an origin.
const arrivalsDir = "arrivals"

// place is where a record publishes from: its directory, or its URL without what chooses among what is there.
func (r record) place() string {
	if r.From == nil {
		return r.Source
	}
	u, err := url.Parse(r.Source)
	if err != nil {
		return r.Source
	}
	return u.Scheme + "://" + u.Host + strings.TrimSuffix(u.Path, "/")
}

// directory is the directory of this machine that is published, or what an origin here is.
func (r record) directory() string {
	if u, err := url.Parse(r.Source); err == nil && u.Scheme == "file" {
		return u.Path
	}
	return r.Source
}

// OriginName is how a collection is called that comes from a URL, unless somebody chooses: as the last part of the path, or the host.
func OriginName(rawURL string) string {
	u, err := url.Parse(rawURL)
	if err != nil {
		return ""
	}
	if name := path.Base(u.Path); content.CheckName(name) == nil && name != "." {
		return name
	}
	return u.Hostname()
}

// originOptions are what an origin is opened with.
func (n *Node) originOptions(r *record) origin.Options {
	f := r.From
	o := origin.Options{Include: f.Include, Connections: f.Connections, UserAgent: n.cfg.UserAgent, AllowPrivate: f.Private, Log: n.log,
		Access: origin.Access{Netrc: f.Netrc, KnownHosts: f.KnownHosts, SSHKey: f.SSHKey, Keyring: f.Keyring, CACert: f.CACert}}
	if r.Scan != nil {
		o.Exclude = r.Scan.Exclude
	}
	if f.Contact != "" {
		o.UserAgent += " (+" + f.Contact + ")"
	}
	return o
}

// checkOrigin refuses what no origin can be opened with. Nothing is asked of the server yet.
func (n *Node) checkOrigin(ctx context.Context, r *record, rawURL string) error {
	if strings.ContainsFunc(r.From.Contact, func(c rune) bool { return c < ' ' || c == 0x7f }) {
		return errors.New("--contact: it has characters in it that cannot be sent")
	}
	o, err := origin.Open(ctx, rawURL, n.originOptions(r))
	if err != nil {
		return fmt.Errorf("publish from %s: %w", r.Source, err)
	}
	return o.Close()
}

// openOrigin opens what belongs to an origin. The origin itself is opened by the first run: what was published before is served,
// whether that can be done or not.
func (n *Node) openOrigin(c *collection, m *master) (err error) {
	rawURL := c.record.Source
	if u := n.triggers.url(c.id); u != "" {
		rawURL = u // with its password
	}
	m.origin = &lateOrigin{url: rawURL, options: n.originOptions(&c.record)}
	m.arrivals, err = store.OpenArrivals(filepath.Join(c.dir, arrivalsDir), store.Config{
		Budget: n.cfg.Disk, Log: n.log, Overhead: func() int64 { return c.pack.Bytes() + n.usedByOthers(c) + n.rest.bytes.Load() },
	})
	return err
}

// lateOrigin is an origin that is opened by each run that needs it.
type lateOrigin struct {
	url     string
	options origin.Options

	mu    sync.Mutex // guards what follows
	o     origin.Origin
	users int
}

func (l *lateOrigin) open(ctx context.Context) (origin.Origin, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.o != nil {
		return l.o, nil
	}
	o, err := origin.Open(ctx, l.url, l.options)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", origin.WithoutPassword(l.url), err)
	}
	l.o = o
	return o, nil
}

// OpenAfter implements origin.Comparer: an origin that compares nothing gets what it needs.
func (l *lateOrigin) OpenAfter(ctx context.Context, e origin.Entry, have io.ReaderAt, offset int64, version string) (*origin.Body, error) {
	o, err := l.open(ctx)
	if err != nil {
		return nil, err
	}
	if c, ok := o.(origin.Comparer); ok {
		return c.OpenAfter(ctx, e, have, offset, version)
	}
	return o.Open(ctx, e, offset, version)
}

// List implements origin.Origin.
func (l *lateOrigin) List(ctx context.Context, before origin.Before, each func(origin.Entry) error) (origin.Listing, error) {
	o, err := l.open(ctx)
	if err != nil {
		return origin.Listing{}, err
	}
	return o.List(ctx, before, each)
}

// Open implements origin.Origin.
func (l *lateOrigin) Open(ctx context.Context, e origin.Entry, offset int64, version string) (*origin.Body, error) {
	o, err := l.open(ctx)
	if err != nil {
		return nil, err
	}
	return o.Open(ctx, e, offset, version)
}

// use says that a run begins; the run calls done at its end. After the last one connections end: no origin has to keep any open until
// the next run, and a directory that was replaced, or mounted, is found.
func (l *lateOrigin) use() (done func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.users++
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.users--; l.users > 0 {
			return
		}
		if err := l.close(); err != nil {
			l.options.Log.Debug("an origin did not close well", "origin", origin.WithoutPassword(l.url), "error", err)
		}
	}
}

// Close implements origin.Origin.
func (l *lateOrigin) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.close()
}

func (l *lateOrigin) close() error {
	if l.o == nil {
		return nil
	}
	o := l.o
	l.o = nil
	return o.Close()
}
