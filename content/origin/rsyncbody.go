package origin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"time"

	//lint:ignore SA1019 rsync's protocol has it
	"golang.org/x/crypto/md4"
)

const (
	// rsyncGrowth is how much longer than it was listed a file may turn out to be, beside twice its length: a log that grows is sent
	// as long as it is when its turn comes.
	rsyncGrowth = 64 << 20
	// comparedPerSecond is how many bytes of a file that goes on a server compares at least, a second, with the sums of what is here: the
	// disk of a small NAS. It may say nothing meanwhile.
	comparedPerSecond = 4 << 20
	// rsyncSkip is how much is read to be thrown away when a file is closed before its end; for more than that the connection is ended.
	rsyncSkip = 1 << 20
	// rsyncWrite is how much of a request is written at once, in bytes: within the timeout over a slow line, and so much that a server
	// takes it while it sends another file.
	rsyncWrite = 64 << 10
)

// rsyncSession is a connection whose list has been read, or is about to be.
type rsyncSession struct {
	wire  *rsyncWire
	close func() // ends the connection, and waits for what belongs to it
	seed  int32
	files []rsyncFile // sorted by name
	came  int32       // the number of a file that has come instead of the one before it; -1: none. For whose turn it is

	// writing is held while a request is queued and written, so that both have one order; taken before mu. A long request waits for its
	// turn with it, so nobody waits for writing who owes it to another that a file is read.
	writing sync.Mutex

	mu    sync.Mutex // guards all below; never held while writing: who reads, so that the server does, wants it
	queue []*rsyncBody
	dead  error // why it is of no use any more
}

func newRsyncSession(w *rsyncWire, closeAll func()) *rsyncSession {
	return &rsyncSession{wire: w, close: closeAll, came: -1}
}

// begin greets the server, and reads what the sums of files begin with.
func (s *rsyncSession) begin(ctx context.Context, greet func() error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, sshLogin, errLoginTime)
	defer cancel()
	defer context.AfterFunc(ctx, s.wire.kill)()
	err := greet()
	if err == nil {
		s.seed, err = s.wire.readInt()
	}
	s.wire.framed = true
	if err != nil && !final(err) && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return err
}

