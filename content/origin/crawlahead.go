package origin

import (
	"container/heap"
	"sync"

	"swarmnode/content"
)

const (
	// aheadMost is how many directories are listed before they are needed: while one is waited for, a minute's worth of the others.
	aheadMost = 256
	// aheadMemory is how much memory these take before no further one is begun: a quarter of a million paths. The page of one directory
	// may be as large as MaxDirectoryBytes says, and each goroutine may have one.
	aheadMemory = 64 << 20
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
