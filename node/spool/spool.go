// Package spool stands between those who write lines, such as records of a log, and a reader who may be slow or hang: a journal, a
// pager, a pipe that nobody reads. Who writes is never held up; what does not fit is dropped and counted, and the count is told.
package spool

import (
	"io"
	"sync"
	"time"
)

const (
	// maxBytes is how much waits for the reader. Some thousands of lines: minutes of a node that is asked for every detail, days of others.
	maxBytes = 1 << 20
	// lowBytes is how little has to wait before lines are taken again: a reader who is always too slow gets long pieces with few gaps.
	lowBytes = maxBytes / 2
)

// Queue hands lines on, in order, one write each.
type Queue struct {
	out  io.Writer
	lost func(lines int) string

	mu      sync.Mutex // guards all below
	lines   [][]byte
	size    int           // of lines, in bytes
	dropped int           // lines that were not taken since the last that was
	idle    chan struct{} // closed while nothing waits or is being written
	hangs   bool          // Settle has waited in vain for what is being written
}

// New makes a Queue in front of out. lost makes the line that tells how many lines are missing where it stands, or "" when it tells
// that elsewhere; it is called by one goroutine at a time and may not use the Queue.
func New(out io.Writer, lost func(lines int) string) *Queue {
	q := &Queue{out: out, lost: lost, idle: make(chan struct{})}
	close(q.idle)
	return q
}

// Write takes b, a line or some, without waiting. It never fails: a log has nobody to tell.
func (q *Queue) Write(b []byte) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	room := maxBytes
	if q.dropped > 0 {
		room = lowBytes
	}
	if q.size > 0 && q.size+len(b) > room { // a single one that is too large goes alone
		q.dropped++
		return len(b), nil
	}
	q.tellLost()
	q.add(append([]byte(nil), b...)) // the caller uses it again
	return len(b), nil
}

// tellLost adds the line about lines that are missing, if some are. The caller holds mu.
func (q *Queue) tellLost() {
	if n := q.dropped; n > 0 {
		q.dropped = 0
		q.add([]byte(q.lost(n)))
	}
}

// add puts a line at the end, and has it written. The caller holds mu.
func (q *Queue) add(line []byte) {
	if len(line) == 0 {
		return
	}
	q.lines = append(q.lines, line)
	q.size += len(line)
	select {
	case <-q.idle:
		q.idle = make(chan struct{})
		go q.drain() // ends when all is written; Flush waits for it
	default:
	}
}

// drain writes until nothing is left.
func (q *Queue) drain() {
	for {
		line, ok := q.next()
		if !ok {
			return
		}
		q.out.Write(line) //nolint:errcheck // the next line may go through
	}
}

// next takes the first line. Without one the writing has ended.
func (q *Queue) next() ([]byte, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.hangs = false
	if len(q.lines) == 0 {
		q.tellLost()
	}
	if len(q.lines) == 0 {
		q.lines = nil // and the array below it
		close(q.idle)
		return nil, false
	}
	line := q.lines[0]
	q.lines[0] = nil
	q.lines = q.lines[1:]
	q.size -= len(line)
	return line, true
}

// Flush waits until all is written, for so long at most, and reports whether it is.
func (q *Queue) Flush(limit time.Duration) bool {
	q.mu.Lock()
	idle := q.idle
	q.mu.Unlock()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-idle:
		return true
	case <-timer.C:
		return false
	}
}

// Settle is Flush for who wants to come after what was written, if that goes through at all: while the reader hangs, only the first
// call waits.
func (q *Queue) Settle(limit time.Duration) {
	q.mu.Lock()
	hangs := q.hangs
	q.mu.Unlock()
	if hangs || q.Flush(limit) {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	select {
	case <-q.idle:
	default:
		q.hangs = true
	}
}
