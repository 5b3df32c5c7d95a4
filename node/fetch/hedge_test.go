package fetch

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestHedgedBlocks: when the nearest peer does not answer, another is asked long before a deadline, each block comes once, and
// the slow one is not held to have failed. Many blocks are not asked of two.
func TestHedgedBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		defer r.run()()
		list, all := blocks(2*hedgeBlocks + 1)
		slow, fast := whole(0, nil), whole(0, nil)
		slow.late = time.Minute
		slow.blocks, fast.blocks = all, all
		r.connect("a", slow)
		r.connect("b", fast)
		synctest.Wait()
		get := func(n int, most time.Duration) {
			t.Helper()
			began := time.Now()
			if err := r.get(t.Context(), list[:n], n); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(began); took > most {
				t.Errorf("%d blocks: got them after %v, want %v", n, took, most)
			}
		}
		get(3, time.Second)
		if n := r.peers["a"].fails; n != 0 {
			t.Errorf("the late peer: got %d failures, want 0", n)
		}
		get(2*hedgeBlocks+1, 2*time.Minute)
		if slow.asked+fast.asked != 3 {
			t.Errorf("requests: got %d and %d, want 3 together", slow.asked, fast.asked)
		}
	})
}
