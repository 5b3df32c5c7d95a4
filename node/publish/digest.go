package publish

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"swarmnode/content"
	"swarmnode/content/chunker"
)

const (
	// maxHashers is how many files are hashed at the same time: what a fast disk keeps busy.
	maxHashers = 16
	// maxPipelines is how many of them may be larger than one chunk: each has pipelineBlocks blocks in memory.
	maxPipelines = 3
	// maxTries is how often a file that changes while it is read is read.
	maxTries = 3
	// aheadBytes bounds the memory for results that wait for a file before them, in bytes: a large file's chunk list is
	// about a seven-thousandth of the file.
	aheadBytes = 16 << 20
	// aheadJob is what a file without a chunk list costs of it.
	aheadJob = 1 << 10
)

// Digested is a file with its content hashed and cut. Directories and symlinks pass through without content.
type Digested struct {
	File                  // as it was when it was read
	SHA256 content.Digest // of the whole file
	Chunks []content.Chunk
	Moved  bool // it was not as the scan had seen it: the snapshot must not vouch for it
	Linked bool // it got a hard link, which changed its change time; File has the new one

	Undated bool // nobody says when it was changed
}

// Hooks are called while files are hashed, from any goroutine. Each may be nil.
type Hooks struct {
	Read func(n int64) // bytes were read
	// Link is called before a file is read: dir is its directory, opened. made says that its change time is new.
	Link func(dir *os.File, path string, inode uint64) (made bool, err error)
}

// ChangedError names a file that changed each time it was read, or that is gone.
type ChangedError struct {
	Path string
	Gone bool
}

func (e *ChangedError) Error() string {
	if e.Gone {
		return fmt.Sprintf("%q was removed between the scan and the reading; publish again when nothing writes to the tree", e.Path)
	}
	return fmt.Sprintf("%q changed while it was read, %d times in a row; publish again when nothing writes to it", e.Path, maxTries)
}

// errChanged makes one file be read again.
var errChanged = errors.New("changed while it was read")

