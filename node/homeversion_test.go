package node

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"swarmnode/node/control"
)

// oldHome is the home of a mirror of version 1 as it was left behind: release 2 of "archive", two files, release 1 within grace. Its
// node.key was taken out.
const oldHome = "testdata/home-1"

// oldHomeNow is a time at which what is signed in oldHome is valid.
func oldHomeNow() time.Time { return time.Date(2026, 11, 23, 1, 0, 0, 0, time.UTC) }

func readFile(t *testing.T, path string) string {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// TestOldHomes: what an earlier version left behind is served as it was, and is of the present version afterwards.
func TestOldHomes(t *testing.T) {
	t.Parallel()
	for version := range len(steps()) + 1 {
		t.Run(fmt.Sprint(version), func(t *testing.T) {
			home := filepath.Join(t.TempDir(), "home")
			if err := os.CopyFS(home, os.DirFS(oldHome)); err != nil {
				t.Fatal(err)
			}
			if version == 0 { // 1 differs by the file alone
				if err := os.Remove(filepath.Join(home, versionFile)); err != nil {
					t.Fatal(err)
				}
			}
			m := startWith(t, "mirror", withGateway(Config{Home: home, Now: oldHomeNow}))
			c := m.find(t, "archive")
			if c.Release != 2 || !c.Complete || c.Files != 2 || c.Trouble != "" {
				t.Errorf("status: %+v, want all of release 2", c)
			}
			var want strings.Builder
			for i := range 2001 {
				fmt.Fprintln(&want, i+1)
			}
			if got := m.ask(t, "GET", "/archive/dir/numbers.txt"); got.StatusCode != 200 || string(got.body) != want.String() {
				t.Errorf("a file of it: %s, %d bytes; want %d", got.Status, len(got.body), want.Len())
			}
			if got, want := readFile(t, filepath.Join(home, versionFile)), fmt.Sprintln(len(steps())); got != want {
				t.Errorf("the home is of version %q afterwards, want %q", got, want)
			}
		})
	}
}

// TestNewHome: a home that did not exist is of the present version.
func TestNewHome(t *testing.T) {
	home := filepath.Join(t.TempDir(), "home")
	if err := os.Mkdir(home, 0o700); err != nil {
		t.Fatal(err)
	}
	lock, err := takeHome(home)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if v, err := readVersion(home); v != len(steps()) || err != nil {
		t.Errorf("version %d, %v; want %d", v, err, len(steps()))
	}
}

// TestNewerHome: what a later version has used is refused with a sentence, and not touched; so is what says no version at all.
func TestNewerHome(t *testing.T) {
	for in, want := range map[string]string{
		fmt.Sprint(len(steps()) + 1): "was last used by a later version of swarmnode",
		"":                           "is damaged: it should have a number",
		"-1\n":                       "is damaged: it should have a number",
		"two\n":                      "is damaged: it should have a number",
	} {
		home := t.TempDir()
		write(t, home, versionFile, in)
		_, err := Open(t.Context(), Config{Home: home})
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), home) {
			t.Errorf("%q: %v, want %q and the directory", in, err, want)
		}
		if got := readFile(t, filepath.Join(home, versionFile)); got != in {
			t.Errorf("%q: it was changed to %q", in, got)
		}
		if list, err := filepath.Glob(filepath.Join(home, "*")); err != nil || len(list) != 2 {
			t.Errorf("%q: in the home are %v, %v; want the version and the lock", in, list, err)
		}
		if err := ScrubHome(t.Context(), home, 0, testLog(t, "scrub"), nil); err == nil || errors.Is(err, ErrHomeBusy) {
			t.Errorf("%q: scrub: %v, want the same, and the home free again", in, err)
		}
		if _, err := OpenKeyRing(home, "x"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: keys: %v", in, err)
		}
	}
}

// TestUpgradeStepByStep: each step is taken once, in order, and one that was cut off is taken again.
func TestUpgradeStepByStep(t *testing.T) {
	home := t.TempDir()
	var took []int
	cut := errors.New("cut off")
	fail := true
	all := make([]step, 4)
	for i := range all {
		all[i] = func(string) error {
			took = append(took, i)
			if i == 2 && fail {
				return cut
			}
			return nil
		}
	}
	if err := upgrade(home, all); !errors.Is(err, cut) || !strings.Contains(err.Error(), "from version 2 to 3") {
		t.Errorf("a step fails: %v", err)
	}
	if v, err := readVersion(home); v != 2 || err != nil {
		t.Errorf("after that it is version %d, %v; want 2", v, err)
	}
	fail = false
	for range 2 {
		if err := upgrade(home, all); err != nil {
			t.Error(err)
		}
	}
	if want := []int{0, 1, 2, 2, 3}; !slices.Equal(took, want) {
		t.Errorf("took the steps %v, want %v", took, want)
	}
}

