package origin

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/google/go-cmp/cmp"

	"swarmnode/content"
)

var testDay = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// aptOver makes an apt origin of what is on a shelf. The time is testDay.
func aptOver(t testing.TB, s *shelf, query string, o Options) *apt {
	t.Helper()
	u, err := url.Parse("apt+http://host/debian?" + query)
	if err != nil {
		t.Fatal(err)
	}
	a, err := parseAPT(u)
	if err != nil {
		t.Fatal(err)
	}
	return a.over(repositoryOver(t, s, o))
}

func repositoryOver(t testing.TB, s source, o Options) *repository {
	t.Helper()
	o, err := o.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	r, err := newRepository(s, o)
	if err != nil {
		t.Fatal(err)
	}
	r.pause, r.longest, r.now = 0, testLongest, func() time.Time { return testDay }
	return r
}

// writeKeyring writes the public keys into a file, binary or armored.
func writeKeyring(t testing.TB, armored bool, keys ...*openpgp.Entity) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "keyring")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, k := range keys {
		if armored {
			writeArmored(t, f, k)
		} else if err := k.Serialize(f); err != nil {
			t.Fatal(err)
		}
	}
	return file
}

func testArchive() archive {
	return archive{
		debs: []deb{{"apt", "admin", "amd64", "bytes of apt"}, {"chess", "games", "amd64", ""},
			{"c++lib", "contrib/games", "all", "more bytes"}},
		sources: map[string]string{"apt": "source of apt"},
		date:    testDay.Add(-time.Hour),
	}
}

func TestAPTLists(t *testing.T) {
	for _, byHash := range []bool{false, true} {
		t.Run(fmt.Sprint("by-hash ", byHash), func(t *testing.T) {
			s, a := &shelf{}, testArchive()
			a.byHash, a.until = byHash, testDay.Add(time.Hour)
			a.signer = newSigner(t, "archive", testDay.AddDate(-1, 0, 0), 0)
			a.write(t, s, "stable")
			s.files["README"] = "no index names it"
			o := aptOver(t, s, "suite=stable&component=main&arch=amd64,source", Options{Access: Access{Keyring: writeKeyring(t, false, a.signer)}})
			paths, entries, told, err := collect(t, o, Before{})
			if err != nil || len(told.Bad) > 0 {
				t.Fatalf("list: %v, %v", err, told.Bad)
			}
			if diff := cmp.Diff(s.paths("README", "arm64", "Packages.diff"), paths); diff != "" {
				t.Errorf("paths (-want +got):\n%s", diff)
			}
			for p, e := range entries {
				if e.IsFile() && e.Last != strings.HasPrefix(p, "dists/") {
					t.Errorf("%s: last %v", p, e.Last)
				}
				if e.IsFile() && !e.Last && e.Fetch != "" || byHash && strings.HasSuffix(p, "Packages.xz") && !strings.Contains(e.Fetch, "/by-hash/SHA256/") {
					t.Errorf("%s is fetched by %q", p, e.Fetch)
				}
			}
			if n := len(s.requests()); told.Requests != n {
				t.Errorf("%d requests told, %d made", told.Requests, n)
			}
			fetchAll(t, o, entries, s.files)
			twice := map[string]bool{}
			for _, r := range s.requests() {
				if data := s.files[strings.TrimPrefix(r, "GET ")]; data != "" && twice[data] {
					t.Errorf("%s although another name of it was fetched", r)
				} else {
					twice[data] = true
				}
				if strings.Contains(r, "Release") || strings.Contains(r, "Packages.xz") || strings.Contains(r, "Sources") {
					t.Errorf("%s although the listing had read it", r)
				}
			}
		})
	}
}

func TestAPTUnchangedIsOneRequest(t *testing.T) {
	s, a := &shelf{}, testArchive()
	a.write(t, s, "stable")
	a.write(t, s, "updates")
	o := aptOver(t, s, "suite=stable&suite=updates", Options{})
	_, entries, told, err := collect(t, o, Before{})
	if err != nil {
		t.Fatal(err)
	}
	s.requests()
	for range 2 { // the second listing of a run, and another process
		_, _, again, err := collect(t, o, after(entries, told))
		if !errors.Is(err, ErrUnchanged) || again.Requests != 2 {
			t.Fatalf("unchanged: %v, %d requests", err, again.Requests)
		}
		if diff := cmp.Diff(told.Memo, again.Memo); diff != "" {
			t.Errorf("memo (-want +got):\n%s", diff)
		}
		want := []string{"GET dists/stable/InRelease", "GET dists/updates/InRelease"}
		if got := s.requests(); !slices.Equal(got, want) {
			t.Errorf("requests %q, want %q", got, want)
		}
		o = aptOver(t, s, "suite=stable&suite=updates", Options{})
	}
	// Another question is not answered by what was known before.
	o = aptOver(t, s, "suite=stable&suite=updates&section=games", Options{})
	if _, _, _, err := collect(t, o, after(entries, told)); err != nil {
		t.Errorf("with a section, after a listing without: %v", err)
	}
}

