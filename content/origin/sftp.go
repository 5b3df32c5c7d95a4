package origin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path"
	"sync/atomic"
	"time"

	"github.com/pkg/sftp"
	"golang.org/x/sync/errgroup"

	"swarmnode/content"
)

const (
	// sftpBlock is how much of a file is asked for at once, in parts of 32 KiB: 49 MB/s at a round trip of 20 ms.
	sftpBlock = 4 << 20
	// sftpPart is what one request may read: all servers have to allow it.
	sftpPart = 32 << 10
	// sftpDirectoryTime is how long a server may take to list one directory: 200,000 names at a round trip of 100 ms take 200 s.
	sftpDirectoryTime = 15 * time.Minute
	// sftpLinks is how many targets of symlinks are asked for at a time.
	sftpLinks = 16
	// youngFor is for how long a file may change again without its time showing it, which is in whole seconds: one second, and how
	// far the clocks of two servers that are set are apart.
	youngFor = 5 * time.Second
)

// sftpOrigin is a directory behind SFTP. One SSH connection with several channels serves all that goes on at a time.
type sftpOrigin struct {
	o    *Options
	pool *sftpPool
	base string
}

// openSFTP gives the origin of sftp://[user@]host[:port]/path; /~/path is in the home there.
func openSFTP(_ context.Context, u *url.URL, o Options) (Origin, error) {
	door, err := newSSHDoor(u, &o)
	if err != nil {
		return nil, err
	}
	return &sftpOrigin{o: &o, pool: newSFTPPool(door), base: sshPath(u)}, nil
}

// Close ends the connection.
func (s *sftpOrigin) Close() error { return s.pool.close() }

// List lists one directory at a time.
func (s *sftpOrigin) List(ctx context.Context, before Before, each func(Entry) error) (Listing, error) {
	return crawl(ctx, s.o, before, func(ctx context.Context, dir string) ([]Entry, []Bad, int, error) {
		return s.list(ctx, before, dir)
	}, each)
}

// list gives what is in a directory: its names, then the targets of the symlinks that are new.
func (s *sftpOrigin) list(ctx context.Context, before Before, dir string) (entries []Entry, bad []Bad, requests int, err error) {
	c, err := s.pool.get(ctx)
	if err != nil {
		return nil, nil, 0, err
	}
	defer s.pool.put(c, nil)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	limit := time.AfterFunc(sftpDirectoryTime, func() {
		cancel(fmt.Errorf("%q was not listed in %v: --exclude what is endless", dir, sftpDirectoryTime))
	})
	defer limit.Stop()
	var infos []os.FileInfo
	requests = 1
	wait := func() error { // the others' time is not counted
		limit.Stop()
		defer limit.Reset(sftpDirectoryTime)
		return placeOf(ctx).wait(ctx)
	}
	if err := c.do(ctx, sftpListing(wait), func() (err error) {
		infos, err = c.client.ReadDirContext(ctx, path.Join(s.base, dir))
		return err
	}); err != nil {
		return nil, nil, requests, err
	}
	if err := checkPaths(dir, len(infos)); err != nil {
		return nil, nil, requests, err
	}
	var links []int
	for _, info := range infos {
		e, err := sftpEntry(path.Join(dir, info.Name()), info)
		if err != nil {
			bad = append(bad, Bad{e.Path, err})
			continue
		}
		if e.Mode&^0o7777 == content.ModeLink {
			// Its time is that of the link itself: another target is another link.
			if was, ok := before.Find(e.Path); ok && was.Mode == e.Mode && was.Mtime == e.Mtime && was.Target != "" && !young(e.Mtime) {
				e.Target = was.Target
			} else {
				links = append(links, len(entries))
			}
		}
		entries = append(entries, e)
	}
	if len(links) == 0 {
		return entries, bad, requests, nil
	}
	requests += len(links)
	return entries, bad, requests, c.do(ctx, sftpListing(wait), func() error { return s.readLinks(c, entries, links) })
}

// readLinks fills in the targets of symlinks.
func (s *sftpOrigin) readLinks(c *sftpChannel, entries []Entry, links []int) error {
	var g errgroup.Group
	g.SetLimit(sftpLinks)
	for _, i := range links {
		e := &entries[i]
		g.Go(func() (err error) {
			e.Target, err = c.client.ReadLink(path.Join(s.base, e.Path))
			if c.answered(err) {
				return nil // it is not a symlink any more: without a target it is told of
			}
			return err
		})
	}
	return g.Wait()
}

// sftpEntry reads the attributes of a name.
func sftpEntry(p string, info os.FileInfo) (Entry, error) {
	e := Entry{Path: p, Mode: uint32(info.Mode().Perm()), Mtime: info.ModTime().UnixNano()}
	switch {
	case info.Mode().IsRegular():
		if e.Size = info.Size(); e.Size < 0 {
			return e, fmt.Errorf("%q has a size of %d bytes", p, uint64(e.Size))
		}
		e.Mode |= content.ModeFile
		e.Stamp = plainStamp(e.Size, e.Mtime)
	case info.IsDir():
		e.Mode |= content.ModeDir
	case info.Mode().Type() == fs.ModeSymlink:
		e.Mode |= content.ModeLink
	}
	return e, nil // another kind is refused by the crawler
}