// A home directory that another user's node has used is left alone, also by root: what root wrote, that node could not read any more.
func TestHomeOfAnotherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give a file to another user")
	}
	const nobody = 65534
	home := t.TempDir()
	lock, err := takeHome(home)
	if err != nil {
		t.Fatal(err)
	}
	lock.Close()
	if err := os.Chown(filepath.Join(home, "lock"), nobody, nobody); err != nil {
		t.Fatal(err)
	}
	if _, err := takeHome(home); err == nil || !strings.Contains(err.Error(), "sudo -u ") || !strings.Contains(err.Error(), home) {
		t.Errorf("got %v, want that another user has it", err)
	}
	if _, err := Open(t.Context(), Config{Home: home}); err == nil {
		t.Error("a node was opened on it")
	}
}

// oldOriginHome is the home of a publisher of version 1 that follows a web server, as it was left behind: release 2 of "site", three
// files, and a key that was made for it. Its node.key was taken out.
const oldOriginHome = "testdata/home-origin-1"

// TestOldOriginHome: what an earlier version has fetched from a site is served as it was, the site is followed on, and nothing that has not
// changed there is fetched again.
func TestOldOriginHome(t *testing.T) {
	t.Parallel()
	home := filepath.Join(t.TempDir(), "home")
	if err := os.CopyFS(home, os.DirFS(oldOriginHome)); err != nil {
		t.Fatal(err)
	}
	keys, err := filepath.Glob(filepath.Join(home, keysDir, "site", "*.key"))
	if err != nil || len(keys) != 5 {
		t.Fatalf("keys %v, %v", keys, err)
	}
	for _, k := range keys { // a checkout makes them readable for all
		if err := os.Chmod(k, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	x := startWith(t, "master", withGateway(Config{Home: home, Now: oldHomeNow}))
	c := x.find(t, "site")
	if c.Release != 2 || !c.Complete || c.Files != 3 || c.Trouble != "" || c.Origin == nil || c.Origin.Every != 3600 || c.Origin.URL != "http://me@127.0.0.1:36241/" {
		t.Errorf("status: %+v, %+v; want all of release 2, and what it follows", c, c.Origin)
	}
	text := strings.Repeat("package\n", 3000)
	for path, want := range map[string]string{"pool/a%20b.deb": text, "index": "two\n", "pool/empty": ""} {
		if got := x.ask(t, "GET", "/site/"+path); got.StatusCode != 200 || string(got.body) != want {
			t.Errorf("%s: %s, %d bytes; want %d", path, got.Status, len(got.body), len(want))
		}
	}
	s := newSite(t)
	when := time.Date(2026, 1, 1, 10, 0, 0, 0, time.UTC)
	has := func(path, text string) {
		t.Helper()
		put(t, filepath.Join(s.dir, path), text)
		if err := os.Chtimes(filepath.Join(s.dir, path), when, when); err != nil {
			t.Fatal(err)
		}
	}
	has("pool/a b.deb", text)
	has("index", "two\n")
	has("pool/empty", "")
	req := s.from("site")
	req.Move = true // to the address that it has here
	if res := publishes(t, x, req); !res.Unchanged || res.Pulled.Files != 0 {
		t.Errorf("nothing has changed at the site: %+v, %+v", res, res.Pulled)
	}
	has("index", "three\n")
	if res := publishes(t, x, req); res.Release != 3 || res.Pulled.Files != 1 {
		t.Errorf("one file has: %+v, %+v", res, res.Pulled)
	}
}

// Who names a home directory that is of no use is told why and what to try, also where there is none to look through.
func TestHomeTrouble(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, home := range []string{file, filepath.Join(file, "below")} {
		n, err := Open(t.Context(), Config{Home: home})
		if err == nil {
			n.Close()
		}
		if want := "the home directory " + home + ": there is no such directory, and none can be there; name another one with --home: "; err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", home, err, want)
		}
	}
	for want, err := range map[string]error{
		"the home directory /h: this user may not write there; ": fmt.Errorf("mkdir: %w", syscall.EACCES),
		"the home directory /h: the disk is full; ":              &fs.PathError{Op: "write", Path: "/h/x", Err: syscall.ENOSPC},
		"the home directory /h: nothing can be written ":         syscall.EROFS,
		"some other reason": errors.New("some other reason"),
	} {
		if got := homeTrouble("/h", err); !strings.HasPrefix(got.Error(), want) || !errors.Is(got, err) {
			t.Errorf("got %v, want %s", got, want)
		}
	}
	gone := filepath.Join(t.TempDir(), "gone")
	err := ScrubHome(t.Context(), gone, 0, slog.New(slog.DiscardHandler), func(control.Collection) error { return nil })
	if err == nil || !strings.Contains(err.Error(), "nothing is kept in "+gone) {
		t.Errorf("got %v", err)
	}
}
