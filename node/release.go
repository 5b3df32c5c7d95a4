package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"swarmnode/content"
	"swarmnode/content/store"
	"swarmnode/gossip"
	"swarmnode/gossip/trust"
	"swarmnode/node/fetch"
)

const (
	// nodeBatch is how many missing nodes of the file tree are asked for at a time.
	nodeBatch = 4096
	// outlineRoom is how much metadata comes along with the manifest, whether it is needed or not: that of some GB in large files
	// or of a thousand small ones. It takes 100 ms at 20 Mbit/s, as long as a round trip that it saves.
	outlineRoom = 256 << 10
)

// Release is a verified release as a client sees it. It is not safe for concurrent use.
type Release struct {
	Head     gossip.Head
	Manifest *content.Manifest

	client *Client
	id     content.ID
	dir    string
	lock   *os.File // nil: dir is for this run only
	pack   *store.Pack
	fetch  *fetch.Fetcher
	sink   *sink
	infos  []content.SegmentInfo
	tasks  *tasks
}

// Release finds the newest release of a collection that anybody reached knows and proves. Close ends it.
func (c *Client) Release(ctx context.Context, id content.ID) (*Release, error) {
	r := &Release{client: c, id: id, sink: &sink{}, tasks: newTasks(c.tasks.ctx, c.cfg.Log)}
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
	// Peers say what they have while they are asked for the newest release.
	r.fetch = fetch.New(fetch.Config{
		ID: r.id, Network: network{r.client.host}, Sink: r.sink, Rand: newRand(), Log: r.client.cfg.Log,
		Wrong: func(err error) bool { return errors.Is(err, store.ErrWrongBytes) },
	})
	r.client.use(r.fetch)
	r.tasks.run(r.tasks.ctx, "fetcher", r.fetch.Run, nil)
	if err := r.learn(ctx, repo); err != nil {
		return err
	}
	r.Head = repo.Head()
	if time.Now().After(r.Head.Expires) {
		r.client.cfg.Log.Warn("the publisher has not confirmed this release for long: there may be a newer one, ask the publisher", "release", r.Head.Release, "expired", r.Head.Expires)
	}
	if err := r.outline(ctx); err != nil {
		return err
	}
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

// takeDir takes the directory for what is verified of the collection; if another client has it, or it cannot be written, one
// for this run only, with what was verified before as far as it can be read.
func (r *Release) takeDir() error {
	err := errors.New("no home directory")
	dir := filepath.Join(r.client.cfg.Home, clientsDir, r.id.String())
	if r.client.cfg.Home != "" {
		err = os.MkdirAll(dir, 0o700)
	}
	if err == nil {
		r.lock, err = lockHome(dir)
	}
	if err == nil {
		if err = upgrade(dir, clientSteps()); err == nil {
			r.dir = dir
			return nil
		}
		err = errors.Join(err, r.lock.Close())
		r.lock = nil
	}
	if errors.Is(err, ErrNewerHome) {
		return err
	}
	if !errors.Is(err, ErrHomeBusy) {
		r.client.cfg.Log.Warn("what is verified is not remembered for the next time: look at the disk of the home directory", "error", err)
	}
	if r.dir, err = os.MkdirTemp("", "swarmnode-client-"); err != nil {
		return err
	}
	if r.client.cfg.Home == "" {
		return nil
	}
	// So that this run is not told an older release either. A file that the other client replaces meanwhile does not count.
	if err := os.CopyFS(filepath.Join(r.dir, "trust"), os.DirFS(filepath.Join(dir, "trust"))); err != nil {
		r.client.cfg.Log.Debug("what was verified before is not known to this run", "error", err)
	}
	return nil
}

// Close ends the release. A second call does nothing.
func (r *Release) Close() error {
	if r.fetch != nil {
		r.client.drop(r.fetch)
	}
	r.tasks.end()
	var errs []error
	if r.pack != nil {
		errs = append(errs, r.pack.Close())
	}
	switch {
	case r.lock != nil:
		errs = append(errs, r.lock.Close())
	case r.dir != "":
		errs = append(errs, os.RemoveAll(r.dir))
	}
	r.lock, r.dir = nil, ""
	return errors.Join(errs...)
}

// outline fetches the manifest, if it is not here, and what is below it as far as there is room.
func (r *Release) outline(ctx context.Context) error {
	if r.pack.Has(r.Head.Manifest) {
		return nil
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	stall := r.client.cfg.Stall
	timer := time.AfterFunc(stall, func() { stop(r.stalled()) })
	defer timer.Stop()
	return r.fetch.Outline(ctx, r.Head.Manifest, outlineRoom, func(_ content.Digest, data []byte) error {
		timer.Reset(stall)
		_, err := r.pack.Put(data)
		return err
	})
}

// fill runs look and fetches the metadata blocks that it misses. It gives up when nothing comes for long.
func (r *Release) fill(ctx context.Context, look func() error) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	stall := r.client.cfg.Stall
	timer := time.AfterFunc(stall, func() { stop(r.stalled()) })
	defer timer.Stop()
	return content.Fill(func() error {
		timer.Stop()
		err := look() // which takes its own time
		timer.Reset(stall)
		return err
	}, func(missing []content.Digest) error {
		return r.fetch.Blocks(ctx, missing, func(_ content.Digest, data []byte) error {
			timer.Reset(stall)
			_, err := r.pack.Put(data)
			return err
		})
	})
}

// stalled is the error of a get to which nothing comes any more.
func (r *Release) stalled() error {
	stall := r.client.cfg.Stall
	holders := r.fetch.Progress().Holders
	if holders == 0 {
		return fmt.Errorf("nothing came for %s: no node that has the collection is connected any more; run the same command again later, "+
			"or give more addresses with --bootstrap", stall)
	}
	return fmt.Errorf("nothing came for %s: %d nodes that have the collection are connected, and none gives what is left; run the same command again later, "+
		"or give more addresses with --bootstrap", stall, holders)
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
	e, err := r.Stat(ctx, dir)
	if err != nil {
		return nil, err
	}
	if !e.IsDir() {
		return []content.Entry{e}, nil
	}
	err = r.fill(ctx, func() error {
		list, err = content.List(r.Manifest.Tree, r.pack, content.CleanDir(dir))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%s release %d: %w", r.Manifest.Name, r.Head.Release, err)
	}
	return list, nil
}

// walk gives all entries of a path; for the whole release the top directory comes first.
func (r *Release) walk(ctx context.Context, path string) (list []content.Entry, err error) {
	path = content.CleanDir(path)
	if path == "" {
		// First all nodes, without the entries: a walk begins anew after each miss.
		err = r.fill(ctx, func() error {
			missing, err := content.MissingNodes(r.Manifest.Tree, r.pack, nodeBatch)
			if err == nil && len(missing) > 0 {
				err = &content.Missing{Blocks: missing}
			}
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("%s release %d: %w", r.Manifest.Name, r.Head.Release, err)
		}
	}
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
