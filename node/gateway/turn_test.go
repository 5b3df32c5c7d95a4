package gateway

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"swarmnode/content"
)

// countedBlocks counts how often a block is read.
type countedBlocks struct {
	content.BlockSource
	reads *atomic.Int64
}

func (c countedBlocks) Block(d content.Digest) ([]byte, bool) {
	c.reads.Add(1)
	return c.BlockSource.Block(d)
}

// TestWrongSumsCostNothing: who asks for lists of checksums that are nowhere has none made, after the first time.
func TestWrongSumsCostNothing(t *testing.T) {
	r := newRig(t, file{Path: "a", Data: "a"})
	var reads atomic.Int64
	for i := range 20 {
		r.cat.publish(t, r.src, uint64(i+2), file{Path: "a", Data: fmt.Sprint(i)})
		r.cat.c.Served.Blocks = countedBlocks{r.cat.c.Served.Blocks, &reads}
	}
	ask := func(hash string) int { return r.get("/-/test/targets/" + hash + ".SHA256SUMS").StatusCode }
	if got := ask(strings.Repeat("1", 64)); got != 404 || reads.Load() < 20 {
		t.Fatalf("a wrong hash: %d, %d blocks were read", got, reads.Load())
	}
	sums, err := r.cat.c.Kept[3].Manifest.Sums(r.cat.c.Kept[3].Blocks)
	if err != nil {
		t.Fatal(err)
	}
	r.g.tuf.files = newTUF().files // the lists are forgotten
	before := reads.Load()
	if got := ask(strings.Repeat("2", 64)); got != 404 || reads.Load() != before {
		t.Errorf("another wrong hash: %d, %d blocks were read", got, reads.Load()-before)
	}
	if got := ask(content.Sum(sums).String()); got != 200 {
		t.Errorf("the list of a kept release: %d", got)
	}
}

// TestLargePageIsMadeOnce: a directory that is too large to be remembered is rendered once for all who get it at the same time.
func TestLargePageIsMadeOnce(t *testing.T) {
	var files []file
	for i := range 3000 {
		files = append(files, file{Path: fmt.Sprintf("%s-%d", strings.Repeat("n", 150), i), Data: "x"})
	}
	r := newRig(t, files...)
	c := r.cat.c
	f, err := r.g.locate(t.Context(), c.Served, c, "")
	if err != nil {
		t.Fatal(err)
	}
	key := pageKey{objectKey{c.Served.Manifest.Tree, ""}, c.ID, 1, false}
	first, err := r.g.page(t.Context(), c, f, key)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := r.g.pages.get(key); ok || len(first.body) < pageBytes/8 {
		t.Fatalf("a page of %d bytes is remembered: nothing is tried", len(first.body))
	}
	second, err := r.g.page(t.Context(), c, f, key)
	if err != nil || second != first {
		t.Errorf("it was made again, %v", err)
	}
	for i := range 2 * sendingSwept { // pages that nobody has any more
		r.g.sending.put(pageKey{release: uint64(i + 2)}, &page{make([]byte, 1)})
	}
	if p, ok := r.g.sending.get(key); !ok || p != first {
		t.Error("a page that is being sent was forgotten")
	}
	if string(first.body) != r.get("/test/").body {
		t.Error("another page was sent")
	}
}

// TestTurns: who finds no turn waits as long as for a first byte, and is told to come again.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ts := newTurns()
		var last func()
		for range cap(ts) {
			done, err := ts.take(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			last = done
		}
		if _, err := ts.take(t.Context()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("one more: %v", err)
		}
		last()
		if _, err := ts.take(t.Context()); err != nil {
			t.Errorf("after one has ended: %v", err)
		}
	})
}

// TestLargeLayout: where the chunks of a file of 200 GB lie is worked out once, however many ranges of it are asked for, and with a turn.
func TestLargeLayout(t *testing.T) {
	store := content.Blocks{}
	chunks := make([]content.Chunk, 256)
	for i := range chunks {
		chunks[i].Size = 256 << 10
	}
	table := content.NewTable(chunks)
	rel := &Release{Manifest: &content.Manifest{}, Blocks: store}
	info := content.SegmentInfo{Table: store.Put(table.Encode()), Size: table.Size(), Chunks: 256}
	e := content.Entry{Path: "large.img", Mode: content.ModeFile | 0o644}
	for n := range uint32(3200) {
		rel.Infos = append(rel.Infos, info)
		e.Runs = append(e.Runs, content.Run{Segment: n, Count: 256})
		e.Size += 64 << 20
	}
	g := New(Config{Catalogue: fixed{}})
	first, err := g.layout(t.Context(), rel, e)
	if err != nil {
		t.Fatal(err)
	}
	for range cap(g.turns) {
		g.turns <- struct{}{}
	}
	if again, err := g.layout(t.Context(), rel, e); err != nil || again != first {
		t.Errorf("it was worked out again: %v", err)
	}
	e.Path = "other.img"
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := g.layout(ended, rel, e); !errors.Is(err, context.Canceled) {
		t.Errorf("without a turn: %v", err)
	}
}
