package origin

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Kinds of what a listing has.
const (
	ftpFile  = 'f'
	ftpDir   = 'd'
	ftpLink  = 'l'
	ftpOther = 'o'
)

// ftpLine is one line of a listing.
type ftpLine struct {
	name    string
	kind    byte
	mode    uint32 // permission bits
	hasMode bool
	size    int64 // of a file; SizeUnknown where the line does not say
	target  string
	time    time.Time // as if the server's clock showed UTC, which with MLSD it does; zero: not told
	when    string    // time as far as the line tells it: a day, a minute, or with MLSD ""
}

// errFTPLine says that a line is in no form that is known.
var errFTPLine = errors.New("is in no form that is known")

// errFTPSkip says that a line is about nothing in the directory.
var errFTPSkip = errors.New("nothing")

// parseMLSD reads a line of MLSD or MLST (RFC 3659, section 7).
func parseMLSD(line string) (ftpLine, error) {
	facts, name, ok := strings.Cut(line, "; ") // there may be a space in the target of a symlink
	if !ok || strings.Contains(facts, " ") && !strings.Contains(strings.ToLower(facts), "link:") {
		facts, name, ok = strings.Cut(line, " ")
	}
	if !ok || name == "" || !strings.Contains(facts, "=") {
		return ftpLine{}, errFTPLine
	}
	l := ftpLine{name: name, size: SizeUnknown, kind: ftpOther}
	for fact := range strings.SplitSeq(strings.TrimSuffix(facts, ";"), ";") {
		key, value, _ := strings.Cut(fact, "=")
		switch strings.ToLower(key) {
		case "type":
			l.kind = ftpOther
			if err := l.setType(value); err != nil {
				return l, err
			}
		case "size":
			n, err := strconv.ParseInt(value, 10, 64)
			if err != nil || n < 0 {
				return l, fmt.Errorf("%q has the size %.40q", name, value)
			}
			l.size = n
		case "modify":
			t, err := ftpTime(value)
			if err != nil {
				return l, fmt.Errorf("%q: %w", name, err)
			}
			l.time = t
		case "unix.mode":
			m, err := strconv.ParseUint(value, 8, 32)
			if err != nil {
				return l, fmt.Errorf("%q has the mode %.40q", name, value)
			}
			l.mode, l.hasMode = uint32(m)&0o7777, true
		}
	}
	if name == "." || name == ".." {
		return l, errFTPSkip
	}
	return l, nil
}

// setType takes the fact of that name.
func (l *ftpLine) setType(value string) error {
	lower := strings.ToLower(value)
	switch {
	case lower == "file":
		l.kind = ftpFile
	case lower == "dir":
		l.kind = ftpDir
	case lower == "cdir" || lower == "pdir":
		return errFTPSkip
	case strings.HasPrefix(lower, "os.unix=slink") || strings.HasPrefix(lower, "os.unix=symlink"):
		l.kind = ftpLink
		_, l.target, _ = strings.Cut(value, ":")
	}
	return nil
}

// ftpTime reads a time of RFC 3659, section 2.3.
func ftpTime(s string) (time.Time, error) {
	t, err := time.ParseInLocation("20060102150405", strings.TrimSpace(s), time.UTC)
	if err != nil {
		return t, fmt.Errorf("%.40q is not a time", s)
	}
	return t, nil
}

// parseLIST reads a line of LIST, for which there is no standard: as ls -l has it, or as DIR on Windows. now is for dates
// without a year.
func parseLIST(line string, now time.Time) (ftpLine, error) {
	if line == "" || strings.HasPrefix(line, "total ") && len(strings.Fields(line)) == 2 {
		return ftpLine{}, errFTPSkip
	}
	l, err := parseLs(line, now)
	if errors.Is(err, errFTPLine) {
		l, err = parseDOS(line)
	}
	if err == nil && (l.name == "." || l.name == "..") {
		err = errFTPSkip
	}
	return l, err
}

// parseLs reads "-rw-r--r-- 1 user group 12 Nov 23 02:29 name". Users and groups may be missing or have spaces: the month is what is
// looked for, between a number and a day.
func parseLs(line string, now time.Time) (ftpLine, error) {
	l := ftpLine{size: SizeUnknown}
	perm, rest, _ := strings.Cut(line, " ")
	if len(perm) < 10 || len(perm) > 11 || !l.setMode(perm[:10]) {
		return l, errFTPLine
	}
	// The last three fields seen, and what is before the first of them.
	var before, month, day string
	for {
		rest = strings.TrimLeft(rest, " ")
		field, tail, more := strings.Cut(rest, " ")
		if !more {
			return l, errFTPLine
		}
		if size, err := strconv.ParseInt(before, 10, 64); err == nil && size >= 0 && l.setWhen(month, day, field, now) {
			l.name = tail
			if l.kind == ftpFile {
				l.size = size
			}
			l.cutTarget(size)
			if l.name == "" {
				return l, errFTPLine
			}
			return l, nil
		}
		before, month, day, rest = month, day, field, tail
	}
}

