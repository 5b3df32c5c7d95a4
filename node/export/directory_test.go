package export

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"swarmnode/content"
	"swarmnode/content/store"
)

// mirrored is a mirror of a publisher of a test, whose content lies in a tree.
type mirrored struct {
	t     *testing.T
	p     *publisher
	home  string
	dir   string
	disk  *store.Disk
	tree  *Directory
	serve *content.Manifest
	crash func(string) error
	last  []content.SegmentInfo
	bad   map[content.Ref]bool // chunks that were lost
}

// manifest makes a release of a tree.
func (m *mirrored) manifest(number uint64, tree map[string]node) *content.Manifest {
	m.t.Helper()
	m.p.chunks = append(m.p.chunks, nil) // segments do not grow
	entries := m.p.release(tree)
	put := func(b []byte) (content.Digest, error) { return m.p.blocks.Put(b), nil }
	root, totals, err := content.BuildTree(func(yield func(content.Entry, error) bool) {
		for _, e := range entries {
			if !yield(e, nil) {
				return
			}
		}
	}, put)
	if err != nil {
		m.t.Fatal(err)
	}
	used := map[uint32]content.Bitmap{}
	for _, e := range entries {
		runs, _ := m.p.runs(e)
		for _, r := range runs {
			b := used[r.Segment]
			for i := range r.Count {
				b.Set(r.First + i)
			}
			used[r.Segment] = b
		}
	}
	m.last = nil
	for n, chunks := range m.p.chunks {
		var info content.SegmentInfo
		if b := used[uint32(n)]; len(chunks) > 0 && b.Count() > 0 {
			table := content.NewTable(chunks)
			info = content.SegmentInfo{Table: m.p.blocks.Put(table.Encode()), Size: table.Size(), Chunks: table.Len()}
			info.Dead = content.Full(info.Chunks)
			info.Dead.AndNot(b)
		}
		m.last = append(m.last, info)
	}
	dir, err := content.BuildDirectory(m.last, put)
	if err != nil {
		m.t.Fatal(err)
	}
	man := &content.Manifest{Collection: content.ID(content.Sum([]byte("x"))), Name: "test", Release: number, Tree: root, Directory: dir, Totals: totals}
	m.p.blocks.Put(man.Encode())
	return man
}

func (m *mirrored) tables(d content.Digest) (*content.Table, error) {
	return content.DecodeTable(m.p.blocks[d])
}

// open opens everything, as a start does.
func (m *mirrored) open() {
	m.t.Helper()
	var err error
	m.tree, err = OpenDirectory(DirectoryConfig{Dir: m.dir, ID: content.ID(content.Sum([]byte("x"))), Index: filepath.Join(m.home, "index"),
		Blocks: m.p.blocks, Tables: m.tables, Served: func() *content.Manifest { return m.serve },
		Names: func(p string) bool { return strings.HasPrefix(p, "dists/") }, stripe: 120,
		sync: func(*os.Root, []string) error { return nil }, // a kill loses nothing that was written
		crash: func(point string) error {
			if m.crash == nil {
				return nil
			}
			return m.crash(point)
		}})
	if err != nil {
		m.t.Fatal(err)
	}
	m.disk, err = store.OpenDisk(filepath.Join(m.home, "disk"), store.Config{Tables: m.tables, Tree: m.tree.References(),
		OnBad: func(ref content.Ref, _ string) { m.bad[ref] = true }})
	if err != nil {
		m.t.Fatal(err)
	}
	m.tree.Follow(m.disk)
}

func (m *mirrored) close() {
	m.t.Helper()
	if err := errors.Join(m.disk.Close(), m.tree.Close()); err != nil {
		m.t.Fatal(err)
	}
}

// kill closes everything and puts back the index of references as a killed process leaves it.
func (m *mirrored) kill() {
	m.t.Helper()
	index, left := filepath.Join(m.home, "index"), filepath.Join(m.t.TempDir(), "left")
	if err := os.CopyFS(left, os.DirFS(index)); err != nil {
		m.t.Fatal(err)
	}
	m.close()
	if err := errors.Join(os.RemoveAll(index), os.CopyFS(index, os.DirFS(left))); err != nil {
		m.t.Fatal(err)
	}
}

