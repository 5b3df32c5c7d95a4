package mirror

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"swarmnode/content"
)

func FuzzState(f *testing.F) {
	path := filepath.Join(f.TempDir(), "state.json")
	s := state{}.next(content.Sum([]byte("a")), 1, time.Unix(1, 0).UTC()).next(content.Sum([]byte("b")), 2, time.Unix(2, 0).UTC())
	if err := s.write(path); err != nil {
		f.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add([]byte(`{"version":1,"served":"","kept":[null]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if err := os.WriteFile(path, raw, 0o644); err != nil {
			t.Fatal(err)
		}
		s, err := readState(path)
		if err != nil || s.write(path) != nil {
			return
		}
		again, err := readState(path)
		if err != nil || again.Served != s.Served || again.Release != s.Release || len(again.Kept) != len(s.Kept) {
			t.Errorf("%+v is read again as %+v, %v", s, again, err)
		}
	})
}

func FuzzScrubPosition(f *testing.F) {
	dir, now := f.TempDir(), time.Unix(1_700_000_000, 0).UTC()
	f.Add([]byte(`{"version":1,"under_way":true,"began":"2020-01-01T00:00:00Z","next_segment":7,"checked":1,"bytes":2,"passes":3}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if err := os.WriteFile(filepath.Join(dir, scrubFile), raw, 0o644); err != nil {
			t.Fatal(err)
		}
		p := readPosition(dir, now)
		if p.Version != scrubVersion || p.Began.After(now) {
			t.Errorf("%q is read as %+v", raw, p)
		}
		next := p
		if next.restart(now); !next.Under || next.Segment != 0 || next.Passes != p.Passes || !reflect.DeepEqual(next.Finished, p.Finished) {
			t.Errorf("a new pass after %+v is %+v", p, next)
		}
	})
}
