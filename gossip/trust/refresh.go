package trust

import (
	"context"
	"errors"
	"fmt"
	"time"

	"swarmnode/gossip"
)

// Source gives a TUF file by name from somewhere: a peer, a web server, a signer. It reads at most max bytes. A file that
// is not there is an error like any other.
type Source func(ctx context.Context, name string, max int64) ([]byte, error)

// Refresh runs the whole client workflow over src: the chain of roots, then timestamp, snapshot, targets and release. A
// node that has nothing but the ID gets everything this way. It returns nil when the source has nothing newer. Errors wrap
// the sentinels of package gossip or come from src.
//
// A source can withhold a new root; nothing tells that apart from there being none, until the root that is here expires.
func (r *Repository) Refresh(ctx context.Context, now time.Time, src Source) error {
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
			return nil, err
		}
		return set, r.commit(now, set)
	}, func(name string, size int64) ([]byte, error) { return pull(ctx, src, name, size) })
	if err != nil && !errors.Is(err, gossip.ErrOld) {
		return fmt.Errorf("refresh %s: %w", r.id, err)
	}
	return nil
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
