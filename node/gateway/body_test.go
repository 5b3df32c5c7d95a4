package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"swarmnode/content"
)

// TestUnavailable: before the first byte it is 503, after it the connection is cut: a short body, never a padded one.
func TestUnavailable(t *testing.T) {
	data := someBytes(3500)
	r := newRig(t, file{Path: "f", Data: data})
	refs := r.refs("f")
	r.src.missing[refs[0]] = true
	got := r.get("/test/f")
	if got.StatusCode != 503 || got.Header.Get("Retry-After") == "" || !strings.Contains(got.body, "Try again") {
		t.Errorf("%d %v %q", got.StatusCode, got.Header, got.body)
	}
	for _, name := range []string{"Etag", "Last-Modified", "Digest", "Repr-Digest", "Content-Range", "Accept-Ranges"} {
		if v := got.Header.Get(name); v != "" {
			t.Errorf("503 says %s: %q, which is about the file", name, v)
		}
	}
	if got := r.do("HEAD", "/test/f"); got.StatusCode != 200 || got.ContentLength != 3500 {
		t.Errorf("HEAD of what is not here: %d, %d", got.StatusCode, got.ContentLength)
	}
	if got := r.get("/test/f", "Range: bytes=2500-"); got.StatusCode != 206 || got.body != data[2500:] {
		t.Errorf("a part that is here: %d", got.StatusCode)
	}
	r.src.missing = map[content.Ref]bool{refs[2]: true}
	for _, header := range []string{"", "bytes=100-", "bytes=0-0,2500-2600,3000-"} {
		req, err := http.NewRequest("GET", r.url+"/test/f", nil)
		if err != nil {
			t.Fatal(err)
		}
		if header != "" {
			req.Header.Set("Range", header)
		}
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatalf("%q: %v", header, err) // the first chunk is there, so the header comes
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%q: %d bytes and %v, want a body that is cut", header, len(body), err)
		}
		if header == "" && string(body) != data[:len(body)] {
			t.Errorf("%d bytes, not those of the file", len(body))
		}
	}
}

// refs lists the chunks of a file in the served release.
func (r *rig) refs(path string) (refs []content.Ref) {
	r.t.Helper()
	rel := r.cat.c.Served
	e, err := content.Lookup(rel.Manifest.Tree, rel.Blocks, path)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, run := range e.Runs {
		for i := range run.Count {
			refs = append(refs, content.Ref{Segment: run.Segment, Index: run.First + i})
		}
	}
	return refs
}

// wrongSource gives chunks that are shorter than the tables say.
type wrongSource struct{ *fakeSource }

func (s wrongSource) Chunk(ctx context.Context, r *Release, ref content.Ref, buf []byte) ([]byte, error) {
	data, err := s.fakeSource.Chunk(ctx, r, ref, buf)
	return data[:max(len(data)-1, 0)], err
}

func TestWrongLength(t *testing.T) {
	r := newRig(t, file{Path: "f", Data: someBytes(1500)})
	r.cat.c.Source = wrongSource{r.src}
	if got := r.get("/test/f"); got.StatusCode != 503 {
		t.Errorf("%d %q", got.StatusCode, got.body)
	}
}

// slowSource waits before each chunk, or for ever.
type slowSource struct {
	*fakeSource
	wait time.Duration
}

