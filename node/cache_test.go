package node

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"swarmnode/content"
	"swarmnode/content/store"
	"swarmnode/node/gateway"
)

// cacheOf runs a node that keeps only what is asked for of the master's release, and waits until it serves it.
func cacheOf(t *testing.T, master *testNode, cfg Config) *testNode {
	t.Helper()
	cfg.CacheOnly = true
	if cfg.Home == "" {
		cfg.Home = t.TempDir()
	}
	cfg.Bootstrap = master.Addrs()[:1]
	m := startWith(t, "cache", withGateway(cfg))
	if _, err := m.Join(t.Context(), master.Addrs()[0], nil); err != nil {
		t.Fatal(err)
	}
	m.serves(t, 1)
	return m
}

// serves waits until a node serves a release.
func (x *testNode) serves(t *testing.T, release uint64) {
	t.Helper()
	within(t, "a release is served", func() bool {
		list := x.Status().Collections
		return len(list) == 1 && list[0].Release == release
	})
}

// largeFile writes a file of random bytes and gives them.
func largeFile(t *testing.T, dir, name string, size int) []byte {
	t.Helper()
	data := make([]byte, size)
	rng := rand.NewChaCha8(content.Sum([]byte(name)))
	rng.Read(data)
	if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
		t.Fatal(err)
	}
	return data
}

// TestCacheOnlyNode: a node that keeps only what is asked for fetches it on demand, has it afterwards, passes it on to others, does
// not call itself complete, goes on like that after a restart, and becomes a full mirror when it is told so.
func TestCacheOnlyNode(t *testing.T) {
	t.Parallel()
	tree := t.TempDir()
	first, second := largeFile(t, tree, "first.bin", 3<<20), largeFile(t, tree, "second.bin", 2<<20)
	master := startNode(t, "master", t.TempDir())
	id := master.publish(t, tree).ID
	home := t.TempDir()
	node := cacheOf(t, master, Config{Home: home})
	c := node.collection(id)
	if used := c.follower.disk.Stats().Used; used != 0 {
		t.Errorf("%d bytes are here before anything was asked for", used)
	}
	node.wants(t, "/test/first.bin", first)
	s := node.Status()
	got := s.Collections[0]
	if got.Cache == nil || got.Cache.Bytes != int64(len(first)) || got.Cache.Misses == 0 || got.Cache.Budget != 10<<30 || got.Complete || !s.Fine {
		t.Errorf("after a miss: %+v of %+v; %s", got.Cache, got, s.Verdict)
	}
	misses := got.Cache.Misses
	node.wants(t, "/test/first.bin", first)
	if got := node.Status().Collections[0].Cache; got.Misses != misses || got.Hits == 0 {
		t.Errorf("after a hit: %+v, want the %d misses of before", got, misses)
	}
	within(t, "the master hears that the cache has release 1 and not all of it", func() bool {
		for _, m := range master.collection(id).listener.Heard(time.Now(), 0).Members {
			if m.Peer == node.ID() {
				return m.Release == 1 && !m.Complete
			}
		}
		return false
	})
	if n := master.Status().Collections[0].Mirrors; n != 0 {
		t.Errorf("the master counts %d complete mirrors", n)
	}

	// Another cache gets from this one what it has, when the master is off.
	other := cacheOf(t, master, Config{})
	if _, err := other.host.Connect(t.Context(), node.Addrs()[0]); err != nil {
		t.Fatal(err)
	}
	within(t, "the caches know each other", func() bool { return other.collection(id).follower.fetch.Progress().Holders == 2 })
	within(t, "a cache tells what part of the release the other has", func() bool {
		for _, h := range other.Status().Collections[0].Nodes {
			if h.Peer == string(node.ID()) {
				return h.Has(1) == "60 % of release 1" // 3 of 5 MiB
			}
		}
		return false
	})
	master.halt()
	other.wants(t, "/test/first.bin", first)
	if a := other.ask(t, "GET", "/test/second.bin"); a.StatusCode != 503 || a.Header.Get("Retry-After") == "" {
		t.Errorf("what nobody has: %s", a.Status)
	}

	// After a restart what is here is here, and it stays a cache.
	node.halt()
	node = startWith(t, "cache again", withGateway(Config{Home: home}))
	node.serves(t, 1)
	node.wants(t, "/test/first.bin", first)
	if got := node.Status().Collections[0].Cache; got == nil || got.Misses != 0 {
		t.Errorf("after a restart: %+v, want no misses", got)
	}
	node.halt()

	// Joined without the flag it keeps all of it.
	again := startNode(t, "master again", master.home)
	node = startWith(t, "full", withGateway(Config{Home: home, Bootstrap: again.Addrs()[:1]}))
	if _, err := node.Join(t.Context(), again.Addrs()[0], nil); err != nil {
		t.Fatal(err)
	}
	waitFor(t, id, 1, node)
	if got := node.Status().Collections[0]; got.Cache != nil || got.BytesHere != int64(len(first)+len(second)) {
		t.Errorf("as a full mirror: %+v", got)
	}
	node.halt()

	// And with the flag and a smaller budget it frees what is over it.
	node = cacheOf(t, again, Config{Home: home, Disk: 3 << 20})
	if got := node.Status().Collections[0]; got.Cache == nil || got.BytesOnDisk > 3<<20 {
		t.Errorf("as a cache with 3 MiB: %+v, %d bytes on disk", got.Cache, got.BytesOnDisk)
	}
	node.wants(t, "/test/second.bin", second)
}