func TestAPTChanged(t *testing.T) {
	s, a := &shelf{}, testArchive()
	a.write(t, s, "stable")
	a.write(t, s, "updates")
	o := aptOver(t, s, "suite=stable&suite=updates", Options{})
	_, entries, told, err := collect(t, o, Before{})
	if err != nil {
		t.Fatal(err)
	}
	delete(s.files, a.debs[0].path())
	a.debs = append(a.debs[1:], deb{"new", "admin", "amd64", "new bytes"})
	a.date = testDay
	a.write(t, s, "updates")
	a.write(t, s, "stable")
	s.requests()
	paths, now, _, err := collect(t, o, after(entries, told))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(s.paths("Packages.diff"), paths); diff != "" {
		t.Errorf("paths (-want +got):\n%s", diff)
	}
	for _, r := range s.requests() {
		if strings.Contains(r, "Sources") || strings.Contains(r, "Translation") {
			t.Errorf("%s although it has not changed", r)
		}
	}
	fetchAll(t, o, now, s.files)
}

func TestAPTSections(t *testing.T) {
	s, a := &shelf{}, testArchive()
	a.write(t, s, "stable")
	paths, _, told, err := collect(t, aptOver(t, s, "suite=stable&section=games", Options{Exclude: []string{"i18n"}}), Before{})
	if err != nil || len(told.Bad) > 0 {
		t.Fatal(err, told.Bad)
	}
	if diff := cmp.Diff(s.paths("Packages.diff", "/apt", "i18n"), paths); diff != "" {
		t.Errorf("paths (-want +got):\n%s", diff)
	}
}

func TestAPTFlat(t *testing.T) {
	s := &shelf{files: map[string]string{"./a_1.deb": "bytes"}}
	packages := "Package: a\nFilename: ./a_1.deb\nSize: 5\nSHA256: " + content.Sum([]byte("bytes")).String() + "\n"
	s.files = map[string]string{"a_1.deb": "bytes", "Packages": packages,
		"Release": fmt.Sprintf("Date: Mon,  2 Nov 2026 12:00:00 +0000\r\nSHA256:\r\n %s %d Packages\r\n 00 \r\n", content.Sum([]byte(packages)), len(packages))}
	s.files["Release"] = strings.Replace(s.files["Release"], " 00 \r\n", "", 1)
	paths, entries, _, err := collect(t, aptOver(t, s, "suite=/", Options{}), Before{})
	if want := []string{"Packages", "Release", "a_1.deb"}; err != nil || !slices.Equal(paths, want) {
		t.Fatalf("%q, %v; want %q", paths, err, want)
	}
	fetchAll(t, aptOver(t, s, "suite=./", Options{}), entries, s.files)
}

