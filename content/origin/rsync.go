package origin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

const (
	// rsyncListTime is how long the listing of a whole tree may take: the server reads every directory for it.
	rsyncListTime = time.Hour
	// rsyncGoodbye is how long a server has to answer that we leave.
	rsyncGoodbye = 2 * time.Second
)

// rsyncOrigin is a tree that an rsync server shows, a daemon or one that is started over SSH. It is read by protocol 27, which every
// rsync since 2003, openrsync and others speak: one connection gives the list of the whole tree, and then each file of it that is
// asked for by its number, without waiting for one before asking for the next.
type rsyncOrigin struct {
	o    *Options
	dial func(ctx context.Context) (*rsyncSession, error)
	name string // for people

	mu   sync.Mutex    // guards all below; held while connecting
	cur  *rsyncSession // nil before the first
	shut bool

	ahead readAhead
}

// openRsync gives the origin of rsync://[user@]host[:port]/module/path or rsync+ssh://[user@]host[:port]/path.
func openRsync(_ context.Context, u *url.URL, o Options) (Origin, error) {
	r := &rsyncOrigin{o: &o, name: u.Redacted()}
	r.ahead.begin()
	if u.Scheme == "rsync+ssh" {
		door, err := newSSHDoor(u, &o)
		if err != nil {
			return nil, err
		}
		r.dial = func(ctx context.Context) (*rsyncSession, error) { return r.overSSH(ctx, door, sshPath(u)) }
		return r, nil
	}
	module, dir, _ := strings.Cut(strings.Trim(u.Path, "/"), "/")
	if u.Hostname() == "" || module == "" || strings.ContainsAny(u.Path, "\n\r\x00") {
		return nil, &RefusedError{Reason: r.name + " names no module: it is rsync://HOST/MODULE/PATH; rsync HOST:: lists the modules"}
	}
	who := u.User
	password, has := who.Password()
	if !has {
		password = os.Getenv("RSYNC_PASSWORD")
	}
	if password == "" {
		var err error
		if who, err = login(o, u); err != nil {
			return nil, err
		}
		password, _ = who.Password()
	}
	d := &rsyncDaemon{addr: net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), "873")), module: module, path: dir, user: cmp.Or(who.Username(), os.Getenv("USER")), password: password}
	r.dial = func(ctx context.Context) (*rsyncSession, error) { return r.atDaemon(ctx, d) }
	return r, nil
}

// atDaemon connects to a daemon.
func (r *rsyncOrigin) atDaemon(ctx context.Context, d *rsyncDaemon) (*rsyncSession, error) {
	conn, err := newDialer(r.o).DialContext(ctx, "tcp", d.addr)
	if err != nil {
		return nil, err
	}
	s := newRsyncSession(newRsyncWire(conn, conn, func() { conn.Close() }, r.o.Timeout), func() { conn.Close() })
	return s, s.begin(ctx, func() error { return d.greet(s.wire) })
}

// overSSH starts rsync at the other end of an SSH connection.
func (r *rsyncOrigin) overSSH(ctx context.Context, door *sshDoor, dir string) (*rsyncSession, error) {
	conn, err := door.dial(ctx)
	if err != nil {
		return nil, err
	}
	noise := &tail{}
	s, err := func() (*rsyncSession, error) {
		session, err := conn.NewSession()
		if err != nil {
			return nil, err
		}
		session.Stderr = noise
		in, err := session.StdinPipe()
		if err != nil {
			return nil, err
		}
		out, err := session.StdoutPipe()
		if err != nil {
			return nil, err
		}
		if err := session.Start("rsync " + shellWords(append(rsyncArgs(), dir+"/"))); err != nil {
			return nil, err
		}
		ended := make(chan error, 1)
		conn.wg.Go(func() { ended <- session.Wait() }) // stderr is complete then
		s := newRsyncSession(newRsyncWire(out, in, conn.kill, r.o.Timeout), conn.close)
		return s, s.begin(ctx, func() error { return startRsync(s.wire, ended, noise) })
	}()
	if s == nil {
		conn.close()
	}
	return s, err
}

