package main

import (
	"cmp"
	"errors"
	"io"
	"sync"
	"time"
)

// unreadFor is how long a program that ends waits for who reads its output, on standard output and again on standard error. Chosen: a
// reader that works takes the rest at once, and with it a node under load still stops within 5 s (.ci/e2e/story-stop.sh).
const unreadFor = 500 * time.Millisecond

// errUnread is the error of a program that ends while nobody reads its output.
var errUnread = errors.New("nobody reads the standard output, and its last lines are lost: ask again, with a reader that does not stop")

// told is standard output. What is written there is the answer to a command, so that nothing of it is dropped: who writes waits for the
// reader, for ever if need be, and a node works on meanwhile. Only a program that was told to end does not wait any longer. It remembers
// whether all has gone out: a script must not take half of a list for all of it.
type told struct {
	out   io.Writer
	first func() // called before each Write: what was written on standard error before appears before; may be nil

	ending chan struct{} // closed once the program is to end
	end    func()        // closes it
	mu     sync.Mutex    // guards all below
	err    error         // of the first Write that failed
	unread bool          // a Write was given up: the next are, too
}

func newTold(out io.Writer, first func()) *told {
	t := &told{out: out, first: first, ending: make(chan struct{})}
	t.end = sync.OnceFunc(func() { close(t.ending) })
	return t
}

// Write passes b on.
func (t *told) Write(b []byte) (int, error) {
	if t.first != nil {
		t.first()
	}
	n, err := t.write(b)
	if err != nil {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.err = cmp.Or(t.err, err)
		t.unread = t.unread || errors.Is(err, errUnread)
	}
	return n, err
}

// write is Write as far as it may wait.
func (t *told) write(b []byte) (int, error) {
	t.mu.Lock()
	unread := t.unread
	t.mu.Unlock()
	if unread {
		return 0, errUnread
	}
	own := append([]byte(nil), b...) // if it is given up, the writing goes on
	type result struct {
		n   int
		err error
	}
	done := make(chan result, 1)
	go func() { // ends with the program at the latest
		n, err := t.out.Write(own)
		done <- result{n, err}
	}()
	select {
	case r := <-done:
		return r.n, r.err
	case <-t.ending:
	}
	select {
	case r := <-done:
		return r.n, r.err
	case <-time.After(unreadFor):
		return 0, errUnread
	}
}

func (t *told) failed() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.err
}
