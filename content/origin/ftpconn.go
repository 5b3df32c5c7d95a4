package origin

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/textproto"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

const (
	// ftpReplyBytes is how long an answer on the control connection may be: a greeting of a few screens.
	ftpReplyBytes = 64 << 10
	// ftpListTime is how long the listing of one directory may take: MaxDirectoryBytes at 600 kbit/s. A byte a minute ends here.
	ftpListTime = 15 * time.Minute
	// ftpIdle is how long a connection is kept for the next command. Servers end idle ones after 1 to 15 minutes, routers forget them
	// without a word.
	ftpIdle = 30 * time.Second
)

// ftpConn is a control connection that has logged in. It does one thing at a time.
type ftpConn struct {
	f     *ftp
	raw   net.Conn // TCP
	in    ftpReplies
	text  *textproto.Conn
	tls   *tls.Config // of this connection and its data connections: a server may ask that they resume its session
	ip    string      // that the server was found at: data connections go there, whatever the server says
	home  string      // the directory that the login led to
	feats map[string]string
	ftpManners
	sent   int         // commands
	used   bool        // it did something else before
	lent   bool        // a Body has it
	since  time.Time   // idle since then
	broken atomic.Bool // nothing can be done with it any more
}

// ftpManners is what a server cannot do.
type ftpManners struct {
	noEPSV   bool
	oneByOne bool // it forgets commands that come before the last one is answered
}

// ftpHasty are words of the greetings of servers that forget commands which come too early: those that lftp treats so.
var ftpHasty = []string{"microsoft ftp service", "madgoat", "mikrotik"}

// ftpReplies bounds what a server may answer.
type ftpReplies struct {
	net.Conn
	left int
}

func (r *ftpReplies) Read(p []byte) (int, error) {
	if r.left <= 0 {
		return 0, &RefusedError{Reason: fmt.Sprintf("the server answers with more than %d bytes: is it an FTP server?", ftpReplyBytes)}
	}
	n, err := r.Conn.Read(p[:min(len(p), r.left)])
	r.left -= n
	return n, err
}

// connect dials and logs in.
func (f *ftp) connect(ctx context.Context) (*ftpConn, error) {
	raw, err := f.dial.DialContext(ctx, "tcp", f.addr)
	if err != nil {
		return nil, err
	}
	c := &ftpConn{f: f, raw: raw, feats: map[string]string{}}
	c.ip, _, _ = net.SplitHostPort(raw.RemoteAddr().String())
	defer context.AfterFunc(ctx, c.cut)()
	if f.tls != nil {
		c.tls = f.tls.Clone()
		c.tls.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	}
	if err = c.greet(ctx); err == nil {
		err = c.login()
	}
	if err == nil {
		return c, nil
	}
	_ = raw.Close()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return nil, ftpExplain(err)
}

// speak puts the control connection on conn.
func (c *ftpConn) speak(conn net.Conn) {
	c.in = ftpReplies{Conn: conn, left: ftpReplyBytes}
	c.text = textproto.NewConn(&c.in)
}

// secure makes TLS of a connection.
func (c *ftpConn) secure(ctx context.Context, conn net.Conn) (net.Conn, error) {
	s := tls.Client(conn, c.tls)
	ctx, stop := context.WithTimeout(ctx, c.f.o.Timeout)
	defer stop()
	if err := s.HandshakeContext(ctx); err != nil {
		return nil, c.f.inWords(err)
	}
	return s, nil
}

// inWords says what TLS has against the server.
func (f *ftp) inWords(err error) error {
	if record := (tls.RecordHeaderError{}); errors.As(err, &record) {
		return &RefusedError{Reason: f.addr + ": there is no TLS at this port: ftps:// begins with TLS, ftpes:// without, on the port of ftp://", Cause: err}
	}
	if unknown := (x509.UnknownAuthorityError{}); errors.As(err, &unknown) && f.o.CACert != "" && unknown.Cert != nil {
		return &RefusedError{Reason: fmt.Sprintf("%s: its certificate, signed by %.100q, is believed neither by %s, which --ca-cert names, nor by this system", f.addr, unknown.Cert.Issuer.String(), f.o.CACert)}
	}
	return inWords(&url.URL{Scheme: "ftps", Host: f.addr}, err)
}

