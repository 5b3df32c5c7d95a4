package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"swarmnode/content"
	"swarmnode/node/control"
)

// testNode is a node that runs on loopback for a test.
type testNode struct {
	*Node
	home string
	stop context.CancelFunc
	done chan error
}

func testLog(t *testing.T, name string) *slog.Logger {
	if os.Getenv("SWARMNODE_TESTLOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})).With("node", name)
}

func startNode(t *testing.T, name, home string, bootstrap ...string) *testNode {
	t.Helper()
	return startWith(t, name, Config{Home: home, Bootstrap: bootstrap})
}

// startWith runs a node on loopback with a configuration.
func startWith(t *testing.T, name string, cfg Config) *testNode {
	t.Helper()
	cfg.Listen, cfg.Log = []string{"/ip4/127.0.0.1/tcp/0"}, testLog(t, name)
	n, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	x := &testNode{Node: n, home: cfg.Home, stop: stop, done: make(chan error, 1)}
	go func() { x.done <- n.Run(ctx) }()
	t.Cleanup(x.halt)
	return x
}

// halt stops the node; a second call does nothing.
func (x *testNode) halt() {
	x.stop()
	if err, ok := <-x.done; ok {
		if err != nil {
			panic(fmt.Sprintf("node in %s: %v", x.home, err))
		}
		close(x.done)
	}
}

func (x *testNode) publish(t *testing.T, dir string) control.PublishResult {
	t.Helper()
	res, err := x.Publish(t.Context(), control.PublishRequest{Dir: dir, Name: "test"}, func(control.PublishProgress) {})
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// waitFor polls until the mirrors serve a release of the collection.
func waitFor(t *testing.T, id content.ID, release uint64, nodes ...*testNode) {
	t.Helper()
	deadline := time.Now().Add(hang)
	for _, x := range nodes {
		for {
			st := x.Status()
			i := 0
			for i < len(st.Collections) && st.Collections[i].ID != id {
				i++
			}
			if i < len(st.Collections) && st.Collections[i].Release == release && st.Collections[i].Complete {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s does not serve release %d: %+v", x.home, release, st)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
}

// writeTree makes a tree with a bit of everything.
func writeTree(t *testing.T, dir string, seed uint64) {
	t.Helper()
	r := rand.NewChaCha8([32]byte{byte(seed)})
	write := func(name string, size int) {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		data := make([]byte, size)
		r.Read(data)
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 60 {
		write(fmt.Sprintf("pool/%c/pkg-%d.deb", 'a'+i%7, i), 1000+i*937)
	}
	write("image.iso", 5<<20)
	write("odd names/a b%20é+~.txt", 10)
	write("empty", 0)
	write("xt_MARK.h", 5)
	write("xt_mark.h", 6)
	if err := os.MkdirAll(filepath.Join(dir, "nothing in here"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("pool/a", filepath.Join(dir, "latest")); err != nil {
		t.Fatal(err)
	}
}

// sameTree fails if two directories differ in names, content, kinds or permissions.
func sameTree(t *testing.T, want, got string) {
	t.Helper()
	a, b := readTree(t, want), readTree(t, got)
	for p, x := range a {
		if y, ok := b[p]; !ok || !bytes.Equal(x, y) {
			t.Errorf("%s: differs or is missing in %s", p, got)
		}
	}
	for p := range b {
		if _, ok := a[p]; !ok {
			t.Errorf("%s: only in %s", p, got)
		}
	}
}

func readTree(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	m := map[string][]byte{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		key := fmt.Sprintf("%s %s", info.Mode(), rel)
		switch {
		case d.Type()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			m[key] = []byte(target)
			return err
		case d.IsDir():
			m[key] = nil
			return nil
		}
		m[key], err = os.ReadFile(path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func get(t *testing.T, id content.ID, path, dir, from string) (GetResult, error) {
	t.Helper()
	c, err := OpenClient(t.Context(), ClientConfig{Home: t.TempDir(), Bootstrap: []string{from}, Log: testLog(t, "client")})
	if err != nil {
		return GetResult{}, err
	}
	defer c.Close()
	r, err := c.Release(t.Context(), id)
	if err != nil {
		return GetResult{}, err
	}
	defer r.Close()
	return r.Get(t.Context(), path, dir, func(Progress) {})
}

// TestFirstJourney: a release travels from a master to mirrors, the next one too with only what is new, and both the mirrors and a
// late joiner serve it byte for byte when the master is gone.
func TestFirstJourney(t *testing.T) {
	t.Parallel()
	tree := t.TempDir()
	writeTree(t, tree, 1)
	master := startNode(t, "master", t.TempDir())
	first := master.publish(t, tree)
	if first.Release != 1 || first.Files != 65 {
		t.Fatalf("first release: %+v", first)
	}
	var mirrors []*testNode
	for i := range 3 {
		m := startNode(t, fmt.Sprint("mirror", i), t.TempDir(), master.Addrs()[0])
		ids, err := m.Join(t.Context(), master.Addrs()[0], nil)
		if err != nil || len(ids) != 1 || ids[0] != first.ID {
			t.Fatalf("join: %v, %v", ids, err)
		}
		mirrors = append(mirrors, m)
	}
	waitFor(t, first.ID, 1, mirrors...)

	if err := os.WriteFile(filepath.Join(tree, "pool/a/new.deb"), bytes.Repeat([]byte("new"), 1000), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(tree, "pool/b/pkg-1.deb")); err != nil {
		t.Fatal(err)
	}
	second := master.publish(t, tree)
	if second.Release != 2 || second.NewBytes != 3000 {
		t.Fatalf("second release: %+v", second)
	}
	if again := master.publish(t, tree); !again.Unchanged || again.Release != 2 {
		t.Fatalf("nothing changed, yet: %+v", again)
	}
	waitFor(t, first.ID, 2, mirrors...)
	master.halt()

	late := startNode(t, "late", t.TempDir(), mirrors[0].Addrs()[0])
	if _, err := late.Join(t.Context(), mirrors[0].Addrs()[0], nil); !errors.Is(err, ErrNothingPublished) {
		t.Errorf("join of a mirror without a collection: %v", err)
	}
	if _, err := late.Join(t.Context(), mirrors[0].Addrs()[0], []content.ID{first.ID}); err != nil {
		t.Fatal(err)
	}
	waitFor(t, first.ID, 2, late)
	for _, m := range mirrors {
		m.halt()
	}
	out := t.TempDir()
	res, err := get(t, first.ID, "", out, late.Addrs()[0])
	if err != nil {
		t.Fatal(err)
	}
	sameTree(t, tree, out)
	if res.Files != 65 {
		t.Errorf("get: %+v", res)
	}
	one := t.TempDir()
	if _, err := get(t, first.ID, "odd names/a b%20é+~.txt", one, late.Addrs()[0]); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(one, "a b%20é+~.txt")); err != nil {
		t.Error(err)
	}
	if _, err := get(t, first.ID, "no/such", t.TempDir(), late.Addrs()[0]); !errors.Is(err, content.ErrNoEntry) {
		t.Errorf("get of a path that is not there: %v", err)
	}
}

// TestRestart: master and mirror keep identity, numbers and content; the mirror fetches nothing again.
func TestRestart(t *testing.T) {
	t.Parallel()
	tree, mhome, rhome := t.TempDir(), t.TempDir(), t.TempDir()
	writeTree(t, tree, 2)
	master := startNode(t, "master", mhome)
	first := master.publish(t, tree)
	mirror := startNode(t, "mirror", rhome)
	if _, err := mirror.Join(t.Context(), master.Addrs()[0], nil); err != nil {
		t.Fatal(err)
	}
	waitFor(t, first.ID, 1, mirror)
	mid, rid := master.ID(), mirror.ID()
	master.halt()
	mirror.halt()

	master, mirror = startNode(t, "master", mhome), startNode(t, "mirror", rhome)
	if master.ID() != mid || mirror.ID() != rid {
		t.Error("a peer ID has changed over a restart")
	}
	waitFor(t, first.ID, 1, mirror)
	st := mirror.Status().Collections[0]
	if st.ReceivedBytes != 0 || st.Name != "test" {
		t.Errorf("after a restart: %+v", st)
	}
	if res := master.publish(t, tree); !res.Unchanged || res.ID != first.ID {
		t.Errorf("publish after a restart: %+v", res)
	}
	if _, err := Open(t.Context(), Config{Home: rhome}); !errors.Is(err, ErrHomeBusy) {
		t.Errorf("a second node in one home: %v", err)
	}
}

// TestOldStateDoesNotFork: a copy of the master's home from before a release must not sign another release of that number.
func TestOldStateDoesNotFork(t *testing.T) {
	t.Parallel()
	tree, home := t.TempDir(), t.TempDir()
	writeTree(t, tree, 3)
	master := startNode(t, "master", home)
	first := master.publish(t, tree)
	mirror := startNode(t, "mirror", t.TempDir())
	if _, err := mirror.Join(t.Context(), master.Addrs()[0], nil); err != nil {
		t.Fatal(err)
	}
	waitFor(t, first.ID, 1, mirror)
	master.halt()
	old := t.TempDir()
	for _, copied := range []string{"0", "1"} {
		if err := os.CopyFS(filepath.Join(old, copied), os.DirFS(home)); err != nil { // which gives every file mode 0644
			t.Fatal(err)
		}
	}
	if err := filepath.WalkDir(old, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			err = os.Chmod(path, 0o600)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	master = startNode(t, "master", home, mirror.Addrs()[0])
	if err := os.WriteFile(filepath.Join(tree, "more"), []byte("more"), 0o644); err != nil {
		t.Fatal(err)
	}
	if res := master.publish(t, tree); res.Release != 2 {
		t.Fatalf("second release: %+v", res)
	}
	waitFor(t, first.ID, 2, mirror)
	master.halt()
	if err := os.WriteFile(filepath.Join(tree, "other"), []byte("other"), 0o644); err != nil {
		t.Fatal(err)
	}
	// Who was told of the mirror asks it first. Who was not may hear of it while the tree is read.
	for i, named := range [][]string{mirror.Addrs(), nil} {
		copied := filepath.Join(old, strconv.Itoa(i))
		if err := os.RemoveAll(filepath.Join(copied, peersFile)); err != nil {
			t.Fatal(err)
		}
		stale, met := startNode(t, "stale", copied, named...), false
		stale.patience = hang // what the mirror says is looked at here, not how soon
		_, err := stale.Publish(t.Context(), control.PublishRequest{Dir: tree, Name: "test"}, func(control.PublishProgress) {
			if !met && named == nil {
				met = true
				if _, err := stale.host.Connect(t.Context(), mirror.Addrs()[0]); err != nil {
					t.Error(err)
				}
			}
		})
		if err == nil || !strings.Contains(err.Error(), "release 2") {
			t.Errorf("a publisher with an old state, told of %s, signed: %v", named, err)
		}
		stale.halt()
	}
}

// TestPublishThroughSocket: a second process hands over to the running node.
func TestPublishThroughSocket(t *testing.T) {
	t.Parallel()
	tree := t.TempDir()
	writeTree(t, tree, 4)
	master := startNode(t, "master", t.TempDir())
	client := control.NewClient(master.home)
	var st control.Status
	for { // the socket comes up beside Run
		var err error
		if st, err = client.Status(t.Context()); err == nil {
			break
		} else if !errors.Is(err, control.ErrNoNode) {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Millisecond)
	}
	if st.ID != string(master.ID()) {
		t.Errorf("status of %s", st.ID)
	}
	var mu sync.Mutex
	calls := 0
	res, err := client.Publish(t.Context(), control.PublishRequest{Dir: tree, Name: "test"}, func(control.PublishProgress) {
		mu.Lock()
		defer mu.Unlock()
		calls++
	})
	if err != nil || res.Release != 1 || res.Bytes == 0 {
		t.Fatalf("publish through the socket: %+v, %v", res, err)
	}
	if _, err := client.Publish(t.Context(), control.PublishRequest{Dir: filepath.Join(tree, "nowhere")}, func(control.PublishProgress) {}); err == nil {
		t.Error("a directory that is not there was published")
	}
	other := t.TempDir()
	writeTree(t, other, 5)
	if _, err := client.Publish(t.Context(), control.PublishRequest{Dir: other, Name: "test"}, func(control.PublishProgress) {}); err == nil || !strings.Contains(err.Error(), "--move") {
		t.Errorf("another directory under the same name: %v", err)
	}
	moved, err := client.Publish(t.Context(), control.PublishRequest{Dir: other, Name: "test", Move: true}, func(control.PublishProgress) {})
	if err != nil || moved.Release != 2 || moved.ID != res.ID {
		t.Errorf("--move: %+v, %v", moved, err)
	}
}
