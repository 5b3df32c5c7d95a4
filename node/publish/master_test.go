//go:build unix

package publish

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"swarmnode/content"
	"swarmnode/content/store"
	"swarmnode/gossip/trust"
)

// master is a publisher with all that it stands on, in a temporary directory.
type master struct {
	t      testing.TB
	dir    string // of the state
	tree   string
	links  string // "": none
	pack   *store.Pack
	refs   *store.References
	signer *trust.Signer
	pub    *Publisher
	now    time.Time

	origin   *fakeOrigin // nil: the tree is published
	compare  bool        // it compares, as rsync does
	arrivals *store.Arrivals
	budget   int64
}

func newMaster(t testing.TB) *master {
	base := t.TempDir()
	m := &master{t: t, dir: filepath.Join(base, "state"), tree: filepath.Join(base, "tree"), links: filepath.Join(base, "links"), now: later()}
	for _, d := range []string{m.dir, m.tree} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	m.initKeys()
	m.open()
	t.Cleanup(m.close)
	return m
}

func (m *master) initKeys() {
	m.t.Helper()
	if _, _, err := trust.Init(filepath.Join(m.dir, "keys"), m.now, trust.Lifetimes{}); err != nil {
		m.t.Fatal(err)
	}
}

func (m *master) open() {
	m.t.Helper()
	keys, err := trust.OpenKeys(filepath.Join(m.dir, "keys"))
	if err == nil {
		m.signer, err = trust.OpenSigner(keys, filepath.Join(m.dir, "tuf"), trust.Lifetimes{})
	}
	if err == nil {
		m.pack, err = store.OpenPack(filepath.Join(m.dir, "pack"))
	}
	cfg := Config{State: filepath.Join(m.dir, "publish"), Root: m.tree, Name: "test", Pack: m.pack, Signer: m.signer}
	if err == nil && m.origin != nil {
		m.arrivals, err = store.OpenArrivals(m.tree, store.Config{Budget: m.budget})
		m.links, cfg.Root, cfg.Origin, cfg.Arrivals = "", "fake://origin/", m.origin, m.arrivals
		if m.compare {
			cfg.Origin = comparing{m.origin}
		}
	}
	if err == nil {
		m.refs, err = store.OpenReferences(m.dir, m.tree, m.links, store.Config{
			Tables: func(d content.Digest) (*content.Table, error) { return loadTable(m.pack, d) },
		})
	}
	if err == nil {
		cfg.References = m.refs
		m.pub, err = Open(cfg)
	}
	if err != nil {
		m.t.Fatal(err)
	}
	if m.origin != nil {
		m.pub.tries = tryAtOnce
	}
}

func (m *master) close() {
	if m.arrivals != nil {
		if err := m.arrivals.Close(); err != nil {
			m.t.Error(err)
		}
	}
	if err := errors.Join(m.pub.Close(), m.refs.Close(), m.pack.Close()); err != nil {
		m.t.Error(err)
	}
}

func (m *master) publish() Result {
	m.t.Helper()
	m.now = m.now.Add(time.Minute)
	res, err := m.pub.Publish(context.Background(), m.now, Options{ScanOptions: ScanOptions{AllowEmpty: true}}, nil)
	if err != nil {
		m.t.Fatalf("publish: %v", err)
	}
	return res
}

func (m *master) write(files map[string]string) { m.t.Helper(); writeTree(m.t, m.tree, files) }

func (m *master) remove(names ...string) {
	m.t.Helper()
	for _, n := range names {
		if err := os.RemoveAll(filepath.Join(m.tree, n)); err != nil {
			m.t.Fatal(err)
		}
	}
}

func (m *master) entry(path string) content.Entry {
	m.t.Helper()
	e, err := content.Lookup(m.manifest().Tree, m.pack, path)
	if err != nil {
		m.t.Fatal(err)
	}
	return e
}

