package gateway

import (
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"swarmnode/content"
)

const ownURL = "https://gw.example/mirror/"

// extras is a gateway over a release with a file of each kind, which knows two other gateways of the release and one of an older one.
func extras(t *testing.T) (*Gateway, *fakeCatalogue, *fakeSource) {
	t.Helper()
	f, src := newFake(t)
	f.publish(t, src, 6, file{Path: "repodata/"}, file{Path: "repodata/repomd.xml", Data: "old", Mtime: testMtime - 100})
	f.publish(t, src, 7,
		file{Path: "big.iso", Data: strings.Repeat("0123456789", 250)},
		file{Path: "c:d +é&.deb", Data: "odd"},
		file{Path: "has.iso", Data: "the image"}, file{Path: "has.iso.sha256", Data: "published\n"},
		file{Path: "empty"}, file{Path: "latest.iso", Target: "big.iso"}, file{Path: "dir/"}, file{Path: "dir/x.deb", Data: "x"},
		file{Path: "repodata/"}, file{Path: "repodata/repomd.xml", Data: "newer"})
	f.c.Mirrors = func() []Mirror {
		return []Mirror{
			{URL: "http://near.example/", Release: 7, RTT: 4200 * time.Microsecond, Checked: time.Unix(testMtime, 0)},
			{URL: "http://old.example/", Release: 6, RTT: 5 * time.Millisecond, Checked: time.Unix(testMtime, 0)},
			{URL: "http://far.example:8080/m/", Release: 7, RTT: 90 * time.Millisecond, Checked: time.Unix(testMtime, 0)},
		}
	}
	g := New(Config{Catalogue: f, URL: ownURL})
	t.Cleanup(func() { g.Close() })
	return g, f, src
}

// ask sends one request to a gateway without a network.
func ask(t *testing.T, g *Gateway, method, target string, header ...string) (*http.Response, string) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, target, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	g.ServeHTTP(w, r)
	return w.Result(), w.Body.String()
}

func TestSum(t *testing.T) {
	g, f, _ := extras(t)
	iso := fmt.Sprintf("%x", sha256.Sum256([]byte(strings.Repeat("0123456789", 250))))
	res, body := ask(t, g, "GET", "/test/big.iso.sha256")
	if want := iso + "  big.iso\n"; res.StatusCode != 200 || body != want {
		t.Errorf("%d %q, want %q", res.StatusCode, body, want)
	}
	if got := res.Header.Get("Last-Modified"); got != "Tue, 14 Nov 2023 22:13:20 GMT" {
		t.Errorf("Last-Modified %q", got)
	}
	head, none := ask(t, g, "HEAD", "/test/big.iso.sha256")
	if head.Header.Get("Content-Length") != fmt.Sprint(len(body)) || none != "" {
		t.Errorf("HEAD: %v %q", head.Header, none)
	}
	if res, _ := ask(t, g, "GET", "/test/big.iso.sha256", "If-None-Match", `"x", W/`+head.Header.Get("ETag")); res.StatusCode != 304 {
		t.Errorf("If-None-Match: %d", res.StatusCode)
	}
	if _, body := ask(t, g, "GET", "/test/latest.iso.sha256"); body != iso+"  latest.iso\n" {
		t.Errorf("of a symlink: %q", body)
	}
	if _, body := ask(t, g, "GET", "/"+testID.String()+"/dir/x.deb.sha256"); !strings.HasSuffix(body, "  x.deb\n") {
		t.Errorf("in a directory, by ID: %q", body)
	}
	if _, body := ask(t, g, "GET", "/test/has.iso.sha256"); body != "published\n" {
		t.Errorf("the tree's own: %q", body)
	}
	if _, body := ask(t, g, "GET", "/test/has.iso.sha256?x=1"); body != "published\n" {
		t.Errorf("the tree's own, with a query: %q", body)
	}
	for _, path := range []string{"dir.sha256", "none.sha256", ".sha256", "dir/.torrent", "big.iso.md5", "empty.torrent", "big.iso.sha256.sha256"} {
		if res, _ := ask(t, g, "GET", "/test/"+path); res.StatusCode != 404 {
			t.Errorf("%s: %d, want 404", path, res.StatusCode)
		}
	}
	f.c.Expires = time.Now().Add(-time.Second)
	if res, body := ask(t, g, "GET", "/test/repodata/repomd.xml.sha256"); res.StatusCode != 503 || res.Header.Get("Retry-After") == "" {
		t.Errorf("of a mutable file after expiry: %d %q", res.StatusCode, body)
	}
	if res, _ := ask(t, g, "GET", "/test/big.iso.sha256"); res.StatusCode != 200 {
		t.Errorf("of an image after expiry: %d", res.StatusCode)
	}
}

