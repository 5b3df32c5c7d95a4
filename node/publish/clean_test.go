//go:build unix

package publish

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"swarmnode/content"
	"swarmnode/content/store"
)

const testGrace = 24 * time.Hour

// put replaces a file as careful programs do: under another name, then renamed. Its modification time is long ago.
func (m *master) put(name, text string) {
	m.t.Helper()
	tmp := filepath.Join(filepath.Dir(m.tree), "tmp")
	if st, err := os.Lstat(filepath.Join(m.tree, name)); err == nil && st.IsDir() {
		m.remove(name)
	}
	err := errors.Join(os.WriteFile(tmp, []byte(text), 0o644), os.Chtimes(tmp, time.Time{}, time.Unix(1e9, 0)),
		os.MkdirAll(filepath.Dir(filepath.Join(m.tree, name)), 0o755), os.Rename(tmp, filepath.Join(m.tree, name)))
	if err != nil {
		m.t.Fatal(err)
	}
}

// linked counts the links.
func (m *master) linked() int {
	m.t.Helper()
	list, err := os.ReadDir(m.links)
	if err != nil {
		m.t.Fatal(err)
	}
	return len(list)
}

// contents are those of all files of a release.
type contents struct {
	release uint64
	refs    []content.Ref
	texts   []string
	gone    time.Time // when it was replaced; zero: it was not
}

// contents reads what the newest release has.
func (m *master) contents() *contents {
	m.t.Helper()
	c := &contents{release: m.manifest().Release}
	err := content.Walk(m.manifest().Tree, m.pack, "", func(e content.Entry) error {
		if !e.IsFile() {
			return nil
		}
		runs, err := content.EntryRuns(e, m.pack)
		for _, r := range runs {
			for i := r.First; i < r.First+r.Count; i++ {
				ref := content.Ref{Segment: r.Segment, Index: i}
				data, err := m.refs.Chunk(ref, nil)
				if err != nil {
					return fmt.Errorf("%s: %w", e.Path, err)
				}
				c.refs, c.texts = append(c.refs, ref), append(c.texts, string(data))
			}
		}
		return err
	})
	if err != nil {
		m.t.Fatal(err)
	}
	return c
}

// wantContents wants all of a release to be still here.
func (m *master) wantContents(c *contents) {
	m.t.Helper()
	for i, ref := range c.refs {
		if data, err := m.refs.Chunk(ref, nil); err != nil || string(data) != c.texts[i] {
			m.t.Errorf("release %d: chunk %+v: %d bytes, %v; want %d bytes", c.release, ref, len(data), err, len(c.texts[i]))
		}
	}
}

func TestLinksKeepReplacedReleases(t *testing.T) {
	m := newMaster(t)
	m.put("a/replaced", "one")
	m.put("a/deleted", "two")
	m.put("moved", "three")
	m.put("kept", "four")
	m.write(map[string]string{"empty": "", "link": "-> kept"})
	m.publish()
	first := m.contents()
	if n := m.linked(); n != 4 {
		t.Errorf("%d links, want one for each file with content", n)
	}
	m.put("a/replaced", "1")
	m.remove("a/deleted", "link")
	if err := os.Rename(filepath.Join(m.tree, "moved"), filepath.Join(m.tree, "here")); err != nil {
		t.Fatal(err)
	}
	m.wantContents(first) // before the next release, too
	m.publish()
	m.check()
	second := m.contents()
	m.close()
	m.open()
	m.wantContents(first)
	clean := func(d time.Duration, links, segments int) {
		t.Helper()
		if err := m.pub.Clean(m.now.Add(d), testGrace); err != nil {
			t.Fatal(err)
		}
		if n, s := m.linked(), len(m.refs.Segments()); n != links || s != segments {
			t.Errorf("%v after the last release: %d links and %d segments, want %d and %d", d, n, s, links, segments)
		}
		m.wantContents(second)
	}
	clean(testGrace-time.Second, 6, 2)
	m.wantContents(first)
	clean(testGrace, 3, 2)
	if _, err := m.refs.Chunk(first.refs[0], nil); !errors.Is(err, store.ErrNotHere) {
		t.Errorf("content past its grace: %v", err)
	}
	m.put("kept", "4")
	m.remove("here")
	m.publish() // nothing of segment 0 is left
	second = m.contents()
	clean(time.Hour, 4, 3)
	clean(testGrace, 2, 2)
}

// TestLinkedFilesAreOnlyStatted publishes by the real clock: the change times are those of the links, just now.
func TestLinkedFilesAreOnlyStatted(t *testing.T) {
	m := newMaster(t)
	hashed := func() int {
		t.Helper()
		files := 0
		_, err := m.pub.Publish(context.Background(), time.Now(), Options{}, func(p Progress) { files = p.Files })
		if err != nil {
			t.Fatal(err)
		}
		return files
	}
	for i := range 20 {
		m.put(fmt.Sprint("f", i), fmt.Sprint("text ", i))
	}
	for i, want := range []int{20, 0} {
		if got := hashed(); got != want {
			t.Errorf("publish %d hashed %d files, want %d", i, got, want)
		}
	}
	m.put("new", "x")
	for i, want := range []int{1, 0} {
		if got := hashed(); got != want {
			t.Errorf("publish %d after one file is new hashed %d, want %d", i, got, want)
		}
	}
	for i := range 8 { // the same size, in place, just after the link
		m.put("in-place", fmt.Sprintf("%02d", i))
		hashed()
		m.write(map[string]string{"in-place": fmt.Sprintf("%02d", i+50)})
		hashed()
		if got, want := m.entry("in-place").SHA256, content.Sum(fmt.Appendf(nil, "%02d", i+50)); got != want {
			t.Fatalf("round %d: a change just after the publish was not seen", i)
		}
	}
}

