package origin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
)

// siteFiles makes a tree with all that is odd, everything an hour old, and gives its files.
func siteFiles(t *testing.T) (string, map[string][]byte) {
	t.Helper()
	dir := t.TempDir()
	big := make([]byte, 9<<20+5)
	random := rand.NewChaCha8([32]byte{7})
	_, _ = random.Read(big)
	files := map[string][]byte{"a": []byte("hello"), "empty": {}, "d/with space": []byte("1"), "d/ü*?[x]'\"$(id)": []byte("2"), "d/-rf": []byte("3"), "d/e/big": big, "d.txt": []byte("4"), "block": big[:sftpBlock]}
	hour := time.Now().Add(-time.Hour).Truncate(time.Second)
	for name, data := range files {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		writeFile(t, p, data)
		if err := errors.Join(os.Chmod(p, 0o640), os.Chtimes(p, hour, hour)); err != nil {
			t.Fatal(err)
		}
	}
	for name, target := range map[string]string{"link": "d/e", "d/up": "../a", "out": "../../etc/passwd", "abs": "/etc/passwd"} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return dir, files
}

// checkSite compares a whole origin with what siteFiles made.
func checkSite(t *testing.T, origin Origin, files map[string][]byte) map[string]Entry {
	t.Helper()
	var order []string
	got := map[string]Entry{}
	l, err := origin.List(t.Context(), Before{}, func(e Entry) error {
		got[e.Path] = e
		order = append(order, e.Path)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"a", "abs", "block", "d", "d/-rf", "d/e", "d/e/big", "d/up", "d/with space", "d/ü*?[x]'\"$(id)", "d.txt", "empty", "link", "out"}; !slices.Equal(order, slices.DeleteFunc(want, func(p string) bool { return p == "abs" || p == "out" })) {
		t.Errorf("listed %q", order)
	}
	if len(l.Bad) != 2 || l.Bad[0].Path != "abs" || l.Bad[1].Path != "out" {
		t.Errorf("bad: %v", l.Bad)
	}
	if got["link"].Target != "d/e" || got["d/up"].Target != "../a" {
		t.Errorf("links to %q and %q", got["link"].Target, got["d/up"].Target)
	}
	var wg sync.WaitGroup
	for name, want := range files {
		e := got[name]
		if e.Size != int64(len(want)) || e.Mode != 0o100640 || e.Stamp == "" || time.Since(time.Unix(0, e.Mtime)).Round(time.Hour) != time.Hour {
			t.Errorf("%q: %+v", name, e)
		}
		wg.Go(func() {
			data, b, err := readAll(t, origin, e, 0, "")
			if err != nil || !bytes.Equal(data, want) || b.Offset != 0 {
				t.Errorf("%q: %d bytes of %d: %v", name, len(data), len(want), err)
			}
		})
	}
	wg.Wait()
	return got
}

// readAll reads a file to its end, and asks if it is still the same.
func readAll(t *testing.T, origin Origin, e Entry, offset int64, version string) ([]byte, *Body, error) {
	b, err := origin.Open(t.Context(), e, offset, version)
	if err != nil {
		return nil, nil, err
	}
	defer b.Close()
	data, err := io.ReadAll(b)
	if err == nil && b.Still != nil {
		if same, err := b.Still(t.Context()); err != nil || !same {
			return data, b, fmt.Errorf("still the same: %v, %w", same, err)
		}
	}
	return data, b, err
}

func openTestSFTP(t *testing.T, s *sshd, dir string, change func(*Options)) *sftpOrigin {
	t.Helper()
	o := s.options()
	if change != nil {
		change(&o)
	}
	origin, err := openSFTP(t.Context(), mustURL(t, "sftp://me@"+s.addr+dir), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { origin.Close() })
	return origin.(*sftpOrigin)
}

func TestSFTP(t *testing.T) {
	s := startSSH(t, sftpServe)
	dir, files := siteFiles(t)
	origin := openTestSFTP(t, s, dir, nil)
	got := checkSite(t, origin, files)
	if n := s.logins.Load(); n != 1 {
		t.Errorf("%d logins", n)
	}
	before := Before{Entry: func(p string) (Entry, bool) { e, ok := got[p]; return e, ok }}
	// The links are a moment old: they are asked for again, and so are always the two whose targets nobody is told.
	youngLinks := func() (n int) {
		for _, p := range []string{"link", "d/up"} {
			if young(got[p].Mtime) {
				n++
			}
		}
		return n
	}
	most := youngLinks()
	again, l, err := entriesOf(t, origin, before)
	if err != nil || fmt.Sprint(again) != fmt.Sprint(got) {
		t.Errorf("the second listing: %v\n%v\n%v", err, again, got)
	}
	if least := youngLinks(); l.Requests < 3+2+least || l.Requests > 3+2+most {
		t.Errorf("%d requests for 3 directories, 2 links that lead out and %d to %d new ones", l.Requests, least, most)
	}
	// Going on, and not with another version.
	_, b, err := readAll(t, origin, got["d/e/big"], 0, "")
	if err != nil || b.Version == "" {
		t.Fatal(err, b)
	}
	if data, b, err := readAll(t, origin, got["d/e/big"], 5<<20, b.Version); err != nil || b.Offset != 5<<20 || !bytes.Equal(data, files["d/e/big"][5<<20:]) {
		t.Errorf("going on: %d bytes, %v", len(data), err)
	}
	if data, b, err := readAll(t, origin, got["d/e/big"], 5<<20, "another"); err != nil || b.Offset != 0 || len(data) != len(files["d/e/big"]) {
		t.Errorf("another version: %d bytes, %v", len(data), err)
	}
}

func TestSFTPChanges(t *testing.T) {
	s := startSSH(t, sftpServe)
	dir, files := siteFiles(t)
	origin := openTestSFTP(t, s, dir, nil)
	got, _, err := entriesOf(t, origin, Before{})
	if err != nil {
		t.Fatal(err)
	}
	open := func(name string) *Body {
		b, err := origin.Open(t.Context(), got[name], 0, "")
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	still := func(what string, b *Body, want bool) {
		t.Helper()
		if same, err := b.Still(t.Context()); err != nil || same != want {
			t.Errorf("%s: still the same %v, %v", what, same, err)
		}
		b.Close()
	}
	b := open("a")
	writeFile(t, filepath.Join(dir, "new"), []byte("other"))
	if err := os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, "a")); err != nil {
		t.Fatal(err)
	}
	still("replaced", b, false)
	b = open("d.txt")
	writeFile(t, filepath.Join(dir, "d.txt"), []byte("in place"))
	still("written to", b, false)
	b = open("empty")
	os.Remove(filepath.Join(dir, "empty"))
	still("removed", b, false)
	if _, err := origin.Open(t.Context(), got["empty"], 0, ""); !errors.Is(err, ErrGone) {
		t.Errorf("opened what is gone: %v", err)
	}
	b = open("d/e/big")
	defer b.Close()
	if err := os.Truncate(filepath.Join(dir, "d/e/big"), 100); err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, b); !errors.Is(err, io.ErrUnexpectedEOF) || n > int64(len(files["d/e/big"])) {
		t.Errorf("truncated: %d bytes, %v", n, err)
	}
	fresh, _, err := entriesOf(t, origin, Before{})
	if err != nil || fresh["d.txt"].Stamp != "" || fresh["block"].Stamp == "" {
		t.Errorf("stamps: %q and %q, %v", fresh["d.txt"].Stamp, fresh["block"].Stamp, err)
	}
}

