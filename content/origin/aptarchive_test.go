package origin

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"swarmnode/content"
)

// shelf is a source in memory that counts what it is asked.
type shelf struct {
	mu     sync.Mutex
	files  map[string]string
	asked  []string                       // the requests: verb and path
	before func(s *shelf, request string) // called, with the lock held, before each request
}

func (s *shelf) ask(request string) {
	s.asked = append(s.asked, request)
	if s.before != nil {
		s.before(s, request)
	}
}

func (s *shelf) open(verb, path, validator string) (*Body, string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ask(verb + " " + path)
	data, ok := s.files[path]
	if !ok {
		return nil, "", fmt.Errorf("%q: %w", path, ErrGone)
	}
	version := content.Sum([]byte(data)).String()
	if version == validator {
		return nil, "", ErrUnchanged
	}
	return &Body{ReadCloser: io.NopCloser(strings.NewReader(data)), Size: int64(len(data)), Version: version, Mtime: 1}, version, nil
}

func (s *shelf) Open(_ context.Context, e Entry, _ int64, _ string) (*Body, error) {
	body, _, err := s.open("GET", e.Path, "")
	return body, err
}

func (s *shelf) openIf(_ context.Context, path, validator string) (*Body, string, error) {
	return s.open("GET", path, validator)
}

func (s *shelf) size(_ context.Context, path string) (int64, error) {
	body, _, err := s.open("HEAD", path, "")
	if err != nil {
		return 0, err
	}
	return body.Size, nil
}

func (s *shelf) Close() error { return nil }

// requests gives what was asked since the last call.
func (s *shelf) requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	asked := s.asked
	s.asked = nil
	return asked
}

// deb is a package of an archive that a test makes.
type deb struct {
	name, section, arch, content string
}

func (d deb) path() string {
	return fmt.Sprintf("pool/main/%.1s/%s/%s_1_%s.deb", d.name, d.name, d.name, d.arch)
}

// archive is what a test makes an apt repository of.
type archive struct {
	debs        []deb
	sources     map[string]string // name -> content of its .dsc
	signer      *openpgp.Entity   // nil: not signed
	date, until time.Time
	byHash      bool
	detached    bool              // Release and Release.gpg without InRelease
	unpacked    bool              // Packages is there beside Packages.xz
	extra       map[string]string // further indexes
}

// write puts suite with component main for amd64 on a shelf, as an archive does that replaces files; by-hash names stay.
func (a archive) write(t testing.TB, s *shelf, suite string) {
	t.Helper()
	if s.files == nil {
		s.files = map[string]string{}
	}
	var packages, sources strings.Builder
	for _, d := range a.debs {
		s.files[d.path()] = d.content
		fmt.Fprintf(&packages, "Package: %s\nSection: %s\nArchitecture: %s\nDescription: of it\n long\n .\n text: more\nFilename: %s\nSize: %d\nSHA256: %s\n\n",
			d.name, d.section, d.arch, d.path(), len(d.content), content.Sum([]byte(d.content)))
	}
	for _, name := range slices.Sorted(maps.Keys(a.sources)) {
		dsc := a.sources[name]
		dir := "pool/main/" + name[:1] + "/" + name
		s.files[dir+"/"+name+"_1.dsc"] = dsc
		fmt.Fprintf(&sources, "Package: %s\nDirectory: %s\nFiles:\n 0 %d %s_1.dsc\nChecksums-Sha256:\n %s %d %s_1.dsc\nSection: net\n\n", name, dir, len(dsc), name, content.Sum([]byte(dsc)), len(dsc), name)
	}
	indexes := map[string]string{
		"main/binary-amd64/Packages": packages.String(), "main/binary-amd64/Packages.xz": packXZ(t, packages.String()),
		"main/source/Sources.gz": packGzip(t, sources.String()), "main/i18n/Translation-en.zst": packZstd(t, "words"),
		"main/binary-arm64/Packages.gz": packGzip(t, ""), "main/binary-amd64/Packages.diff/Index": "differences",
	}
	maps.Copy(indexes, a.extra)
	var sum256, sum512 strings.Builder
	dir := "dists/" + suite + "/"
	for _, name := range slices.Sorted(maps.Keys(indexes)) {
		data := indexes[name]
		h := sha512.Sum512([]byte(data))
		fmt.Fprintf(&sum256, " %s %16d %s\n", content.Sum([]byte(data)), len(data), name)
		fmt.Fprintf(&sum512, " %s %16d %s\n", hex.EncodeToString(h[:]), len(data), name)
		if name == "main/binary-amd64/Packages" && !a.unpacked {
			continue
		}
		s.files[dir+name] = data
		if a.byHash {
			s.files[path.Join(dir, path.Dir(name), "by-hash/SHA256", content.Sum([]byte(data)).String())] = data
			s.files[path.Join(dir, path.Dir(name), "by-hash/SHA512", hex.EncodeToString(h[:]))] = data
		}
	}
	release := fmt.Sprintf("Origin: test\nSuite: %s\nDate: %s\n", suite, a.date.UTC().Format(time.RFC1123))
	if !a.until.IsZero() {
		release += "Valid-Until: " + a.until.UTC().Format(time.RFC1123) + "\n"
	}
	if a.byHash {
		release += "Acquire-By-Hash: yes\nSHA512:\n" + sum512.String()
	}
	release += "Architectures: amd64 arm64\nComponents: main\nDescription: a test\nSHA256:\n" + sum256.String()
	delete(s.files, dir+"InRelease")
	s.files[dir+"Release"] = release
	if a.signer != nil {
		s.files[dir+"Release.gpg"] = signDetached(t, a.signer, a.date, release)
	}
	switch {
	case a.detached:
	case a.signer != nil:
		s.files[dir+"InRelease"] = signClear(t, a.signer, a.date, release)
	default:
		s.files[dir+"InRelease"] = release
	}
}

