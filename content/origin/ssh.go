package origin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"os/user"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

const (
	// sshAlive is how often a server has to show that it is there, and sshSilence after how long it is not: ServerAliveInterval 15 and
	// ServerAliveCountMax 3 of ssh_config(5), which many people set.
	sshAlive   = 15 * time.Second
	sshSilence = 3 * sshAlive
	// sshLogin is how long it may take to be let in: LoginGraceTime of sshd.
	sshLogin = 2 * time.Minute
)

// errLoginTime says that a server took too long to let us in.
var errLoginTime = fmt.Errorf("it did not let us in within %v: ask who runs it whether it is overloaded, or take another server", sshLogin)

// sshDoor is a way into a server. What ssh(1) is told in ~/.ssh/config is not read: the URL and the flags say it all.
type sshDoor struct {
	o    *Options
	user string
	addr string // host:port
}

// newSSHDoor reads the first half of a URL.
func newSSHDoor(u *url.URL, o *Options) (*sshDoor, error) {
	d := &sshDoor{o: o, user: u.User.Username(), addr: net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), "22"))}
	if u.Hostname() == "" {
		return nil, &RefusedError{Reason: fmt.Sprintf("%s names no host: it is %s://USER@HOST/PATH", u.Redacted(), u.Scheme)}
	}
	if _, has := u.User.Password(); has {
		return nil, &RefusedError{Reason: fmt.Sprintf("%s: no password is sent over SSH: it takes a key, of the agent (ssh-add) or in a file (--ssh-key FILE)", u.Redacted())}
	}
	if d.user == "" {
		d.user = os.Getenv("USER")
	}
	if d.user == "" {
		me, err := user.Current()
		if err != nil {
			return nil, &RefusedError{Reason: fmt.Sprintf("say as whom: %s://USER@%s", u.Scheme, u.Host), Cause: err}
		}
		d.user = me.Username
	}
	return d, nil
}

// sshPath is the path of a URL as the server knows it: absolute, or in the home if it begins with /~/.
func sshPath(u *url.URL) string {
	if p, home := strings.CutPrefix(u.Path+"/", "/~/"); home {
		return cmp.Or(strings.Trim(p, "/"), ".")
	}
	return "/" + strings.Trim(u.Path, "/")
}

// sshConn is a connection that notices by itself when it is dead.
type sshConn struct {
	*ssh.Client
	raw  net.Conn
	dead chan struct{} // closed when nothing comes any more
	wg   sync.WaitGroup
}

// kill ends the connection and all that waits for it at once.
func (c *sshConn) kill() { c.raw.Close() }

// close ends the connection and waits for what belongs to it.
func (c *sshConn) close() {
	c.kill()
	c.wg.Wait()
}

// alive reports whether it can still be used.
func (c *sshConn) alive() bool {
	select {
	case <-c.dead:
		return false
	default:
		return true
	}
}

// dial connects and logs in.
func (d *sshDoor) dial(ctx context.Context) (*sshConn, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, sshLogin, errLoginTime)
	defer cancel()
	check := &hostCheck{door: d}
	if err := check.load(); err != nil {
		return nil, err
	}
	ring := &sshKeyring{door: d}
	defer ring.close()
	if err := ring.load(ctx); err != nil {
		return nil, err
	}
	raw, err := newDialer(d.o).DialContext(ctx, "tcp", d.addr)
	if err != nil {
		return nil, fmt.Errorf("SSH server %s: %w", d.addr, err)
	}
	defer context.AfterFunc(ctx, func() { raw.Close() })()
	conn, channels, requests, err := ssh.NewClientConn(silentConn{raw}, d.addr, &ssh.ClientConfig{
		User: d.user, Auth: []ssh.AuthMethod{ssh.PublicKeys(ring.signers...)}, HostKeyCallback: check.key, HostKeyAlgorithms: check.algorithms(), ClientVersion: "SSH-2.0-swarmnode"})
	if err != nil {
		raw.Close()
		return nil, d.loginError(ctx, err, check, ring)
	}
	c := &sshConn{Client: ssh.NewClient(conn, channels, requests), raw: raw, dead: make(chan struct{})}
	c.wg.Go(func() {
		_ = c.Wait() // why it ended is told to whoever waits for an answer
		close(c.dead)
	})
	c.wg.Go(c.keepAlive)
	d.o.Log.Debug("SSH connection", slog.String("server", d.addr), slog.String("user", d.user), slog.String("version", string(conn.ServerVersion())))
	return c, nil
}

// loginError says what to do about a login that came to nothing.
func (d *sshDoor) loginError(ctx context.Context, err error, check *hostCheck, ring *sshKeyring) error {
	strange := (*ssh.AlgorithmNegotiationError)(nil)
	switch {
	case check.refused != nil:
		return check.refused
	case ctx.Err() != nil:
		return fmt.Errorf("log in to %s: %w", d.addr, context.Cause(ctx))
	case errors.As(err, &strange):
		return &RefusedError{Reason: fmt.Sprintf("SSH server %s offers nothing that is safe today", d.addr), Cause: err}
	case strings.Contains(err.Error(), "unable to authenticate"):
		return &RefusedError{Reason: fmt.Sprintf("SSH server %s does not let %q in with %s: put the public key into ~/.ssh/authorized_keys there, or name another user in the URL or another key with --ssh-key (~/.ssh/config is not read)",
			d.addr, d.user, ring)}
	}
	return fmt.Errorf("log in to SSH server %s: %w", d.addr, err)
}

// keepAlive asks for a sign of life until the connection has ended.
func (c *sshConn) keepAlive() {
	tick := time.NewTicker(sshAlive)
	defer tick.Stop()
	for {
		select {
		case <-c.dead:
			return
		case <-tick.C:
			if _, _, err := c.SendRequest("keepalive@openssh.com", true, nil); err != nil {
				c.kill()
				return
			}
		}
	}
}

// silentConn gives up when nothing can be read or written for sshSilence.
type silentConn struct{ net.Conn }

func (c silentConn) Read(p []byte) (int, error) {
	if err := c.SetReadDeadline(time.Now().Add(sshSilence)); err != nil {
		return 0, err
	}
	return c.Conn.Read(p)
}

func (c silentConn) Write(p []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(sshSilence)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}
