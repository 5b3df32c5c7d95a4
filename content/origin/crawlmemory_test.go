package origin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"swarmnode/content"
)

// The listings that a walk is in have a limit together: else each level of a tree may hold a page, and nothing of it is given on. What
// has been gone through does not count.
func TestCrawlMemory(t *testing.T) {
	const most = 200 * (entryBytes + directoryBytes)
	for _, deep := range []bool{true, false} {
		list := func(_ context.Context, dir string) (out []Entry, bad []Bad, requests int, err error) {
			level := strings.Count(dir+"/", "/")
			for i := range 50 {
				e := Entry{Path: path.Join(dir, fmt.Sprintf("%d-%d", level, i)), Mode: content.ModeFile | 0o644, Stamp: dir}
				if dir == "" || deep {
					e.Mode = content.ModeDir | 0o755
				}
				out = append(out, e)
			}
			return out, nil, 1, nil
		}
		o, err := Options{}.withDefaults()
		if err != nil {
			t.Fatal(err)
		}
		count := 0
		c := &crawler{o: &o, list: list, ahead: newAhead(), most: most, each: func(Entry) error {
			if count++; count > 50+50*50 {
				return errors.New("there is no end of it")
			}
			return nil
		}}
		_, err = c.walk(t.Context())
		if refused := (*RefusedError)(nil); deep && (!errors.As(err, &refused) || !strings.Contains(err.Error(), "--exclude") || count > 10) {
			t.Errorf("a page of directories on each level: %d paths, %v", count, err)
		}
		if !deep && (err != nil || count != 50+50*50 || c.listed != 0) {
			t.Errorf("pages beside each other: %d paths, %d bytes are still counted, %v", count, c.listed, err)
		}
	}
}

// A tree of directories without a file that is wanted has an end too.
func TestCrawlNothingWanted(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var asked atomic.Int64
	list := func(_ context.Context, dir string) (out []Entry, bad []Bad, requests int, err error) {
		if asked.Add(1) == 1000 {
			stop() // else it goes on for ever
		}
		for i := range 3 {
			out = append(out, Entry{Path: path.Join(dir, fmt.Sprintf("%d-%d", strings.Count(dir, "/"), i)), Mode: content.ModeDir | 0o755})
		}
		return out, nil, 1, ctx.Err()
	}
	o, err := Options{Include: []string{"*.iso"}}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	c := &crawler{o: &o, list: list, each: func(Entry) error { return nil }, ahead: newAhead(), most: maxListedBytes, mostPaths: 100}
	if _, err := c.walk(ctx); !errors.As(err, new(*RefusedError)) {
		t.Errorf("directories without an end: %v", err)
	}
}

// Names that cannot be published take memory too: while one directory is waited for, few are listed ahead, and what is told of them is
// short.
func TestCrawlLongNames(t *testing.T) {
	long := strings.Repeat("\x01", 1<<16)
	synctest.Test(t, func(t *testing.T) {
		slow := make(chan struct{})
		var asked atomic.Int64
		list := func(_ context.Context, dir string) (out []Entry, bad []Bad, requests int, err error) {
			switch dir {
			case "":
				for i := range 10 {
					out = append(out, Entry{Path: fmt.Sprintf("d%d", i), Mode: content.ModeDir | 0o755})
				}
				return out, nil, 1, nil
			case "d0":
				<-slow
			}
			asked.Add(1)
			for range 2 * maxBad / 100 {
				bad = append(bad, Bad{dir + "/" + long, fmt.Errorf("%w: %s", content.ErrPath, long)})
			}
			return []Entry{{Path: dir + "/" + long, Mode: content.ModeFile}, {Path: dir + "/" + long, Mode: content.ModeFile}}, bad, 1, nil
		}
		o, err := Options{Connections: 2}.withDefaults()
		if err != nil {
			t.Fatal(err)
		}
		c := &crawler{o: &o, list: list, each: func(Entry) error { return nil }, ahead: newAhead(), most: maxListedBytes}
		c.ahead.mostBytes = 3 * 2 * maxBad / 100 * 2 * content.MaxPath
		done := make(chan error)
		go func() {
			_, err := c.walk(t.Context())
			done <- err
		}()
		synctest.Wait()
		if n := asked.Load(); n > 4 {
			t.Errorf("%d directories full of names that are too long were listed ahead", n)
		}
		close(slow)
		if err := <-done; err != nil || len(c.told.Bad) < 10*2*maxBad/100 {
			t.Errorf("%d are told of, %v", len(c.told.Bad), err)
		}
		for _, b := range c.told.Bad {
			if n := len(b.Path) + len(b.Err.Error()); n > 6*content.MaxPath || !errors.Is(b.Err, content.ErrPath) {
				t.Fatalf("%d bytes are kept of a path that cannot be published: %.60q…", n, b.Err)
			}
		}
	})
}