// TestMetalinks compares with documents that were read with care and, with SWARMNODE_E2E, given to aria2 and librepo.
func TestMetalinks(t *testing.T) {
	g, f, _ := extras(t)
	cases := []struct{ target, golden, kind string }{
		{"/test/big.iso.meta4", "big.iso.meta4", "application/metalink4+xml"},
		{"/test/big.iso?meta4", "big.iso.meta4", "application/metalink4+xml"},
		{"/test/c:d%20+%C3%A9&.deb?meta4", "odd.meta4", "application/metalink4+xml"},
		{"/test/repodata/repomd.xml.metalink", "repomd.metalink", "application/metalink+xml"},
		{"/test/repodata/repomd.xml?metalink", "repomd.metalink", "application/metalink+xml"},
	}
	for _, c := range cases {
		res, body := ask(t, g, "GET", c.target)
		want, err := os.ReadFile(filepath.Join("testdata", c.golden))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), body); diff != "" || res.StatusCode != 200 {
			t.Errorf("%s: %d, -want +got:\n%s", c.target, res.StatusCode, diff)
		}
		if got := res.Header.Get("Content-Type"); got != c.kind {
			t.Errorf("%s: %s", c.target, got)
		}
	}
	g.cfg.URL, f.c.Mirrors = "", func() []Mirror { return nil } // and the test's requests come over no connection
	if _, body := ask(t, g, "GET", "/test/c:d%20+%C3%A9&.deb.meta4"); !strings.Contains(body, `<url priority="1">./c:d%20+%C3%A9&amp;.deb</url>`) {
		t.Errorf("without any address:\n%s", body)
	}
	if _, body := ask(t, g, "GET", "/test/repodata/repomd.xml?metalink"); !strings.Contains(body, `<url preference="100">./repomd.xml</url>`) {
		t.Errorf("without any address:\n%s", body)
	}
}

// TestMetalinkPieces: where chunks have different sizes the pieces are those of the torrent, once that was computed.
func TestMetalinkPieces(t *testing.T) {
	g, f, src := extras(t)
	data := strings.Repeat("x", 2300) // two of three chunks are of files before, and cut at other places
	f.publish(t, src, 8, file{Path: "big.iso", Data: data})
	o, err := g.find(f.c.Served, "big.iso")
	if err != nil {
		t.Fatal(err)
	}
	e := o.entry
	e.Runs = slices.Clone(e.Runs)
	slices.Reverse(e.Runs)
	pieces := func(e content.Entry) *meta4Pieces {
		var m meta4
		if err := xml.Unmarshal(g.metalink4(f.c, f.c.Served, e, "big.iso", nil), &m); err != nil {
			t.Fatal(err)
		}
		return m.File.Pieces
	}
	if p := pieces(e); p == nil || p.Type != "sha-256" || p.Length != chunkSize || len(p.Hashes) != 3 {
		t.Fatalf("chunks of one size: %+v", p)
	}
	last := e.Runs[0].First + 2
	e.Path, e.Runs = "other", []content.Run{{Segment: e.Runs[0].Segment, First: last, Count: 1}, {Segment: e.Runs[0].Segment, First: last - 2, Count: 2}}
	if p := pieces(e); p != nil {
		t.Fatalf("chunks of 300, 1000 and 1000 bytes: %+v", p)
	}
	hashes, _, err := g.pieces.get(t.Context(), f.c, f.c.Served, e)
	if err != nil {
		t.Fatal(err)
	}
	if p := pieces(e); p == nil || p.Type != "sha-1" || p.Length != minPiece || !slices.Equal(p.Hashes, []string{fmt.Sprintf("%x", hashes)}) {
		t.Fatalf("after the torrent: %+v", p)
	}
}

