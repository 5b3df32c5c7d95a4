package origin

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// rsyncProtocol is the version that is spoken, that of rsync 2.6.0.
	rsyncProtocol = 27
	// rsyncMessage is how long a message of the server for people may be; rsync's own are up to 8 KiB.
	rsyncMessage = 64 << 10
	// rsyncNoise is how many bytes of messages, with frames that have nothing in them, a connection may bring: a line for each of half a
	// million files that cannot be read.
	rsyncNoise = 64 << 20
	// rsyncSaid is how many of them are kept, the last ones, to be shown with an error.
	rsyncSaid = 8
	// rsyncData is the tag of data in the multiplexed stream, MPLEX_BASE of rsync, and rsyncLastText that of the last kind of message
	// with text in it, MSG_ERROR_UTF8.
	rsyncData     = 7
	rsyncLastText = rsyncData + 8
)

// errRsync says that the server speaks another language.
var errRsync = errors.New("the rsync server gave a strange answer")

// rsyncWire reads and writes what the protocol is made of: numbers of 32 bits, low byte first, and from some point on frames with
// data or messages. One goroutine reads and one writes at a time.
type rsyncWire struct {
	in      *bufio.Reader
	out     io.Writer
	kill    func() // ends the connection
	timeout time.Duration
	extra   atomic.Int64 // nanoseconds besides, while the server compares what it has with what is here
	silent  atomic.Bool  // it was ended because nothing came
	framed  bool
	left    int // bytes to come of a frame with data
	noise   int // bytes that came beside data
	// least is how many bytes a second have to come while one goroutine reads; 0: it has a time for all of it.
	least int
	pace
	// between is set while no file is being received: then a message says why the next one does not come.
	between bool

	mu   sync.Mutex // guards said
	said []string   // the last messages
}

func newRsyncWire(in io.Reader, out io.Writer, kill func(), timeout time.Duration) *rsyncWire {
	w := &rsyncWire{kill: kill, timeout: timeout}
	w.in = bufio.NewReaderSize(paced{w, &watched{w, in.Read}}, 64<<10)
	w.out = writerFunc((&watched{w, out.Write}).Read)
	return w
}

// watched ends the connection when one call takes too long.
type watched struct {
	w    *rsyncWire
	call func([]byte) (int, error)
}

func (r *watched) Read(p []byte) (int, error) {
	limit := r.w.timeout + time.Duration(r.w.extra.Load())
	t := time.AfterFunc(limit, func() {
		r.w.silent.Store(true)
		r.w.kill()
	})
	defer t.Stop()
	n, err := r.call(p)
	if err != nil && r.w.silent.Load() {
		err = fmt.Errorf("no byte came for %v: %w", limit, err)
	}
	return n, err
}

// paced gives up when less comes than has to.
type paced struct {
	w *rsyncWire
	r io.Reader
}

// Read is that of io.Reader.
func (r paced) Read(p []byte) (int, error) {
	began := time.Now()
	n, err := r.r.Read(p)
	if err == nil && r.w.least > 0 {
		err = r.w.check(n, time.Since(began), r.w.timeout, r.w.least)
	}
	return n, err
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// missingError is a message about the file that was to come next.
type missingError struct{ text string }

func (e *missingError) Error() string { return fmt.Sprintf("the rsync server says %q", e.text) }

// Read gives data. Messages in between are kept.
func (w *rsyncWire) Read(p []byte) (int, error) {
	if !w.framed {
		return w.in.Read(p)
	}
	for w.left == 0 {
		var head [4]byte
		if _, err := io.ReadFull(w.in, head[:]); err != nil {
			return 0, err
		}
		n := int(head[0]) | int(head[1])<<8 | int(head[2])<<16
		if tag := int(head[3]); tag != rsyncData || n == 0 {
			if w.noise += len(head) + n; w.noise > rsyncNoise {
				return 0, fmt.Errorf("%w: more than %d MiB of messages", errRsync, rsyncNoise>>20)
			}
		}
		switch tag := int(head[3]); {
		case tag == rsyncData:
			w.left = n
		case tag < rsyncData || n > rsyncMessage:
			return 0, fmt.Errorf("%w: a frame of kind %d with %d bytes", errRsync, tag-rsyncData, n)
		default:
			text := make([]byte, n)
			if _, err := io.ReadFull(w.in, text); err != nil {
				return 0, err
			}
			if tag <= rsyncLastText {
				if err := w.hear(strings.TrimSpace(string(text))); err != nil {
					return 0, err
				}
			}
		}
	}
	n, err := w.in.Read(p[:min(len(p), w.left)])
	w.left -= n
	return n, err
}

// hear keeps a message.
func (w *rsyncWire) hear(text string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.said) == rsyncSaid {
		w.said = slices.Delete(w.said, 0, 1)
	}
	w.said = append(w.said, strings.ToValidUTF8(text[:min(len(text), tailBytes)], "?"))
	if w.between && (strings.Contains(text, "failed to open") || strings.Contains(text, "has vanished")) {
		return &missingError{text}
	}
	return nil
}

// messages gives the last ones.
func (w *rsyncWire) messages() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(w.said, "; ")
}

func (w *rsyncWire) readInt() (int32, error) {
	var b [4]byte
	_, err := io.ReadFull(w, b[:])
	return int32(binary.LittleEndian.Uint32(b[:])), err
}

// readLong reads a size: 32 bits, or all ones and then 64.
func (w *rsyncWire) readLong() (int64, error) {
	n, err := w.readInt()
	if err != nil || n != -1 {
		return int64(n), err
	}
	var b [8]byte
	_, err = io.ReadFull(w, b[:])
	return int64(binary.LittleEndian.Uint64(b[:])), err
}

func (w *rsyncWire) readByte() (byte, error) {
	var b [1]byte
	_, err := io.ReadFull(w, b[:])
	return b[0], err
}

// rsyncBytes is a number as it is sent.
func rsyncBytes(n int32) []byte { return binary.LittleEndian.AppendUint32(nil, uint32(n)) }

// writeInts writes numbers at once.
func (w *rsyncWire) writeInts(numbers ...int32) error {
	var b []byte
	for _, n := range numbers {
		b = append(b, rsyncBytes(n)...)
	}
	_, err := w.out.Write(b)
	return err
}