// The connection is cut in the middle of a file, and made again by whoever asks next.
func TestSFTPCut(t *testing.T) {
	s := startSSH(t, sftpServe)
	dir, files := siteFiles(t)
	s.cut.Store(6 << 20)
	origin := openTestSFTP(t, s, dir, nil)
	got, _, err := entriesOf(t, origin, Before{})
	if err != nil {
		t.Fatal(err)
	}
	b, err := origin.Open(t.Context(), got["d/e/big"], 0, "")
	if err != nil {
		t.Fatal(err)
	}
	first, err := io.ReadAll(b)
	if err == nil || errors.As(err, new(*RefusedError)) {
		t.Errorf("cut: %v", err)
	}
	b.Close()
	s.cut.Store(0)
	var rest []byte
	var b2 *Body
	err = Retry(t.Context(), func() (err error) { // one that asks while the connection is being given up hears of it, too
		rest, b2, err = readAll(t, origin, got["d/e/big"], int64(len(first)), b.Version)
		return err
	})
	if err != nil || len(first) == 0 || b2.Offset != int64(len(first)) || !bytes.Equal(append(first, rest...), files["d/e/big"]) {
		t.Errorf("went on at %d with %d bytes: %v", len(first), len(rest), err)
	}
}

// A server that allows one session per connection is enough for any number of readers.
func TestSFTPSessions(t *testing.T) {
	s := startSSH(t, sftpServe)
	s.most.Store(1)
	dir, files := siteFiles(t)
	checkSite(t, openTestSFTP(t, s, dir, nil), files)
}

