package content

import (
	"fmt"
	"strings"
	"testing"
)

func TestSums(t *testing.T) {
	blocks := Blocks{}
	m := model{}
	file := func(path, data string) {
		e := Entry{Path: path, Mode: ModeFile | 0o644, Size: uint64(len(data)), SHA256: Sum([]byte(data))}
		if data != "" {
			e.Runs = []Run{{Count: 1}}
		}
		m.add(e)
	}
	file("empty", "")
	m.add(Entry{Path: "dir", Mode: ModeDir | 0o755})
	file(`dir/back\slash`, "abc")
	file("dir/two words", "abc")
	m.add(Entry{Path: "link", Mode: ModeLink | 0o777, Target: "empty"})
	man := &Manifest{Tree: build(t, m, blocks), Totals: Totals{Files: 3, Dirs: 1, Links: 1}}
	got, err := man.Sums(blocks)
	// As sha256sum 9.7 writes it.
	want := `\ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  dir/back\\slash
ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  dir/two words
e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  empty
`
	if err != nil || string(got) != want {
		t.Errorf("got %v\n%s\nwant\n%s", err, got, want)
	}
	man.Totals.Files = MaxSumsFiles + 1
	if got, err := man.Sums(blocks); got != nil || err != nil {
		t.Errorf("a large tree: %d bytes, %v", len(got), err)
	}
	for name, text := range map[string]string{"more files than the totals say": "f", "long paths": strings.Repeat("x", MaxName)} {
		m, files := model{}, MaxSumsFiles+1
		if len(text) > 1 {
			files = MaxSumsFiles - 1
		}
		dir := ""
		for i := range 2 {
			if len(text) > 1 {
				dir += text[:MaxName-1] + fmt.Sprint(i)
				m.add(Entry{Path: dir, Mode: ModeDir | 0o755})
				dir += "/"
			}
		}
		for i := range files {
			m.add(Entry{Path: fmt.Sprintf("%s%s%d", dir, text[:len(text)/2], i), Mode: ModeFile | 0o644, SHA256: Sum(nil)})
		}
		man := &Manifest{Tree: build(t, m, blocks), Totals: Totals{Files: uint64(MaxSumsFiles)}}
		if got, err := man.Sums(blocks); got != nil || err != nil {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
	delete(blocks, man.Tree)
	man.Totals.Files = 3
	if _, err := man.Sums(blocks); err == nil {
		t.Error("no error without the blocks of the tree")
	}
}

// BenchmarkSums is what a publisher of the largest tree with such a list pays for it in every release.
func BenchmarkSums(b *testing.B) {
	blocks, m := Blocks{}, model{}
	for i := range MaxSumsFiles {
		m.add(Entry{Path: fmt.Sprintf("pool/%03d/package_%d_amd64.deb", i%1000, i), Mode: ModeFile | 0o644, SHA256: Sum(nil)})
	}
	for i := range 1000 {
		m.add(Entry{Path: fmt.Sprintf("pool/%03d", i), Mode: ModeDir | 0o755})
	}
	m.add(Entry{Path: "pool", Mode: ModeDir | 0o755})
	man := &Manifest{Tree: build(b, m, blocks), Totals: Totals{Files: MaxSumsFiles}}
	for b.Loop() {
		if list, err := man.Sums(blocks); err != nil || list == nil {
			b.Fatal(len(list), err)
		}
	}
}