// list tells the server what to leave out, and reads its list. It gets the patterns that mean the same to it; the others are for
// what it sends.
func (s *rsyncSession) list(ctx context.Context, exclude []string) error {
	defer context.AfterFunc(ctx, s.wire.kill)()
	var rules []byte
	for _, p := range exclude {
		if strings.ContainsAny(p, `?[\`) || strings.Contains(p, "**") || strings.HasSuffix(p, "/") || p == "" {
			continue
		}
		if strings.Contains(p, "/") {
			p = "/" + strings.TrimPrefix(p, "/")
		}
		p = "- " + p
		rules = append(append(rules, rsyncBytes(int32(len(p)))...), p...)
	}
	s.wire.least = slowestList
	if _, err := s.wire.out.Write(append(rules, rsyncBytes(0)...)); err != nil {
		return err
	}
	var err error
	s.files, err = readRsyncList(s.wire)
	s.wire.least = slowest
	return err
}

func (s *rsyncSession) alive() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dead == nil
}

// end makes the connection useless for all who wait for it.
func (s *rsyncSession) end(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead != nil {
		return
	}
	s.dead = err
	s.wire.kill()
	for i, b := range s.queue {
		if i > 0 {
			close(b.turn)
		}
	}
	s.queue = nil
}

// explain adds what the server has said to an error.
func (s *rsyncSession) explain(err error) error {
	if final(err) || errors.As(err, new(*missingError)) {
		return err
	}
	if errors.Is(err, io.EOF) {
		err = fmt.Errorf("the rsync server hung up: %w", io.ErrUnexpectedEOF)
	}
	if said := s.wire.messages(); said != "" {
		return fmt.Errorf("%w; the server says %q", err, said)
	}
	return err
}

// leave ends the connection, with a goodbye if nobody waits for anything.
func (s *rsyncSession) leave() {
	s.mu.Lock()
	idle := len(s.queue) == 0 && s.dead == nil
	s.mu.Unlock()
	if idle {
		// The end of both rounds, and the goodbye. That it is not answered makes no difference.
		t := time.AfterFunc(rsyncGoodbye, s.wire.kill)
		if s.wire.writeInts(-1, -1, -1) == nil {
			_, _ = io.Copy(io.Discard, s.wire)
		}
		t.Stop()
	}
	s.end(errLeft)
	s.close()
}

// errLeft says that the list was asked for anew, or that nothing more is wanted.
var errLeft = errors.New("the connection has ended")

// rsyncBody is a file that was asked for.
type rsyncBody struct {
	s       *rsyncSession
	index   int32
	file    *rsyncFile    // as listed
	turn    chan struct{} // closed when all before it have come
	stop    func() bool   // lets go of the context
	sum     hash.Hash
	basis   *rsyncBasis // what the server was told that we have; nil: nothing
	token   int64       // bytes to come of the present piece
	from    int64       // where in basis they are; -1: they come over the wire
	allowed int64       // bytes that may still come
	err     error       // what Read says from now on
}

// request asks for a file, with the sums of what is here of it if that is of the version that there is. Then begin is to be called.
func (s *rsyncSession) request(ctx context.Context, name string, basis *rsyncBasis) (*rsyncBody, error) {
	b, err := s.find(name)
	if err != nil {
		return nil, err
	}
	if basis.count() > 0 && basis.version == b.file.version() {
		b.basis = basis
	}
	// The answer comes whether it is still wanted or not: without it the connection is of no use.
	b.stop = context.AfterFunc(ctx, func() { s.end(context.Cause(ctx)) })
	s.writing.Lock()
	defer s.writing.Unlock()
	return b, s.ask(b)
}

// requestAhead is request of a small file that nobody waits for. It gives nil while another request is written.
func (s *rsyncSession) requestAhead(name string) (*rsyncBody, error) {
	if !s.writing.TryLock() {
		return nil, nil
	}
	defer s.writing.Unlock()
	b, err := s.find(name)
	if err != nil {
		return nil, err
	}
	b.stop = func() bool { return true } // it ends with the connection
	return b, s.ask(b)
}

// find makes the body of a file that is listed.
func (s *rsyncSession) find(name string) (*rsyncBody, error) {
	i, ok := slices.BinarySearchFunc(s.files, name, func(f rsyncFile, name string) int { return strings.Compare(f.name, name) })
	if !ok {
		return nil, ErrGone
	}
	f := &s.files[i]
	b := &rsyncBody{s: s, index: int32(i), file: f, turn: make(chan struct{}), sum: md4.New(), from: -1, allowed: f.size*2 + rsyncGrowth}
	b.sum.Write(rsyncBytes(s.seed))
	return b, nil
}

// begin waits until the file comes.
func (b *rsyncBody) begin() error {
	<-b.turn
	err := b.head()
	if err != nil {
		b.done(err)
	}
	return err
}

// ask writes a request: the number of the file, and what we have of it. The caller holds writing.
func (s *rsyncSession) ask(b *rsyncBody) error {
	s.mu.Lock()
	err := s.dead
	if err == nil {
		if s.queue = append(s.queue, b); len(s.queue) == 1 {
			close(b.turn)
		}
	}
	s.mu.Unlock()
	if err == nil {
		err = s.write(b)
	}
	if err != nil {
		b.stop()
		s.end(err)
	}
	return err
}

// write writes a request. While the server sends a file it reads no more than little, so a long request waits until all files before
// have come. The sums are written as they are made: who hears nothing meanwhile might hang up.
func (s *rsyncSession) write(b *rsyncBody) error {
	n := b.basis.count()
	if n == 0 {
		return s.wire.writeInts(b.index, 0, 0, 0, 0)
	}
	if n > rsyncWrite/rsyncSums {
		<-b.turn
		if err := s.cause(nil); err != nil {
			return err
		}
	}
	err := s.wire.writeInts(b.index, int32(n), int32(b.basis.block), md4.Size, 0)
	for i := int64(0); i < n && err == nil; i += rsyncWrite / rsyncSums {
		_, err = s.wire.out.Write(b.basis.sums(s.seed, i, min(n, i+rsyncWrite/rsyncSums)))
	}
	return err
}

// cause is why the connection has ended, if it has.
func (s *rsyncSession) cause(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return cmp.Or(s.dead, err)
}

// head reads what comes before the bytes of a file: its number, and what the server makes of our sums. A file that the server
// cannot read is left out.
func (b *rsyncBody) head() error {
	s := b.s
	if err := s.cause(nil); err != nil {
		return err
	}
	s.wire.pace = pace{} // each file has its own
	s.wire.extra.Store(0)
	if b.basis != nil { // the server reads it, and what is the same of 2 GiB is told in a packet
		compared := time.Duration(b.basis.size/comparedPerSecond) * time.Second
		s.wire.waited = -s.wire.timeout - compared
		s.wire.extra.Store(int64(compared))
	}
	if s.came < 0 {
		s.wire.between = true
		n, err := s.wire.readInt()
		s.wire.between = false
		missing := (*missingError)(nil)
		switch {
		case errors.As(err, &missing) && strings.Contains(missing.text, "Permission denied"):
			return fmt.Errorf("%w: %w", fs.ErrPermission, err)
		case errors.As(err, &missing) && (strings.Contains(missing.text, "No such file") || strings.Contains(missing.text, "vanished")):
			return fmt.Errorf("%w: %w", ErrGone, err)
		case err != nil:
			return err
		}
		s.came = n
	}
	if s.came != b.index {
		s.mu.Lock()
		later := slices.ContainsFunc(s.queue, func(o *rsyncBody) bool { return o != b && o.index == s.came })
		s.mu.Unlock()
		if !later {
			return fmt.Errorf("%w: file %d instead of %d", errRsync, s.came, b.index)
		}
		// It is gone, or may not be read: another listing tells.
		return fmt.Errorf("%w: %w", ErrGone, &missingError{"(nothing about this file: it could not be read)"})
	}
	s.came = -1
	for range 4 {
		if _, err := s.wire.readInt(); err != nil {
			return err
		}
	}
	return nil
}

// done passes the turn on. After an error that is not about this file alone there is none to pass on.
func (b *rsyncBody) done(err error) {
	b.stop()
	s := b.s
	if err != nil && err != errRsyncSum && !errors.As(err, new(*missingError)) {
		s.end(err)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead == nil && len(s.queue) > 0 && s.queue[0] == b {
		s.queue = s.queue[1:]
		if len(s.queue) > 0 {
			close(s.queue[0].turn)
		}
	}
}

// errRsyncSum says that a file is not what the server read, or that the server could not read all of it.
var errRsyncSum = errors.New("the sum of what came is not that of the server: the file changed or broke while it was read")

// Read gives the bytes of the file, and its end when the sum is right.
func (b *rsyncBody) Read(p []byte) (int, error) {
	if b.err != nil || len(p) == 0 {
		return 0, b.err
	}
	n, err := b.read(p)
	if err == nil {
		return n, nil
	}
	b.err = err
	switch {
	case err == io.EOF:
		b.done(nil)
	case err == errRsyncSum:
		b.done(err)
	default:
		b.err = b.s.cause(err)
		if errors.Is(b.err, io.ErrUnexpectedEOF) {
			b.err = fmt.Errorf("the connection was cut: %w", b.err)
		}
		b.done(b.err)
	}
	return 0, b.err
}

// read gives the next bytes: pieces of any length, each after its length, or the numbers of blocks that we have, then 0 and the sum.
func (b *rsyncBody) read(p []byte) (int, error) {
	w := b.s.wire
	if b.token == 0 {
		n, err := w.readInt()
		switch {
		case err != nil:
			return 0, unexpected(err)
		case n == 0:
			var sum [md4.Size]byte
			if _, err := io.ReadFull(w, sum[:]); err != nil {
				return 0, unexpected(err)
			}
			if string(b.sum.Sum(nil)) != string(sum[:]) {
				return 0, errRsyncSum
			}
			return 0, io.EOF
		case int64(^n) >= b.basis.count():
			return 0, fmt.Errorf("%w: block %d of a file of which we have %d", errRsync, ^n, b.basis.count())
		case n < 0:
			b.token, b.from = b.basis.block, int64(^n)*b.basis.block
			w.got += b.token // the server has read it
		default:
			b.token, b.from = int64(n), -1
		}
		if b.token > b.allowed {
			return 0, errors.New("the file is more than twice as long as it was listed")
		}
		b.allowed -= b.token
	}
	p = p[:min(int64(len(p)), b.token)]
	var n int
	var err error
	if b.from < 0 {
		n, err = w.Read(p)
	} else if n, err = b.basis.have.ReadAt(p, b.from); n == len(p) {
		err = nil
	}
	if b.from >= 0 {
		b.from += int64(n)
	}
	b.token -= int64(n)
	b.sum.Write(p[:n])
	return n, unexpected(err)
}

// unexpected is err; the end of the connection is not that of a file.
func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Close lets others have their turn.
func (b *rsyncBody) Close() error {
	if b.err != nil {
		return nil
	}
	_, err := io.CopyN(io.Discard, b, rsyncSkip)
	if err == nil {
		b.err = fs.ErrClosed
		b.done(errors.New("a file was closed before it had come"))
	}
	return nil
}
