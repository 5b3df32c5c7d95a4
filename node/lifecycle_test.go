package node

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"swarmnode/content"
	"swarmnode/node/control"
)

// tree makes a small tree with one file that says what.
func tree(t *testing.T, what string) string {
	t.Helper()
	dir := t.TempDir()
	write(t, dir, "file", what)
	return dir
}

func write(t *testing.T, dir, name, what string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(what), 0o644); err != nil {
		t.Fatal(err)
	}
}

func (x *testNode) publishAs(req control.PublishRequest) (control.PublishResult, error) {
	return x.Publish(context.Background(), req, func(control.PublishProgress) {})
}

// hang is how long tests wait for what should come: none says how fast it is, and beside others under the race detector all takes ten
// times as long.
const hang = 3 * time.Minute

// within waits for something to become true.
func within(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(hang); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", hang, what)
		}
	}
}

// TestTwoCollections: a node follows two, joined at the same time by several callers as `join` with several addresses does,
// and tells how much of the disk both take.
func TestTwoCollections(t *testing.T) {
	t.Parallel()
	master := startNode(t, "master", t.TempDir())
	var ids []content.ID
	for _, name := range []string{"one", "two"} {
		res, err := master.publishAs(control.PublishRequest{Dir: tree(t, name), Name: name})
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, res.ID)
	}
	mirror := startNode(t, "mirror", t.TempDir())
	var joins sync.WaitGroup
	for i := range 6 {
		joins.Go(func() {
			want := ids
			if i%2 == 0 {
				want = nil
			}
			if got, err := mirror.Join(t.Context(), master.Addrs()[0], want); err != nil || len(got) != 2 {
				t.Errorf("join %d: %v, %v", i, got, err)
			}
		})
	}
	joins.Wait()
	for _, id := range ids {
		waitFor(t, id, 1, mirror)
	}
	for _, c := range mirror.Status().Collections {
		if c.BytesOnDisk < 3 || c.BytesOnDisk > 1<<20 {
			t.Errorf("%s takes %d bytes", c.Name, c.BytesOnDisk)
		}
	}
	if got := mirror.usedByOthers(nil); got <= 0 {
		t.Errorf("all take %d bytes", got)
	}
	// The master counts the mirror although the first record was sent before anybody was there to hear it.
	within(t, "mirrors told of", func() bool {
		return master.find(t, "one").Mirrors == 1 && master.find(t, "two").Mirrors == 1
	})
	if _, err := master.Join(t.Context(), mirror.Addrs()[0], ids[:1]); err == nil || !strings.Contains(err.Error(), "published from this home") {
		t.Errorf("join of what is published here: %v", err)
	}
}

// TestPublishedDirectoryMissing: the node runs and publishes other things, and the collection comes back with its directory.
func TestPublishedDirectoryMissing(t *testing.T) {
	t.Parallel()
	home, dir := t.TempDir(), tree(t, "one")
	master := startNode(t, "master", home)
	first := master.publish(t, dir)
	master.halt()
	away := dir + ".away"
	if err := os.Rename(dir, away); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(home, collectionsDir), "a stray file", "")
	master = startNode(t, "master", home)
	if st := master.Status(); st.Fine || !strings.HasPrefix(st.Verdict, "broken: collection test cannot be opened") || len(st.Collections) != 0 {
		t.Errorf("status: %+v", st)
	}
	other := tree(t, "two")
	if res, err := master.publishAs(control.PublishRequest{Dir: other, Name: "other"}); err != nil || res.Release != 1 {
		t.Errorf("publish of something else: %+v, %v", res, err)
	}
	if _, err := master.publishAs(control.PublishRequest{Dir: other, Name: "test"}); err == nil || !strings.Contains(err.Error(), "--move") {
		t.Errorf("publish of another directory under the name: %v", err)
	}
	if _, err := master.Join(t.Context(), "", []content.ID{first.ID}); err == nil || !strings.Contains(err.Error(), "cannot be opened") {
		t.Errorf("join of a broken collection that is published here: %v", err)
	}
	master.openReturned()
	if len(master.Status().Collections) != 1 {
		t.Errorf("opened without its directory: %+v", master.Status())
	}
	if err := os.Rename(away, dir); err != nil {
		t.Fatal(err)
	}
	master.openReturned()
	if c := master.find(t, "test"); c.Release != 1 || c.ID != first.ID || c.Source != dir {
		t.Errorf("after it came back: %+v", c)
	}
	if st := master.Status(); !st.Fine {
		t.Errorf("status: %s", st.Verdict)
	}
}

// TestMoveWhileMirrored: a collection that is opened anew under running mirrors goes on to be followed.
func TestMoveWhileMirrored(t *testing.T) {
	t.Parallel()
	master := startNode(t, "master", t.TempDir())
	first := master.publish(t, tree(t, "one"))
	mirror := startNode(t, "mirror", t.TempDir())
	if _, err := mirror.Join(t.Context(), master.Addrs()[0], nil); err != nil {
		t.Fatal(err)
	}
	waitFor(t, first.ID, 1, mirror)
	res, err := master.publishAs(control.PublishRequest{Dir: tree(t, "two"), Name: "test", Move: true})
	if err != nil || res.Release != 2 || res.ID != first.ID {
		t.Fatalf("--move: %+v, %v", res, err)
	}
	waitFor(t, first.ID, 2, mirror)
}

