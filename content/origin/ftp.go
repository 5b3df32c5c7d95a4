package origin

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unicode/utf8"

	"swarmnode/content"
)

// The FTP that is spoken here is that of RFC 959 with passive mode only, RFC 2389 (FEAT), 2428 (EPSV), 3659 (MLSD, SIZE, MDTM, REST)
// and 4217 (TLS). It is on net/textproto and not on a library of FTP, because the one there is leaves out without a word each line of
// a listing that it does not understand, which to a mirror means a file that was deleted; because it shows symlinks as small files,
// does not tell modes, and loses the code of the answer that says that there are too many connections.

// openFTP makes an origin of an ftp, ftps (TLS from the first byte) or ftpes (AUTH TLS) URL. Its path is relative to where a login
// leads, or absolute if it begins with %2F. ?hidden=yes asks a server that has no MLSD for names with a leading dot too (LIST -a, which
// not every server understands).
func openFTP(_ context.Context, u *url.URL, o Options) (Origin, error) {
	f := &ftp{o: o, shown: u.Redacted(), dial: newDialer(&o), now: time.Now}
	port := "21"
	switch u.Scheme {
	case "ftps":
		f.implicit, port = true, "990"
	case "ftpes":
		f.explicit = true
	}
	if p := u.Port(); p != "" {
		port = p
	}
	f.host, f.addr = u.Hostname(), net.JoinHostPort(u.Hostname(), port)
	if err := f.options(u); err != nil {
		return nil, err
	}
	if f.implicit || f.explicit {
		var err error
		if f.tls, err = tlsConfig(&o); err != nil {
			return nil, err
		}
		f.tls.ServerName = f.host
	}
	if err := f.account(u); err != nil {
		return nil, err
	}
	f.pool = ftpPool{limit: o.Connections, most: o.Connections, free: make(chan struct{})}
	return f, nil
}

// ftp is a tree on an FTP server.
type ftp struct {
	o              Options
	shown          string // the URL, without a password
	host, addr     string
	top            string // path of the URL
	user, password string
	listCommand    string // of a server without MLSD

	implicit, explicit bool
	tls                *tls.Config // nil: none

	dial *net.Dialer
	now  func() time.Time
	pool ftpPool
	zone ftpZone
	torn sync.Map // paths of files that were not as listed: of them the server is asked again
}

// options reads path and query.
func (f *ftp) options(u *url.URL) error {
	f.top = strings.TrimPrefix(u.Path, "/")
	if strings.ContainsAny(f.top, "\r\n\x00") || !utf8.ValidString(f.top) {
		return &RefusedError{Reason: f.shown + ": a path has no line breaks, and is UTF-8"}
	}
	f.listCommand = "LIST"
	switch u.RawQuery {
	case "":
	case "hidden=yes":
		f.listCommand = "LIST -a"
	default:
		return &RefusedError{Reason: fmt.Sprintf("%s: after a '?' an FTP URL may have hidden=yes and nothing else; a '?' in its path is %%3F", f.shown)}
	}
	if u.Fragment != "" {
		return &RefusedError{Reason: f.shown + ": a '#' in the path of a URL is %23"}
	}
	return nil
}

// account finds out who to be: what the URL says, a password of .netrc, or anonymous with the address of whoever to write to.
func (f *ftp) account(u *url.URL) error {
	who, err := login(f.o, u)
	if err != nil {
		return err
	}
	f.user = who.Username()
	f.password, _ = who.Password()
	if f.user == "" {
		f.user, f.password = "anonymous", "swarmnode@"
		if _, contact, ok := strings.Cut(f.o.UserAgent, "(+"); ok {
			f.password = strings.TrimSuffix(contact, ")")
		}
	} else if f.tls == nil && f.user != "anonymous" && f.user != "ftp" {
		f.o.Log.Warn("the password goes over the network for all to read: ftpes:// is FTP with TLS", "origin", f.shown)
	}
	if strings.ContainsAny(f.user+f.password, "\r\n\x00") {
		return &RefusedError{Reason: f.shown + ": a user name or password has no line breaks"}
	}
	return nil
}

// List walks the tree. Its memo is when it began, by which a stamp without seconds is judged the next time.
func (f *ftp) List(ctx context.Context, before Before, each func(Entry) error) (Listing, error) {
	f.pool.reset()
	began := f.now()
	last, _ := strconv.ParseInt(before.Memo["listed"], 10, 64)
	s := &ftpStamps{f: f, before: before, last: time.Unix(last, 0)}
	l, err := crawl(ctx, &f.o, before, func(ctx context.Context, dir string) (entries []Entry, bad []Bad, requests int, err error) {
		err = f.with(ctx, func(c *ftpConn) error {
			began := c.sent
			defer func() { requests += c.sent - began }()
			if !c.used {
				requests += began // of the login
			}
			lines, err := c.readDir(ctx, dir)
			if err != nil {
				return err
			}
			entries, bad, err = s.entries(c, dir, lines)
			return err
		})
		return entries, bad, requests, err
	}, each)
	l.Memo = map[string]string{"listed": strconv.FormatInt(began.Unix(), 10)}
	return l, err
}

