package p2p

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"swarmnode/content"
	"swarmnode/content/guard"
	"swarmnode/gossip"
)

const (
	// receiveDepth is how many chunks of one answer are in memory: one being received, one waiting, one with the caller.
	receiveDepth = 3
	// headerBuffer lets the header of a part and small chunks come with one read; large chunks go past it.
	headerBuffer = 16 << 10
)

var readers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, headerBuffer) }}

// pieceSizes are the sizes of the receive buffers: a run of small files does not hold megabytes.
var pieceSizes = [...]uint32{32 << 10, 256 << 10, content.MaxChunkSize}

var pieces [len(pieceSizes)]sync.Pool

func pieceClass(size uint32) int {
	for i, s := range pieceSizes {
		if size <= s {
			return i
		}
	}
	panic("p2p: chunk larger than content.MaxChunkSize")
}

func getPiece(class int) *[]byte {
	if b, ok := pieces[class].Get().(*[]byte); ok {
		return b
	}
	b := make([]byte, pieceSizes[class])
	return &b
}

type received struct {
	ref  content.Ref
	buf  *[]byte
	size uint32
}

// Chunks asks a peer for a run of chunks, at most [MaxRunBytes], and calls each for every chunk that comes, in order,
// from this goroutine. data is valid until each returns; its length is what size says of the chunk's index in the
// segment, its hash is the caller's to check. The next chunks are received meanwhile.
//
// begun, which may be nil, is called once when the answer begins: the request does not wait for a place any more. The
// function that it gets says at any time, also after the end, how many bytes of the answer have come.
//
// After all of the answer it gives nil or a [NotHereError]. A [BusyError], [ErrTimeout], [ErrBadAnswer], the error of
// each or of ctx ends it early, and so does a broken connection; what each got before stays good. With a BusyError
// come the chunks that were not here before it.
func (h *Host) Chunks(ctx context.Context, from gossip.PeerID, id content.ID, run content.Run,
	size func(index uint32) uint32, begun func(came func() uint64), each func(ref content.Ref, data []byte) error) error {
	class, err := checkSizes(run, size)
	if err != nil {
		return err
	}
	memory := receiveDepth * int64(pieceSizes[class])
	if !guard.On(guard.ReceiveMemory) {
		memory = 0
	}
	release, err := h.limits.receive(ctx, memory)
	if err != nil {
		return err
	}
	defer release()
	s, done, err := h.open(ctx, from, chunksProtocol, frame(chunkRequest{
		Collection: id[:], Segment: run.Segment, First: run.First, Count: run.Count}))
	if err != nil {
		return err
	}
	s.end = s.deadlineEnd(h)
	err = h.receive(ctx, from, s, run, size, begun, each) // the end of our side, in done, tells the peer that all has come
	var missing *NotHereError
	var busy *BusyError
	if err == nil || errors.As(err, &missing) && !isBroken(err) || errors.As(err, &busy) {
		done(nil)
	} else {
		done(err)
	}
	return err
}

// deadlineEnd is when an answer that begins now has to be over.
func (s *stream) deadlineEnd(h *Host) time.Time { return time.Now().Add(h.cfg.Timeouts.Total) }

// isBroken reports whether more than "not here" happened.
func isBroken(err error) bool {
	_, joined := err.(interface{ Unwrap() []error })
	return joined
}

func checkSizes(run content.Run, size func(uint32) uint32) (class int, err error) {
	if err := checkRun(run); err != nil {
		return 0, err
	}
	total := uint64(0)
	largest := uint32(0)
	for i := range run.Count {
		n := size(run.First + i)
		if n == 0 || n > content.MaxChunkSize {
			return 0, fmt.Errorf("%w: chunk %d of segment %d has %d bytes", content.ErrFormat, run.First+i, run.Segment, n)
		}
		total, largest = total+uint64(n), max(largest, n)
	}
	if guard.On(guard.RunBytes) && total > MaxRunBytes {
		return 0, fmt.Errorf("%w: a run of %d bytes, at most %d can be asked for at once", content.ErrFormat, total, MaxRunBytes)
	}
	return pieceClass(largest), nil
}

// receive runs the two halves of a request: one goroutine reads the answer into buffers, this one calls each.
func (h *Host) receive(ctx context.Context, from gossip.PeerID, s *stream, run content.Run,
	size func(uint32) uint32, begun func(came func() uint64), each func(content.Ref, []byte) error) error {
	got := make(chan received, 1)
	stop := make(chan struct{})
	var missing NotHereError
	var readErr error
	var reader sync.WaitGroup
	reader.Go(func() {
		defer close(got)
		readErr = h.readRun(s, run, size, begun, &missing, got, stop)
	})
	var err error
	for r := range got {
		if err = each(r.ref, (*r.buf)[:r.size]); err != nil {
			close(stop)
			s.Reset() // ends a read that waits
			break
		}
		pieces[pieceClass(r.size)].Put(r.buf)
	}
	reader.Wait()
	switch {
	case err != nil:
		return err
	case readErr != nil:
		readErr = fmt.Errorf("chunks of segment %d from %s: %w", run.Segment, from, streamError(ctx, readErr))
		if len(missing.Refs) > 0 {
			return errors.Join(readErr, &missing)
		}
		return readErr
	case len(missing.Refs) > 0:
		return &missing
	}
	return nil
}

// counted counts what is read.
type counted struct {
	from  io.Reader
	bytes atomic.Uint64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.from.Read(p)
	c.bytes.Add(uint64(n))
	return n, err
}

// readRun reads the answer part by part.
func (h *Host) readRun(s *stream, run content.Run, size func(uint32) uint32, begun func(came func() uint64), missing *NotHereError,
	got chan<- received, stop <-chan struct{}) error {
	r := readers.Get().(*bufio.Reader)
	in := &counted{from: s}
	r.Reset(in)
	defer func() { r.Reset(nil); readers.Put(r) }()
	asked := time.Now()
	for i := range run.Count {
		ref := content.Ref{Segment: run.Segment, Index: run.First + i}
		want := size(ref.Index)
		st, n, err := readPart(r, want)
		if err != nil {
			return endOfAnswer(err)
		}
		if i == 0 {
			h.peers.firstByte(s.Conn().RemotePeer(), time.Since(asked))
			if begun != nil && (st == statusOK || st == statusNotHere) {
				begun(in.bytes.Load)
			}
		}
		switch {
		case st == statusOK && (n == want || !guard.On(guard.ChunkSize)):
		case st == statusNotHere:
			missing.Refs = append(missing.Refs, ref)
			continue
		case st == statusBusy:
			return &BusyError{RetryAfter: time.Duration(n) * time.Millisecond}
		case st == statusCut:
			return &BusyError{}
		default:
			return fmt.Errorf("%w: status %d and %d bytes for chunk %d, which has %d", ErrBadAnswer, st, n, ref.Index, want)
		}
		b := getPiece(pieceClass(n))
		if _, err := io.ReadFull(r, (*b)[:n]); err != nil {
			return endOfAnswer(err)
		}
		select {
		case got <- received{ref: ref, buf: b, size: n}:
		case <-stop:
			return nil
		}
	}
	if _, err := r.ReadByte(); err != io.EOF && guard.On(guard.AnswerEnd) {
		if err == nil {
			err = fmt.Errorf("%w: it goes on behind its end", ErrBadAnswer)
		}
		return err
	}
	return nil
}

// endOfAnswer tells an answer that ends too early from other errors.
func endOfAnswer(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return fmt.Errorf("the answer ends too early: %w", io.ErrUnexpectedEOF)
	}
	return err
}