// TestRandomCleaning replaces files at random, cuts publishes off and cleans now and then. What was replaced less than the grace
// time ago is there, and at the end each file has one link.
func TestRandomCleaning(t *testing.T) {
	for seed := range uint64(3) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			m, rng := newMaster(t), rand.New(rand.NewPCG(seed, 7))
			var past []*contents
			for step := range 20 {
				for range 1 + rng.IntN(4) {
					m.randomReplace(rng, step)
				}
				if rng.IntN(4) == 0 {
					m.cutOff(rng.IntN(6))
					m.randomReplace(rng, step)
				}
				m.now = m.now.Add(time.Duration(rng.IntN(12)) * time.Hour)
				if res := m.publish(); !res.Unchanged {
					if len(past) > 0 && past[len(past)-1].gone.IsZero() {
						past[len(past)-1].gone = m.now
					}
					past = append(past, m.contents())
				}
				m.now = m.now.Add(time.Duration(rng.IntN(12)) * time.Hour)
				if rng.IntN(2) == 0 {
					if err := m.pub.Clean(m.now, testGrace); err != nil {
						t.Fatal(err)
					}
				}
				for _, c := range past {
					if c.gone.IsZero() || m.now.Sub(c.gone) < testGrace {
						m.wantContents(c)
					}
				}
			}
			if err := m.pub.Clean(m.now.Add(testGrace), testGrace); err != nil {
				t.Fatal(err)
			}
			if n, want := m.linked(), int(m.manifest().Totals.Files); n != want {
				t.Errorf("%d links at the end, want %d", n, want)
			}
		})
	}
}

// cutOff begins a publish that ends at the n-th crash point, if it gets that far, and opens all again.
func (m *master) cutOff(n int) {
	m.t.Helper()
	m.pub.crash = func(string) error {
		if n--; n < 0 {
			return errors.New("crash")
		}
		return nil
	}
	m.now = m.now.Add(time.Minute)
	m.pub.Publish(context.Background(), m.now, Options{ScanOptions: ScanOptions{AllowEmpty: true}}, nil)
	m.close()
	m.open()
}

func (m *master) randomReplace(rng *rand.Rand, step int) {
	name := func() string { return fmt.Sprintf("%c/%c", 'a'+rng.IntN(3), 'a'+rng.IntN(4)) }
	switch rng.IntN(5) {
	case 0:
		m.remove(name())
	case 1:
		from, to := filepath.Join(m.tree, name()), filepath.Join(m.tree, name())
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			m.t.Fatal(err)
		}
		_ = os.Rename(from, to) // there may be no such file
	default:
		m.put(name(), fmt.Sprint("text ", step, rng.IntN(3)))
	}
}

// TestPublishOnAFullDisk fills the disk of the state while nothing, or everything, is under way.
func TestPublishOnAFullDisk(t *testing.T) {
	if os.Getenv("SWARMNODE_E2E") != "1" || os.Getuid() != 0 {
		t.Skip("mounts a small tmpfs: needs root and SWARMNODE_E2E=1")
	}
	m := newMaster(t)
	m.close()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=96m", "none", m.dir).CombinedOutput(); err != nil {
		t.Skipf("mount a tmpfs: %v: %s", err, out)
	}
	t.Cleanup(func() { exec.Command("umount", "-l", m.dir).Run() })
	m.initKeys()
	m.open()
	m.put("a", "1")
	m.publish() // links are off: the tree is on another file system
	first := m.contents()
	fill := filepath.Join(m.dir, "fill")
	for _, left := range []int64{40 << 20, 1 << 20, 0} {
		fillDisk(t, m.dir, fill, left)
		m.put("a", "2")
		if _, err := m.pub.Publish(context.Background(), m.now, Options{}, nil); !errors.Is(err, store.ErrDiskFull) {
			t.Errorf("with %d bytes left: %v, want %v", left, err, store.ErrDiskFull)
		}
	}
	if err := os.Remove(fill); err != nil {
		t.Fatal(err)
	}
	m.put("a", "1")
	m.wantContents(first)
	// Somebody else fills the disk when the check at the beginning is done.
	for _, point := range []string{"scanned", "segment", "hashed", "tree", "referred", "packed"} {
		m.pub.crash = func(p string) error {
			if p == point {
				fillDisk(t, m.dir, fill, 0)
			}
			return nil
		}
		m.put("a", "2 "+point)
		m.now = m.now.Add(time.Minute)
		if _, err := m.pub.Publish(context.Background(), m.now, Options{}, nil); !errors.Is(err, store.ErrDiskFull) {
			t.Errorf("full when %s: %v, want %v", point, err, store.ErrDiskFull)
		}
		m.pub.crash = func(string) error { return nil }
		if err := os.Remove(fill); err != nil {
			t.Fatal(err)
		}
		m.publish()
		m.check()
	}
	m.close()
	m.open()
	m.put("a", "3")
	m.publish()
	m.check()
}

// fillDisk makes a file so large that left bytes stay free.
func fillDisk(t *testing.T, dir, name string, left int64) {
	t.Helper()
	free := func() int64 {
		out, err := exec.Command("df", "--output=avail", "-B1", dir).Output()
		if err != nil {
			t.Fatal(err)
		}
		var n int64
		if _, err := fmt.Sscanf(string(out), " Avail\n%d", &n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	block := make([]byte, 1<<20)
	for n := free() - left; n > 0; {
		done, err := f.Write(block[:min(n, int64(len(block)))])
		n -= int64(done)
		if err != nil {
			return // the last bytes are in a block that is not whole
		}
	}
}
