package origin

import (
	"context"
	"fmt"
	"path"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"swarmnode/content"
)

// A narrow tree too keeps all connections busy: two subdirectories in each, seven levels, a second for each listing.
func TestCrawlNarrow(t *testing.T) {
	const levels, connections = 7, 4
	synctest.Test(t, func(t *testing.T) {
		var busy atomic.Int64
		list := func(_ context.Context, dir string) (out []Entry, bad []Bad, requests int, err error) {
			if n := busy.Add(1); n > connections {
				t.Errorf("%d directories are listed at a time", n)
			}
			defer busy.Add(-1)
			time.Sleep(time.Second)
			if len(dir) < 2*levels-1 {
				for _, name := range []string{"a", "b"} {
					out = append(out, Entry{Path: path.Join(dir, name), Mode: content.ModeDir | 0o755})
				}
			}
			return append(out, Entry{Path: path.Join(dir, "f"), Mode: content.ModeFile | 0o644, Stamp: dir}), nil, 1, nil
		}
		began := time.Now()
		got, l, err := walked(t, Options{Connections: connections}, Before{}, list)
		const directories = 1<<(levels+1) - 1
		if err != nil || len(got) != 2*directories-1 || l.Requests != directories || !slices.IsSortedFunc(got, content.ComparePaths) {
			t.Errorf("%d paths, %d requests, %v", len(got), l.Requests, err)
		}
		// Nobody can be faster than directories/connections; the first and the last levels have fewer than there are connections.
		if took := time.Since(began); took > (directories/connections+2*levels)*time.Second {
			t.Errorf("%v for %d directories, with %d connections", took, directories, connections)
		}
	})
}

// While one directory is waited for, the others are listed, up to a limit.
func TestCrawlAheadEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int64
		slow := make(chan struct{})
		list := func(_ context.Context, dir string) (out []Entry, bad []Bad, requests int, err error) {
			asked.Add(1)
			if dir == "d0000" {
				<-slow
			}
			for i := range 2 * aheadMost {
				if dir == "" {
					out = append(out, Entry{Path: fmt.Sprintf("d%04d", i), Mode: content.ModeDir | 0o755})
				}
			}
			return out, nil, 1, nil
		}
		var got []string
		done := make(chan error)
		go func() {
			var err error
			got, _, err = walked(t, Options{Connections: 3}, Before{}, list)
			done <- err
		}()
		synctest.Wait()
		if n := asked.Load() - 1; n != aheadMost { // with the slow one, without the top
			t.Errorf("%d directories were listed ahead, want %d", n, aheadMost)
		}
		close(slow)
		if err := <-done; err != nil || len(got) != 2*aheadMost {
			t.Errorf("%d paths, %v", len(got), err)
		}
	})
}

// So much is in memory, however few directories it is in.
func TestCrawlAheadBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAhead()
		a.mostBytes = 10
		top := newDirectory("", nil)
		for _, p := range []string{"c", "a", "b"} {
			top.subs = append(top.subs, newDirectory(p, top))
		}
		a.loaded(top)
		for _, want := range []string{"a", "b"} {
			d := a.next()
			if d.path != want {
				t.Errorf("%q is listed before %q", d.path, want)
			}
			d.bytes = 5
			a.loaded(d)
			close(d.done)
		}
		third := make(chan *directory, 1)
		go func() { third <- a.next() }()
		synctest.Wait()
		if len(third) > 0 {
			t.Error("a third is begun although those before have as many bytes as there may be")
		}
		a.need(top.subs[1])
		if d := <-third; d.path != "c" {
			t.Errorf("%q is the third", d.path)
		}
		a.stop()
		if d := a.next(); d != nil {
			t.Errorf("%q after the end", d.path)
		}
	})
}

// What the walk waits for is listed although there is no room.
func TestCrawlAheadNeeds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAhead()
		a.mostLists = 0
		d := newDirectory("d", newDirectory("", nil))
		d.parent.subs = []*directory{d}
		a.loaded(d.parent)
		got := make(chan *directory, 1)
		go func() { got <- a.next() }()
		synctest.Wait()
		if len(got) > 0 {
			t.Error("it is listed ahead where nothing may be")
		}
		close(d.done)
		a.need(d)
		if first := <-got; first != d {
			t.Errorf("%q is listed", first.path)
		}
		a.stop()
	})
}