func (m *master) manifest() *content.Manifest {
	m.t.Helper()
	data, ok := m.pack.Block(m.signer.Head().Manifest)
	if !ok {
		m.t.Fatal("the manifest is not in the pack")
	}
	man, err := content.DecodeManifest(data)
	if err != nil {
		m.t.Fatal(err)
	}
	return man
}

// check compares the signed release with the tree on disk the dumb way: every byte through the references, all totals and dead
// chunks counted, and the delta applied to the release before.
func (m *master) check() {
	m.t.Helper()
	man := m.manifest()
	infos, err := content.LoadDirectory(man.Directory, m.pack)
	if err != nil {
		m.t.Fatal(err)
	}
	used := dying{}
	var totals content.Totals
	var got []string
	err = content.Walk(man.Tree, m.pack, "", func(e content.Entry) error {
		totals.Add(e)
		got = append(got, e.Path)
		if !e.IsFile() {
			return nil
		}
		runs, err := content.EntryRuns(e, m.pack)
		if err != nil {
			return err
		}
		used.add(runs)
		var data []byte
		for _, r := range runs {
			for i := r.First; i < r.First+r.Count; i++ {
				c, err := m.refs.Chunk(content.Ref{Segment: r.Segment, Index: i}, nil)
				if err != nil {
					return fmt.Errorf("%s: chunk %d of segment %d: %w", e.Path, i, r.Segment, err)
				}
				data = append(data, c...)
			}
		}
		disk, err := os.ReadFile(filepath.Join(m.tree, e.Path))
		if string(disk) != string(data) || content.Sum(disk) != e.SHA256 || uint64(len(disk)) != e.Size {
			m.t.Errorf("%s: the release has %d bytes, the tree %d other ones (%v)", e.Path, len(data), len(disk), err)
		}
		return nil
	})
	if err != nil {
		m.t.Fatal(err)
	}
	var want []string
	root := openTree(m.t, m.tree)
	if _, err := walk(context.Background(), root, nil, func(f *File) error { want = append(want, f.Path); return nil }); err != nil {
		m.t.Fatal(err)
	}
	if !slices.Equal(got, want) || totals != man.Totals {
		m.t.Errorf("release %d: %q with totals %+v; want %q with %+v", man.Release, got, man.Totals, want, totals)
	}
	m.checkDead(man, infos, used)
	m.checkDelta(man)
}

// checkDead wants exactly those chunks dead that no entry uses.
func (m *master) checkDead(man *content.Manifest, infos []content.SegmentInfo, used dying) {
	m.t.Helper()
	var live uint64
	for n, info := range infos {
		b := used[uint32(n)]
		if info.Retired() {
			if b != nil {
				m.t.Errorf("segment %d is retired and in use", n)
			}
			continue
		}
		table, err := loadTable(m.pack, info.Table)
		if err != nil {
			m.t.Fatal(err)
		}
		for i := range info.Chunks {
			if in := b != nil && b.Has(i); in == info.Dead.Has(i) {
				m.t.Errorf("chunk %d of segment %d: in use %v, dead %v", i, n, in, !in)
			}
			if !info.Dead.Has(i) {
				live += uint64(table.Chunk(i).Size)
			}
		}
	}
	if live != man.LiveBytes {
		m.t.Errorf("release %d: %d live bytes, want %d", man.Release, man.LiveBytes, live)
	}
}

func (m *master) checkDelta(man *content.Manifest) {
	m.t.Helper()
	if man.Previous.IsZero() {
		return
	}
	data, _ := m.pack.Block(man.Previous)
	prev, err := content.DecodeManifest(data)
	if err != nil {
		m.t.Fatal(err)
	}
	var parts [][]byte
	for _, d := range man.Delta {
		part, _ := m.pack.Block(d)
		parts = append(parts, part)
	}
	delta, err := content.DecodeDelta(parts)
	if err != nil {
		m.t.Fatal(err)
	}
	if err := content.ApplyDelta(prev, man, delta, m.pack, m.pack.Put); err != nil {
		m.t.Error(err)
	}
}
