package store_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"swarmnode/content"
	"swarmnode/content/store"
	"swarmnode/content/store/storetest"
)

// proven says how many of the chunks of a segment were right and read without being hashed.
func proven(t *testing.T, r *store.References, s storetest.Segment) int64 {
	t.Helper()
	before := r.Stats().Proven
	wantSegment(t, r, s)
	return r.Stats().Proven - before
}

func TestReferencesHashOnce(t *testing.T) {
	t.Parallel()
	tree := t.TempDir()
	r := openReferences(t, t.TempDir(), tree, "", store.Config{})
	s := storetest.Segments()[0]
	publish(t, r, tree, "f", s)
	all := int64(s.Info.Chunks)
	now := time.Now()
	r.SetClock(func() time.Time { return now })
	for _, step := range []struct {
		what string
		age  time.Duration
		want int64
	}{
		{"just written", 0, 0},
		{"just written, again", store.Settled / 2, 0},
		{"settled, first time", 2 * store.Settled, 0},
		{"settled", 3 * store.Settled, all},
		{"before the proofs are too old", store.ProofLife - time.Second, all},
		{"the proofs are too old", 2*store.ProofLife + time.Second, 0},
		{"proven again", 2*store.ProofLife + 2*time.Second, all},
	} {
		now = time.Now().Add(step.age)
		if got := proven(t, r, s); got != step.want {
			t.Errorf("%s: %d reads were not hashed, want %d", step.what, got, step.want)
		}
	}
}

// tick waits until the clock of the file system has gone on from then.
func tick(dir string, then time.Time) error {
	probe := filepath.Join(dir, "probe")
	for {
		if err := os.WriteFile(probe, nil, 0o644); err != nil {
			return err
		}
		if st, err := os.Stat(probe); err != nil || st.ModTime().After(then) {
			return err
		}
		if err := os.Remove(probe); err != nil {
			return err
		}
	}
}

// TestReferencesProofEnds changes a file whose chunks are proven in every way that keeps its size, with the old modification
// time put back.
func TestReferencesProofEnds(t *testing.T) {
	t.Parallel()
	s := storetest.Segments()[0]
	whole := bytes.Join(s.Data, nil)
	wrong := bytes.Clone(whole)
	wrong[0] ^= 1
	for _, c := range []struct {
		what   string
		change func(path string) error
	}{
		{"one byte", func(path string) error {
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteAt(wrong[:1], 0)
			return errors.Join(err, f.Close())
		}},
		{"all of it", func(path string) error { return os.WriteFile(path, wrong, 0o644) }},
		{"cut and grown", func(path string) error {
			return errors.Join(os.Truncate(path, 0), os.Truncate(path, int64(len(whole))))
		}},
		{"another file", func(path string) error {
			return errors.Join(os.WriteFile(path+".new", wrong, 0o644), os.Remove(path), os.Rename(path+".new", path))
		}},
	} {
		t.Run(c.what, func(t *testing.T) {
			tree, h := t.TempDir(), &heard{}
			r := openReferences(t, t.TempDir(), tree, "", store.Config{OnBad: h.onBad})
			publish(t, r, tree, "f", s)
			r.SetClock(func() time.Time { return time.Now().Add(2 * store.Settled) })
			proven(t, r, s)
			if got := proven(t, r, s); got != int64(s.Info.Chunks) {
				t.Fatalf("%d chunks are proven, want all %d", got, s.Info.Chunks)
			}
			path := filepath.Join(tree, "f")
			st, err := os.Stat(path)
			if err == nil {
				err = tick(tree, st.ModTime())
			}
			if err := errors.Join(err, c.change(path), os.Chtimes(path, st.ModTime(), st.ModTime())); err != nil {
				t.Fatal(err)
			}
			got, err := r.Chunk(s.Ref(0), nil)
			if c.what == "another file" && err == nil {
				// The open file is still the old one, and its bytes are right.
				if content.Sum(got) != s.Table.Chunk(0).Digest {
					t.Error("the wrong bytes were given")
				}
				return
			}
			if !errors.Is(err, store.ErrNotHere) || len(h.paths) != 1 {
				t.Errorf("Chunk = %d bytes, %v, %d paths named; want %v and one path", len(got), err, len(h.paths), store.ErrNotHere)
			}
		})
	}
}