// bdecode reads bencoding in the dumbest way, for the tests alone: strings, int64, []any, map[string]any.
func bdecode(t *testing.T, s string) (any, string) {
	t.Helper()
	switch s[0] {
	case 'i':
		end := strings.IndexByte(s, 'e')
		n, err := strconv.ParseInt(s[1:end], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n, s[end+1:]
	case 'l', 'd':
		var list []any
		kind, s := s[0], s[1:]
		for s[0] != 'e' {
			var v any
			v, s = bdecode(t, s)
			list = append(list, v)
		}
		if kind == 'l' {
			return list, s[1:]
		}
		m := map[string]any{}
		for i := 0; i < len(list); i += 2 {
			if i > 0 && list[i-2].(string) >= list[i].(string) {
				t.Fatalf("keys out of order: %q, %q", list[i-2], list[i])
			}
			m[list[i].(string)] = list[i+1]
		}
		return m, s[1:]
	}
	size, rest, _ := strings.Cut(s, ":")
	n, err := strconv.Atoi(size)
	if err != nil {
		t.Fatal(err)
	}
	return rest[:n], rest[n:]
}

func TestTorrent(t *testing.T) {
	g, f, src := extras(t)
	data := strings.Repeat("0123456789abcdef", 40000) // 640,000 bytes: three pieces
	f.publish(t, src, 7, file{Path: "a b.iso", Data: data})
	head, none := ask(t, g, "HEAD", "/test/a%20b.iso.torrent")
	if reads(src) != 0 || head.StatusCode != 200 || none != "" {
		t.Errorf("HEAD: %d, %d chunks were read", head.StatusCode, reads(src))
	}
	res, body := ask(t, g, "GET", "/test/a%20b.iso.torrent")
	if got := head.Header.Get("Content-Length"); got != fmt.Sprint(len(body)) {
		t.Errorf("HEAD says %s bytes, there are %d", got, len(body))
	}
	if res.StatusCode != 200 || res.Header.Get("Content-Type") != "application/x-bittorrent" {
		t.Fatalf("%d %v %q", res.StatusCode, res.Header, body)
	}
	if got := res.Header.Get("Content-Disposition"); got != "attachment; filename*=UTF-8''a%20b.iso.torrent" {
		t.Error(got)
	}
	got, rest := bdecode(t, body)
	var pieces []byte
	for p := range slices.Chunk([]byte(data), minPiece) {
		sum := sha1.Sum(p)
		pieces = append(pieces, sum[:]...)
	}
	want := map[string]any{
		"created by": "swarmnode", "creation date": int64(testMtime),
		"info":     map[string]any{"name": "a b.iso", "length": int64(640000), "piece length": int64(minPiece), "pieces": string(pieces)},
		"url-list": []any{ownURL + "test/a%20b.iso", "http://near.example/test/a%20b.iso", "http://far.example:8080/m/test/a%20b.iso"},
	}
	if diff := cmp.Diff(want, got); diff != "" || rest != "" {
		t.Errorf("-want +got:\n%s\nbehind it: %q", diff, rest)
	}
	asked := reads(src)
	if _, again := ask(t, g, "GET", "/test/a%20b.iso.torrent"); again != body || reads(src) != asked {
		t.Errorf("asked again the file was read again: %d chunks, were %d", reads(src), asked)
	}
}

func TestTorrentMissing(t *testing.T) {
	g, f, src := extras(t)
	o, err := g.find(f.c.Served, "big.iso")
	if err != nil {
		t.Fatal(err)
	}
	ref := content.Ref{Segment: o.entry.Runs[0].Segment, Index: o.entry.Runs[0].First + 1}
	src.missing[ref] = true
	res, body := ask(t, g, "GET", "/test/big.iso.torrent")
	if res.StatusCode != 503 || res.Header.Get("Retry-After") == "" {
		t.Errorf("a chunk is missing: %d %q", res.StatusCode, body)
	}
	if src.ahead[hashReader] != nil {
		t.Error("the hint to the source was not taken back")
	}
	g.pieces.fetched, src.asked = 10, 0
	if res, body := ask(t, g, "GET", "/test/big.iso.torrent"); res.StatusCode != 503 || !strings.Contains(body, "Download the file itself") || src.asked != 0 {
		t.Errorf("more is missing than is fetched for a torrent: %d %q, %d chunks were asked for", res.StatusCode, body, src.asked)
	}
	delete(src.missing, ref)
	if res, _ := ask(t, g, "GET", "/test/big.iso.torrent"); res.StatusCode != 200 {
		t.Errorf("it is there again: %d", res.StatusCode)
	}
	g.cfg.URL, f.c.Mirrors = "", func() []Mirror { return nil }
	if res, body := ask(t, g, "GET", "/test/big.iso.torrent"); res.StatusCode != 503 || !strings.Contains(body, "--gateway-url") {
		t.Errorf("without an address: %d %q", res.StatusCode, body)
	}
	g.Close()
	if _, _, err := g.pieces.get(t.Context(), f.c, f.c.Served, content.Entry{}); !errors.Is(err, errMany) {
		t.Errorf("after Close: %v", err)
	}
}

// pausingSource takes a while for each chunk.
type pausingSource struct {
	*fakeSource
	pause time.Duration
}

func (s pausingSource) Chunk(ctx context.Context, r *Release, ref content.Ref, buf []byte) ([]byte, error) {
	select {
	case <-time.After(s.pause):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return s.fakeSource.Chunk(ctx, r, ref, buf)
}

// TestTorrentSlow: a request waits a few seconds, then it is told when to come again; the work goes on until nobody has come for
// a while.
func TestTorrentSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, f, src := extras(t)
		f.publish(t, src, 8, file{Path: "slow.iso", Data: strings.Repeat("z", 12*chunkSize)}, file{Path: "never.iso", Data: strings.Repeat("y", 1000*chunkSize)})
		f.c.Source = pausingSource{src, 1100 * time.Millisecond}
		begun := time.Now()
		res, body := ask(t, g, "GET", "/test/slow.iso.torrent")
		if res.StatusCode != 503 || res.Header.Get("Retry-After") != "11" || time.Since(begun) != hashPatience {
			t.Fatalf("%d %q after %v: %s", res.StatusCode, res.Header.Get("Retry-After"), time.Since(begun), body)
		}
		time.Sleep(11 * time.Second)
		if res, body := ask(t, g, "GET", "/test/slow.iso.torrent"); res.StatusCode != 200 || time.Since(begun) > 17*time.Second {
			t.Fatalf("%d after %v: %s", res.StatusCode, time.Since(begun), body)
		}
		if res, _ := ask(t, g, "GET", "/test/never.iso.torrent"); res.Header.Get("Retry-After") != "60" {
			t.Fatalf("a long one: %v", res.Header)
		}
		before := reads(src)
		time.Sleep(hashIdle - hashPatience - time.Second)
		if n := reads(src) - before; n == 0 || jobs(g) != 1 {
			t.Fatalf("the work does not go on: %d chunks read, %d jobs", n, jobs(g))
		}
		time.Sleep(10 * time.Second)
		before = reads(src)
		time.Sleep(time.Minute)
		if n := reads(src) - before; n != 0 || jobs(g) != 0 {
			t.Fatalf("nobody asks any more: %d chunks read since, %d jobs", n, jobs(g))
		}
	})
}

