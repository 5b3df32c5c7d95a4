package origin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// What an index page says of a file, its text, changes with the file in most cases, but not if the file changes twice in a minute and
// keeps its rounded size. So the text alone vouches only for a file that was last changed well before the page was written. For a
// younger one the server is asked for its exact time, size and ETag, and these stand in the stamp too, behind stampAsked. At the next
// listings, with the same text, it is asked again, until once its minute was over: from then on the stamp stands as it is. What
// neither text nor answer can vouch for, because it is as young as the step of the server's clock, has a stamp that ends with
// stampYoung, which is gone the next time. Pages without times leave nothing but to ask for each file each time.

const (
	stampAsked = " asked "
	stampYoung = " young"

	// Pages have times to the minute, in a zone that they do not tell. All zones are whole quarters of an hour apart. So where a time is
	// less than youngBefore ahead of the page's in one zone or other, or a little after it, for clocks that differ, it may be young.
	quarter     = 15 * time.Minute
	youngBefore = 2 * time.Minute
	youngAfter  = time.Minute
	// zoneRange is farther than any zone is from UTC.
	zoneRange = 15 * time.Hour
	// youngExact is the same, both ways, for times that are to the second.
	youngExact = 3 * time.Second

	memoChecked = "checked " // and the path of a directory: when its young files were last asked for, by the server's clock
)

// young reports whether a file may have changed again since the page was written without a trace in its row.
func (r *row) young(page time.Time) bool {
	since := page.Sub(r.mtime)
	if r.exact {
		return since < youngExact
	}
	if since.Abs() > zoneRange {
		return false
	}
	before, after := youngBefore, youngAfter
	if r.fine {
		before, after = youngExact, youngExact
	}
	phase := (since%quarter + quarter) % quarter
	return phase < before || phase > quarter-after
}

// sheet is one directory while its page is judged.
type sheet struct {
	w       *web
	dir     string
	date    time.Time // of the page
	entries []Entry
	ask     []question
	checked int64 // when the young files of the listing before were asked for, in Unix seconds; 0: never
	asked   int64 // the same for those of this one
	prints  prints
	kept    prints
	files   int
	fresh   bool // something was written just now, by the server's clock
}

// question is a file that the server is to be asked for.
type question struct {
	index int // in the entries
	row   row
	young bool // by what the page says
	audit bool // nothing but the day's audit asks
	there bool // the question is only whether there is anything
}

func (w *web) newSheet(dir string, date time.Time) *sheet {
	s := &sheet{w: w, dir: dir, date: date, kept: prints{}}
	s.checked, _ = strconv.ParseInt(w.before.Memo[memoChecked+dir], 10, 64)
	s.prints = decodePrints(w.before.Memo[memoPrints+dir])
	return s
}

// judge gives a file its stamp, or has the server asked for it first.
func (s *sheet) judge(e Entry, r row) {
	before, _ := s.w.before.Find(e.Path)
	text, asked, _ := strings.Cut(before.Stamp, stampAsked)
	known := before.Stamp != "" && text == r.text
	e.Stamp, e.row = r.text, r.text
	q := question{index: len(s.entries), row: r, young: r.young(s.date)}
	audit := false
	switch {
	case r.exact:
		if audit = known; q.young {
			e.Stamp += stampYoung
			s.fresh = s.fresh || s.date.Sub(r.mtime).Abs() < youngExact // what is from the future may be from there for a year
		}
	case known && r.text != "" && asked == "":
		audit = true
	case known && r.text != "" && !strings.HasSuffix(asked, stampYoung) && s.checked > 0 && !r.young(time.Unix(s.checked, 0)):
		audit, e.Stamp = true, before.Stamp
		s.asked = max(s.asked, s.checked)
	case known, q.young, r.text == "":
		s.ask = append(s.ask, q)
	}
	if n := len(s.ask); n == 0 || s.ask[n-1].index != q.index {
		q.there = s.w.suspect(e.Path)
		if q.audit = audit && s.keepPrint(&q) && !q.there; q.there || q.audit {
			s.ask = append(s.ask, q)
		}
	}
	s.entries = append(s.entries, e)
}

// answer is what the server says of one file.
type answer struct {
	size  int64 // or SizeUnknown
	mtime time.Time
	etag  string
	date  time.Time
	gone  bool // there is nothing
	mute  bool // it does not want to be asked
}

// stamp is "" if the answer vouches for nothing.
func (a answer) stamp() string {
	if a.mtime.IsZero() && a.etag == "" {
		return ""
	}
	s := fmt.Sprintf("%s%d %d %s", stampAsked, a.size, a.mtime.Unix(), a.etag)
	if !a.mtime.IsZero() && a.date.Sub(a.mtime).Abs() < youngExact {
		s += stampYoung
	}
	return s
}

