package mirror

import (
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"

	"swarmnode/content"
)

// TestDamagedStateOpens flips each byte of the state in turn: the mirror opens, and serves the release again without fetching a chunk.
func TestDamagedStateOpens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPublisher()
		r := newRig(t, p, 0)
		head := p.publish(map[string]string{"a": text("a", 3)})
		r.News(head)
		synctest.Wait()
		r.close()
		path := filepath.Join(r.dir, stateFile)
		good := must(os.ReadFile(path))
		for at := range good {
			raw := append([]byte(nil), good...)
			raw[at] ^= 2
			if err := os.WriteFile(path, raw, 0o644); err != nil {
				t.Fatal(err)
			}
			r.open(0)
			r.News(head)
			synctest.Wait()
			r.check()
			if _, chunks := r.fetch.took(); chunks > 0 {
				t.Errorf("byte %d: %d chunks were fetched again", at, chunks)
			}
			r.close()
		}
	})
}

// TestLiveOfNothing: before a release is served nothing is needed.
func TestLiveOfNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, newPublisher(), 0)
		defer r.close()
		if got := r.Live(0); got.Count() != 0 {
			t.Errorf("live: %v", got)
		}
		if err := r.Blocks(t.Context(), []content.Digest{{1}}); err != nil {
			t.Error(err)
		}
	})
}

// TestServeWantsAllOfARelease: a release of which a chunk was lost at the last moment is not served, nor is it after a restart.
func TestServeWantsAllOfARelease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPublisher()
		r := newRig(t, p, 0)
		r.News(p.publish(map[string]string{"a": text("a", 3)}))
		synctest.Wait()
		served := r.Served()
		r.fetch.set(func() { r.fetch.stuck = true })
		r.News(p.publish(map[string]string{"b": text("b", 5)}))
		synctest.Wait()
		if err := r.serve(&release{p.manifest, p.infos}); err == nil || r.Served().Release != served.Release {
			t.Errorf("release %d is served without its chunks: %v", r.Served().Release, err)
		}
		r.close()
		r.open(0)
		defer r.close()
		if m := r.Served(); m == nil || m.Release != served.Release {
			t.Errorf("after a restart %+v is served, want release %d", m, served.Release)
		}
	})
}
