package publish

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"swarmnode/content"
	"swarmnode/content/origin"
	"swarmnode/content/store"
)

// take reads to the end. The last chunks are not in the log then: with them goes that the file is whole. cancel ends a read that waits.
func (g *arriving) take(ctx context.Context, cancel context.CancelFunc, body *origin.Body, size int64) error {
	block := g.blocks.Get().(*[arriveBlock]byte)
	defer func() { g.blocks.Put(block) }()
	held, err := g.fill(ctx, body, block[:])
	for n := held; ; {
		g.counted(n)
		if size >= 0 && g.offset+int64(held) > size {
			return &staleError{g.file.Path, fmt.Errorf("more than the %d bytes come that it is said to have", size)}
		}
		end := err == io.EOF
		last := end && (size < 0 || g.offset+int64(held) == size)
		cut, used := g.cut(block[:held], last)
		var next *coming
		if err == nil {
			next = g.readOn(ctx, body, block[used:held])
		}
		if terr := g.digest(cut, block[:used], last && g.offset == 0); terr != nil {
			cancel()
			next.drop(g)
			return terr
		}
		g.offset += int64(used)
		g.chunks = append(g.chunks, cut...)
		if last {
			return nil
		}
		var lerr error
		if len(g.chunks) > 0 {
			lerr = g.log(false, 0)
		}
		switch {
		case lerr != nil:
			cancel()
			next.drop(g)
			return lerr
		case end:
			return fmt.Errorf("%d of %d bytes came: %w", g.offset+int64(held-used), size, io.ErrUnexpectedEOF)
		case err != nil:
			return err
		}
		g.blocks.Put(block)
		block, held, n, err = next.wait()
	}
}

// coming is the block of a file behind the one that is being taken in.
type coming struct {
	block *[arriveBlock]byte
	tail  int // bytes at its beginning that the block before has left over
	n     int // bytes that came; for who waited for done
	err   error
	done  chan struct{}
}

// readOn begins to read the next block. tail is what is left of this one.
func (g *arriving) readOn(ctx context.Context, body io.Reader, tail []byte) *coming {
	c := &coming{block: g.blocks.Get().(*[arriveBlock]byte), tail: len(tail), done: make(chan struct{})}
	copy(c.block[:], tail)
	go func() {
		defer close(c.done)
		c.n, c.err = g.fill(ctx, body, c.block[c.tail:])
	}()
	return c
}

// wait gives the block, how much is in it, and how much of that has just come.
func (c *coming) wait() (block *[arriveBlock]byte, held, n int, err error) {
	<-c.done
	return c.block, c.tail + c.n, c.n, c.err
}

// drop waits for a block that nobody wants any more; nil is none.
func (c *coming) drop(g *arriving) {
	if c != nil {
		<-c.done
		g.blocks.Put(c.block)
	}
}

// fill reads until b is full or nothing more comes, at most at the rate.
func (f *fetcher) fill(ctx context.Context, r io.Reader, b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		if err = ctx.Err(); err != nil {
			return n, err
		}
		part := b[n:]
		if f.rate != nil {
			part = part[:min(len(part), rateBurst)]
		}
		var m int
		m, err = r.Read(part)
		n += m
		if f.rate != nil && m > 0 {
			if werr := f.rate.WaitN(ctx, m); werr != nil {
				return n, werr
			}
		}
	}
	return n, err
}

func (f *fetcher) counted(n int) {
	f.taking.Lock()
	f.pulled.Bytes += int64(n)
	f.taking.Unlock()
	f.progress.read(int64(n))
}

// digest hashes chunks and takes them in. The hash of the whole file goes on beside that: one large file is as fast as two cores are. all says
// that they are the file: if they are one chunk, its hash is that of the file.
func (g *arriving) digest(chunks []content.Chunk, data []byte, all bool) error {
	if g.whole != nil && len(data) > 0 {
		return errChanged // it was said to end before these
	}
	if all && len(chunks) == 1 {
		chunks[0].Digest = content.Sum(data)
		g.whole = &chunks[0].Digest
		return g.takeIn(chunks, data)
	}
	var whole sync.WaitGroup
	defer whole.Wait()
	whole.Go(func() { g.sum.Write(data) })
	at := 0
	for i := range chunks {
		n := int(chunks[i].Size)
		chunks[i].Digest = content.Sum(data[at : at+n])
		at += n
	}
	return g.takeIn(chunks, data)
}

// total is the hash of the file, all of which was digested.
func (g *arriving) total() content.Digest {
	if g.whole != nil {
		return *g.whole
	}
	return content.Digest(g.sum.Sum(nil))
}

// cut gives the sizes of the chunks that data has for certain, and how much of it they are. The rule follows from the size: until more has come
// than one chunk may have, a file may be a single one.
func (g *arriving) cut(data []byte, last bool) (chunks []content.Chunk, used int) {
	if fixed := int(g.last.params.Fixed); g.offset == 0 && len(data) <= fixed {
		if !last || len(data) == 0 {
			return nil, 0
		}
		return []content.Chunk{{Size: uint32(len(data))}}, len(data)
	}
	for used < len(data) {
		n := g.large.Next(data[used:], last)
		if n == 0 {
			break
		}
		chunks = append(chunks, content.Chunk{Size: uint32(n)})
		used += n
	}
	return chunks, used
}

// takeIn writes the chunks that are not here yet to the arrivals.
func (g *arriving) takeIn(chunks []content.Chunk, data []byte) error {
	g.taking.Lock()
	defer g.taking.Unlock()
	for _, c := range chunks {
		part := data[:c.Size]
		data = data[c.Size:]
		if ref, ok := g.placer.known(c.Digest); ok {
			if err := g.mendKnown(ref, part); err != nil {
				return &finalError{err}
			}
			continue
		}
		ref, offset, closed, err := g.cfg.Arrivals.Append(c, part)
		if err != nil {
			return &finalError{err}
		}
		if err := g.cfg.References.Refer(ref, store.ArrivalFile(ref.Segment), offset); err != nil {
			return &finalError{err}
		}
		if closed != nil {
			if err := g.placer.addSegment(ref.Segment, closed, nil); err != nil {
				return &finalError{err}
			}
			select {
			case g.full <- struct{}{}:
			default: // it is going to look anyway
			}
		}
	}
	if time.Since(g.synced) < checkpoint {
		return nil
	}
	g.synced = time.Now()
	err := g.cfg.Arrivals.Sync(context.Background())
	if err == nil {
		err = g.seen.sync()
	}
	if err != nil {
		return &finalError{err}
	}
	return nil
}