// TestStopDuringPublish: the end of the node ends a publish, and nothing that was begun is used after it is closed.
func TestStopDuringPublish(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	dir := t.TempDir()
	writeTree(t, dir, 9)
	master := startNode(t, "master", home)
	var once sync.Once
	halted := make(chan struct{})
	_, err := master.Publish(t.Context(), control.PublishRequest{Dir: dir, Name: "test"}, func(control.PublishProgress) {
		once.Do(func() {
			master.stop()
			go func() {
				master.halt()
				close(halted)
			}()
		})
	})
	<-halted
	if err != nil && !errors.Is(err, errStopping) {
		t.Errorf("publish: %v", err)
	}
	if _, err := master.publishAs(control.PublishRequest{Dir: dir, Name: "test"}); !errors.Is(err, errStopping) {
		t.Errorf("publish after the end: %v", err)
	}
	if _, err := master.Join(t.Context(), "", []content.ID{{1}}); !errors.Is(err, errStopping) {
		t.Errorf("join after the end: %v", err)
	}
	if err := master.Close(); err != nil {
		t.Errorf("second close: %v", err)
	}
	master = startNode(t, "master", home)
	if res := master.publish(t, dir); res.Release != 1 {
		t.Errorf("publish after that: %+v", res)
	}
}

func TestCloseWithoutRun(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	for range 2 {
		n, err := Open(t.Context(), Config{Home: home, Listen: []string{"/ip4/127.0.0.1/tcp/0"}})
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := n.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := n.Join(t.Context(), "", []content.ID{{1}}); !errors.Is(err, errStopping) {
			t.Errorf("join of a closed node: %v", err)
		}
	}
	if _, err := Open(t.Context(), Config{Home: home, Listen: []string{"nonsense"}}); err == nil {
		t.Fatal("a node listens on nonsense")
	}
	n, err := Open(t.Context(), Config{Home: home, Listen: []string{"/ip4/127.0.0.1/tcp/0"}}) // the lock was given back
	if err != nil {
		t.Fatal(err)
	}
	n.Close()
}

// TestBrokenRecords: what is wrong with one collection on disk is told and harms no other.
func TestBrokenRecords(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	id := content.ID{7}
	dir := filepath.Join(home, collectionsDir, id.String())
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, dir, recordFile, "{")
	x := startNode(t, "x", home)
	if st := x.Status(); !strings.Contains(st.Verdict, "broken: collection "+id.String()) {
		t.Errorf("status: %s", st.Verdict)
	}
	if _, err := x.Join(t.Context(), "", []content.ID{id}); err == nil {
		t.Error("the record of a broken collection was replaced")
	}
	if _, err := x.Join(t.Context(), "", []content.ID{{8}}); err != nil {
		t.Errorf("another one: %v", err)
	}
}

// TestPause: a mirror whose operator has paused serving gives nothing to others, who hear at once when that is over; one whose operator
// has paused fetching takes nothing, also after a restart.
func TestPause(t *testing.T) {
	t.Parallel()
	master := startNode(t, "master", t.TempDir())
	if _, err := master.Pause(control.PauseRequest{Collection: "test"}); err == nil || !strings.Contains(err.Error(), "no collection test is here") {
		t.Errorf("pause of what is not here: %v", err)
	}
	first := master.publish(t, tree(t, "one"))
	pause := func(x *testNode, req control.PauseRequest) {
		t.Helper()
		if list, err := x.Pause(req); err != nil || len(list) != 1 || list[0].Paused != req.Paused {
			t.Fatalf("%+v: %+v, %v", req, list, err)
		}
	}
	pause(master, control.PauseRequest{Paused: control.Paused{Serving: true}})
	home := t.TempDir()
	mirror := startNode(t, "mirror", home)
	if _, err := mirror.Join(t.Context(), master.Addrs()[0], nil); err != nil {
		t.Fatal(err)
	}
	within(t, "the paused one is listened to, and knows of a release", func() bool {
		c := mirror.Status().Collections
		return len(c) == 1 && c[0].Holders == 1 && c[0].Head == 1
	})
	if c := mirror.Status().Collections[0]; c.Release != 0 || c.ReceivedBytes != 0 {
		t.Errorf("from a master that serves nothing came %+v", c)
	}
	pause(mirror, control.PauseRequest{Collection: first.ID.String(), Paused: control.Paused{Fetching: true}})
	pause(master, control.PauseRequest{Resume: true})
	mirror.halt()
	mirror = startNode(t, "mirror", home)
	within(t, "the master is connected again", func() bool { return mirror.Status().Collections[0].Holders == 1 })
	st := mirror.Status()
	if c := st.Collections[0]; c.Release != 0 || c.ReceivedBytes != 0 || st.Fine || !strings.HasPrefix(st.Verdict, "paused: nothing of ") {
		t.Errorf("a mirror that fetches nothing after a restart: %+v", st)
	}
	pause(mirror, control.PauseRequest{Resume: true})
	waitFor(t, first.ID, 1, mirror)
}
