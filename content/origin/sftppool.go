package origin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"sync"
	"time"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
)

// sftpPool is an SSH connection with SFTP channels, made when they are needed and again after a cut.
type sftpPool struct {
	door *sshDoor
	// seats has one place for each channel that may be in use.
	seats chan struct{}
	mu    sync.Mutex // guards all below; held while connecting, so that many do not connect at once
	conn  *sshConn   // nil before the first and after the last
	free  []*sftpChannel
	open  int // channels of conn
	shut  bool
}

func newSFTPPool(door *sshDoor) *sftpPool {
	return &sftpPool{door: door, seats: make(chan struct{}, door.o.Connections)}
}

// sftpChannel serves one user at a time.
type sftpChannel struct {
	conn    *sshConn
	client  *sftp.Client
	in      *meter
	timeout time.Duration
}

// get waits for a channel that is free, and connects if there is no connection.
func (p *sftpPool) get(ctx context.Context) (*sftpChannel, error) {
	for {
		select {
		case p.seats <- struct{}{}:
		default:
			if err := p.seat(ctx); err != nil {
				return nil, err
			}
		}
		c, err := p.take(ctx)
		full := (*ssh.OpenChannelError)(nil)
		if errors.As(err, &full) && p.count() > 0 {
			// The server allows fewer channels (MaxSessions of sshd): the seat stays taken from now on.
			p.door.o.Log.Info("the SSH server allows fewer channels than --connections", "server", p.door.addr, "error", err)
			continue
		}
		if err != nil {
			<-p.seats
		}
		return c, err
	}
}

// seat waits for a seat. Who has one and waits for room is let go on: the directory that makes room may be the one that needs the seat.
func (p *sftpPool) seat(ctx context.Context) error {
	defer placeOf(ctx).starve()()
	select {
	case p.seats <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *sftpPool) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.open
}

// take gives a channel to somebody with a seat.
func (p *sftpPool) take(ctx context.Context) (*sftpChannel, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.shut {
		return nil, fs.ErrClosed
	}
	if p.conn != nil && !p.conn.alive() {
		p.conn.close()
		p.conn, p.free, p.open = nil, nil, 0
	}
	if p.conn == nil {
		conn, err := p.door.dial(ctx)
		if err != nil {
			return nil, err
		}
		p.conn = conn
	}
	if n := len(p.free); n > 0 {
		c := p.free[n-1]
		p.free = p.free[:n-1]
		return c, nil
	}
	c, err := openChannel(ctx, p.conn, p.door.o.Timeout)
	if err != nil {
		return nil, fmt.Errorf("SFTP at %s: %w", p.door.addr, err)
	}
	p.open++
	return c, nil
}

// put gives a channel back. Who takes it next need not wait until the server has closed the file, which is nil if there is none.
func (p *sftpPool) put(c *sftpChannel, file *sftp.File) {
	p.mu.Lock()
	if c.conn == p.conn {
		p.free = append(p.free, c)
		if file != nil {
			c.conn.wg.Go(func() { _ = file.Close() }) // what the server says to that changes nothing
		}
	}
	p.mu.Unlock()
	<-p.seats
}

func (p *sftpPool) close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.shut = true
	if p.conn != nil {
		p.conn.close()
		p.conn, p.free, p.open = nil, nil, 0
	}
	return nil
}

// openChannel starts SFTP in a new channel of a connection.
func openChannel(ctx context.Context, conn *sshConn, timeout time.Duration) (*sftpChannel, error) {
	c := &sftpChannel{conn: conn, timeout: timeout, in: &meter{kill: conn.kill}}
	return c, c.do(ctx, sftpListing(nil), func() error {
		session, err := conn.NewSession()
		if err != nil {
			return err
		}
		in, err := session.StdinPipe()
		if err != nil {
			return err
		}
		if c.in.Reader, err = session.StdoutPipe(); err != nil {
			return err
		}
		noise, err := session.StderrPipe()
		if err != nil {
			return err
		}
		conn.wg.Go(func() { _, _ = io.Copy(io.Discard, noise) }) // unread, it would stop the channel; it ends with the connection
		if err := session.RequestSubsystem("sftp"); err != nil && !strings.Contains(err.Error(), "subsystem request failed") {
			return err
		} else if err != nil {
			return &RefusedError{Reason: "the SSH server has no SFTP: use rsync+ssh://, or have \"Subsystem sftp internal-sftp\" put into its sshd_config", Cause: err}
		}
		c.client, err = sftp.NewClientPipe(c.in, in)
		return err
	})
}

// do calls f, which asks the server for something. The connection is ended if ctx ends, if no byte comes for too long, or if fewer or
// more come than g says: nothing less ends what waits for a server that does not answer.
func (c *sftpChannel) do(ctx context.Context, g grant, f func() error) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	silent := make(chan struct{})
	c.in.begin(g, time.AfterFunc(c.timeout, func() {
		close(silent)
		c.conn.kill()
	}), c.timeout)
	stop := context.AfterFunc(ctx, c.conn.kill)
	err := f()
	stop()
	over, slow := c.in.end()
	if err == nil {
		return nil
	}
	if !c.answered(err) {
		c.conn.kill() // a channel whose answers are not ours is of no use
	}
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case over:
		return &RefusedError{Reason: g.over}
	case slow != nil:
		return slow
	}
	select {
	case <-silent:
		return fmt.Errorf("no byte came for %v: %w", c.timeout, err)
	default:
		return err
	}
}

// answered reports whether an error, or none, is what the server said, and not that it cannot be understood or heard.
func (c *sftpChannel) answered(err error) bool {
	status, full := (*sftp.StatusError)(nil), (*ssh.OpenChannelError)(nil)
	return err == nil || errors.As(err, &full) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &status)
}
