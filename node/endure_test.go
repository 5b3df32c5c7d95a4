package node

import (
	"crypto/rand"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

// What a master and two mirrors take does not grow with the number of releases. (The hours of real processes are in .ci/e2e/endurance.sh.)
func TestReleasesLeaveNothing(t *testing.T) {
	if os.Getenv("SWARMNODE_E2E") != "1" {
		t.Skip("publishes 70 releases, one after the other; with SWARMNODE_E2E=1")
	}
	const (
		warm, measured = 20, 50
		most           = 40 << 10 // of heap a release: its names, segment table and directory take a few KiB; a leaked chunk, 100 KB here, or body more
	)
	source := t.TempDir()
	writeTree(t, source, 7)
	master := startWith(t, "master", Config{Home: t.TempDir()})
	res := master.publish(t, source)
	mirrors := []*testNode{mirrorOf(t, master, Config{}), mirrorOf(t, master, Config{})}
	next := func(n int) {
		data := make([]byte, 100_000)
		_, _ = rand.Read(data)
		name := fmt.Sprintf("pool/new-%d.deb", n%5)
		if err := os.WriteFile(filepath.Join(source, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
		res = master.publish(t, source)
		waitFor(t, res.ID, res.Release, mirrors...)
		mirrors[n%2].wants(t, "/test/"+name, data)
	}
	goroutines, heap := leastTaken(next, 0, warm)
	after, grown := leastTaken(next, warm, warm+measured)
	t.Logf("%d goroutines, then %d; heap %d, then %d", goroutines, after, heap, grown)
	if after > goroutines+measured/2 {
		t.Errorf("%d goroutines after %d releases, %d after %d", goroutines, warm, after, warm+measured)
	}
	if grown > heap+measured*most {
		t.Errorf("heap of %d bytes after %d releases, %d after %d", heap, warm, grown, warm+measured)
	}
}

// leastTaken goes through steps, and gives the fewest goroutines and the smallest heap that were in use after one of the last ten: what is
// under way at a moment, or waits in a pool, is not kept.
func leastTaken(step func(n int), from, to int) (goroutines int, heap uint64) {
	goroutines, heap = math.MaxInt, math.MaxUint64
	for n := from; n < to; n++ {
		step(n)
		if n < to-10 {
			continue
		}
		var m runtime.MemStats
		runtime.GC()
		runtime.GC() // the first leaves what was in pools
		runtime.ReadMemStats(&m)
		goroutines, heap = min(goroutines, runtime.NumGoroutine()), min(heap, m.HeapAlloc)
	}
	return goroutines, heap
}
