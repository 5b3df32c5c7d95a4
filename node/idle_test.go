//go:build unix

package node

import (
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"

	"swarmnode/content"
	"swarmnode/content/store"
	"swarmnode/gossip/trust"
)

// idleHome is set in the process that BenchmarkIdleMirror measures.
const idleHome = "SWARMNODE_IDLE_HOME"

// sideBySide is how many tests run at once unless -parallel says another number: most of them wait for a node's clock, and with as many as
// there are processors the package takes twice as long on two.
const sideBySide = "8"

// memoryLimit is what the tests take without all this.
const memoryLimit = 512 << 20

// collectLess: a quarter of the processor time of these tests is the collector's: they make much garbage and keep little. It runs a fourth as often,
// and as always from memoryLimit on. GOGC and GOMEMLIMIT have the last word.
func collectLess() {
	if os.Getenv("GOGC") == "" && os.Getenv("GOMEMLIMIT") == "" {
		debug.SetGCPercent(400)
		debug.SetMemoryLimit(memoryLimit)
	}
}

// TestMain lets the test binary be the idle node of BenchmarkIdleMirror, and the holder of BenchmarkFetchOneHolder.
func TestMain(m *testing.M) {
	if root := os.Getenv(holderRoot); root != "" {
		if err := runHolder(root); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	home := os.Getenv(idleHome)
	if home == "" {
		collectLess()
		_ = flag.Set("test.parallel", sideBySide) // m.Run reads the command line, which has the last word
		os.Exit(m.Run())
	}
	ctx, stop := context.WithTimeout(context.Background(), 15*time.Second)
	defer stop()
	n, err := Open(ctx, Config{Home: home, Listen: []string{"/ip4/127.0.0.1/tcp/0"}})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	go func() {
		time.Sleep(10 * time.Second)
		status, _ := os.ReadFile("/proc/self/status")
		for line := range strings.Lines(string(status)) {
			if kb, ok := strings.CutPrefix(line, "VmRSS:"); ok {
				fmt.Println(n.Status().Verdict, "RSS", strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(kb), "kB")))
			}
		}
		stop()
	}()
	if err := n.Run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// BenchmarkIdleMirror measures the memory of an idle mirror of 100,000 files in 1,600 segments of 256 chunks: as many as 100 GB
// have. The chunks are small, which makes no difference to the memory of a node that is idle.
func BenchmarkIdleMirror(b *testing.B) {
	home := b.TempDir()
	buildMirror(b, home, 1600, 256, 100_000)
	for b.Loop() {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), idleHome+"="+home)
		out, err := cmd.CombinedOutput()
		if err != nil {
			b.Fatalf("%v: %s", err, out)
		}
		verdict, rss, _ := strings.Cut(strings.TrimSpace(string(out)), " RSS ")
		kb, err := strconv.ParseFloat(rss, 64)
		if err != nil || strings.Contains(verdict, "waiting") || strings.Contains(verdict, "idle") {
			b.Fatalf("the node does not serve what was built: %s", out)
		}
		b.ReportMetric(kb/1024, "RSS-MiB")
	}
}

// buildMirror makes the home directory of a complete mirror.
func buildMirror(b *testing.B, home string, segments, chunks, files int) {
	b.Helper()
	check := func(err error) {
		if err != nil {
			b.Helper()
			b.Fatal(err)
		}
	}
	keys, id, err := trust.Init(filepath.Join(b.TempDir(), "keys"), time.Now(), trust.Lifetimes{})
	check(err)
	r := record{Version: recordVersion, ID: id, Name: "idle"}
	check(r.write(home))
	dir := r.dir(home)
	pack, err := store.OpenPack(filepath.Join(dir, "metadata.pack"))
	check(err)
	disk, err := store.OpenDisk(filepath.Join(dir, "segments"), store.Config{Tables: func(d content.Digest) (*content.Table, error) {
		data, _ := pack.Block(d)
		return content.DecodeTable(data)
	}})
	check(err)
	var infos []content.SegmentInfo
	for s := range segments {
		var list []content.Chunk
		for c := range chunks {
			list = append(list, content.Chunk{Digest: content.Sum(chunkData(s, c)), Size: 8})
		}
		t := content.NewTable(list)
		d, err := pack.Put(t.Encode())
		check(err)
		infos = append(infos, content.SegmentInfo{Table: d, Size: t.Size(), Chunks: t.Len()})
		check(disk.Add(uint32(s), infos[s], t))
		for c := range chunks {
			check(disk.Put(content.Ref{Segment: uint32(s), Index: uint32(c)}, chunkData(s, c)))
		}
	}
	per := segments * chunks / files
	tree, totals, err := content.BuildTree(func(yield func(content.Entry, error) bool) {
		for i := range files {
			if i%1000 == 0 && !yield(content.Entry{Path: fmt.Sprintf("pool%03d", i/1000), Mode: content.ModeDir | 0o755}, nil) {
				return
			}
			at := i * per
			e := content.Entry{
				Path: fmt.Sprintf("pool%03d/package-name_%03d-1.0_amd64.deb", i/1000, i%1000), Mode: content.ModeFile | 0o644, Size: uint64(8 * per),
				SHA256: content.Sum(chunkData(i, 0)), Runs: []content.Run{{Segment: uint32(at / chunks), First: uint32(at % chunks), Count: uint32(per)}},
			}
			if !yield(e, nil) {
				return
			}
		}
	}, pack.Put)
	check(err)
	directory, err := content.BuildDirectory(infos, pack.Put)
	check(err)
	man := &content.Manifest{Collection: id, Name: "idle", Release: 1, Tree: tree, Directory: directory, Totals: totals}
	_, err = pack.Put(man.Encode())
	check(err)
	check(disk.Sync(b.Context()))
	check(disk.Close())
	check(pack.Close())
	signer, err := trust.OpenSigner(keys, filepath.Join(b.TempDir(), "signer"), trust.Lifetimes{})
	check(err)
	_, err = signer.Sign(time.Now(), trust.Release{Name: "idle", Number: 1, Manifest: content.Sum(man.Encode()), Size: int64(len(man.Encode())), Files: totals.Files, Bytes: totals.Bytes})
	check(err)
	repo, err := trust.Open(filepath.Join(dir, "trust"), id)
	check(err)
	check(repo.Refresh(b.Context(), time.Now(), signer.Source))
	state := fmt.Sprintf("{\"version\": 1, \"served\": %q, \"release\": 1}\n", content.Sum(man.Encode()))
	check(os.WriteFile(filepath.Join(dir, "mirror.json"), []byte(state), 0o644))
}

// chunkData is the content of a chunk: its place.
func chunkData(segment, chunk int) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, uint32(segment)), uint32(chunk))
}
