package origin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/textproto"
	"strconv"
	"strings"
	"time"
)

// ftpSettle is how old a file must be before it is read: times are in seconds, and what is written in the same second again would
// look the same.
const ftpSettle = 2 * time.Second

// ftpVouched is how old a file must be for the listing after the run to say, for certain, that it was not written to while it was
// read: then it would be of today, in listings that tell no more than days too, and whatever the clocks and zones of both sides are.
const ftpVouched = 48 * time.Hour

// Open begins to read a file. Its version is size and time.
func (f *ftp) Open(ctx context.Context, e Entry, offset int64, version string) (b *Body, err error) {
	p := e.Path
	if e.Fetch != "" {
		p = e.Fetch
	}
	err = f.with(ctx, func(c *ftpConn) error {
		_, torn := f.torn.LoadAndDelete(p)
		listed := ftpState{size: e.Size, mtime: e.Mtime}
		port, now, err := c.prepare(p, listed, torn || offset > 0 || e.Stamp == "")
		if err != nil {
			return err
		}
		if err := f.settle(ctx, now.mtime); err != nil {
			return err
		}
		if version == "" || version != now.version() {
			offset = 0
		}
		d, err := c.transfer(ctx, port, offset, "RETR "+c.at(p))
		if errors.Is(err, errNoRest) {
			offset = 0
			if port, _, err = c.passive(); err == nil {
				d, err = c.transfer(ctx, port, 0, "RETR "+c.at(p))
			}
		}
		if err != nil {
			return c.absent(ctx, p, err)
		}
		c.lent = true
		file := &ftpBody{c: c, d: d, path: p, at: offset, size: now.size}
		file.stop = context.AfterFunc(ctx, c.cut)
		b = &Body{ReadCloser: file, Offset: offset, Size: now.size, Mtime: now.mtime, Version: now.version()}
		if b.Version != "" && (e.Stamp == "" || f.now().Sub(time.Unix(0, now.mtime)) < ftpVouched) {
			b.Still = func(ctx context.Context) (bool, error) { return f.still(ctx, p, now) }
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("fetch %q: %w", p, err)
	}
	return b, nil
}

// prepare gives the port for a file, and its size and time: both as listed where the listing is exact, and only the time asked for
// where it has the size and a stamp.
func (c *ftpConn) prepare(p string, listed ftpState, doubt bool) (port int, now ftpState, err error) {
	at, has := c.at(p), !doubt && listed.size >= 0
	switch {
	case has && c.exact() && listed.mtime != 0:
		port, _, err = c.passive()
		return port, listed, err
	case !has || c.has("MLST") || c.has("MLSD"):
		if now, err = c.state(p); err == nil {
			port, _, err = c.passive()
		}
		return port, now, err
	}
	port, answers, err := c.passive("MDTM " + at)
	if err == nil {
		listed.mtime = answers[0].time()
	}
	return port, listed, err
}

// settle waits until the second in which the file was written is over.
func (f *ftp) settle(ctx context.Context, mtime int64) error {
	wait := time.Unix(0, mtime).Add(ftpSettle).Sub(f.now())
	if mtime == 0 || wait <= 0 || wait > ftpSettle {
		return nil // what is from the future may be from there for a year
	}
	select {
	case <-time.After(wait):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// still reports whether the file is the one it was.
func (f *ftp) still(ctx context.Context, p string, was ftpState) (same bool, err error) {
	err = f.with(ctx, func(c *ftpConn) error {
		now, err := c.state(p)
		same = now == was
		return err
	})
	return same, err
}

// ftpState is what tells one version of a file from another.
type ftpState struct {
	size  int64 // or SizeUnknown
	mtime int64 // nanoseconds since 1970; 0 unknown
}

// version is "" if too little is known.
func (s ftpState) version() string {
	if s.size < 0 || s.mtime == 0 {
		return ""
	}
	return fmt.Sprintf("%d-%d", s.size, s.mtime)
}

// exact reports whether what MLSD says of a file is what MLST would: with modes, the server shows links as links.
func (c *ftpConn) exact() bool {
	return strings.Contains(c.feats["MLST"], "unix.mode")
}

// state asks for size and time, by one command where there is one. What the server does not tell, or refuses, is unknown.
func (c *ftpConn) state(p string) (ftpState, error) {
	s := ftpState{size: SizeUnknown}
	if c.exact() {
		code, msg, err := c.cmd("MLST %s", c.at(p))
		if err != nil {
			return s, err
		}
		lines := strings.Split(msg, "\n")
		if code == 250 && len(lines) > 1 {
			l, err := parseMLSD(strings.TrimLeft(lines[1], " "))
			if err == nil && l.kind == ftpFile && l.size >= 0 && !l.time.IsZero() {
				return ftpState{l.size, l.time.UnixNano()}, nil
			}
		}
	}
	answers, err := c.ask("SIZE "+c.at(p), "MDTM "+c.at(p))
	if err != nil {
		return s, err
	}
	size := answers[0]
	if n, err := strconv.ParseInt(strings.TrimSpace(size.msg), 10, 64); size.code == 213 && err == nil && n >= 0 {
		s.size = n
	}
	s.mtime = answers[1].time()
	return s, nil
}

// time is the answer to MDTM, in nanoseconds since 1970; 0 if it is none.
func (a ftpAnswer) time() int64 {
	t, err := ftpTime(a.msg)
	if a.code != 213 || err != nil {
		return 0
	}
	return t.UnixNano()
}

// ftpBody is a file that is being read. After its last byte, or an error, its connection is free again.
type ftpBody struct {
	c    *ftpConn
	d    *ftpData
	stop func() bool
	path string
	at   int64 // of the next byte
	size int64 // or SizeUnknown
	err  error // of the end; io.EOF after a whole file
}

func (b *ftpBody) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	n, err := b.d.Read(p)
	b.at += int64(n)
	switch {
	case b.size >= 0 && b.at > b.size:
		b.d.abort()
		b.c.f.torn.Store(b.path, true)
		b.end(fmt.Errorf("%q goes on after the %d bytes that it was to have: it has changed", b.path, b.size))
	case isEOF(err):
		b.end(b.finish())
	case err != nil:
		b.d.abort()
		b.end(fmt.Errorf("read %q after %d bytes: %w", b.path, b.at, err))
	}
	return n, b.err
}

// finish gives io.EOF if the file is whole: all bytes are there, and the server does not say otherwise. If it says nothing any more,
// their number will do: a router has forgotten the control connection while the data took its time.
func (b *ftpBody) finish() error {
	_, err := b.d.finish()
	said := (*textproto.Error)(nil)
	switch {
	case errors.As(err, &said):
		return fmt.Errorf("read %q after %d bytes: %w", b.path, b.at, ftpExplain(err))
	case b.size >= 0 && b.at < b.size:
		b.c.broken.Store(true)
		b.c.f.torn.Store(b.path, true)
		return fmt.Errorf("read %q: ends after %d of %d bytes: %w", b.path, b.at, b.size, io.ErrUnexpectedEOF)
	case err != nil && b.size < 0:
		return fmt.Errorf("read %q: nobody says that it is whole after %d bytes: %w", b.path, b.at, err)
	}
	return io.EOF
}

// end gives the connection back.
func (b *ftpBody) end(err error) {
	b.err = err
	if !b.stop() {
		b.c.broken.Store(true)
	}
	b.c.f.pool.put(b.c)
}

// Close ends the reading, and if that was before the end, the connection.
func (b *ftpBody) Close() error {
	if b.err == nil {
		b.d.abort()
		b.end(errors.New("read after Close"))
	}
	return nil
}
