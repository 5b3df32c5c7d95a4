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
	f.pool = ftpPool{limit: o.Connections, most: o.Connections, log: o.Log, free: make(chan struct{})}
	return f, nil
}

// ftp is a tree on an FTP server.
type ftp struct {
	o           Options
	shown       string // the URL, without a password
	host, addr  string
	top         string // path of the URL
	who         *url.Userinfo
	listCommand string // of a server without MLSD

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
	user := who.Username()
	password, _ := who.Password()
	if user == "" {
		user, password = "anonymous", "swarmnode@"
		if _, contact, ok := strings.Cut(f.o.UserAgent, "(+"); ok {
			password = strings.TrimSuffix(contact, ")")
		}
	} else if f.tls == nil && user != "anonymous" && user != "ftp" {
		f.o.Log.Warn("the password goes over the network for all to read: ftpes:// is FTP with TLS", "origin", f.shown)
	}
	f.who = url.UserPassword(user, password)
	if strings.ContainsAny(user+password, "\r\n\x00") {
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
			if err == nil {
				err = checkPaths(dir, len(lines))
			}
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
