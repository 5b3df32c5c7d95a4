package origin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/textproto"
	"path"
	"strconv"
	"strings"
	"time"

	"swarmnode/content"
)

// ftpYoung is how old a file must be for a stamp without seconds to vouch for it: the minute that the listing names is over, and
// clocks that differ by a minute do no harm.
const ftpYoung = 2 * time.Minute

// readDir gives the lines of one directory. CWD and a listing without a path are what servers agree on: in paths of LIST they see
// options and patterns.
func (c *ftpConn) readDir(ctx context.Context, dir string) ([]ftpLine, error) {
	command := c.f.listCommand
	if c.has("MLST") || c.has("MLSD") {
		command = "MLSD"
	}
	port, answers, err := c.passive("CWD " + c.at(dir))
	if err == nil {
		err = answers[0].err(2)
	}
	if err != nil {
		return nil, c.absent(ctx, dir, err)
	}
	lines, err := c.lines(ctx, port, dir, command)
	if said := (*textproto.Error)(nil); command == "MLSD" && errors.As(err, &said) && (said.Code == 500 || said.Code == 502) {
		delete(c.feats, "MLST") // it says that it can, and cannot
		delete(c.feats, "MLSD")
		return c.list(ctx, dir)
	}
	if err != nil || command != "MLSD" {
		return lines, err
	}
	return lines, c.targets(ctx, dir, lines)
}

// list is LIST of the directory that the connection is in.
func (c *ftpConn) list(ctx context.Context, dir string) ([]ftpLine, error) {
	port, _, err := c.passive()
	if err != nil {
		return nil, err
	}
	return c.lines(ctx, port, dir, c.f.listCommand)
}

// targets asks LIST for the targets of symlinks, if MLSD shows some and does not tell.
func (c *ftpConn) targets(ctx context.Context, dir string, lines []ftpLine) error {
	var missing bool
	for _, l := range lines {
		missing = missing || l.kind == ftpLink && l.target == ""
	}
	if !missing {
		return nil
	}
	told, err := c.list(ctx, dir)
	if err != nil {
		return err
	}
	targets := map[string]string{}
	for _, l := range told {
		targets[l.name] = l.target
	}
	for i, l := range lines {
		if l.kind == ftpLink && l.target == "" {
			lines[i].target = targets[l.name]
		}
	}
	return nil
}

// lines gives the listing of the directory that the connection is in. A line that is not understood is of kind 0.
func (c *ftpConn) lines(ctx context.Context, port int, dir, command string) ([]ftpLine, error) {
	raw, err := c.listing(ctx, port, command)
	if err != nil {
		said := (*textproto.Error)(nil)
		if errors.As(err, &said) && (said.Code == 450 || said.Code == 550) {
			if strings.Contains(strings.ToLower(said.Msg), "no files") { // some have no other words for an empty directory
				return nil, nil
			}
			if said.Code == 550 { // CWD led there
				return nil, fmt.Errorf("%w (%d %s)", fs.ErrPermission, said.Code, ftpSaid(said.Msg))
			}
		}
		return nil, err
	}
	return parseFTP(raw, dir, command, c.f.now(), maxRows)
}

// parseFTP reads a listing of at most so many names.
func parseFTP(raw, dir, command string, now time.Time, most int) (out []ftpLine, err error) {
	strange, count := "", 0
	understood := false
	for line := range strings.SplitSeq(strings.TrimSuffix(raw, "\n"), "\n") {
		line = strings.TrimSuffix(line, "\r")
		var l ftpLine
		if command == "MLSD" {
			if line == "" {
				continue
			}
			l, err = parseMLSD(line)
		} else {
			l, err = parseLIST(line, now)
		}
		switch {
		case len(out) >= most:
			return nil, errTooManyRows(most)
		case err == nil:
			out = append(out, l)
			understood = true
		case errors.Is(err, errFTPSkip):
			understood = true
		default:
			if count++; count <= maxBad {
				out = append(out, ftpLine{name: line[:min(len(line), content.MaxName)]})
			}
			strange = line
		}
	}
	if strange != "" && !understood {
		return nil, &RefusedError{Reason: fmt.Sprintf("the server lists %q in no form that is known: %.100q; another protocol, such as sftp:// or http://, may do", cmp.Or(dir, "/"), strange)}
	}
	return out, nil
}

// listing gives the text of a listing. Servers say in the last answer that it is not whole, and that it went well nevertheless.
func (c *ftpConn) listing(ctx context.Context, port int, command string) (string, error) {
	d, err := c.transfer(ctx, port, 0, command)
	if err != nil {
		return "", err
	}
	d.until = time.Now().Add(ftpListTime)
	raw, err := io.ReadAll(io.LimitReader(newPageReader(ctx, d), MaxDirectoryBytes+1))
	if err == nil && len(raw) > MaxDirectoryBytes {
		err = &RefusedError{Reason: fmt.Sprintf("a directory of more than %d bytes of listing: --exclude it, or publish parts of it", MaxDirectoryBytes)}
	}
	if err != nil {
		d.abort()
		return "", err
	}
	msg, err := d.finish()
	if err != nil {
		return "", err
	}
	lower := strings.ToLower(msg)
	switch {
	case strings.Contains(lower, "truncated"):
		return "", &RefusedError{Reason: "the server lists only a part of a directory (" + ftpSaid(msg) + "): raise its limit (LimitRecursion of pure-ftpd)"}
	case containsAny(lower, "failed to open", "unable to read", "permission denied"):
		return "", fmt.Errorf("%w (%s)", fs.ErrPermission, ftpSaid(msg))
	}
	return string(raw), nil
}

