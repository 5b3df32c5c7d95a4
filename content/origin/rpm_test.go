package origin

import (
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/google/go-cmp/cmp"

	"swarmnode/content"
)

func rpmOver(t testing.TB, s *shelf, o Options) *rpm {
	t.Helper()
	r := repositoryOver(t, s, o)
	return &rpm{repository: r, print: r.fingerprint(repomd)}
}

// rpmRepository is what a test makes an rpm repository of.
type rpmRepository struct {
	packages map[string]string // path -> content
	pack     string            // ".gz", ".xz", ".zst"
	signer   *openpgp.Entity
	sha512   bool   // hashes are of that kind
	more     string // in the primary index
	made     string // the timestamp of the metadata
}

func (r rpmRepository) hash(data string) string {
	if r.sha512 {
		sum := sha512.Sum512([]byte(data))
		return `type="sha512"` + `%s>` + hex.EncodeToString(sum[:])
	}
	return `type="sha256"` + `%s>` + content.Sum([]byte(data)).String()
}

// write puts it on a shelf.
func (r rpmRepository) write(t testing.TB, s *shelf) {
	t.Helper()
	if s.files == nil {
		s.files = map[string]string{}
	}
	var primary strings.Builder
	primary.WriteString("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<metadata xmlns=\"http://linux.duke.edu/metadata/common\" xmlns:rpm=\"http://linux.duke.edu/metadata/rpm\" packages=\"2\">\n")
	for _, p := range slices.Sorted(maps.Keys(r.packages)) {
		s.files[p] = r.packages[p]
		fmt.Fprintf(&primary, `<package type="rpm"><name>x</name><checksum `+fmt.Sprintf(r.hash(r.packages[p]), ` pkgid="YES"`)+"</checksum><description>a &amp; b &lt;checksum&gt;</description>"+
			`<size package="%d" installed="7"/><location href="%s"/><format><rpm:license>x</rpm:license><file>/etc/x</file><location href="evil"/></format></package>`+"\n", len(r.packages[p]), p)
	}
	primary.WriteString(r.more + "</metadata>\n")
	packed := primary.String()
	switch r.pack {
	case ".gz":
		packed = packGzip(t, packed)
	case ".xz":
		packed = packXZ(t, packed)
	case ".zst":
		packed = packZstd(t, packed)
	}
	s.files["repodata/abc-primary.xml"+r.pack] = packed
	s.files["repodata/def-filelists.xml"] = "<filelists/>"
	var top strings.Builder
	top.WriteString(`<repomd xmlns="http://linux.duke.edu/metadata/repo"><revision>1</revision>`)
	for _, d := range [][2]string{{"primary", "repodata/abc-primary.xml" + r.pack}, {"filelists", "repodata/def-filelists.xml"}} {
		fmt.Fprintf(&top, `<data type="%s"><checksum `+fmt.Sprintf(r.hash(s.files[d[1]]), "")+`</checksum><open-checksum type="sha256">00</open-checksum><location href="%s"/><timestamp>%s</timestamp><size>%d</size></data>`, d[0], d[1], r.made, len(s.files[d[1]]))
	}
	top.WriteString("</repomd>\n")
	s.files["repodata/repomd.xml"] = top.String()
	if r.signer != nil {
		s.files["repodata/repomd.xml.asc"] = signDetached(t, r.signer, testDay, top.String())
	}
}

func testRPM() rpmRepository {
	return rpmRepository{packages: map[string]string{"Packages/a/a-1.rpm": "bytes of a", "Packages/b/b-1.rpm": ""}, pack: ".gz"}
}

func TestRPMLists(t *testing.T) {
	for _, pack := range []string{"", ".gz", ".xz", ".zst"} {
		s, r := &shelf{}, testRPM()
		r.pack = pack
		r.signer = newSigner(t, "rpm", testDay.AddDate(-1, 0, 0), 0)
		r.write(t, s)
		o := rpmOver(t, s, Options{Access: Access{Keyring: writeKeyring(t, true, r.signer)}})
		paths, entries, told, err := collect(t, o, Before{})
		if err != nil || len(told.Bad) > 0 {
			t.Fatal(pack, err, told.Bad)
		}
		if diff := cmp.Diff(s.paths(), paths); diff != "" {
			t.Errorf("%q: paths (-want +got):\n%s", pack, diff)
		}
		for p, e := range entries {
			if e.IsFile() && e.Last != strings.HasPrefix(p, "repodata/") {
				t.Errorf("%s: last %v", p, e.Last)
			}
		}
		fetchAll(t, o, entries, s.files)
		s.requests()
		_, _, again, err := collect(t, rpmOver(t, s, o.o), after(entries, told))
		if want := []string{"GET repodata/repomd.xml"}; !errors.Is(err, ErrUnchanged) || !slices.Equal(s.requests(), want) || again.Requests != 1 {
			t.Errorf("unchanged: %v, %d requests", err, again.Requests)
		}
	}
}

