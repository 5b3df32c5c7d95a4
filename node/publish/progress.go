package publish

import "sync"

// reporter passes progress on, one call at a time.
type reporter struct {
	mu sync.Mutex // guards at and serialises to
	at Progress
	to func(Progress)
}

func newReporter(to func(Progress)) *reporter {
	if to == nil {
		to = func(Progress) {}
	}
	return &reporter{to: to}
}

func (r *reporter) change(f func(*Progress)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f(&r.at)
	r.to(r.at)
}

func (r *reporter) stage(name string, files int) {
	r.change(func(p *Progress) { p.Stage, p.FilesAll, p.BytesAll = name, files, 0 })
}

// fetching begins a round that fetches so many files, after those of the rounds before.
func (r *reporter) fetching(files int, bytes int64) {
	r.change(func(p *Progress) {
		p.Stage, p.FilesAll, p.BytesAll = "fetch", p.Files+files, 0
		if bytes > 0 {
			p.BytesAll = p.BytesRead + bytes
		}
	})
}
func (r *reporter) file()        { r.change(func(p *Progress) { p.Files++ }) }
func (r *reporter) read(n int64) { r.change(func(p *Progress) { p.BytesRead += n }) }