// fetch puts all chunks of a release into the segments, as a fetcher does.
func (m *mirrored) fetch(man *content.Manifest) {
	m.t.Helper()
	infos, err := content.LoadDirectory(man.Directory, m.p.blocks)
	if err != nil {
		m.t.Fatal(err)
	}
	for n, info := range infos {
		if info.Retired() {
			continue
		}
		if err := m.disk.Add(uint32(n), info, nil); err != nil {
			m.t.Fatal(err)
		}
		for i := range info.Chunks {
			if ref := (content.Ref{Segment: uint32(n), Index: i}); info.Live().Has(i) && !m.disk.Has(ref) {
				if err := m.disk.Put(ref, []byte(m.p.data[ref])); err != nil {
					m.t.Fatal(err)
				}
			}
		}
	}
	if err := m.disk.Sync(context.Background()); err != nil {
		m.t.Fatal(err)
	}
	m.serve = man
}

// check reads every chunk of a release from the store.
func (m *mirrored) check(what string, man *content.Manifest) {
	m.t.Helper()
	infos, _ := content.LoadDirectory(man.Directory, m.p.blocks)
	for n, info := range infos {
		for i := range info.Chunks {
			ref := content.Ref{Segment: uint32(n), Index: i}
			if !info.Live().Has(i) {
				continue
			}
			if got, err := m.disk.Chunk(ref, nil); err != nil || string(got) != m.p.data[ref] {
				m.t.Fatalf("%s: release %d: chunk %v: %v", what, man.Release, ref, err)
			}
		}
	}
	if len(m.bad) > 0 {
		m.t.Fatalf("%s: chunks were lost: %v", what, m.bad)
	}
}

// used is how many bytes of the segments' files are not holes.
func (m *mirrored) used() int64 { return m.disk.Stats().Used - m.disk.MovedBytes() }

// exportTrees are two releases: packages come, go and are shared, files are replaced, also by those of another kind.
func exportTrees() (one, two map[string]node) {
	both := map[string]node{
		"pool/a.deb": file(letters(30, 1)), "pool/same.deb": file(letters(30, 1)), "pool/long.deb": file(letters(300, 2)),
		"empty": file(""), "dir": {dir: true, mode: 0o755}, "dists/link": {target: "../pool/a.deb", mode: 0o777, mtime: 1600000000},
		"pool/mode.deb": file("mode"),
	}
	one, two = maps.Clone(both), maps.Clone(both)
	one["dists/Release"], two["dists/Release"] = file("one"+letters(100, 3)), file("second"+letters(100, 4))
	one["dists/Packages"], two["dists/Packages"] = file("one"), file("second")
	one["pool/gone.deb"] = file(letters(90, 5))
	two["pool/new.deb"] = file(letters(90, 6))
	one["pool/moved.deb"], two["pool/moved2.deb"] = file(letters(100, 7)), file(letters(100, 7))
	one["image.iso"], two["image.iso"] = file(letters(200, 8)), file(letters(210, 8)+"new end")
	one["kind"], two["kind/file"] = file(letters(50, 9)), file(letters(55, 9))
	one["other/file"], two["other"] = file(letters(50, 10)), file(letters(55, 10))
	two["pool/mode.deb"] = node{data: "mode", mode: 0o600, mtime: 1800000000}
	return one, two
}

var errCrashed = errors.New("crashed")

// never is after all calls.
const never = -1

// TestDirectoryCrash kills the process at each named point of the first export and of the switch to the next release. At any moment
// what the index names is there, no chunk of either release is lost, and the next start ends what was begun. Points are passed again
// and again: every time is for .ci/run, else the first, the middle and the last.
func TestDirectoryCrash(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for which := 1; which <= 2; which++ {
		calls := crashDirectory(t, which, never)
		times := map[string][]int{}
		for at, point := range calls {
			times[point] = append(times[point], at)
		}
		for _, all := range times {
			if n := len(all); n > 3 && os.Getenv("SWARMNODE_E2E") != "1" {
				all = []int{all[0], all[n/2], all[n-1]}
			}
			for _, at := range all {
				if calls := crashDirectory(t, which, at); at < len(calls) {
					seen[calls[at]] = true
				}
			}
		}
	}
	for _, point := range []string{"dirs", "new", "parts", "retire", "replace", "settle", "moved in", "referred", "references synced", "half replaced"} {
		if !seen[point] {
			t.Errorf("nothing was killed at %q", point)
		}
	}
}

