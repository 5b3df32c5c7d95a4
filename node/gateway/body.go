package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"swarmnode/content"
)

const (
	// firstByte is how long a client waits for its first byte; then it is told to come again. pacman gives up after 10 s.
	firstByte = 8 * time.Second
	// nextByte is how long an answer that has begun may stand still for a chunk. apt gives up after 30 s; who gives up earlier does so
	// whether the answer is cut or not.
	nextByte = 25 * time.Second
	// aheadBytes is how far ahead of the reader chunks are asked for: 16 MiB are 1 Gbit/s over 130 ms.
	aheadBytes = 16 << 20
	// aheadChunks bounds the same in chunks, for files that are cut small.
	aheadChunks = 256
	// smallRead is up to which length bytes are read into memory and written with the headers; above it the kernel sends the file.
	smallRead = 32 << 10
	// slowStep is how long a client may take for smallRead bytes and still have a whole chunk kept in memory for it: 1.3 Mbit/s. For a
	// slower one the chunk is read again for each step, which at that rate costs the processor next to nothing.
	slowStep = 200 * time.Millisecond
)

// reader gives the bytes of one file to one client, chunk by chunk. It belongs to one request; close ends it.
type reader struct {
	g      *Gateway
	c      *Collection
	rel    *Release
	layout *layout
	id     uint64

	now   int   // number of the chunk that is loaded; -1 for none
	at    place // where it is
	piece piece
	slow  bool // the client takes its time

	looked  int   // chunks before this number were looked at for a hint
	missing []int // those of them that were not here then and are still to come
	hinting bool  // the source has a hint

	// to is where the bytes go, so that what was written can be sent before a wait for bytes from elsewhere: the client sees that it
	// goes on, and keeps it if it does not. nil at first.
	to http.ResponseWriter
}

// piece is a chunk that is loaded: in memory or in an open file.
type piece struct {
	data    []byte
	file    *os.File
	offset  int64
	release func() // nil: nothing is to be given back
	large   bool   // the data takes up room that others wait for
}

func (p *piece) close() {
	if p.release != nil {
		p.release()
	}
	*p = piece{}
}

func (g *Gateway) open(ctx context.Context, c *Collection, rel *Release, e content.Entry) (*reader, error) {
	l, err := g.layout(ctx, rel, e)
	if err != nil {
		return nil, err
	}
	return &reader{g: g, c: c, rel: rel, layout: l, id: g.reader.Add(1), now: -1}, nil
}

func (r *reader) close() {
	r.piece.close()
	if r.hinting {
		r.c.Source.Ahead(r.id, r.rel, nil)
	}
}

// load makes the chunk that holds the byte at off the loaded one. end is where the reader will stop: nothing is hinted behind it.
func (r *reader) load(ctx context.Context, off, end int64, wait time.Duration) error {
	n := r.layout.number(off)
	if n == r.now {
		return nil
	}
	r.piece.close()
	r.now, r.at = -1, r.layout.place(n)
	r.ahead(n, end)
	if len(r.missing) > 0 && r.missing[0] == n { // it has to come from elsewhere
		if r.to != nil {
			if err := http.NewResponseController(r.to).Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
				return err
			}
		}
		limited, cancel := context.WithTimeout(ctx, wait)
		defer cancel()
		ctx = limited
	}
	p, err := r.fetch(ctx, r.at, wait)
	if err != nil {
		return err
	}
	r.now, r.piece = n, p
	return nil
}

// fetch gets a chunk: a large one as the place in an open file if it can be had, so that slow clients cost no memory.
func (r *reader) fetch(ctx context.Context, at place, wait time.Duration) (piece, error) {
	if at.size <= smallRead {
		buf := r.g.room.small()
		data, err := r.chunk(ctx, at, *buf)
		if err != nil {
			r.g.room.giveSmall(buf)
			return piece{}, err
		}
		return piece{data: data, release: func() { r.g.room.giveSmall(buf) }}, nil
	}
	if p, ok := r.file(at); ok {
		return p, nil
	}
	buf, err := r.g.room.large(ctx, wait)
	if err != nil {
		return piece{}, err
	}
	data, err := r.chunk(ctx, at, *buf)
	if err != nil {
		r.g.room.giveLarge(buf)
		return piece{}, err
	}
	if p, ok := r.file(at); ok { // it was stored on the way
		r.g.room.giveLarge(buf)
		return p, nil
	}
	return piece{data: data, release: func() { r.g.room.giveLarge(buf) }, large: true}, nil
}

// chunk reads a chunk into memory; its length is checked, as everything after it in the file depends on that.
func (r *reader) chunk(ctx context.Context, at place, buf []byte) ([]byte, error) {
	data, err := r.c.Source.Chunk(ctx, r.rel, at.ref, buf)
	if err == nil && int64(len(data)) != at.size {
		err = fmt.Errorf("chunk %d of segment %d has %d bytes, not %d: %w", at.ref.Index, at.ref.Segment, len(data), at.size, content.ErrFormat)
	}
	return data, err
}

