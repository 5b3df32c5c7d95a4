// Command tap stands between an HTTP client and a gateway, writes down what passes and, when told so, spoils it:
//
//	tap -listen ADDR -to URL -log FILE [-digest] [-flip OFFSET] [-cut BYTES] [-rate BYTES]
//
// A line of the log is "METHOD PATH STATUS RANGE IF-RANGE USER-AGENT", tab separated, "-" for what is missing.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// tap is the one proxy of this process.
type tap struct {
	digest bool         // replace Digest and Repr-Digest by wrong ones
	flip   int64        // change the byte at this offset of a whole file; < 0 is none
	cut    atomic.Int64 // end the connection after so many bytes of one body that is longer, once; < 0 is never
	rate   int64        // bytes per second of each body; 0 is no limit

	mu  sync.Mutex // guards log
	log io.Writer
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "tap:", err)
		os.Exit(1)
	}
}

func run() error {
	t := new(tap)
	listen := flag.String("listen", "", "host:port")
	to := flag.String("to", "", "URL of the gateway's root")
	file := flag.String("log", "", "file for the lines, appended")
	cut := flag.Int64("cut", -1, "end the connection once, after so many bytes of a longer body")
	flag.BoolVar(&t.digest, "digest", false, "replace the digest headers by wrong ones")
	flag.Int64Var(&t.flip, "flip", -1, "change the byte at this offset of a whole file")
	flag.Int64Var(&t.rate, "rate", 0, "bytes per second of each body")
	flag.Parse()
	t.cut.Store(*cut)
	base, err := url.Parse(*to)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(*file, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	t.log = f
	proxy := &httputil.ReverseProxy{
		// The request goes on as it came: its Host too, since a gateway must not believe it.
		Rewrite:        func(r *httputil.ProxyRequest) { r.Out.URL.Scheme, r.Out.URL.Host = base.Scheme, base.Host },
		Transport:      &http.Transport{DisableCompression: true},
		FlushInterval:  -1,
		ModifyResponse: t.answer,
	}
	return http.ListenAndServe(*listen, proxy)
}

// answer writes the exchange down and changes the response as told.
func (t *tap) answer(r *http.Response) error {
	q := r.Request
	t.mu.Lock()
	fmt.Fprintf(t.log, "%s\t%s\t%d\t%s\t%s\t%s\n", q.Method, q.URL.RequestURI(), r.StatusCode,
		some(q.Header.Get("Range")), some(q.Header.Get("If-Range")), some(q.Header.Get("User-Agent")))
	t.mu.Unlock()
	if t.digest {
		const zeros = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=" // 32 bytes of zero
		r.Header.Set("Digest", "SHA-256="+zeros)
		r.Header.Set("Repr-Digest", "sha-256=:"+zeros+":")
	}
	if q.Method == http.MethodGet {
		b := &body{ReadCloser: r.Body, tap: t, flip: -1, cut: -1, began: time.Now()}
		if r.StatusCode == http.StatusOK {
			b.flip = t.flip
		}
		if cut := t.cut.Load(); cut >= 0 && r.ContentLength > cut && t.cut.CompareAndSwap(cut, -1) {
			b.cut = cut
		}
		r.Body = b
	}
	return nil
}

// some gives s, or "-" where there is none.
func some(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// body is a response's, spoiled as told.
type body struct {
	io.ReadCloser
	tap   *tap
	flip  int64
	cut   int64
	read  int64
	began time.Time
}

// Read gives what the gateway sent, at most at the rate, until the cut. An error here makes the proxy end the connection.
func (b *body) Read(p []byte) (int, error) {
	if b.cut >= 0 {
		if b.read >= b.cut {
			return 0, errors.New("cut")
		}
		p = p[:min(int64(len(p)), b.cut-b.read)]
	}
	n, err := b.ReadCloser.Read(p)
	if i := b.flip - b.read; b.flip >= 0 && i >= 0 && i < int64(n) {
		p[i] ^= 1
	}
	b.read += int64(n)
	if b.tap.rate > 0 {
		due := b.began.Add(time.Duration(float64(b.read) / float64(b.tap.rate) * float64(time.Second)))
		time.Sleep(time.Until(due))
	}
	return n, err
}
