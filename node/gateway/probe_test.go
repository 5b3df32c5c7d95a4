package gateway

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"
	"unicode"

	"swarmnode/content"
)

// TestProbe asks a real gateway of the same release, and others behind which something is wrong.
func TestProbe(t *testing.T) {
	g, f, src := extras(t)
	f.publish(t, src, 9, file{Path: "many.iso", Data: strings.Repeat("0123456789", 777)}, file{Path: "a/"}, file{Path: "a/b/"}, file{Path: "a/b/c.deb", Data: "cd"}, file{Path: "a/empty"}, file{Path: "link", Target: "a"})
	here := *f.c
	status := func(body string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/-/status.json" {
				fmt.Fprint(w, body)
				return
			}
			g.ServeHTTP(w, r)
		}
	}
	entry := func(release int, more string) string {
		return fmt.Sprintf(`{"collections":[{"id":"x"},{"id":%q,"release":%d%s}]}`, testID, release, more)
	}
	other := httptest.NewServer(g)
	defer other.Close()
	file := func(h http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if strings.HasPrefix(r.URL.Path, "/test/") {
				h(w, r)
				return
			}
			g.ServeHTTP(w, r)
		}
	}
	cases := []struct {
		name    string
		handler http.HandlerFunc
		want    string // in the error; "" for none
	}{
		{"right", g.ServeHTTP, ""},
		{"as others write it", status(entry(9, `,"more":[1]`)), ""},
		{"another release", status(entry(8, "")), "serves release 8, here it is 9"},
		{"expired", status(entry(9, `,"expires":"2020-01-01T00:00:00Z"`)), "has expired"},
		{"not a time", status(entry(9, `,"expires":1`)), "its status"},
		{"without the collection", status(`{"collections":[{"id":"x","release":9}]}`), "does not have the collection"},
		{"not JSON", status("<html>"), "its status"},
		{"too much", status(strings.Repeat(" ", maxStatus+1)), "more than"},
		{"away", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "", http.StatusBadGateway) }, "502"},
		{"wrong bytes", file(func(w http.ResponseWriter, r *http.Request) { g.ServeHTTP(&flip{w, false}, r) }), "wrong bytes"},
		{"more bytes", file(func(w http.ResponseWriter, r *http.Request) { g.ServeHTTP(&longer{w}, r) }), "wrong bytes"},
		{"no ranges", file(func(w http.ResponseWriter, r *http.Request) { r.Header.Del("Range"); g.ServeHTTP(w, r) }), "answered with 200"},
		{"another range", file(func(w http.ResponseWriter, r *http.Request) { r.Header.Set("Range", "bytes=0-0"); g.ServeHTTP(w, r) }), "wrong bytes: Content-Range"},
		{"redirect elsewhere", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, other.URL+r.URL.Path, http.StatusFound)
		}, "not followed"},
		{"redirect for ever", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path+"/x", http.StatusFound) }, "not followed"},
		{"redirect here", func(w http.ResponseWriter, r *http.Request) {
			if path, ok := strings.CutPrefix(r.URL.Path, "/moved"); ok {
				r.URL.Path, r.URL.RawPath = path, ""
				g.ServeHTTP(w, r)
				return
			}
			http.Redirect(w, r, "/moved"+r.URL.EscapedPath(), http.StatusFound)
		}, ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			server := httptest.NewServer(c.handler)
			defer server.Close()
			p := newProber(true, time.Now)
			defer p.client.CloseIdleConnections()
			for seed := range uint64(8) {
				m, err := p.probe(t.Context(), server.URL+"/", &here, rand.New(rand.NewPCG(seed, 1)))
				if c.want == "" && (err != nil || m.URL != server.URL+"/" || m.Release != 9 || m.RTT <= 0 && seed == 0 || m.Checked.IsZero()) {
					t.Fatalf("seed %d: %+v, %v", seed, m, err)
				}
				if c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || m != Mirror{}) {
					t.Fatalf("seed %d: %+v, %v, want an error with %q", seed, m, err, c.want)
				}
			}
			if _, err := newProber(false, time.Now).probe(t.Context(), server.URL+"/", &here, rand.New(rand.NewPCG(1, 1))); err == nil || !strings.Contains(err.Error(), "not a public address") {
				t.Errorf("at a loopback address: %v", err)
			}
		})
	}
	localhost := strings.Replace(other.URL, "127.0.0.1", "localhost", 1) + "/"
	if _, err := newProber(false, time.Now).probe(t.Context(), localhost, &here, rand.New(rand.NewPCG(1, 1))); err == nil || !strings.Contains(err.Error(), "not a public address") {
		t.Errorf("at a name that means a loopback address: %v", err)
	}
}