// greet is what comes before the login.
func (c *ftpConn) greet(ctx context.Context) error {
	conn := c.raw
	if c.f.implicit {
		var err error
		if conn, err = c.secure(ctx, conn); err != nil {
			return err
		}
	}
	c.speak(conn)
	_ = c.raw.SetDeadline(time.Now().Add(c.f.o.Timeout))
	_, hello, err := c.text.ReadResponse(2)
	if err != nil {
		if p := (textproto.ProtocolError)(""); errors.As(err, &p) {
			return &RefusedError{Reason: fmt.Sprintf("%s does not answer as an FTP server does", c.f.addr), Cause: err}
		}
		return fmt.Errorf("greeting of %s: %w", c.f.addr, err)
	}
	c.oneByOne = containsAny(strings.ToLower(hello), ftpHasty...)
	if !c.f.explicit {
		return nil
	}
	if code, msg, err := c.cmd("AUTH TLS"); err != nil {
		return err
	} else if code != 234 {
		return &RefusedError{Reason: fmt.Sprintf("%s has no TLS to offer (%d %s); ftp:// is without, for all to read", c.f.addr, code, ftpSaid(msg))}
	}
	if conn, err = c.secure(ctx, c.raw); err == nil {
		c.speak(conn) // what came before TLS and after the answer is forgotten: it could be anybody's
	}
	return err
}

// login says who we are and how we want things.
func (c *ftpConn) login() error {
	code, msg, err := c.cmd("USER %s", c.f.who.Username())
	if err == nil && code == 331 {
		password, _ := c.f.who.Password()
		code, msg, err = c.cmd("PASS %s", password)
	}
	if err != nil {
		return err
	}
	if code/100 != 2 {
		return c.f.loginError(code, msg)
	}
	if err := c.features(); err != nil {
		return err
	}
	must := []string{"TYPE I"}
	if c.tls != nil {
		must = append(must, "PBSZ 0", "PROT P")
	}
	all := slices.Clone(must)
	if c.has("UTF8") {
		all = append(all, "OPTS UTF8 ON") // whatever it answers: many have nothing else
	}
	answers, err := c.ask(append(all, "PWD")...)
	if err != nil {
		return err
	}
	for _, a := range answers[:len(must)] {
		if err := a.err(2); err != nil {
			return err
		}
	}
	c.home = "/"
	if pwd := answers[len(all)]; pwd.code == 257 {
		c.home = ftpQuoted(pwd.msg)
	}
	return nil
}

// features asks what the server can do, and for the modes of files if it can tell them but does not.
func (c *ftpConn) features() error {
	code, msg, err := c.cmd("FEAT")
	if err != nil || code/100 != 2 {
		return err
	}
	for line := range strings.SplitSeq(msg, "\n") {
		if !strings.HasPrefix(line, " ") {
			continue
		}
		name, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		c.feats[strings.ToUpper(name)] = strings.ToLower(rest)
	}
	facts := c.feats["MLST"]
	for _, fact := range []string{"type;", "size;", "modify;", "unix.mode;"} {
		if strings.Contains(";"+facts, ";"+fact) { // without a '*' behind it: known, and off
			_, _, err = c.cmd("OPTS MLST type;size;modify;unix.mode;")
			return err
		}
	}
	return nil
}

// has reports whether the server can do something.
func (c *ftpConn) has(feature string) bool {
	_, ok := c.feats[feature]
	return ok
}

// loginError says what to do about a refusal.
func (f *ftp) loginError(code int, msg string) error {
	lower := strings.ToLower(msg)
	said := fmt.Sprintf("%d %s", code, ftpSaid(msg))
	switch {
	case containsAny(lower, "encrypt", "tls", "cleartext", "ssl") && f.tls == nil:
		return &RefusedError{Reason: fmt.Sprintf("%s wants TLS (%s): say ftpes:// instead of ftp://", f.addr, said)}
	case code/100 == 4, containsAny(lower, "too many", "maximum", "limit", "connections", "later", "busy"):
		return &BusyError{Cause: said}
	}
	return &RefusedError{Reason: fmt.Sprintf("%s does not let %q in (%s): %s", f.addr, f.who.Username(), said, f.passwordGoes())}
}

// passwordGoes says where a password is put.
func (f *ftp) passwordGoes() string {
	user, file := f.who.Username(), cmp.Or(f.o.Netrc, "~/.netrc")
	if user == "anonymous" {
		user = "USER"
	}
	return fmt.Sprintf("the right user and password go into %s (or another file for --netrc) as one line: machine %s login %s password PASSWORD", file, f.host, user)
}

func containsAny(s string, parts ...string) bool {
	for _, p := range parts {
		if strings.Contains(s, p) {
			return true
		}
	}
	return false
}

// ftpAnswer is what a server says to a command.
type ftpAnswer struct {
	code int
	msg  string
}