// setMode takes "drwxr-sr-x".
func (l *ftpLine) setMode(perm string) bool {
	switch perm[0] {
	case '-':
		l.kind = ftpFile
	case 'd':
		l.kind = ftpDir
	case 'l':
		l.kind = ftpLink
	case 'b', 'c', 'p', 's', 'D':
		l.kind = ftpOther
	default:
		return false
	}
	for i, r := range []byte(perm[1:]) {
		bit, special := uint32(1)<<(8-i), uint32(0o4000)>>(i/3)
		set := "rwx"[i%3]
		switch {
		case r == '-':
		case r == set:
			l.mode |= bit
		case i%3 == 2 && (r == 's' && i < 8 || r == 't' && i == 8):
			l.mode |= bit | special
		case i%3 == 2 && (r == 'S' && i < 8 || r == 'T' && i == 8):
			l.mode |= special
		default:
			return false
		}
	}
	l.hasMode = true
	return true
}

// The forms of ftpLine.when.
const (
	ftpMinute = "2006-01-02T15:04"
	ftpDay    = "2006-01-02"
)

// setWhen takes "Nov 23 02:29" or "Nov 23 2026".
func (l *ftpLine) setWhen(month, day, last string, now time.Time) bool {
	if len(month) != 3 {
		return false
	}
	if t, err := time.ParseInLocation("Jan 2 2006", month+" "+day+" "+last, time.UTC); err == nil && len(last) == 4 {
		l.time, l.when = t, t.Format(ftpDay)
		return true
	}
	// Without a year it is the last time that there was this date; its clock may be ahead by a day's time zones. In eight years there
	// was a 29 February.
	for year := now.Year() + 1; year > now.Year()-8; year-- {
		t, err := time.ParseInLocation("Jan 2 2006 15:04", fmt.Sprintf("%s %s %d %s", month, day, year, last), time.UTC)
		if err == nil && t.Before(now.Add(36*time.Hour)) {
			l.time, l.when = t, t.Format(ftpMinute)
			return true
		}
	}
	return false
}

// cutTarget takes a symlink's target off its name. " -> " may be in both: the target is as long as the link is big.
func (l *ftpLine) cutTarget(size int64) {
	const arrow = " -> "
	if l.kind != ftpLink {
		return
	}
	if at := len(l.name) - int(min(size, int64(len(l.name)))); at > len(arrow) && strings.HasSuffix(l.name[:at], arrow) {
		l.name, l.target = l.name[:at-len(arrow)], l.name[at:]
		return
	}
	l.name, l.target, _ = strings.Cut(l.name, arrow)
}

// dosTimes are those of DIR.
var dosTimes = []string{"01-02-06  03:04PM", "01-02-2006  03:04PM", "01-02-06  15:04", "01-02-2006  15:04", "2006-01-02  15:04"}

// parseDOS reads "11-23-26  02:29AM       <DIR>          name", or with a size instead of <DIR>.
func parseDOS(line string) (ftpLine, error) {
	for _, format := range dosTimes {
		if len(line) <= len(format) {
			continue
		}
		t, err := time.ParseInLocation(format, line[:len(format)], time.UTC)
		if err != nil {
			continue
		}
		field, name, _ := strings.Cut(strings.TrimLeft(line[len(format):], " "), " ")
		l := ftpLine{name: name, kind: ftpFile, size: SizeUnknown, time: t, when: t.Format(ftpMinute)}
		if field == "<DIR>" {
			l.kind, l.name = ftpDir, strings.TrimLeft(name, " ")
		} else if l.size, err = strconv.ParseInt(field, 10, 64); err != nil || l.size < 0 {
			continue
		}
		if l.name != "" {
			return l, nil
		}
	}
	return ftpLine{}, errFTPLine
}

// ftpQuoted takes the path out of an answer to PWD, in which a '"' is written twice.
func ftpQuoted(msg string) string {
	from := strings.IndexByte(msg, '"')
	to := strings.LastIndexByte(msg, '"')
	if from < 0 || to <= from+1 || msg[from+1] != '/' {
		return "/"
	}
	return strings.ReplaceAll(msg[from+1:to], `""`, `"`)
}

// ftpPortEPSV takes the port out of "Entering Extended Passive Mode (|||6446|)" (RFC 2428).
func ftpPortEPSV(msg string) (int, error) {
	_, rest, ok := strings.Cut(msg, "(")
	if ok && len(rest) > 4 && rest[0] == rest[1] && rest[1] == rest[2] {
		digits, _, _ := strings.Cut(rest[3:], rest[:1])
		if port, err := strconv.ParseUint(digits, 10, 16); err == nil && port > 0 {
			return int(port), nil
		}
	}
	return 0, fmt.Errorf("EPSV: %q has no port", ftpSaid(msg))
}

// ftpPortPASV takes the port out of "Entering Passive Mode (192,168,0,1,19,136)", and nothing else.
func ftpPortPASV(msg string) (int, error) {
	numbers := strings.FieldsFunc(msg, func(r rune) bool { return r != ',' && (r < '0' || r > '9') })
	for _, n := range numbers {
		parts := strings.Split(n, ",")
		if len(parts) != 6 {
			continue
		}
		high, err1 := strconv.ParseUint(parts[4], 10, 8)
		low, err2 := strconv.ParseUint(parts[5], 10, 8)
		if err1 == nil && err2 == nil && high+low > 0 {
			return int(high<<8 | low), nil
		}
	}
	return 0, fmt.Errorf("PASV: %q has no port", ftpSaid(msg))
}