// TestPeerDiesInMidBody cuts the peer off from which a file is being fetched: the client notices nothing.
func TestPeerDiesInMidBody(t *testing.T) {
	t.Parallel()
	tree := t.TempDir()
	data := largeFile(t, tree, "large.bin", 40<<20)
	master := startNode(t, "master", t.TempDir())
	id := master.publish(t, tree).ID
	holder := startNode(t, "holder", t.TempDir(), master.Addrs()[0])
	if _, err := holder.Join(t.Context(), master.Addrs()[0], nil); err != nil {
		t.Fatal(err)
	}
	waitFor(t, id, 1, holder)
	node := cacheOf(t, master, Config{})
	if _, err := node.host.Connect(t.Context(), holder.Addrs()[0]); err != nil {
		t.Fatal(err)
	}
	f := node.collection(id).follower
	within(t, "both holders are known", func() bool { return f.fetch.Progress().Holders == 2 })
	release, source := node.servedRelease(t), mirrorSource{node.collection(id)}
	table, err := source.table(release, 0)
	if err != nil {
		t.Fatal(err)
	}
	var refs []content.Ref
	for i := range table.Len() {
		refs = append(refs, content.Ref{Index: i})
	}
	source.Ahead(1, release, refs)
	defer source.Ahead(1, release, nil)
	for i, ref := range refs {
		got, err := source.Chunk(t.Context(), release, ref, nil)
		if err != nil || content.Sum(got) != table.Chunk(ref.Index).Digest {
			t.Fatalf("chunk %d: %v", i, err)
		}
		if i == len(refs)/3 {
			master.halt()
		}
	}
	if f.fetch.Progress().Left != 0 {
		t.Errorf("%d chunks are still wanted", f.fetch.Progress().Left)
	}
	node.wants(t, "/test/large.bin", data)
}

// servedRelease is the one release that a node's gateway serves.
func (x *testNode) servedRelease(t *testing.T) *gateway.Release {
	t.Helper()
	list := x.web.catalogue.Collections()
	if len(list) != 1 || list[0].Served == nil {
		t.Fatalf("%d collections, the first: %+v", len(list), list)
	}
	return list[0].Served
}

