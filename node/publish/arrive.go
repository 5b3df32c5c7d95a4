package publish

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"iter"
	"sync"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"swarmnode/content"
	"swarmnode/content/chunker"
	"swarmnode/content/origin"
	"swarmnode/content/store"
)

const (
	// arriveBlock is how much of a file is read before its chunks are written together, in bytes: they lie side by side then, which
	// makes few runs of a large file. Two for each connection are in memory: one comes while the one before it is hashed and written.
	arriveBlock = 4 * content.MaxChunkSize
	// maxConnections is how many files are fetched at a time at most: so many pairs of blocks are 256 MiB.
	maxConnections = 32
	// rateBurst is how much may come at once although a rate is set, in bytes: one read of a connection.
	rateBurst = 64 << 10
)

// fetcher fetches files into the arrivals, several at a time.
type fetcher struct {
	*run
	rate   *rate.Limiter // nil: no limit
	blocks sync.Pool
	full   chan struct{} // a segment is: it can be made durable while the next one is filled
}

func newFetcher(r *run) *fetcher {
	f := &fetcher{run: r, blocks: sync.Pool{New: func() any { return new([arriveBlock]byte) }}, full: make(chan struct{}, 1)}
	if r.o.Rate > 0 {
		f.rate = rate.NewLimiter(rate.Limit(r.o.Rate), rateBurst)
	}
	return f
}

