package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"time"
)

const (
	demoPackages = 44
	demoOnISO    = 20       // packages that are in the ISO image, too
	demoReplaced = 3        // in the second release
	demoLive     = 14 << 20 // bytes of the rest of the ISO image
	isoSector    = 2048
)

// treeSum is what is in a tree.
type treeSum struct {
	files int
	bytes int64
}

// demoTree makes the tree that the demo publishes. Its bytes are random and always the same.
type demoTree struct {
	dir string
	sum treeSum
}

// makeDemoTree makes the first state.
func makeDemoTree(dir string) (treeSum, error) {
	t := &demoTree{dir: dir}
	err := t.release(func(int) int { return 1 })
	for name, text := range map[string]string{
		"README":                         "Made by `swarmnode demo`.\n",
		"doc/two  spaces, 100% & #1.txt": "an odd name\n",
		"doc/žluťoučký kůň 日本語 🐧.txt": "another one\n",
		"doc/empty file": "",
	} {
		err = errors.Join(err, t.write(name, []byte(text)))
	}
	err = errors.Join(err, os.MkdirAll(filepath.Join(dir, "incoming"), 0o755))
	if runtime.GOOS != "windows" { // symlinks need a privilege there
		err = errors.Join(err, os.Symlink("dists/current", filepath.Join(dir, "stable")))
	}
	return t.sum, err
}

// changeDemoTree makes the second state of the first: some packages have a new version, so the ISO image and the index change.
func changeDemoTree(dir string) (replaced int, err error) {
	every := demoPackages / demoReplaced
	version := func(i int) int {
		if i%every == 1 {
			return 2
		}
		return 1
	}
	for i := range demoPackages {
		if version(i) > 1 {
			replaced++
			if err := os.Remove(filepath.Join(dir, packageName(i, 1))); err != nil {
				return 0, err
			}
		}
	}
	t := &demoTree{dir: dir}
	return replaced, t.release(version)
}

func packageName(i, version int) string {
	return fmt.Sprintf("pool/%c/package-%02d_%d.0_amd64.deb", 'a'+rune(i%8), i, version)
}

// release writes the packages in their versions, the index of them and the ISO image. What is there already and
// would be the same is left as it is.
func (t *demoTree) release(version func(i int) int) error {
	var index, iso bytes.Buffer
	iso.Write(random(1, isoSector*16)) // a boot sector and what belongs to it
	for i := range demoPackages {
		v := version(i)
		name := packageName(i, v)
		data := random(uint64(100*i+v), packageSize(i))
		fmt.Fprintf(&index, "Filename: %s\nSize: %d\nSHA256: %x\n\n", name, len(data), sha256.Sum256(data))
		if err := t.write(name, data); err != nil {
			return err
		}
		if i < demoOnISO {
			iso.Write(data)
			iso.Write(make([]byte, (isoSector-len(data)%isoSector)%isoSector))
		}
	}
	iso.Write(random(2, demoLive))
	return errors.Join(t.write(demoISO, iso.Bytes()), t.write("dists/current/Packages", index.Bytes()))
}

// packageSize is between 20 KiB and about 1.6 MiB: most packages are small.
func packageSize(i int) int { return 20<<10 + (i*i*i*7919)%(1600<<10) }

func random(seed uint64, n int) []byte {
	var key [32]byte
	for i := range 8 {
		key[i] = byte(seed >> (8 * i))
	}
	b := make([]byte, n)
	rand.NewChaCha8(key).Read(b) //nolint:errcheck // never fails
	return b
}

// write makes a file with a time in the past, beside the old one and renamed, as tools do that publish.
func (t *demoTree) write(name string, data []byte) error {
	t.sum.files++
	t.sum.bytes += int64(len(data))
	path := filepath.Join(t.dir, filepath.FromSlash(name))
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, data) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	temp := path + ".new"
	if err := os.WriteFile(temp, data, 0o644); err != nil {
		return err
	}
	sum := sha256.Sum256(data)
	modified := time.Date(2024, 1, 1, 0, 0, int(sum[0])<<8+int(sum[1]), 0, time.UTC)
	if _, err := os.Lstat(path); err == nil {
		modified = time.Now()
	}
	if err := os.Chtimes(temp, time.Time{}, modified); err != nil {
		return err
	}
	return os.Rename(temp, path)
}

// compareTrees fails with the first difference between two trees: names, kinds, bytes, permissions, times of files, links.
func compareTrees(ctx context.Context, want, got string) (treeSum, error) {
	var sum treeSum
	names := map[string]bool{}
	err := filepath.WalkDir(want, func(path string, _ fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(want, path)
		if err != nil {
			return err
		}
		names[rel] = true
		n, err := compareFiles(path, filepath.Join(got, rel))
		if err != nil {
			return fmt.Errorf("%q differs: %w", rel, err)
		}
		if n >= 0 {
			sum.files++
			sum.bytes += n
		}
		return nil
	})
	if err != nil {
		return sum, err
	}
	return sum, filepath.WalkDir(got, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(got, path)
		if err == nil && !names[rel] {
			err = fmt.Errorf("%q should not be there", rel)
		}
		return err
	})
}

// compareFiles compares what is at two places and gives the size if it is a file, else -1.
func compareFiles(want, got string) (int64, error) {
	w, err := os.Lstat(want)
	if err != nil {
		return -1, err
	}
	g, err := os.Lstat(got)
	if err != nil {
		return -1, err
	}
	if w.Mode() != g.Mode() {
		return -1, fmt.Errorf("mode %v, want %v", g.Mode(), w.Mode())
	}
	switch {
	case w.IsDir():
		return -1, nil
	case w.Mode()&fs.ModeSymlink != 0:
		wt, werr := os.Readlink(want)
		gt, gerr := os.Readlink(got)
		if wt != gt {
			return -1, fmt.Errorf("leads to %q, want %q", gt, wt)
		}
		return -1, errors.Join(werr, gerr)
	case w.Size() != g.Size():
		return -1, fmt.Errorf("%d bytes, want %d", g.Size(), w.Size())
	case w.ModTime().Unix() != g.ModTime().Unix():
		return -1, fmt.Errorf("time %v, want %v", g.ModTime(), w.ModTime())
	}
	return w.Size(), sameBytes(want, got)
}

func sameBytes(want, got string) error {
	w, err := os.Open(want)
	if err != nil {
		return err
	}
	defer w.Close()
	g, err := os.Open(got)
	if err != nil {
		return err
	}
	defer g.Close()
	const block = 1 << 20
	wb, gb := make([]byte, block), make([]byte, block)
	for at := int64(0); ; at += block {
		n, werr := io.ReadFull(w, wb)
		m, gerr := io.ReadFull(g, gb)
		if !bytes.Equal(wb[:n], gb[:m]) {
			return fmt.Errorf("other bytes in the MiB at %d", at)
		}
		if errors.Is(werr, io.EOF) || errors.Is(werr, io.ErrUnexpectedEOF) {
			return nil
		}
		if err := errors.Join(werr, gerr); err != nil {
			return err
		}
	}
}
