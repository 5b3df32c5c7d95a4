package node

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"swarmnode/content"
	"swarmnode/content/origin"
	"swarmnode/content/store"
	"swarmnode/node/control"
)

// randomText is text of n bytes that is another one for each seed.
func randomText(seed byte, n int) string {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(b)
	return string(b)
}

// followed is a directory of one file that is followed as an origin.
func followed(t *testing.T, name string, seed byte, size int) control.PublishRequest {
	t.Helper()
	dir := t.TempDir()
	put(t, filepath.Join(dir, "image.iso"), randomText(seed, size))
	return control.PublishRequest{Name: name, From: &control.From{URL: "file://" + dir}}
}

// TestDiskIsForAllOrigins: what one origin takes is not there for another one.
func TestDiskIsForAllOrigins(t *testing.T) {
	t.Parallel()
	x := startWith(t, "master", Config{Home: t.TempDir(), Disk: 12 << 20})
	publishes(t, x, followed(t, "one", 1, 7<<20))
	var full *store.BudgetError
	_, err := x.Publish(t.Context(), followed(t, "two", 2, 7<<20), func(control.PublishProgress) {})
	if !errors.As(err, &full) || full.Need != 7<<20 || full.Free >= 5<<20 {
		t.Errorf("both do not fit: %v", err)
	}
	x.measureRest()
	one := x.publishedCollection("one")
	if used := x.usedByOthers(nil); used < 7<<20 || used > 8<<20 || x.rest.bytes.Load() > 2<<20 || one.used() < 7<<20 {
		t.Errorf("%d bytes are counted for all, %d for one, %d for the rest; want each once", used, one.used(), x.rest.bytes.Load())
	}
}

func (x *testNode) publishedCollection(name string) *collection {
	c, _, _ := x.publishedAs(name)
	return c
}

// TestOriginIsOpenAsLongAsItIsUsed: a run that ends leaves it to the one that began meanwhile, such as a `publish --prepare`.
func TestOriginIsOpenAsLongAsItIsUsed(t *testing.T) {
	dir := t.TempDir()
	l := &lateOrigin{url: dir, options: origin.Options{Log: testLog(t, "origin")}}
	first, second := l.use(), l.use()
	opened, err := l.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	first()
	if again, err := l.open(t.Context()); err != nil || again != opened {
		t.Errorf("one of two has ended: %v, want it as it was", err)
	}
	second()
	if l.o != nil {
		t.Error("it is still open")
	}
}

// TestDamagedArrivalsComeBack: content from an origin that is damaged on the publisher's disk comes from a mirror that has it, and
// without one from the origin, within the next run; what the origin has another version of is in a new release.
func TestDamagedArrivalsComeBack(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	text := randomText(1, 5<<20)
	put(t, filepath.Join(s.dir, "image.iso"), text)
	master := startWith(t, "master", Config{Home: t.TempDir(), Web: Web{Gateway: &GatewayConfig{Listen: "127.0.0.1:0"}}})
	id := publishes(t, master, s.from("site")).ID
	mirror := startWith(t, "mirror", Config{Home: t.TempDir(), Bootstrap: master.Addrs()})
	if _, err := mirror.Add(t.Context(), control.AddRequest{ID: id, Bootstrap: master.Addrs()}); err != nil {
		t.Fatal(err)
	}
	within(t, "the mirror", func() bool { return mirror.Status().Collections[0].Complete })
	segment := filepath.Join(master.collection(id).dir, arrivalsDir, store.ArrivalFile(0))
	damage := func() {
		t.Helper()
		f, err := os.OpenFile(segment, os.O_WRONLY, 0)
		if err == nil {
			_, err = f.WriteAt(make([]byte, 3<<20), 1<<20)
			err = errors.Join(err, f.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
		before := master.find(t, "site").Scrub
		master.Scrub(0)
		within(t, "all of the damage", func() bool {
			s := master.find(t, "site").Scrub
			return !s.Running && s.Passes > before.Passes && s.Bad > before.Bad
		})
		if c := master.find(t, "site"); !strings.Contains(c.Trouble, "publish --now site") || c.Complete {
			t.Errorf("status of a damaged collection: %+v", c)
		}
	}
	run := func() control.PublishResult {
		t.Helper()
		res, err := master.PublishNow(t.Context(), control.NowRequest{Collection: "site"}, func(control.PublishProgress) {})
		if err != nil {
			t.Fatal(err)
		}
		if c := master.find(t, "site"); c.Trouble != "" || !c.Complete {
			t.Errorf("status afterwards: %+v", c)
		}
		return res
	}
	gives := func(want string) {
		t.Helper()
		if got := string(master.ask(t, "GET", "/site/image.iso").body); got != want {
			t.Errorf("%d bytes are served that are not the %d wanted: %x", len(got), len(want), content.Sum([]byte(got)))
		}
	}
	damage()
	if res := run(); !res.Unchanged || res.Pulled.Files != 0 || res.Pulled.Bytes != 0 {
		t.Errorf("with a mirror: %+v; want nothing from the origin", res.Pulled)
	}
	gives(text)
	mirror.halt()
	within(t, "the mirror gone", func() bool { return len(master.connected()) == 0 })
	damage()
	if res := run(); !res.Unchanged || res.Pulled.Files != 1 || res.Pulled.Bytes > 5<<20 {
		t.Errorf("without a mirror: %+v", res.Pulled)
	}
	gives(text)
	damage()
	text = randomText(2, 2<<20) + text[2<<20:]
	put(t, filepath.Join(s.dir, "image.iso"), text)
	if res := run(); res.Release != 2 {
		t.Errorf("with another version at the origin: %+v", res)
	}
	gives(text)
}
