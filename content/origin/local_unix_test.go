//go:build unix

package origin

import (
	"errors"
	"path/filepath"
	"syscall"
	"testing"
)

// A named pipe is told as one that cannot be published, and opening it does not wait for a writer.
func TestLocalPipe(t *testing.T) {
	dir := t.TempDir()
	lay(t, dir, map[string]string{"a": "hello"})
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	o, err := Open(t.Context(), "file://"+dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	_, order, l := listed(t, o, Before{})
	if len(order) != 1 || order[0] != "a" || len(l.Bad) != 1 || l.Bad[0].Path != "pipe" {
		t.Errorf("%q can be published, want a; not %v, want pipe", order, l.Bad)
	}
	if _, err := o.Open(t.Context(), Entry{Path: "pipe"}, 0, ""); !errors.Is(err, ErrGone) {
		t.Errorf("a named pipe in the place of a file: %v", err)
	}
}
