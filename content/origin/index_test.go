package origin

import (
	"bytes"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"swarmnode/content"
)

// odd are the names of the tree whose index pages the servers in testdata/index wrote.
const odd = `100%.txt|<b>&amp;.txt|?C=N;O=D|a#b?c.txt|back\slash|big.bin|co:lon|empty.txt|empty/|link/|` +
	`longlonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglong.txt|` +
	`plain.txt|plus+plus.txt|q'uote"s.txt|semi;colon|sub/|two.bin|with space.txt|ünïcödé.txt`

func page(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "index", name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// shown tells of rows: names with a '/' behind directories and a '!' behind what is neither.
func shown(rows []row) string {
	var names []string
	for _, r := range rows {
		switch r.mode &^ 0o777 {
		case content.ModeDir:
			names = append(names, r.name+"/")
		case content.ModeFile:
			names = append(names, r.name)
		default:
			names = append(names, r.name+"!")
		}
	}
	slices.Sort(names)
	return strings.Join(names, "|")
}

func TestIndexPages(t *testing.T) {
	withBroken := strings.Replace(odd, "co:lon", "broken|co:lon", 1)
	for _, c := range []struct{ file, at, names, one string }{
		{"nginx.html", "/", withBroken, "big.bin 3000000 [20-Nov-2026 10:11 3000000] 2026-11-20 10:11:00 false"},
		{"nginx-rounded.html", "/", withBroken, "big.bin -1 [20-Nov-2026 10:11 3M] 2026-11-20 10:11:00 false"},
		{"nginx.json", "/", strings.Replace(odd, "co:lon", "broken!|co:lon", 1), "big.bin 3000000 [Fri, 20 Nov 2026 10:11:12 GMT 3000000] 2026-11-20 10:11:12 true"},
		{"apache-table.html", "/", odd, "big.bin -1 [2026-11-20 10:11 2.9M] 2026-11-20 10:11:00 false"},
		{"apache-pre.html", "/", odd, "big.bin -1 [2026-11-20 10:11 2.9M] 2026-11-20 10:11:00 false"},
		{"apache-plain.html", "/", odd, "big.bin -1 [] 0001-01-01 00:00:00 false"},
		{"apache-sub.html", "/sub/", "f", "f -1 [2026-11-20 10:11 1] 2026-11-20 10:11:00 false"},
		{"lighttpd.html", "/", odd, "big.bin -1 [2026-Nov-20 10:11:12 2.8M] 2026-11-20 10:11:12 false"},
		{"python.html", "/", withBroken, "big.bin -1 [] 0001-01-01 00:00:00 false"},
		{"caddy.json", "/dist/", "link|run.sh|sub/", "run.sh 77 [2026-11-20T10:11:12.123456789Z 77] 2026-11-20 10:11:12 true"},
		{"caddy.html", "/dist/", "a+b %.txt|sub/", "a+b %.txt -1 [2026-11-20T10:11:12Z 1.5 KiB] 2026-11-20 10:11:12 false"},
		{"header.html", "/dist/", "README|absolute|rooted|sub/|nearly", "README -1 [2026-11-20 10:11 1.2K] 2026-11-20 10:11:00 false"},
	} {
		kind := "text/html;charset=UTF-8"
		if strings.HasSuffix(c.file, "json") {
			kind = "application/json"
		}
		rows, index, err := parseIndex(kind, bytes.NewReader(page(t, c.file)), &url.URL{Scheme: "http", Host: "example.net", Path: c.at})
		want := strings.Split(c.names, "|")
		slices.Sort(want)
		if err != nil || !index || shown(rows) != strings.Join(want, "|") {
			t.Errorf("%s: %v, index %v\n%s, want\n%s", c.file, err, index, shown(rows), strings.Join(want, "|"))
		}
		one, _, _ := strings.Cut(c.one, " ")
		for _, r := range rows {
			got := fmt.Sprintf("%s %d [%s] %s %v", r.name, r.size, r.text, r.mtime.Format(time.DateTime), r.exact)
			if strings.HasPrefix(r.name, one) && got != c.one {
				t.Errorf("%s: %s, want %s", c.file, got, c.one)
			}
		}
	}
	rows, err := parseJSON(bytes.NewReader(page(t, "caddy.json")))
	if err != nil || rows[2].mode != content.ModeFile|0o755 || rows[0].mode != content.ModeDir|0o755 {
		t.Errorf("modes of caddy: %+v, %v", rows, err)
	}
}

func TestNoIndex(t *testing.T) {
	at := &url.URL{Scheme: "http", Host: "h", Path: "/dist/"}
	for _, c := range []struct {
		kind, page string
		index, err bool
	}{
		{"text/html", `<html><title>Welcome</title><a href="a">a</a></html>`, false, false},
		{"text/html", `<html><title>Index of /</title></html>`, true, false},
		{"text/html", `<h1>Directory listing for /dist</h1>`, true, false},
		{"text/html", `<title>/dist/</title>`, true, false},
		{"text/html", ``, false, false},
		{"text/plain", `Index of /`, false, false},
		{"", `Index of /`, false, false},
		{"application/json", `[]`, true, false},
		{"application/json", `{"name":"x"}`, false, false},
		{"application/json", `["x"]`, false, true},
		{"application/json", `[{"id":1}]`, false, false},
		{"application/json", `[{"name":"x","type":"file"}`, false, true},
		{"application/json", `[{"name":"x","type":"file"},`, false, true},
		{"application/json", ``, false, false},
	} {
		rows, index, err := parseIndex(c.kind, strings.NewReader(c.page), at)
		if index != c.index || (err != nil) != c.err || len(rows) > 0 {
			t.Errorf("%s %q: %v, %v, %v", c.kind, c.page, rows, index, err)
		}
	}
	long := `<title>Index of /</title><a href="` + strings.Repeat("x", maxToken) + `">`
	if _, _, err := parseHTML(strings.NewReader(long), at); err == nil {
		t.Error("a tag of a MiB is read")
	}
	if _, _, err := parseHTML(&limited{r: strings.NewReader(long), left: 50, what: "http://h/dist/"}, at); err == nil || !strings.Contains(err.Error(), "http://h/dist/: the listing is longer than 64 MiB") {
		t.Errorf("a page that is too long: %v", err)
	}
}

// Pages that grow in what is kept of them.
func TestIndexLimits(t *testing.T) {
	at := &url.URL{Scheme: "http", Host: "h", Path: "/"}
	links := func(n int) io.Reader {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "<a href=%d>", i)
		}
		return strings.NewReader(b.String())
	}
	names := func(n int) io.Reader {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `,{"name":"%d","type":"file"}`, i)
		}
		return strings.NewReader("[" + strings.TrimPrefix(b.String(), ",") + "]")
	}
	const few = 1000
	_, _, err := parseHTMLRows(links(few+1), at, few)
	refusal(t, "links", err, "more than 1000 names")
	_, err = parseJSONRows(names(few+1), few)
	refusal(t, "names", err, "more than 1000 names")
	if rows, err := parseJSONRows(names(few), few); err != nil || len(rows) != few {
		t.Errorf("as many names as there may be: %d, %v", len(rows), err)
	}
	if os.Getenv("SWARMNODE_E2E") == "1" { // a second and 100 MB: .ci/run
		_, _, err = parseHTML(links(maxRows+1), at)
		refusal(t, "links", err, "more than 400000 names")
		_, err = parseJSON(names(maxRows + 1))
		refusal(t, "names", err, "more than 400000 names")
	}
	p := &htmlIndex{page: at, at: map[string]int{}}
	for range 10_000 {
		p.end("h1")
		p.inHead = true
		p.addText("x")
		p.end("h1")
		p.open = true
		p.addText("yy")
	}
	if len(p.heading) > 3*maxRowText || p.text.Len() > 2*maxRowText {
		t.Errorf("a heading of %d bytes, a text of %d", len(p.heading), p.text.Len())
	}
}