// hostile is a server without files.
type hostile struct {
	list func(p []os.FileInfo, at int64) (int, error)
}

func (h *hostile) Filelist(*sftp.Request) (sftp.ListerAt, error) { return h, nil }
func (h *hostile) ListAt(p []os.FileInfo, at int64) (int, error) { return h.list(p, at) }
func (h *hostile) Fileread(*sftp.Request) (io.ReaderAt, error) {
	return strings.NewReader("short"), nil
}
func (h *hostile) Filewrite(*sftp.Request) (io.WriterAt, error) { return nil, fs.ErrPermission }
func (h *hostile) Filecmd(*sftp.Request) error                  { return fs.ErrPermission }
func (h *hostile) serve(_ *testing.T, _, _ string, ch ssh.Channel) {
	_ = sftp.NewRequestServer(ch, sftp.Handlers{FileGet: h, FilePut: h, FileCmd: h, FileList: h}).Serve()
}

type fakeInfo struct {
	name string
	size int64
	mode fs.FileMode
}

func (f fakeInfo) Name() string      { return f.name }
func (f fakeInfo) Size() int64       { return f.size }
func (f fakeInfo) Mode() fs.FileMode { return f.mode }
func (fakeInfo) ModTime() time.Time  { return time.Unix(1e9, 0) }
func (f fakeInfo) IsDir() bool       { return f.mode.IsDir() }
func (fakeInfo) Sys() any            { return nil }

func TestSFTPHostile(t *testing.T) {
	long := strings.Repeat("x", 200)
	endless := &hostile{list: func(p []os.FileInfo, at int64) (int, error) {
		for i := range p {
			p[i] = fakeInfo{fmt.Sprint(long, at+int64(i)), 1, 0o644}
		}
		return len(p), nil
	}}
	s := startSSH(t, endless.serve)
	if _, _, err := entriesOf(t, openTestSFTP(t, s, "/", nil), Before{}); !errors.As(err, new(*RefusedError)) || !strings.Contains(err.Error(), "64 MiB, or 400000 names, in one directory") {
		t.Errorf("an endless listing: %v", err)
	}
	lies := &hostile{list: func(p []os.FileInfo, at int64) (int, error) {
		all := []fakeInfo{{"file", 10, 0o644}, {"minus", -1, 0o644}, {"\xff", 1, 0o644}, {"new\nline", 1, 0o644}, {"pipe", 0, fs.ModeNamedPipe}, {"file", 10, 0o644}, {"../up", 1, 0o644}}
		n := 0
		for ; n < len(p) && at < int64(len(all)); n, at = n+1, at+1 {
			p[n] = all[at]
		}
		return n, io.EOF
	}}
	s = startSSH(t, lies.serve)
	origin := openTestSFTP(t, s, "/", nil)
	got, l, err := entriesOf(t, origin, Before{})
	if err != nil || len(got) != 2 || len(l.Bad) != 5 {
		t.Fatalf("%v, bad %v, %v", got, l.Bad, err)
	}
	if data, _, err := readAll(t, origin, got["file"], 0, ""); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("10 bytes were told, 5 are there: %q, %v", data, err)
	}
}

// A server that takes the connection and says nothing ends by the timeout, and by the end of the context.
func TestSFTPSilent(t *testing.T) {
	s := startSSH(t, func(_ *testing.T, _, _ string, ch ssh.Channel) { _, _ = io.Copy(io.Discard, ch) })
	origin := openTestSFTP(t, s, "/", func(o *Options) { o.Timeout = 20 * time.Millisecond })
	if _, _, _, err := origin.list(t.Context(), Before{}, ""); err == nil || !strings.Contains(err.Error(), "no byte came for 20ms") {
		t.Errorf("silence: %v", err)
	}
	reached := make(chan struct{})
	s = startSSH(t, func(_ *testing.T, _, _ string, ch ssh.Channel) { close(reached); _, _ = io.Copy(io.Discard, ch) })
	ctx, stop := context.WithCancel(t.Context())
	go func() { <-reached; stop() }()
	if _, _, _, err := openTestSFTP(t, s, "/", nil).list(ctx, Before{}, ""); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
