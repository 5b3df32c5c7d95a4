package origin

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"swarmnode/content"
)

// What an archive, or a mirror of one that is signed, can do to who follows it: each ends in an error that says so, and nothing of it is published.

// TestAPTOtherSuite: a hostile mirror cannot give the signed indexes of one suite for those of another.
func TestAPTOtherSuite(t *testing.T) {
	key := newSigner(t, "archive", testDay.AddDate(-1, 0, 0), 0)
	for _, c := range []struct {
		at, query string
		keyring   bool
		refused   bool
	}{
		{"stable", "suite=stable", true, false}, {"stable/updates", "suite=stable/updates", true, false}, {"sid", "suite=sid", true, true},
		{"stable-updates", "suite=stable-updates", true, true}, {"sid", "suite=sid&check-suite=no", true, false}, {"sid", "suite=sid", false, false},
	} {
		s, a := &shelf{}, testArchive()
		a.signer = key
		a.write(t, s, "stable")
		for name, data := range maps.Clone(s.files) {
			if below, ok := strings.CutPrefix(name, "dists/stable/"); ok && c.at != "stable" {
				s.files["dists/"+c.at+"/"+below] = data
			}
		}
		o := Options{}
		if c.keyring {
			o.Keyring = writeKeyring(t, false, key)
		}
		_, _, _, err := collect(t, aptOver(t, s, c.query, o), Before{})
		if got := err != nil && strings.Contains(err.Error(), "check-suite=no"); got != c.refused || !got && err != nil {
			t.Errorf("%+v: %v", c, err)
		}
	}
	for dir, want := range map[string]bool{"": true, "flat": true, "dists/x": true, "dists/y": true, "dists/y/z": true, "dists/z/y": false, "dists/x/y/z": false, "dists/": false} {
		rel := release{suite: "x", codename: "y"}
		if rel.isOf(dir) != want || !(&release{}).isOf(dir) {
			t.Errorf("%q: %v, want %v", dir, rel.isOf(dir), want)
		}
	}
}

// TestAPTReadBytes: no index is too long, all of them are.
func TestAPTReadBytes(t *testing.T) {
	s, a := &shelf{}, testArchive()
	a.extra = map[string]string{}
	for n := range 8 {
		a.extra[fmt.Sprintf("main/binary-x%d/Packages.gz", n)] = packGzip(t, strings.Repeat(fmt.Sprintf("X: %d\n\n", n), 10_000))
	}
	a.write(t, s, "stable")
	o := aptOver(t, s, "suite=stable", Options{})
	o.all = 8 * 10_000 * 6
	_, _, _, err := collect(t, o, Before{})
	if refused := (*RefusedError)(nil); !errors.As(err, &refused) || !strings.Contains(err.Error(), "longer than those of any distribution") {
		t.Errorf("too much together: %v", err)
	}
	o.all *= 2
	for range 2 { // each listing may read that much
		if _, _, _, err := collect(t, o, Before{}); err != nil {
			t.Error(err)
		}
	}
}

// TestAPTHostile has one index of everything that cannot be published.
func TestAPTHostile(t *testing.T) {
	s, a := &shelf{}, testArchive()
	sum := content.Sum([]byte("x")).String()
	stanza := func(file, size, hash string) string {
		return "Package: x\nFilename: " + file + "\nSize: " + size + "\nSHA256: " + hash + "\n\n"
	}
	a.extra = map[string]string{"main/binary-all/Packages.gz": packGzip(t, stanza("../../etc/passwd", "1", sum)+stanza("/abs", "1", sum)+
		stanza("pool/neg", "-1", sum)+stanza("pool/huge", "99999999999999999999", sum)+stanza("pool/nohash", "1", "")+stanza("pool/short", "1", "abcd")+
		stanza("pool/twice", "1", sum)+stanza("pool/twice", "2", sum)+stanza("pool/twice", "1", sum)+stanza("pool/file", "1", sum)+stanza("pool/file/below", "1", sum)+
		stanza("", "1", sum)+stanza("pool/good", "1", sum)+stanza("./pool/good", "1", sum)+stanza("pool/bell\a", "1", sum)+"Unknown-Field: x\n y\n\n"),
		"../../../evil/Packages": "x"}
	a.write(t, s, "stable")
	paths, _, told, err := collect(t, aptOver(t, s, "suite=stable", Options{}), Before{})
	if err != nil {
		t.Fatal(err)
	}
	var pool, bad []string
	for _, p := range paths {
		if strings.HasPrefix(p, "pool/") && strings.Count(p, "/") == 1 && p != "pool/main" {
			pool = append(pool, p)
		}
	}
	for _, b := range told.Bad {
		bad = append(bad, b.Path)
	}
	slices.Sort(bad)
	if want := []string{"pool/file", "pool/good"}; !slices.Equal(pool, want) {
		t.Errorf("pool: %q, want %q", pool, want)
	}
	want := []string{"../../etc/passwd", "/abs", "dists/stable/../../../evil/Packages", "pool/bell\a", "pool/file/below", "pool/huge", "pool/neg", "pool/nohash", "pool/short", "pool/twice", "x"}
	if diff := cmp.Diff(want, bad); diff != "" {
		t.Errorf("bad (-want +got):\n%s", diff)
	}
}

// TestAPTMixes: whoever has the signed file and all old ones cannot give an old index for the one that is named, under any of its names.
func TestAPTMixes(t *testing.T) {
	for _, byHash := range []bool{false, true} {
		s, a := &shelf{}, testArchive()
		a.byHash, a.signer = byHash, newSigner(t, "archive", testDay.AddDate(-1, 0, 0), 0)
		a.write(t, s, "stable")
		old := maps.Clone(s.files)
		a.debs[0].content = "bytes of xpt" // as long
		a.write(t, s, "stable")
		const index = "main/binary-amd64/Packages.xz"
		for name := range s.files {
			if strings.HasPrefix(name, "dists/stable/main/binary-amd64/") && old[name] == "" {
				s.files[name] = old["dists/stable/"+index]
			}
		}
		s.files["dists/stable/"+index] = old["dists/stable/"+index]
		paths, _, _, err := collect(t, aptOver(t, s, "suite=stable", Options{Access: Access{Keyring: writeKeyring(t, false, a.signer)}}), Before{})
		if !errors.Is(err, errSwitched) || len(paths) > 0 {
			t.Errorf("by-hash %v: %d paths, %v", byHash, len(paths), err)
		}
	}
}
