package gateway

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"swarmnode/content"
)

// rig is a gateway on a loopback port over the fake.
type rig struct {
	t   testing.TB
	cat *fakeCatalogue
	src *fakeSource
	g   *Gateway
	url string
}

func newRig(t testing.TB, files ...file) *rig {
	t.Helper()
	cat, src := newFake(t)
	if len(files) > 0 {
		cat.publish(t, src, 1, files...)
	}
	g := New(Config{Catalogue: cat})
	srv := httptest.NewUnstartedServer(g)
	srv.Config.ConnContext = func(ctx context.Context, _ net.Conn) context.Context { return WithConnection(ctx) }
	srv.Start()
	t.Cleanup(srv.Close)
	return &rig{t, cat, src, g, srv.URL}
}

// reply is an answer whose body was read.
type reply struct {
	*http.Response
	body string
}

// do asks without following redirects and without asking for compression. headers are "Name: value".
func (r *rig) do(method, path string, headers ...string) reply {
	r.t.Helper()
	req, err := http.NewRequest(method, r.url+path, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Add(name, value)
	}
	resp, err := (&http.Transport{DisableCompression: true, DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatalf("%s %s: the body was cut: %v", method, path, err)
	}
	return reply{resp, string(body)}
}

func (r *rig) get(path string, headers ...string) reply {
	r.t.Helper()
	return r.do("GET", path, headers...)
}

// someBytes is content whose parts all differ.
func someBytes(n int) string {
	var b strings.Builder
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, "%d ", i)
	}
	return b.String()[:n]
}

