package mirror

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"iter"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"swarmnode/content"
	"swarmnode/content/store"
	"swarmnode/gossip"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	chunkSize = 5000
	testGrace = time.Hour // short, because synctest runs every tick of it
)

// publisher makes releases in memory. Each release puts its new chunks into one new segment.
type publisher struct {
	id       content.ID
	blocks   content.Blocks
	data     map[content.Ref][]byte
	infos    []content.SegmentInfo
	files    map[string]content.Entry
	manifest *content.Manifest
	noDelta  bool // of the next release
}

func newPublisher() *publisher {
	return &publisher{id: content.NewID([]byte("test")), blocks: content.Blocks{}, data: map[content.Ref][]byte{}, files: map[string]content.Entry{}}
}

func (p *publisher) put(b []byte) (content.Digest, error) { return p.blocks.Put(b), nil }

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// publish makes a release in which some files have other contents; none means that the file is gone.
func (p *publisher) publish(changes map[string]string) gossip.Head {
	first := uint32(len(p.infos))
	delta := content.Delta{First: first}
	infos := slices.Clone(p.infos)
	builder := content.NewSegmentBuilder(first, func(n uint32, t *content.Table) error {
		s := content.SegmentInfo{Table: p.blocks.Put(t.Encode()), Size: t.Size(), Chunks: t.Len()}
		infos = append(infos, s)
		delta.Segments = append(delta.Segments, content.NewSegment{Table: s.Table, Size: s.Size, Chunks: s.Chunks})
		return nil
	})
	for _, path := range slices.Sorted(maps.Keys(changes)) {
		if old, ok := p.files[path]; ok {
			delta.Dead = append(delta.Dead, old.Runs...)
		}
		text := []byte(changes[path])
		if len(text) == 0 {
			delta.Deletes = append(delta.Deletes, path)
			delete(p.files, path)
			continue
		}
		e := content.Entry{Path: path, Mode: content.ModeFile | 0o644, Size: uint64(len(text)), Mtime: int64(first), SHA256: content.Sum(text)}
		for c := range slices.Chunk(text, chunkSize) {
			ref := must(builder.Add(content.Chunk{Digest: content.Sum(c), Size: uint32(len(c))}))
			p.data[ref] = c
			e.Runs = content.AppendRef(e.Runs, ref)
		}
		p.files[path] = e
		delta.Upserts = append(delta.Upserts, e)
	}
	if err := errors.Join(builder.Flush(), content.MarkDead(infos, delta.Dead)); err != nil {
		panic(err)
	}
	p.infos = infos
	next := &content.Manifest{Collection: p.id, Name: "test", Release: 1, Attrs: nil}
	if p.manifest != nil {
		next.Release, next.Previous = p.manifest.Release+1, content.Sum(p.manifest.Encode())
		if !p.noDelta {
			for _, part := range content.EncodeDelta(delta) {
				next.Delta = append(next.Delta, p.blocks.Put(part))
			}
		}
	}
	p.noDelta = false
	var err error
	if next.Tree, next.Totals, err = content.BuildTree(p.entries(), p.put); err != nil {
		panic(err)
	}
	next.Directory = must(content.BuildDirectory(infos, p.put))
	for _, e := range p.files {
		next.LiveBytes += e.Size
	}
	p.manifest = next
	return gossip.Head{Collection: p.id, Name: "test", Release: next.Release, Manifest: p.blocks.Put(next.Encode())}
}

func (p *publisher) entries() iter.Seq2[content.Entry, error] {
	return func(yield func(content.Entry, error) bool) {
		for _, path := range slices.SortedFunc(maps.Keys(p.files), content.ComparePaths) {
			if !yield(p.files[path], nil) {
				return
			}
		}
	}
}

// text makes the content of a file of n chunks.
func text(seed string, n int) string {
	return string(bytes.Repeat([]byte(seed+";"), n*chunkSize)[:n*chunkSize-7])
}

// fakeFetch is a Fetcher that gets everything from a publisher; chunks come while somebody waits.
type fakeFetch struct {
	p    *publisher
	disk *store.Disk
	m    *Mirror

	mu      sync.Mutex // guards what follows
	wanted  map[uint32]content.Bitmap
	fetched []content.Digest        // blocks, in order
	chunks  int                     // that came
	hidden  map[content.Digest]bool // blocks that nobody has
	stuck   bool                    // no chunk comes
}

