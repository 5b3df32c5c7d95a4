package sim

import (
	"math/rand/v2"
	"runtime"
	"testing"
	"time"
)

// release runs the scenario with settings and gives its report and what is written of it.
func release(t *testing.T, seed uint64, set map[string]string) (Report, string) {
	t.Helper()
	return run(t, "release", seed, set)
}

// TestRelease: everybody gets everything, nearly nothing is wasted, and the time is near the bound.
func TestRelease(t *testing.T) {
	rep, text := release(t, 1, nil)
	t.Log("\n" + text)
	times := rep.Times()
	if len(times) != 20 {
		t.Fatalf("complete: got %d nodes, want 20", len(times))
	}
	if got := times[0] / rep.Bound; got < 1 {
		t.Errorf("first T/T*: got %.3f, want at least 1: it beats the bound", got)
	}
	if got := quantile(times, 1) / rep.Bound; got > 1.25 {
		t.Errorf("last T/T*: got %.3f, want at most 1.25", got)
	}
	if rep.Wasted() > 0.02 {
		t.Errorf("wasted: got %.2f %%, want at most 2 %%", 100*rep.Wasted())
	}
	if got := rep.MasterCopies(); got < 1 || got > 1.2 {
		t.Errorf("master copies: got %.3f, want 1 to 1.2", got)
	}
}

// TestReleaseWithoutSeeding: what the publisher's policy of giving nothing twice is worth.
func TestReleaseWithoutSeeding(t *testing.T) {
	with, _ := release(t, 1, map[string]string{"size": "64"})
	without, _ := release(t, 1, map[string]string{"size": "64", "seeding": "0"})
	if a, b := with.MasterCopies(), without.MasterCopies(); a >= b {
		t.Errorf("copies sent by the master: %.2f with seeding, %.2f without; want fewer with", a, b)
	}
	if got := len(without.Times()); got != 20 {
		t.Errorf("complete without seeding: got %d nodes, want 20", got)
	}
}

// TestReleaseMixedLinks: links spread over two orders of magnitude, few slots: everybody gets everything still.
func TestReleaseMixedLinks(t *testing.T) {
	rep, _ := release(t, 2, map[string]string{"spread": "1", "size": "64", "slots": "2", "chunk": "512"})
	times := rep.Times()
	if len(times) != 20 || quantile(times, 1) < rep.Bound {
		t.Errorf("complete: %d nodes, the last after %.1f s; want 20, not before the bound of %.1f s", len(times), quantile(times, 1), rep.Bound)
	}
	if rep.Wasted() > 0.05 {
		t.Errorf("wasted: got %.2f %%, want at most 5 %%", 100*rep.Wasted())
	}
}

// TestSameSeed: the report is the same to the byte, on one core and on two; another seed gives another.
func TestSameSeed(t *testing.T) {
	set := map[string]string{"nodes": "8", "size": "64", "segment": "16", "chunk": "256"}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	_, one := release(t, 3, set)
	runtime.GOMAXPROCS(2)
	_, two := release(t, 3, set)
	if one != two {
		t.Errorf("seed 3 twice: got\n%s\nwant\n%s", two, one)
	}
	if _, other := release(t, 4, set); other == one {
		t.Error("seeds 3 and 4 gave the same report")
	}
}

// TestReleaseOneNode: alone with the master, a node is as fast as the slower of their links.
func TestReleaseOneNode(t *testing.T) {
	rep, _ := release(t, 1, map[string]string{"nodes": "1", "size": "64", "down": "100"})
	if got := rep.Times(); len(got) != 1 || got[0] < rep.Bound || got[0] > 1.1*rep.Bound {
		t.Errorf("times: got %v, want about %.1f s", got, rep.Bound)
	}
}

func TestSettings(t *testing.T) {
	s, _ := Find("release")
	if err := s.Set("nodse", "3"); err == nil {
		t.Error("a setting that is not there was set")
	}
	if err := s.Set("nodes", "many"); err != nil {
		t.Fatal(err)
	}
	if _, err := Run(s, 1); err == nil {
		t.Error("nodes=many was simulated")
	}
	if again, _ := Find("release"); again.Settings[0].Value != "20" {
		t.Errorf("default of nodes after Set on another copy: got %s, want 20", again.Settings[0].Value)
	}
}

func TestQueueOrder(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	var q queue
	for range 2000 {
		q.push(time.Duration(rng.IntN(300)), nil)
		if rng.IntN(3) == 0 {
			q.pop()
		}
	}
	last := event{}
	for e, ok := q.pop(); ok; e, ok = q.pop() {
		if e.before(&last) {
			t.Fatalf("event at %v number %d came after %v number %d", e.at, e.seq, last.at, last.seq)
		}
		last = e
	}
}
