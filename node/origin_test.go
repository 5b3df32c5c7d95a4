package node

import (
	"errors"
	"math/rand/v2"
	"path/filepath"
	"testing"

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
