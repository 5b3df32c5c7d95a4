package store

import (
	"fmt"

	"swarmnode/content"
)

// Check is Verify for a scrub: it says how many bytes were read.
func (d *Disk) Check(ref content.Ref, buf []byte) (int, error) {
	data, err := d.chunk(ref, buf, true)
	return len(data), err
}

// Check reads a chunk through its reference as Chunk does, and says how many bytes it has. What this process hashed within the
// last hour and nobody has written to since is not hashed again.
func (r *References) Check(ref content.Ref, buf []byte) (int, error) {
	data, err := r.Chunk(ref, buf)
	return len(data), err
}

// Digests lists the blocks as they lie in the file.
func (p *Pack) Digests() []content.Digest { return p.inOrder() }

// Check reads the whole record of a block, of which Block looks only at the bytes: without its head the next open would not
// find it. A block with a damaged head is put anew; one with damaged bytes is dropped and ErrNotHere. n is what was read. Both
// count as bad.
func (p *Pack) Check(d content.Digest) (n int, err error) {
	f := p.acquire()
	if f == nil {
		return 0, ErrClosed
	}
	p.mu.RLock()
	at, ok := p.index[d]
	same := p.f == f
	p.mu.RUnlock()
	if !ok || !same { // dropped, or moved by a Compact a moment ago, which read it
		f.users.Done()
		if ok {
			return 0, nil
		}
		return 0, ErrNotHere
	}
	record := make([]byte, blockHead+at.size())
	_, err = f.ReadAt(record, at.record())
	f.users.Done()
	if err != nil && !damaged(err) {
		return 0, fmt.Errorf("read block %s: %w", d.BlockCID(), err)
	}
	block := record[blockHead:]
	named, size, whole := parseHead(record)
	good := err == nil && content.Sum(block) == d
	if good && whole && named == d && size == at.size() {
		return len(record), nil
	}
	p.mu.Lock()
	if p.index[d] == at && p.f == f {
		delete(p.index, d)
		p.bad++
	}
	p.mu.Unlock()
	if !good {
		return len(record), ErrNotHere
	}
	if _, err := p.Put(block); err != nil {
		return len(record), err
	}
	return len(record), nil
}