func TestRPMTree(t *testing.T) {
	s, r := &shelf{}, testRPM()
	r.write(t, s)
	s.files["images/boot.iso"] = "an image"
	s.files[".treeinfo"] = "[header]\nversion = 1.2\n[checksums]\nimages/boot.iso = sha256:" + content.Sum([]byte("an image")).String() +
		"\nrepodata/repomd.xml = sha256:" + strings.Repeat("0", 64) + "\n../out = sha256:" + strings.Repeat("0", 64) + "\nold = sha1:00\n[tree]\narch = x86_64\n"
	paths, entries, told, err := collect(t, rpmOver(t, s, Options{}), Before{})
	if err != nil || len(told.Bad) != 1 || told.Bad[0].Path != "../out" {
		t.Fatal(err, told.Bad)
	}
	if diff := cmp.Diff(s.paths(), paths); diff != "" {
		t.Errorf("paths (-want +got):\n%s", diff)
	}
	if e := entries["images/boot.iso"]; e.Size != SizeUnknown || e.SHA256 != content.Sum([]byte("an image")) {
		t.Errorf("%+v", e)
	}
}

// TestRPMSignedOnly: with a keyring, what no signature vouches for is left out: else who gives out the repository could put images into it,
// a key of his own, and by naming a package with another hash have it left out.
func TestRPMSignedOnly(t *testing.T) {
	s, r := &shelf{}, testRPM()
	good, other := newSigner(t, "good", testDay.AddDate(-1, 0, 0), 0), newSigner(t, "other", testDay.AddDate(-1, 0, 0), 0)
	r.signer = good
	r.write(t, s)
	want := s.paths()
	s.files[".treeinfo"] = "[checksums]\nPackages/a/a-1.rpm = sha256:" + strings.Repeat("0", 64) + "\nimages/boot.iso = sha256:" + strings.Repeat("0", 64) + "\n"
	o := Options{Access: Access{Keyring: writeKeyring(t, true, good)}}
	for name, c := range map[string]struct {
		key []*openpgp.Entity
		bad []string
	}{"its key": {[]*openpgp.Entity{good}, []string{".treeinfo"}}, "another": {[]*openpgp.Entity{good, other}, []string{".treeinfo", "repodata/repomd.xml.key"}}, "no key": {nil, []string{".treeinfo", "repodata/repomd.xml.key"}}} {
		var key strings.Builder
		for _, k := range c.key {
			writeArmored(t, &key, k)
		}
		s.files["repodata/repomd.xml.key"] = key.String()
		origin := rpmOver(t, s, o)
		paths, entries, told, err := collect(t, origin, Before{})
		var bad []string
		for _, b := range told.Bad {
			bad = append(bad, b.Path)
		}
		slices.Sort(bad)
		if got := slices.DeleteFunc(paths, func(p string) bool { return p == "repodata/repomd.xml.key" }); err != nil || !slices.Equal(bad, c.bad) || !slices.Equal(got, want) {
			t.Errorf("%s: %v, bad %q, paths %q", name, err, bad, got)
		}
		if _, is := entries["repodata/repomd.xml.key"]; is != (len(c.bad) == 1) {
			t.Errorf("%s: the key is there: %v", name, is)
		}
		s.requests()
		if _, _, _, err := collect(t, origin, after(entries, told)); !errors.Is(err, ErrUnchanged) || len(s.requests()) != 1 {
			t.Errorf("%s: unchanged: %v", name, err)
		}
	}
}

// TestKeyBlocks: the text before a block is looked at again for each that seems to be there.
func TestKeyBlocks(t *testing.T) {
	var key strings.Builder
	writeArmored(t, &key, newSigner(t, "key", testDay.AddDate(-1, 0, 0), 0))
	keys, err := parseKeys([]byte(strings.Repeat(key.String(), maxKeyBlocks)))
	if err != nil || len(keys) != maxKeyBlocks {
		t.Errorf("%d keys, %v", len(keys), err)
	}
	if _, err := parseKeys([]byte(strings.Repeat("x-----BEGIN PGP-----END PGP\n", 10*maxKeyBlocks) + key.String())); err == nil {
		t.Error("the same block is read again and again")
	}
}