// reads is how often a chunk was asked for.
func reads(src *fakeSource) int {
	src.mu.Lock()
	defer src.mu.Unlock()
	return src.asked
}

// jobs is how many files are being hashed, or wait for it.
func jobs(g *Gateway) int {
	g.pieces.mu.Lock()
	defer g.pieces.mu.Unlock()
	return len(g.pieces.jobs)
}

// TestTorrentMany: no more than maxHashing files wait, and Close ends them all.
func TestTorrentMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, f, src := extras(t)
		var files []file
		for i := range maxHashing + 1 {
			files = append(files, file{Path: fmt.Sprintf("f%02d", i), Data: fmt.Sprint("data", i)})
		}
		f.publish(t, src, 8, files...)
		f.c.Source = pausingSource{src, time.Hour}
		for i, x := range files {
			go func() {
				want := "as many torrents"
				if i < maxHashing {
					want = "being computed"
				}
				if res, body := ask(t, g, "GET", "/test/"+x.Path+".torrent"); res.StatusCode != 503 || !strings.Contains(body, want) {
					t.Errorf("%s: %d %q, want %q", x.Path, res.StatusCode, body, want)
				}
			}()
			synctest.Wait()
		}
		time.Sleep(hashPatience)
		synctest.Wait() // all are answered
		g.Close()
	})
}

