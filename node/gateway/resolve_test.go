package gateway

import (
	"context"
	"crypto/md5"
	"crypto/sha512"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"swarmnode/content"
)

func TestPaths(t *testing.T) {
	names := []string{"g++_1:12.deb", "a b", "lib~x", "100%", "ü.txt", "Aa", "a;b,c&d=e?f#g", `back\slash`, ".hidden", "...", "<b>'\".txt"}
	var files []file
	for _, n := range names {
		files = append(files, file{Path: n, Data: n})
	}
	r := newRig(t, append(files, file{Path: "d/"}, file{Path: "d/e/"}, file{Path: "d/e/f", Data: "deep"})...)
	for _, n := range names {
		all := ""
		for _, c := range []byte(n) {
			all += fmt.Sprintf("%%%02x", c)
		}
		for _, spelled := range []string{all, strings.ToUpper(all), escapeName(n)} {
			if got := r.get("/test/" + spelled); got.StatusCode != 200 || got.body != n {
				t.Errorf("%s: %d %q, want %q", spelled, got.StatusCode, got.body, n)
			}
		}
	}
	for _, x := range []struct {
		path string
		want int
		says string
	}{
		{"/test/g++_1:12.deb", 200, "g++_1:12.deb"}, {"/test/g%2B%2B_1%3A12.deb", 200, "g++_1:12.deb"}, {"/test/lib%7Ex", 200, "lib~x"},
		{"/%74est/Aa", 200, "Aa"}, {"/" + testID.String() + "/Aa", 200, "Aa"}, {"/test/Aa?x=y", 200, "Aa"}, {"/test/d/e/f", 200, "deep"},
		{"/test/d//e/f", 400, "two slashes"}, {"//test/Aa", 400, "two slashes"}, {"/test//", 400, "two slashes"}, {"/test/d/../Aa", 400, `".."`},
		{"/test/d/%2e%2e/Aa", 400, `".."`}, {"/test/./Aa", 400, `"."`}, {"/test/d%2Fe/f", 400, "character"}, {"/test/A%00a", 400, "character"},
		{"/test/A%0aa", 400, "character"}, {"/test/%ff", 400, "character"}, {"/test/%c0%ae%c0%ae/Aa", 400, "character"}, {"/../Aa", 400, `".."`},
		{"/test/aA", 404, `There is no "aA" in the collection test: `}, {"/test/Aa/b", 404, "Aa is a file"}, {"/test/no/b", 404, "no directory no"}, {"/test/Aa/", 404, "is a file"},
		{"/other/Aa", 404, "no collection"}, {"/-/other", 404, "no such page"}, {"/favicon.ico", 404, "no collection"},
		{"/" + strings.Repeat("x", 5000), 404, "no collection"}, {"/test/" + strings.Repeat("x", 5000), 404, "There is no"},
	} {
		got := r.get(x.path)
		if got.StatusCode != x.want || !strings.Contains(got.body, x.says) {
			t.Errorf("%.60s: %d %.200q, want %d %q", x.path, got.StatusCode, got.body, x.want, x.says)
		}
		if got.StatusCode >= 400 && (got.Header.Get("Content-Type") != plain || got.Header.Get("Etag") != "" || !strings.HasSuffix(strings.TrimSpace(got.body), ".")) {
			t.Errorf("%.60s: an error is a plain sentence: %v %q", x.path, got.Header, got.body)
		}
	}
	for _, method := range []string{"POST", "PUT", "DELETE", "PROPFIND", "OPTIONS"} {
		if got := r.do(method, "/test/Aa"); got.StatusCode != 405 || got.Header.Get("Allow") != "GET, HEAD" {
			t.Errorf("%s: %d, Allow %q", method, got.StatusCode, got.Header.Get("Allow"))
		}
	}
}

