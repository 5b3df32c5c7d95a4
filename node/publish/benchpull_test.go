//go:build unix

package publish

import (
	"context"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"swarmnode/content/origin"
)

// indexed serves a directory as nginx does, with index pages that tell exact sizes.
func indexed(dir string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := filepath.Join(dir, filepath.FromSlash(r.URL.Path))
		st, err := os.Stat(name)
		if err != nil || !st.IsDir() {
			http.ServeFile(w, r, name)
			return
		}
		list, err := os.ReadDir(name)
		if err != nil {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprintf(w, "<html>\r\n<head><title>Index of %s</title></head>\r\n<body>\r\n<h1>Index of %[1]s</h1><hr><pre><a href=\"../\">../</a>\r\n", html.EscapeString(r.URL.Path))
		for _, e := range list {
			n, size, when := e.Name(), "-", ""
			if st, err := e.Info(); err == nil {
				when = st.ModTime().UTC().Format("02-Jan-2006 15:04")
				if !e.IsDir() {
					size = fmt.Sprint(st.Size())
				}
			}
			if e.IsDir() {
				n += "/"
			}
			fmt.Fprintf(w, "<a href=\"%s\">%s</a>   %s  %s\r\n", (&url.URL{Path: n}).EscapedPath(), html.EscapeString(n), when, size)
		}
		fmt.Fprint(w, "</pre><hr></body>\r\n</html>\r\n")
	})
}

// BenchmarkPull makes the first release of a web server's tree, and reads the same bytes from it beside that with as many connections, with
// nothing done to them; x-read is the ratio.
func BenchmarkPull(b *testing.B) {
	for _, c := range []struct {
		name        string
		files, size int
	}{{"2000-small", 2000, 4000}, {"1000-packages", 1000, 256 << 10}, {"256MiB", 1, 256 << 20}} {
		b.Run(c.name, func(b *testing.B) {
			dir := b.TempDir()
			manyFiles(b, dir, c.files, c.size)
			longAgo(b, dir)
			server := httptest.NewServer(indexed(dir))
			defer server.Close()
			var ours, plain time.Duration
			for b.Loop() {
				began := time.Now()
				readAll(b, dir, server.URL)
				plain += time.Since(began)
				m := newPuller(b, nil)
				o, err := origin.Open(context.Background(), server.URL+"/", origin.Options{AllowPrivate: true})
				if err != nil {
					b.Fatal(err)
				}
				m.pub.cfg.Origin, m.pub.tries = o, nil
				began = time.Now()
				res, err := m.pub.Publish(context.Background(), m.now, Options{}, nil)
				if ours += time.Since(began); err != nil || res.Totals.Files != uint64(c.files) {
					b.Fatal(res, err)
				}
				o.Close()
			}
			b.ReportMetric(ours.Seconds()/float64(b.N), "s/run")
			b.ReportMetric(ours.Seconds()/plain.Seconds(), "x-read")
		})
	}
}

// longAgo sets the times back: what is young is asked for again.
func longAgo(b *testing.B, dir string) {
	err := filepath.Walk(dir, func(p string, _ os.FileInfo, err error) error {
		if err == nil {
			err = os.Chtimes(p, time.Time{}, time.Unix(1e9, 0))
		}
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
}

// readAll gets every file below dir from a server.
func readAll(b *testing.B, dir, base string) {
	work, failed := make(chan string), make(chan error, origin.DefaultConnections)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: origin.DefaultConnections}}
	defer client.CloseIdleConnections()
	for range origin.DefaultConnections {
		go func() {
			var err error
			for u := range work {
				res, gerr := client.Get(u)
				if gerr == nil {
					_, gerr = io.Copy(io.Discard, res.Body)
					res.Body.Close()
				}
				if err == nil {
					err = gerr
				}
			}
			failed <- err
		}()
	}
	err := filepath.Walk(dir, func(p string, st os.FileInfo, err error) error {
		if err == nil && st.Mode().IsRegular() {
			work <- base + p[len(dir):]
		}
		return err
	})
	close(work)
	for range origin.DefaultConnections {
		if ferr := <-failed; err == nil {
			err = ferr
		}
	}
	if err != nil {
		b.Fatal(err)
	}
}
