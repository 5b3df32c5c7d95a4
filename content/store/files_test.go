package store_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"swarmnode/content"
	"swarmnode/content/store"
	"swarmnode/content/store/storetest"
)

// While segments come and go, every reader gets the right bytes or ErrNotHere.
func TestDiskUnderWay(t *testing.T) {
	t.Parallel()
	d := openDisk(t, t.TempDir(), store.Config{})
	d.LimitFiles(1)
	segs := storetest.Segments()[:2]
	var others sync.WaitGroup
	var ready []chan struct{} // a loop may take more steps; without an end of them they take both processors while the disk syncs
	loop := func(step func()) {
		more := make(chan struct{}, 1)
		ready = append(ready, more)
		others.Go(func() {
			for range more {
				for range 20 {
					step()
				}
			}
		})
	}
	for _, s := range segs {
		must(t, d.Add(s.Number, s.Info, s.Table))
		for range 2 {
			loop(func() {
				for i := range s.Info.Chunks {
					got, err := d.Chunk(s.Ref(i), nil)
					if err == nil && !bytes.Equal(got, s.Data[i]) || err != nil && !errors.Is(err, store.ErrNotHere) {
						t.Errorf("chunk %d of segment %d: %v", i, s.Number, err)
					}
				}
			})
		}
		loop(func() {
			for i := range s.Info.Chunks {
				if err := d.Put(s.Ref(i), s.Data[i]); err != nil && !errors.Is(err, store.ErrNotHere) {
					t.Errorf("put chunk %d of segment %d: %v", i, s.Number, err)
				}
			}
		})
	}
	for n := range 25 {
		for _, more := range ready {
			select {
			case more <- struct{}{}:
			default: // it still has some
			}
		}
		s := segs[n%2]
		must(t, d.Punch(s.Number, content.Bitmap{0b1110_0110}))
		must(t, d.Sync(t.Context()))
		if n%5 == 0 {
			must(t, d.Remove(s.Number))
			must(t, d.Add(s.Number, s.Info, s.Table))
		}
		_, _, _ = d.Segments(), d.Synced(s.Number), d.Stats()
	}
	for _, more := range ready {
		close(more)
	}
	others.Wait()
	must(t, d.Sync(t.Context()))
	if st := d.Stats(); st.Bad != 0 || st.Used != d.SumUsed() || st.OpenFiles > 1 {
		t.Errorf("after it all: %+v, want no bad chunk, %d bytes used, at most 1 open file", st, d.SumUsed())
	}
}

// Each release brings a file: without an end to what is kept open there would be a descriptor more for each.
func TestFilesRest(t *testing.T) {
	dir, now := t.TempDir(), time.Unix(1e9, 0)
	cache := store.NewFiles(100, func(name string, _ bool) (*os.File, error) { return os.Create(filepath.Join(dir, name)) })
	cache.SetClock(func() time.Time { return now })
	first, err := cache.Get("first")
	must(t, err)
	cache.Put(first)
	inUse, err := cache.Get("in use")
	must(t, err)
	for n := range 50 {
		now = now.Add(store.IdleFile / 4)
		f, err := cache.Get(strconv.Itoa(n))
		must(t, err)
		cache.Put(f)
	}
	if cache.Len() != 5 {
		t.Errorf("%d files are open, want the one in use and the last 4", cache.Len())
	}
	if _, err := first.Stat(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("a file that rested for long is still open: %v", err)
	}
	if _, err := inUse.Stat(); err != nil {
		t.Errorf("a file in use was closed: %v", err)
	}
	cache.Put(inUse)
	if _, err := inUse.Stat(); err != nil || cache.Len() != 5 {
		t.Errorf("a file that was just used was closed: %v, %d open", err, cache.Len())
	}
	now = now.Add(store.IdleFile - 1)
	if cache.Rest(); cache.Len() != 2 {
		t.Errorf("%d files are open after a rest, want the two used last", cache.Len())
	}
	now = now.Add(1)
	if cache.Rest(); cache.Len() != 0 {
		t.Errorf("%d files are open after a longer rest", cache.Len())
	}
}

func TestFilesLimit(t *testing.T) {
	dir, opened := t.TempDir(), 0
	cache := store.NewFiles(3, func(name string, _ bool) (*os.File, error) {
		opened++
		return os.Open(filepath.Join(dir, name))
	})
	for n := range 6 {
		must(t, os.WriteFile(filepath.Join(dir, strconv.Itoa(n)), []byte{byte('0' + n)}, 0o644))
	}
	inUse, err := cache.Get("0")
	must(t, err)
	for range 2 {
		for n := range 6 {
			f, err := cache.Get(strconv.Itoa(n))
			must(t, err)
			cache.Put(f)
		}
	}
	if cache.Len() != 3 || opened != 11 {
		t.Errorf("%d files open after %d opens, want 3 after 11", cache.Len(), opened)
	}
	cache.Drop("0")
	b := make([]byte, 1)
	if _, err := inUse.ReadAt(b, 0); err != nil || b[0] != '0' {
		t.Errorf("a file in use was closed: %v", err)
	}
	cache.Put(inUse)
	if _, err := inUse.ReadAt(b, 0); !errors.Is(err, os.ErrClosed) {
		t.Errorf("a dropped file was not closed by its last user: %v", err)
	}
	if _, err := cache.Get("9"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("get of no file: %v", err)
	}
}
