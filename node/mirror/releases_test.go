package mirror

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"swarmnode/content"
)

// TestReleases: what can be given is told from the moment on from which it can, over a restart, and as long as grace says.
func TestReleases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPublisher()
		r := newRig(t, p, 0)
		look := func(served, target uint64, kept ...content.Digest) {
			t.Helper()
			synctest.Wait()
			got := r.Releases()
			if number(got.Served) != served || number(got.Target) != target || !slices.Equal(got.Kept, kept) {
				t.Errorf("served %d, fetching %d, kept %v; want %d, %d, %v", number(got.Served), number(got.Target), got.Kept, served, target, kept)
			}
			for _, d := range got.Kept {
				old, err := LoadRelease(r.pack, d)
				if err == nil {
					err = r.readable(old.Manifest)
				}
				if err != nil || content.Sum(old.Manifest.Encode()) != d {
					t.Errorf("a kept release: %v", err)
				}
			}
		}
		look(0, 0)
		r.fetch.set(func() { r.fetch.stuck = true })
		r.News(p.publish(map[string]string{"a": text("a", 3)}))
		look(0, 1)
		if n := r.changes.Load(); n != 1 {
			t.Errorf("a release that is fetched: told %d times", n)
		}
		r.fetch.set(func() { r.fetch.stuck = false })
		second := p.publish(map[string]string{"a": text("aa", 2)})
		r.News(second)
		look(2, 0)
		r.News(p.publish(map[string]string{"b": text("b", 2)}))
		look(3, 0, second.Manifest)
		third := p.publish(map[string]string{"a": ""})
		time.Sleep(testGrace / 2)
		r.News(third)
		synctest.Wait()
		kept := r.Releases().Kept
		if len(kept) != 2 || kept[1] != second.Manifest {
			t.Errorf("kept %v, want the newest first", kept)
		}
		r.close()
		r.open(0)
		defer r.close()
		look(4, 0, kept...)
		before := r.changes.Load()
		time.Sleep(testGrace/2 + cleanEvery)
		look(4, 0, kept[0])
		if r.changes.Load() == before {
			t.Error("nobody was told that a release is past its grace")
		}
	})
}

func number(r *Release) uint64 {
	if r == nil {
		return 0
	}
	return r.Manifest.Release
}
