package origin

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"swarmnode/content"
)

// lay writes files: path -> content; a value that begins with "->" is a symlink, a path that ends in '/' a directory. All are old.
func lay(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for p, data := range files {
		full := filepath.Join(dir, p)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		switch target, link := strings.CutPrefix(data, "->"); {
		case strings.HasSuffix(p, "/"):
			err = os.MkdirAll(full, 0o755)
		case link:
			err = os.Symlink(target, full)
		default:
			err = os.WriteFile(full, []byte(data), 0o640)
			err = errors.Join(err, os.Chtimes(full, time.Time{}, time.Unix(1_000_000_000, 5)))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// listed gives the entries of an origin by path, and their order.
func listed(t *testing.T, o Origin, before Before) (map[string]Entry, []string, Listing) {
	t.Helper()
	entries, order := map[string]Entry{}, []string(nil)
	l, err := o.List(t.Context(), before, func(e Entry) error {
		entries[e.Path] = e
		order = append(order, e.Path)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return entries, order, l
}

func TestLocal(t *testing.T) {
	dir := t.TempDir()
	lay(t, dir, map[string]string{"a/b": "hello", "a/link": "->b", "out": "->../../etc", "empty/": "", "zero": "", "odd %#?+\"'ü": "x", "new\nline": "x"})
	o, err := Open(t.Context(), "file://"+dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	got, order, l := listed(t, o, Before{})
	want := []string{"a", "a/b", "a/link", "empty", "odd %#?+\"'ü", "zero"}
	if !slices.Equal(order, want) {
		t.Errorf("%q, want %q", order, want)
	}
	var bad []string
	for _, b := range l.Bad {
		bad = append(bad, b.Path)
	}
	slices.Sort(bad)
	if !slices.Equal(bad, []string{"new\nline", "out"}) {
		t.Errorf("%q cannot be published: %v", bad, l.Bad)
	}
	if e := got["a/b"]; e.Size != 5 || e.Mtime != 1_000_000_000*1e9+5 || e.Mode != content.ModeFile|0o640 || e.Stamp == "" {
		t.Errorf("%+v", e)
	}
	if e := got["a/link"]; e.Target != "b" || e.Mode&^0o777 != content.ModeLink {
		t.Errorf("%+v", e)
	}
	if _, err := o.Open(t.Context(), Entry{Path: "gone"}, 0, ""); !errors.Is(err, fs.ErrNotExist) || !errors.Is(err, ErrGone) {
		t.Errorf("a file that is gone: %v", err)
	}
}

func TestLocalOpenGoesOn(t *testing.T) {
	dir := t.TempDir()
	lay(t, dir, map[string]string{"f": "0123456789"})
	o, err := Open(t.Context(), dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	read := func(offset int64, version string) (string, *Body) {
		t.Helper()
		b, err := o.Open(t.Context(), Entry{Path: "f"}, offset, version)
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(b)
		if err = errors.Join(err, b.Close()); err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("%d %s", b.Offset, data), b
	}
	all, b := read(0, "")
	rest, _ := read(4, b.Version)
	other, _ := read(4, "another")
	past, _ := read(11, b.Version)
	if all != "0 0123456789" || rest != "4 456789" || other != all || past != all {
		t.Errorf("%q, %q, %q, %q", all, rest, other, past)
	}
	if still, err := b.Still(t.Context()); !still || err != nil {
		t.Errorf("a file that nobody touched: %v, %v", still, err)
	}
	// Another file of the same size and time in its place, as rsync leaves it.
	lay(t, dir, map[string]string{"new": "9876543210"})
	if err := os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, "f")); err != nil {
		t.Fatal(err)
	}
	if still, err := b.Still(t.Context()); still || err != nil {
		t.Errorf("a file that is another one now: %v, %v", still, err)
	}
	if again, _ := read(4, b.Version); again != "0 9876543210" {
		t.Errorf("%q", again)
	}
	if err := os.Remove(filepath.Join(dir, "f")); err != nil {
		t.Fatal(err)
	}
	if still, err := b.Still(t.Context()); still || err != nil {
		t.Errorf("a file that is gone: %v, %v", still, err)
	}
}

// What changes in the same step of the file system's clock has the same stamp: the next run must look again.
func TestLocalYoung(t *testing.T) {
	dir := t.TempDir()
	o, err := Open(t.Context(), dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	var got map[string]Entry
	for try := 0; ; try++ {
		began := time.Now()
		lay(t, dir, map[string]string{"f": fmt.Sprint(try)})
		if got, _, _ = listed(t, o, Before{}); strings.HasSuffix(got["f"].Stamp, " young") {
			break
		}
		if took := time.Since(began); took < localYoung/2 {
			t.Fatalf("the inode is %v old, and the stamp %q vouches for it", took, got["f"].Stamp)
		}
	}
	fi, err := os.Lstat(filepath.Join(dir, "f"))
	if err != nil {
		t.Fatal(err)
	}
	if old := localStamp(fi); old+" young" != got["f"].Stamp {
		t.Errorf("%q is no older self of %q", old, got["f"].Stamp)
	}
}
