package origin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"swarmnode/content"
)

// paper is a tree in memory: path -> what it is. A value ending in "/" is a directory, one with "->" a symlink, else a stamp.
type paper map[string]string

// list is the lister of a paper tree. Names come backwards: the crawler sorts.
func (p paper) list(_ context.Context, dir string) ([]Entry, []Bad, int, error) {
	if dir != "" && p[dir] != "/" {
		return nil, nil, 1, ErrGone
	}
	var out []Entry
	for _, name := range slices.Backward(slices.Sorted(maps.Keys(p))) {
		if d := strings.TrimSuffix(path.Dir(name)+"/", "./"); strings.TrimSuffix(d, "/") != dir {
			continue
		}
		e := Entry{Path: name, Mode: content.ModeFile | 0o644, Stamp: p[name]}
		if target, ok := strings.CutPrefix(p[name], "->"); ok {
			e.Mode, e.Target = content.ModeLink|0o777, target
		} else if p[name] == "/" {
			e.Mode = content.ModeDir | 0o755
		}
		out = append(out, e)
	}
	return out, nil, 1, nil
}

// walked gives the paths that a crawl emits.
func walked(t *testing.T, o Options, before Before, list lister) ([]string, Listing, error) {
	t.Helper()
	o, err := o.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	l, err := crawl(t.Context(), &o, before, list, func(e Entry) error {
		got = append(got, e.Path)
		return nil
	})
	return got, l, err
}

func TestCrawl(t *testing.T) {
	tree := paper{"b": "1", "a": "/", "a/z": "2", "a/b": "/", "a/b/c": "3", "a.txt": "4", "link": "->a/z", "empty": "/"}
	for _, c := range []struct {
		name string
		o    Options
		want string
	}{
		{"all", Options{}, "a a/b a/b/c a/z a.txt b empty link"},
		{"one connection", Options{Connections: 1}, "a a/b a/b/c a/z a.txt b empty link"},
		{"exclude a name", Options{Exclude: []string{"*.txt", "b"}}, "a a/z empty link"},
		{"exclude a path", Options{Exclude: []string{"/a/b"}}, "a a/z a.txt b empty link"},
		{"include brings its directories", Options{Include: []string{"c", "*.txt"}}, "a a/b a/b/c a.txt"},
		{"include less an exclude", Options{Include: []string{"c", "z"}, Exclude: []string{"a/b"}}, "a a/z"},
	} {
		got, l, err := walked(t, c.o, Before{}, tree.list)
		if err != nil || strings.Join(got, " ") != c.want || len(l.Bad) > 0 {
			t.Errorf("%s: %q, %v, %v, want %q", c.name, got, l.Bad, err, c.want)
		}
	}
	if _, l, _ := walked(t, Options{}, Before{}, tree.list); l.Requests != 4 {
		t.Errorf("%d requests for 4 directories", l.Requests)
	}
}

func TestCrawlRefuses(t *testing.T) {
	twice := func(ctx context.Context, dir string) ([]Entry, []Bad, int, error) {
		file := Entry{Path: "same", Mode: content.ModeFile | 0o644}
		return []Entry{file, file, {Path: "elsewhere/x", Mode: content.ModeFile}, {Path: "what", Mode: 0o010000}, {Path: "minus", Mode: content.ModeFile, Size: -2},
			{Path: "out", Mode: content.ModeLink, Target: "../x"}, {Path: "new\nline", Mode: content.ModeFile}, {Path: "..", Mode: content.ModeDir}}, nil, 1, nil
	}
	got, l, err := walked(t, Options{}, Before{}, twice)
	if err != nil || !slices.Equal(got, []string{"same"}) || len(l.Bad) != 7 {
		t.Errorf("%q, %v, %v", got, l.Bad, err)
	}
	for _, b := range l.Bad {
		if b.Err == nil || !strings.Contains(b.Err.Error(), strings.Trim(fmt.Sprintf("%q", b.Path), `"`)) {
			t.Errorf("%q: the text does not name it: %v", b.Path, b.Err)
		}
	}
}

// Two links to the top in one directory: a walk that follows them never ends.
func TestCrawlLoop(t *testing.T) {
	list := func(_ context.Context, dir string) ([]Entry, []Bad, int, error) {
		var out []Entry
		for _, name := range []string{"again", "once more"} {
			out = append(out, Entry{Path: path.Join(dir, name), Mode: content.ModeDir | 0o755})
		}
		return append(out, Entry{Path: path.Join(dir, "file"), Mode: content.ModeFile | 0o644, Stamp: "1"}), nil, 1, nil
	}
	got, l, err := walked(t, Options{}, Before{}, list)
	if err != nil || !slices.Equal(got, []string{"file"}) || len(l.Bad) != 2 {
		t.Errorf("%q, %v, %v", got, l.Bad, err)
	}
}

// The same without any file, and directories that have nothing but a directory of their own name.
func TestCrawlNamesake(t *testing.T) {
	list := func(names ...string) lister {
		return func(_ context.Context, dir string) (out []Entry, bad []Bad, requests int, err error) {
			for _, name := range names {
				out = append(out, Entry{Path: path.Join(dir, name), Mode: content.ModeDir | 0o755})
			}
			return out, nil, 1, nil
		}
	}
	if got, l, err := walked(t, Options{}, Before{}, list("again", "more")); err != nil || len(got) != 1<<maxAlike-2 || len(l.Bad) != 1<<maxAlike {
		t.Errorf("%d paths, %d bad, %v", len(got), len(l.Bad), err)
	}
	if got, l, err := walked(t, Options{}, Before{}, list("d")); err != nil || len(got) != content.MaxDepth || len(l.Bad) != 1 {
		t.Errorf("%d paths, %v, %v", len(got), l.Bad, err)
	}
	lib := paper{"lib": "/", "lib/lib": "/", "lib/lib/lib": "/", "lib/lib/lib/x": "1"}
	if got, l, err := walked(t, Options{}, Before{}, lib.list); err != nil || len(got) != 4 || len(l.Bad) > 0 {
		t.Errorf("%q, %v, %v", got, l.Bad, err)
	}
}