// TestRPMTreeChanges: a .treeinfo is asked for in each poll where there is one, and its change alone makes a release.
func TestRPMTreeChanges(t *testing.T) {
	s, r := &shelf{}, testRPM()
	r.write(t, s)
	s.files[".treeinfo"] = "[checksums]\n"
	o := rpmOver(t, s, Options{})
	_, entries, told, err := collect(t, o, Before{})
	if err != nil {
		t.Fatal(err)
	}
	s.requests()
	_, _, again, err := collect(t, o, after(entries, told))
	if got, want := s.requests(), []string{"GET repodata/repomd.xml", "GET .treeinfo"}; !errors.Is(err, ErrUnchanged) || !slices.Equal(got, want) {
		t.Errorf("unchanged: %v, %q, want %q", err, got, want)
	}
	if diff := cmp.Diff(told.Memo, again.Memo); diff != "" {
		t.Errorf("memo (-want +got):\n%s", diff)
	}
	s.files["images/boot.iso"] = "an image"
	s.files[".treeinfo"] += "images/boot.iso = sha256:" + content.Sum([]byte("an image")).String() + "\n"
	paths, entries, told, err := collect(t, rpmOver(t, s, Options{}), after(entries, told))
	if diff := cmp.Diff(s.paths(), paths); err != nil || diff != "" {
		t.Errorf("%v, paths (-want +got):\n%s", err, diff)
	}
	delete(s.files, ".treeinfo")
	delete(s.files, "images/boot.iso")
	paths, entries, told, err = collect(t, rpmOver(t, s, Options{}), after(entries, told))
	if diff := cmp.Diff(s.paths(), paths); err != nil || diff != "" {
		t.Errorf("gone: %v, paths (-want +got):\n%s", err, diff)
	}
	s.requests()
	if _, _, _, err = collect(t, o, after(entries, told)); !errors.Is(err, ErrUnchanged) || len(s.requests()) != 1 {
		t.Errorf("unchanged, without one: %v", err)
	}
}

func TestRPMRefusesGoingBack(t *testing.T) {
	day := func(n int) string { return fmt.Sprint(testDay.AddDate(0, 0, n).Unix()) }
	for _, c := range []struct {
		name, first, second string
		meant, refused      bool
	}{
		{"forward", day(-2), day(-1), false, false},
		{"back", day(-2), day(-3), false, true},
		{"back, and meant", day(-2), day(-3), true, false},
		{"not told at first", "", day(-3), false, false},
		{"not told any more", day(-2), "", false, false},
		{"from the future to now", day(400), day(0), false, false},
		{"from the future to yesterday", day(400), day(-1), false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, r := &shelf{}, testRPM()
			r.made = c.first
			r.write(t, s)
			_, entries, told, err := collect(t, rpmOver(t, s, Options{}), Before{})
			if err != nil {
				t.Fatal(err)
			}
			r.made, r.more = c.second, "\n"
			r.write(t, s)
			o := rpmOver(t, s, Options{})
			o.back = c.meant
			_, _, _, err = collect(t, o, after(entries, told))
			refused := (*RefusedError)(nil)
			if got := errors.As(err, &refused) && strings.Contains(err.Error(), "check-date=no"); got != c.refused || !got && err != nil {
				t.Errorf("%v; want refused %v", err, c.refused)
			}
		})
	}
}

func TestTimestamp(t *testing.T) {
	for text, want := range map[string]int64{"1700000000": 1700000000, " 1700000000.25\n": 1700000000, "253402300799": 253402300799, "253402300800": 0, "-1": 0, "": 0, "x": 0, "99999999999999999999": 0} {
		if got := timestamp(text); got.IsZero() != (want == 0) || want != 0 && got.Unix() != want {
			t.Errorf("%q: %v, want %d", text, got, want)
		}
	}
}

func TestRPMParameters(t *testing.T) {
	for query, want := range map[string]string{"": "", "check-date=no": "", "max-age=14d&check-date=no": "", "max-age=36h": "", "suite=x": "check-date=no and max-age=14d may stand",
		"check-date=yes": "may stand", "max-age=": "write it like", "max-age=2w": "write it like", "max-age=1d&max-age=2d": "write it like", "max-age=%": "invalid URL escape"} {
		o, err := Open(t.Context(), "rpm+http://host/el9/?"+query, Options{})
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v, want %q", query, err, want)
		}
		if err == nil {
			_ = o.Close()
		}
	}
}

// TestRPMSHA512: what only SHA512 vouches for is compared while it is read.
func TestRPMSHA512(t *testing.T) {
	s, r := &shelf{}, testRPM()
	r.sha512 = true
	r.write(t, s)
	o := rpmOver(t, s, Options{})
	_, entries, _, err := collect(t, o, Before{})
	if err != nil {
		t.Fatal(err)
	}
	for want, data := range map[string]string{"": "bytes of a", "has not the SHA512": "bytes of b"} {
		s.files["Packages/a/a-1.rpm"] = data
		body, err := o.Open(t.Context(), entries["Packages/a/a-1.rpm"], 3, "x")
		if err != nil || body.Offset != 0 || body.Version != "" {
			t.Fatalf("%v %+v", err, body)
		}
		if _, err := io.ReadAll(body); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", data, err)
		}
	}
}