// err is the answer as an error, unless it is of a class.
func (a ftpAnswer) err(class int) error {
	if a.code/100 == class {
		return nil
	}
	return &textproto.Error{Code: a.code, Msg: a.msg}
}

// cmd sends a command and gives the answer, whatever it is.
func (c *ftpConn) cmd(format string, args ...any) (code int, msg string, err error) {
	answers, err := c.ask(fmt.Sprintf(format, args...))
	if err != nil {
		return 0, "", err
	}
	return answers[0].code, answers[0].msg, nil
}

// ask sends commands and gives their answers, whatever they are. All are on their way before the first is answered: over a distance
// that is what a command costs. A server that is known to forget what comes too early gets one at a time.
func (c *ftpConn) ask(lines ...string) (answers []ftpAnswer, err error) {
	for _, line := range lines {
		if strings.ContainsAny(line, "\r\n\x00") {
			return nil, &RefusedError{Reason: fmt.Sprintf("%q cannot be asked for: there is a line break in it", line)}
		}
	}
	if c.oneByOne && len(lines) > 1 {
		for _, line := range lines {
			a, err := c.ask(line)
			if err != nil {
				return nil, err
			}
			answers = append(answers, a...)
		}
		return answers, nil
	}
	c.sent += len(lines)
	_ = c.raw.SetDeadline(time.Now().Add(c.f.o.Timeout))
	err = c.text.PrintfLine("%s", strings.Join(lines, "\r\n"))
	for range lines {
		if err != nil {
			break
		}
		var a ftpAnswer
		c.in.left = ftpReplyBytes
		if a.code, a.msg, err = c.text.ReadResponse(-1); err == nil && a.code == 421 {
			err = a.err(2)
		}
		answers = append(answers, a)
	}
	if err != nil {
		c.broken.Store(true)
		return nil, err
	}
	return answers, nil
}

// must is cmd for when only answers of one class (2: done, 3: go on) are of use.
func (c *ftpConn) must(class int, format string, args ...any) (string, error) {
	code, msg, err := c.cmd(format, args...)
	if err == nil {
		err = ftpAnswer{code, msg}.err(class)
	}
	return msg, err
}

// cut ends the connection from another goroutine.
func (c *ftpConn) cut() {
	c.broken.Store(true)
	_ = c.raw.Close()
}

// quit ends the connection, and says so without waiting for an answer.
func (c *ftpConn) quit() {
	if !c.broken.Load() {
		_ = c.raw.SetDeadline(time.Now().Add(time.Second)) // 6 bytes go into a buffer
		_ = c.text.PrintfLine("QUIT")
	}
	_ = c.raw.Close()
}

// ftpExplain turns the answers of a server into what the rest of the program knows.
func ftpExplain(err error) error {
	said, refused := (*textproto.Error)(nil), (*RefusedError)(nil)
	if !errors.As(err, &said) || errors.As(err, &refused) {
		return err
	}
	text := fmt.Sprintf("%d %s", said.Code, ftpSaid(said.Msg))
	lower := strings.ToLower(said.Msg)
	switch {
	case said.Code == 421 && containsAny(lower, "cleartext", "tls"):
		return &RefusedError{Reason: "the server wants TLS (" + text + "): say ftpes:// instead of ftp://"}
	case said.Code/100 == 4: // whatever it says: what is not for ever must not make a release that lacks a file
		return &BusyError{Cause: text}
	case said.Code == 530:
		return &RefusedError{Reason: "the server refuses the login (" + text + ")"}
	case said.Code/100 == 5 && ftpAbsent(lower):
		return fmt.Errorf("%w (%s)", ErrGone, text)
	case said.Code/100 == 5:
		return fmt.Errorf("%w (%s)", fs.ErrPermission, text)
	}
	return errors.New("the server answers " + text)
}

// ftpAbsent reports whether an answer says that there is no such path.
func ftpAbsent(lower string) bool {
	return containsAny(lower, "no such file", "no such dir", "not found", "does not exist", "doesn't exist", "cannot find", "can't find")
}

// ftpDenied reports whether an answer says that a path may not be read.
func ftpDenied(lower string) bool {
	return containsAny(lower, "permission", "denied", "not allowed", "prohibited", "forbidden", "not permitted")
}

// ftpSaid is a server's words, fit to be shown.
func ftpSaid(msg string) string {
	quoted := strconv.Quote(msg[:min(len(msg), 200)])
	return strings.ReplaceAll(quoted[1:len(quoted)-1], `\n`, " ")
}

// isEOF reports whether a connection ended, with or without something missing.
func isEOF(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) }
