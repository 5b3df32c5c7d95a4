package origin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"swarmnode/content"
)

// endless is a page without an end.
type endless struct{}

func (endless) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// Of pages that are long one is read at a time, however many connections there are, the others are asked for again; where there is no
// room, it is the one that the walk waits for.
func TestCrawlLongPages(t *testing.T) {
	for _, room := range []int{1 << 30, 0} {
		synctest.Test(t, func(t *testing.T) {
			const dirs = 12
			var long, most, asked atomic.Int64
			list := func(ctx context.Context, dir string) (out []Entry, bad []Bad, requests int, err error) {
				if dir == "" {
					for i := range dirs {
						out = append(out, Entry{Path: fmt.Sprintf("d%02d", i), Mode: content.ModeDir | 0o755})
					}
					return out, nil, 1, nil
				}
				asked.Add(1)
				r := newPageReader(ctx, endless{})
				if _, err := io.CopyN(io.Discard, r, aheadPage); err != nil {
					t.Errorf("%q: a page that is not long: %v", dir, err)
				}
				if _, err := r.Read(make([]byte, 1)); err != nil {
					return nil, nil, 1, fmt.Errorf("page: %w", err)
				}
				most.Store(max(most.Load(), long.Add(1)))
				time.Sleep(time.Second) // the others come as far as they can
				long.Add(-1)
				return []Entry{{Path: path.Join(dir, "f"), Mode: content.ModeFile | 0o644}}, nil, 1, nil
			}
			o, err := Options{Connections: 4}.withDefaults()
			if err != nil {
				t.Fatal(err)
			}
			c := &crawler{o: &o, list: list, each: func(Entry) error { return nil }, ahead: newAhead(), most: maxListedBytes}
			c.ahead.mostBytes = room
			if _, err := c.walk(t.Context()); err != nil || c.count != 2*dirs {
				t.Errorf("%d paths, %v", c.count, err)
			}
			if most.Load() != 1 || asked.Load() > 2*dirs {
				t.Errorf("%d long pages at a time, %d requests for %d", most.Load(), asked.Load(), dirs)
			}
		})
	}
}

// Who waits for his turn waits no longer than the listing goes on, and one that failed lets the others have it.
func TestCrawlLongPagesEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAhead()
		d, e := &place{a, newDirectory("d", nil)}, &place{a, newDirectory("e", nil)}
		ctx, stop := context.WithCancel(t.Context())
		for range 2 {
			if !d.enlarge() || e.enlarge() {
				t.Error("one at a time, and the same one twice")
			}
		}
		ended := make(chan error)
		go func() { ended <- e.wait(ctx) }()
		synctest.Wait()
		stop()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		go func() { ended <- e.wait(t.Context()) }()
		synctest.Wait()
		d.leave()
		if err := <-ended; err != nil || d.enlarge() {
			t.Errorf("after the other has left: %v", err)
		}
		a.mu.Lock()
		a.bytes = a.mostBytes
		a.shrink(e.d)
		a.mu.Unlock()
		go func() { ended <- d.wait(t.Context()) }()
		synctest.Wait()
		if a.large != nil {
			t.Error("a long page although there is no room")
		}
		a.stop()
		if err := <-ended; err == nil {
			t.Error("a turn after the end")
		}
	})
}

// What a directory is said to take in memory is what it takes, so that the limits of a walk are limits of memory: many names, long
// ones, subdirectories, and those that cannot be published, deep in a tree.
func TestPageMemory(t *testing.T) {
	const rows = 20_000
	deep := strings.Repeat("deep/", content.MaxDepth/2) + strings.Repeat("y", 200)
	for _, c := range []struct{ name, dir, row string }{
		{"files", "", `<a href="%08d">x</a> 20-Nov-2020 10:11 123456` + "\n"},
		{"long names", "", `<a href="%08d` + strings.Repeat("z", 200) + `">x</a> 20-Nov-2020 10:11 123456` + "\n"},
		{"subdirectories", "", `<a href="%08d/">x</a> 20-Nov-2020 10:11 -` + "\n"},
		{"deep", deep, `<a href="%08d">x</a> 20-Nov-2020 10:11 123456` + "\n"},
		{"bad", deep, `<a href="%%01%08d">x</a> 20-Nov-2020 10:11 123456` + "\n"},
	} {
		o, err := Options{}.withDefaults()
		if err != nil {
			t.Fatal(err)
		}
		w := &web{o: o, memo: map[string]string{}}
		at := &url.URL{Scheme: "http", Host: "h", Path: "/" + strings.TrimSuffix(c.dir+"/", "//")}
		page := func() io.Reader {
			r, p := io.Pipe()
			go func() {
				fmt.Fprintf(p, "<title>Index of %s</title><pre>", at.Path)
				for i := range rows {
					fmt.Fprintf(p, c.row, i)
				}
				p.Close()
			}()
			return r
		}
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		found, index, err := parseHTML(page(), at)
		if err != nil || !index || len(found) != rows {
			t.Fatalf("%s: %d rows, %v", c.name, len(found), err)
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		if held := int(after.HeapAlloc - before.HeapAlloc); held > rows*(200+len(fmt.Sprintf(c.row, 0))) {
			t.Errorf("%s: %d bytes are held of %d rows", c.name, held, rows)
		}
		d := newDirectory(c.dir, nil)
		d.load(t.Context(), &crawler{o: &o, ahead: newAhead(), list: func(context.Context, string) ([]Entry, []Bad, int, error) {
			s := w.newSheet(c.dir, time.Now())
			bad := w.judge(s, found)
			return s.entries, bad, 1, nil
		}})
		found = nil
		runtime.GC()
		runtime.ReadMemStats(&after)
		held := int(after.HeapAlloc - before.HeapAlloc)
		if d.err != nil || held > d.bytes*3/2+1<<20 || len(d.entries)+len(d.bad) < rows/2 {
			t.Errorf("%s: %d entries and %d bad take %d bytes, said are %d, %v", c.name, len(d.entries), len(d.bad), held, d.bytes, d.err)
		}
		runtime.KeepAlive(d)
	}
}

// A server of long pages, the whole way: those that have to wait are asked for again, and all is listed.
func TestHTTPLongPages(t *testing.T) {
	const dirs, rows = 4, 6000
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, "<title>Index of %s</title><pre>", r.URL.Path)
		for i := range dirs {
			if r.URL.Path == "/" {
				fmt.Fprintf(w, "<a href=\"d%d/\">x</a> 20-Nov-2020 10:11 -\n", i)
			}
		}
		for i := range rows {
			if r.URL.Path != "/" {
				fmt.Fprintf(w, "<a href=\"%08d\">%s</a> 20-Nov-2020 10:11 1\n", i, strings.Repeat("x", 60))
			}
		}
	}))
	defer server.Close()
	if (rows*len(`<a href="12345678"></a> 20-Nov-2020 10:11 1`))+rows*60 < aheadPage {
		t.Fatal("the pages are short")
	}
	got, l, err := entriesOf(t, follow(t, server.URL, Options{}).o, Before{})
	if err != nil || len(got) != dirs*(rows+1) || len(l.Bad) > 0 || l.Requests < dirs+1 || l.Requests > 2*dirs+1 {
		t.Errorf("%d paths, %d requests, %v, %v", len(got), l.Requests, l.Bad, err)
	}
}
