//go:build unix

package store_test

import (
	"bytes"
	"os"
	"syscall"
	"testing"

	"swarmnode/content"
	"swarmnode/content/store"
	"swarmnode/content/store/storetest"
)

func TestDiskPunchFreesBlocks(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d := openDisk(t, dir, store.Config{})
	s := storetest.Segments()[1] // 20000 9000 1 1 1 12288 65536
	must(t, d.Add(1, s.Info, s.Table))
	for i := range s.Info.Chunks {
		must(t, d.Put(s.Ref(i), s.Data[i]))
	}
	must(t, d.Sync(t.Context()))
	blocks := func() int64 {
		st, err := os.Stat(segmentFile(dir, s))
		must(t, err)
		sys, ok := st.Sys().(*syscall.Stat_t)
		if !ok {
			t.Skip("no block counts here")
		}
		return sys.Blocks * 512
	}
	before := blocks()
	must(t, d.Punch(1, content.Bitmap{0b0101_1110})) // all but 0 and 5, and 7 does not exist
	if freed := before - blocks(); freed != 4096*18 && freed != 0 {
		t.Errorf("punching freed %d bytes, want 2 + 16 blocks", freed)
	}
	if got, want := d.Used(), int64(20_000+12_288); got != want {
		t.Errorf("Used = %d, want %d", got, want)
	}
	for i := range s.Info.Chunks {
		got, err := d.Chunk(s.Ref(i), nil)
		if kept := i == 0 || i == 5; kept != (err == nil) || kept && (d.Verify(s.Ref(i), nil) != nil || !bytes.Equal(got, s.Data[i])) {
			t.Errorf("chunk %d after the punch: %v", i, err)
		}
	}
}
