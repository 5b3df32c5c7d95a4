//go:build unix

package publish

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"swarmnode/content"
	"swarmnode/content/origin"
	"swarmnode/content/store"
)

// chunksOf gives the places of a file's chunks.
func (m *master) chunksOf(path string) (refs []content.Ref) {
	m.t.Helper()
	runs, err := content.EntryRuns(m.entry(path), m.pack)
	if err != nil {
		m.t.Fatal(err)
	}
	for _, r := range runs {
		for i := range r.Count {
			refs = append(refs, content.Ref{Segment: r.Segment, Index: r.First + i})
		}
	}
	return refs
}

// table gives the table of a segment of the newest release.
func (m *master) table(number uint32) *content.Table {
	m.t.Helper()
	infos, err := content.LoadDirectory(m.manifest().Directory, m.pack)
	if err != nil {
		m.t.Fatal(err)
	}
	t, err := loadTable(m.pack, infos[number].Table)
	if err != nil {
		m.t.Fatal(err)
	}
	return t
}

// rot turns a bit of a chunk on the disk, and reads it, as a scrubber does.
func (m *master) rot(refs ...content.Ref) {
	m.t.Helper()
	for _, ref := range refs {
		f, err := os.OpenFile(filepath.Join(m.tree, store.ArrivalFile(ref.Segment)), os.O_RDWR, 0)
		if err != nil {
			m.t.Fatal(err)
		}
		at, b := int64(m.table(ref.Segment).Offset(ref.Index)), []byte{0}
		_, err = f.ReadAt(b, at)
		b[0] ^= 4
		_, werr := f.WriteAt(b, at)
		if err = errors.Join(err, werr, f.Close()); err != nil {
			m.t.Fatal(err)
		}
		if _, err := m.refs.Chunk(ref, nil); !errors.Is(err, store.ErrNotHere) {
			m.t.Fatalf("a damaged chunk: %v", err)
		}
	}
}

// wantMended publishes and wants everything to be as the origin has it.
func (m *master) wantMended(mended int, opened ...string) Result {
	m.t.Helper()
	m.origin.opened()
	res := m.mustPull()
	m.wantOpened("after damage", opened...)
	m.wantOrigin()
	if res.Pulled.Mended != mended || res.Pulled.Lost != 0 {
		m.t.Errorf("%d chunks are mended and %d lost; want %d and none", res.Pulled.Mended, res.Pulled.Lost, mended)
	}
	return res
}

// TestMend damages chunks on the disk: the next run gets exactly those from the origin, and makes no release of it.
func TestMend(t *testing.T) {
	image := string(random(1, 12<<20))
	for _, kill := range []bool{false, true} {
		for _, cond := range []bool{false, true} {
			t.Run(fmt.Sprintf("kill=%v cond=%v", kill, cond), func(t *testing.T) {
				t.Parallel()
				m := newPuller(t, map[string]fakeFile{"image.deb": {text: image, mtime: 1}, "a": {text: "one", mtime: 1}, "b": {text: "one", mtime: 1, signed: true},
					"c.deb": {text: string(random(2, 3<<20)), mtime: 1, vague: true}, "unvouched": {text: "u", mtime: 1, plain: true}})
				m.origin.cond = cond
				m.mustPull()
				if kill {
					m.close()
					m.open()
				}
				image := m.chunksOf("image.deb")
				m.rot(image[5], image[6], image[11], m.chunksOf("a")[0], m.chunksOf("c.deb")[0])
				want := []string{"a@0", "c.deb@0", "image.deb@0", fmt.Sprintf("image.deb@%d", 11<<20), fmt.Sprintf("image.deb@%d", 5<<20)}
				if !cond {
					want = append(want, "unvouched@0")
				}
				if res := m.wantMended(5, want...); !res.Unchanged || res.Pulled.Bytes > 6<<20 {
					t.Errorf("got %+v", res)
				}
				if !cond {
					want = []string{"unvouched@0"}
				} else {
					want = nil
				}
				m.wantMended(0, want...)
				m.close()
				m.open()
				m.wantMended(0, want...)
			})
		}
	}
}

