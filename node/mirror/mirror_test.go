package mirror

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"swarmnode/content"
	"swarmnode/content/store"
)

// manyFiles are small files that make a tree of several nodes.
func manyFiles(n int) map[string]string {
	files := map[string]string{}
	for i := range n {
		files[fmt.Sprintf("file-%05d-%s", i, strings.Repeat("x", 60))] = fmt.Sprint("content of ", i)
	}
	return files
}

func TestFirstReleaseAndDelta(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPublisher()
		r := newRig(t, p, 0)
		defer r.close()
		r.News(p.publish(manyFiles(3000)))
		synctest.Wait()
		r.check()
		if _, chunks := r.fetch.took(); chunks != 3000 {
			t.Errorf("%d chunks came, want 3000", chunks)
		}
		head := p.publish(map[string]string{"file-00007-" + strings.Repeat("x", 60): "other", "new": text("n", 3)})
		r.News(head)
		synctest.Wait()
		r.check()
		want := append([]content.Digest{head.Manifest}, p.manifest.Delta...)
		for _, s := range p.infos[1:] {
			want = append(want, s.Table)
		}
		if blocks, chunks := r.fetch.took(); !slices.Equal(blocks, want) || chunks != 4 {
			t.Errorf("%d blocks and %d chunks came, want manifest, delta and new tables: %d, and 4 chunks", len(blocks), chunks, len(want))
		}
		r.News(head) // again, as with every heartbeat
		synctest.Wait()
		r.check()
		if blocks, chunks := r.fetch.took(); len(blocks)+chunks > 0 {
			t.Errorf("%d blocks and %d chunks came for a release that is served", len(blocks), chunks)
		}
	})
}

func TestDeltaThatDoesNotHelp(t *testing.T) {
	for name, spoil := range map[string]func(p *publisher, f *fakeFetch){
		"nobody has it": func(p *publisher, f *fakeFetch) { f.hidden[p.manifest.Delta[0]] = true },
		"there is none": nil,
		"rubbish":       func(p *publisher, _ *fakeFetch) { p.manifest.Delta[0] = p.blocks.Put([]byte("rubbish")) },
		"of another release": func(p *publisher, _ *fakeFetch) {
			d := content.Delta{Edits: content.Edits{Deletes: []string{"a"}}}
			p.manifest.Delta = nil
			for _, part := range content.EncodeDelta(d) {
				p.manifest.Delta = append(p.manifest.Delta, p.blocks.Put(part))
			}
		},
		"no such path": func(p *publisher, _ *fakeFetch) {
			d := content.Delta{Edits: content.Edits{Deletes: []string{"zzz"}}, Dead: []content.Run{{Segment: 900, Count: 1}}}
			p.manifest.Delta = nil
			for _, part := range content.EncodeDelta(d) {
				p.manifest.Delta = append(p.manifest.Delta, p.blocks.Put(part))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPublisher()
				r := newRig(t, p, 0)
				defer r.close()
				r.News(p.publish(map[string]string{"a": text("a", 3), "b": text("b", 2)}))
				synctest.Wait()
				p.noDelta = spoil == nil
				head := p.publish(map[string]string{"b": text("bb", 2)})
				if spoil != nil {
					r.fetch.set(func() { spoil(p, r.fetch) })
					head.Manifest = p.blocks.Put(p.manifest.Encode())
				}
				r.News(head)
				time.Sleep(deltaPatience + time.Second)
				synctest.Wait()
				r.check()
			})
		})
	}
}

func TestIncompleteReleaseIsDroppedForANewer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPublisher()
		r := newRig(t, p, 0)
		defer r.close()
		r.News(p.publish(map[string]string{"a": text("a", 3)}))
		synctest.Wait()
		r.fetch.set(func() { r.fetch.stuck = true })
		r.News(p.publish(map[string]string{"b": text("b", 5)}))
		synctest.Wait()
		if pr := r.Progress(); pr.Phase != "fetching" || pr.Complete != 1 || pr.Segments != 2 || pr.Here >= pr.Bytes {
			t.Errorf("progress %+v", pr)
		}
		newest := p.publish(map[string]string{"b": "", "c": text("c", 2)})
		r.fetch.set(func() { r.fetch.stuck = false })
		r.News(newest)
		synctest.Wait()
		r.check()
		if len(r.fetch.wants()) != 0 {
			t.Errorf("segments %v are still wanted", r.fetch.wants())
		}
	})
}

