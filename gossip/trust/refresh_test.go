package trust

import (
	"context"
	"slices"
	"sync"
	"testing"
)

// TestRefreshAsksAtOnce: a node far away that knows nothing has everything after one round trip, and one that knows the
// collection hears after one that there is nothing new.
func TestRefreshAsksAtOnce(t *testing.T) {
	t.Parallel()
	p := newPublisher(t, Lifetimes{})
	p.sign(start, 1, "one")
	r := p.repository()
	for _, want := range [][]string{{"1.root.json", "2.root.json", BundleFile}, {"2.root.json", "timestamp.json"}} {
		var mu sync.Mutex
		var asked []string
		all := make(chan struct{})
		err := r.Refresh(t.Context(), start, func(ctx context.Context, name string, max int64) ([]byte, error) {
			mu.Lock()
			if asked = append(asked, name); len(asked) == len(want) {
				close(all)
			}
			mu.Unlock()
			<-all // nobody answers before all is asked
			return p.signer.Source(ctx, name, max)
		})
		slices.Sort(asked)
		if err != nil || r.Head().Release != 1 || !slices.Equal(asked, want) {
			t.Errorf("release %d, %v, asked for %v, want %v", r.Head().Release, err, asked, want)
		}
	}
}