// TestAPTSignature goes through what can be wrong with who signed.
func TestAPTSignature(t *testing.T) {
	made := testDay.AddDate(-1, 0, 0)
	good, other := newSigner(t, "good", made, 0), newSigner(t, "other", made, 0)
	expired := newSigner(t, "expired", testDay.Add(-2*time.Hour), 3600+1800)
	id := func(e *openpgp.Entity) string { return fmt.Sprintf("%016X", e.PrimaryKey.KeyId) }
	for _, c := range []struct {
		name   string
		signer *openpgp.Entity
		ring   []*openpgp.Entity
		change func(s *shelf)
		want   string // in the error; "" for none
	}{
		{name: "good", signer: good, ring: []*openpgp.Entity{other, good}},
		{name: "wrong key", signer: other, ring: []*openpgp.Entity{good}, want: "key " + id(other) + " is not in the keyring"},
		{name: "keys are named", signer: other, ring: []*openpgp.Entity{good}, want: "has " + id(good)},
		{name: "expired key", signer: expired, ring: []*openpgp.Entity{good, expired}, want: "key " + id(expired) + " has expired"},
		{name: "not signed", ring: []*openpgp.Entity{good}, want: "it is not a clearsigned text"},
		{name: "changed text", signer: good, ring: []*openpgp.Entity{good}, want: "the signature is not of this text",
			change: func(s *shelf) { edit(s, "dists/stable/InRelease", "Suite: stable", "Suite: stuble") }},
		{name: "text behind", signer: good, ring: []*openpgp.Entity{good}, want: "something follows its signature",
			change: func(s *shelf) { s.files["dists/stable/InRelease"] += "SHA256:\n" }},
		{name: "text before", signer: good, ring: []*openpgp.Entity{good}, want: "it is not a clearsigned text",
			change: func(s *shelf) {
				s.files["dists/stable/InRelease"] = "Suite: evil\n\n" + s.files["dists/stable/InRelease"]
			}},
		{name: "cut off", signer: good, ring: []*openpgp.Entity{good}, want: "malformed, or cut off",
			change: func(s *shelf) {
				s.files["dists/stable/InRelease"] = s.files["dists/stable/InRelease"][:600]
			}},
		{name: "detached, changed", signer: good, ring: []*openpgp.Entity{good}, want: "the signature is not of this text",
			change: func(s *shelf) {
				delete(s.files, "dists/stable/InRelease")
				edit(s, "dists/stable/Release", "Suite: stable", "Suite: stuble")
			}},
		{name: "detached, none", signer: good, ring: []*openpgp.Entity{good}, want: "is not signed",
			change: func(s *shelf) {
				delete(s.files, "dists/stable/InRelease")
				delete(s.files, "dists/stable/Release.gpg")
			}},
		{name: "detached, good", signer: good, ring: []*openpgp.Entity{good},
			change: func(s *shelf) { delete(s.files, "dists/stable/InRelease") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, a := &shelf{}, testArchive()
			a.signer = c.signer
			a.write(t, s, "stable")
			if c.change != nil {
				c.change(s)
			}
			for _, armored := range []bool{false, true} {
				o := aptOver(t, s, "suite=stable", Options{Access: Access{Keyring: writeKeyring(t, armored, c.ring...)}})
				paths, _, _, err := collect(t, o, Before{})
				if c.want == "" && (err != nil || len(paths) == 0) || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || len(paths) > 0) {
					t.Errorf("%d paths, %v; want %q", len(paths), err, c.want)
				}
			}
		})
	}
}

// edit changes a file on a shelf.
func edit(s *shelf, path, from, to string) {
	s.files[path] = strings.Replace(s.files[path], from, to, 1)
}

func TestAPTRefuses(t *testing.T) {
	for _, c := range []struct {
		name, query, want string
		change            func(a *archive, s *shelf)
	}{
		{name: "past its time", want: "was valid until", change: func(a *archive, s *shelf) { a.until = testDay.Add(-time.Minute) }},
		{name: "past its time, and meant", query: "&check-valid-until=no", change: func(a *archive, s *shelf) { a.until = testDay.Add(-time.Minute) }},
		{name: "from the future", want: "apt takes none from the future", change: func(a *archive, s *shelf) { a.date = testDay.Add(maxAhead + time.Second) }},
		{name: "a clock that is ahead", change: func(a *archive, s *shelf) { a.date = testDay.Add(maxAhead) }},
		{name: "no such component", query: "&component=mian", want: "dists/stable has main"},
		{name: "no such architecture", query: "&arch=amd46", want: "dists/stable has amd64, arm64, and source"},
		{name: "index with a wrong hash", want: "has not the hash", change: func(a *archive, s *shelf) {
			s.before = func(s *shelf, r string) {
				const name = "dists/stable/main/binary-amd64/Packages.xz"
				s.files[name] = strings.Repeat("x", len(s.files[name]))
			}
		}},
		{name: "index of another size", want: "and its index says", change: func(a *archive, s *shelf) {
			s.before = func(s *shelf, r string) { s.files["dists/stable/main/source/Sources.gz"] = "" }
		}},
		{name: "index missing", want: "no form of it is there", change: func(a *archive, s *shelf) {
			s.before = func(s *shelf, r string) { delete(s.files, "dists/stable/main/binary-amd64/Packages.xz") }
		}},
		{name: "no suite", want: "there is no dists/stable/InRelease", change: func(a *archive, s *shelf) {
			s.before = func(s *shelf, r string) { clear(s.files) }
		}},
		{name: "bomb", want: "longer than any index", change: func(a *archive, s *shelf) { a.extra = map[string]string{"main/binary-i386/Packages.gz": gzipBomb(t)} }},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, a := &shelf{}, testArchive()
			if c.change != nil {
				c.change(&a, s)
			}
			a.write(t, s, "stable")
			paths, _, _, err := collect(t, aptOver(t, s, "suite=stable"+c.query, Options{}), Before{})
			if c.want == "" && (err != nil || len(paths) == 0) || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || len(paths) > 0) {
				t.Errorf("%d paths, %v; want %q", len(paths), err, c.want)
			}
		})
	}
}

