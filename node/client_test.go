package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"swarmnode/content"
	"swarmnode/gossip"
)

func openClient(t *testing.T, home string, from ...string) *Client {
	t.Helper()
	c, err := OpenClient(t.Context(), ClientConfig{Home: home, Bootstrap: from, Log: testLog(t, "client")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func openRelease(t *testing.T, c *Client, id content.ID) *Release {
	t.Helper()
	r, err := c.Release(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// TestClientTwice: several releases at once of one home, and several gets of one release.
func TestClientTwice(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	writeTree(t, dir, 11)
	master := startNode(t, "master", t.TempDir())
	id := master.publish(t, dir).ID
	c := openClient(t, t.TempDir(), master.Addrs()...)
	var gets sync.WaitGroup
	for i := range 3 {
		gets.Go(func() {
			r, err := c.Release(t.Context(), id)
			if err != nil {
				t.Error(err)
				return
			}
			for j := range 2 {
				out := filepath.Join(t.TempDir(), fmt.Sprint(i, j))
				if _, err := r.Get(t.Context(), "pool", out, func(Progress) {}); err != nil {
					t.Errorf("get %d of release %d: %v", j, i, err)
				}
				ctx, cancel := context.WithCancel(t.Context())
				_, err := r.Get(ctx, "", filepath.Join(out, "all"), func(p Progress) {
					if p.Phase == []string{"metadata", "checking what is here", "fetching"}[i] {
						cancel() // Ctrl-C
					}
				})
				cancel()
				if err != nil && !errors.Is(err, context.Canceled) {
					t.Errorf("interrupted get: %v", err)
				}
			}
			for range 2 {
				if err := r.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	gets.Wait()
	if len(c.fetchers) != 0 {
		t.Errorf("%d fetchers are told of peers", len(c.fetchers))
	}
}

// TestClientRemembers: a client is not told an older release than one before it, also when another one runs in the home, or the
// home cannot be written.
func TestClientRemembers(t *testing.T) {
	t.Parallel()
	dir, home, chome := tree(t, "one"), t.TempDir(), t.TempDir()
	master := startNode(t, "master", home)
	id := master.publish(t, dir).ID
	master.halt()
	old := copyHome(t, home)
	master = startNode(t, "master", home)
	write(t, dir, "file", "two")
	master.publish(t, dir)
	first := openRelease(t, openClient(t, chome, master.Addrs()...), id)
	if first.Head.Release != 2 {
		t.Fatalf("release %d", first.Head.Release)
	}
	master.halt()
	lagging := startNode(t, "lagging", old)
	for _, what := range []string{"beside another", "after it", "unwritable"} {
		switch what {
		case "after it":
			first.Close()
		case "unwritable":
			trusted := filepath.Join(chome, clientsDir, id.String())
			if err := os.Remove(filepath.Join(trusted, "lock")); err != nil {
				t.Fatal(err)
			}
			if err := os.Mkdir(filepath.Join(trusted, "lock"), 0o700); err != nil { // stands for a file system that is read-only
				t.Fatal(err)
			}
		}
		c := openClient(t, chome, lagging.Addrs()...)
		c.cfg.Stall = 2 * time.Second // nobody has the metadata of release 2
		r, err := c.Release(t.Context(), id)
		if err == nil {
			if r.Head.Release != 2 {
				t.Errorf("%s: release %d after release 2", what, r.Head.Release)
			}
			r.Close()
		} else if !errors.Is(err, gossip.ErrRollback) && !strings.Contains(err.Error(), "metadata blocks") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestClientStalls: a get gives up when nobody who is left has anything.
func TestClientStalls(t *testing.T) {
	t.Parallel()
	dir := tree(t, "one")
	master := startNode(t, "master", t.TempDir())
	id := master.publish(t, dir).ID
	c := openClient(t, "", master.Addrs()...)
	r := openRelease(t, c, id)
	c.cfg.Stall = 2 * time.Second
	write(t, dir, "file", "changed") // so the published bytes are gone
	if _, err := r.Get(t.Context(), "", t.TempDir(), func(Progress) {}); err == nil || !strings.Contains(err.Error(), "nothing came for 2s") {
		t.Errorf("get of what is gone: %v", err)
	}
	within(t, "trouble told", func() bool { return strings.Contains(master.Status().Verdict, `"file" changed`) })
	master.halt()
	missing := content.Sum([]byte("nobody has this"))
	if err := r.fetchBlocks(t.Context(), []content.Digest{missing}); err == nil || !strings.Contains(err.Error(), "no node that has the collection") {
		t.Errorf("metadata of nobody: %v", err)
	}
}