// TestDirectorySlash: Location begins with one slash, whatever the Host header says.
func TestDirectorySlash(t *testing.T) {
	r := newRig(t, file{Path: "a+b/"}, file{Path: "a+b/c", Data: "c"}, file{Path: "link", Target: "a+b"})
	for path, want := range map[string]string{"/test": "/test/", "/test/a%2Bb": "/test/a%2Bb/", "/test/link?json": "/test/link/?json"} {
		got := r.get(path, "Host: evil.example")
		if got.StatusCode != http.StatusMovedPermanently || got.Header.Get("Location") != want {
			t.Errorf("%s: %d %q, want %q", path, got.StatusCode, got.Header.Get("Location"), want)
		}
		if again := r.get(want); again.StatusCode != 200 {
			t.Errorf("%s: %d", want, again.StatusCode)
		}
	}
	for own, want := range map[string]string{ // behind a proxy that puts a prefix before the paths, the gateway knows it from its URL
		"https://mirror.example.org/":        "/test/a%2Bb/?json",
		"https://mirror.example.org/files/":  "https://mirror.example.org/files/test/a%2Bb/?json",
		"http://mirror.example.org:81/a%20/": "http://mirror.example.org:81/a%20/test/a%2Bb/?json",
	} {
		r.g.cfg.URL = own
		if got := r.get("/test/a%2Bb?json").Header.Get("Location"); got != want {
			t.Errorf("at %s: %q, want %q", own, got, want)
		}
	}
}

func TestSymlinks(t *testing.T) {
	files := []file{
		{Path: "dists/"}, {Path: "dists/bookworm/"}, {Path: "dists/bookworm/Release", Data: "Codename: bookworm"},
		{Path: "dists/stable", Target: "bookworm"}, {Path: "dists/latest", Target: "stable"}, {Path: "dists/up", Target: "../dists/./latest/../stable"},
		{Path: "current", Target: "dists/latest/Release"}, {Path: "loop", Target: "loop2"}, {Path: "loop2", Target: "loop"},
		{Path: "grow", Target: "grow/grow"}, {Path: "dangling", Target: "nothing/here"}, {Path: "top", Target: "dists/.."},
	}
	for i := range maxLinks {
		files = append(files, file{Path: fmt.Sprintf("chain%d", i+1), Target: fmt.Sprintf("chain%d", i)})
	}
	r := newRig(t, append(files, file{Path: "chain0", Data: "end"})...)
	for path, want := range map[string]string{
		"dists/stable/Release": "Codename: bookworm", "dists/latest/Release": "Codename: bookworm", "dists/up/Release": "Codename: bookworm",
		"current": "Codename: bookworm", "top/top/dists/up/Release": "Codename: bookworm", fmt.Sprintf("chain%d", maxLinks): "end",
	} {
		if got := r.get("/test/" + path); got.StatusCode != 200 || got.body != want {
			t.Errorf("%s: %d %q", path, got.StatusCode, got.body)
		}
	}
	for path, says := range map[string]string{"loop": "circle", "loop/x": "circle", "grow": "circle", "dangling": "no directory nothing", "dists/stable/no": "no release"} {
		if got := r.get("/test/" + path); got.StatusCode != 404 || !strings.Contains(got.body, says) {
			t.Errorf("%s: %d %q", path, got.StatusCode, got.body)
		}
	}
	if _, err := target(content.Entry{Path: "a/l", Target: "../../x"}, ""); !errors.Is(err, content.ErrNoEntry) {
		t.Errorf("a symlink that leads out of the tree: %v", err)
	}
}

