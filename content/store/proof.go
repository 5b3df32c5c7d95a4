package store

import (
	"hash/maphash"
	"os"
	"sync"
	"time"

	"swarmnode/content"
	"swarmnode/content/guard"
)

const (
	// maxProofs is how many chunks are remembered as proven: 128 GiB of large ones, in about 4 MB.
	maxProofs = 1 << 17
	// proofLife is how long a proof holds: what changes a file without a new change time (rot, a program that goes on
	// writing through an old memory mapping) is found out then.
	proofLife = time.Hour
	// settled is how old the last change of a file must be to prove anything: one within the same tick of the file
	// system's clock would not show. FAT has the longest ticks.
	settled = 2 * time.Second
)

// stamp is what the file system says of an open file. Every write gives it another one.
type stamp struct {
	device, inode uint64
	size          int64
	mtime, ctime  int64 // nanoseconds
}

// fact says that the bytes at an offset of a file had this digest.
type fact struct {
	file   stamp
	offset int64
	digest content.Digest
}

// proofs remembers which chunks were hashed while their file was as its stamp says, so that one that is asked for
// again and again is not hashed every time: that costs as much as sending it does. It is safe for concurrent use.
type proofs struct {
	now  func() time.Time
	seed maphash.Seed

	mu    sync.Mutex // guards what follows
	facts map[uint64]struct{}
	since time.Time // no fact is older
	used  int64     // how often one was
}

func newProofs() *proofs {
	return &proofs{now: time.Now, seed: maphash.MakeSeed(), facts: map[uint64]struct{}{}}
}

// has reports whether a fact is known.
func (p *proofs) has(x fact) bool {
	key := maphash.Comparable(p.seed, x)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.expire()
	_, ok := p.facts[key]
	if ok {
		p.used++
	}
	return ok
}

// note remembers a fact, unless the file has changed so lately that it may change again unseen.
func (p *proofs) note(x fact) {
	if p.now().Sub(time.Unix(0, x.file.ctime)) < settled {
		return
	}
	key := maphash.Comparable(p.seed, x)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.expire()
	if len(p.facts) >= maxProofs {
		clear(p.facts)
	}
	p.facts[key] = struct{}{}
}

// expire forgets everything from time to time. The caller holds mu.
func (p *proofs) expire() {
	if now := p.now(); now.Sub(p.since) >= proofLife {
		clear(p.facts)
		p.since = now
	}
}

// uses is how many times a chunk was not hashed.
func (p *proofs) uses() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.used
}

// read reads a chunk from a file and hashes it, unless that was done and the file has not changed since. The file is
// looked at before and after: what was read in between is what the file held at that stamp.
func (p *proofs) read(f *os.File, offset int64, c content.Chunk, buf []byte) ([]byte, error) {
	before, err := stampOf(f)
	if err != nil {
		return nil, err
	}
	if _, err := f.ReadAt(buf, offset); err != nil {
		return nil, err
	}
	after, err := stampOf(f)
	if err != nil {
		return nil, err
	}
	x := fact{file: after, offset: offset, digest: c.Digest}
	still := before == after && after != stamp{}
	if still && p.has(x) {
		return buf, nil
	}
	if guard.On(guard.ReferenceHash) && content.Sum(buf) != c.Digest {
		return nil, ErrWrongBytes
	}
	if still {
		p.note(x)
	}
	return buf, nil
}
