package publish

import (
	"context"
	"crypto/sha256"
	"io"
	"sync"
	"sync/atomic"

	"swarmnode/content"
	"swarmnode/content/chunker"
)

const (
	// blockSize is how much of a large file is read at once, in bytes: at least two chunks of the largest size.
	blockSize = 2 * content.MaxChunkSize
	// pipelineBlocks is how many blocks of one file are in memory: one being read and cut, one in each hasher, one between.
	pipelineBlocks = 4
)

// block is a piece of a file that begins and ends with a chunk.
type block struct {
	buf    []byte
	used   int             // bytes that belong to the chunks; what is behind begins the next block
	chunks []content.Chunk // the cutter sets the sizes, the chunk hasher the digests
	users  atomic.Int32    // who still reads buf
}

// pipeline hashes one large file in three goroutines: the caller reads and cuts, one hashes the chunks, one the whole.
type pipeline struct {
	pool *sync.Pool
	read func(n int64)
	free chan *block
}

func newPipeline(pool *sync.Pool, read func(n int64)) *pipeline {
	p := &pipeline{pool: pool, read: read, free: make(chan *block, pipelineBlocks)}
	for range pipelineBlocks {
		p.free <- pool.Get().(*block)
	}
	return p
}

// release lets go of a block; the last user makes it free.
func (p *pipeline) release(b *block) {
	if b.users.Add(-1) == 0 {
		p.free <- b
	}
}

// run reads r, which should have size bytes, else the error is errChanged. It is called once.
func (p *pipeline) run(ctx context.Context, r io.Reader, size int64, c *chunker.Cutter) ([]content.Chunk, content.Digest, error) {
	whole, parts := make(chan *block, pipelineBlocks), make(chan *block, pipelineBlocks)
	sum := sha256.New()
	var wg sync.WaitGroup
	wg.Go(func() {
		for b := range whole {
			sum.Write(b.buf[:b.used])
			p.release(b)
		}
	})
	wg.Go(func() {
		for b := range parts {
			at := 0
			for i := range b.chunks {
				n := int(b.chunks[i].Size)
				b.chunks[i].Digest = sha256.Sum256(b.buf[at : at+n])
				at += n
			}
			p.release(b)
		}
	})
	lists, err := p.cut(ctx, r, size, c, whole, parts)
	close(whole)
	close(parts)
	wg.Wait()
	for range pipelineBlocks {
		p.pool.Put(<-p.free)
	}
	if err != nil {
		return nil, content.Digest{}, err
	}
	var chunks []content.Chunk
	for _, l := range lists {
		chunks = append(chunks, l...)
	}
	return chunks, content.Digest(sum.Sum(nil)), nil
}

// cut fills blocks and hands them to both hashers. It gives the chunk lists of the blocks, whose digests are set once the hashers
// are done.
func (p *pipeline) cut(ctx context.Context, r io.Reader, size int64, c *chunker.Cutter, whole, parts chan<- *block) ([][]content.Chunk, error) {
	var lists [][]content.Chunk
	var before *block // keeps what its chunks left over until it is copied
	held := 0         // how much that is
	defer func() {
		if before != nil {
			p.release(before)
		}
	}()
	for left := size; left > 0 || held > 0; {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		b := <-p.free
		b.users.Store(3)
		if before != nil {
			copy(b.buf, before.buf[before.used:before.used+held])
			p.release(before)
		}
		before = b
		n := int(min(int64(len(b.buf)-held), left))
		if _, err := io.ReadFull(r, b.buf[held:held+n]); err != nil {
			b.users.Store(1) // nobody else has seen it
			if err == io.EOF || err == io.ErrUnexpectedEOF {
				err = errChanged
			}
			return nil, err
		}
		p.read(int64(n))
		left -= int64(n)
		full := held + n
		b.used, b.chunks = 0, nil
		for b.used < full {
			size := c.Next(b.buf[b.used:full], left == 0)
			if size == 0 {
				break
			}
			b.chunks = append(b.chunks, content.Chunk{Size: uint32(size)})
			b.used += size
		}
		held = full - b.used
		lists = append(lists, b.chunks)
		whole <- b
		parts <- b
	}
	return lists, nil
}