// Close ends the connections that are idle, and the others once they are.
func (f *ftp) Close() error {
	f.pool.close()
	return nil
}

// with calls do with a connection. A server ends connections that had nothing to do: that is found out by using one, and is no error.
func (f *ftp) with(ctx context.Context, do func(*ftpConn) error) error {
	for {
		c, err := f.pool.get(ctx, f.connect)
		if err != nil {
			return err
		}
		stop := context.AfterFunc(ctx, c.cut)
		err = do(c)
		if !stop() {
			c.broken.Store(true)
		}
		broken, used := c.broken.Load(), c.used
		if !c.lent {
			f.pool.put(c)
		}
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case broken && used && ftpCut(err):
			f.pool.drop()
			continue
		}
		return ftpExplain(err)
	}
}

// ftpCut reports whether an error is that of a connection which the server had ended before.
func ftpCut(err error) bool {
	said := (*textproto.Error)(nil)
	if errors.As(err, &said) {
		return said.Code == 421
	}
	return ended(err)
}

// ended reports whether the other end has closed the connection.
func ended(err error) bool {
	return isEOF(err) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, net.ErrClosed)
}

// at is the path on the server of a path of the origin.
func (c *ftpConn) at(p string) string {
	p = strings.Trim(c.f.top, "/") + "/" + p
	if strings.HasPrefix(c.f.top, "/") {
		return "/" + strings.Trim(p, "/")
	}
	return strings.TrimRight(c.home, "/") + "/" + strings.Trim(p, "/")
}

// pathIn joins what a listing says without making anything better: a '/' or ".." in a name is refused by the crawler.
func pathIn(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}

// ftpMode is the kind of an entry as content has it; 0o010000, a pipe, stands for all that is not published.
func ftpMode(kind byte) uint32 {
	switch kind {
	case ftpFile:
		return content.ModeFile
	case ftpDir:
		return content.ModeDir
	case ftpLink:
		return content.ModeLink
	}
	return 0o010000
}

// ftpZone is by how much the server's clock, as LIST shows it, is ahead of UTC, once that is known.
type ftpZone struct {
	known   atomic.Bool
	seconds atomic.Int64
}

// learn takes what the listing and MDTM say of one file. Zones are multiples of a quarter of an hour.
func (z *ftpZone) learn(listed, exact time.Time) {
	z.seconds.Store(int64(listed.Sub(exact).Round(15*time.Minute) / time.Second))
	z.known.Store(true)
}

// ahead gives the difference, or ok = false.
func (z *ftpZone) ahead() (d time.Duration, ok bool) {
	return time.Duration(z.seconds.Load()) * time.Second, z.known.Load()
}

// ftpPool has the connections. A server that allows fewer than were meant to be is asked for no more than it gave, until the next
// listing.
type ftpPool struct {
	mu     sync.Mutex // guards all below
	idle   []*ftpConn
	open   int // connections there are, or are being made
	limit  int // how many there may be
	most   int // how many there may ever be
	closed bool
	free   chan struct{} // closed, and another one made, when a connection or the room for one came free
}

// get gives an idle connection or makes one, waiting for room.
func (p *ftpPool) get(ctx context.Context, connect func(context.Context) (*ftpConn, error)) (*ftpConn, error) {
	for {
		c, room, wait, err := p.take()
		if c != nil || err != nil {
			return c, err
		}
		if !room {
			select {
			case <-wait:
				continue
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		if c, err = connect(ctx); err == nil {
			return c, nil
		}
		if !p.fewer(err) {
			return nil, err
		}
	}
}

// take gives a connection, or room to make one, or what to wait for.
func (p *ftpPool) take() (c *ftpConn, room bool, wait <-chan struct{}, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, false, nil, net.ErrClosed
	}
	for len(p.idle) > 0 {
		c = p.idle[len(p.idle)-1]
		p.idle = p.idle[:len(p.idle)-1]
		if time.Since(c.since) < ftpIdle {
			c.used = true
			return c, false, nil, nil
		}
		c.quit()
		p.open--
	}
	if p.open < p.limit {
		p.open++
		return nil, true, nil, nil
	}
	return nil, false, p.free, nil
}

// fewer takes back the room for a connection that could not be made. It reports whether to wait for one of the others instead.
func (p *ftpPool) fewer(err error) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open--
	p.signal()
	busy := (*BusyError)(nil)
	if !errors.As(err, &busy) || p.open == 0 {
		return false
	}
	p.limit = p.open
	return true
}

// put takes a connection back.
func (p *ftpPool) put(c *ftpConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	defer p.signal()
	if c.broken.Load() || p.closed {
		c.quit()
		p.open--
		return
	}
	c.since, c.lent = time.Now(), false
	p.idle = append(p.idle, c)
}

// drop ends those that are idle: one of them was found dead.
func (p *ftpPool) drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	defer p.signal()
	for _, c := range p.idle {
		c.quit()
		p.open--
	}
	p.idle = nil
}

func (p *ftpPool) reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.limit = p.most
}

func (p *ftpPool) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.drop()
}

// signal wakes those who wait; p.mu is held.
func (p *ftpPool) signal() {
	close(p.free)
	p.free = make(chan struct{})
}