// plainStamp is for protocols that tell size and time only, the time in seconds; "" if the file may change again in that second.
func plainStamp(size, mtime int64) string {
	if young(mtime) {
		return ""
	}
	return fmt.Sprintf("%d %d", size, mtime/int64(time.Second))
}

// young reports whether a time is so short ago that what has it may get it once more. A time far in the future is somebody's joke and
// says as much as any other.
func young(mtime int64) bool {
	age := time.Since(time.Unix(0, mtime))
	return age.Abs() < youngFor
}

// Open reads a file.
func (s *sftpOrigin) Open(ctx context.Context, e Entry, offset int64, version string) (*Body, error) {
	c, err := s.pool.get(ctx)
	if err != nil {
		return nil, err
	}
	name := path.Join(s.base, fetchPath(&e))
	b := &sftpBody{ctx: ctx, pool: s.pool, c: c}
	var info os.FileInfo
	err = c.do(ctx, sftpReading(sftpPart), func() (err error) {
		if b.file, err = c.client.Open(name); err == nil {
			info, err = b.first(e.Size)
		}
		return err
	})
	if err == nil && (!info.Mode().IsRegular() || info.Size() < 0) {
		err = fmt.Errorf("%w: it is no longer a file", ErrGone)
	}
	if err != nil {
		b.Close()
		if errors.Is(err, fs.ErrNotExist) && !errors.Is(err, ErrGone) {
			err = ErrGone
		}
		return nil, fmt.Errorf("open %q: %w", e.Path, err)
	}
	b.size = info.Size()
	out := &Body{ReadCloser: b, Size: b.size, Mtime: info.ModTime().UnixNano(), Still: func(ctx context.Context) (bool, error) { return b.still(ctx, name, info) }}
	if out.Version = plainStamp(b.size, out.Mtime); out.Version == version && version != "" && offset <= b.size {
		b.at, b.buf, out.Offset = offset, nil, offset
	}
	return out, nil
}

// first asks what the file is, and in the same round trip for all of it if it was listed as a small one.
func (b *sftpBody) first(listed int64) (info os.FileInfo, err error) {
	var whole []byte
	var g errgroup.Group
	if listed > 0 && listed <= sftpPart {
		g.Go(func() error {
			p := make([]byte, listed)
			if n, err := b.file.ReadAt(p, 0); n == len(p) {
				whole = p
			} else if !b.c.answered(err) {
				return err
			}
			return nil // the file has become shorter, perhaps: it is read again as it is
		})
	}
	g.Go(func() error {
		info, err = b.file.Stat()
		return err
	})
	if err := g.Wait(); err != nil {
		return nil, err
	}
	if whole != nil && info.Size() == listed {
		b.buf, b.at = whole, listed
	}
	return info, nil
}

// fetchPath is where the bytes of an entry are.
func fetchPath(e *Entry) string {
	if e.Fetch != "" {
		return e.Fetch
	}
	return e.Path
}

// sftpBody is an open file. It has a channel for itself until it is closed.
type sftpBody struct {
	ctx    context.Context // of the Open: it ends reading, as with net/http
	pool   *sftpPool
	c      *sftpChannel
	file   *sftp.File // nil if it could not be opened
	at     int64      // where the next block begins
	size   int64
	buf    []byte // what was read and not given on
	block  []byte // the memory of buf
	closed atomic.Bool
}

// Read gives the file as long as it was when it was opened.
func (b *sftpBody) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if len(b.buf) == 0 {
		n := min(sftpBlock, b.size-b.at)
		if n == 0 {
			return 0, io.EOF
		}
		if b.block == nil {
			b.block = make([]byte, n)
		}
		if err := b.fill(b.block[:n]); err != nil {
			return 0, err
		}
	}
	n := copy(p, b.buf)
	b.buf = b.buf[n:]
	return n, nil
}

// fill reads the next block.
func (b *sftpBody) fill(block []byte) error {
	var n int
	err := b.c.do(b.ctx, sftpReading(int64(len(block))), func() (err error) {
		n, err = b.file.ReadAt(block, b.at)
		return err
	})
	switch {
	case n == len(block):
	case errors.Is(err, io.EOF):
		return fmt.Errorf("the file ends at %d of %d bytes: %w", b.at+int64(n), b.size, io.ErrUnexpectedEOF)
	default:
		return fmt.Errorf("read at %d of %d bytes: %w", b.at, b.size, err)
	}
	b.buf = block
	b.at += int64(n)
	return nil
}

// still compares the open file and what is at its path now with what it was in the beginning.
func (b *sftpBody) still(ctx context.Context, name string, was os.FileInfo) (bool, error) {
	same := func(is os.FileInfo) bool {
		return is.Size() == was.Size() && is.ModTime().Equal(was.ModTime()) && is.Mode() == was.Mode()
	}
	if b.closed.Load() {
		return false, fs.ErrClosed // the channel is somebody else's
	}
	var open, there os.FileInfo
	err := b.c.do(ctx, sftpReading(0), func() error {
		var g errgroup.Group
		g.Go(func() (err error) { open, err = b.file.Stat(); return err })
		g.Go(func() (err error) { there, err = b.c.client.Lstat(name); return err })
		return g.Wait()
	})
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("look at %q once more: %w", name, err)
	}
	return same(open) && same(there), nil
}

// Close gives the channel back.
func (b *sftpBody) Close() error {
	if b.closed.Swap(true) {
		return nil
	}
	b.pool.put(b.c, b.file)
	return nil
}