func (f *fakeFetch) Blocks(ctx context.Context, digests []content.Digest, each func(content.Digest, []byte) error) error {
	for _, d := range digests {
		f.mu.Lock()
		data, ok := f.p.blocks[d]
		hidden := f.hidden[d]
		f.fetched = append(f.fetched, d)
		f.mu.Unlock()
		if hidden || !ok {
			<-ctx.Done()
			return context.Cause(ctx)
		}
		if err := each(d, data); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (f *fakeFetch) Outline(ctx context.Context, manifest content.Digest, _ uint32, each func(d content.Digest, data []byte) error) error {
	outline := content.NewOutline(manifest)
	for d, below, ok := outline.Next(); ok; d, below, ok = outline.Next() {
		f.mu.Lock()
		data := f.p.blocks[d]
		if f.hidden[d] {
			data = nil
		}
		f.mu.Unlock()
		if data == nil {
			continue
		}
		f.set(func() { f.fetched = append(f.fetched, d) })
		if err := cmp.Or(below(data), each(d, data)); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (f *fakeFetch) Want(segment uint32, _ *content.Table, need content.Bitmap) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.wanted[segment] = need.Clone(); need.Count() == 0 {
		delete(f.wanted, segment)
	}
}

func (f *fakeFetch) Wait(ctx context.Context) error {
	if f.isStuck() {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	return f.deliver()
}

func (f *fakeFetch) isStuck() bool { f.mu.Lock(); defer f.mu.Unlock(); return f.stuck }

func (f *fakeFetch) set(fn func()) { f.mu.Lock(); defer f.mu.Unlock(); fn() }

// deliver brings all chunks that are wanted.
func (f *fakeFetch) deliver() error {
	f.mu.Lock()
	wanted := maps.Clone(f.wanted)
	clear(f.wanted)
	f.mu.Unlock()
	for n, need := range wanted {
		for i := range uint32(len(need) * 8) {
			ref := content.Ref{Segment: n, Index: i}
			if !need.Has(i) {
				continue
			}
			if err := f.disk.Put(ref, f.p.data[ref]); err != nil {
				return err
			}
			f.set(func() { f.chunks++ })
			f.m.Stored(ref, len(f.p.data[ref]))
		}
	}
	return nil
}

// wants gives what is wanted once all has come to rest.
func (f *fakeFetch) wants() map[uint32]content.Bitmap {
	synctest.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.wanted)
}

// took gives what was fetched since the last call: blocks and the number of chunks.
func (f *fakeFetch) took() (blocks []content.Digest, chunks int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	blocks, chunks = f.fetched, f.chunks
	f.fetched, f.chunks = nil, 0
	return blocks, chunks
}

// rig is a Mirror over real stores.
type rig struct {
	*Mirror
	t     *testing.T
	p     *publisher
	fetch *fakeFetch
	dir   string
	pack  *store.Pack
	disk  *store.Disk
	stop  func()

	changes atomic.Int64        // calls of Config.Changed
	held    func(n uint64) bool // not nil: it keeps only what is asked for
	export  Export
}

func newRig(t *testing.T, p *publisher, budget int64) *rig {
	r := &rig{t: t, p: p, dir: t.TempDir()}
	r.open(budget)
	return r
}

// open opens and runs the mirror; close ends it.
func (r *rig) open(budget int64) {
	r.t.Helper()
	r.pack = must(store.OpenPack(filepath.Join(r.dir, "pack")))
	r.fetch = &fakeFetch{p: r.p, wanted: map[uint32]content.Bitmap{}, hidden: map[content.Digest]bool{}}
	r.disk = must(store.OpenDisk(filepath.Join(r.dir, "disk"), store.Config{
		Budget: budget,
		Tables: func(d content.Digest) (*content.Table, error) {
			data, _ := r.pack.Block(d)
			return content.DecodeTable(data)
		},
		OnBad: func(ref content.Ref, path string) { r.Bad(ref, path) },
	}))
	var cache *Cache
	if r.held != nil {
		cache = NewCache(r.disk, nil)
	}
	var err error
	r.Mirror, err = Open(Config{Cache: cache, Held: r.held, ID: r.p.id, Dir: r.dir, Pack: r.pack, Disk: r.disk, Fetch: r.fetch, Availability: NewAvailability(), Grace: testGrace, Export: r.export,
		Changed: func() { r.changes.Add(1) }})
	if err != nil {
		r.t.Fatal(err)
	}
	r.fetch.disk, r.fetch.m = r.disk, r.Mirror
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	r.stop = func() { cancel(); <-done }
}

func (r *rig) close() {
	r.stop()
	if err := errors.Join(r.disk.Close(), r.pack.Close()); err != nil {
		r.t.Error(err)
	}
}

// check wants the served release to be the publisher's newest, all of it readable and told.
func (r *rig) check() {
	r.t.Helper()
	man := r.Served()
	if man == nil || man.Release != r.p.manifest.Release {
		r.t.Fatalf("served: %+v, want release %d; %+v", man, r.p.manifest.Release, r.Progress())
	}
	if err := r.readable(man); err != nil {
		r.t.Fatal(err)
	}
	var v gossip.View
	a := r.cfg.Availability
	a.mu.Lock()
	v.Apply(a.all())
	a.mu.Unlock()
	for n, s := range r.p.infos {
		if !s.Retired() && !v.HasSegment(uint32(n)) {
			r.t.Errorf("peers are not told of segment %d", n)
		}
	}
	if p := r.Progress(); p.Complete != p.Segments || p.Here != p.Bytes || p.Trouble != nil || p.Served != man.Release {
		r.t.Errorf("progress %+v", p)
	}
}

// readable reads every metadata block and every live chunk of a release.
func (r *rig) readable(man *content.Manifest) error {
	infos, err := content.LoadDirectory(man.Directory, r.pack)
	if err != nil {
		return err
	}
	if err := content.NodeBlocks(man.Tree, r.pack, func(content.Digest) {}); err != nil {
		return err
	}
	for n, s := range infos {
		live := s.Live()
		for i := range s.Chunks {
			ref := content.Ref{Segment: uint32(n), Index: i}
			if !live.Has(i) {
				continue
			}
			if data, err := r.disk.Chunk(ref, nil); err != nil || !bytes.Equal(data, r.p.data[ref]) {
				return errors.Join(err, errors.New("chunk of release is not here"))
			}
		}
	}
	return nil
}
