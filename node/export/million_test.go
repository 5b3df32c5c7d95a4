package export

import (
	"context"
	"fmt"
	"runtime"
	"testing"

	"swarmnode/content"
)

// BenchmarkMillion prepares a new tree of a million files, and of one file of 100 GB beside them, and tells what the plan
// holds in memory while they are fetched: 24 bytes a chunk and 5 a file, besides the caller's entries.
func BenchmarkMillion(b *testing.B) {
	const files, perDir, big = 1_000_000, 10_000, 100_000
	var entries []content.Entry
	table := func(segment uint32) (*content.Table, error) {
		n, size := 1000, uint32(50_000)
		if segment >= files/1000 {
			n, size = 64, 1_000_000
		}
		chunks := make([]content.Chunk, n)
		for i := range chunks {
			chunks[i] = content.Chunk{Digest: content.Digest{byte(segment), byte(segment >> 8), byte(i), byte(i >> 8), 1}, Size: size}
		}
		return content.NewTable(chunks), nil
	}
	var runs []content.Run
	for i := range uint32(big / 64) {
		runs = append(runs, content.Run{Segment: files/1000 + i, Count: 64})
	}
	entries = append(entries, content.Entry{Path: "big", Mode: content.ModeFile | 0o644, Size: big / 64 * 64_000_000, SHA256: content.Sum(nil), RunBlocks: []content.Digest{{}}})
	for i := range uint32(files) {
		if i%perDir == 0 {
			entries = append(entries, content.Entry{Path: fmt.Sprintf("d%03d", i/perDir), Mode: content.ModeDir | 0o755})
		}
		entries = append(entries, content.Entry{Path: fmt.Sprintf("d%03d/file%07d", i/perDir, i), Mode: content.ModeFile | 0o644, Size: 50_000, Mtime: 1,
			SHA256: content.Sum(nil), Runs: []content.Run{{Segment: i / 1000, First: i % 1000, Count: 1}}})
	}
	heap := func() float64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return float64(m.HeapAlloc) / 1e6
	}
	for b.Loop() {
		before := heap()
		plan, err := NewPlan(b.TempDir(), entries, "", func(content.Entry) ([]content.Run, error) { return runs, nil }, table)
		if err != nil {
			b.Fatal(err)
		}
		plan.calls.freeSpace = func(string) (int64, bool) { return 0, false }
		need, err := plan.Prepare(context.Background(), nil)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(heap()-before, "heap-MB")
		b.ReportMetric(float64(len(need)), "segments")
		if err := plan.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSmallFiles writes whole files of one chunk each, as most of a package archive is.
func BenchmarkSmallFiles(b *testing.B) {
	p := newPublisher(1 << 20)
	tree := map[string]node{}
	for i := range 5000 {
		tree[fmt.Sprintf("pool/%02d/%d.deb", i%50, i)] = file(fmt.Sprint(i) + letters(20_000, byte(i)))
	}
	entries := p.release(tree)
	for b.Loop() {
		p.get(b, b.TempDir(), entries, "")
	}
	b.ReportMetric(float64(len(tree)*b.N)/b.Elapsed().Seconds(), "files/s")
}
