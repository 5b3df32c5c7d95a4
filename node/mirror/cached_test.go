package mirror

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"swarmnode/content"
	"swarmnode/gossip"
)

// TestCacheOnly has a mirror take in the metadata of each release, want no content, and serve a release as soon as others have it.
func TestCacheOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPublisher()
		var others atomic.Uint64 // the release that others have
		others.Store(1)
		r := &rig{t: t, p: p, dir: t.TempDir(), held: func(n uint64) bool { return n <= others.Load() }}
		const budget = 40 * chunkSize
		r.open(budget)
		defer func() { r.close() }()
		look := func(what string, served uint64) {
			t.Helper()
			if wants := r.fetch.wants(); len(wants) > 0 {
				t.Errorf("%s: %d segments are wanted", what, len(wants))
			}
			if got := r.Progress(); got.Served != served || got.Trouble != nil || got.Here != r.disk.Stats().Used {
				t.Errorf("%s: %+v, want release %d", what, got, served)
			}
		}
		told := func() (v gossip.View) {
			a := r.cfg.Availability
			a.mu.Lock()
			defer a.mu.Unlock()
			v.Apply(a.all())
			if a.release != r.Progress().Served {
				t.Errorf("peers are told of release %d", a.release)
			}
			return v
		}
		p.publish(map[string]string{"a": text("a", 30), "b": text("b", 30)}) // more than the budget
		r.News(p.publish(map[string]string{"c": text("c", 3)}))
		look("nobody has it", 0)
		if r.Releases().Target == nil {
			t.Error("its metadata is not given to the gateway")
		}
		others.Store(2)
		time.Sleep(heldEvery)
		look("others have it", 2)
		if v := told(); v.HasSegment(0) {
			t.Error("peers are told that all is here")
		}

		// What is asked for stays and is told, as far as the budget goes.
		var last content.Ref
		for ref, data := range p.data {
			for r.cfg.Cache.Put(ref, data) != nil {
				if err := r.cfg.Cache.Evict(); err != nil {
					t.Fatal(err)
				}
			}
			r.Stored(ref, len(data))
			last = ref
			if used := r.disk.Used(); used > budget {
				t.Fatalf("%d bytes are used of %d", used, budget)
			}
		}
		if v := told(); v.HasSegment(last.Segment) || !v.HasChunk(last) {
			t.Errorf("peers are told of chunk %v: %v; of the whole segment: %v", last, v.HasChunk(last), v.HasSegment(last.Segment))
		}
		count := 0
		v := told()
		for ref := range p.data {
			if v.HasChunk(ref) != r.disk.Has(ref) {
				t.Errorf("peers are told %v of a chunk of which %v is so", v.HasChunk(ref), r.disk.Has(ref))
			}
			if r.disk.Has(ref) {
				count++
			}
		}
		look("full", 2)

		// A damaged chunk is not fetched again.
		r.Bad(last, "")
		time.Sleep(2 * lookEvery)
		look("a damaged chunk", 2)

		// The next release waits for others, too; meanwhile the old one is served, over a restart as well.
		third := p.publish(map[string]string{"a": text("aa", 30)})
		r.News(third)
		synctest.Wait()
		look("the next one", 2)
		r.close()
		r.open(budget)
		look("again", 2)
		if got := r.disk.Have(0).Count(); got == 0 || got > count {
			t.Errorf("%d chunks are here after the restart, %d before it", got, count)
		}
		others.Store(3)
		r.News(third)
		synctest.Wait()
		look("others have the next one", 3)
		if got := r.Live(0); got.Count() != r.disk.Have(0).Count() {
			t.Errorf("%d chunks of segment 0 are to be repaired when they are lost, %d are here", got.Count(), r.disk.Have(0).Count())
		}

		// As an ordinary mirror again it fetches what it does not have.
		r.close()
		r.held = nil
		r.open(0)
		r.News(third)
		synctest.Wait()
		r.check()
	})
}