func TestWholeFile(t *testing.T) {
	data := someBytes(3500)
	r := newRig(t, file{Path: "pool/"}, file{Path: "pool/a_1.deb", Data: data}, file{Path: "empty"})
	got := r.get("/test/pool/a_1.deb")
	if got.StatusCode != 200 || got.body != data {
		t.Fatalf("%d, %d bytes", got.StatusCode, len(got.body))
	}
	sum := content.Sum([]byte(data))
	for name, want := range map[string]string{
		"Content-Length":         "3500",
		"Accept-Ranges":          "bytes",
		"Etag":                   `"` + sum.String() + `"`,
		"Last-Modified":          "Tue, 14 Nov 2023 22:13:20 GMT",
		"Content-Type":           "application/vnd.debian.binary-package",
		"Digest":                 "SHA-256=" + base64.StdEncoding.EncodeToString(sum[:]),
		"Repr-Digest":            "sha-256=:" + base64.StdEncoding.EncodeToString(sum[:]) + ":",
		"X-Content-Type-Options": "nosniff",
		"Cache-Control":          "public, max-age=86400",
		"Content-Encoding":       "",
		"Via":                    "", // apt turns ranges off for what looks like an old varnish
	} {
		if got := got.Header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if e := r.get("/test/empty"); e.StatusCode != 200 || e.body != "" || e.ContentLength != 0 {
		t.Errorf("empty file: %d %q", e.StatusCode, e.body)
	}
	if e := r.get("/test/empty", "Range: bytes=0-"); e.StatusCode != 200 {
		t.Errorf("range of an empty file: %d", e.StatusCode)
	}
}

// TestHead: mirror checkers ask for every file; the answer has the headers of GET and nobody is asked for bytes.
func TestHead(t *testing.T) {
	r := newRig(t, file{Path: "f", Data: someBytes(2500)})
	for _, headers := range [][]string{nil, {"Range: bytes=5-9"}, {"Range: bytes=5-9,20-30"}, {"Range: bytes=9999-"}} {
		get := r.get("/test/f", headers...)
		r.src.mu.Lock()
		r.src.asked = 0
		r.src.mu.Unlock()
		head := r.do("HEAD", "/test/f", headers...)
		for _, h := range []http.Header{get.Header, head.Header} {
			h.Del("Date")
			if t, p, _ := mime.ParseMediaType(h.Get("Content-Type")); t == "multipart/byteranges" {
				h.Set("Content-Type", fmt.Sprint(t, len(p["boundary"]))) // a boundary is used once
			}
		}
		if d := cmp.Diff(get.Header, head.Header); d != "" || get.StatusCode != head.StatusCode || head.body != "" {
			t.Errorf("%v: GET %d, HEAD %d %q\n%s", headers, get.StatusCode, head.StatusCode, head.body, d)
		}
		if r.src.asked != 0 {
			t.Errorf("HEAD read %d chunks", r.src.asked)
		}
	}
}

func TestConditions(t *testing.T) {
	r := newRig(t, file{Path: "f", Data: "hello"})
	etag := `"` + content.Sum([]byte("hello")).String() + `"`
	at := "Tue, 14 Nov 2023 22:13:20 GMT"
	before, after := "Tue, 14 Nov 2023 22:13:19 GMT", "Tue, 14 Nov 2023 22:13:21 GMT"
	cases := []struct {
		headers []string
		want    int
		body    string
	}{
		{[]string{"If-None-Match: " + etag}, 304, ""},
		{[]string{"If-None-Match: W/" + etag}, 304, ""},
		{[]string{`If-None-Match: "x", ` + etag}, 304, ""},
		{[]string{"If-None-Match: *"}, 304, ""},
		{[]string{`If-None-Match: "x"`}, 200, "hello"},
		{[]string{`If-None-Match: "x"`, "If-Modified-Since: " + after}, 200, "hello"}, // the ETag wins
		{[]string{"If-None-Match: " + etag, "If-Modified-Since: " + before}, 304, ""},
		{[]string{"If-Modified-Since: " + at}, 304, ""},
		{[]string{"If-Modified-Since: " + after}, 304, ""},
		{[]string{"If-Modified-Since: " + before}, 200, "hello"},
		{[]string{"If-Modified-Since: yesterday"}, 200, "hello"},
		{[]string{"If-Match: " + etag}, 200, "hello"},
		{[]string{`If-Match: "x"`}, 412, ""},
		{[]string{"If-Match: W/" + etag}, 412, ""}, // a weak tag is never strongly equal
		{[]string{"If-Unmodified-Since: " + before}, 412, ""},
		{[]string{"If-Unmodified-Since: " + at}, 200, "hello"},
		{[]string{"Range: bytes=1-2", "If-Range: " + etag}, 206, "el"},
		{[]string{"Range: bytes=1-2", `If-Range: "x"`}, 200, "hello"},
		{[]string{"Range: bytes=1-2", "If-Range: W/" + etag}, 200, "hello"},
		{[]string{"Range: bytes=1-2", "If-Range: " + at}, 206, "el"},
		{[]string{"Range: bytes=1-2", "If-Range: " + after}, 200, "hello"}, // exact equality, also for a later date
		{[]string{"Range: bytes=1-2", "If-Range: " + before}, 200, "hello"},
		{[]string{"Range: bytes=1-2", "If-None-Match: " + etag}, 304, ""},
		{[]string{"If-Range: " + etag}, 200, "hello"},
		{[]string{"Accept-Encoding: gzip", "Accept: */*,application/metalink4+xml,application/metalink+xml"}, 200, "hello"},
	}
	for _, x := range cases {
		got := r.get("/test/f", x.headers...)
		if got.StatusCode != x.want || x.want < 300 && got.body != x.body {
			t.Errorf("%q: %d %q, want %d %q", x.headers, got.StatusCode, got.body, x.want, x.body)
		}
		if got.StatusCode != 412 && (got.Header.Get("Etag") != etag || got.Header.Get("Last-Modified") != at) {
			t.Errorf("%q: validators %q %q", x.headers, got.Header.Get("Etag"), got.Header.Get("Last-Modified"))
		}
		if got.Header.Get("Content-Encoding") != "" {
			t.Errorf("%q: encoded", x.headers)
		}
	}
}

func TestSingleRange(t *testing.T) {
	data := someBytes(3500) // four chunks of 1,000 at most
	r := newRig(t, file{Path: "f", Data: data})
	for _, x := range []struct{ spec, want, span string }{
		{"bytes=0-", data, "0-3499"},
		{"bytes=999-1000", data[999:1001], "999-1000"},
		{"bytes=1000-1000", data[1000:1001], "1000-1000"},
		{"bytes=500-3200", data[500:3201], "500-3200"},
		{"bytes=3499-", data[3499:], "3499-3499"},
		{"bytes=3000-99999999999999999999999", data[3000:], "3000-3499"},
		{"bytes=-1", data[3499:], "3499-3499"},
		{"bytes=-99999", data, "0-3499"},
		{"BYTES = 5-5", data[5:6], "5-5"},
		{"bytes=9999-,5-5", data[5:6], "5-5"}, // what is behind the end is left out
		{"bytes=,5-5, ,", data[5:6], "5-5"},
	} {
		got := r.get("/test/f", "Range: "+x.spec)
		if got.StatusCode != 206 || got.body != x.want || got.Header.Get("Content-Range") != "bytes "+x.span+"/3500" {
			t.Errorf("%s: %d %q, %d bytes", x.spec, got.StatusCode, got.Header.Get("Content-Range"), len(got.body))
		}
		sum := content.Sum([]byte(data)) // of the whole file, not of the part, in both forms
		if d := got.Header.Get("Digest"); d != "SHA-256="+base64.StdEncoding.EncodeToString(sum[:]) {
			t.Errorf("%s: Digest %q", x.spec, d)
		}
		if d := got.Header.Get("Repr-Digest"); d != "sha-256=:"+base64.StdEncoding.EncodeToString(sum[:])+":" {
			t.Errorf("%s: Repr-Digest %q", x.spec, d)
		}
	}
	for _, spec := range []string{"bytes=3500-", "bytes=3500-4000", "bytes=-0", "bytes=9999-,-0", "bytes=99999999999999999999-"} {
		got := r.get("/test/f", "Range: "+spec)
		if got.StatusCode != 416 || got.Header.Get("Content-Range") != "bytes */3500" {
			t.Errorf("%s: %d %q", spec, got.StatusCode, got.Header.Get("Content-Range"))
		}
	}
	for _, spec := range []string{"bytes=5-4", "bytes=x-", "bytes=1", "bytes=", "bytes=-", "bytes=--1", "bytes=+1-2", "lines=1-2", "bytes=0-0,y", "bytes=0-,0-"} {
		if got := r.get("/test/f", "Range: "+spec); got.StatusCode != 200 || got.body != data {
			t.Errorf("%s: %d, %d bytes, want the whole file", spec, got.StatusCode, len(got.body))
		}
	}
	if got := r.get("/test/f", "Range: bytes=0-1", "Range: bytes=5-6"); got.StatusCode != 200 {
		t.Errorf("two Range headers: %d", got.StatusCode)
	}
}

func TestManyRanges(t *testing.T) {
	data := someBytes(3500)
	r := newRig(t, file{Path: "f.iso", Data: data})
	specs, want := []string{}, []string{}
	for i := range maxRanges { // not in order, as RFC 9110 allows
		from := (i * 1371) % 3499
		specs, want = append(specs, fmt.Sprintf("%d-%d", from, from)), append(want, data[from:from+1])
	}
	got := r.get("/test/f.iso", "Range: bytes="+strings.Join(specs, ", "))
	if !strings.HasPrefix(got.body, "\r\n--") {
		t.Errorf("zsync 0.6.2 asks for ever when the body begins with %q and not with an empty line", got.body[:4])
	}
	if got.StatusCode != 206 || int64(len(got.body)) != got.ContentLength || got.Header.Get("Content-Range") != "" {
		t.Errorf("%d, %d bytes, length %d", got.StatusCode, len(got.body), got.ContentLength)
	}
	kind, params, err := mime.ParseMediaType(got.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/byteranges" {
		t.Fatalf("%q, %v", kind, err)
	}
	parts := multipart.NewReader(strings.NewReader(got.body), params["boundary"])
	var bodies []string
	for i := 0; ; i++ {
		p, err := parts.NextPart()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(p)
		if err != nil {
			t.Fatal(err)
		}
		bodies = append(bodies, string(b))
		if span := "bytes " + specs[i] + "/3500"; p.Header.Get("Content-Range") != span || p.Header.Get("Content-Type") != octets {
			t.Errorf("part %d: %v, want %s", i, p.Header, span)
		}
	}
	if !slices.Equal(bodies, want) {
		t.Errorf("%d parts with other bytes", len(bodies))
	}
	if got := r.get("/test/f.iso", "Range: bytes="+strings.Join(append(specs, "7-7"), ",")); got.StatusCode != 200 || got.body != data {
		t.Errorf("%d ranges: %d", maxRanges+1, got.StatusCode)
	}
	if got := r.get("/test/f.iso", "Range: bytes=0-2000,1500-3499"); got.StatusCode != 200 || got.body != data {
		t.Errorf("ranges that add up to more than the file: %d", got.StatusCode)
	}
}

// TestSameEverywhere: a client that resumes at another gateway of the release finds the same validators and digests there.
func TestSameEverywhere(t *testing.T) {
	files := []file{{Path: "core.db", Data: someBytes(2500)}, {Path: "link", Target: "core.db"}}
	a, b := newRig(t, files...), newRig(t, files...)
	for _, path := range []string{"/test/core.db", "/test/link", "/test/", "/test/?json"} {
		x, y := a.do("HEAD", path), b.do("HEAD", path)
		x.Header.Del("Date")
		y.Header.Del("Date")
		if d := cmp.Diff(x.Header, y.Header); d != "" || x.StatusCode != 200 {
			t.Errorf("%s: %d\n%s", path, x.StatusCode, d)
		}
	}
	resumed := a.get("/test/core.db", "Range: bytes=0-999").body + b.get("/test/core.db", "Range: bytes=1000-").body
	if resumed != files[0].Data {
		t.Errorf("half from one gateway and half from the other are %d bytes of something else", len(resumed))
	}
}

// TestPipeline: ten requests at once on one connection are answered in order.
func TestPipeline(t *testing.T) {
	var files []file
	var asked strings.Builder
	for i := range 10 {
		files = append(files, file{Path: fmt.Sprintf("f%d", i), Data: someBytes(100 + 900*i)})
		fmt.Fprintf(&asked, "GET /test/f%d HTTP/1.1\r\nHost: x\r\n\r\n", i)
	}
	r := newRig(t, files...)
	conn, err := net.Dial("tcp", strings.TrimPrefix(r.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, asked.String()); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(conn)
	for i := range 10 {
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil || !bytes.Equal(body, []byte(files[i].Data)) {
			t.Fatalf("answer %d: %d bytes, %v", i, len(body), err)
		}
	}
}

func readAll(t testing.TB, resp *http.Response) string {
	t.Helper()
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}
