package origin

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	//lint:ignore SA1019 rsync's protocol has it
	"golang.org/x/crypto/md4"
)

const (
	// rsyncLine is how long a line of a daemon may be, and rsyncMotd how many lines it may say before it comes to the point.
	rsyncLine = 4 << 10
	rsyncMotd = 1000
)

// rsyncDaemon is a server with modules.
type rsyncDaemon struct {
	addr, module, path string
	user, password     string
}

// greet exchanges the lines in the beginning, until the daemon runs rsync for us.
func (d *rsyncDaemon) greet(w *rsyncWire) error {
	hello, err := w.readLine()
	if err != nil {
		return err
	}
	if !strings.HasPrefix(hello, "@RSYNCD: ") {
		return d.refused(hello, "this is not an rsync daemon")
	}
	if err := w.writeLines(fmt.Sprintf("@RSYNCD: %d", rsyncProtocol), d.module); err != nil {
		return err
	}
	for range rsyncMotd {
		line, err := w.readLine()
		if err != nil {
			return err
		}
		switch challenge, auth := strings.CutPrefix(line, "@RSYNCD: AUTHREQD "); {
		case auth:
			if err := d.answer(w, challenge); err != nil {
				return err
			}
		case line == "@RSYNCD: OK":
			return w.writeLines(append(rsyncArgs(), d.module+"/"+globEscape(d.path)+"/", "")...)
		case line == "@RSYNCD: EXIT":
			return d.refused(line, "it hangs up")
		case strings.HasPrefix(line, "@ERROR"):
			if strings.Contains(line, "max connections") {
				return &BusyError{Cause: fmt.Sprintf("%.200q", line)}
			}
			return d.refused(line, "it says no (rsync "+d.addr+":: lists the modules)")
		}
	}
	return fmt.Errorf("%w: more than %d lines of greeting", errRsync, rsyncMotd)
}

func (d *rsyncDaemon) refused(line, what string) error {
	return &RefusedError{Reason: fmt.Sprintf("rsync daemon %s: %s: %.200q", d.addr, what, line)}
}

// answer shows that the password is known, without saying it.
func (d *rsyncDaemon) answer(w *rsyncWire, challenge string) error {
	if d.password == "" || d.user == "" {
		return &RefusedError{Reason: fmt.Sprintf("module %q at %s wants a user and a password: rsync://USER@HOST/%[1]s, and the password in a netrc file (--netrc) or in the environment as RSYNC_PASSWORD", d.module, d.addr)}
	}
	sum := md4.New()
	sum.Write(make([]byte, 4)) // a seed of 0
	sum.Write([]byte(d.password + challenge))
	return w.writeLines(d.user + " " + base64.RawStdEncoding.EncodeToString(sum.Sum(nil)))
}

// globEscape protects a path from the patterns that a daemon looks for in it. One without any is taken as it is.
func globEscape(p string) string {
	if !strings.ContainsAny(p, "*?[") {
		return p
	}
	return strings.NewReplacer("*", `\*`, "?", `\?`, "[", `\[`, `\`, `\\`).Replace(p)
}

// readLine reads up to a newline.
func (w *rsyncWire) readLine() (string, error) {
	var line []byte
	for len(line) < rsyncLine {
		b, err := w.readByte()
		switch {
		case err != nil:
			return "", err
		case b == '\n':
			return strings.TrimRight(string(line), "\r"), nil
		}
		line = append(line, b)
	}
	return "", errors.Join(errRsync, fmt.Errorf("a line of more than %d bytes: %.40q…", rsyncLine, line))
}

func (w *rsyncWire) writeLines(lines ...string) error {
	_, err := w.out.Write([]byte(strings.Join(lines, "\n") + "\n"))
	return err
}