// TestNarrow: of a chunk that is here only a sample is asked for, at a random place, and only that.
func TestNarrow(t *testing.T) {
	f, src := newFake(t)
	data := make([]byte, 100_000)
	rand.NewChaCha8([32]byte{3}).Read(data)
	whole := content.Chunk{Digest: content.Sum(data), Size: uint32(len(data))}
	ref := content.Ref{Segment: 5, Index: 7}
	src.keep(t, ref, data)
	f.publish(t, src, 1, file{Path: "x"})
	chunk := part{offset: 1000, size: uint64(whole.Size), digest: whole.Digest, ref: ref}
	places := map[uint64]bool{}
	for seed := range uint64(20) {
		p := chunk
		p.narrow(t.Context(), f.c, rand.New(rand.NewPCG(seed, 0)))
		if p.size != sampleSize || p.offset < 1000 || p.offset+p.size > 101_000 || p.digest != content.Sum(data[p.offset-1000:p.offset-1000+p.size]) {
			t.Fatalf("seed %d: %+v", seed, p)
		}
		places[p.offset] = true
	}
	if len(places) < 15 {
		t.Errorf("%d places of 20 samples", len(places))
	}
	small, away := chunk, chunk
	small.size, away.ref.Index = sampleSize, 8
	for _, p := range []part{small, away} {
		before := p
		if p.narrow(t.Context(), f.c, rand.New(rand.NewPCG(1, 1))); p != before {
			t.Errorf("%+v became %+v", before, p)
		}
	}
}

// flip turns a bit in the middle of a body.
type flip struct {
	http.ResponseWriter
	done bool
}

func (f *flip) Write(b []byte) (int, error) {
	if b = append([]byte(nil), b...); !f.done {
		f.done = true
		b[len(b)/2] ^= 1
	}
	return f.ResponseWriter.Write(b)
}

// longer sends a byte too many.
type longer struct{ http.ResponseWriter }

func (l *longer) WriteHeader(status int) {
	l.Header().Del("Content-Length")
	l.ResponseWriter.WriteHeader(status)
	l.ResponseWriter.Write([]byte("x"))
}

// TestPick: every chunk of every file comes up, and each is where the tree says.
func TestPick(t *testing.T) {
	f, src := newFake(t)
	data := map[string]string{"a/b/c.iso": strings.Repeat("0123456789", 345), "top.deb": "top"}
	rel := f.publish(t, src, 1, file{Path: "a/"}, file{Path: "a/b/"}, file{Path: "a/nothing/"}, file{Path: "a/empty"}, file{Path: "link", Target: "a"},
		file{Path: "a/b/c.iso", Data: data["a/b/c.iso"]}, file{Path: "top.deb", Data: data["top.deb"]})
	seen := map[part]int{}
	for seed := range uint64(200) {
		p, err := pick(rel, rand.New(rand.NewPCG(seed, 0)))
		if err != nil {
			t.Fatal(err)
		}
		seen[p]++
		if got := content.Sum([]byte(data[p.path][p.offset : p.offset+p.size])); got != p.digest || p.of != uint64(len(data[p.path])) {
			t.Fatalf("seed %d: %+v", seed, p)
		}
	}
	if len(seen) != 5 { // four chunks and one
		t.Errorf("picked %v", seen)
	}
	empty := f.publish(t, src, 2, file{Path: "d/"}, file{Path: "e"})
	if p, err := pick(empty, rand.New(rand.NewPCG(1, 1))); err != nil || p != (part{}) {
		t.Errorf("a release without bytes: %+v, %v", p, err)
	}
	delete(empty.Blocks.(blocks), empty.Manifest.Tree)
	if _, err := pick(empty, rand.New(rand.NewPCG(1, 1))); !errors.As(err, new(*content.Missing)) {
		t.Errorf("a tree that is not here: %v", err)
	}
}