// What is kept for each file is short, whatever the server says of it.
func TestLongStamps(t *testing.T) {
	many := strings.Repeat("1", 1<<20)
	rows, err := parseJSON(strings.NewReader(fmt.Sprintf(`[{"name":"a","type":"file","size":%s,"mtime":"2026-11-20T10:11:12Z"},
		{"name":"b","type":"file","size":1,"mtime":"2026-11-20T10:11:12.%sZ"}, {"name":"c","type":"file","size":1,"mtime":"2026-11-20T10:11:12Z"}]`, many, many)))
	if err != nil || len(rows) != 3 || rows[0].text != "" || rows[1].text != "" || rows[2].text != "2026-11-20T10:11:12Z 1" {
		t.Errorf("%d rows, %v", len(rows), err)
	}
	long := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("ETag", `"`+strings.Repeat("e", long)+`"`)
	}))
	defer server.Close()
	or, err := Open(t.Context(), server.URL, Options{AllowPrivate: true, Access: Access{Netrc: "/dev/null"}})
	if err != nil {
		t.Fatal(err)
	}
	defer or.Close()
	for _, c := range []struct{ long, want int }{{100, 102}, {maxValidator, 0}} {
		long = c.long
		a, err := or.(*web).askOne(t.Context(), "f")
		b, err2 := or.Open(t.Context(), Entry{Path: "f"}, 0, "")
		if err != nil || err2 != nil || len(a.etag) != c.want || len(b.Version) != c.want {
			t.Fatalf("an ETag of %d bytes: %d and %d are kept, %v, %v", c.long, len(a.etag), len(b.Version), err, err2)
		}
		b.Close()
	}
	long = 2 * maxHeaderBytes
	if _, err := or.(*web).askOne(t.Context(), "f"); err == nil {
		t.Error("a head of any length is read")
	}
}

// An FTP listing has a limit of names as an index page has, and the paths of a directory have one together.
func TestFTPRows(t *testing.T) {
	raw := strings.Repeat("Type=file; a\r\n", 11)
	if lines, err := parseFTP(raw, "d", "MLSD", time.Now(), 11); err != nil || len(lines) != 11 {
		t.Errorf("%d names, %v", len(lines), err)
	}
	if _, err := parseFTP(raw, "d", "MLSD", time.Now(), 10); !errors.As(err, new(*RefusedError)) {
		t.Errorf("more names than there may be: %v", err)
	}
	if err := checkPaths(strings.Repeat("d", 300), maxRows); err != nil {
		t.Error(err)
	}
	if err := checkPaths("", maxRows+1); !errors.As(err, new(*RefusedError)) {
		t.Errorf("more names than there may be: %v", err)
	}
	if err := checkPaths(strings.Repeat("d", 4000), maxRows); !errors.As(err, new(*RefusedError)) {
		t.Errorf("paths of 4000 bytes: %v", err)
	}
}

// A file that comes byte by byte is given up over FTP as it is over HTTP; one that comes slowly and comes is not.
func TestFTPDrips(t *testing.T) {
	for _, c := range []struct {
		part int
		ok   bool
	}{{1, false}, {2 * slowest, true}} {
		synctest.Test(t, func(t *testing.T) {
			here, there := net.Pipe()
			d := &ftpData{c: &ftpConn{f: &ftp{o: Options{Timeout: time.Minute}}}, conn: here, raw: here}
			var wg sync.WaitGroup
			wg.Go(func() {
				for range 300 {
					time.Sleep(time.Second)
					if _, err := there.Write(make([]byte, c.part)); err != nil {
						return
					}
				}
				there.Close()
			})
			began := time.Now()
			n, err := io.Copy(io.Discard, d)
			took := time.Since(began)
			here.Close()
			wg.Wait()
			if c.ok != (err == nil) || c.ok && n != 300*int64(c.part) || !c.ok && (took > 2*time.Minute || !strings.Contains(err.Error(), "as good as nothing")) {
				t.Errorf("%d bytes a second: %d came in %v, %v", c.part, n, took, err)
			}
		})
	}
}
