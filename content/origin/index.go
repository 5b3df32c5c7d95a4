package origin

import (
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"
)

// maxRows is how many names an index page may have: more than fit into MaxDirectoryBytes with their times and sizes. Without these a
// page of that length could have 6 million, and a GiB of them in memory.
const maxRows = 400_000

// maxPathBytes is how many bytes the paths of one directory may have together that are longer by the directory's own than the names in the
// listing are: maxRows of 300 bytes.
const maxPathBytes = 128 << 20

// checkPaths refuses so many names in a directory that they, or their paths, take too much memory.
func checkPaths(dir string, names int) error {
	if names > maxRows {
		return errTooManyRows(maxRows)
	}
	if names*len(dir) > maxPathBytes {
		return &RefusedError{Reason: fmt.Sprintf("%.100q… lists %d names, and their paths have more than %d MiB together: --exclude it", dir, names, maxPathBytes>>20)}
	}
	return nil
}

func errTooManyRows(most int) error {
	return &RefusedError{Reason: fmt.Sprintf("the listing has more than %d names: --exclude it, or have it split into directories", most)}
}

// row is one line of an index page.
type row struct {
	name  string // one part, as it is on disk
	mode  uint32 // kind and permission bits; 0 for what is neither a file nor a directory
	size  int64  // or SizeUnknown
	text  string // what the page says of size and time, word for word; "" if it does not tell a time
	mtime time.Time
	exact bool // size and time are exact, to the second, and the time is in UTC; else its zone is unknown
	fine  bool // the time is to the second, not to the minute
}

// childName gives the name of a direct child of the page's directory that href leads to, and whether it is shown as a directory.
// Whatever else there is on a page is not part of the tree: sort links, the way up, icons, links of a header or footer.
func childName(page *url.URL, href string) (name string, dir, ok bool) {
	u, err := page.Parse(strings.TrimSpace(href))
	if err != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || u.Scheme != page.Scheme || u.Host != page.Host {
		return "", false, false
	}
	// Part by part, because the same path may be escaped in several ways.
	parts, base := strings.Split(u.EscapedPath(), "/"), strings.Split(page.EscapedPath(), "/")
	base = base[:len(base)-1]
	if dir = parts[len(parts)-1] == ""; dir {
		parts = parts[:len(parts)-1]
	}
	if len(parts) != len(base)+1 {
		return "", false, false
	}
	for i, part := range parts {
		part, err := url.PathUnescape(part)
		if err != nil {
			return "", false, false
		}
		if i == len(base) {
			return strings.Clone(part), dir, part != "" && part != "." && part != ".." && !strings.Contains(part, "/")
		}
		if want, err := url.PathUnescape(base[i]); err != nil || part != want {
			return "", false, false
		}
	}
	return "", false, false
}

// limited is a reader of which no more than left bytes come: then its error says whose page is too long.
type limited struct {
	r    io.Reader
	left int64
	what string
}

// Read is that of io.Reader.
func (l *limited) Read(b []byte) (int, error) {
	if l.left <= 0 {
		return 0, &RefusedError{Reason: fmt.Sprintf("%s: the listing is longer than %d MiB: --exclude it, or have it split into directories", l.what, MaxDirectoryBytes>>20)}
	}
	n, err := l.r.Read(b[:min(int64(len(b)), l.left)])
	l.left -= int64(n)
	return n, err
}
