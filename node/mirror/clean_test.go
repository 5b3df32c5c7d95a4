package mirror

import (
	"testing"
	"time"

	"swarmnode/content"
)

// slowExport is an Export that takes its time to remove files.
type slowExport struct{ drop func() }

func (e *slowExport) Keeps(content.Digest) bool { return false }

func (e *slowExport) Drop(func(content.Digest) bool) error {
	e.drop()
	return nil
}

// TestCleanWhileAReleaseComes: all metadata of a release comes in the midst of Clean, which knew of no release on its way when it
// began. It stays: the release is served at once and whole.
func TestCleanWhileAReleaseComes(t *testing.T) {
	until := func(r *rig, release uint64) {
		t.Helper()
		for r.Served() == nil || r.Served().Release < release {
			if pr := r.Progress(); pr.Trouble != nil {
				t.Fatalf("release %d: %v", release, pr.Trouble)
			}
			time.Sleep(time.Millisecond)
		}
	}
	p := newPublisher()
	export := &slowExport{}
	r := &rig{t: t, p: p, dir: t.TempDir(), export: export}
	r.open(0)
	defer r.close()
	r.News(p.publish(map[string]string{"a": text("a", 3)}))
	until(r, 1)
	r.News(p.publish(map[string]string{"a": text("b", 3)}))
	until(r, 2)
	dropped := 0
	export.drop = func() {
		dropped++
		r.News(p.publish(manyFiles(3000))) // most of the metadata by far
		for r.Releases().Target == nil {
			time.Sleep(time.Millisecond)
		}
		r.metadata.Lock() // all of it is here
		defer r.metadata.Unlock()
	}
	if err := r.Clean(time.Now().Add(2 * testGrace)); err != nil || dropped != 1 {
		t.Fatalf("dropped %d times: %v", dropped, err)
	}
	until(r, 3)
	r.check()
}
