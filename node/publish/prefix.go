package publish

import (
	"context"
	"io"
	"slices"
	"sort"

	"swarmnode/content"
	"swarmnode/content/origin"
)

// open opens the file where what has arrived of it ends, if the origin can go on there.
func (g *arriving) open(ctx context.Context) (*origin.Body, error) {
	c, ok := g.cfg.Origin.(origin.Comparer)
	if !ok || g.offset == 0 {
		return g.cfg.Origin.Open(ctx, g.file.entry(), g.offset, g.version)
	}
	p := &prefix{run: g.run}
	for _, c := range g.chunks {
		p.add(c)
	}
	if p.size() != g.offset { // what is noted lies before those
		was, err := g.seen.read(g.file.Path)
		if err != nil {
			return nil, &finalError{err}
		}
		if was == nil || was.Offset+p.size() != g.offset || was.Version != g.version {
			return g.cfg.Origin.Open(ctx, g.file.entry(), 0, "") // it is of a try before
		}
		p = &prefix{run: g.run}
		for _, c := range slices.Concat(was.chunks, g.chunks) {
			p.add(c)
		}
	}
	return c.OpenAfter(ctx, g.file.entry(), p, g.offset, g.version)
}

// prefix reads what has arrived of a file that is still coming, chunk after chunk.
type prefix struct {
	*run
	chunks []content.Chunk
	ends   []int64 // where each of them ends in the file

	at   int    // the chunk in data
	data []byte // nil: none yet
}

func (p *prefix) add(c content.Chunk) {
	p.chunks, p.ends = append(p.chunks, c), append(p.ends, p.size()+int64(c.Size))
}

// size is how many bytes there are.
func (p *prefix) size() int64 {
	if len(p.ends) == 0 {
		return 0
	}
	return p.ends[len(p.ends)-1]
}

// ReadAt implements io.ReaderAt, for one caller at a time.
func (p *prefix) ReadAt(b []byte, offset int64) (n int, err error) {
	for n < len(b) {
		i := sort.Search(len(p.ends), func(i int) bool { return p.ends[i] > offset })
		if i == len(p.ends) {
			return n, io.EOF
		}
		if p.data == nil || p.at != i {
			if err := p.load(i); err != nil {
				return n, err
			}
		}
		m := copy(b[n:], p.data[int64(len(p.data))-(p.ends[i]-offset):])
		n, offset = n+m, offset+int64(m)
	}
	return n, nil
}

// load reads a chunk, from wherever it lies: the bytes of another file may be the same.
func (p *prefix) load(i int) error {
	c := p.chunks[i]
	p.taking.Lock()
	ref, ok := p.placer.known(c.Digest)
	p.taking.Unlock()
	if !ok {
		return errLost
	}
	data, err := p.cfg.References.Read(ref, c, p.data)
	p.data, p.at = data, i
	if err != nil {
		p.data = nil
	}
	return err
}
