//go:build unix

package publish

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"strings"
	"testing"

	"swarmnode/content"
	"swarmnode/content/origin"
	"swarmnode/content/store"
)

// TestPullIsCutBehindTheLastByte loses the connection when all of a file has come and the origin is asked whether it is still the same:
// what is not fetched once more is still part of the file.
func TestPullIsCutBehindTheLastByte(t *testing.T) {
	for _, compare := range []bool{false, true} {
		m := newPuller(t, map[string]fakeFile{"a.deb": {text: string(random(1, 12<<20+5)), mtime: 1}, "b": {text: "small", mtime: 1}, "c.deb": {mtime: 1}})
		if compare {
			m.pub.cfg.Origin = comparing{m.origin}
		}
		for p := range m.origin.files {
			m.origin.lost[p] = true
		}
		if res := m.mustPull(); res.Pulled.Bytes > 13<<20 {
			t.Errorf("compare=%v: %d bytes were fetched", compare, res.Pulled.Bytes)
		}
		m.wantOrigin()
	}
}

// TestPullLeavesNoPlaceOfVoidChunks: what is void is not said to be here, and so nobody finds it damaged.
func TestPullLeavesNoPlaceOfVoidChunks(t *testing.T) {
	for _, kill := range []bool{false, true} {
		t.Run(fmt.Sprint("kill=", kill), func(t *testing.T) {
			m := newPuller(t, map[string]fakeFile{"good.deb": {text: string(random(9, 1<<20)), mtime: 1}})
			n := 0
			m.origin.onList = func(int) error {
				n++
				m.origin.put("log.deb", fakeFile{text: string(random(byte(n), 2<<20)), mtime: int64(n)})
				return nil
			}
			if _, err := m.pull(PullOptions{}); err == nil {
				t.Fatal("it held still")
			}
			m.origin.onList = nil
			if kill {
				m.close()
				m.open()
			}
			m.mustPull()
			m.wantOrigin()
			for _, n := range m.refs.Segments() {
				for i := range uint32(len(m.refs.Have(n)) * 8) {
					if m.refs.Have(n).Has(i) {
						if _, err := m.refs.Chunk(content.Ref{Segment: n, Index: i}, nil); err != nil {
							t.Errorf("chunk %d of segment %d: %v", i, n, err)
						}
					}
				}
			}
			if bad := m.refs.Stats().Bad; bad != 0 {
				t.Errorf("%d chunks are said to be damaged", bad)
			}
		})
	}
}

// TestPullOfSizesThatLie: sizes whose sum is more than any number can be are too much for every budget, and the file that finds no room
// is named.
func TestPullOfSizesThatLie(t *testing.T) {
	m := newPuller(t, map[string]fakeFile{"a.deb": {text: string(random(1, 3<<20)), mtime: 1}, "b.deb": {text: "b", mtime: 1}, "c.deb": {text: "c", mtime: 1}})
	m.close()
	m.budget = 2 << 20
	m.open()
	o := m.origin
	m.pub.cfg.Origin = lyingOrigin{o}
	var full *store.BudgetError
	if _, err := m.pull(PullOptions{}); !errors.As(err, &full) || len(o.opened()) > 0 {
		t.Errorf("got %v, want that there is no room, before anything is fetched", err)
	}
	m.pub.cfg.Origin = o
	o.edit(func() {
		for p, f := range o.files {
			f.vague = true
			o.files[p] = f
		}
	})
	if _, err := m.pull(PullOptions{}); !errors.As(err, &full) || !strings.Contains(err.Error(), "a.deb") || !strings.Contains(err.Error(), "--disk") {
		t.Errorf("got %v, want the name of the file and what to do", err)
	}
}

// lyingOrigin lists every file as the largest that there can be.
type lyingOrigin struct{ *fakeOrigin }

func (o lyingOrigin) List(ctx context.Context, before origin.Before, each func(origin.Entry) error) (origin.Listing, error) {
	return o.fakeOrigin.List(ctx, before, func(e origin.Entry) error {
		if e.IsFile() {
			e.Size = math.MaxInt64
		}
		return each(e)
	})
}

// TestPullOfNearlyNothing: an origin that lists files and gives few of them is not published without a word that it is meant, and one
// whose errors may pass not at all.
func TestPullOfNearlyNothing(t *testing.T) {
	files := map[string]fakeFile{}
	for i := range 2*handful + 4 {
		files[fmt.Sprintf("f%02d", i)] = fakeFile{text: fmt.Sprint(i), mtime: 1}
	}
	m := newPuller(t, files)
	few := "f03" // and those before it are given
	cause := fmt.Errorf("403 Forbidden: %w", fs.ErrPermission)
	m.origin.onOpen = func(p string, _ int) error { return errIf(p >= few, cause) }
	if _, err := m.pull(PullOptions{}); !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "does not give 21 of the 24 files") || !strings.Contains(err.Error(), "--allow-shrink") {
		t.Errorf("most are refused: %v", err)
	}
	cause = errors.New("500 Internal Server Error")
	if _, err := m.pull(PullOptions{AllowShrink: true}); err == nil || !strings.Contains(err.Error(), "500") {
		t.Errorf("errors that may pass: %v", err)
	}
	cause = fmt.Errorf("403 Forbidden: %w", fs.ErrPermission)
	if res, err := m.pull(PullOptions{AllowShrink: true}); err != nil || res.Totals.Files != 3 || len(res.Skipped) != 21 {
		t.Errorf("which is meant: %+v, %v", res, err)
	}
	m.origin.edit(func() { m.origin.put("f00", fakeFile{text: "new", mtime: 2}) })
	if res, err := m.pull(PullOptions{}); err != nil || res.Release != 2 || res.Totals.Files != 3 {
		t.Errorf("after that it goes on: %+v, %v", res, err)
	}
	m = newPuller(t, files)
	few = "f12"
	if res, err := m.pull(PullOptions{}); err != nil || res.Totals.Files != 24 {
		t.Errorf("all are given: %+v, %v", res, err)
	}
	m = newPuller(t, files)
	m.origin.onOpen = func(p string, _ int) error { return errIf(p >= few, cause) }
	if res, err := m.pull(PullOptions{}); err != nil || res.Totals.Files != 12 || len(res.Skipped) != 12 {
		t.Errorf("half of them: %+v, %v", res, err)
	}
}
