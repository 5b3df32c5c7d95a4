package sim

import "time"

// event is something that happens at a time. Events of one time happen in the order in which they were scheduled.
type event struct {
	at  time.Duration // since the start
	seq uint64
	do  func()
}

func (e *event) before(o *event) bool {
	return e.at < o.at || e.at == o.at && e.seq < o.seq
}

// queue is a 4-ary heap of events, which beats a binary one by touching fewer cache lines. The zero value is empty.
type queue struct {
	heap []event
	seq  uint64
}

func (q *queue) push(at time.Duration, do func()) {
	q.seq++
	q.heap = append(q.heap, event{at, q.seq, do})
	h := q.heap
	for i := len(h) - 1; i > 0; {
		up := (i - 1) / 4
		if !h[i].before(&h[up]) {
			return
		}
		h[i], h[up] = h[up], h[i]
		i = up
	}
}

// pop takes out the earliest event; ok is false when there is none.
func (q *queue) pop() (e event, ok bool) {
	h := q.heap
	if len(h) == 0 {
		return event{}, false
	}
	e = h[0]
	last := len(h) - 1
	h[0], h[last] = h[last], event{}
	h = h[:last]
	q.heap = h
	for i := 0; ; {
		least := i
		for c := 4*i + 1; c <= 4*i+4 && c < last; c++ {
			if h[c].before(&h[least]) {
				least = c
			}
		}
		if least == i {
			return e, true
		}
		h[i], h[least] = h[least], h[i]
		i = least
	}
}
