package origin

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"sync"

	"swarmnode/content"
)

const (
	// aheadFile is how long a file may be that is asked for before it is wanted: what takes longer to come than to ask for it gains
	// nothing.
	aheadFile = 128 << 10
	// aheadFiles and aheadBytes are how many of them, at most, are on their way or in memory: a round trip of 100 ms then gives
	// 2,000 files a second.
	aheadFiles = 200
	aheadBytes = 8 << 20
)

// readAhead asks for small files in the order of the listing, before they are wanted: who fetches them one after the other, as far as
// the server knows, would wait a round trip for each.
type readAhead struct {
	mu    sync.Mutex        // guards all below
	names []string          // of the small files that were listed and are not what they were the last time, in content.ComparePaths
	next  int               // the first of names that was not asked for
	kept  map[string]*aside // asked for and not yet wanted
	bytes int64             // of kept, as listed
	wg    sync.WaitGroup    // who receives
}

// aside is a file that has come, or is coming, before it was wanted.
type aside struct {
	s    *rsyncSession
	size int64 // as listed
	came chan struct{}
	data []byte // for who waited for came
	err  error
}

// begin forgets all there was, before a new listing.
func (r *readAhead) begin() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.names, r.next, r.kept, r.bytes = nil, 0, map[string]*aside{}, 0
}

// note takes a file of the listing that will be wanted, if it is not what it was before.
func (r *readAhead) note(before Before, e Entry) {
	if !e.IsFile() || e.Size > aheadFile {
		return
	}
	if was, ok := before.Find(e.Path); !ok || was.Stamp != e.Stamp || e.Stamp == "" {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.names = append(r.names, e.Path)
	}
}

// take gives a file that was asked for before, if there is one, and waits for it. What came over a connection that has ended in the
// meantime, or is longer than it was listed, is asked for once more.
func (r *readAhead) take(ctx context.Context, name string) (io.ReadCloser, error) {
	a := r.claim(name)
	if a == nil {
		return nil, nil
	}
	r.more(a.s, name)
	select {
	case <-a.came:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if a.err != nil {
		if final(a.err) {
			return nil, a.err
		}
		return nil, nil
	}
	return io.NopCloser(bytes.NewReader(a.data)), nil
}

// claim gives what was asked for, or sees to it that nobody else asks for it.
func (r *readAhead) claim(name string) *aside {
	r.mu.Lock()
	defer r.mu.Unlock()
	if a := r.kept[name]; a != nil {
		delete(r.kept, name)
		r.bytes -= a.size
		return a
	}
	if at, ok := slices.BinarySearchFunc(r.names, name, content.ComparePaths); ok {
		r.next = max(r.next, at+1)
	}
	return nil
}

// more asks for the files after name, which has just been asked for or taken, as far as they are small and there is room.
func (r *readAhead) more(s *rsyncSession, name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	at, ok := slices.BinarySearchFunc(r.names, name, content.ComparePaths)
	if ok {
		at++
	}
	// Some fetch several at a time, so the order is not quite that of the listing.
	for r.next = max(r.next, at); r.next < len(r.names) && r.next < at+aheadFiles && len(r.kept) < aheadFiles && r.bytes < aheadBytes; r.next++ {
		b, err := s.requestAhead(r.names[r.next])
		if b == nil || err != nil {
			return // whoever wants it asks again, and is told
		}
		a := &aside{s: s, size: b.file.size, came: make(chan struct{})}
		r.kept[r.names[r.next]] = a
		r.bytes += a.size
		r.wg.Go(func() {
			a.data, a.err = b.whole(a.size)
			close(a.came)
		})
	}
}

// whole receives a file into memory.
func (b *rsyncBody) whole(size int64) ([]byte, error) {
	if err := b.begin(); err != nil {
		return nil, err
	}
	var data bytes.Buffer
	data.Grow(int(size))
	if _, err := io.CopyN(&data, b, size+1); err != io.EOF {
		if err == nil {
			b.Close()
			err = fmt.Errorf("%w: longer than the %d bytes that were listed", errRsync, size)
		}
		return nil, err
	}
	return data.Bytes(), nil
}