func TestBadReleasesDoNotWedge(t *testing.T) {
	for name, spoil := range map[string]func(p *publisher){
		"of another collection":  func(p *publisher) { p.manifest.Collection = content.NewID([]byte("other")) },
		"of another number":      func(p *publisher) { p.manifest.Release += 7 },
		"a tree of rubbish":      func(p *publisher) { p.manifest.Tree, p.manifest.Delta = p.blocks.Put([]byte("rubbish")), nil },
		"a directory of rubbish": func(p *publisher) { p.manifest.Directory, p.manifest.Delta = p.blocks.Put([]byte("rubbish")), nil },
		"more bytes than there":  func(p *publisher) { p.manifest.LiveBytes = 1 << 63 },
		"a table of rubbish": func(p *publisher) {
			infos := slices.Clone(p.infos)
			infos[1].Table = p.blocks.Put([]byte("rubbish"))
			p.manifest.Directory, p.manifest.Delta = must(content.BuildDirectory(infos, p.put)), nil
		},
		"another table for a segment": func(p *publisher) {
			infos := slices.Clone(p.infos)
			infos[0] = infos[1]
			p.manifest.Directory, p.manifest.Delta = must(content.BuildDirectory(infos, p.put)), nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPublisher()
				r := newRig(t, p, 0)
				defer r.close()
				r.News(p.publish(map[string]string{"a": text("a", 3), "b": text("b", 2)}))
				synctest.Wait()
				good, infos := *p.manifest, p.infos
				head := p.publish(map[string]string{"b": text("bb", 2)})
				number := head.Release
				spoil(p)
				head.Manifest = p.blocks.Put(p.manifest.Encode())
				r.News(head)
				time.Sleep(5 * retryEvery / 2)
				if r.Progress().Trouble == nil || r.Served().Release != good.Release {
					t.Errorf("release %d is served, trouble: %v", r.Served().Release, r.Progress().Trouble)
				}
				if err := r.readable(r.Served()); err != nil {
					t.Error(err)
				}
				p.manifest, p.infos = &good, infos
				p.manifest.Release = number // the next is after the bad one
				r.News(p.publish(map[string]string{"c": text("c", 1)}))
				time.Sleep(retryEvery)
				if m := r.Served(); name != "a table of rubbish" && name != "another table for a segment" && m.Release != number+1 {
					t.Errorf("release %d is served, want %d; %v", m.Release, number+1, r.Progress().Trouble)
				}
			})
		})
	}
}

func TestBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPublisher()
		r := newRig(t, p, 30*chunkSize)
		defer r.close()
		big := map[string]string{"big": text("x", 40)}
		r.News(p.publish(big))
		synctest.Wait()
		var short *store.BudgetError
		if pr := r.Progress(); !errors.As(pr.Trouble, &short) || pr.Phase != "short of disk" || !strings.Contains(pr.Trouble.Error(), "are needed") {
			t.Errorf("progress %+v", pr)
		}
		if _, chunks := r.fetch.took(); chunks > 0 {
			t.Errorf("%d chunks came", chunks)
		}
		r.News(p.publish(map[string]string{"big": "", "small": text("s", 20)}))
		time.Sleep(time.Second)
		r.check()
		// The dead chunks of the first one, never fetched, do not count against the next.
		r.News(p.publish(map[string]string{"more": text("m", 8)}))
		synctest.Wait()
		r.check()
	})
}

func TestBudgetRecovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPublisher()
		r := newRig(t, p, 30*chunkSize)
		defer r.close()
		r.News(p.publish(map[string]string{"a": text("a", 20)}))
		synctest.Wait()
		r.check()
		r.News(p.publish(map[string]string{"a": text("b", 5)}))
		synctest.Wait()
		r.check()
		r.News(p.publish(map[string]string{"c": text("c", 15)})) // fits when the first is past its grace
		synctest.Wait()
		if r.Progress().Trouble == nil {
			t.Fatal("no trouble")
		}
		time.Sleep(testGrace + 2*cleanEvery)
		r.check()
	})
}

