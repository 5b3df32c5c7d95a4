package gateway

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dustin/go-humanize"

	"swarmnode/content"
)

// oddNames are file names that simple listings get wrong.
var oddNames = []string{".hidden", "a b", "a:b", "g++", "100%", "<script>alert(1)<b>", `"quoted'`, "ü", "#x?y=z&w", "javascript:alert(1)", `back\slash`, "...", "a;b"}

var hrefs = regexp.MustCompile(`href="([^"]*)"`)

// TestListing walks a tree as wget --mirror does: every file is found through relative links, and nothing leads elsewhere.
func TestListing(t *testing.T) {
	files := []file{{Path: "sub dir/"}, {Path: "sub dir/deep/"}, {Path: "sub dir/deep/file", Data: "deep"}, {Path: "empty/"},
		{Path: "link", Target: "g++"}, {Path: "dirlink", Target: "sub dir"}, {Path: "dangling", Target: "nothing"}, {Path: "big.iso", Data: someBytes(5000)}}
	for _, n := range oddNames {
		files = append(files, file{Path: n, Data: "data of " + n})
	}
	r := newRig(t, files...)
	got := map[string]string{}
	seen := map[string]bool{}
	var walk func(at string)
	walk = func(at string) {
		if seen[at] {
			return
		}
		seen[at] = true
		page := r.get(at)
		if page.StatusCode != 200 {
			t.Fatalf("%s: %d", at, page.StatusCode)
		}
		if !strings.HasSuffix(at, "/") {
			got[at] = page.body
			return
		}
		base, err := url.Parse(r.url + at)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range hrefs.FindAllStringSubmatch(page.body, -1) {
			to, err := base.Parse(m[1])
			if err != nil || to.Host != base.Host || strings.Contains(m[1], "&") {
				t.Fatalf("%s links to %q", at, m[1])
			}
			if strings.HasPrefix(to.EscapedPath(), "/test/") && to.RawQuery == "" { // wget -np
				walk(to.EscapedPath())
			}
		}
	}
	walk("/test/")
	want := map[string]string{"/test/sub%20dir/deep/file": "deep", "/test/dirlink/deep/file": "deep", "/test/link": "data of g++", "/test/big.iso": someBytes(5000)}
	for _, n := range oddNames {
		want["/test/"+escapeName(n)] = "data of " + n
	}
	for path, data := range want {
		if got[path] != data {
			t.Errorf("%s: the walk gave %d bytes, want %d", path, len(got[path]), len(data))
		}
	}
	if len(got) != len(want) {
		t.Errorf("the walk gave %d files, want %d", len(got), len(want))
	}
	page := r.get("/test/")
	if strings.Contains(page.body, "<script") || !strings.Contains(page.body, "dangling (a symlink") {
		t.Error(page.body)
	}
	row := `<tr><td><a href="big.iso">big.iso</a></td> <td>2023-11-14 22:13</td> <td title="5000 bytes">4.9K</td></tr>`
	if !strings.Contains(page.body, row) {
		t.Errorf("no row %s in %s", row, page.body)
	}
	csp := page.Header.Get("Content-Security-Policy")
	if !strings.HasPrefix(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") || page.Header.Get("Content-Type") != html {
		t.Errorf("%v", page.Header)
	}
	if !strings.Contains(page.body, "<style>"+style+"</style>") {
		t.Error("the style in the page is not the one whose hash the policy has")
	}
	if regexp.MustCompile(`https?://|//`).MatchString(page.body) {
		t.Error("the page has an address of its own or of others")
	}
}

func TestListingJSON(t *testing.T) {
	r := newRig(t, file{Path: "d/"}, file{Path: "f<", Data: "data"}, file{Path: "l", Target: "d"})
	var got struct {
		Collection, Path string
		Release          uint64
		Entries          []struct {
			Name, Type, SHA256, Target string
			Size                       uint64
			Mtime                      time.Time
		}
	}
	page := r.get("/test/?json")
	if err := json.Unmarshal([]byte(page.body), &got); err != nil || page.Header.Get("Content-Type") != "application/json" {
		t.Fatal(err, page.Header)
	}
	if got.Collection != "test" || got.Path != "/" || got.Release != 1 || len(got.Entries) != 3 {
		t.Fatalf("%+v", got)
	}
	if e := got.Entries[1]; e.Name != "f<" || e.Type != "file" || e.Size != 4 || e.SHA256 != content.Sum([]byte("data")).String() || e.Mtime.Unix() != testMtime {
		t.Errorf("%+v", e)
	}
	if d, l := got.Entries[0], got.Entries[2]; d.Type != "directory" || l.Type != "directory" || l.Target != "d" {
		t.Errorf("%+v %+v", d, l)
	}
}