func (s slowSource) Chunk(ctx context.Context, r *Release, ref content.Ref, buf []byte) ([]byte, error) {
	select {
	case <-time.After(s.wait):
		return s.fakeSource.Chunk(ctx, r, ref, buf)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Here is false: it is all far away.
func (s slowSource) Here(content.Ref) bool { return false }

// TestSlowSource: pacman wants the first byte within 10 s, apt gives up 30 s after the last one: 503 or a cut before that, never a hang.
func TestSlowSource(t *testing.T) {
	for _, x := range []struct {
		wait  time.Duration
		want  int
		whole bool
		took  time.Duration
	}{
		{time.Hour, 503, true, firstByte},
		{firstByte + time.Second, 503, true, firstByte},
		{firstByte - time.Second, 200, true, 3 * (firstByte - time.Second)},
	} {
		synctest.Test(t, func(t *testing.T) {
			cat, src := newFake(t)
			cat.publish(t, src, 1, file{Path: "f", Data: someBytes(2500)})
			cat.c.Source = slowSource{src, x.wait}
			start := time.Now()
			rec := httptest.NewRecorder()
			New(Config{Catalogue: cat}).ServeHTTP(rec, httptest.NewRequest("GET", "/test/f", nil))
			if took := time.Since(start); rec.Code != x.want || took != x.took {
				t.Errorf("chunks after %s: %d after %s, want %d after %s", x.wait, rec.Code, took, x.want, x.took)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) { // the second chunk never comes
		cat, src := newFake(t)
		cat.publish(t, src, 1, file{Path: "f", Data: someBytes(2500)})
		cat.c.Source = stuckSource{src, content.Ref{Index: 1}}
		start := time.Now()
		rec := httptest.NewRecorder()
		defer func() {
			if e, took := recover(), time.Since(start); e != http.ErrAbortHandler || took != nextByte || rec.Body.Len() != 1000 {
				t.Errorf("%v after %s and %d bytes", e, took, rec.Body.Len())
			}
		}()
		New(Config{Catalogue: cat}).ServeHTTP(rec, httptest.NewRequest("GET", "/test/f", nil))
	})
}

// stuckSource never gives one of its chunks.
type stuckSource struct {
	*fakeSource
	ref content.Ref
}

// Here is false for that one.
func (s stuckSource) Here(ref content.Ref) bool { return ref != s.ref }

func (s stuckSource) Chunk(ctx context.Context, r *Release, ref content.Ref, buf []byte) ([]byte, error) {
	if ref == s.ref {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return s.fakeSource.Chunk(ctx, r, ref, buf)
}

// hintSource keeps all hints that it was given, and none of its chunks is in the store.
type hintSource struct {
	*fakeSource
	here  map[content.Ref]bool
	hints *[][]content.Ref
}

func (s hintSource) Here(ref content.Ref) bool { return s.here[ref] }

func (s hintSource) Ahead(_ uint64, _ *Release, refs []content.Ref) {
	*s.hints = append(*s.hints, slices.Clone(refs))
}

func TestAhead(t *testing.T) {
	r := newRig(t, file{Path: "f", Data: someBytes(5500)})
	refs := r.refs("f")
	hints := func(spec string, here ...content.Ref) [][]content.Ref {
		src := hintSource{r.src, map[content.Ref]bool{}, new([][]content.Ref)}
		for _, h := range here {
			src.here[h] = true
		}
		r.cat.c.Source = src
		if got := r.get("/test/f", "Range: bytes="+spec); got.StatusCode != 206 {
			t.Fatal(got.StatusCode)
		}
		return *src.hints
	}
	for _, x := range []struct {
		spec string
		here []content.Ref
		want [][]content.Ref
	}{
		{"0-", nil, [][]content.Ref{refs, refs[1:], refs[2:], refs[3:], refs[4:], refs[5:], nil}},
		{"1500-3500", nil, [][]content.Ref{refs[1:4], refs[2:4], refs[3:4], nil}}, // nothing behind the end of the range
		{"1500-1600", nil, nil}, // the only chunk is asked for anyway
		{"0-", refs, nil},
		{"0-3500", refs[1:3], [][]content.Ref{{refs[0], refs[3]}, {refs[3]}, nil}},
		{"0-0,5000-5001", nil, nil},
	} {
		if got := hints(x.spec, x.here...); fmt.Sprint(got) != fmt.Sprint(x.want) {
			t.Errorf("%s with %d chunks here: hints %v, want %v", x.spec, len(x.here), got, x.want)
		}
	}
}

// TestRangesAgreeWithSlices: what comes for any list of ranges of a file of any size is what slicing gives.
func TestRangesAgreeWithSlices(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		data := someBytes(rapid.IntRange(1, 40_000).Draw(rt, "size"))
		cat, src := newFake(t)
		rel := cat.publish(t, src, 1, file{Path: "other", Data: someBytes(700)}, file{Path: "f", Data: data})
		g := New(Config{Catalogue: cat})
		e, err := content.Lookup(rel.Manifest.Tree, rel.Blocks, "f")
		if err != nil {
			rt.Fatal(err)
		}
		r, err := g.open(t.Context(), cat.c, rel, e)
		if err != nil {
			rt.Fatal(err)
		}
		defer r.close()
		for range rapid.IntRange(1, 5).Draw(rt, "ranges") {
			from := rapid.IntRange(0, len(data)-1).Draw(rt, "from")
			to := rapid.IntRange(from+1, len(data)).Draw(rt, "to")
			var b strings.Builder
			if err := r.copy(t.Context(), &b, byteRange{int64(from), int64(to)}, time.Second); err != nil || b.String() != data[from:to] {
				rt.Fatalf("%d-%d of %d: %d bytes, %v", from, to, len(data), b.Len(), err)
			}
		}
	})
}

// TestLayout checks every byte of files whose chunks lie in several runs and segments against a sum over the tables.
func TestLayout(t *testing.T) {
	table := func(sizes ...uint32) []byte {
		var chunks []content.Chunk
		for i, s := range sizes {
			chunks = append(chunks, content.Chunk{Digest: content.Sum(fmt.Append(nil, s, i)), Size: s})
		}
		return content.NewTable(chunks).Encode()
	}
	store := content.Blocks{}
	infos := []content.SegmentInfo{{Table: store.Put(table(3, 1, 4)), Chunks: 3}, {Table: store.Put(table(1, 5, 9, 2)), Chunks: 4}}
	rel := &Release{Manifest: &content.Manifest{}, Infos: infos, Blocks: store}
	e := content.Entry{Path: "f", Mode: content.ModeFile, Size: 4 + 5 + 9 + 3 + 1, Runs: []content.Run{{Segment: 0, First: 2, Count: 1}, {Segment: 1, First: 1, Count: 2}, {Segment: 0, First: 0, Count: 2}}}
	l, err := newLayout(rel, e)
	if err != nil {
		t.Fatal(err)
	}
	want := []place{{content.Ref{Segment: 0, Index: 2}, 0, 4}, {content.Ref{Segment: 1, Index: 1}, 4, 5}, {content.Ref{Segment: 1, Index: 2}, 9, 9},
		{content.Ref{Segment: 0, Index: 0}, 18, 3}, {content.Ref{Segment: 0, Index: 1}, 21, 1}}
	for n, p := range want {
		if got := l.place(n); got != p {
			t.Errorf("chunk %d: %+v, want %+v", n, got, p)
		}
		for off := p.at; off < p.at+p.size; off++ {
			if got := l.number(off); got != n {
				t.Errorf("byte %d is in chunk %d, want %d", off, got, n)
			}
		}
	}
	if l.chunks() != len(want) {
		t.Errorf("%d chunks", l.chunks())
	}
	var missing *content.Missing
	for what, bad := range map[string]content.Entry{
		"size":    {Path: "f", Size: 9, Runs: []content.Run{{Segment: 0, First: 0, Count: 2}}},
		"chunk":   {Path: "f", Size: 9, Runs: []content.Run{{Segment: 0, First: 2, Count: 2}}},
		"segment": {Path: "f", Size: 9, Runs: []content.Run{{Segment: 7, First: 2, Count: 2}}},
	} {
		if _, err := newLayout(rel, bad); !errors.Is(err, content.ErrFormat) {
			t.Errorf("bad %s: %v", what, err)
		}
	}
	delete(store, infos[0].Table)
	if _, err := newLayout(rel, e); !errors.As(err, &missing) {
		t.Errorf("without a table: %v", err)
	}
}

// TestLargeChunks: chunks above smallRead go through an open file if there is one, through bounded memory if there is none, and the
// file is used when fetching has put the chunk there.
func TestLargeChunks(t *testing.T) {
	data := []byte(someBytes(300_000))
	ref := content.Ref{}
	e := content.Entry{Path: "f", Mode: content.ModeFile | 0o644, Mtime: testMtime, Size: uint64(len(data)), SHA256: content.Sum(data), Runs: []content.Run{{Count: 1}}}
	for _, way := range []string{"file", "memory", "stored on the way"} {
		t.Run(way, func(t *testing.T) {
			cat, src := newFake(t)
			src.keep(t, ref, data)
			store := content.Blocks{}
			tree, _, err := content.BuildTree(func(yield func(content.Entry, error) bool) { yield(e, nil) }, func(b []byte) (content.Digest, error) { return store.Put(b), nil })
			if err != nil {
				t.Fatal(err)
			}
			cat.c.Served = &Release{Manifest: &content.Manifest{Release: 1, Tree: tree}, Blocks: store}
			offset := src.offsets[ref]
			late := &lateSource{fakeSource: src, offset: offset, stores: way == "stored on the way"}
			cat.c.Source = late
			if way != "file" {
				delete(src.offsets, ref)
			}
			g := New(Config{Catalogue: cat})
			srv := httptest.NewServer(g)
			defer srv.Close()
			r := &rig{t: t, cat: cat, src: src, g: g, url: srv.URL}
			if got := r.get("/test/f"); got.body != string(data) {
				t.Errorf("%d, %d bytes", got.StatusCode, len(got.body))
			}
			if got := r.get("/test/f", "Range: bytes=100-149,200000-299999,7-7"); got.StatusCode != 206 || !strings.Contains(got.body, string(data[200000:])) {
				t.Errorf("%d, %d bytes", got.StatusCode, len(got.body))
			}
			srv.Close() // waits for the handlers, which give back what they have after the last byte
			if n := len(g.room.slots); n != 0 {
				t.Errorf("%d buffers are still in use", n)
			}
			if late.opened.Load() != late.closed.Load() || (late.opened.Load() == 0) != (way == "memory") {
				t.Errorf("%d files opened, %d closed", late.opened.Load(), late.closed.Load())
			}
			wantAsked := map[string]int{"file": 0, "memory": 2, "stored on the way": 1}[way]
			if src.asked != wantAsked {
				t.Errorf("%d chunks were read into memory, want %d", src.asked, wantAsked)
			}
		})
	}
}

// lateSource has a chunk in a file only after it was asked for. It counts open files.
type lateSource struct {
	*fakeSource
	offset         int64
	stores         bool
	opened, closed atomic.Int64
}

func (s *lateSource) Chunk(ctx context.Context, r *Release, ref content.Ref, buf []byte) ([]byte, error) {
	data, err := s.fakeSource.Chunk(ctx, r, ref, buf)
	if s.stores {
		s.mu.Lock()
		s.offsets[ref] = s.offset
		s.mu.Unlock()
	}
	return data, err
}

func (s *lateSource) File(ref content.Ref) (*os.File, int64, func(), bool) {
	f, off, release, ok := s.fakeSource.File(ref)
	if !ok {
		return nil, 0, nil, false
	}
	s.opened.Add(1)
	return f, off, func() { s.closed.Add(1); release() }, true
}

// slowClient takes its bytes at a rate.
type slowClient struct {
	bps  int
	got  []byte
	head http.Header
}

func (c *slowClient) Header() http.Header { return c.head }

func (c *slowClient) WriteHeader(int) {}

func (c *slowClient) Write(p []byte) (int, error) {
	time.Sleep(time.Duration(len(p)) * time.Second / time.Duration(c.bps))
	c.got = append(c.got, p...)
	return len(p), nil
}

// TestSlowClientsLeaveRoom: chunks that are nowhere in a file, a publisher's, are not held in memory for many slow clients, so a fast
// one is served among them.
func TestSlowClientsLeaveRoom(t *testing.T) {
	data := []byte(someBytes(300_000))
	synctest.Test(t, func(t *testing.T) {
		cat, src := newFake(t)
		src.keep(t, content.Ref{}, data)
		src.offsets = nil
		store := content.Blocks{}
		e := content.Entry{Path: "f", Mode: content.ModeFile | 0o644, Size: uint64(len(data)), SHA256: content.Sum(data), Runs: []content.Run{{Count: 1}}}
		tree, _, err := content.BuildTree(func(yield func(content.Entry, error) bool) { yield(e, nil) }, func(b []byte) (content.Digest, error) { return store.Put(b), nil })
		if err != nil {
			t.Fatal(err)
		}
		cat.c.Served = &Release{Manifest: &content.Manifest{Release: 1, Tree: tree}, Blocks: store}
		g := New(Config{Catalogue: cat})
		get := func(bps int) (took time.Duration) {
			start := time.Now()
			w := &slowClient{bps: bps, head: http.Header{}}
			g.ServeHTTP(w, httptest.NewRequest("GET", "/test/f", nil))
			if !bytes.Equal(w.got, data) {
				t.Errorf("a client of %d B/s got %d bytes", bps, len(w.got))
			}
			return time.Since(start)
		}
		var wait sync.WaitGroup
		for range largeBuffers {
			wait.Go(func() { get(10_000) })
		}
		time.Sleep(time.Second)
		if took := get(10_000_000); took > firstByte {
			t.Errorf("a fast client waited %s among slow ones", took)
		}
		wait.Wait()
		if n := len(g.room.slots); n != 0 {
			t.Errorf("%d buffers are still in use", n)
		}
	})
}

// TestRoomIsBounded: at most largeBuffers chunks are in memory, whoever waits beyond that.
func TestRoomIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newRoom()
		var wait sync.WaitGroup
		var refused atomic.Int64
		for range 3 * largeBuffers {
			wait.Go(func() {
				b, err := m.large(t.Context(), firstByte)
				if err != nil {
					refused.Add(1)
					return
				}
				time.Sleep(6 * time.Second) // so that a second round fits within the wait and a third does not
				m.giveLarge(b)
			})
		}
		wait.Wait()
		if n := refused.Load(); n != largeBuffers {
			t.Errorf("%d were refused, want %d", n, largeBuffers)
		}
	})
}

func FuzzParseRanges(f *testing.F) {
	for _, s := range []string{"bytes=0-", "bytes=-0", "bytes=1-2,3-4", "bytes=5-4", "bytes=,", "bytes=99999999999999999999-", "bytes=0-9223372036854775807", "x=1-2"} {
		f.Add(s, int64(1000))
	}
	f.Add("bytes=-9223372036854775807,0-", int64(1<<63-1))
	f.Fuzz(func(t *testing.T, header string, size int64) {
		if size < 0 {
			return
		}
		ranges, whole := parseRanges([]string{header}, size)
		if whole && ranges != nil || len(ranges) > maxRanges {
			t.Fatalf("%q of %d: %v, whole %v", header, size, ranges, whole)
		}
		var sum int64
		for _, b := range ranges {
			if b.from < 0 || b.from >= b.to || b.to > size {
				t.Fatalf("%q of %d: %v", header, size, b)
			}
			if sum += b.to - b.from; sum < 0 || sum > size {
				t.Fatalf("%q of %d asks for %d bytes", header, size, sum)
			}
		}
	})
}
