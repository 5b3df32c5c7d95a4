package origin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"swarmnode/content"
)

// acceptIndex asks for JSON where a server has it: it is exact. caddy looks for the name only.
const acceptIndex = "application/json, text/html;q=0.9, */*;q=0.1"

// web is a web server with index pages.
type web struct {
	o      Options
	base   *url.URL // ends with a '/'; without user and password
	user   *url.Userinfo
	client *http.Client
	busy   gate
	heads  chan struct{} // a place for each question that is on its way
	// settling is how long a directory is left alone in which something was written just now. Only tests have none.
	settling time.Duration

	// Of the listing that goes on.
	before Before
	audit  audit
	mu     sync.Mutex // guards what follows
	files  int
	memo   map[string]string
	asked  map[string]answer // of directories that are not whole yet
	missing
}

// openHTTP opens the tree below an index page.
func openHTTP(_ context.Context, u *url.URL, o Options) (Origin, error) {
	if u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		return nil, &RefusedError{Reason: "a tree is the path of a URL, without ? and #: in the name of a directory, and in a password, they are %3F and %23"}
	}
	user, err := login(o, u)
	if err != nil {
		return nil, err
	}
	w := &web{o: o, user: user, heads: make(chan struct{}, o.Connections), settling: youngExact}
	w.base = &url.URL{Scheme: u.Scheme, Host: u.Host, Path: "/"}
	if u.Path != "" {
		w.base.Path, w.base.RawPath = strings.TrimSuffix(u.Path, "/")+"/", strings.TrimSuffix(u.EscapedPath(), "/")+"/"
	}
	if w.client, err = newClient(&w.o, w.base, user != nil); err != nil {
		return nil, err
	}
	if user != nil && u.Scheme == "http" {
		o.Log.Warn("the password goes to the origin unencrypted: use https:// if it is there", "origin", w.base.String())
	}
	return w, nil
}

// Close is that of Origin.
func (w *web) Close() error {
	w.client.CloseIdleConnections()
	return nil
}

// at gives the URL of a path of the tree. '+' is escaped, because some stores take it for a blank.
func (w *web) at(p string) *url.URL {
	parts := strings.Split(p, "/")
	for i, part := range parts {
		parts[i] = strings.ReplaceAll(url.PathEscape(part), "+", "%2B")
	}
	u := *w.base
	u.Path, u.RawPath = w.base.Path+p, w.base.EscapedPath()+strings.Join(parts, "/")
	return &u
}

// request makes a request for a URL below the base. No cache on the way is to answer from memory: what is fetched would be older than what the listing vouches for.
func (w *web) request(ctx context.Context, method string, u *url.URL) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, method, u.String(), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", w.o.UserAgent)
	req.Header.Set("Cache-Control", "no-cache")
	if w.user != nil {
		password, _ := w.user.Password()
		req.SetBasicAuth(w.user.Username(), password)
	}
	return req, nil
}

// do sends a request. The answer has one of the codes in good, else there is an error for it.
func (w *web) do(req *http.Request, good ...int) (*http.Response, error) {
	if err := w.busy.wait(req.Context()); err != nil {
		return nil, err
	}
	resp, err := w.client.Do(req)
	if err != nil {
		return nil, inWords(req.URL, err)
	}
	for _, code := range good {
		if resp.StatusCode == code {
			return resp, nil
		}
	}
	resp.Body.Close()
	err = statusError(resp)
	if busy := (*BusyError)(nil); errors.As(err, &busy) {
		w.busy.shut(busy.After)
	}
	return nil, err
}

// List is that of Origin.
func (w *web) List(ctx context.Context, before Before, each func(Entry) error) (Listing, error) {
	w.before, w.files, w.memo, w.asked = before, 0, map[string]string{}, map[string]answer{}
	w.begin(before.Memo[memoMissing])
	var next string
	w.audit, next = nextAudit(before.Memo[memoAudit], time.Now())
	l, err := crawl(ctx, &w.o, before, w.readDir, each)
	if l.Memo = w.memo; next == "" {
		l.Memo[memoAudit] = before.Memo[memoAudit]
	} else {
		l.Memo[memoAudit] = next + strconv.Itoa(w.files)
	}
	w.keep(l.Memo)
	return l, err
}