func FuzzHTMLIndex(f *testing.F) {
	files, err := filepath.Glob("testdata/index/*.html")
	if err != nil || len(files) == 0 {
		f.Fatal(err)
	}
	for _, name := range files {
		f.Add(page(f, filepath.Base(name)), "/dist/")
	}
	f.Fuzz(func(t *testing.T, data []byte, at string) {
		u, err := url.Parse("http://h/" + at)
		if err != nil {
			return
		}
		rows, _, _ := parseHTML(bytes.NewReader(data), u)
		seen := map[string]bool{}
		for _, r := range rows {
			if r.name == "" || r.name == "." || r.name == ".." || strings.Contains(r.name, "/") || seen[r.name] {
				t.Fatalf("a row with the name %q", r.name)
			}
			if r.text != "" && r.mtime.IsZero() || len(r.text) > 2*maxRowText {
				t.Fatalf("%+v", r)
			}
			seen[r.name] = true
		}
	})
}

func FuzzJSONIndex(f *testing.F) {
	f.Add(page(f, "nginx.json"))
	f.Add(page(f, "caddy.json"))
	f.Fuzz(func(t *testing.T, data []byte) {
		rows, err := parseJSON(bytes.NewReader(data))
		if err != nil && rows != nil {
			t.Fatalf("%v with %d rows", err, len(rows))
		}
		for _, r := range rows {
			if k := r.mode &^ 0o777; k != 0 && k != content.ModeDir && k != content.ModeFile || r.exact && r.mtime.IsZero() && r.text == "" {
				t.Fatalf("%+v", r)
			}
		}
	})
}