func TestCleanGateway(t *testing.T) {
	for _, c := range [][2]string{
		{"http://a.example", "http://a.example/"}, {"https://A.Example:8443/x", "https://a.example:8443/x/"}, {"http://[2001:db8::1]:80/", "http://[2001:db8::1]:80/"},
		{"http://a.example/~b/c%20d/", "http://a.example/~b/c%20d/"},
		{"", ""}, {"ftp://a.example/", ""}, {"http://", ""}, {"http:///x", ""}, {"http://u:p@a.example/", ""}, {"http://a.example/?q", ""}, {"http://a.example/#f", ""},
		{"http://a\">b/", ""}, {"http://a.example/>;rel=x", ""}, {"http://a.example/\r\nX: y", ""}, {"http://a.example/a b", ""}, {"http://ä.example/", ""},
		{"http://a.example/$repo", ""}, {"http://" + strings.Repeat("a", maxGatewayURL), ""}, {"a.example", ""}, {"//a.example/", ""}, {"http://a.example/%zz", ""},
	} {
		if got, err := cleanGateway(c[0]); got != c[1] || (err != nil) != (c[1] == "") {
			t.Errorf("%q: %q, %v, want %q", c[0], got, err, c[1])
		}
	}
}

func FuzzCleanGateway(f *testing.F) {
	for _, s := range []string{"http://a.example", "https://[::1]:80/x%20y/", "http://a>b/", "http://a:b/", "http://%41/", "HTTP://a/../b//", "http://%80", "http://%c3%a4.example/"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		got, err := cleanGateway(raw)
		if err != nil {
			return
		}
		if again, err := cleanGateway(got); len(got) <= maxGatewayURL && (err != nil || again != got) {
			t.Fatalf("%q becomes %q, which becomes %q, %v", raw, got, again, err)
		}
		if !strings.HasSuffix(got, "/") || strings.ContainsAny(got, "<>\"$?#@;, ") || strings.ContainsFunc(got, unicode.IsControl) {
			t.Fatalf("%q becomes %q", raw, got)
		}
		if u, err := url.Parse(got); err != nil || u.Host == "" {
			t.Fatalf("%q becomes %q: %v", raw, got, err)
		}
	})
}

func FuzzDecodeStatus(f *testing.F) {
	g := New(Config{Catalogue: catalogues{{ID: testID, Name: "test", Fresh: time.Unix(testMtime, 0), Expires: time.Unix(testMtime, 0)}}})
	f.Add([]byte(statusJSON(g.cfg.Catalogue.Collections())))
	f.Add([]byte(`{"collections":[null,{"id":"` + testID.String() + `","release":18446744073709551615,"expires":"9999-12-31T23:59:59+23:59"}]}`))
	f.Add([]byte(`{"collections":[{"id":"` + testID.String() + `","release":-1}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if s, err := decodeStatus(raw, testID); err == nil && s.ID != testID.String() || err != nil && s != (gatewayStatus{}) {
			t.Fatalf("%q: %+v, %v", raw, s, err)
		}
	})
}

// TestDials: records that give many names to one machine bring it few connections.
func TestDials(t *testing.T) {
	var d dials
	now, ok := time.Now(), 0
	for i := range 100 {
		a := netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 15: byte(i)}) // all of one /64
		if d.allow(now, a) {
			ok++
		}
	}
	if ok != maxDials {
		t.Errorf("%d connections to one machine, want %d", ok, maxDials)
	}
	if !d.allow(now, netip.MustParseAddr("192.0.2.1")) || !d.allow(now.Add(checkEvery), netip.MustParseAddr("2001:db8::1")) {
		t.Error("another machine, or the same one later, is not asked")
	}
}
