package origin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/textproto"
	"strconv"
	"time"
)

// passive asks for a port to get data from, and with it whatever else is to be known before. EPSV goes first: a router that opens
// the port looks for it at the beginning of what comes back. Where PASV says the server is, is not read: it is behind the address
// that was dialed, or somebody wants us to talk to somebody else.
func (c *ftpConn) passive(also ...string) (port int, answers []ftpAnswer, err error) {
	if !c.noEPSV {
		if answers, err = c.ask(append([]string{"EPSV"}, also...)...); err != nil {
			return 0, nil, err
		}
		epsv := answers[0]
		answers = answers[1:]
		if epsv.code == 229 {
			port, err = ftpPortEPSV(epsv.msg)
			return port, answers, err
		}
		c.noEPSV, also = true, nil
	}
	pasv, err := c.ask(append([]string{"PASV"}, also...)...)
	if err != nil {
		return 0, nil, err
	}
	if err = pasv[0].err(2); pasv[0].code/100 == 5 {
		err = &RefusedError{Reason: "the server has neither EPSV nor PASV, and connections to here are not offered", Cause: err}
	}
	if err == nil {
		port, err = ftpPortPASV(pasv[0].msg)
	}
	return port, append(answers, pasv[1:]...), err
}

// errNoRest says that the server sends files only from their beginning.
var errNoRest = errors.New("REST is refused")

// transfer gives a command that sends data, for which passive gave a port. The connection is of no use for anything else until finish
// or abort.
func (c *ftpConn) transfer(ctx context.Context, port int, offset int64, command string) (*ftpData, error) {
	conn, err := c.f.dial.DialContext(ctx, "tcp", net.JoinHostPort(c.ip, strconv.Itoa(port)))
	if err != nil {
		c.broken.Store(true)
		return nil, fmt.Errorf("data connection (are the server's passive ports open?): %w", err)
	}
	d := &ftpData{c: c, conn: conn, raw: conn}
	d.stop = context.AfterFunc(ctx, func() { _ = conn.Close() })
	if offset > 0 {
		code, _, err := c.cmd("REST %d", offset)
		if err == nil && code != 350 {
			err = errNoRest
		}
		if err != nil {
			d.close()
			return nil, err
		}
	}
	if _, err := c.must(1, "%s", command); err != nil {
		d.close()
		return nil, err
	}
	if c.tls != nil { // after the command: servers begin TLS when they begin to send
		if d.conn, err = c.secure(ctx, conn); err != nil {
			d.conn = conn
			_, last := d.finish()
			if said := (*textproto.Error)(nil); errors.As(last, &said) && said.Code/100 == 5 && ended(err) {
				err = &RefusedError{Reason: "the server does not take a data connection with TLS from here", Cause: said}
			}
			c.broken.Store(true)
			return nil, fmt.Errorf("data connection: %w", err)
		}
	}
	return d, nil
}

// ftpData is a data connection.
type ftpData struct {
	c     *ftpConn
	conn  net.Conn // TLS, if that is used
	raw   net.Conn
	stop  func() bool
	until time.Time // the end of all patience; zero: none
	pace
}

func (d *ftpData) Read(p []byte) (int, error) {
	began := time.Now()
	end := began.Add(d.c.f.o.Timeout)
	if !d.until.IsZero() && d.until.Before(end) {
		end = d.until
	}
	_ = d.raw.SetDeadline(end)
	n, err := d.conn.Read(p)
	if err == nil {
		least := slowest
		if !d.until.IsZero() {
			least = slowestList
		}
		err = d.check(n, time.Since(began), d.c.f.o.Timeout, least)
	}
	return n, err
}

func (d *ftpData) close() {
	d.stop()
	_ = d.conn.Close()
	_ = d.raw.Close()
}

// abort ends the transfer and the control connection with it: what it would still say of this may be long in coming.
func (d *ftpData) abort() {
	d.c.broken.Store(true)
	d.close()
}

// finish takes what the server says of the transfer after its last byte.
func (d *ftpData) finish() (string, error) {
	d.close()
	c := d.c
	_ = c.raw.SetDeadline(time.Now().Add(c.f.o.Timeout))
	c.in.left = ftpReplyBytes
	code, msg, err := c.text.ReadResponse(-1)
	if err == nil {
		err = ftpAnswer{code, msg}.err(2)
	}
	if err != nil {
		c.broken.Store(true)
	}
	return msg, err
}