func TestPieceLength(t *testing.T) {
	for _, c := range []struct{ size, want uint64 }{
		{0, 256 << 10}, {1, 256 << 10}, {256 << 20, 256 << 10}, {300 << 20, 512 << 10}, {700 << 20, 1 << 20}, {4700 << 20, 8 << 20}, {1 << 40, 16 << 20},
	} {
		if got := pieceLength(c.size); got != c.want {
			t.Errorf("%d bytes: %d, want %d", c.size, got, c.want)
		}
	}
}

func TestMirrorlist(t *testing.T) {
	g, f, _ := extras(t)
	text := "https://gw.example/mirror/test/\tpriority:1\nhttp://near.example/test/\tpriority:2\nhttp://far.example:8080/m/test/\tpriority:3\n"
	plain := "https://gw.example/mirror/test/\nhttp://near.example/test/\nhttp://far.example:8080/m/test/\n"
	below := strings.ReplaceAll(plain, "/test/", "/test/repodata/")
	pacman := "Server = https://gw.example/mirror/test/$repo/os/$arch\nServer = http://near.example/test/$repo/os/$arch\nServer = http://far.example:8080/m/test/$repo/os/$arch\n"
	for _, c := range []struct{ target, accept, want string }{
		{"/test/?mirrorlist", "", text}, {"/-/test/mirrorlist", "", text}, {"/-/test/mirrorlist", "text/*", text},
		{"/test/?mirrorlist=plain", "application/json", plain}, {"/test/repodata/?mirrorlist=plain", "", below}, {"/-/test/mirrorlist/repodata?mirrorlist=plain", "", below},
		{"/-/test/mirrorlist/repodata/?mirrorlist=plain", "", below}, {"/test/?mirrorlist=pacman", "", pacman},
	} {
		res, body := ask(t, g, "GET", c.target, "Accept", c.accept)
		if diff := cmp.Diff(c.want, body); diff != "" || res.StatusCode != 200 {
			t.Errorf("%s: %d, -want +got:\n%s", c.target, res.StatusCode, diff)
		}
	}
	want := []listedMirror{
		{URL: "https://gw.example/mirror/test/", Priority: 1, Release: 7},
		{URL: "http://near.example/test/", Priority: 2, Release: 7, RTTms: 4.2, Checked: "2023-11-14T22:13:20Z"},
		{URL: "http://far.example:8080/m/test/", Priority: 3, Release: 7, RTTms: 90, Checked: "2023-11-14T22:13:20Z"},
	}
	for _, c := range [][2]string{{"/test/?mirrorlist=json", ""}, {"/test/?mirrorlist", "application/json"}, {"/-/test/mirrorlist", "application/json, */*"}} {
		var got []listedMirror
		_, body := ask(t, g, "GET", c[0], "Accept", c[1])
		if err := json.Unmarshal([]byte(body), &got); err != nil || body[0] != '[' { // newer zyppers know JSON by its first character
			t.Fatalf("%s: %v %q", c, err, body)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: -want +got:\n%s", c, diff)
		}
	}
	for _, target := range []string{"/test/nothing/?mirrorlist", "/-/test/mirrorlist/nothing", "/-/test/mirrorlist/big.iso", "/-/none/mirrorlist"} {
		if res, _ := ask(t, g, "GET", target); res.StatusCode != 404 {
			t.Errorf("%s: %d", target, res.StatusCode)
		}
	}
	for _, agent := range []string{"ZYpp 17.25.7 (curl 7.88.1) ", "libdnf (Debian GNU/Linux 12; generic; Linux.x86_64)", "Debian APT-HTTP/1.3 (2.6.1)", ""} {
		want := plain
		if agent == "" || strings.Contains(agent, "APT") {
			want = text
		}
		if res, body := ask(t, g, "GET", "/-/test/mirrorlist", "User-Agent", agent, "Accept", "*/*"); body != want || !strings.Contains(res.Header.Get("Vary"), "User-Agent") {
			t.Errorf("%q gets %q, want %q; %v", agent, body, want, res.Header)
		}
	}
	long := strings.Repeat("x", maxGatewayURL-8)
	f.c.Mirrors = func() []Mirror {
		return slices.Repeat([]Mirror{{URL: "http://" + long + "/", Release: 7}}, 100_000)
	}
	for _, form := range []string{"", "=json", "=plain", "=pacman"} {
		if _, body := ask(t, g, "GET", "/test/?mirrorlist"+form); len(body) > 1<<20 || strings.Count(body, "xxx/test/") < 2000 {
			t.Errorf("%q: a list of %d bytes, %d mirrors; apt takes 1 MiB", form, len(body), strings.Count(body, "xxx/test/"))
		}
	}
}