// TestMendWhatHasChanged: the origin has another version by now, of the file or of one that shares a chunk with it.
func TestMendWhatHasChanged(t *testing.T) {
	text := string(random(1, 8<<20))
	m := newPuller(t, map[string]fakeFile{"a.deb": {text: text, mtime: 1}, "b.deb": {text: text, mtime: 1}, "gone.deb": {text: string(random(7, 2<<20)), mtime: 1}})
	m.mustPull()
	m.rot(m.chunksOf("a.deb")...)
	m.rot(m.chunksOf("gone.deb")[0])
	m.origin.edit(func() {
		m.origin.put("a.deb", fakeFile{text: text[:4<<20] + string(random(2, 1<<20)), mtime: 2})
		m.origin.put("b.deb", fakeFile{text: string(random(3, 1<<20)) + text[5<<20:7<<20], mtime: 2})
		m.origin.remove("gone.deb")
	})
	if res := m.wantMended(6, "a.deb@0", "b.deb@0"); res.Release != 2 || res.Unchanged {
		t.Errorf("got %+v, want a new release", res)
	}
}

// TestMendFindsAnotherFile: the origin lists a file as it was and has another one. It is published.
func TestMendFindsAnotherFile(t *testing.T) {
	for _, cond := range []bool{false, true} {
		m := newPuller(t, map[string]fakeFile{"a.deb": {text: string(random(1, 3<<20)), mtime: 1}, "other": {text: "o", mtime: 1}})
		m.origin.cond = cond
		m.mustPull()
		m.rot(m.chunksOf("a.deb")[1])
		m.origin.edit(func() { m.origin.put("a.deb", fakeFile{text: string(random(2, 3<<20)), mtime: 1}) })
		if cond { // a listing that says that nothing has changed
			m.origin.onList = func(int) error { return nil }
		}
		if res := m.wantMended(0, "a.deb@0", "a.deb@0"); res.Release != 2 {
			t.Errorf("cond=%v: got %+v, want a release of the file that is there", cond, res)
		}
	}
}

// TestMendCannot: what the origin does not give stays lost and is said to be, and all else goes on.
func TestMendCannot(t *testing.T) {
	m := newPuller(t, map[string]fakeFile{"a": {text: "one", mtime: 1}, "b": {text: "two", mtime: 1, signed: true, lie: ""}})
	m.mustPull()
	a, b := m.chunksOf("a")[0], m.chunksOf("b")[0]
	m.rot(a, b)
	m.origin.edit(func() {
		f := m.origin.files["b"]
		f.lie = "owt"
		m.origin.put("b", f)
		m.origin.put("new", fakeFile{text: "n", mtime: 2})
		m.origin.onOpen = func(path string, _ int) error { return errIf(path == "a", os.ErrPermission) }
	})
	res := m.mustPull()
	if res.Release != 2 || res.Pulled.Lost != 2 || res.Pulled.Mended != 0 {
		t.Errorf("got %+v, want a release, and two lost", res)
	}
	if res = m.mustPull(); !res.Unchanged || res.Pulled.Lost != 2 {
		t.Errorf("got %+v, want nothing new, and two lost", res)
	}
	m.origin.edit(func() {
		f := m.origin.files["b"]
		f.lie = ""
		m.origin.put("b", f)
		m.origin.onOpen = nil
		m.origin.cut["a"] = 1 // over a bad line nothing is mended: a chunk comes in whole
	})
	if _, err := m.pull(PullOptions{}); !errors.Is(err, errCut) {
		t.Errorf("cut off: %v", err)
	}
	delete(m.origin.cut, "a")
	m.wantMended(2, "a@0", "b@0")
	m.close()
	m.open()
	// The whole file of a segment is gone.
	if err := os.Remove(filepath.Join(m.tree, store.ArrivalFile(a.Segment))); err != nil {
		t.Fatal(err)
	}
	for _, ref := range []content.Ref{a, b} {
		if _, err := m.refs.Chunk(ref, nil); !errors.Is(err, store.ErrNotHere) {
			t.Fatal(err)
		}
	}
	m.wantMended(2, "a@0", "b@0")
}

// TestMendWithoutRoom: what is wrong here is not asked of the origin again and again.
func TestMendWithoutRoom(t *testing.T) {
	m := newPuller(t, map[string]fakeFile{"a": {text: "one", mtime: 1}})
	m.mustPull()
	a := m.chunksOf("a")[0]
	m.close()
	if err := os.Remove(filepath.Join(m.tree, store.ArrivalFile(a.Segment))); err != nil {
		t.Fatal(err)
	}
	m.budget = 1
	m.open()
	if _, err := m.refs.Chunk(a, nil); !errors.Is(err, store.ErrNotHere) {
		t.Fatal(err)
	}
	m.origin.opened()
	var full *store.BudgetError
	if _, err := m.pull(PullOptions{}); !errors.As(err, &full) || !strings.Contains(err.Error(), "--disk") {
		t.Errorf("got %v", err)
	}
	m.wantOpened("without room", "a@0")
}

