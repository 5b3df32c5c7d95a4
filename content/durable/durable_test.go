package durable

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestWriteFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a")
	for _, want := range []string{"one", "", "three"} {
		if err := WriteFile(path, []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil || string(got) != want {
			t.Errorf("read %q, %v, want %q", got, err, want)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info, err)
	}
	if err := WriteFile(filepath.Join(dir, "no", "such"), nil, 0o600); err == nil {
		t.Error("a file in a directory that is not there was written")
	}
	if left, err := filepath.Glob(filepath.Join(dir, ".*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %q, %v", left, err)
	}
}

// watched notes the calls whose order matters.
type watched struct {
	OS
	got  []string
	fail error // of Sync
}

func (w *watched) Sync(f *os.File) error {
	if w.fail != nil {
		return w.fail
	}
	w.got = append(w.got, "sync file")
	return w.OS.Sync(f)
}

func (w *watched) Rename(from, to string) error {
	w.got = append(w.got, "rename")
	return w.OS.Rename(from, to)
}

func (w *watched) SyncDir(dir string) error {
	w.got = append(w.got, "sync directory")
	return w.OS.SyncDir(dir)
}

// TestWriteOrder watches the calls: without a sync before the rename a power cut can leave an empty file under the name, and
// without one of the directory after it the old file.
func TestWriteOrder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a")
	w := &watched{}
	if err := WriteFileOn(w, path, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if want := []string{"sync file", "rename", "sync directory"}; !slices.Equal(w.got, want) {
		t.Errorf("%q, want %q", w.got, want)
	}
	w = &watched{fail: errors.New("disk trouble")}
	if err := WriteFileOn(w, path, []byte("y"), 0o600); err == nil || w.got != nil {
		t.Errorf("after a failed sync: %v, %q; want an error and no rename", err, w.got)
	}
	if now, err := os.ReadFile(path); err != nil || string(now) != "x" {
		t.Errorf("the file is %q, %v, want the old one", now, err)
	}
}

func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	f, err := Lock(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Lock(path); !errors.Is(err, ErrLocked) {
		t.Errorf("a second lock: %v", err)
	}
	f.Close()
	f, err = Lock(path)
	if err != nil {
		t.Errorf("after the first was given back: %v", err)
	}
	f.Close()
}