// TestSwitch: after a switch, what has its version in its name is still there; what changes under its name is not.
func TestSwitch(t *testing.T) {
	r := newRig(t, file{Path: "InRelease", Data: "one"}, file{Path: "old.txt", Data: "old"}, file{Path: "pool/"}, file{Path: "pool/a_1.deb", Data: "a1"},
		file{Path: "repodata/"}, file{Path: "repodata/" + strings.Repeat("0a", 32) + "-primary.xml.gz", Data: "p1"}, file{Path: "core.db", Data: "db1"})
	r.cat.publish(t, r.src, 2, file{Path: "InRelease", Data: "two"}, file{Path: "pool/"}, file{Path: "pool/a_2.deb", Data: "a2"})
	r.cat.publish(t, r.src, 3, file{Path: "InRelease", Data: "three"}, file{Path: "pool/"}, file{Path: "pool/a_3.deb", Data: "a3"})
	for path, want := range map[string]string{
		"InRelease": "three", "pool/a_1.deb": "a1", "pool/a_2.deb": "a2", "pool/a_3.deb": "a3", "old.txt": "", "core.db": "",
		"repodata/" + strings.Repeat("0a", 32) + "-primary.xml.gz": "p1",
	} {
		got := r.get("/test/" + path)
		if want == "" && got.StatusCode != 404 || want != "" && got.body != want {
			t.Errorf("%s: %d %q, want %q", path, got.StatusCode, got.body, want)
		}
	}
}

// TestConnectionSeesOneRelease: who has fetched the index through a connection gets the lists of the same release through it.
func TestConnectionSeesOneRelease(t *testing.T) {
	cat, src := newFake(t)
	cat.publish(t, src, 1, file{Path: "InRelease", Data: "one"})
	collection := func() *Collection { return cat.Collections()[0] }
	ctx, other := WithConnection(t.Context()), WithConnection(t.Context())
	now := time.Unix(testMtime, 0)
	see := func(ctx context.Context) uint64 { return collection().current(ctx, now).Manifest.Release }
	if got := see(ctx); got != 1 {
		t.Fatalf("release %d", got)
	}
	cat.publish(t, src, 2, file{Path: "InRelease", Data: "two"})
	for range 100 { // requests without a pause, for longer than a pin lives
		now = now.Add(pinIdle - time.Second)
		if got, want := see(ctx), uint64(1); got != want && now.Sub(time.Unix(testMtime, 0)) < pinLife {
			t.Fatalf("the connection sees release %d after %s", got, now.Sub(time.Unix(testMtime, 0)))
		}
	}
	if got := see(ctx); got != 2 {
		t.Errorf("a connection that is always busy sees release %d for ever", got)
	}
	if got := see(other); got != 2 {
		t.Errorf("a new connection sees release %d", got)
	}
	if got := see(t.Context()); got != 2 {
		t.Errorf("without a connection: release %d", got)
	}
	cat.publish(t, src, 3, file{Path: "InRelease", Data: "three"})
	if got := see(other); got != 2 {
		t.Errorf("release %d within the pause of an update", got)
	}
	now = now.Add(pinIdle)
	if got := see(other); got != 3 {
		t.Errorf("release %d after a pause", got)
	}
	cat.publish(t, src, 4, file{Path: "InRelease", Data: "four"})
	cat.c.Kept = nil // its grace is over
	if got := see(other); got != 4 {
		t.Errorf("release %d, want the served one: the old one is gone", got)
	}
}

// TestUpdateMidway drives the same through real connections: one client keeps its connection over the switch.
func TestUpdateMidway(t *testing.T) {
	r := newRig(t, file{Path: "InRelease", Data: "index of one"}, file{Path: "Packages", Data: "list of one"})
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	ask := func(path string) string {
		resp, err := client.Get(r.url + path)
		if err != nil {
			t.Fatal(err)
		}
		return readAll(t, resp)
	}
	if got := ask("/test/InRelease"); got != "index of one" {
		t.Fatal(got)
	}
	r.cat.publish(t, r.src, 2, file{Path: "InRelease", Data: "index of two"}, file{Path: "Packages", Data: "list of two"})
	if got := ask("/test/Packages"); got != "list of one" {
		t.Errorf("on the old connection: %q", got)
	}
	if got := r.get("/test/Packages").body; got != "list of two" {
		t.Errorf("on a new connection: %q", got)
	}
}

