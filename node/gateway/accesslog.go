package gateway

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"time"

	"swarmnode/node/spool"
)

const (
	// Addresses in the log are cut to these networks, so that it names a place and no person: what web analytics in the EU do.
	logPrefixV4 = 24
	logPrefixV6 = 48
	// maxLogged is what a line keeps of each text that a client chose. Longer than any honest URL; a line stays within one write.
	maxLogged = 2048
	// logFlush is how long the end of the log waits for who reads standard output. Chosen: a reader that works takes it at once.
	logFlush = 500 * time.Millisecond
)

// accessLog is a file with a line for each request in the combined format of Apache httpd. Lines are whole and in order: each is one
// write at the end of the file, so that another program may rename it and say so. Who reads standard output may hang: there the lines go
// through a queue, and no request waits.
type accessLog struct {
	name string
	full bool
	log  *slog.Logger

	mu     sync.Mutex   // guards what follows
	file   *os.File     // nil once closed
	queue  *spool.Queue // before standard output; nil before other files
	line   []byte
	failed bool // the last write failed, which is told once
}

func openAccessLog(name string, full bool, log *slog.Logger) (*accessLog, error) {
	l := &accessLog{name: name, full: full, log: log}
	if name == "-" {
		l.through(os.Stdout)
		return l, nil
	}
	file, err := openAppend(name)
	if err != nil {
		return nil, err
	}
	l.file = file
	return l, nil
}

// through has the log written to a file whose reader may hang.
func (l *accessLog) through(file *os.File) {
	l.file = file
	l.queue = spool.New(file, func(lines int) string {
		l.log.Warn("gateway: lines of the access log were left out: whoever reads the standard output was too slow; give --access-log a file", "lines", lines)
		return ""
	})
}

func openAppend(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640) // readable by a group, as Debian's logs are
	if err != nil {
		return nil, fmt.Errorf("open access log: %w; name a file that this user may write to, in a directory that exists", err)
	}
	return f, nil
}

// reopen opens the file by its name again, after it was renamed. Without success the old one stays.
func (l *accessLog) reopen() {
	if l.name == "-" {
		return
	}
	file, err := openAppend(l.name)
	if err != nil {
		l.log.Warn("gateway: the access log stays where it is: look at the directory it is in", "error", err)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		file.Close()
		return
	}
	l.file.Close()
	l.file = file
}

func (l *accessLog) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	file := l.file
	l.file = nil
	if file == nil {
		return nil
	}
	if l.queue != nil {
		l.queue.Flush(logFlush)
		return nil // it is not ours to close
	}
	return file.Close()
}

// write adds a line. A log that cannot be written stops no download.
func (l *accessLog) write(r *http.Request, status int, bytes int64, when time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return
	}
	b := l.appendAddress(l.line[:0], r.RemoteAddr)
	b = append(b, " - - "...)
	b = when.AppendFormat(b, "[02/Jan/2006:15:04:05 -0700] \"")
	b = appendText(b, r.Method)
	b = append(b, ' ')
	b = appendText(b, r.RequestURI)
	b = append(b, ' ')
	b = append(b, r.Proto...)
	b = append(b, '"', ' ')
	b = strconv.AppendInt(b, int64(status), 10)
	b = append(b, ' ')
	if bytes == 0 {
		b = append(b, '-')
	} else {
		b = strconv.AppendInt(b, bytes, 10)
	}
	for _, name := range []string{"Referer", "User-Agent"} {
		b = append(b, ' ', '"')
		if text := r.Header.Get(name); text != "" {
			b = appendText(b, text)
		} else {
			b = append(b, '-')
		}
		b = append(b, '"')
	}
	b = append(b, '\n')
	l.line = b
	if l.queue != nil {
		l.queue.Write(b)
		return
	}
	_, err := l.file.Write(b)
	if err != nil && !l.failed {
		l.log.Warn("gateway: the access log is not written: look at the disk, then reload the node", "error", err)
	}
	l.failed = err != nil
}

func (l *accessLog) appendAddress(b []byte, remote string) []byte {
	ap, err := netip.ParseAddrPort(remote)
	if err != nil {
		return append(b, '-')
	}
	if l.full {
		return ap.Addr().Unmap().WithZone("").AppendTo(b)
	}
	return network(ap.Addr(), logPrefixV4, logPrefixV6).Addr().AppendTo(b)
}

// appendText adds what a client sent so that it cannot end a field or a line, as Apache httpd writes it.
func appendText(b []byte, text string) []byte {
	for i := 0; i < len(text) && i < maxLogged; i++ {
		switch c := text[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < ' ' || c >= 0x7f:
			b = fmt.Appendf(b, `\x%02x`, c)
		default:
			b = append(b, c)
		}
	}
	return b
}
