package origin

import (
	"cmp"
	"container/heap"
	"context"
	"errors"
	"io"
	"sync"

	"swarmnode/content"
)

const (
	// aheadMost is how many directories are listed before they are needed: while one is waited for, a minute's worth of the others.
	aheadMost = 256
	// aheadMemory is how much memory these take before no further one is begun: a quarter of a million paths.
	aheadMemory = 64 << 20
	// aheadPage is how much of a page each connection may read besides the others: 4,000 names. Of what is longer, up to
	// MaxDirectoryBytes, one is read at a time.
	aheadPage = 512 << 10
)

// ahead are the directories that are known and not listed. Those that a walk needs first are listed first; each that is listed brings
// its own subdirectories at once, so that narrow trees and deep ones keep all connections busy too.
type ahead struct {
	mu      sync.Mutex // guards what follows
	changed *sync.Cond // something was offered, needed or used, or it has stopped
	waiting waiting
	needed  *directory // what the walk waits for, whatever the limits say
	lists   int        // that nobody has used, with those that are being made
	bytes   int        // that those take which are made
	large   *directory // whose page is longer than aheadPage and being read; nil: none
	starved int        // how many cannot be begun because others that wait have all connections
	stopped bool

	mostLists, mostBytes int
}

func newAhead() *ahead {
	a := &ahead{mostLists: aheadMost, mostBytes: aheadMemory}
	a.changed = sync.NewCond(&a.mu)
	return a
}

// next gives a directory to list, as soon as there is one and room for it; nil when it is over.
func (a *ahead) next() *directory {
	a.mu.Lock()
	defer a.mu.Unlock()
	for {
		if a.stopped {
			return nil
		}
		room := a.lists < a.mostLists && a.bytes < a.mostBytes
		if len(a.waiting) > 0 && (room || a.waiting[0] == a.needed) {
			a.lists++
			return heap.Pop(&a.waiting).(*directory)
		}
		a.changed.Wait()
	}
}

// loaded says that a directory that next gave is listed. Its subdirectories are known now, unless it is a loop: those would go on for
// ever.
func (a *ahead) loaded(d *directory) {
	loops := d.loops()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.bytes += d.bytes
	a.shrink(d)
	if d.err == nil && !loops {
		a.offer(d.subs...)
	}
}

// offer makes directories known. The caller holds mu.
func (a *ahead) offer(ds ...*directory) {
	for _, d := range ds {
		heap.Push(&a.waiting, d)
	}
	a.changed.Broadcast()
}

// need waits until a directory is listed.
func (a *ahead) need(d *directory) {
	a.mu.Lock()
	a.needed = d
	if d.parent == nil {
		a.offer(d)
	}
	a.changed.Broadcast()
	a.mu.Unlock()
	<-d.done
	a.mu.Lock()
	defer a.mu.Unlock()
	a.lists--
	a.bytes -= d.bytes
	a.changed.Broadcast()
}

// place is what a lister is told of the directory that it lists.
type place struct {
	a *ahead
	d *directory
}

// placeKey is the key of a place in a context.
type placeKey struct{}

// placeOf gives the place of who lists for a crawl; nil for others.
func placeOf(ctx context.Context) *place {
	p, _ := ctx.Value(placeKey{}).(*place)
	return p
}

// enlarge reports whether the directory may have a page longer than aheadPage: no other has one, and there is room or the walk waits
// for it. It may until it is loaded, or listed once more.
func (p *place) enlarge() bool {
	if p == nil {
		return true
	}
	p.a.mu.Lock()
	defer p.a.mu.Unlock()
	return p.a.enlarge(p.d)
}

// wait returns when the directory may.
func (p *place) wait(ctx context.Context) error {
	if p == nil {
		return nil
	}
	a := p.a
	defer context.AfterFunc(ctx, func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.changed.Broadcast()
	})()
	a.mu.Lock()
	defer a.mu.Unlock()
	for !a.stopped && ctx.Err() == nil {
		if a.enlarge(p.d) {
			return nil
		}
		a.changed.Wait()
	}
	return cmp.Or(context.Cause(ctx), context.Canceled)
}

// starve says, until the function that it gives is called, that the directory waits for a connection that another one has.
func (p *place) starve() func() {
	if p == nil {
		return func() {}
	}
	add := func(n int) {
		p.a.mu.Lock()
		defer p.a.mu.Unlock()
		p.a.starved += n
		p.a.changed.Broadcast()
	}
	add(1)
	return func() { add(-1) }
}

// leave says that what was read of the page is forgotten.
func (p *place) leave() {
	p.a.mu.Lock()
	defer p.a.mu.Unlock()
	p.a.shrink(p.d)
}

// enlarge is that of place. The caller holds mu.
func (a *ahead) enlarge(d *directory) bool {
	if a.large == nil && (a.bytes < a.mostBytes || a.needed == d || a.starved > 0) {
		a.large = d
	}
	return a.large == d
}

// shrink ends what enlarge began. The caller holds mu.
func (a *ahead) shrink(d *directory) {
	if a.large == d {
		a.large = nil
		a.changed.Broadcast()
	}
}

// errLarge says that a page is long and another one is being read: it is asked for again in its turn, for a server does not wait so
// long.
var errLarge = errors.New("a long page has to wait for its turn")

// pageReader is a page of which no more than aheadPage comes if another one is longer.
type pageReader struct {
	io.Reader
	place *place
	left  int
	err   error // errLarge, once it was said: who asks in spite of it gets no page without its middle
}

func newPageReader(ctx context.Context, r io.Reader) *pageReader {
	return &pageReader{Reader: r, place: placeOf(ctx), left: aheadPage}
}

// Read is that of io.Reader.
func (r *pageReader) Read(p []byte) (int, error) {
	if r.err == nil && r.left <= 0 && !r.place.enlarge() {
		r.err = errLarge
	}
	if r.err != nil {
		return 0, r.err
	}
	n, err := r.Reader.Read(p)
	r.left -= n
	return n, err
}

func (a *ahead) stop() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.stopped = true
	a.changed.Broadcast()
}

// waiting is a heap: what a walk comes to first is at its top.
type waiting []*directory

func (w waiting) Len() int           { return len(w) }
func (w waiting) Less(i, j int) bool { return content.ComparePaths(w[i].path, w[j].path) < 0 }
func (w waiting) Swap(i, j int)      { w[i], w[j] = w[j], w[i] }

// Push is that of heap.Interface.
func (w *waiting) Push(x any) { *w = append(*w, x.(*directory)) }

// Pop is that of heap.Interface.
func (w *waiting) Pop() any {
	last := len(*w) - 1
	d := (*w)[last]
	(*w)[last] = nil
	*w = (*w)[:last]
	return d
}