func TestExpired(t *testing.T) {
	hash := content.Sum([]byte("list")).String()
	r := newRig(t, file{Path: "InRelease", Data: "one"}, file{Path: "Packages", Data: "list"}, file{Path: "pool/"}, file{Path: "pool/a_1.deb", Data: "a1"})
	r.cat.c.Expires = time.Now().Add(-time.Minute)
	for path, want := range map[string]int{"InRelease": 503, "": 503, "no": 503, "pool/a_1.deb": 200, "pool/a_9.deb": 404, "by-hash/SHA256/" + hash: 200} {
		got := r.get("/test/" + path)
		if got.StatusCode != want {
			t.Errorf("%s: %d, want %d", path, got.StatusCode, want)
		}
		if want == 503 && (got.Header.Get("Retry-After") == "" || !strings.Contains(got.body, "signature")) {
			t.Errorf("%s: %v %q", path, got.Header, got.body)
		}
	}
}

func TestNothingServedYet(t *testing.T) {
	r := newRig(t)
	if got := r.get("/test/a"); got.StatusCode != 503 || got.Header.Get("Retry-After") == "" {
		t.Errorf("%d %q", got.StatusCode, got.body)
	}
	if got := r.get("/"); got.StatusCode != 200 || !strings.Contains(got.body, "still being fetched") {
		t.Errorf("%d %q", got.StatusCode, got.body)
	}
}

// TestMissingMetadata: a tree that is not here as a whole is no reason for 404.
func TestMissingMetadata(t *testing.T) {
	r := newRig(t, file{Path: "a", Data: "a"})
	rel := r.cat.c.Served
	delete(rel.Blocks.(blocks), rel.Manifest.Tree)
	for _, path := range []string{"/test/a", "/test/", "/test/nothing"} {
		if got := r.get(path); got.StatusCode != 503 || got.Header.Get("Retry-After") == "" {
			t.Errorf("%s: %d %q", path, got.StatusCode, got.body)
		}
	}
}

func TestTwoOfOneName(t *testing.T) {
	r := newRig(t, file{Path: "a", Data: "a"})
	other := *r.cat.c
	other.ID = content.NewID([]byte("another"))
	r.g.cfg.Catalogue = fixed{r.cat.c, &other}
	if got := r.get("/test/a"); got.StatusCode != 300 || !strings.Contains(got.body, other.ID.String()) || !strings.Contains(got.body, testID.String()) {
		t.Errorf("%d %q", got.StatusCode, got.body)
	}
	if got := r.get("/" + other.ID.String() + "/a"); got.body != "a" {
		t.Errorf("%d %q", got.StatusCode, got.body)
	}
	if got := r.get("/").body; !strings.Contains(got, `href="`+other.ID.String()+`/"`) {
		t.Errorf("the first page does not link the ID: %s", got)
	}
}

type fixed []*Collection

func (l fixed) Collections() []*Collection { return l }

