package export

import "sync"

// progress calls the caller's function from one goroutine at a time and not too often.
type progress struct {
	fn func(done, total int64)

	mu                sync.Mutex // guards what follows and the call of fn
	done, total, told int64
}

func newProgress(total int64, fn func(done, total int64)) *progress {
	if fn == nil {
		fn = func(int64, int64) {}
	}
	return &progress{fn: fn, total: total}
}

func (p *progress) add(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done += n
	if p.done-p.told >= progressBytes {
		p.told = p.done
		p.fn(p.done, p.total)
	}
}

// more says that there is more to do than thought.
func (p *progress) more(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.total += n
}

// end tells the last figures.
func (p *progress) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done = p.total
	p.fn(p.done, p.total)
}
