package origin

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/fsnotify/fsnotify"
)

// watched watches a directory and gives the channel of hints, what ends it, and the channel of its error.
func watching(t *testing.T, dir string) (hints chan struct{}, stop func(), ended chan error) {
	t.Helper()
	hints = make(chan struct{}, 1000)
	ctx, stop := context.WithCancel(t.Context())
	ended = make(chan error, 1)
	go func() {
		ended <- Watch(ctx, dir, func() { hints <- struct{}{} }, func(err error) { t.Error(err) })
	}()
	<-hints // it watches from here on
	return hints, stop, ended
}

// Each change brings a hint; a test that waits for one in vain ends with the tests' own time limit.
func TestWatch(t *testing.T) {
	real := t.TempDir()
	lay(t, real, map[string]string{"a/b/f": "1", "g": "1"})
	dir := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(real, dir); err != nil {
		t.Fatal(err)
	}
	hints, stop, ended := watching(t, dir)
	wait := func(what string, do func() error) {
		t.Helper()
		for len(hints) > 0 {
			<-hints
		}
		if err := do(); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		<-hints
	}
	wait("write", func() error { return os.WriteFile(filepath.Join(dir, "a/b/f"), []byte("22"), 0o644) })
	wait("new", func() error { return os.WriteFile(filepath.Join(dir, "a/new"), nil, 0o644) })
	wait("rename", func() error { return os.Rename(filepath.Join(dir, "g"), filepath.Join(dir, "h")) })
	wait("remove", func() error { return os.Remove(filepath.Join(dir, "h")) })
	wait("directories", func() error { return os.MkdirAll(filepath.Join(dir, "x/y/z"), 0o755) })
	wait("move a directory", func() error { return os.Rename(filepath.Join(dir, "a"), filepath.Join(dir, "x/a")) })
	wait("in the moved one", func() error { return os.WriteFile(filepath.Join(dir, "x/a/b/f"), []byte("333"), 0o644) })
	stop()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestWatchNowhere(t *testing.T) {
	if err := Watch(t.Context(), filepath.Join(t.TempDir(), "none"), nil, nil); err == nil {
		t.Error("what is not there is watched")
	}
	dir := filepath.Join(t.TempDir(), "top")
	lay(t, dir, map[string]string{"f": "1"})
	_, stop, ended := watching(t, dir)
	defer stop()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !strings.Contains(err.Error(), "not there any more") {
		t.Error(err)
	}
}

// scripted is a watcher whose events come from a test.
type scripted struct {
	*watcher
	added    []string
	hints    int
	warnings []error
	limit    int
}

func script(root string, limit int, events []fsnotify.Event, errs []error) *scripted {
	e, f := make(chan fsnotify.Event, len(events)+1), make(chan error, len(errs)+1)
	s := &scripted{limit: limit}
	s.watcher = &watcher{root: root, events: e, errors: f, changed: func() { s.hints++ }, partial: func(err error) { s.warnings = append(s.warnings, err) }, add: func(p string) error {
		if len(s.added) == s.limit {
			return fmt.Errorf("add: %w", syscall.ENOSPC)
		}
		s.added = append(s.added, strings.TrimPrefix(p, root))
		return nil
	}}
	for _, x := range events {
		e <- x
	}
	for _, x := range errs {
		f <- x
	}
	if len(errs) == 0 {
		close(e)
	}
	return s
}

func TestWatchEvents(t *testing.T) {
	dir := t.TempDir()
	lay(t, dir, map[string]string{"a/f": "1", "b/c/g": "1"})
	at := func(p string, op fsnotify.Op) fsnotify.Event {
		return fsnotify.Event{Name: filepath.Join(dir, p), Op: op}
	}

	s := script(dir, 100, []fsnotify.Event{at("a/f", fsnotify.Chmod), at("b/c", fsnotify.Create), at("a/f", fsnotify.Write), at("a/f", fsnotify.Chmod)}, nil)
	if err := s.run(t.Context()); err == nil || s.hints != 2 || !slices.Equal(s.added, []string{"", "/a", "/b", "/b/c", "/b/c"}) {
		t.Errorf("%v, %d hints, %q", err, s.hints, s.added)
	}
	s = script(dir, 100, []fsnotify.Event{at("a/f", fsnotify.Chmod)}, nil)
	if err := s.run(t.Context()); err == nil || s.hints != 1 {
		t.Errorf("a mode: %v, %d hints", err, s.hints)
	}
	s = script(dir, 100, []fsnotify.Event{at(".", fsnotify.Remove)}, nil)
	if err := s.run(t.Context()); err == nil || !strings.Contains(err.Error(), "not there any more") {
		t.Errorf("%v", err)
	}
	// The limit of watches: said once, and the rest goes on.
	s = script(dir, 2, []fsnotify.Event{at("b", fsnotify.Create), at("b/c", fsnotify.Create), at("a/f", fsnotify.Write)}, nil)
	if err := s.run(t.Context()); err == nil || s.hints != 2 || len(s.warnings) != 1 || !strings.Contains(s.warnings[0].Error(), "max_user_watches") {
		t.Errorf("%v, %d hints, %v", err, s.hints, s.warnings)
	}
	// Too many at once: one hint, and new directories are looked for.
	s = script(dir, 100, nil, []error{fsnotify.ErrEventOverflow, errors.New("broken")})
	if err := s.run(t.Context()); err == nil || !strings.Contains(err.Error(), "broken") || s.hints != 2 || len(s.added) != 8 {
		t.Errorf("%v, %d hints, %q", err, s.hints, s.added)
	}
}