func TestByHash(t *testing.T) {
	sha512Of := func(s string) string { return fmt.Sprintf("%x", sha512.Sum512([]byte(s))) }
	md5Of := func(s string) string { return fmt.Sprintf("%x", md5.Sum([]byte(s))) }
	release := func(lists ...string) string {
		out := "Origin: test\nMD5Sum:\n"
		for _, l := range lists {
			out += fmt.Sprintf(" %s %d main/binary-amd64/Packages.xz\n", md5Of(l), len(l))
		}
		out += fmt.Sprintf(" %s 0 contrib/binary-amd64/Packages\n %s 0 main/binary-amd64/empty\nSHA512:\n", md5Of(""), md5Of(""))
		for _, l := range lists {
			out += fmt.Sprintf(" %s %d main/binary-amd64/Packages.xz\n", sha512Of(l), len(l))
		}
		return out + " ../../nonsense\n" + fmt.Sprintf(" %s 3 ../../../outside\n", sha512Of("bad"))
	}
	tree := func(packages string) []file {
		return []file{{Path: "dists/"}, {Path: "dists/sid/"}, {Path: "dists/unstable", Target: "sid"}, {Path: "dists/sid/Release", Data: release(packages)},
			{Path: "dists/sid/main/"}, {Path: "dists/sid/main/binary-amd64/"}, {Path: "dists/sid/main/binary-amd64/Release", Data: "Archive: sid\n"},
			{Path: "dists/sid/main/binary-amd64/empty"}, {Path: "dists/sid/main/binary-amd64/Packages.xz", Data: packages},
			{Path: "dists/sid/main/binary-amd64/link.xz", Target: "Packages.xz"}, {Path: "dists/sid/main/binary-amd64/dangling", Target: "nowhere"},
			{Path: "dists/sid/main/binary-all/"}, {Path: "dists/sid/main/binary-all/by-hash/"}, {Path: "dists/sid/main/binary-all/by-hash/SHA256/"},
			{Path: "dists/sid/main/binary-all/by-hash/SHA256/" + content.Sum([]byte("own")).String(), Data: "own"}}
	}
	r := newRig(t, tree("packages one")...)
	r.cat.publish(t, r.src, 2, tree("packages two")...)
	for _, x := range []struct {
		path string
		want int
		body string
	}{
		{"dists/sid/main/binary-amd64/by-hash/SHA256/" + content.Sum([]byte("packages two")).String(), 200, "packages two"},
		{"dists/sid/main/binary-amd64/by-hash/SHA256/" + content.Sum([]byte("packages one")).String(), 200, "packages one"},
		{"dists/unstable/main/binary-amd64/by-hash/SHA256/" + content.Sum([]byte("packages one")).String(), 200, "packages one"},
		{"dists/sid/main/binary-amd64/by-hash/SHA512/" + sha512Of("packages two"), 200, "packages two"},
		{"dists/unstable/main/binary-amd64/by-hash/SHA512/" + sha512Of("packages one"), 200, "packages one"},
		{"dists/sid/main/binary-amd64/by-hash/MD5Sum/" + md5Of("packages one"), 200, "packages one"},
		{"dists/sid/main/binary-amd64/by-hash/MD5Sum/" + md5Of(""), 200, ""},
		{"dists/sid/main/binary-all/by-hash/SHA256/" + content.Sum([]byte("own")).String(), 200, "own"}, // the tree's own
		{"dists/sid/main/binary-amd64/by-hash/SHA256/" + content.Sum([]byte("no")).String(), 404, ""},
		{"dists/sid/main/binary-amd64/by-hash/SHA512/" + sha512Of("no"), 404, ""},
		{"dists/sid/main/binary-amd64/by-hash/SHA512/" + sha512Of("bad"), 404, ""},
		{"dists/sid/main/binary-amd64/by-hash/SHA512/abc", 404, ""},
		{"dists/sid/main/binary-amd64/by-hash/CRC/abcd", 404, ""},
		{"dists/nothing/by-hash/SHA256/" + content.Sum([]byte("packages two")).String(), 404, ""},
	} {
		got := r.get("/test/" + x.path)
		if got.StatusCode != x.want || x.want == 200 && got.body != x.body {
			t.Errorf("%s: %d %q", x.path, got.StatusCode, got.body)
		}
		if x.want == 200 && (!strings.Contains(got.Header.Get("Cache-Control"), "immutable") || got.Header.Get("Last-Modified") == "") {
			t.Errorf("%s: %v", x.path, got.Header)
		}
	}
	if head := r.do("HEAD", "/test/dists/sid/main/binary-amd64/by-hash/SHA256/"+content.Sum([]byte("packages one")).String()); head.ContentLength != 12 {
		t.Errorf("HEAD: %d bytes", head.ContentLength)
	}
}

