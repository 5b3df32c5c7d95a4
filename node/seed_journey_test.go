//go:build unix

package node

import (
	"path/filepath"
	"testing"
	"time"
)

// TestSeedOneCopy: a master with three mirrors that hear each other sends a new release about once, and they pass it on.
func TestSeedOneCopy(t *testing.T) {
	const size = 48 << 20
	dir := filepath.Join(t.TempDir(), "tree")
	writeBig(t, filepath.Join(dir, "first"), 1000)
	master := startNode(t, "master", t.TempDir())
	res := master.publish(t, dir)
	var mirrors []*testNode
	for _, name := range []string{"one", "two", "three"} {
		m := startNode(t, name, t.TempDir())
		if _, err := m.Join(t.Context(), master.Addrs()[0], nil); err != nil {
			t.Fatal(err)
		}
		mirrors = append(mirrors, m)
	}
	waitFor(t, res.ID, 1, mirrors...)
	c := master.collection(res.ID)
	within(t, 20*time.Second, "everybody knows everybody", func() bool {
		for _, m := range mirrors {
			if len(m.host.Peers()) < 3 {
				return false
			}
		}
		c.master.seed.mu.Lock()
		defer c.master.seed.mu.Unlock()
		return len(c.topic.Peers()) >= seedAudience && len(c.master.seed.follows) >= seedAudience
	})
	_, before := master.host.Traffic()
	writeBig(t, filepath.Join(dir, "big.xz"), size)
	master.publish(t, dir)
	waitFor(t, res.ID, 2, mirrors...)
	_, after := master.host.Traffic()
	t.Logf("the master sent %.2f copies", float64(after-before)/size)
	if sent := float64(after-before) / size; sent < 1 || sent > 2 {
		t.Errorf("the master sent %.2f copies to three mirrors, want about one", sent)
	}
}
