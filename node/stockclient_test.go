package node

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"swarmnode/content"
	"swarmnode/gossip/trust"
)

// TestStockClient: a TUF client that knows nothing of us follows a collection from release to release through a mirror's gateway, and
// has all files of the tree by the checksums that it verified.
func TestStockClient(t *testing.T) {
	t.Parallel()
	tree := t.TempDir()
	writeTree(t, tree, 9)
	master := startWith(t, "master", withGateway(Config{Home: t.TempDir()}))
	res := master.publish(t, tree)
	mirror := mirrorOf(t, master, Config{})
	state := filepath.Join(t.TempDir(), "state")
	// verified gives the checksums that a client with that state believes at a node.
	verified := func(x *testNode) string {
		t.Helper()
		source := func(_ context.Context, name string, _ int64) ([]byte, error) {
			a := x.ask(t, "GET", "/-/test/metadata/"+name)
			if a.StatusCode == 404 {
				return nil, fs.ErrNotExist
			}
			if a.StatusCode != 200 || a.err != nil {
				return nil, fmt.Errorf("%s: %s, %v", name, a.Status, a.err)
			}
			return a.body, nil
		}
		c, err := trust.OpenClient(state, time.Now(), source)
		if err == nil {
			err = c.Refresh(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
		target, err := c.Target(t.Context(), trust.SumsTarget)
		if err != nil {
			t.Fatal(err)
		}
		a := x.ask(t, "GET", "/-/test/targets/"+target.Names()[0])
		if err := target.Check(a.body); err != nil || a.StatusCode != 200 {
			t.Fatalf("checksums: %s, %v", a.Status, err)
		}
		return string(a.body)
	}
	first := mirror.ask(t, "GET", "/-/test/metadata/1.root.json")
	if content.NewID(first.body) != res.ID {
		t.Fatalf("the first root is not what the ID %s names", res.ID)
	}
	if err := trust.InitClient(state, first.body); err != nil {
		t.Fatal(err)
	}
	one := verified(mirror)
	if verified(master) != one {
		t.Error("the master says something else")
	}
	if err := os.WriteFile(filepath.Join(tree, "another"), []byte("file"), 0o644); err != nil {
		t.Fatal(err)
	}
	master.publish(t, tree)
	waitFor(t, res.ID, 2, mirror)
	master.halt()
	two := verified(mirror)
	if one == two {
		t.Error("the checksums are those of the first release")
	}
	lines := 0
	for key, data := range readTree(t, tree) {
		if mode, path, _ := strings.Cut(key, " "); mode[0] == '-' {
			lines++
			if !strings.Contains("\n"+two, "\n"+content.Sum(data).String()+"  "+path+"\n") {
				t.Errorf("no checksum of %q", path)
			}
		}
	}
	if got := bytes.Count([]byte(two), []byte("\n")); got != lines || lines == 0 {
		t.Errorf("%d checksums of %d files", got, lines)
	}
}
