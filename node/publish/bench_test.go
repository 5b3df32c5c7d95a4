//go:build unix

package publish

import (
	"context"
	"fmt"
	"io"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"swarmnode/content/chunker"
)

// manyFiles makes n small files in directories of 100.
func manyFiles(b *testing.B, dir string, n, size int) {
	b.Helper()
	text := random(1, size+n)
	for i := range n {
		p := filepath.Join(dir, fmt.Sprintf("pool/%c/package-%03d", 'a'+i/100%26, i/100), fmt.Sprintf("file-%05d_1.%d_all", i, i))
		if i%100 == 0 {
			if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
				b.Fatal(err)
			}
		}
		if err := os.WriteFile(p, text[i:i+size], 0o644); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRescan20k scans 20,000 unchanged files and runs find -ls beside it; x-find is the ratio (DESIGN section 8: at most 1.5).
func BenchmarkRescan20k(b *testing.B) {
	dir, state := b.TempDir(), b.TempDir()
	manyFiles(b, dir, 20_000, 100)
	root := openTree(b, dir)
	first, last := filepath.Join(state, "first"), filepath.Join(state, "last")
	if _, err := Scan(context.Background(), later(), root, nil, first, ScanOptions{}); err != nil {
		b.Fatal(err)
	}
	var ours, finds time.Duration
	for b.Loop() {
		began := time.Now()
		s, err := openSnapshot(first)
		if err != nil {
			b.Fatal(err)
		}
		c, err := Scan(context.Background(), later(), root, s.files(), last, ScanOptions{})
		if err != nil {
			b.Fatal(err)
		}
		ours += time.Since(began)
		if c.Upserts != 0 || c.Unchanged < 20_000 {
			b.Fatalf("%d changed, %d unchanged", c.Upserts, c.Unchanged)
		}
		began = time.Now()
		cmd := exec.Command("find", dir, "-ls")
		cmd.Stdout = io.Discard
		if err := cmd.Run(); err != nil {
			b.Skip(err)
		}
		finds += time.Since(began)
	}
	b.ReportMetric(float64(ours.Milliseconds())/float64(b.N), "scan-ms")
	b.ReportMetric(float64(finds.Milliseconds())/float64(b.N), "find-ms")
	b.ReportMetric(ours.Seconds()/finds.Seconds(), "x-find")
}

// BenchmarkDigest hashes one large file and 20,000 small ones of together the same size, by default 256 MiB in all
// (SWARMNODE_BENCH_MIB sets it; SWARMNODE_BENCH_DIR uses and keeps a directory), cut every MiB and by content. With mktorrent
// installed it is run over the same tree; x-mktorrent is the ratio (DESIGN section 8: at most 1.2 and 1.6 for 2048 MiB). rss-MB is
// the largest this process has had, the benchmark's own data included.
func BenchmarkDigest(b *testing.B) {
	mib := 256
	if n, err := strconv.Atoi(os.Getenv("SWARMNODE_BENCH_MIB")); err == nil {
		mib = n
	}
	dir := os.Getenv("SWARMNODE_BENCH_DIR")
	if dir == "" {
		dir = b.TempDir()
	}
	if _, err := os.Stat(filepath.Join(dir, "pool")); err != nil {
		manyFiles(b, dir, 20_000, mib<<20/2/20_000)
	}
	for _, name := range []string{"image.xz", "image.iso"} {
		large := filepath.Join(dir, name)
		writeLarge(b, large, mib/2)
		b.Run(map[string]string{"image.xz": "fixed", "image.iso": "cdc"}[name], func(b *testing.B) { digestBeside(b, dir, int64(mib)<<20) })
		if err := os.Remove(large); err != nil {
			b.Fatal(err)
		}
	}
}

func writeLarge(b *testing.B, name string, mib int) {
	f, err := os.Create(name)
	if err != nil {
		b.Fatal(err)
	}
	for i := range mib {
		block := random(byte(i), 1<<20)
		block[0] = byte(i >> 8)
		if _, err := f.Write(block); err != nil {
			b.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		b.Fatal(err)
	}
}

func digestBeside(b *testing.B, dir string, size int64) {
	var ours, theirs time.Duration
	b.SetBytes(size)
	root := openTree(b, dir)
	b.ResetTimer()
	for b.Loop() {
		began := time.Now()
		c, err := Scan(context.Background(), later(), root, nil, filepath.Join(b.TempDir(), "spill"), ScanOptions{})
		if err != nil {
			b.Fatal(err)
		}
		files := iter.Seq2[File, error](c.Files())
		if err := Digest(context.Background(), root, chunker.Default(), files, Hooks{}, func(*Digested) error { return nil }); err != nil {
			b.Fatal(err)
		}
		ours += time.Since(began)
		theirs += mktorrent(b, dir)
	}
	b.ReportMetric(ours.Seconds()/float64(b.N), "s/publish")
	if theirs > 0 {
		b.ReportMetric(theirs.Seconds()/float64(b.N), "s/mktorrent")
		b.ReportMetric(ours.Seconds()/theirs.Seconds(), "x-mktorrent")
	}
	var use syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &use); err == nil {
		b.ReportMetric(float64(use.Maxrss)/1000, "rss-MB")
	}
}

// BenchmarkPublish makes the first release of the same trees as BenchmarkDigest with everything that belongs to it, durable and
// signed and with every file linked, and a second one with nothing changed; mktorrent is run beside it.
func BenchmarkPublish(b *testing.B) {
	mib := 256
	if n, err := strconv.Atoi(os.Getenv("SWARMNODE_BENCH_MIB")); err == nil {
		mib = n
	}
	b.Run("fixed", func(b *testing.B) { publishBeside(b, mib, "image.xz", true) })
	b.Run("cdc", func(b *testing.B) { publishBeside(b, mib, "image.iso", true) })
	b.Run("cdc-unlinked", func(b *testing.B) { publishBeside(b, mib, "image.iso", false) })
}

func publishBeside(b *testing.B, mib int, large string, link bool) {
	var first, again, theirs time.Duration
	b.SetBytes(int64(mib) << 20)
	for b.Loop() {
		b.StopTimer()
		m := newMaster(b)
		if !link {
			m.close()
			m.links = ""
			m.open()
		}
		manyFiles(b, m.tree, 20_000, mib<<20/2/20_000)
		writeLarge(b, filepath.Join(m.tree, large), mib/2)
		syscall.Sync() // else the first durable write waits until the file system has written the new tree
		b.StartTimer()
		first += m.publish().Took
		b.StopTimer()
		theirs += mktorrent(b, m.tree)
		b.StartTimer()
		res := m.publish()
		again += res.Took
		if !res.Unchanged {
			b.Fatalf("got %+v, want nothing changed", res)
		}
		b.StopTimer()
		m.remove("pool", large) // else the next round has no page cache
		b.StartTimer()
	}
	b.ReportMetric(first.Seconds()/float64(b.N), "s/first")
	b.ReportMetric(float64(again.Milliseconds())/float64(b.N), "ms/again")
	if theirs > 0 {
		b.ReportMetric(theirs.Seconds()/float64(b.N), "s/mktorrent")
		b.ReportMetric(first.Seconds()/theirs.Seconds(), "x-mktorrent")
	}
	var use syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &use); err == nil {
		b.ReportMetric(float64(use.Maxrss)/1000, "rss-MB")
	}
}

// mktorrent runs it over a tree and gives the time that it took; 0 if it is not installed.
func mktorrent(b *testing.B, dir string) time.Duration {
	if _, err := exec.LookPath("mktorrent"); err != nil {
		return 0
	}
	out := filepath.Join(b.TempDir(), "t.torrent")
	began := time.Now()
	if text, err := exec.Command("mktorrent", "-t", "2", "-l", "20", "-o", out, dir).CombinedOutput(); err != nil {
		b.Fatalf("mktorrent: %v: %s", err, text)
	}
	return time.Since(began)
}