// readDir is a lister. What was written in these seconds is listed once more when they are over: else the next listing would say
// something else of it, and it would be read twice.
func (w *web) readDir(ctx context.Context, dir string) (entries []Entry, bad []Bad, requests int, err error) {
	for again := false; ; again = true {
		rows, date, err := w.readPage(ctx, dir)
		if requests++; err == nil {
			err = checkPaths(dir, len(rows))
		}
		if err != nil {
			return nil, nil, requests, err
		}
		s := w.newSheet(dir, date)
		bad = w.judge(s, rows)
		n, err := s.settleAll(ctx)
		if requests += n; err != nil {
			return nil, nil, requests, err
		}
		if again || !s.fresh || w.settling <= 0 {
			w.mu.Lock()
			w.files += s.files
			w.mu.Unlock()
			return s.entries, bad, requests, nil
		}
		select {
		case <-ctx.Done():
			return nil, nil, requests, ctx.Err()
		case <-time.After(w.settling):
		}
	}
}

// judge takes the rows of a page one after the other, in the order in which what was listed before is stored, and alone, so that
// where that is on a disk it is read from its beginning to its end.
func (w *web) judge(s *sheet, rows []row) (bad []Bad) {
	w.mu.Lock()
	defer w.mu.Unlock()
	slices.SortStableFunc(rows, func(a, b row) int { return strings.Compare(a.name, b.name) })
	for _, r := range rows {
		p := r.name
		if s.dir != "" {
			p = s.dir + "/" + p
		}
		e := Entry{Path: p, Mode: r.mode}
		switch {
		case r.mode == 0:
			bad = append(bad, Bad{p, fmt.Errorf("%q is listed as neither a file nor a directory", p)})
			continue
		case strings.ContainsRune(r.name, utf8.RuneError):
			bad = append(bad, Bad{p, fmt.Errorf("%w: %q is not UTF-8", content.ErrPath, p)})
			continue
		case e.IsDir():
			s.entries = append(s.entries, e)
			continue
		case !w.o.wanted(p):
			continue
		}
		s.files++
		e.Size = r.size
		if !r.mtime.IsZero() {
			e.Mtime = r.mtime.Truncate(time.Second).UnixNano() // as Last-Modified does; which has the last word, if there is one
		}
		s.judge(e, r)
	}
	return bad
}

// readPage gets and reads the index of a directory, and tells when the server wrote it.
func (w *web) readPage(ctx context.Context, dir string) ([]row, time.Time, error) {
	p := dir
	if p != "" {
		p += "/"
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	req, err := w.request(ctx, http.MethodGet, w.at(p))
	if err != nil {
		return nil, time.Time{}, err
	}
	req.Header.Set("Accept", acceptIndex)
	resp, err := w.do(req, http.StatusOK)
	if dir == "" && errors.Is(err, fs.ErrNotExist) {
		err = &RefusedError{Reason: "the server has nothing there (404 Not Found): the URL must be that of a directory which it lists"}
	}
	if err != nil {
		return nil, time.Time{}, err
	}
	defer resp.Body.Close()
	what := resp.Request.URL.Redacted()
	body := &limited{r: newPageReader(ctx, newSteady(resp.Body, w.o.Timeout, cancel)), left: MaxDirectoryBytes, what: what}
	rows, index, err := parseIndex(resp.Header.Get("Content-Type"), body, resp.Request.URL)
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("%s: %w", what, err)
	}
	if !index {
		return nil, time.Time{}, &RefusedError{Reason: what + " answers with a page that is no index of a directory: take the index.html in it away, let the server list it (autoindex, Options Indexes, dir-listing, browse), or --exclude it",
			Cause: fs.ErrPermission}
	}
	return rows, dateOf(resp), nil
}

// parseIndex reads an index page by its kind.
func parseIndex(contentType string, r io.Reader, page *url.URL) (rows []row, index bool, err error) {
	kind, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		kind = contentType
	}
	switch kind {
	case "application/json", "text/json":
		rows, err = parseJSON(r)
		if err == errNoIndex {
			return nil, false, nil
		}
		return rows, err == nil, err
	case "text/html", "application/xhtml+xml":
		return parseHTML(r, page)
	}
	return nil, false, nil
}

// dateOf tells when a server answered, by its own clock, and by the one here if it does not say.
func dateOf(resp *http.Response) time.Time {
	if t, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		return t
	}
	return time.Now()
}
