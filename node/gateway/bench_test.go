package gateway

import (
	"bufio"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"swarmnode/content"
)

// benchTree writes a large file and many small ones to a directory, and a release over the same files: chunks are read from them.
func benchTree(b *testing.B, large, small int) (dir string, cat *fakeCatalogue) {
	b.Helper()
	dir = b.TempDir()
	cat, _ = newFake(b)
	src := &treeSource{at: map[content.Ref]treePlace{}}
	store := content.Blocks{}
	put := func(data []byte) (content.Digest, error) { return store.Put(data), nil }
	rel := &Release{Manifest: &content.Manifest{Release: 1}, Blocks: store}
	builder := content.NewSegmentBuilder(0, func(_ uint32, t *content.Table) error {
		rel.Infos = append(rel.Infos, content.SegmentInfo{Table: store.Put(t.Encode()), Size: t.Size(), Chunks: t.Len()})
		return nil
	})
	var entries []content.Entry
	add := func(name string, size int) {
		data := make([]byte, size)
		_, _ = rand.Read(data) // never fails (crypto/rand)
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o644); err != nil {
			b.Fatal(err)
		}
		f, err := os.Open(path)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { f.Close() })
		e := content.Entry{Path: name, Mode: content.ModeFile | 0o644, Mtime: testMtime, Size: uint64(size), SHA256: content.Sum(data)}
		for off := 0; off < size; off += content.MaxChunkSize {
			part := data[off:min(off+content.MaxChunkSize, size)]
			ref, err := builder.Add(content.Chunk{Digest: content.Sum(part), Size: uint32(len(part))})
			if err != nil {
				b.Fatal(err)
			}
			src.at[ref] = treePlace{path, f, int64(off), len(part)}
			e.Runs = content.AppendRef(e.Runs, ref)
		}
		entries = append(entries, e)
	}
	add("large", large)
	for i := range small {
		add(fmt.Sprintf("small%05d", i), 4096)
	}
	err := builder.Flush()
	if err == nil {
		rel.Manifest.Tree, _, err = content.BuildTree(func(yield func(content.Entry, error) bool) {
			for _, e := range entries {
				if !yield(e, nil) {
					return
				}
			}
		}, put)
	}
	if err != nil {
		b.Fatal(err)
	}
	cat.c.Served, cat.c.Source = rel, src
	return dir, cat
}

type treePlace struct {
	path string
	file *os.File
	off  int64
	size int
}

// treeSource has its chunks in plain files and hashes what it reads into memory.
type treeSource struct {
	at map[content.Ref]treePlace
}

func (s *treeSource) Chunk(_ context.Context, r *Release, ref content.Ref, buf []byte) ([]byte, error) {
	p := s.at[ref]
	buf = buf[:p.size]
	_, err := p.file.ReadAt(buf, p.off)
	if content.Sum(buf).IsZero() {
		return nil, ErrUnavailable
	}
	return buf, err
}

func (s *treeSource) File(ref content.Ref) (*os.File, int64, func(), bool) {
	p := s.at[ref]
	f, err := os.Open(p.path)
	return f, p.off, func() { f.Close() }, err == nil
}

func (s *treeSource) Ahead(uint64, *Release, []content.Ref) {}

func (s *treeSource) Here(content.Ref) bool { return true }

// BenchmarkServe compares with http.FileServer over the same files, over loopback. The client reads and parses in the same process, so
// the ratio is what counts.
func BenchmarkServe(b *testing.B) {
	const small = 5000
	dir, cat := benchTree(b, 64<<20, small)
	for _, s := range []struct {
		name, prefix string
		h            http.Handler
	}{{"gateway", "/test/", New(Config{Catalogue: cat})}, {"FileServer", "/", http.FileServer(http.Dir(dir))}} {
		srv := httptest.NewServer(s.h)
		defer srv.Close()
		for _, what := range []struct {
			name string
			path func(i int) string
			size int64
			spec string
		}{
			{"large", func(int) string { return "large" }, 64 << 20, ""},
			{"range", func(int) string { return "large" }, 100_000, "Range: bytes=30000000-30099999\r\n"},
			{"4KiB", func(i int) string { return fmt.Sprintf("small%05d", i*7919%small) }, 4096, ""},
		} {
			b.Run(what.name+"/"+s.name, func(b *testing.B) {
				conn, err := net.Dial("tcp", srv.Listener.Addr().String())
				if err != nil {
					b.Fatal(err)
				}
				defer conn.Close()
				in := bufio.NewReaderSize(conn, 256<<10)
				b.SetBytes(what.size)
				for i := 0; b.Loop(); i++ {
					fmt.Fprintf(conn, "GET %s%s HTTP/1.1\r\nHost: x\r\n%s\r\n", s.prefix, what.path(i), what.spec)
					resp, err := http.ReadResponse(in, nil)
					if err != nil {
						b.Fatal(err)
					}
					if n, err := io.Copy(io.Discard, resp.Body); err != nil || n != what.size {
						b.Fatal(n, err, resp.Status)
					}
				}
			})
		}
	}
}
