package gateway

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// gateways are the other gateways of a test: what a check of each finds, and when each was checked.
type gateways struct {
	mu     sync.Mutex // guards the rest
	named  []string
	rtt    map[string]time.Duration // of those that are right
	asked  map[string][]time.Time
	atOnce int
	most   int
}

func (g *gateways) list() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.named)
}

func (g *gateways) set(url string, rtt time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.rtt[url] = rtt; rtt == 0 {
		delete(g.rtt, url)
	}
}

// probe takes a second.
func (g *gateways) probe(ctx context.Context, url string, c *Collection, _ *rand.Rand) (Mirror, error) {
	g.mu.Lock()
	g.asked[url] = append(g.asked[url], time.Now())
	g.atOnce++
	g.most = max(g.most, g.atOnce)
	g.mu.Unlock()
	select {
	case <-time.After(time.Second):
	case <-ctx.Done():
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.atOnce--
	if rtt, ok := g.rtt[url]; ok {
		return Mirror{URL: url, Release: c.Served.Manifest.Release, RTT: rtt, Checked: time.Now()}, nil
	}
	return Mirror{}, errors.New("away")
}

func (g *gateways) times(url string) []time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.asked[url])
}

func urls(list []Mirror) (out []string) {
	for _, m := range list {
		out = append(out, m.URL)
	}
	return out
}

// settled is after what a change leads to with few gateways: it is noticed within checkLook, due within leastSpread, begun within
// checkLook, and takes a second.
const settled = leastSpread + 2*checkLook + 2*time.Second

// check runs a checker in a bubble until fn returns.
func check(t *testing.T, fn func(t *testing.T, k *Checker, g *gateways, f *fakeCatalogue, src *fakeSource)) {
	synctest.Test(t, func(t *testing.T) {
		f, src := newFake(t)
		f.publish(t, src, 1, file{Path: "x.deb", Data: "x"})
		g := &gateways{rtt: map[string]time.Duration{}, asked: map[string][]time.Time{}}
		k := NewChecker(CheckConfig{Gateways: g.list, Collection: func() *Collection { return f.Collections()[0] }, Rand: rand.New(rand.NewPCG(1, 2))})
		k.probe = g.probe
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- k.Run(ctx) }()
		defer func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}()
		fn(t, k, g, f, src)
	})
}

func TestChecker(t *testing.T) {
	check(t, func(t *testing.T, k *Checker, g *gateways, f *fakeCatalogue, src *fakeSource) {
		g.set("http://a/", 30*time.Millisecond)
		g.set("http://b/", 10*time.Millisecond)
		g.mu.Lock()
		g.named = []string{"http://a", "http://b/", "http://b", "http://bad/", "not a URL"}
		g.mu.Unlock()
		time.Sleep(settled)
		if got := urls(k.Mirrors()); !slices.Equal(got, []string{"http://b/", "http://a/"}) {
			t.Fatalf("the nearest first: %q", got)
		}
		time.Sleep(3 * time.Hour)
		right, wrong := g.times("http://a/"), g.times("http://bad/")
		if n := len(right); n < 10 || n > 16 {
			t.Errorf("one that is right was checked %d times in 3 hours, wanted about 12", n)
		}
		if n := len(wrong); n < 7 || n > 10 {
			t.Errorf("one that is away was checked %d times in 3 hours, wanted about 8: after 1, 2, 4, 8 … 60 minutes", n)
		}
		if d := wrong[1].Sub(wrong[0]); d < checkAgain*4/5 || d > checkAgain*6/5+checkLook+time.Second {
			t.Errorf("it was checked again after %v", d)
		}
		if len(g.times("http://b")) > 0 || len(g.times("not a URL")) > 0 {
			t.Error("spellings of one URL, or what is none, were checked")
		}

		g.set("http://b/", 0)
		time.Sleep(checkEvery*6/5 + 5*time.Second)
		if got := urls(k.Mirrors()); !slices.Equal(got, []string{"http://a/"}) {
			t.Errorf("one failed: %q", got)
		}
		g.set("http://b/", 10*time.Millisecond)
		time.Sleep(checkEvery * 3 / 2) // it failed for at most 18 minutes, so at most 16 minutes and a fifth pass until it is asked again
		if got := urls(k.Mirrors()); !slices.Equal(got, []string{"http://b/", "http://a/"}) {
			t.Errorf("it is back: %q", got)
		}

		before := len(g.times("http://a/"))
		f.publish(t, src, 2, file{Path: "x.deb", Data: "y"})
		time.Sleep(settled)
		if m := k.Mirrors(); len(g.times("http://a/")) != before+1 || len(m) != 2 || m[0].Release != 2 || m[1].Release != 2 {
			t.Errorf("a new release is served here: %+v, checked %d times", m, len(g.times("http://a/"))-before)
		}

		g.mu.Lock()
		g.named = []string{"http://a/"}
		g.mu.Unlock()
		time.Sleep(checkLook + time.Second)
		if got := urls(k.Mirrors()); !slices.Equal(got, []string{"http://a/"}) {
			t.Errorf("nobody names one any more: %q", got)
		}
	})
}

func TestCheckerBounds(t *testing.T) {
	check(t, func(t *testing.T, k *Checker, g *gateways, f *fakeCatalogue, _ *fakeSource) {
		g.mu.Lock()
		for i := range 1000 {
			u := fmt.Sprintf("http://g%d/", i)
			g.named, g.rtt[u] = append(g.named, u), time.Millisecond
		}
		g.mu.Unlock()
		time.Sleep(10 * time.Minute)
		if n := len(k.Mirrors()); n != maxChecked || len(g.times(fmt.Sprintf("http://g%d/", maxChecked))) > 0 {
			t.Errorf("%d gateways are known, wanted the first %d", n, maxChecked)
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.most != checkAtOnce {
			t.Errorf("%d checks at once, wanted %d", g.most, checkAtOnce)
		}
	})
}

// TestCheckerWaits: before a release is served here nothing can be compared, so nobody is asked.
func TestCheckerWaits(t *testing.T) {
	check(t, func(t *testing.T, k *Checker, g *gateways, f *fakeCatalogue, _ *fakeSource) {
		f.mu.Lock()
		served := f.c.Served
		f.c.Served = nil
		f.mu.Unlock()
		g.mu.Lock()
		g.named = []string{"http://a/"}
		g.mu.Unlock()
		time.Sleep(time.Hour)
		if n := len(g.times("http://a/")); n > 0 {
			t.Errorf("checked %d times", n)
		}
		f.mu.Lock()
		f.c.Served = served
		f.mu.Unlock()
		time.Sleep(settled)
		if n := len(g.times("http://a/")); n != 1 {
			t.Errorf("checked %d times", n)
		}
	})
}