// crashDirectory kills one at this call of the first export or of the switch, and gives the points it came to.
func crashDirectory(t *testing.T, which, at int) (points []string) {
	m := &mirrored{t: t, p: newPublisher(10), home: t.TempDir(), dir: t.TempDir(), bad: map[content.Ref]bool{}}
	one, two := exportTrees()
	first, second := m.manifest(1, one), m.manifest(2, two)
	m.open()
	m.fetch(first)
	crashed := ""
	arm := func() {
		m.crash = func(point string) error {
			if points = append(points, point); len(points)-1 == at {
				crashed = point
				return errCrashed
			}
			return nil
		}
	}
	if which == 1 {
		arm()
	}
	if err := m.tree.look(t.Context()); err != nil && !errors.Is(err, errCrashed) {
		t.Fatal(err)
	}
	if which == 2 {
		checkTree(t, filepath.Join(m.dir, "test"), one)
		m.check("before the switch", first)
		if m.used() != 0 {
			t.Fatalf("%d bytes stayed in segments", m.used())
		}
		m.fetch(second)
		arm()
		if err := m.tree.look(t.Context()); err != nil && !errors.Is(err, errCrashed) {
			t.Fatal(err)
		}
	}
	m.crash = nil
	if crashed != "" {
		m.kill()
		m.open()
	}
	what := fmt.Sprintf("killed at %q, call %d of switch %d", crashed, at, which)
	m.check(what, first)
	checkIndex(t, what, filepath.Join(m.dir, "test"), one, two)
	if which == 2 {
		m.check(what, second)
	}
	m.finish(what, which, first, second, one, two)
	return points
}

// finish goes on after a kill, to the second release and to the end of the grace time of the first.
func (m *mirrored) finish(what string, which int, first, second *content.Manifest, one, two map[string]node) {
	t, tree := m.t, filepath.Join(m.dir, "test")
	t.Helper()
	look := func() {
		t.Helper()
		if err := m.tree.look(t.Context()); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	look()
	if which == 1 {
		checkTree(t, tree, one)
		m.fetch(second)
		look()
	}
	m.check(what+", then whole", first)
	m.check(what+", then whole", second)
	checkIndex(t, what, tree, one, two)
	if got, want := m.tree.Status().Release, uint64(2); got != want {
		t.Fatalf("%s: shows release %d, want %d", what, got, want)
	}
	infos, _ := content.LoadDirectory(second.Directory, m.p.blocks)
	for n, info := range infos { // as the mirror's Clean
		dead := m.disk.Have(uint32(n))
		dead.AndNot(info.Live())
		if err := m.disk.Punch(uint32(n), dead); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.tree.Drop(func(d content.Digest) bool { return d == content.Sum(second.Encode()) }); err != nil {
		t.Fatal(err)
	}
	checkTree(t, tree, two)
	m.check(what+", after the grace time", second)
	if m.used() != 0 {
		t.Fatalf("%s: %d bytes stayed in segments", what, m.used())
	}
	if got, want := m.tree.Overhead(), int64(second.Totals.Bytes)-m.disk.Stats().Used; got != want { // chunks that are in several files
		t.Fatalf("%s: %d bytes are in the tree more than once, want %d", what, got, want)
	}
	m.close()
}

// checkIndex sees to it that the packages which the index in the tree belongs to are all there.
func checkIndex(t *testing.T, what, dir string, one, two map[string]node) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "dists/Release"))
	if errors.Is(err, os.ErrNotExist) {
		return
	}
	tree := one
	if string(data) == two["dists/Release"].data {
		tree = two
	} else if string(data) != one["dists/Release"].data {
		t.Fatalf("%s: the index is %q", what, data)
	}
	for name, n := range tree {
		if got, err := os.ReadFile(filepath.Join(dir, name)); strings.HasPrefix(name, "pool/") && (err != nil || string(got) != n.data) {
			t.Fatalf("%s: %s: %v, %q", what, name, err, got)
		}
	}
}