func TestOwnPages(t *testing.T) {
	r := newRig(t, file{Path: "a", Data: "a"})
	if got := r.get("/-/health"); got.StatusCode != 200 || got.body != "ok\n" {
		t.Errorf("%d %q", got.StatusCode, got.body)
	}
	got := r.get("/-/status.json")
	var status struct {
		Collections []struct {
			ID, Name       string
			Release        uint64
			Fresh, Expires time.Time
		}
	}
	if err := json.Unmarshal([]byte(got.body), &status); err != nil || got.Header.Get("Content-Type") != "application/json" {
		t.Fatal(err, got.Header)
	}
	c := status.Collections[0]
	if c.ID != testID.String() || c.Name != "test" || c.Release != 1 || !c.Fresh.Equal(r.cat.c.Fresh) || !c.Expires.Equal(r.cat.c.Expires) {
		t.Errorf("%+v", c)
	}
	if other := r.get("/?json"); other.body != got.body {
		t.Errorf("/?json gives %q", other.body)
	}
}

func TestMutable(t *testing.T) {
	hash := strings.Repeat("0123456789abcdef", 4)
	for _, p := range []string{"pool/main/a/a_1.deb", "pool/x/readme", "a/os/x86_64/pkg-1-1-any.pkg.tar.zst", "a/pkg-1-1-any.pkg.tar.zst.sig", "debian-12.iso", "x.iso.torrent",
		"repodata/" + hash + "-primary.xml.gz", "dists/sid/main/by-hash/SHA256/" + hash, "foo-1.2.tar.gz", "foo-1.2.tar.gz.asc", "f-1.rpm", "pool/x", "x.img.xz", "a.tar"} {
		if mutable(p) {
			t.Errorf("%s is taken for something that changes", p)
		}
	}
	for _, p := range []string{"", "pool", "dists/sid/InRelease", "dists/sid/main/Packages.xz", "Contents-amd64.gz", "repodata/repomd.xml", "core/os/x86_64/core.db", "core.db.tar.gz", "core.files",
		"core.db.sig", "core.db.tar.zst", "SHA256SUMS", "index.html", "ls-lR.gz", "i18n/Translation-en.bz2", "core.db.tar", "x.files.tar.gz", "pool/core.db", "x.gz", "Release.gpg", "liverpool/x", "by-hash/SHA256/12"} {
		if !mutable(p) {
			t.Errorf("%s is taken for something that never changes", p)
		}
	}
	if !slices.Equal([]string{cacheControl("a.deb"), cacheControl("Release"), cacheControl("x/by-hash/MD5Sum/" + hash[:32])},
		[]string{"public, max-age=86400", "public, no-cache", "public, max-age=31536000, immutable"}) {
		t.Error(cacheControl("a.deb"), cacheControl("Release"), cacheControl("x/by-hash/MD5Sum/"+hash[:32]))
	}
}

func FuzzSplitTarget(f *testing.F) {
	for _, s := range []string{"/", "/a", "/a/", "/a/b%2Bc", "//", "/a/../b", "/a/%2e%2E", "/%00", "/a%2fb/c", "/%zz", "/\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		name, rest, err := splitTarget(s)
		if err != nil {
			return
		}
		if slow, at, err := splitParts(s); err != nil || slow != name || at != rest {
			t.Fatalf("%q: the quick way gives %q %q, the other %q %q, %v", s, name, rest, slow, at, err)
		}
		if strings.Contains(name, "/") || rest != "" && rest[0] != '/' {
			t.Fatalf("%q: %q %q", s, name, rest)
		}
		for _, p := range []string{name, content.CleanDir(rest)} {
			if p == "" {
				continue
			}
			if err := content.CheckPath(p); err != nil && len(p) <= content.MaxName && strings.Count(p, "/") < content.MaxDepth {
				t.Fatalf("%q gives %q: %v", s, p, err)
			}
		}
	})
}
