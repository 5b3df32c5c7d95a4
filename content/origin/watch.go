package origin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"syscall"

	"github.com/fsnotify/fsnotify"
)

// Watch calls changed whenever something below a directory here may have changed: a hint, since changes are missed on network file
// systems, by modes and times alone, and in what cannot be watched. So look for yourself now and then, too. Many changes at once are
// one call; how long to wait for the rest of them is up to changed, which must not wait. If the system lets no more directories be
// watched, partial is told so, once, and the others go on being watched. Watch ends with ctx, or with an error.
func Watch(ctx context.Context, dir string, changed func(), partial func(error)) error {
	root, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return fmt.Errorf("watch %s: %w", dir, err)
	}
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch %s: %w (a system allows only so many watchers: fs.inotify.max_user_instances)", dir, err)
	}
	defer w.Close()
	return (&watcher{root: root, changed: changed, partial: partial, add: w.Add, events: w.Events, errors: w.Errors}).run(ctx)
}

// watcher watches one tree.
type watcher struct {
	root    string
	changed func()
	partial func(error)
	add     func(dir string) error
	events  <-chan fsnotify.Event
	errors  <-chan error
	full    bool // no more directories can be watched
}

func (w *watcher) run(ctx context.Context) error {
	if err := w.tree(ctx, w.root); err != nil {
		return err
	}
	w.changed() // whatever has changed before it was watched
	pending := false
	for {
		if pending && len(w.events) == 0 {
			w.changed()
			pending = false
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case e, ok := <-w.events:
			if !ok {
				return errors.New("the watch has ended")
			}
			hint, err := w.event(ctx, e)
			if err != nil {
				return err
			}
			pending = pending || hint
		case err := <-w.errors:
			if !errors.Is(err, fsnotify.ErrEventOverflow) {
				return fmt.Errorf("watch %s: %w", w.root, err)
			}
			// Something has changed, nobody knows what: new directories, too.
			if err := w.tree(ctx, w.root); err != nil {
				return err
			}
			pending = true
		}
	}
}

// event looks at one change.
func (w *watcher) event(ctx context.Context, e fsnotify.Event) (hint bool, err error) {
	switch {
	case e.Name == w.root && e.Op&(fsnotify.Remove|fsnotify.Rename) != 0:
		return false, fmt.Errorf("watch %s: it is not there any more", w.root)
	case e.Op == fsnotify.Chmod:
		// Times, modes and the number of links: reading a file by a link of one's own does that too, and must not be a reason to read it.
		return false, nil
	case e.Op&fsnotify.Create != 0:
		// Watched before it is told, so that what comes into it after somebody has looked is told again.
		return true, w.tree(ctx, e.Name)
	}
	return true, nil
}

// tree watches a directory and those in it. What is gone or may not be read is left out.
func (w *watcher) tree(ctx context.Context, top string) error {
	err := filepath.WalkDir(top, func(p string, d fs.DirEntry, err error) error {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil || w.full:
			return fs.SkipDir
		case !d.IsDir():
			return nil
		}
		err = w.add(p)
		if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EMFILE) {
			w.full = true
			w.partial(fmt.Errorf("watch %s: no more directories can be watched, from %s on: raise fs.inotify.max_user_watches (sysctl): %w", w.root, p, err))
			return fs.SkipAll
		}
		if err != nil && p == w.root {
			return fmt.Errorf("watch %s: %w", p, err)
		}
		return nil
	})
	return err
}