// startRsync agrees on the version with an rsync that was started for us.
func startRsync(w *rsyncWire, ended <-chan error, noise *tail) error {
	wrote := w.writeInts(rsyncProtocol) // what has ended by now may have said why
	theirs, err := w.readInt()
	if err == nil && theirs >= rsyncProtocol && theirs < 256 {
		return wrote
	}
	if err == nil {
		return &RefusedError{Reason: fmt.Sprintf("rsync over SSH: the first answer is %q, not a version: \"ssh USER@HOST true\" must print nothing", rsyncBytes(theirs))}
	}
	var exit *ssh.ExitError
	select {
	case why := <-ended:
		if errors.As(why, &exit) {
			return &RefusedError{Reason: fmt.Sprintf("rsync over SSH did not start: it says %q", noise), Cause: why}
		}
	case <-time.After(rsyncGoodbye): // the connection is there, and something else is wrong
	}
	return err
}

// rsyncArgs ask a server for a tree, with its symlinks.
func rsyncArgs() []string { return []string{"--server", "--sender", "-rlt", "."} }

// shellWords writes words for a shell.
func shellWords(words []string) string {
	var b strings.Builder
	for i, w := range words {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString("'" + strings.ReplaceAll(w, "'", `'\''`) + "'")
	}
	return b.String()
}

// session gives the connection that there is, or a new one with a new list.
func (r *rsyncOrigin) session(ctx context.Context, renew bool) (s *rsyncSession, isNew bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.shut {
		return nil, false, fs.ErrClosed
	}
	if r.cur != nil && !renew && r.cur.alive() {
		return r.cur, false, nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, rsyncListTime, fmt.Errorf("the tree was not listed in %v: publish parts of it", rsyncListTime))
	defer cancel()
	s, err = r.dial(ctx)
	if err == nil {
		err = s.list(ctx, r.o.Exclude)
	}
	if err != nil {
		if s != nil {
			s.end(err)
			s.close()
			err = s.explain(err)
		}
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return nil, false, fmt.Errorf("%s: %w", r.name, err)
	}
	if r.cur != nil {
		r.cur.leave()
	}
	r.cur = s
	return s, true, nil
}

// List asks for the list of the whole tree with a new connection, which Open then goes on with.
func (r *rsyncOrigin) List(ctx context.Context, before Before, each func(Entry) error) (Listing, error) {
	var s *rsyncSession
	err := Retry(ctx, func() (err error) {
		s, _, err = r.session(ctx, true)
		return err
	})
	if err != nil {
		return Listing{Requests: 1}, err
	}
	r.ahead.begin()
	l, err := s.emit(&crawler{o: r.o, before: before, each: func(e Entry) error {
		r.ahead.note(before, e)
		return each(e)
	}})
	l.Requests = 1
	return l, err
}

// Open asks for a file. Files come in the order in which they are asked for: a Body that is not read holds up the others.
// It always begins: OpenAfter goes on.
func (r *rsyncOrigin) Open(ctx context.Context, e Entry, _ int64, _ string) (*Body, error) {
	small, err := r.ahead.take(ctx, fetchPath(&e))
	switch {
	case err != nil:
		return nil, fmt.Errorf("open %q: %w", e.Path, err)
	case small != nil:
		return &Body{ReadCloser: small, Size: SizeUnknown, Whole: true}, nil
	}
	return r.openAfter(ctx, e, nil)
}

// open asks for a file with the connection that there is. It gives nil if it was of no use: the server may have hung up long ago, as it
// does when it has nothing to do.
func (r *rsyncOrigin) open(ctx context.Context, name string, basis *rsyncBasis) (*rsyncBody, error) {
	s, isNew, err := r.session(ctx, false)
	if err != nil {
		return nil, err
	}
	b, err := s.request(ctx, name, basis)
	if err == nil {
		r.ahead.more(s, name)
		err = b.begin()
	}
	switch {
	case err == nil:
		return b, nil
	case isNew || final(err) || ctx.Err() != nil || s.alive():
		return nil, s.explain(err)
	}
	return nil, nil
}

// Close ends the connection.
func (r *rsyncOrigin) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cur != nil && !r.shut {
		r.cur.leave()
	}
	r.shut = true
	r.ahead.wg.Wait()
	return nil
}

// tail keeps the end of what is written to it.
type tail struct {
	mu   sync.Mutex // guards text
	text []byte
}

// tailBytes is some lines of a shell that does not find a program.
const tailBytes = 512

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	t.text = append([]byte{}, t.text[max(len(t.text)-tailBytes, 0):]...)
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(t.text))
}