func TestMirrorlistRefused(t *testing.T) {
	g, f, _ := extras(t)
	refused := func(what, sentence string) {
		t.Helper()
		res, body := ask(t, g, "GET", "/test/?mirrorlist")
		if res.StatusCode != 503 || res.Header.Get("Retry-After") == "" || !strings.Contains(body, sentence) {
			t.Errorf("%s: %d %q, want %q", what, res.StatusCode, body, sentence)
		}
	}
	g.cfg.URL, f.c.Mirrors = "", func() []Mirror { return nil }
	refused("no address", "--gateway-url")
	g.cfg.URL, f.c.Expires = ownURL, time.Now().Add(-time.Second)
	refused("expired", "out of date")
	f.c.Served = nil
	refused("nothing yet", "on its way")
}

// TestSameName: two collections of one name are told apart by their IDs.
func TestSameName(t *testing.T) {
	g, f, _ := extras(t)
	other := *f.c
	other.ID = content.NewID([]byte("another one"))
	g.cfg.Catalogue = catalogues{f.c, &other}
	if _, body := ask(t, g, "GET", "/"+testID.String()+"/?mirrorlist=plain"); !strings.HasPrefix(body, ownURL+testID.String()+"/\nhttp://near.example/"+testID.String()+"/\n") {
		t.Errorf("got %q", body)
	}
}

type catalogues []*Collection

func (c catalogues) Collections() []*Collection { return c }