func packXZ(t testing.TB, text string) string {
	t.Helper()
	var out bytes.Buffer
	w, err := xz.NewWriter(&out)
	if err == nil {
		_, err = io.WriteString(w, text)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func packGzip(t testing.TB, text string) string {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, err := io.WriteString(w, text)
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func packZstd(t testing.TB, text string) string {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return string(w.EncodeAll([]byte(text), nil))
}

// newSigner makes a key that expires some seconds after a time; 0: never.
func newSigner(t testing.TB, name string, made time.Time, lifetime uint32) *openpgp.Entity {
	t.Helper()
	e, err := openpgp.NewEntity(name, "", name+"@example.org", &packet.Config{
		Algorithm: packet.PubKeyAlgoEdDSA, Time: func() time.Time { return made }, KeyLifetimeSecs: lifetime})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func signClear(t testing.TB, key *openpgp.Entity, at time.Time, text string) string {
	t.Helper()
	var out bytes.Buffer
	w, err := clearsign.Encode(&out, key.PrivateKey, &packet.Config{Time: func() time.Time { return at }})
	if err == nil {
		_, err = io.WriteString(w, text)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.String() + "\n"
}

func signDetached(t testing.TB, key *openpgp.Entity, at time.Time, text string) string {
	t.Helper()
	var out bytes.Buffer
	if err := openpgp.ArmoredDetachSign(&out, key, strings.NewReader(text), &packet.Config{Time: func() time.Time { return at }}); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// collect lists an origin and gives its paths, and what is known of each.
func collect(t testing.TB, o Origin, before Before) ([]string, map[string]Entry, Listing, error) {
	t.Helper()
	var paths []string
	entries := map[string]Entry{}
	told, err := o.List(t.Context(), before, func(e Entry) error {
		if n := len(paths); n > 0 && content.ComparePaths(paths[n-1], e.Path) >= 0 {
			t.Errorf("%q is listed after %q", e.Path, paths[n-1])
		}
		if parent := path.Dir(e.Path); parent != "." {
			if above := entries[parent]; !above.IsDir() {
				t.Errorf("%q is listed, and not its directory", e.Path)
			}
		}
		paths = append(paths, e.Path)
		entries[e.Path] = e
		return nil
	})
	return paths, entries, told, err
}

// after is what the next listing knows of this one.
func after(entries map[string]Entry, told Listing) Before {
	return Before{Memo: told.Memo, Entry: func(p string) (Entry, bool) { e, ok := entries[p]; return e, ok }}
}

// fetchAll reads each file as the engine does, and compares it with what the listing said and what the shelf has.
func fetchAll(t testing.TB, o Origin, entries map[string]Entry, want map[string]string) {
	t.Helper()
	for _, e := range entries {
		if !e.IsFile() {
			continue
		}
		body, err := o.Open(t.Context(), e, 0, "")
		if err != nil {
			t.Errorf("open %s: %v", e.Path, err)
			continue
		}
		data, err := io.ReadAll(body)
		if err != nil || body.Close() != nil || e.Size != int64(len(data)) || e.SHA256 != content.Sum(data) || e.Stamp != e.SHA256.String() || body.Mtime == 0 {
			t.Errorf("%s: %d bytes, %v, mtime %d; listed was %+v", e.Path, len(data), err, body.Mtime, e)
		}
		if want[e.Path] != string(data) {
			t.Errorf("%s is not what the server has", e.Path)
		}
	}
}

// files are the paths of a shelf that do not match any of these prefixes, with their directories.
func (s *shelf) paths(except ...string) []string {
	all := map[string]bool{}
	for p := range s.files {
		if slices.ContainsFunc(except, func(x string) bool { return strings.Contains(p, x) }) {
			continue
		}
		for ; p != "."; p = path.Dir(p) {
			all[p] = true
		}
	}
	return slices.SortedFunc(maps.Keys(all), content.ComparePaths)
}