// A hundred levels end at what a path may be, and the rest of the tree is there.
func TestCrawlDeep(t *testing.T) {
	list := func(_ context.Context, dir string) ([]Entry, []Bad, int, error) {
		depth := len(dir)
		return []Entry{{Path: path.Join(dir, "d"), Mode: content.ModeDir | 0o755}, {Path: path.Join(dir, fmt.Sprint("f", depth)), Mode: content.ModeFile | 0o644}}, nil, 1, nil
	}
	got, l, err := walked(t, Options{}, Before{}, list)
	if err != nil || len(got) != 2*content.MaxDepth-1 && len(got) != 2*content.MaxDepth || len(l.Bad) == 0 {
		t.Errorf("%d paths, %v, %v", len(got), l.Bad, err)
	}
}

func TestCrawlErrors(t *testing.T) {
	tree := paper{"a": "/", "a/x": "1", "gone": "/", "locked": "/", "z": "2"}
	broken := errors.New("connection reset")
	list := func(locked, a error) lister {
		return func(ctx context.Context, dir string) ([]Entry, []Bad, int, error) {
			switch dir {
			case "gone":
				return nil, nil, 1, ErrGone
			case "locked":
				return nil, nil, 1, locked
			case "a":
				if a != nil {
					return nil, nil, 1, a
				}
			}
			return tree.list(ctx, dir)
		}
	}
	got, l, err := walked(t, Options{}, Before{}, list(fs.ErrPermission, nil))
	if err != nil || !slices.Equal(got, []string{"a", "a/x", "z"}) || len(l.Bad) != 1 {
		t.Errorf("%q, %v, %v", got, l.Bad, err)
	}
	before := Before{Entry: func(p string) (Entry, bool) { return Entry{}, p == "locked" }}
	if _, _, err := walked(t, Options{}, before, list(fs.ErrPermission, nil)); !errors.As(err, new(*RefusedError)) {
		t.Errorf("a directory that was listed the last time is locked: %v", err)
	}
	synctest.Test(t, func(t *testing.T) {
		if _, _, err := walked(t, Options{}, Before{}, list(nil, broken)); !errors.Is(err, broken) || !strings.Contains(err.Error(), `list "a"`) {
			t.Errorf("%v, want that of the directory", err)
		}
	})
}

func TestRetry(t *testing.T) {
	for _, c := range []struct {
		name  string
		err   error
		tries int
		least time.Duration
	}{
		{"passes by", errors.New("reset"), retries, firstPause},
		{"busy", &BusyError{After: 10 * time.Second}, retries, (retries - 1) * 10 * time.Second},
		{"busy for long", &BusyError{After: time.Hour}, 1, 0},
		{"refused", fmt.Errorf("x: %w", &RefusedError{Reason: "no"}), 1, 0},
		{"gone", ErrGone, 1, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			tries, began := 0, time.Now()
			err := Retry(t.Context(), func() error { tries++; return c.err })
			if took := time.Since(began); !errors.Is(err, c.err) || tries != c.tries || took < c.least {
				t.Errorf("%s: %v after %d tries and %v, want %d and at least %v", c.name, err, tries, took, c.tries, c.least)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		began := time.Now()
		if err := Retry(ctx, func() error { return &BusyError{After: time.Minute} }); err == nil || time.Since(began) != time.Second {
			t.Errorf("%v after %v, want the end of the context", err, time.Since(began))
		}
	})
}

// Any tree is walked in the order of content.ComparePaths, each directory once, however many connections there are.
func TestCrawlOrder(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		tree := paper{}
		for i, p := range rapid.SliceOfN(rapid.StringMatching(`[ab.]?[a-c](/[a-c!.]?[ab]){0,4}`), 0, 30).Draw(rt, "paths") {
			if tree[p] == "/" {
				continue
			}
			free := true
			for d := path.Dir(p); d != "."; d = path.Dir(d) {
				free = free && (tree[d] == "/" || tree[d] == "")
			}
			if !free {
				continue
			}
			for d := path.Dir(p); d != "."; d = path.Dir(d) {
				tree[d] = "/"
			}
			tree[p] = fmt.Sprint(i)
		}
		var mu sync.Mutex
		asked := map[string]int{}
		list := func(ctx context.Context, dir string) ([]Entry, []Bad, int, error) {
			mu.Lock()
			asked[dir]++
			mu.Unlock()
			return tree.list(ctx, dir)
		}
		o, _ := Options{Connections: rapid.IntRange(1, 5).Draw(rt, "connections")}.withDefaults()
		var got []string
		if _, err := crawl(context.Background(), &o, Before{}, list, func(e Entry) error { got = append(got, e.Path); return nil }); err != nil {
			rt.Fatal(err)
		}
		if d := cmp.Diff(slices.SortedFunc(maps.Keys(tree), content.ComparePaths), got); d != "" {
			rt.Error(d)
		}
		for dir, n := range asked {
			if n != 1 {
				rt.Errorf("%q was listed %d times", dir, n)
			}
		}
	})
}
