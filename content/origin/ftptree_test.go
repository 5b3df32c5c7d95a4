package origin

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"swarmnode/content"
)

// A server and the tree that it shows are compared, byte by byte, and each file is also read from its middle on. A real one can be
// had: FTP_URL is where its top is, FTP_TREE the same on the disk, FTP_CACERT whom it is believed by.
func TestFTPTree(t *testing.T) {
	rawURL, tree := os.Getenv("FTP_URL"), os.Getenv("FTP_TREE")
	if rawURL == "" {
		rawURL, tree = fakeTree(t)
	}
	f, err := Open(t.Context(), rawURL, Options{AllowPrivate: true, Timeout: 10 * time.Second, Access: Access{CACert: os.Getenv("FTP_CACERT"), Netrc: "/dev/null"}})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	first, l := ftpListed(t, f, Before{})
	t.Logf("%s: %d paths, %d commands", WithoutPassword(rawURL), len(first), l.Requests)
	for _, b := range l.Bad {
		t.Logf("not published: %v", b.Err)
	}
	for _, e := range first {
		if err := likeOnDisk(t.Context(), f, e, tree); err != "" {
			t.Errorf("%q: %s", e.Path, err)
		}
	}
	again, l := ftpListed(t, f, Before{Memo: l.Memo, Entry: func(p string) (Entry, bool) { e, ok := first[p]; return e, ok }})
	t.Logf("once more: %d paths, %d commands", len(again), l.Requests)
	for p, e := range first {
		if again[p].Stamp != e.Stamp {
			t.Errorf("%q had the stamp %q, has %q", p, e.Stamp, again[p].Stamp)
		}
	}
}

// fakeTree makes a tree on the disk and a server that shows the same.
func fakeTree(t *testing.T) (rawURL, tree string) {
	t.Helper()
	tree = t.TempDir()
	s := newFakeFTP(t, ftpTree)
	for p, f := range s.tree {
		name := filepath.Join(tree, p)
		err := os.MkdirAll(filepath.Dir(name), 0o755)
		switch f.mode &^ 0o7777 {
		case content.ModeDir:
			err = errors.Join(err, os.MkdirAll(name, 0o755), os.Chmod(name, 0o755))
		case content.ModeLink:
			err = errors.Join(err, os.Symlink(f.target, name))
		default:
			err = errors.Join(err, os.WriteFile(name, []byte(f.data), 0o600), os.Chmod(name, 0o640), os.Chtimes(name, f.mtime, f.mtime))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return s.url("ftp", "/"), tree
}

// ftpListed gives all that an origin lists.
func ftpListed(t *testing.T, o Origin, before Before) (map[string]Entry, Listing) {
	t.Helper()
	out := map[string]Entry{}
	l, err := o.List(t.Context(), before, func(e Entry) error {
		out[e.Path] = e
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out, l
}

// likeOnDisk compares an entry with what it is on the disk, and says what is different.
func likeOnDisk(ctx context.Context, o Origin, e Entry, tree string) string {
	name := filepath.Join(tree, filepath.FromSlash(e.Path))
	info, err := os.Lstat(name)
	if _, broken := os.Lstat(name + "\nline"); err != nil && broken == nil {
		return "" // the half of a name with a line break
	}
	if err != nil {
		return err.Error()
	}
	if e.IsDir() != info.IsDir() || e.Mode&0o777 != uint32(info.Mode().Perm()) {
		return "mode " + info.Mode().String()
	}
	if e.Mode&^0o7777 == content.ModeLink {
		if target, _ := os.Readlink(name); target != e.Target && !strings.HasPrefix(target, "/") {
			return "target " + target
		}
		return ""
	}
	if !e.IsFile() {
		return ""
	}
	want, err := os.ReadFile(name)
	if err != nil {
		return err.Error()
	}
	got, b, err := readFrom(ctx, o, e, 0, "")
	switch {
	case errors.Is(err, fs.ErrPermission):
		return "" // some servers list what they do not give
	case err != nil:
		return err.Error()
	case sha256.Sum256(want) != sha256.Sum256(got):
		return "another content"
	}
	if half := int64(len(want) / 2); half > 0 {
		got, b, err := readFrom(ctx, o, e, half, b.Version)
		if err != nil || b.Offset != half || !bytes.Equal(got, want[half:]) {
			return fmt.Sprintf("from %d on: from %d on, %v", half, b.Offset, err)
		}
	}
	if b.Mtime != info.ModTime().Truncate(time.Second).UnixNano() {
		return "time " + time.Unix(0, b.Mtime).String()
	}
	if b.Still == nil {
		return ""
	}
	if same, err := b.Still(ctx); err != nil || !same {
		return "it has not changed, and is said to have"
	}
	return ""
}

// readFrom opens a file and reads what comes.
func readFrom(ctx context.Context, o Origin, e Entry, offset int64, version string) ([]byte, *Body, error) {
	b, err := o.Open(ctx, e, offset, version)
	if err != nil {
		return nil, &Body{}, err
	}
	defer b.Close()
	data, err := io.ReadAll(b)
	return data, b, err
}