// TestCacheUnderASmallBudget makes random reads of a release much larger than the budget, from several readers at a time: the bytes
// are right and the budget holds at every moment.
func TestCacheUnderASmallBudget(t *testing.T) {
	t.Parallel()
	tree := t.TempDir()
	largeFile(t, tree, "large.bin", 24<<20)
	for i := range 200 {
		if err := os.WriteFile(filepath.Join(tree, string(rune('a'+i%26))+string(rune('a'+i/26))), bytes.Repeat([]byte{byte(i), 7}, 300*i), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	master := startNode(t, "master", t.TempDir())
	id := master.publish(t, tree).ID
	const budget = 6 << 20
	node := cacheOf(t, master, Config{Disk: budget})
	c := node.collection(id)
	release, source := node.servedRelease(t), mirrorSource{c}
	var refs []content.Ref
	var tables []*content.Table
	for n := range release.Infos {
		table, err := source.table(release, uint32(n))
		if err != nil {
			t.Fatal(err)
		}
		tables = append(tables, table)
		for i := range table.Len() {
			refs = append(refs, content.Ref{Segment: uint32(n), Index: i})
		}
	}
	seed := rand.Uint64()
	ctx, over := context.WithCancel(t.Context())
	watched := make(chan int64)
	go func() { // the most that is ever used
		most := int64(0)
		look := time.NewTicker(100 * time.Microsecond) // without a rest this takes as long as the rest of the package
		defer look.Stop()
		for ctx.Err() == nil {
			most = max(most, c.follower.disk.Used())
			<-look.C
		}
		watched <- most
	}()
	var reads atomic.Int64
	failed := make(chan error)
	for k := range 4 {
		go func() {
			rng := rand.New(rand.NewPCG(seed, uint64(k)))
			buf := make([]byte, content.MaxChunkSize)
			failed <- func() error {
				for range 250 {
					ref := refs[min(int(rng.ExpFloat64()*float64(len(refs))/8), len(refs)-1)]
					got, err := source.Chunk(ctx, release, ref, buf)
					if err == nil && content.Sum(got) != tables[ref.Segment].Chunk(ref.Index).Digest {
						err = store.ErrWrongBytes
					}
					if err != nil {
						return err
					}
					reads.Add(1)
				}
				return nil
			}()
		}()
	}
	var errs error
	for range 4 {
		errs = errors.Join(errs, <-failed)
	}
	over()
	if most := <-watched; errs != nil || most > budget || reads.Load() != 1000 {
		t.Errorf("seed %d: %d reads, %d bytes used of %d: %v", seed, reads.Load(), most, int64(budget), errs)
	}
	s := node.Status().Collections[0].Cache
	if s.Hits == 0 || s.Misses == 0 || s.Hits+s.Misses > 1000 { // several readers share a fetch
		t.Errorf("seed %d: %+v, want at most 1,000 in all", seed, s)
	}
}

// TestCacheWithoutRoom gives a node less disk than the metadata takes: what is asked for goes through it, and nothing stays.
func TestCacheWithoutRoom(t *testing.T) {
	t.Parallel()
	tree := t.TempDir()
	data := largeFile(t, tree, "large.bin", 20<<20)
	master := startNode(t, "master", t.TempDir())
	id := master.publish(t, tree).ID
	node := cacheOf(t, master, Config{Disk: 1})
	for range 2 {
		node.wants(t, "/test/large.bin", data)
	}
	f := node.collection(id).follower
	if s := node.Status().Collections[0]; f.disk.Stats().Used != 0 || s.Trouble != "" || s.Cache.Hits != 0 {
		t.Errorf("%d bytes are kept; %q; %+v", f.disk.Stats().Used, s.Trouble, s.Cache)
	}
	if p := f.fetch.Progress(); p.Received > uint64(5*len(data)/2) {
		t.Errorf("%d bytes were fetched for two times %d", p.Received, len(data))
	}
}

// TestCachesAreNotSeeded: what a publisher holds back for mirrors to pass on, it does not hold back from nodes that keep only what they are
// asked for: they may have thrown it away by the time somebody else wants it.
func TestCachesAreNotSeeded(t *testing.T) {
	t.Parallel()
	tree := t.TempDir()
	largeFile(t, tree, "first.bin", 1<<20)
	master := startNode(t, "master", t.TempDir())
	id := master.publish(t, tree).ID
	var caches []*testNode
	for range seedAudience {
		caches = append(caches, cacheOf(t, master, Config{}))
	}
	largeFile(t, tree, "second.bin", 2<<20)
	master.publish(t, tree)
	c := master.collection(id)
	if !c.master.seed.active() {
		t.Fatal("nothing of the second release is held back from anybody: this test shows nothing")
	}
	within(t, "the master hears all caches and knows that they are caches", func() bool {
		for _, x := range caches {
			if m, known := c.listener.Member(x.ID()); !known || m.Complete || m.Release == 0 {
				return false
			}
		}
		return len(c.topic.Peers()) == len(caches)
	})
	for _, x := range caches {
		if c.seeds(x.ID()) {
			t.Errorf("chunks are held back from cache %s", x.ID())
		}
	}
}
