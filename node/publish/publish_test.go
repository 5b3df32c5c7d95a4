//go:build unix

package publish

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"swarmnode/content"
	"swarmnode/gossip"
)

func TestPublish(t *testing.T) {
	m := newMaster(t)
	big := random(1, 5<<20)
	m.write(map[string]string{"a/one": "1", "a/same": "1", "a/empty": "", "image.iso": string(big), "x.deb": string(random(2, 3<<20)), "link": "-> a/one", "d/": ""})
	var stages []string
	res, err := m.pub.Publish(context.Background(), m.now, Options{}, func(p Progress) {
		if !slices.Contains(stages, p.Stage) {
			stages = append(stages, p.Stage)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	m.check()
	if res.Release != 1 || res.Unchanged || res.Segments != 1 || res.NewBytes != 8<<20+1 || res.DeltaBytes != 0 || len(res.Bundle.Files) == 0 {
		t.Errorf("first release: %+v", res)
	}
	if want := []string{"scan", "hash", "tree", "sign"}; !slices.Equal(stages, want) {
		t.Errorf("stages %q, want %q", stages, want)
	}
	if res = m.publish(); !res.Unchanged || res.Release != 1 || res.Manifest != m.signer.Head().Manifest || len(res.Bundle.Files) != 0 {
		t.Errorf("nothing changed: %+v", res)
	}
	m.write(map[string]string{"image.iso": string(slices.Concat(big[:2<<20], []byte("inserted"), big[2<<20:])), "a/two": "2"})
	m.remove("x.deb")
	res = m.publish()
	m.check()
	if res.Release != 2 || res.NewBytes > 2<<20 || res.DeadBytes < 3<<20 || res.DeltaBytes == 0 || res.DeltaBytes > 4096 {
		t.Errorf("second release: %+v", res)
	}
	m.remove("a/one", "a/same", "a/two", "link", "image.iso")
	res = m.publish()
	m.check()
	if infos, err := content.LoadDirectory(m.manifest().Directory, m.pack); err != nil || !infos[0].Retired() || !infos[1].Retired() {
		t.Errorf("nothing is alive, but the segments are %+v (%v)", infos, err)
	}
	m.write(map[string]string{"a/one": "1"}) // its chunk died: it gets a new place
	res = m.publish()
	m.check()
	if e := m.entry("a/one"); res.NewChunks != 1 || e.Runs[0].Segment != 2 {
		t.Errorf("a dead chunk came back at %+v", e.Runs)
	}
}

func TestMtimeNeverGoesBack(t *testing.T) {
	m := newMaster(t)
	at := func(name, text string, mtime int64) {
		t.Helper()
		m.write(map[string]string{name: text})
		if err := os.Chtimes(filepath.Join(m.tree, name), time.Time{}, time.Unix(mtime, 5)); err != nil {
			t.Fatal(err)
		}
	}
	want := func(mtime int64, why string) {
		t.Helper()
		m.publish()
		m.check()
		if got := m.entry("f").Mtime; got != mtime {
			t.Errorf("%s: got %d, want %d", why, got, mtime)
		}
	}
	m.write(map[string]string{"other": "x"})
	at("f", "1", 1000)
	want(1000, "first")
	at("f", "2", 1000)
	want(1001, "other content at the same time")
	at("f", "2", 500)
	want(1001, "same content, older")
	at("f", "2", 3000)
	want(3000, "same content, younger")
	at("f", "3", 10)
	want(3001, "other content, older")
	m.remove("f")
	m.publish()
	at("f", "3", 20)
	want(3002, "deleted and back again, older")
	m.remove("f")
	m.write(map[string]string{"f/": ""})
	m.publish()
	m.remove("f")
	at("f", "4", 30)
	want(3003, "a directory in between")
}

// TestCrashPoints cuts a publish off at each point, reopens, changes the tree or not, and publishes again.
func TestCrashPoints(t *testing.T) {
	crash := errors.New("crash")
	for _, first := range []bool{true, false} {
		for _, point := range []string{"scanned", "segment", "hashed", "tree", "referred", "packed", "signed", "snapshot"} {
			for _, change := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s first=%v change=%v", point, first, change), func(t *testing.T) {
					t.Parallel()
					m := newMaster(t)
					m.write(map[string]string{"a": "1", "b/c": "2", "gone": "3"})
					release := uint64(1)
					if !first {
						m.publish()
						m.write(map[string]string{"b/c": "two", "new": "4"})
						m.remove("gone")
						release = 2
					}
					m.pub.crash = func(p string) error {
						if p == point {
							return crash
						}
						return nil
					}
					m.now = m.now.Add(time.Minute)
					_, err := m.pub.Publish(context.Background(), m.now, Options{}, nil)
					if (err == nil) != (point == "snapshot") || err != nil && !errors.Is(err, crash) {
						t.Fatalf("got %v, want the crash", err)
					}
					m.close()
					m.open()
					done := point == "signed" || point == "snapshot"
					if change {
						m.write(map[string]string{"a": "one", "more": "5"})
						if done {
							release++
						}
					}
					res := m.publish()
					m.check()
					if res.Release != release || res.Unchanged != (done && !change) {
						t.Errorf("release %d, unchanged %v; want %d, %v", res.Release, res.Unchanged, release, done && !change)
					}
					if res := m.publish(); !res.Unchanged {
						t.Errorf("publishing again: %+v, want nothing changed", res)
					}
				})
			}
		}
	}
}