func TestLinks(t *testing.T) {
	g, f, src := extras(t)
	f.publish(t, src, 7, file{Path: "d/a:b.iso", Data: strings.Repeat("x", linksFrom)}, file{Path: "d/"}, file{Path: "d/small.iso", Data: strings.Repeat("x", linksFrom-1)})
	res, _ := ask(t, g, "HEAD", "/test/d/a:b.iso")
	want := []string{`<./a:b.iso.meta4>; rel=describedby; type="application/metalink4+xml"`,
		`<http://near.example/test/d/a:b.iso>; rel=duplicate; pri=1`, `<http://far.example:8080/m/test/d/a:b.iso>; rel=duplicate; pri=2`}
	if diff := cmp.Diff(want, res.Header.Values("Link")); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if res, _ := ask(t, g, "HEAD", "/test/d/small.iso"); len(res.Header.Values("Link")) > 0 {
		t.Errorf("a small file: %q", res.Header.Values("Link"))
	}
	f.c.Mirrors = func() []Mirror { return slices.Repeat([]Mirror{{URL: "http://near.example/", Release: 7}}, 100) }
	if res, _ := ask(t, g, "HEAD", "/test/d/a:b.iso"); len(res.Header.Values("Link")) != linkHeaders {
		t.Errorf("100 mirrors: %d links", len(res.Header.Values("Link")))
	}
}

// TestOwnAddress: a gateway that was not told its URL names the address of the connection, never the Host header's.
func TestOwnAddress(t *testing.T) {
	for _, c := range []struct{ local, remote, want string }{
		{"127.0.0.1:8080", "127.0.0.1:50000", "http://127.0.0.1:8080/"},
		{"192.168.1.2:8080", "192.168.1.77:50000", "http://192.168.1.2:8080/"},
		{"192.168.1.2:8080", "93.184.216.34:50000", ""}, // translated on the way
		{"93.184.216.34:80", "192.0.2.1:50000", "http://93.184.216.34:80/"},
		{"[2001:db8::1]:8080", "[2001:db8::2]:50000", "http://[2001:db8::1]:8080/"},
		{"[::ffff:127.0.0.1]:8080", "[::ffff:127.0.0.1]:50000", "http://127.0.0.1:8080/"},
		{"[fe80::1%eth0]:8080", "[fe80::2%eth0]:50000", ""}, // means nothing without its zone
	} {
		local, err := net.ResolveTCPAddr("tcp", c.local)
		if err != nil {
			local = &net.TCPAddr{IP: net.ParseIP("fe80::1"), Port: 8080, Zone: "eth0"}
		}
		r := httptest.NewRequestWithContext(context.WithValue(t.Context(), http.LocalAddrContextKey, local), "GET", "http://evil.example/test/", nil)
		r.RemoteAddr = c.remote
		if got := New(Config{}).here(r); got != c.want {
			t.Errorf("%s, asked from %s: %q, want %q", c.local, c.remote, got, c.want)
		}
	}
}

func TestOverConnection(t *testing.T) {
	g, f, _ := extras(t)
	g.cfg.URL, f.c.Mirrors = "", func() []Mirror { return nil }
	server := httptest.NewServer(g)
	defer server.Close()
	r, err := http.NewRequestWithContext(t.Context(), "GET", server.URL+"/test/?mirrorlist=plain", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = "evil.example"
	res, err := server.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if body, err := io.ReadAll(res.Body); err != nil || string(body) != server.URL+"/test/\n" {
		t.Errorf("%q, %v, want the URL of the server, %s", body, err, server.URL)
	}
}

// BenchmarkPieces is what a torrent costs beside reading the file.
func BenchmarkPieces(b *testing.B) {
	data := make([]byte, content.MaxChunkSize)
	b.SetBytes(int64(len(data)))
	p := piecer{length: 4 << 20, hash: sha1.New()}
	for b.Loop() {
		p.write(data)
	}
}
