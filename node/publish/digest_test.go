//go:build unix

package publish

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"swarmnode/content"
	"swarmnode/content/chunker"
)

func random(seed byte, n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

// upserts scans dir from nothing.
func upserts(t testing.TB, dir string) (*os.Root, iter.Seq2[File, error]) {
	t.Helper()
	root := openTree(t, dir)
	c, err := Scan(context.Background(), later(), root, nil, filepath.Join(t.TempDir(), "spill"), ScanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return root, c.Files()
}

// TestDigestIsTheDumbOne compares with reading each file at once, for all rules and sizes around the limits.
func TestDigestIsTheDumbOne(t *testing.T) {
	dir, p := t.TempDir(), chunker.Default()
	sizes := []int{0, 1, 4096, 1<<20 - 1, 1 << 20, 1<<20 + 1, 2 << 20, 2<<20 + 1, 3<<20 + 17, 4 << 20, 9<<20 + 5}
	for i, n := range sizes {
		for _, suffix := range []string{"iso", "deb"} {
			writeTree(t, dir, map[string]string{fmt.Sprintf("d%d/%d.%s", i%3, n, suffix): string(random(byte(i), n))})
		}
	}
	writeTree(t, dir, map[string]string{"zeros.img": string(make([]byte, 7<<20)), "link": "-> zeros.img"})
	for i := range 300 {
		writeTree(t, dir, map[string]string{fmt.Sprintf("small/%03d", i): fmt.Sprint(i)})
	}
	root, files := upserts(t, dir)
	var want []string
	for f, err := range files {
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, f.Path)
	}
	var got []string
	var read int64
	err := Digest(context.Background(), root, p, files, Hooks{}, func(d *Digested) error {
		got = append(got, d.Path)
		if !d.isFile() {
			return nil
		}
		data, err := os.ReadFile(filepath.Join(dir, d.Path))
		if err != nil {
			return err
		}
		var chunks []content.Chunk
		if err := p.Split(bytes.NewReader(data), p.Rule(d.Path, d.Size), d.Size, func(c []byte) error {
			chunks = append(chunks, content.Chunk{Digest: content.Sum(c), Size: uint32(len(c))})
			return nil
		}); err != nil {
			return err
		}
		read += int64(len(data))
		if d.SHA256 != sha256.Sum256(data) || !slices.Equal(d.Chunks, chunks) || d.Moved {
			t.Errorf("%s: got %s in %d chunks, moved %v; want %s in %d", d.Path, d.SHA256, len(d.Chunks), d.Moved, content.Sum(data), len(chunks))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got, want) {
		t.Errorf("order: got %q, want %q", got, want)
	}
}

func TestDigestOfChangingFiles(t *testing.T) {
	dir := t.TempDir()
	writeTree(t, dir, map[string]string{"big.iso": string(random(1, 5<<20)), "small": "1"})
	for _, name := range []string{"big.iso", "small"} {
		p := filepath.Join(dir, name)
		touched := 0
		touch := func(limit int) func(int64) { // called while the file is read
			touched = 0
			return func(int64) {
				if touched++; touched <= limit {
					f, err := os.OpenFile(p, os.O_WRONLY|os.O_APPEND, 0)
					if err == nil {
						f.WriteString("x")
						err = f.Close()
					}
					if err != nil {
						t.Error(err)
					}
				}
			}
		}
		run := func(limit int) (last Digested, err error) {
			root, files := upserts(t, dir)
			only := func(yield func(File, error) bool) {
				for f, err := range files {
					if f.Path == name && !yield(f, err) {
						return
					}
				}
			}
			err = Digest(context.Background(), root, chunker.Default(), only, Hooks{Read: touch(limit)}, func(d *Digested) error { last = *d; return nil })
			return last, err
		}
		var changed *ChangedError
		if _, err := run(1 << 30); !errors.As(err, &changed) || changed.Path != name || changed.Gone {
			t.Errorf("%s always changing: got %v, want a *ChangedError", name, err)
		}
		d, err := run(1)
		if err != nil {
			t.Fatalf("%s changing once: %v", name, err)
		}
		data, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		if d.SHA256 != content.Sum(data) || !d.Moved || d.Size != int64(len(data)) {
			t.Errorf("%s changed once: got %d bytes, moved %v; want the %d of the last state", name, d.Size, d.Moved, len(data))
		}
	}
}

func TestDigestOfMissingFiles(t *testing.T) {
	dir := t.TempDir()
	writeTree(t, dir, map[string]string{"a": "1", "b": "2"})
	root, files := upserts(t, dir)
	if err := os.Remove(filepath.Join(dir, "b")); err != nil {
		t.Fatal(err)
	}
	var changed *ChangedError
	err := Digest(context.Background(), root, chunker.Default(), files, Hooks{}, func(*Digested) error { return nil })
	if !errors.As(err, &changed) || changed.Path != "b" || !changed.Gone {
		t.Errorf("got %v, want b named as gone", err)
	}
	writeTree(t, dir, map[string]string{"c": "-> a"})
	one := func(yield func(File, error) bool) { yield(File{Path: "c", Mode: content.ModeFile | 0o644}, nil) }
	if err := Digest(context.Background(), root, chunker.Default(), one, Hooks{}, func(*Digested) error { return nil }); !errors.As(err, &changed) || changed.Path != "c" {
		t.Errorf("a symlink in the place of a file: got %v, want it named as changed", err)
	}
	stop := errors.New("stop")
	_, files = upserts(t, dir)
	if err := Digest(context.Background(), root, chunker.Default(), files, Hooks{}, func(*Digested) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("error of the caller: got %v, want %v", err, stop)
	}
}