func TestIndexIsRebuilt(t *testing.T) {
	m := newMaster(t)
	m.write(map[string]string{"a": "1", "b.iso": string(random(3, 3<<20))})
	m.publish()
	for _, half := range []bool{false, true} {
		m.close()
		if err := os.RemoveAll(filepath.Join(m.dir, "index")); err != nil {
			t.Fatal(err)
		}
		if half {
			if err := os.WriteFile(filepath.Join(m.dir, "publish", unfinishedName), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		m.open()
		if res := m.publish(); !res.Unchanged {
			t.Errorf("got %+v, want nothing changed", res)
		}
		m.check()
	}
	m.write(map[string]string{"copy": "1"})
	if res := m.publish(); res.NewChunks != 0 {
		t.Errorf("%d new chunks, want the known one to be found", res.NewChunks)
	}
	m.check()
}

func TestLostSnapshot(t *testing.T) {
	m := newMaster(t)
	m.write(map[string]string{"a": "1", "b/c": "2", "b/d": "3"})
	m.publish()
	m.remove("b/c")
	m.write(map[string]string{"a": "one"})
	if err := os.WriteFile(filepath.Join(m.dir, "publish", snapshotName), []byte("rubbish"), 0o600); err != nil {
		t.Fatal(err)
	}
	if res := m.publish(); res.Release != 2 || res.NewChunks != 1 {
		t.Errorf("got %+v, want release 2 with one new chunk", res)
	}
	m.check()
}

func TestPublishersExcludeEachOther(t *testing.T) {
	m := newMaster(t)
	if _, err := Open(m.pub.cfg); !errors.Is(err, ErrLocked) {
		t.Errorf("got %v, want %v", err, ErrLocked)
	}
	if err := m.pub.Close(); err != nil {
		t.Fatal(err)
	}
	var err error
	if m.pub, err = Open(m.pub.cfg); err != nil {
		t.Error(err)
	}
}

func TestPublishRefusals(t *testing.T) {
	m := newMaster(t)
	ctx := context.Background()
	if _, err := m.pub.Publish(ctx, m.now, Options{}, nil); !errors.Is(err, ErrEmpty) {
		t.Errorf("empty tree: got %v", err)
	}
	m.write(map[string]string{"good": "1", "bad\nname": "2"})
	var refused *ScanError
	if _, err := m.pub.Publish(ctx, m.now, Options{}, nil); !errors.As(err, &refused) {
		t.Errorf("bad name: got %v", err)
	}
	res, err := m.pub.Publish(ctx, m.now, Options{ScanOptions: ScanOptions{SkipBad: true}}, nil)
	if err != nil || len(res.Skipped) != 1 || res.Totals.Files != 1 {
		t.Errorf("with SkipBad: got %+v, %v", res, err)
	}
	m.close()
	defer m.open()
	if err := os.Remove(filepath.Join(m.dir, "pack")); err != nil {
		t.Fatal(err)
	}
	m.open()
	defer m.close()
	var missing *content.Missing
	if _, err := m.pub.Publish(ctx, m.now, Options{}, nil); !errors.As(err, &missing) {
		t.Errorf("lost pack: got %v, want a *content.Missing", err)
	}
}

func TestCheckExtends(t *testing.T) {
	id := content.ID{1}
	head := func(n uint64, d byte) gossip.Head {
		return gossip.Head{Collection: id, Name: "x", Release: n, Manifest: content.Digest{d}}
	}
	if err := CheckExtends(head(3, 1), []gossip.Head{head(2, 9), head(3, 1), {Collection: content.ID{2}, Release: 9}}); err != nil {
		t.Errorf("nothing newer: %v", err)
	}
	for _, h := range []gossip.Head{head(4, 1), head(3, 2)} {
		var ahead *AheadError
		if err := CheckExtends(head(3, 1), []gossip.Head{h}); !errors.As(err, &ahead) || !strings.Contains(err.Error(), fmt.Sprint(h.Release)) {
			t.Errorf("head %+v: got %v", h, err)
		}
	}
}

// TestRandomHistory makes releases of a tree that changes at random, with publishes cut off in between, and checks each.
func TestRandomHistory(t *testing.T) {
	for seed := range uint64(3) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			m, rng := newMaster(t), rand.New(rand.NewPCG(seed, 1))
			for range 8 {
				randomEdits(m, rng)
				if rng.IntN(3) == 0 {
					n := rng.IntN(6)
					m.pub.crash = func(string) error {
						if n--; n < 0 {
							return errors.New("crash")
						}
						return nil
					}
					m.now = m.now.Add(time.Minute)
					m.pub.Publish(context.Background(), m.now, Options{ScanOptions: ScanOptions{AllowEmpty: true}}, nil)
					m.close()
					m.open()
					randomEdits(m, rng)
				}
				m.publish()
				m.check()
			}
		})
	}
}

// randomEdits writes and removes a few of a small number of paths with few different contents.
func randomEdits(m *master, rng *rand.Rand) {
	for range 1 + rng.IntN(8) {
		name := fmt.Sprintf("%c/%c.%s", 'a'+rng.IntN(3), 'a'+rng.IntN(4), []string{"iso", "deb"}[rng.IntN(2)])
		switch rng.IntN(4) {
		case 0:
			m.remove(name)
		case 1:
			m.remove(name[:1])
		default:
			size := []int{0, 10, 5000, 2 << 20}[rng.IntN(4)]
			m.write(map[string]string{name: string(random(byte(rng.IntN(3)), size))})
		}
	}
}