// TestListingChanges: a page is the same at all gateways of a release, can be asked for conditionally, and is another one after a switch.
func TestListingChanges(t *testing.T) {
	r := newRig(t, file{Path: "a", Data: "a"})
	first := r.get("/test/")
	again := r.get("/test/", "If-None-Match: "+first.Header.Get("Etag"))
	if again.StatusCode != http.StatusNotModified {
		t.Errorf("%d %v", again.StatusCode, again.Header)
	}
	// wget --mirror asks by the time that it was told, and goes no deeper on 304.
	if got := r.get("/test/", "If-Modified-Since: Fri, 01 Jan 2100 00:00:00 GMT"); got.StatusCode != 200 || got.Header.Get("Last-Modified") != "" {
		t.Errorf("a listing by time: %d %v", got.StatusCode, got.Header)
	}
	if got := r.do("HEAD", "/test/"); got.ContentLength != int64(len(first.body)) || got.body != "" {
		t.Errorf("HEAD: %d bytes, want %d", got.ContentLength, len(first.body))
	}
	other := New(Config{Catalogue: r.cat})
	r.g.pages = other.pages // a gateway that has rendered nothing yet
	if got := r.get("/test/"); got.body != first.body || got.Header.Get("Etag") != first.Header.Get("Etag") {
		t.Error("another gateway renders another page")
	}
	r.cat.publish(t, r.src, 2, file{Path: "b", Data: "b"})
	if got := r.get("/test/", "If-None-Match: "+first.Header.Get("Etag")); got.StatusCode != 200 || !strings.Contains(got.body, `href="b"`) || strings.Contains(got.body, `href="a"`) {
		t.Errorf("%d %s", got.StatusCode, got.body)
	}
}

func TestFront(t *testing.T) {
	r := newRig(t, file{Path: "a", Data: "a"})
	c := r.cat.c
	c.Fresh = time.Now().Add(-3 * time.Minute)
	for _, x := range []struct {
		change func()
		says   string
	}{
		{func() {}, "Current."},
		{func() { c.Fresh = time.Now().Add(-silence - 3*time.Minute) }, "has not confirmed this since then: there may be a newer release"},
		{func() { c.Newest = 2 }, "A newer release is being fetched."},
		{func() { c.Expires = time.Now().Add(-time.Hour) }, "signature has ended"},
	} {
		x.change()
		got := r.get("/")
		ago := humanize.Time(c.Fresh)
		if got.StatusCode != 200 || !strings.Contains(got.body, x.says) || !strings.Contains(got.body, ago) || !strings.Contains(got.body, `href="test/"`) {
			t.Errorf("want %q: %d %s", x.says, got.StatusCode, got.body)
		}
	}
	if got := r.get("/", "Host: evil.example"); strings.Contains(got.body, "evil.example") {
		t.Error("the Host header is in the page")
	}
	r.g.cfg.Catalogue = fixed{}
	if got := r.get("/"); got.StatusCode != 200 || !strings.Contains(got.body, "Nothing yet") {
		t.Errorf("%d %s", got.StatusCode, got.body)
	}
}

func TestShortSize(t *testing.T) {
	for n, want := range map[uint64]string{0: "0", 999: "999", 1000: "1.0K", 1024: "1.0K", 5000: "4.9K", 10188: "9.9K", 10200: "10K", 999 << 10: "999K", 1000 << 10: "1.0M",
		3994091520: "3.7G", 1 << 63: "8.0E", 1<<64 - 1: "16E"} {
		if got := shortSize(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}

// TestTypes: a browser saves what it cannot know, and no compressed file looks like an encoding of another one.
func TestTypes(t *testing.T) {
	for name, want := range map[string]string{
		"x.iso": octets, "x.img": octets, "x": octets, "x.unknown": octets, "core.db": octets, "a.deb": "application/vnd.debian.binary-package", "a.rpm": "application/x-rpm",
		"Packages.gz": "application/gzip", "Packages.xz": "application/x-xz", "a.pkg.tar.zst": "application/zstd", "x.ISO": octets, "Release": plain, "InRelease": plain,
		"Release.gpg": octets, "a.sig": "application/pgp-signature", "a.asc": plain, "a.torrent": "application/x-bittorrent", "a.meta4": "application/metalink4+xml",
		"a.metalink": "application/metalink+xml", "a.zsync": "application/x-zsync", "SHA256SUMS": plain, "index.html": html, "repomd.xml": "application/xml", "a.tar.gz/x": octets,
	} {
		if got := mediaType("d/"+name, "d/"+name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	if got := mediaType("by-hash/SHA256/00", "Packages.xz"); got != "application/x-xz" {
		t.Errorf("by-hash: %s", got)
	}
	r := newRig(t, file{Path: "a.html", Data: "<script>"}, file{Path: "a.svg", Data: "<svg/>"}, file{Path: "a.meta4"}, file{Path: "a.metalink"}, file{Path: "a.txt", Data: "x"})
	for path, want := range map[string]string{"a.html": "sandbox", "a.svg": "sandbox", "a.meta4": "sandbox", "a.metalink": "sandbox", "a.txt": ""} {
		if got := r.get("/test/" + path).Header.Get("Content-Security-Policy"); got != want {
			t.Errorf("%s: policy %q", path, got)
		}
	}
}

// TestRecent: the heaviest use of memory is bounded, and what was used last stays.
func TestRecent(t *testing.T) {
	c := newRecent[int, string](80)
	for i := range 100 {
		c.put(i, fmt.Sprint(i), 10)
		if _, ok := c.get(0); !ok {
			t.Fatalf("what is always used is gone after %d others", i)
		}
	}
	var left []int
	for i := range 100 {
		if v, ok := c.get(i); ok {
			left = append(left, i)
			if v != fmt.Sprint(i) {
				t.Errorf("%d: %s", i, v)
			}
		}
	}
	if want := []int{0, 93, 94, 95, 96, 97, 98, 99}; !slices.Equal(left, want) {
		t.Errorf("left: %v, want %v", left, want)
	}
	c.put(1000, "heavy", 11)
	if _, ok := c.get(1000); ok {
		t.Error("what is heavier than an eighth of all is kept")
	}
}