func (r *reader) file(at place) (piece, bool) {
	f, offset, release, ok := r.c.Source.File(at.ref)
	return piece{file: f, offset: offset, release: release}, ok
}

// ahead hints what will be read from chunk n on up to the byte at end, as far as it is not here.
func (r *reader) ahead(n int, end int64) {
	changed := false
	if n > r.looked || len(r.missing) > 0 && n < r.missing[0]-aheadChunks { // another range
		r.looked, r.missing, changed = n, nil, true
	}
	for len(r.missing) > 0 && r.missing[0] < n {
		r.missing, changed = r.missing[1:], true
	}
	for r.looked = max(r.looked, n); r.looked < r.layout.chunks() && r.looked < n+aheadChunks; r.looked++ {
		p := r.layout.place(r.looked)
		if p.at >= end || p.at > r.at.at+aheadBytes {
			break
		}
		if !r.c.Source.Here(p.ref) {
			r.missing, changed = append(r.missing, r.looked), true
		}
	}
	alone := len(r.missing) == 1 && r.missing[0] == n // it is asked for now anyway
	switch {
	case changed && len(r.missing) > 0 && (r.hinting || !alone):
		refs := make([]content.Ref, len(r.missing))
		for i, m := range r.missing {
			refs[i] = r.layout.place(m).ref
		}
		r.c.Source.Ahead(r.id, r.rel, refs)
		r.hinting = true
	case r.hinting && len(r.missing) == 0:
		r.c.Source.Ahead(r.id, r.rel, nil)
		r.hinting = false
	}
}

// copy writes the bytes from up to before to. The first chunk was loaded if the caller has called load for it.
func (r *reader) copy(ctx context.Context, w io.Writer, b byteRange, wait time.Duration) error {
	for off := b.from; off < b.to; {
		if err := r.load(ctx, off, b.to, wait); err != nil {
			return err
		}
		n := min(r.at.at+r.at.size, b.to) - off
		send := r.piece.send
		if r.piece.large {
			n, send = min(n, smallRead), r.step
		}
		if err := send(w, off-r.at.at, n, r.g.room); err != nil {
			return err
		}
		off += n
	}
	return nil
}

// step writes at most smallRead bytes of a chunk that takes up room. If the client is slow, the room is given back first, and if it
// turns out to be, meanwhile: else as many clients as there is room for could keep all others waiting by taking nothing.
func (r *reader) step(w io.Writer, skip, n int64, room *room) error {
	buf := room.small()
	defer room.giveSmall(buf)
	data := (*buf)[:copy(*buf, r.piece.data[skip:skip+n])]
	if r.slow {
		r.drop()
		start := time.Now()
		_, err := w.Write(data)
		r.slow = time.Since(start) > slowStep
		return err
	}
	gone := make(chan struct{})
	late := time.AfterFunc(slowStep, func() {
		defer close(gone)
		r.drop()
	})
	_, err := w.Write(data)
	if r.slow = !late.Stop(); r.slow {
		<-gone
	}
	return err
}

// drop gives the loaded chunk back. It is loaded again when more of it is wanted.
func (r *reader) drop() {
	r.piece.close()
	r.now = -1
}

// send writes n bytes of the piece from skip on.
func (p *piece) send(w io.Writer, skip, n int64, room *room) error {
	if p.file == nil {
		return sent(w.Write(p.data[skip : skip+n]))
	}
	if n <= smallRead {
		buf := room.small()
		defer room.giveSmall(buf)
		if _, err := p.file.ReadAt((*buf)[:n], p.offset+skip); err != nil {
			return fmt.Errorf("read %d bytes of a chunk: %w", n, err)
		}
		return sent(w.Write((*buf)[:n]))
	}
	copied, err := io.Copy(w, &filePart{file: p.file, offset: p.offset + skip, left: n}) // by sendfile(2) where that goes
	if err == nil && copied != n {
		err = fmt.Errorf("a chunk in a file ends after %d of %d bytes: %w", copied, n, io.ErrUnexpectedEOF)
	}
	return err
}

func sent(_ int, err error) error { return err }

// read gives a whole small file. The caller has bounded its size.
func (g *Gateway) read(ctx context.Context, c *Collection, rel *Release, e content.Entry) ([]byte, error) {
	if e.Size == 0 {
		return nil, nil
	}
	r, err := g.open(ctx, c, rel, e)
	if err != nil {
		return nil, err
	}
	defer r.close()
	var b bytes.Buffer
	b.Grow(int(e.Size))
	if err := r.copy(ctx, &b, byteRange{0, int64(e.Size)}, firstByte); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