func TestAPTRefusesGoingBack(t *testing.T) {
	s, a := &shelf{}, testArchive()
	a.write(t, s, "stable")
	_, entries, told, err := collect(t, aptOver(t, s, "suite=stable", Options{}), Before{})
	if err != nil {
		t.Fatal(err)
	}
	a.date = a.date.AddDate(0, 0, -1)
	a.write(t, s, "stable")
	_, _, _, err = collect(t, aptOver(t, s, "suite=stable", Options{}), after(entries, told))
	if refused := (*RefusedError)(nil); !errors.As(err, &refused) || !strings.Contains(err.Error(), "the one that was read before is of") {
		t.Errorf("a day back: %v", err)
	}
	if _, _, _, err := collect(t, aptOver(t, s, "suite=stable&check-valid-until=no", Options{}), after(entries, told)); err != nil {
		t.Errorf("a day back, and meant: %v", err)
	}
}

func TestAPTExpiresUnchanged(t *testing.T) {
	s, a := &shelf{}, testArchive()
	a.until = testDay.Add(time.Hour)
	a.write(t, s, "stable")
	o := aptOver(t, s, "suite=stable", Options{})
	_, entries, told, err := collect(t, o, Before{})
	if err != nil {
		t.Fatal(err)
	}
	o.now = func() time.Time { return testDay.Add(2 * time.Hour) }
	if _, _, _, err = collect(t, o, after(entries, told)); err == nil || errors.Is(err, ErrUnchanged) || !strings.Contains(err.Error(), "was valid until") {
		t.Errorf("unchanged and past its time: %v", err)
	}
}

// TestAPTLetsGo: metadata is held while a run needs it.
func TestAPTLetsGo(t *testing.T) {
	s, a := &shelf{}, testArchive()
	a.write(t, s, "stable")
	o := aptOver(t, s, "suite=stable", Options{})
	_, entries, told, err := collect(t, o, Before{})
	if err != nil {
		t.Fatal(err)
	}
	for n, want := range []bool{true, false, false} {
		if _, _, _, err := collect(t, o, after(entries, told)); !errors.Is(err, ErrUnchanged) {
			t.Fatal(err)
		}
		if got := len(o.held) > 0; got != want {
			t.Errorf("after %d unchanged listings metadata is held: %v", n+1, got)
		}
	}
	fetchAll(t, o, entries, s.files)
}

// TestAPTSwitches lets the archive change between its Release file and its indexes.
func TestAPTSwitches(t *testing.T) {
	for _, c := range []struct {
		byHash bool
		times  int // how often it changes
		reads  int // of InRelease that it takes; 0: it fails
	}{{true, 1, 1}, {false, 1, 2}, {false, 2, 3}, {false, 3, 0}} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			s, a := &shelf{}, testArchive()
			a.byHash, a.unpacked = c.byHash, true
			a.write(t, s, "stable")
			n, begun := 0, false
			s.before = func(s *shelf, r string) {
				begun = begun || r == "GET dists/stable/InRelease"
				if begun && n < c.times && strings.HasPrefix(r, "HEAD") {
					n++
					begun = false
					a.debs = append(a.debs, deb{fmt.Sprint("new", n), "admin", "amd64", strings.Repeat("n", n)})
					a.write(t, s, "stable")
				}
			}
			o := aptOver(t, s, "suite=stable&arch=amd64", Options{Connections: 1})
			_, entries, _, err := collect(t, o, Before{})
			if (err == nil) != (c.reads > 0) || err != nil && !errors.Is(err, errSwitched) {
				t.Fatal(err)
			}
			reads := 0
			for _, r := range s.requests() {
				if r == "GET dists/stable/InRelease" {
					reads++
				}
			}
			if want := max(c.reads, 1); err == nil && reads != want || err != nil && reads != switchTries {
				t.Errorf("InRelease was read %d times, want %d", reads, want)
			}
			if err == nil {
				named := entries["dists/stable/InRelease"]
				if body, err := o.Open(t.Context(), named, 0, ""); err != nil || body.Size != named.Size {
					t.Errorf("the InRelease that was checked: %v", err)
				}
			}
		})
	}
}

func TestAPTParameters(t *testing.T) {
	for query, want := range map[string]string{
		"": "names no suite", "component=main": "names no suite", "suite=..": "not allowed", "suite=a/../../b/": "not allowed",
		"suite=x&suit=y": `no parameter "suit"`, "suite=%zz": "cannot be read", "suite=x&max-age=2w": "write it like",
	} {
		u := &url.URL{Scheme: "apt+http", Host: "host", RawQuery: query}
		if _, err := parseAPT(u); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", query, err, want)
		}
	}
}