func TestResume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPublisher()
		r := newRig(t, p, 0)
		head := p.publish(map[string]string{"a": text("a", 3), "b": text("b", 2)})
		r.News(head)
		synctest.Wait()
		r.check()
		r.close()
		r.open(0)
		r.check() // before any news
		r.News(head)
		synctest.Wait()
		r.check()
		if blocks, chunks := r.fetch.took(); len(blocks)+chunks > 0 {
			t.Errorf("%d blocks and %d chunks came", len(blocks), chunks)
		}
		// Half a release is there, then a restart: only the rest comes.
		r.fetch.set(func() { r.fetch.stuck = true })
		next := p.publish(map[string]string{"c": text("c", 4)})
		r.News(next)
		synctest.Wait()
		for i := range uint32(2) {
			ref := content.Ref{Segment: 1, Index: i}
			if err := r.disk.Put(ref, p.data[ref]); err != nil {
				t.Fatal(err)
			}
			r.Stored(ref, chunkSize)
			r.Stored(ref, chunkSize) // twice: of two requests
		}
		if pr := r.Progress(); pr.Here != pr.Bytes-2*chunkSize+7 {
			t.Errorf("%d of %d bytes are here", pr.Here, pr.Bytes)
		}
		r.close()
		r.open(0)
		r.News(next)
		synctest.Wait()
		r.check()
		if blocks, chunks := r.fetch.took(); len(blocks) != 0 || chunks != 2 {
			t.Errorf("%d blocks and %d chunks came, want 2 chunks", len(blocks), chunks)
		}
		r.close()
	})
}

func TestDamagedStateIsFetchedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPublisher()
		r := newRig(t, p, 0)
		head := p.publish(map[string]string{"a": text("a", 3)})
		r.News(head)
		synctest.Wait()
		r.close()
		if err := os.Remove(filepath.Join(r.dir, "pack")); err != nil {
			t.Fatal(err)
		}
		r.open(0)
		if r.Served() != nil {
			t.Error("a release without its metadata is served")
		}
		r.News(head)
		synctest.Wait()
		r.check()
		r.close()
		state := filepath.Join(r.dir, stateFile)
		if err := os.WriteFile(state, []byte(`{"version":2}`), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(Config{Dir: r.dir}); err == nil || !strings.Contains(err.Error(), "another version") {
			t.Errorf("a state of another version: %v", err)
		}
	})
}

// flip damages a chunk on disk.
func (r *rig) flip(ref content.Ref) {
	r.t.Helper()
	table := must(r.table(r.p.infos[ref.Segment].Table))
	f := must(os.OpenFile(filepath.Join(r.dir, "disk", "segments", r.p.infos[ref.Segment].Table.BlockCID().String()), os.O_RDWR, 0))
	defer f.Close()
	at := int64(table.Offset(ref.Index))
	b := make([]byte, 1)
	must(f.ReadAt(b, at))
	b[0] ^= 1
	must(f.WriteAt(b, at))
}

func TestBadChunkIsFetchedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPublisher()
		r := newRig(t, p, 0)
		defer r.close()
		r.News(p.publish(map[string]string{"a": text("a", 3), "b": text("b", 1)}))
		synctest.Wait()
		r.check()
		ref := content.Ref{Segment: 0, Index: 1}
		r.flip(ref)
		if err := r.disk.Verify(ref, nil); !errors.Is(err, store.ErrNotHere) {
			t.Fatalf("a damaged chunk: %v", err)
		}
		if a := r.cfg.Availability; a.whole(0) || !a.partial[0].Has(0) || a.partial[0].Has(1) {
			t.Error("peers are told that the damaged chunk is here")
		}
		time.Sleep(2 * lookEvery)
		if pr := r.Progress(); pr.Complete != 0 || pr.Bytes-pr.Here != chunkSize {
			t.Errorf("progress %+v", pr)
		}
		if err := errors.Join(r.fetch.deliver(), r.disk.Sync(t.Context())); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * lookEvery)
		r.check()
		// It dies in the next release while it is bad: that must not be waited for.
		r.flip(ref)
		if r.disk.Verify(ref, nil) == nil {
			t.Fatal("not noticed")
		}
		time.Sleep(2 * lookEvery)
		r.News(p.publish(map[string]string{"a": ""}))
		synctest.Wait()
		r.check()
		if len(r.fetch.wants()) != 0 {
			t.Errorf("segments %v are still wanted", r.fetch.wants())
		}
	})
}

// TestBadChunkWhileAReleaseIsStuck loses a chunk that only the served release uses while another one cannot be had.
func TestBadChunkWhileAReleaseIsStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPublisher()
		r := newRig(t, p, 0)
		defer r.close()
		r.News(p.publish(map[string]string{"a": text("a", 3), "b": text("b", 3)}))
		synctest.Wait()
		r.fetch.set(func() { r.fetch.stuck = true })
		r.News(p.publish(map[string]string{"a": "", "c": text("c", 5)}))
		synctest.Wait()
		for _, i := range []uint32{1, 4} { // of a, and of b
			r.flip(content.Ref{Index: i})
			if r.disk.Verify(content.Ref{Index: i}, nil) == nil {
				t.Fatal("not noticed")
			}
		}
		time.Sleep(2 * lookEvery)
		if w := r.fetch.wants(); w[0].Has(1) || !w[0].Has(4) || len(w) != 2 {
			t.Errorf("wanted: %v", w)
		}
		r.fetch.set(func() { r.fetch.stuck = false })
		r.News(p.publish(map[string]string{"d": text("d", 1)}))
		synctest.Wait()
		r.check()
	})
}