// TestMendAsksPeersFirst: what mirrors have is not fetched from the origin, and what they send is looked at.
func TestMendAsksPeersFirst(t *testing.T) {
	m := newPuller(t, map[string]fakeFile{"a.deb": {text: string(random(1, 6<<20)), mtime: 1}})
	m.mustPull()
	refs := m.chunksOf("a.deb")
	var right [][]byte
	for _, ref := range refs {
		data, err := m.refs.Chunk(ref, nil)
		if err != nil {
			t.Fatal(err)
		}
		right = append(right, data)
	}
	m.rot(refs[1], refs[2], refs[3])
	m.pub.cfg.Peers = func(_ context.Context, segment uint32, _ *content.Table, want content.Bitmap, each func(uint32, []byte) error) error {
		if segment != refs[0].Segment || want.Count() != 3 {
			t.Errorf("asked for %d chunks of segment %d", want.Count(), segment)
		}
		if err := each(refs[1].Index, right[2]); !errors.Is(err, store.ErrWrongBytes) {
			t.Errorf("another chunk is taken: %v", err)
		}
		return errors.Join(each(refs[1].Index, right[1]), each(refs[2].Index, right[2]))
	}
	m.wantMended(3, "a.deb@0", "a.deb@3145728")
	m.wantMended(0)
}

// TestMendHangingPeers: mirrors that take too long are not asked for each segment, and the origin gives what is damaged.
func TestMendHangingPeers(t *testing.T) {
	m := newPuller(t, map[string]fakeFile{"a": {text: "one", mtime: 1}})
	m.mustPull()
	m.origin.edit(func() { m.origin.put("b", fakeFile{text: "two", mtime: 1}) })
	m.mustPull()
	m.rot(m.chunksOf("a")[0], m.chunksOf("b")[0])
	asked := 0
	m.pub.cfg.Peers = func(context.Context, uint32, *content.Table, content.Bitmap, func(uint32, []byte) error) error {
		asked++
		return context.DeadlineExceeded
	}
	m.wantMended(2, "a@0", "b@0")
	if asked != 1 {
		t.Errorf("asked for %d segments, want one", asked)
	}
}

// TestMendNothing: bytes that are right again by themselves, such as those of a backup, are not fetched.
func TestMendNothing(t *testing.T) {
	m := newPuller(t, map[string]fakeFile{"a": {text: "one", mtime: 1}})
	m.mustPull()
	ref := m.chunksOf("a")[0]
	m.rot(ref)
	f, err := os.OpenFile(filepath.Join(m.tree, store.ArrivalFile(ref.Segment)), os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteAt([]byte("one"), int64(m.table(ref.Segment).Offset(ref.Index)))
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	m.wantMended(0)
}

// single is a fakeOrigin that has one file open at a time: where others wait, it gives an error.
type single struct {
	*fakeOrigin
	whole bool // it gives a file only from its beginning
	busy  bool
}

func (s *single) Open(ctx context.Context, e origin.Entry, offset int64, version string) (*origin.Body, error) {
	if s.busy {
		return nil, errors.New("the file before is still open")
	}
	if s.whole {
		version = ""
	}
	b, err := s.fakeOrigin.Open(ctx, e, offset, version)
	if s.busy = err == nil; s.busy {
		b.Whole, b.ReadCloser = s.whole, freeing{b.ReadCloser, s}
	}
	return b, err
}

type freeing struct {
	io.ReadCloser
	s *single
}

func (f freeing) Close() error {
	f.s.busy = false
	return f.ReadCloser.Close()
}

// TestMendOneAtATime: who looks for the next damaged part does not wait for a file that it keeps from going on by itself, as over rsync,
// or over FTP with one connection.
func TestMendOneAtATime(t *testing.T) {
	for whole, want := range map[bool][]string{false: {"image.deb@0", "image.deb@11534336", "image.deb@5242880"}, true: {"image.deb@0"}} {
		m := newPuller(t, map[string]fakeFile{"image.deb": {text: string(random(1, 12<<20)), mtime: 1}})
		m.mustPull()
		m.pub.cfg.Origin = &single{fakeOrigin: m.origin, whole: whole}
		image := m.chunksOf("image.deb")
		m.rot(image[5], image[6], image[11])
		m.wantMended(3, want...)
	}
}
