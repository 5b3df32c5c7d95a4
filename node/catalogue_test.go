package node

import (
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"
)

// TestCatalogue: nothing is made anew as long as nothing changes, a release stays the same one in every picture, and what is said of
// freshness is what was signed.
func TestCatalogue(t *testing.T) {
	t.Parallel()
	tree := t.TempDir()
	writeTree(t, tree, 13)
	var ahead atomic.Int64
	master := startWith(t, "master", Config{Home: t.TempDir(), Now: func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }})
	k := &master.web.catalogue
	if list := k.Collections(); len(list) != 0 {
		t.Errorf("%d collections before anything is published", len(list))
	}
	master.publish(t, tree)
	signer := master.all()[0].master.signer
	look := func(release uint64, kept int) {
		t.Helper()
		list, head := k.Collections(), signer.Head()
		if len(list) != 1 || list[0].Name != "test" || list[0].Served == nil || list[0].Served.Manifest.Release != release || len(list[0].Kept) != kept {
			t.Fatalf("%+v", list)
		}
		if c := list[0]; c.Newest != release || !c.Expires.Equal(head.Expires) || !c.Fresh.Equal(head.Signed) {
			t.Errorf("newest %d, fresh %s, expires %s; signed was %+v", c.Newest, c.Fresh, c.Expires, head)
		}
	}
	look(1, 0)
	first := k.Collections()[0]
	if k.Collections()[0] != first {
		t.Error("a picture is made again though nothing has changed")
	}
	k.touch()
	if again := k.Collections()[0]; again == first || again.Served != first.Served {
		t.Errorf("after a change: the same picture: %v, the same release: %v", again == first, again.Served == first.Served)
	}
	ahead.Store(int64(time.Hour))
	if err := master.beat(t.Context(), master.all()[0]); err != nil {
		t.Fatal(err)
	}
	if look(1, 0); !k.Collections()[0].Fresh.After(first.Fresh) {
		t.Error("a heartbeat makes nothing fresher")
	}
	if err := os.WriteFile(filepath.Join(tree, "new"), []byte("new"), 0o644); err != nil {
		t.Fatal(err)
	}
	master.publish(t, tree)
	if look(2, 1); k.Collections()[0].Kept[0] != first.Served {
		t.Error("the release that was served before is not the one that is kept")
	}
	if err := master.all()[0].master.publisher.Clean(time.Now().Add(48*time.Hour), 24*time.Hour); err != nil {
		t.Fatal(err)
	}
	k.touch()
	look(2, 0)
}

// TestCatalogueWhileMade: what was before a change is not given any more, also while somebody is making the picture that shows it.
func TestCatalogueWhileMade(t *testing.T) {
	k := catalogue{}
	look := func() {}
	k.collections = func() []*collection { look(); return nil }
	k.Collections()
	if k.current() == nil {
		t.Fatal("no picture was made")
	}
	k.touch()
	made := false
	look = func() {
		made = true
		if k.current() != nil {
			t.Error("the picture of before the change is given")
		}
		look = k.touch
	}
	k.Collections()
	if !made || k.current() == nil {
		t.Errorf("after the change: made %v, current %v", made, k.current())
	}
	k.touch()
	k.Collections()
	if k.current() != nil {
		t.Error("a change while the picture was made is not seen")
	}
}