// all fetches files. What is not as it was listed is noted in stale; an error ends it.
func (f *fetcher) all(ctx context.Context, connections int, files iter.Seq2[File, error]) error {
	connections = min(connections, maxConnections)
	synced := make(chan error)
	go func() { synced <- f.syncFull() }()
	g, ctx := errgroup.WithContext(ctx)
	work := make(chan File)
	g.Go(func() error {
		defer close(work)
		for file, err := range files {
			if err != nil {
				return err
			}
			select {
			case work <- file:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	for range connections {
		g.Go(func() error {
			for file := range work {
				if err := f.file(ctx, &file); err != nil {
					return err
				}
			}
			return nil
		})
	}
	err := g.Wait()
	close(f.full)
	return cmp.Or(err, <-synced)
}

// syncFull makes each segment durable once it is full, so that at the end only the last one is waited for.
func (f *fetcher) syncFull() (err error) {
	for range f.full {
		if err == nil {
			err = f.cfg.Arrivals.SyncFull()
		}
	}
	return err
}

// staleError says that a file is not what its listing says: another listing may know more.
type staleError struct {
	path  string
	cause error
}

func (e *staleError) Error() string { return fmt.Sprintf("%q: %v", e.path, e.cause) }

// Unwrap gives the cause.
func (e *staleError) Unwrap() error { return e.cause }

// file fetches one file until it holds still for once.
func (f *fetcher) file(ctx context.Context, file *File) error {
	g := &arriving{fetcher: f, file: file, large: f.last.params.Cutter(f.last.params.Rule(file.Path, int64(f.last.params.Fixed)+1))}
	if err := g.resume(); err != nil {
		return err
	}
	for range maxTries {
		err := g.insist(ctx)
		stale, own := (*staleError)(nil), (*finalError)(nil)
		switch {
		case err == nil:
			f.taking.Lock()
			f.pulled.Files++
			f.taking.Unlock()
			f.progress.file()
			return nil
		case errors.As(err, &own):
			return f.own(file.Path, own.cause)
		case errors.Is(err, errChanged):
			g.restart()
			continue
		case errors.As(err, &stale):
			f.note(file.Path, stale)
			return nil
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission):
			return f.unreadable(file, err)
		case ctx.Err() != nil:
			return ctx.Err()
		}
		return fmt.Errorf("fetch %q from %s: %w", file.Path, f.cfg.Root, err)
	}
	return &ChangedError{Path: file.Path}
}

// own says what an error of this side means for a file.
func (f *fetcher) own(path string, cause error) error {
	full := (*store.BudgetError)(nil)
	if errors.As(cause, &full) {
		return fmt.Errorf("fetch %q from %s: %w; give more with --disk, or leave it out with --exclude", path, f.cfg.Root, cause)
	}
	return fmt.Errorf("keep %q: %w", path, cause)
}

// insist tries until the file is here or something is wrong that is not the connection. Each time a part of it comes counts as a
// first try: a large file over a bad line arrives in the end.
func (g *arriving) insist(ctx context.Context) error {
	for {
		var settled error // what trying again does not change
		before := g.offset
		err := g.again(ctx, func() error {
			err := g.try(ctx)
			if settled = nil; decided(err) {
				settled, err = err, nil
			}
			return err
		})
		if settled != nil {
			return settled
		}
		refused := (*origin.RefusedError)(nil)
		if err == nil || g.offset <= before || ctx.Err() != nil || errors.As(err, &refused) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			return err
		}
	}
}

// decided reports whether an error is not one of the connection.
func decided(err error) bool {
	stale, own := (*staleError)(nil), (*finalError)(nil)
	return errors.Is(err, errChanged) || errors.As(err, &stale) || errors.As(err, &own)
}

func (f *fetcher) note(path string, err error) {
	f.taking.Lock()
	defer f.taking.Unlock()
	f.stale[path] = err
	if len(f.stale) > maxLeftOut { // that there are some is known
		delete(f.stale, path)
	}
}

// unreadable decides what becomes of a file that is listed but cannot be read. One that is gone may be gone from the next listing
// too. What is in it all the same is left out, unless the last release had it or the metadata of the origin promise it.
func (f *fetcher) unreadable(file *File, cause error) error {
	_, err := content.Lookup(f.treeBefore(), f.last.blocks, file.Path)
	promised := f.last.manifest != nil && err == nil || file.Last || !file.Listed.SHA256.IsZero()
	f.taking.Lock()
	defer f.taking.Unlock()
	if errors.Is(cause, fs.ErrNotExist) && (promised || !f.gone[file.Path]) {
		if len(f.gone) >= maxLeftOut {
			return fmt.Errorf("fetch %q from %s: %w, and so are %d others that it lists", file.Path, f.cfg.Root, cause, maxLeftOut)
		}
		f.gone[file.Path] = true
		f.stale[file.Path] = cause
		return nil
	}
	if promised {
		return fmt.Errorf("fetch %q from %s: %w: it was readable before, or the metadata of the origin list it; let it be read, or --exclude it if it is to go",
			file.Path, f.cfg.Root, cause)
	}
	if len(f.left) >= maxLeftOut {
		return fmt.Errorf("fetch %q from %s: %w, and so are %d others", file.Path, f.cfg.Root, cause, maxLeftOut)
	}
	f.left[file.Path] = true
	f.badRead = append(f.badRead, Bad{file.Path, fmt.Errorf("%q: %w", file.Path, cause)})
	return nil
}

func (r *run) treeBefore() content.Digest {
	if r.last.manifest == nil {
		return content.Digest{}
	}
	return r.last.manifest.Tree
}

// arriving is one file on its way.
type arriving struct {
	*fetcher
	file    *File
	large   *chunker.Cutter
	offset  int64           // up to which its chunks have arrived
	chunks  []content.Chunk // the last of them, which the log does not have yet
	sum     hash.Hash       // of what is before offset, unless whole is known
	whole   *content.Digest // of the file, if it is one chunk
	version string
	resumed bool // what arrived before this try counts
}

// resume goes on where an earlier run was cut off.
func (g *arriving) resume() error {
	g.restart()
	was, err := g.seen.read(g.file.Path)
	if err != nil || was == nil || was.Done || was.Offset == g.file.Size || was.Version == "" || string(was.Listed) != string(listedAs(g.file)) {
		return err
	}
	if state, ok := g.sum.(encoding.BinaryUnmarshaler); ok && state.UnmarshalBinary(was.Sum) == nil {
		g.offset, g.version = was.Offset, was.Version
	} else {
		g.restart()
	}
	return nil
}

func (g *arriving) restart() {
	g.offset, g.chunks, g.version, g.sum, g.whole, g.resumed = 0, nil, "", sha256.New(), nil, false
}

// try opens the file and takes in what comes. What has arrived when it breaks stays for the next try.
func (g *arriving) try(ctx context.Context) error {
	if g.version == "" && g.offset > 0 {
		g.restart()
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	body, err := g.open(ctx)
	if err != nil {
		return err
	}
	defer body.Close()
	g.resumed = body.Offset > 0
	if body.Offset != g.offset {
		if body.Offset != 0 {
			return fmt.Errorf("it was opened at %d instead of %d", body.Offset, g.offset)
		}
		g.restart()
	}
	if g.version = body.Version; len(g.version) > content.MaxPath {
		g.version = ""
	}
	size := body.Size
	if size < 0 {
		size = g.file.Size
	} else if g.file.Size >= 0 && size != g.file.Size {
		return &staleError{g.file.Path, fmt.Errorf("it is listed with %d bytes and has %d", g.file.Size, size)}
	}
	if err := g.take(ctx, cancel, body, size); err != nil {
		return err
	}
	if body.Still != nil {
		still, err := body.Still(ctx)
		if err != nil {
			return err
		}
		if !still {
			return errChanged
		}
	}
	return g.finish(body.Mtime)
}

// log notes the chunks that have arrived of the file up to offset and are not noted yet.
func (g *arriving) log(done bool, mtime int64) error {
	size := int64(0)
	rec := seenRecord{Path: g.file.Path, Listed: listedAs(g.file), Version: g.version, Offset: g.offset, Mtime: mtime, Done: done}
	for _, c := range g.chunks {
		rec.Digests, rec.Sizes = append(rec.Digests, c.Digest[:]...), append(rec.Sizes, c.Size)
		size += int64(c.Size)
	}
	if done {
		sum := g.total()
		rec.Sum = sum[:]
	} else if state, ok := g.sum.(encoding.BinaryMarshaler); ok && g.whole == nil {
		rec.Sum, _ = state.MarshalBinary() // one without a state is not gone on with
	}
	if err := g.seen.add(rec, g.offset == size); err != nil {
		return &finalError{err}
	}
	g.chunks = nil
	return nil
}

// finish notes that all of the file is here, if it is what the metadata of the origin promise.
func (g *arriving) finish(mtime int64) error {
	if want, got := g.file.Listed.SHA256, g.total(); !want.IsZero() && got != want {
		if g.resumed {
			return errChanged // what was there before is not what came now
		}
		return &staleError{g.file.Path, fmt.Errorf("its SHA-256 is %v, and the metadata of the origin say %v", got, want)}
	}
	return g.log(true, mtime)
}

// finalError is one of this side: to ask the origin once more changes nothing.
type finalError struct{ cause error }

func (e *finalError) Error() string { return e.cause.Error() }

// Unwrap gives the cause.
func (e *finalError) Unwrap() error { return e.cause }
