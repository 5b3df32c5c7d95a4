//go:build unix

package publish

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"swarmnode/content"
	"swarmnode/gossip/trust"
)

// TestTargets: what stock TUF clients verify goes along with the tree.
func TestTargets(t *testing.T) {
	m := newMaster(t)
	if m.pub.heavy != HeavySize {
		t.Errorf("heavy from %d bytes on", m.pub.heavy)
	}
	const size = 3 << 20 // so that the test takes no minute
	m.pub.heavy = size
	heavy := func(name string, size int) {
		t.Helper()
		m.write(map[string]string{name: string(random(1, size))})
	}
	m.write(map[string]string{"small": "x", "link.img.xz": "-> iso/a.img.xz"})
	heavy("iso/a.img.xz", size)
	heavy("almost.img.xz", size-1)
	check := func(heavy ...string) {
		t.Helper()
		m.publish()
		m.check()
		m.wantTargets(heavy...)
	}
	check("iso/a.img.xz")
	m.write(map[string]string{"small": "x", "new": "y"})
	check("iso/a.img.xz") // it has not changed, and still is a target
	heavy("iso/b.img.xz", size+1)
	check("iso/a.img.xz", "iso/b.img.xz")
	m.remove("iso/a.img.xz")
	check("iso/b.img.xz")
}

// wantTargets has a client look which of the files that the tests have are signed by themselves, and want those.
func (m *master) wantTargets(heavy ...string) {
	t := m.t
	t.Helper()
	names := []string{trust.SumsTarget}
	for _, h := range heavy {
		names = append(names, trust.TreeTarget+h)
	}
	var got []string
	for _, name := range []string{trust.SumsTarget, "tree/iso/a.img.xz", "tree/iso/b.img.xz", "tree/almost.img.xz", "tree/small", "tree/link.img.xz"} {
		client := filepath.Join(t.TempDir(), "client")
		root, err := m.signer.File("1.root.json")
		if err == nil {
			err = trust.InitClient(client, root)
		}
		if err != nil {
			t.Fatal(err)
		}
		c, err := trust.OpenClient(client, m.now, m.signer.Source)
		if err == nil {
			err = c.Refresh(context.Background())
		}
		if err != nil {
			t.Fatal(err)
		}
		target, err := c.Target(context.Background(), name)
		if err != nil {
			continue
		}
		got = append(got, target.Path)
		if name != trust.SumsTarget {
			if e := m.entry(name[len(trust.TreeTarget):]); target.Length != int64(e.Size) || !bytes.Contains([]byte(target.Names()[0]), []byte(e.SHA256.String())) {
				t.Errorf("%s is signed as %+v", name, target)
			}
			continue
		}
		sums, err := m.manifest().Sums(m.pack)
		if err != nil || target.Check(sums) != nil || !bytes.Contains(sums, []byte(content.Sum([]byte("x")).String()+"  small\n")) {
			t.Errorf("SHA256SUMS: %v, %v\n%s", err, target.Check(sums), sums)
		}
	}
	if diff := cmp.Diff(names, got); diff != "" {
		t.Errorf("release %d: targets (-want +got):\n%s", m.manifest().Release, diff)
	}
}

// TestTargetsOfAnOrigin: a file is vouched for by itself whether or not a listing tells how large it is, also in the releases after
// that in which it came; one that is listed as large and cannot be read stops nothing.
func TestTargetsOfAnOrigin(t *testing.T) {
	const size = 3 << 20
	m := newPuller(t, map[string]fakeFile{"small": {text: "x", mtime: 1, vague: true}, "iso/a.img.xz": {text: string(random(1, size)), mtime: 1, vague: true},
		"iso/b.img.xz": {text: string(random(1, size)), mtime: 1}, "almost.img.xz": {text: string(random(1, size-1)), mtime: 1, vague: true},
		"secret.img.xz": {text: string(random(2, size)), mtime: 1}})
	m.pub.heavy = size
	m.origin.onOpen = func(path string, _ int) error { return errIf(path == "secret.img.xz", os.ErrPermission) }
	check := func(heavy ...string) {
		t.Helper()
		m.mustPull()
		m.wantTargets(heavy...)
	}
	check("iso/a.img.xz", "iso/b.img.xz")
	for i := range 2 {
		m.origin.edit(func() { m.origin.put("small", fakeFile{text: "x", mtime: int64(2 + i)}) })
		m.close()
		m.open()
		m.pub.heavy = size
		check("iso/a.img.xz", "iso/b.img.xz")
	}
	m.origin.edit(func() { m.origin.put("iso/a.img.xz", fakeFile{text: "short now", mtime: 2, vague: true}) })
	check("iso/b.img.xz")
	m.origin.edit(func() { m.origin.put("almost.img.xz", fakeFile{text: string(random(3, size)), mtime: 2, vague: true}) })
	check("iso/b.img.xz", "almost.img.xz")
}
