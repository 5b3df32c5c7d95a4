package durable_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"swarmnode/content/durable"
	"swarmnode/content/durable/faulty"
)

// wantOneOf wants the file in dir to have one of these contents, and to be replaced again.
func wantOneOf(t *testing.T, what, dir string, want ...string) {
	t.Helper()
	path := filepath.Join(dir, "state")
	got, err := os.ReadFile(path)
	for _, w := range want {
		if err == nil && string(got) == w {
			if err := durable.WriteFile(path, nil, 0o600); err != nil {
				t.Errorf("%s: written again: %v", what, err)
			}
			return
		}
	}
	t.Errorf("%s: %q, %v, want one of %q", what, got, err, want)
}

func recorded(t *testing.T) (string, *faulty.FS) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "state"), []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	fs, err := faulty.New(dir)
	if err != nil {
		t.Fatal(err)
	}
	return dir, fs
}

// A file of state is the old one or the new one after a power cut at any moment, and the new one once WriteFile is done.
func TestWriteFilePowerCut(t *testing.T) {
	dir, fs := recorded(t)
	if err := durable.WriteFileOn(fs, filepath.Join(dir, "state"), []byte("new"), 0o600); err != nil {
		t.Fatal(err)
	}
	for n := range fs.Len() + 1 {
		for _, c := range append(faulty.PowerCuts(1, 20), faulty.Killed) {
			to := t.TempDir()
			if _, err := fs.Crash(n, c, to); err != nil {
				t.Fatal(err)
			}
			want := []string{"old", "new"}
			if n == fs.Len() {
				want = want[1:]
			}
			wantOneOf(t, c.Name, to, want...)
		}
	}
}

// Each write fails in turn: the error says what, the old content or the new is there, and nothing is left behind.
func TestWriteFileFaults(t *testing.T) {
	for _, fault := range []error{syscall.ENOSPC, syscall.EIO} {
		for n, hit := 0, true; hit; n++ {
			dir, fs := recorded(t)
			left := n
			hit = false
			fs.Fault = func(faulty.Op) error {
				if left--; left == -1 {
					hit = true
					return fault
				}
				return nil
			}
			err := durable.WriteFileOn(fs, filepath.Join(dir, "state"), []byte("new"), 0o600)
			if hit != errors.Is(err, fault) {
				t.Errorf("operation %d: %v, want %v: %t", n, err, fault, hit)
			}
			if left, err := filepath.Glob(filepath.Join(dir, ".*")); err != nil || len(left) > 0 {
				t.Errorf("operation %d: left behind: %q, %v", n, left, err)
			}
			wantOneOf(t, "fault", dir, "old", "new")
		}
	}
}

// A directory whose name could not be made durable is not there, so that the next try makes it anew.
func TestMkdirAllFaults(t *testing.T) {
	dir, fs := recorded(t)
	fs.Fault = func(op faulty.Op) error {
		if op.Kind == faulty.SyncDir {
			return syscall.EIO
		}
		return nil
	}
	deep := filepath.Join(dir, "a", "b")
	if err := durable.MkdirAll(fs, deep, 0o700); !errors.Is(err, syscall.EIO) {
		t.Fatalf("with a directory that cannot be synced: %v", err)
	}
	fs.Fault = nil
	if err := durable.MkdirAll(fs, deep, 0o700); err != nil {
		t.Fatal(err)
	}
	to := t.TempDir()
	if _, err := fs.Crash(fs.Len(), faulty.PowerCuts(1, 0)[0], to); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(to, "a", "b")); err != nil {
		t.Errorf("after a power cut: %v", err)
	}
	if err := durable.MkdirAll(fs, filepath.Join(dir, "state"), 0o700); err == nil {
		t.Error("a file was taken for a directory")
	}
}