// absent makes of a refusal of a path that it is gone, or that it may not be read. Where the answer does not tell, as vsftpd's never
// does, the listing of the directory above does: what cannot be read must not look as if it had been deleted.
func (c *ftpConn) absent(ctx context.Context, p string, err error) error {
	said := (*textproto.Error)(nil)
	if !errors.As(err, &said) || said.Code/100 != 5 || errors.As(err, new(*RefusedError)) || c.broken.Load() {
		return err
	}
	lower := strings.ToLower(said.Msg)
	text := fmt.Sprintf("%d %s", said.Code, ftpSaid(said.Msg))
	switch {
	case p == "":
		return &RefusedError{Reason: fmt.Sprintf("%s: the server does not let us into %q (%s)", c.f.shown, c.at(p), text)}
	case ftpDenied(lower):
		return fmt.Errorf("%w (%s)", fs.ErrPermission, text)
	case ftpAbsent(lower):
		return fmt.Errorf("%w (%s)", ErrGone, text)
	}
	dir := path.Dir(p)
	if dir == "." {
		dir = ""
	}
	lines, err := c.readDir(ctx, dir)
	if err != nil {
		return err
	}
	for _, l := range lines {
		if l.name == path.Base(p) {
			return fmt.Errorf("%w (%s)", fs.ErrPermission, text)
		}
	}
	return fmt.Errorf("%w (%s)", ErrGone, text)
}

// ftpStamps makes entries of lines.
type ftpStamps struct {
	f      *ftp
	before Before
	last   time.Time // when the last listing began
}

func (s *ftpStamps) entries(c *ftpConn, dir string, lines []ftpLine) (out []Entry, bad []Bad, err error) {
	patience := time.Now().Add(ftpListTime)
	for _, l := range lines {
		e := Entry{Path: pathIn(dir, l.name), Mode: ftpMode(l.kind) | l.mode, Target: l.target}
		switch l.kind {
		case 0:
			bad = append(bad, Bad{e.Path, fmt.Errorf("%q: the server lists %.200q, which %w", cmp.Or(dir, "/"), l.name, errFTPLine)})
			continue
		case ftpLink:
			if l.target == "" {
				bad = append(bad, Bad{e.Path, fmt.Errorf("%q is a symlink, and the server does not say where to", e.Path)})
				continue
			}
			e.Mode, e.Target = ftpMode(ftpLink)|0o777, c.relative(e.Path, l.target)
		case ftpFile:
			e.Size = l.size
			if !l.hasMode {
				e.Mode |= 0o644
			}
			if err := s.stamp(c, &e, l, time.Now().Before(patience)); err != nil {
				return nil, nil, err
			}
		case ftpDir:
			if !l.hasMode {
				e.Mode |= 0o755
			}
		}
		if l.when == "" && !l.time.IsZero() {
			e.Mtime = l.time.UnixNano()
		}
		out = append(out, e)
	}
	return out, bad, nil
}

// relative makes of a target that is a whole path on the server one from the link, if it is in the tree.
func (c *ftpConn) relative(p, target string) string {
	top := strings.TrimSuffix(c.at(""), "/")
	inside, ok := strings.CutPrefix(target, top+"/")
	if !ok || !strings.HasPrefix(target, "/") {
		return target
	}
	return strings.Repeat("../", strings.Count(p, "/")) + inside
}

// stamp says of a file what will be the same while it does not change. A line of MLSD has seconds. One of LIST has a minute, and
// only a day once the file is half a year old: then the stamp stays that of the last listing as long as it agrees. Of young files
// MDTM tells the second, if there is time to ask; without it nothing vouches for them.
func (s *ftpStamps) stamp(c *ftpConn, e *Entry, l ftpLine, ask bool) error {
	if l.time.IsZero() || l.size < 0 {
		return nil
	}
	said := fmt.Sprintf("%d %o ", l.size, e.Mode&0o7777)
	if l.when == "" {
		e.Stamp = said + strconv.FormatInt(l.time.UnixNano(), 10)
		return nil
	}
	said += l.when
	was, found := s.before.Find(e.Path)
	known := found && strings.HasPrefix(was.Stamp, said)
	hadSecond := known && len(was.Stamp) == len(said)-len(l.when)+len(ftpMinute)+len(":05")
	over := !s.young(l, s.last)
	switch {
	case known && (!hadSecond || over):
		e.Stamp, e.Mtime = was.Stamp, was.Mtime
		return nil
	case !hadSecond && !s.young(l, s.f.now()):
		e.Stamp = said
		return nil
	case !ask || !s.f.o.wanted(e.Path) || !c.has("MDTM"):
		return nil
	}
	answers, err := c.ask("MDTM " + c.at(e.Path))
	if err != nil || answers[0].time() == 0 {
		return err
	}
	t := time.Unix(0, answers[0].time()).UTC()
	if z, known := s.f.zone.ahead(); len(l.when) == len(ftpMinute) && (!known || z != l.time.Sub(t).Round(15*time.Minute)) {
		s.f.zone.learn(l.time, t)
	}
	e.Mtime = t.UnixNano()
	if hadSecond || s.young(l, s.f.now()) {
		said += t.Format("T15:04:05")[len(l.when)-len(ftpDay):]
	}
	e.Stamp = said
	return nil
}

// young reports whether the file may have changed after a listing at that time, and have the same time in the next one. As long as
// nobody knows what the server's clock shows, that is any time of the last day.
func (s *ftpStamps) young(l ftpLine, at time.Time) bool {
	ahead, known := s.f.zone.ahead()
	if !known || len(l.when) == len(ftpDay) {
		return at.Add(-36 * time.Hour).Before(l.time)
	}
	return at.Add(-ftpYoung).Before(l.time.Add(-ahead))
}