// Digest hashes and cuts files below root, several at a time, and calls each, in the caller's goroutine, in the order of files.
func Digest(ctx context.Context, root *os.Root, p chunker.Params, files iter.Seq2[File, error], hooks Hooks, each func(*Digested) error) error {
	if err := p.Check(); err != nil {
		return err
	}
	if hooks.Read == nil {
		hooks.Read = func(int64) {}
	}
	if hooks.Link == nil {
		hooks.Link = func(*os.File, string, uint64) (bool, error) { return false, nil }
	}
	h := &hasher{
		root: root, params: p, hooks: hooks, ahead: semaphore.NewWeighted(aheadBytes), large: semaphore.NewWeighted(maxPipelines),
		blocks: sync.Pool{New: func() any { return &block{buf: make([]byte, blockSize)} }},
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	g, ctx := errgroup.WithContext(ctx)
	work := make(chan *job)
	order := make(chan *job, aheadBytes/aheadJob)
	g.Go(func() error {
		defer close(work)
		defer close(order)
		return h.feed(ctx, files, work, order)
	})
	for range min(max(runtime.GOMAXPROCS(0), 2), maxHashers) {
		g.Go(func() error { return h.serve(ctx, work) })
	}
	err := h.deliver(ctx, order, each)
	stop()
	if first := g.Wait(); first != nil && (err == nil || errors.Is(err, context.Canceled)) {
		return first // what made the delivery end
	}
	return err
}

// deliver hands the results over in order.
func (h *hasher) deliver(ctx context.Context, order <-chan *job, each func(*Digested) error) error {
	for j := range order {
		select {
		case <-j.done:
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := each(&j.out); err != nil {
			return err
		}
		h.ahead.Release(j.weight)
	}
	return ctx.Err()
}

// job is one file on its way. done is closed when out is complete.
type job struct {
	out    Digested
	weight int64
	done   chan struct{}
}

// hasher is what the goroutines of one Digest share.
type hasher struct {
	root   *os.Root
	params chunker.Params
	hooks  Hooks
	ahead  *semaphore.Weighted // bytes of results
	large  *semaphore.Weighted // pipelines
	blocks sync.Pool
}

// feed makes the jobs, in order, as far ahead as memory allows.
func (h *hasher) feed(ctx context.Context, files iter.Seq2[File, error], work, order chan<- *job) error {
	for f, err := range files {
		if err != nil {
			return err
		}
		lists := f.Size / int64(h.params.Avg) * int64(len(content.Digest{})+8)
		j := &job{out: Digested{File: f}, weight: min(aheadJob+lists, aheadBytes), done: make(chan struct{})}
		if err := h.ahead.Acquire(ctx, j.weight); err != nil {
			return err
		}
		select { // never waits: the semaphore lets no more jobs through than fit
		case order <- j:
		case <-ctx.Done():
			return ctx.Err()
		}
		if !f.isFile() {
			close(j.done)
			continue
		}
		select {
		case work <- j:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// serve hashes files until there are no more.
func (h *hasher) serve(ctx context.Context, work <-chan *job) error {
	w := &worker{hasher: h, buf: make([]byte, h.params.Fixed)}
	defer w.close()
	for j := range work {
		if err := w.digest(ctx, &j.out); err != nil {
			return err
		}
		close(j.done)
	}
	return nil
}

// worker is one goroutine's own: a buffer for a one-chunk file and the directory that it was in last.
type worker struct {
	*hasher
	buf  []byte
	dir  string
	at   *os.Root // dir, opened
	stat *os.File // dir, opened for statAt and openAt
}

// enter makes dir the current directory. Files come in path order, so that most are in the directory of the one before.
func (w *worker) enter(dir string) error {
	if w.at != nil && w.dir == dir {
		return nil
	}
	w.close()
	at, err := w.root.OpenRoot(dir)
	if err != nil {
		return err
	}
	stat, err := at.Open(".")
	if err != nil {
		at.Close()
		return err
	}
	w.dir, w.at, w.stat = dir, at, stat
	return nil
}

func (w *worker) close() {
	if w.at != nil {
		w.at.Close()
		w.stat.Close()
		w.at = nil
	}
}

// digest reads d's file until it holds still for once.
func (w *worker) digest(ctx context.Context, d *Digested) error {
	scanned := d.File
	for range maxTries {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := w.try(ctx, d)
		switch {
		case err == nil:
			// The scan gives a file that changed just before it no change time.
			scanned.Ctime, scanned.Mode = max(scanned.Ctime, 0), d.Mode
			if scanned.Ctime == 0 || d.Linked {
				scanned.Ctime = d.Ctime
			}
			d.Moved = scanned != d.File || d.Linked && near(d.Mtime, d.Ctime)
			return nil
		case errors.Is(err, fs.ErrNotExist):
			return &ChangedError{Path: d.Path, Gone: true}
		case !errors.Is(err, errChanged):
			return fmt.Errorf("read %q: %w", d.Path, cause(err))
		}
	}
	return &ChangedError{Path: d.Path}
}

// near reports whether two times may be of the same tick. A file that was linked just now may change again without a new
// change time, but, unless it was written just before, not without a new modification time.
func near(a, b int64) bool { return max(a, b)-min(a, b) < racy.Nanoseconds() }

// try reads the file once. The error is errChanged if it was not one and the same file from before to after.
func (w *worker) try(ctx context.Context, d *Digested) error {
	dir, name := path.Split(d.Path)
	if dir == "" {
		dir = "."
	}
	if err := w.enter(dir); err != nil {
		return err
	}
	f, err := openAt(w.stat, w.at, name)
	if errors.Is(err, syscall.ELOOP) {
		return errChanged // it is a symlink by now
	}
	if err != nil {
		return err
	}
	defer f.Close()
	before, err := f.stat(d.Path)
	if err != nil {
		return err
	}
	if !before.isFile() {
		return errChanged
	}
	if before.Size > 0 {
		made, err := w.hooks.Link(w.stat, d.Path, before.Inode)
		if err != nil {
			return err
		}
		if made {
			d.Linked = true
			if before, err = f.stat(d.Path); err != nil {
				return err
			}
		}
	}
	if rule := w.params.Rule(d.Path, before.Size); rule == chunker.Whole {
		err = w.small(f, before.Size, d)
	} else {
		err = w.largeFile(ctx, f, before.Size, w.params.Cutter(rule), d)
	}
	if err != nil {
		return err
	}
	// By path, not by the open file: a file that replaced this one counts as a change too.
	after, _, err := statAt(w.stat, w.at, name, name)
	if err != nil {
		return err
	}
	after.Path = d.Path
	if after != before {
		return errChanged
	}
	d.File = before
	return nil
}

// small hashes a file of at most one chunk: the chunk's digest is the file's.
func (w *worker) small(f io.Reader, size int64, d *Digested) error {
	buf := w.buf[:size]
	if _, err := io.ReadFull(f, buf); err != nil {
		if err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF) {
			return errChanged
		}
		return err
	}
	d.SHA256, d.Chunks = sha256.Sum256(buf), nil
	if size > 0 {
		d.Chunks = []content.Chunk{{Digest: d.SHA256, Size: uint32(size)}}
	}
	w.hooks.Read(size)
	return nil
}

// largeFile waits for a free pipeline and sends the file through.
func (w *worker) largeFile(ctx context.Context, f io.Reader, size int64, c *chunker.Cutter, d *Digested) error {
	if err := w.large.Acquire(ctx, 1); err != nil {
		return err
	}
	defer w.large.Release(1)
	p := newPipeline(&w.blocks, w.hooks.Read)
	chunks, sum, err := p.run(ctx, f, size, c)
	d.Chunks, d.SHA256 = chunks, sum
	return err
}