func TestRPMRefuses(t *testing.T) {
	good, other := newSigner(t, "good", testDay.AddDate(-1, 0, 0), 0), newSigner(t, "other", testDay.AddDate(-1, 0, 0), 0)
	for name, c := range map[string]struct {
		want   string
		change func(r *rpmRepository)
		after  func(s *shelf)
	}{
		"wrong key":    {want: "is not in the keyring", change: func(r *rpmRepository) { r.signer = other }},
		"not signed":   {want: "is not signed", change: func(r *rpmRepository) { r.signer = nil }},
		"changed":      {want: "the signature is not of this text", after: func(s *shelf) { s.files["repodata/repomd.xml"] += "\n" }},
		"wrong hash":   {want: "has not the hash", after: func(s *shelf) { p := "repodata/abc-primary.xml.gz"; s.files[p] = strings.Repeat("x", len(s.files[p])) }},
		"too long":     {want: "longer than metadata", after: func(s *shelf) { s.files["repodata/abc-primary.xml.gz"] += "x" }},
		"index gone":   {want: "gone since", after: func(s *shelf) { delete(s.files, "repodata/abc-primary.xml.gz") }},
		"nothing":      {want: "there is no repodata/repomd.xml", after: func(s *shelf) { clear(s.files) }},
		"entity":       {want: "invalid character entity", change: func(r *rpmRepository) { r.more = "<package>&lol;</package>" }},
		"deep":         {want: "deep in one another", change: func(r *rpmRepository) { r.more = strings.Repeat("<a>", 100) }},
		"long text":    {want: "a name, text or comment", change: func(r *rpmRepository) { r.more = "<a>" + strings.Repeat("x", 2*maxXMLToken) + "</a>" }},
		"wrong ends":   {want: "ends where it has not begun", change: func(r *rpmRepository) { r.more = "<a></b>" }},
		"two in a row": {want: "a second document", change: func(r *rpmRepository) { r.more = "</metadata><metadata>" }},
	} {
		t.Run(name, func(t *testing.T) {
			s, r := &shelf{}, testRPM()
			r.signer = good
			if c.change != nil {
				c.change(&r)
			}
			r.write(t, s)
			if c.after != nil {
				c.after(s)
			}
			paths, _, _, err := collect(t, rpmOver(t, s, Options{Access: Access{Keyring: writeKeyring(t, false, good)}}), Before{})
			if err == nil || !strings.Contains(err.Error(), c.want) || len(paths) > 0 {
				t.Errorf("%d paths, %v; want %q", len(paths), err, c.want)
			}
		})
	}
}

func TestRPMHostile(t *testing.T) {
	s, r := &shelf{}, testRPM()
	sum := strings.Repeat("0", 64)
	one := func(kind, hash, size, href string) string {
		return `<package><checksum type="` + kind + `">` + hash + `</checksum><size package="` + size + `"/><location ` + href + `/></package>`
	}
	r.more = one("sha256", sum, "1", `href="../out"`) + one("sha", sum, "1", `href="forged"`) + one("sha256", "0", "1", `href="short"`) +
		one("sha256", sum, "-2", `href="negative"`) + one("sha256", sum, "1", `href="elsewhere" xml:base="http://other/"`) +
		one("sha256", sum, "1", `href="http://other/x"`) + one("sha256", sum, "1", `href="twice"`) + one("sha256", strings.Repeat("1", 64), "1", `href="twice"`) +
		one("sha256", sum, "1", "") + one("sha256", sum, "1", `href="good" xml:base="."`) + one("sha256", sum+strings.Repeat("<!-- -->0", 10_000), "1", `href="long"`)
	r.write(t, s)
	paths, _, told, err := collect(t, rpmOver(t, s, Options{}), Before{})
	if err != nil {
		t.Fatal(err)
	}
	var bad []string
	for _, b := range told.Bad {
		bad = append(bad, b.Path)
	}
	slices.Sort(bad)
	if diff := cmp.Diff([]string{"", "../out", "elsewhere", "forged", "http://other/x", "long", "negative", "short", "twice"}, bad); diff != "" {
		t.Errorf("bad (-want +got):\n%s", diff)
	}
	if !slices.Contains(paths, "good") || slices.Contains(paths, "twice") {
		t.Errorf("paths %q", paths)
	}
}

func TestRPMCutOff(t *testing.T) {
	const whole = "<metadata><package><name>x</name></package></metadata>"
	refuse := func(string, error) {}
	for n := range len(whole) {
		if err := readPrimary(strings.NewReader(whole[:n]), nil, refuse); err == nil {
			t.Errorf("%q is read without an error", whole[:n])
		}
	}
	if err := readPrimary(strings.NewReader(whole), nil, refuse); err != nil {
		t.Error(err)
	}
}
