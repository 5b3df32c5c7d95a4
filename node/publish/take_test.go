//go:build unix

package publish

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"

	"swarmnode/content/store"
)

// hanging gives so many bytes of a file, and then none until nobody waits for them any more.
type hanging struct {
	ctx  context.Context
	r    io.Reader
	left int
}

func (h *hanging) Read(p []byte) (int, error) {
	if h.left == 0 {
		<-h.ctx.Done()
		return 0, context.Cause(h.ctx)
	}
	n, err := h.r.Read(p[:min(len(p), h.left)])
	h.left -= n
	return n, err
}

// TestFullWhileTheNextBlockIsAwaited: when a block cannot be kept, nobody waits for the one behind it, which does not come.
func TestFullWhileTheNextBlockIsAwaited(t *testing.T) {
	m := newPuller(t, map[string]fakeFile{"a.iso": {text: string(random(1, 3*arriveBlock)), mtime: 1, vague: true}})
	m.close()
	m.budget = 2 << 20
	m.open()
	m.origin.wrap = func(ctx context.Context, _ string, r io.Reader) io.Reader { return &hanging{ctx, r, arriveBlock + 5} }
	_, err := m.pull(PullOptions{})
	if full := (*store.BudgetError)(nil); !errors.As(err, &full) {
		t.Fatalf("%v, want a *store.BudgetError", err)
	}
	m.close()
	m.budget, m.origin.wrap = 0, nil
	m.open()
	m.mustPull()
	m.wantOrigin()
}

// TestBlocksOfAFile pulls files that end just before, at and behind the ends of blocks, at once and after a cut anywhere near those.
func TestBlocksOfAFile(t *testing.T) {
	for _, c := range []struct {
		size, cut int
		vague     bool
	}{
		{arriveBlock - 1, 0, false}, {arriveBlock, 0, false}, {arriveBlock, 0, true}, {arriveBlock + 1, 0, true}, {arriveBlock, arriveBlock - 1, false},
		{arriveBlock + 1, arriveBlock, false}, {2*arriveBlock + 1, arriveBlock, true}, {2*arriveBlock + 1, arriveBlock + 1, false},
	} {
		m := newPuller(t, map[string]fakeFile{"a.iso": {text: string(random(2, c.size)), mtime: 1, vague: c.vague}})
		if c.cut > 0 {
			m.origin.cut["a.iso"] = c.cut
		}
		m.mustPull()
		m.wantOrigin()
		if t.Failed() {
			t.Fatalf("%+v", c)
		}
	}
}

// TestGrowsBehindItsEnd: a file that was one chunk, whose hash was taken for that of the file, turns out to be longer when its connection is
// made anew, and nobody says that it has changed.
func TestGrowsBehindItsEnd(t *testing.T) {
	const before, after = "all of it", "all of it, and more"
	m := newPuller(t, map[string]fakeFile{"log": {text: before, mtime: 1, vague: true}})
	m.origin.lost["log"] = true
	m.origin.onOpen = func(_ string, n int) error {
		if n == 1 {
			m.origin.files["log"] = fakeFile{text: before, lie: after, mtime: 1, vague: true}
		}
		return nil
	}
	m.mustPull()
	if got, want := m.origin.opened(), []string{"log@0", "log@0", fmt.Sprintf("log@%d", len(before))}; !slices.Equal(got, want) {
		t.Errorf("opened %v, want %v", got, want)
	}
	m.origin.edit(func() { m.origin.files["log"] = fakeFile{text: after, mtime: 1, vague: true} })
	m.wantOrigin()
}