func TestCleanFrees(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPublisher()
		r := newRig(t, p, 0)
		defer r.close()
		r.News(p.publish(map[string]string{"a": text("a", 30), "b": text("b", 10)}))
		synctest.Wait()
		r.News(p.publish(map[string]string{"a": text("aa", 5)}))
		synctest.Wait()
		r.News(p.publish(map[string]string{"b": ""}))
		synctest.Wait()
		blocks := r.pack.Stats().Blocks
		time.Sleep(testGrace / 2)
		if n := r.disk.Stats().Segments; n != 2 {
			t.Errorf("%d segments within grace, want 2", n)
		}
		time.Sleep(testGrace)
		r.check()
		if st := r.disk.Stats(); st.Segments != 1 || st.Used != 5*chunkSize-7 {
			t.Errorf("after grace: %+v", st)
		}
		if n := r.pack.Stats().Blocks; n >= blocks {
			t.Errorf("%d of %d metadata blocks stay", n, blocks)
		}
	})
}

// TestCleanWhileAReleaseIsStuck: what is past its grace is freed though another release is on its way, and the release that
// is served stays whole when that one is given up.
func TestCleanWhileAReleaseIsStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPublisher()
		r := newRig(t, p, 0)
		r.News(p.publish(map[string]string{"a": text("a", 30), "b": text("b", 10)}))
		synctest.Wait()
		r.News(p.publish(map[string]string{"a": ""}))
		synctest.Wait()
		served := r.Served()
		r.fetch.set(func() { r.fetch.stuck = true })
		r.News(p.publish(map[string]string{"b": "", "c": text("c", 4)}))
		time.Sleep(2 * testGrace)
		if used := r.disk.Stats().Used; used != 10*chunkSize-7 {
			t.Errorf("%d bytes are used", used)
		}
		if err := r.readable(served); err != nil {
			t.Error(err)
		}
		r.close()
		r.open(0)
		defer r.close()
		if m := r.Served(); m == nil || m.Release != served.Release {
			t.Errorf("after a restart %+v is served, want release %d", m, served.Release)
		}
	})
}

// TestCleanKeepsWhatIsNeeded publishes at random while Clean runs: the served release and all within grace stay whole, and
// after grace nothing else is left.
func TestCleanKeepsWhatIsNeeded(t *testing.T) {
	for seed := range uint64(15) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { cleanAtRandom(t, rand.New(rand.NewPCG(seed, 0))) })
		})
	}
}

func cleanAtRandom(t *testing.T, rng *rand.Rand) {
	type old struct {
		man *content.Manifest
		end time.Time // of its grace
	}
	p := newPublisher()
	r := newRig(t, p, 0)
	defer r.close()
	var kept []old
	for range 6 {
		changes := map[string]string{fmt.Sprint("new", rng.IntN(1000)): text(fmt.Sprint(rng.IntN(1000)), 1+rng.IntN(4))}
		for path := range p.files {
			if rng.IntN(2) == 0 {
				changes[path] = ""
			}
		}
		before := r.Served()
		r.fetch.set(func() { r.fetch.stuck = rng.IntN(4) == 0 })
		r.News(p.publish(changes))
		synctest.Wait()
		if now := r.Served(); before != nil && now != before {
			kept = append(kept, old{before, time.Now().Add(testGrace)})
		}
		time.Sleep(time.Duration(rng.IntN(50)) * time.Minute)
		for _, k := range kept {
			if time.Now().Before(k.end) {
				if err := r.readable(k.man); err != nil {
					t.Errorf("release %d is within grace: %v", k.man.Release, err)
				}
			}
		}
		if m := r.Served(); m != nil {
			if err := r.readable(m); err != nil {
				t.Errorf("release %d is served: %v", m.Release, err)
			}
		}
	}
	r.fetch.set(func() { r.fetch.stuck = false })
	r.News(p.publish(map[string]string{"last": text("last", 1)}))
	synctest.Wait()
	time.Sleep(testGrace + 2*cleanEvery)
	r.check()
	if used := r.disk.Stats().Used; used != int64(p.manifest.LiveBytes) {
		t.Errorf("%d bytes are used for %d live ones", used, p.manifest.LiveBytes)
	}
}