// settle gives an entry the stamp that an answer makes.
func (s *sheet) settle(q *question, a answer) {
	e, said := &s.entries[q.index], a.stamp()
	s.fresh = s.fresh || !q.audit && (strings.HasSuffix(said, stampYoung) || said == "" && q.young && q.row.fine)
	switch {
	case q.there:
		return
	case q.audit:
		s.audit(q, a)
		return
	case q.row.text == "":
		e.Stamp, e.Size, e.row = said, a.size, strings.TrimSuffix(said, stampYoung)
	case said != "":
		e.Stamp += said
		s.asked = s.date.Unix()
	case q.young:
		e.Stamp += stampYoung
	}
}

// settleAll asks the server for what is to be asked. n are the requests.
func (s *sheet) settleAll(ctx context.Context) (n int, err error) {
	answers, n, err := s.askAll(ctx)
	if err != nil {
		return n, err
	}
	var missing []string
	for i := range s.ask {
		q := &s.ask[i]
		switch e := &s.entries[q.index]; {
		case answers[i].gone && !q.audit:
			e.missing = fmt.Errorf("%q is listed, and asked for it the server says that there is nothing: a symlink to nowhere?", e.Path)
			missing = append(missing, e.Path)
		case !answers[i].gone && (!q.audit || !answers[i].mute):
			s.settle(q, answers[i])
		}
	}
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	for _, p := range missing {
		s.w.stays(p)
	}
	if s.asked > 0 {
		s.w.memo[memoChecked+s.dir] = strconv.FormatInt(s.asked, 10)
	}
	if len(s.kept) > 0 {
		s.w.memo[memoPrints+s.dir] = s.kept.encode()
	}
	for _, q := range s.ask {
		delete(s.w.asked, s.entryPath(q))
	}
	return n, nil
}

// entryPath is the path of what a question is for.
func (s *sheet) entryPath(q question) string {
	if s.dir == "" {
		return q.row.name
	}
	return s.dir + "/" + q.row.name
}

// askAll asks the server for files of a directory, several at a time. After an error, what has been answered is kept for the next try.
func (s *sheet) askAll(ctx context.Context) (answers []answer, n int, err error) {
	answers = make([]answer, len(s.ask))
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		first error
	)
	for i := range s.ask {
		p := s.entryPath(s.ask[i])
		s.w.mu.Lock()
		old, ok := s.w.asked[p]
		s.w.mu.Unlock()
		if answers[i] = old; ok {
			continue
		}
		select {
		case <-ctx.Done():
		case s.w.heads <- struct{}{}:
			n++
			wg.Go(func() {
				defer func() { <-s.w.heads }()
				a, err := s.w.askOne(ctx, p)
				if err != nil {
					mu.Lock()
					defer mu.Unlock()
					if first == nil {
						first = err
					}
					stop()
					return
				}
				answers[i] = a
				s.w.mu.Lock()
				defer s.w.mu.Unlock()
				s.w.asked[p] = a
			})
		}
	}
	wg.Wait()
	if first == nil {
		first = ctx.Err()
	}
	return answers, n, first
}

// askOne asks for one file.
func (w *web) askOne(ctx context.Context, p string) (answer, error) {
	req, err := w.request(ctx, http.MethodHead, w.at(p))
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("Accept-Encoding", "identity")
	resp, err := w.do(req, http.StatusOK)
	switch refused := (*RefusedError)(nil); {
	case errors.Is(err, fs.ErrNotExist):
		return answer{gone: true}, nil
	case errors.Is(err, fs.ErrPermission), errors.As(err, &refused):
		return answer{mute: true, size: SizeUnknown}, nil // to read will show
	case err != nil:
		return answer{}, fmt.Errorf("ask for %q: %w", p, err)
	}
	resp.Body.Close()
	return answer{size: resp.ContentLength, mtime: modified(resp), etag: etagOf(resp), date: dateOf(resp)}, nil
}

// etagOf gives the ETag of an answer; "" if there is none that can be kept.
func etagOf(resp *http.Response) string {
	if etag := resp.Header.Get("ETag"); len(etag) <= maxValidator {
		return etag
	}
	return ""
}

// modified gives when a file changed last; the zero time if the server does not say.
func modified(resp *http.Response) time.Time {
	t, err := http.ParseTime(resp.Header.Get("Last-Modified"))
	if err != nil || t.Unix() <= 0 {
		return time.Time{}
	}
	return t
}
