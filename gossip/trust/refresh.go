package trust

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"swarmnode/gossip"
)

// Source gives a TUF file by name from somewhere: a peer, a web server, a signer. It reads at most max bytes. A file that
// is not there is an error like any other. It is called from several goroutines.
type Source func(ctx context.Context, name string, max int64) ([]byte, error)

// Refresh runs the whole client workflow over src: the chain of roots, then timestamp, snapshot, targets and release. A
// node that has nothing but the ID gets everything this way. It returns nil when the source has nothing newer. Errors wrap
// the sentinels of package gossip or come from src.
//
// A source can withhold a new root; nothing tells that apart from there being none, until the root that is here expires.
//
// What it will ask for in any case it asks for at once: each question costs a round trip.
func (r *Repository) Refresh(ctx context.Context, now time.Time, src Source) error {
	src, end := r.ahead(ctx, src)
	defer end()
	if err := r.pullRoots(ctx, src); err != nil {
		return fmt.Errorf("refresh %s: %w", r.id, err)
	}
	raw, err := pull(ctx, src, timestampFile, MaxTimestamp)
	if err != nil {
		return fmt.Errorf("refresh %s: %w", r.id, err)
	}
	_, err = complete(timestampFile, raw, func(files map[string][]byte) (*trusted, error) {
		r.mu.Lock() // held for each attempt, never while waiting for the source
		defer r.mu.Unlock()
		set, err := r.verify(r.floored(now), r.head, files)
		if err != nil {
			return nil, r.note(now, err)
		}
		return set, r.commit(now, set)
	}, func(name string, size int64) ([]byte, error) { return pull(ctx, src, name, size) })
	if err != nil && !(errors.Is(err, gossip.ErrOld) && r.Head().Release > 0) {
		return fmt.Errorf("refresh %s: %w", r.id, err)
	}
	return nil
}

// early is a file that was asked for before it is needed.
type early struct {
	done chan struct{} // closed when the rest is set
	raw  []byte
	err  error
}

// ahead asks src for the next root and the timestamp and gives a source that has their answers. As long as nothing is known the
// bundle takes the place of the timestamp, and with it come all other files. end waits for what is still asked for.
func (r *Repository) ahead(ctx context.Context, src Source) (_ Source, end func()) {
	ctx, stop := context.WithCancel(ctx)
	r.mu.Lock()
	version := r.set.rootVersion()
	r.mu.Unlock()
	limits := map[string]int64{versioned(version+1, roleRoot): MaxRoot}
	if version > 0 {
		limits[timestampFile] = MaxTimestamp
	} else {
		limits[versioned(2, roleRoot)] = MaxRoot
		limits[BundleFile] = gossip.MaxBundle
	}
	var asking sync.WaitGroup
	asked := map[string]*early{}
	for name, limit := range limits {
		e := &early{done: make(chan struct{})}
		asked[name] = e
		asking.Go(func() {
			defer close(e.done)
			e.raw, e.err = src(ctx, name, limit)
		})
	}
	return func(ctx context.Context, name string, limit int64) ([]byte, error) {
		if e := asked[name]; e != nil {
			<-e.done
			return e.raw, e.err
		}
		if e := asked[BundleFile]; e != nil {
			<-e.done
			if raw, ok := e.file(name); ok && int64(len(raw)) <= limit {
				return raw, nil
			}
		}
		return src(ctx, name, limit)
	}, func() { stop(); asking.Wait() }
}

// file gives a file of a bundle. A bundle that cannot be read has none: each file is asked for then.
func (e *early) file(name string) ([]byte, bool) {
	if e.err != nil {
		return nil, false
	}
	b, err := gossip.DecodeBundle(e.raw)
	raw, ok := b.Files[name]
	return raw, err == nil && ok
}

// pullRoots asks for the root after the newest one until there is none.
func (r *Repository) pullRoots(ctx context.Context, src Source) error {
	for range MaxNewRoots {
		r.mu.Lock()
		version := r.set.rootVersion()
		r.mu.Unlock()
		name := versioned(version+1, roleRoot)
		raw, err := pull(ctx, src, name, MaxRoot)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil && version == 0 {
			return err
		}
		if err != nil {
			return nil
		}
		if err := r.takeRoot(version, raw); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// takeRoot adds a root unless somebody else did while it was on its way.
func (r *Repository) takeRoot(after int64, raw []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.set.rootVersion() != after {
		return nil
	}
	return r.addRoot(raw, true)
}

func pull(ctx context.Context, src Source, name string, limit int64) ([]byte, error) {
	raw, err := src(ctx, name, limit)
	if err != nil {
		return nil, fmt.Errorf("pull %s: %w", name, err)
	}
	if int64(len(raw)) > limit {
		return nil, fmt.Errorf("pull %s: %w: %d bytes, at most %d are allowed", name, gossip.ErrMalformed, len(raw), limit)
	}
	return raw, nil
}

// complete runs check on a file and adds what it says is missing until nothing is.
func complete(name string, raw []byte, check func(map[string][]byte) (*trusted, error), fetch func(string, int64) ([]byte, error)) (*trusted, error) {
	files := map[string][]byte{name: raw}
	for {
		set, err := check(files)
		var missing *IncompleteError
		if !errors.As(err, &missing) {
			return set, err
		}
		if files[missing.Name], err = fetch(missing.Name, missing.Size); err != nil {
			return nil, err
		}
	}
}
