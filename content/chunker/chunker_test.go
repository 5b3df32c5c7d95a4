package chunker

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	chunkers "github.com/PlakarKorp/go-cdc-chunkers"
	"github.com/fxamacker/cbor/v2"
	"pgregory.net/rapid"
)

// random gives n bytes that are the same in every run and every Go release: ChaCha8 is specified.
func random(seed byte, n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

func lengths(t testing.TB, p Params, r io.Reader, rule Rule, size int64) []int {
	t.Helper()
	var out []int
	if err := p.Split(r, rule, size, func(c []byte) error { out = append(out, len(c)); return nil }); err != nil {
		t.Fatalf("split: %v", err)
	}
	return out
}

// TestGoldenCuts pins the cut points: if it fails, every mirror of every collection would fetch everything again.
func TestGoldenCuts(t *testing.T) {
	text, err := os.ReadFile("testdata/golden.txt")
	if err != nil {
		t.Fatal(err)
	}
	var want []int
	for _, f := range strings.Fields(string(text)) {
		n, err := strconv.Atoi(f)
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, n)
	}
	data := random(1, 16<<20)
	got := lengths(t, Default(), bytes.NewReader(data), CDC, int64(len(data)))
	if !slices.Equal(got, want) {
		t.Errorf("cut points changed:\n got %v\nwant %v", got, want)
	}
}

func TestSameAsTheLibrary(t *testing.T) {
	p := Default()
	for name, data := range map[string][]byte{
		"random": random(2, 9<<20), "zeros": make([]byte, 5<<20), "text": bytes.Repeat([]byte("Package: libc6\nVersion: 2.36-9\n"), 200_000),
		"one": {7}, "exactly max": random(3, MaxSize), "max and one": random(3, MaxSize+1),
	} {
		c, err := chunkers.NewChunker(JC, bytes.NewReader(data), &chunkers.ChunkerOpts{MinSize: int(p.Min), NormalSize: int(p.Avg), MaxSize: int(p.Max)})
		if err != nil {
			t.Fatal(err)
		}
		var want []int
		for {
			chunk, err := c.Next()
			if len(chunk) > 0 {
				want = append(want, len(chunk))
			}
			if err != nil {
				break
			}
		}
		if got := lengths(t, p, iotest.HalfReader(bytes.NewReader(data)), CDC, int64(len(data))); !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
	}
}

func small() Params {
	p := Default()
	p.Min, p.Avg, p.Max, p.Fixed = 64, 256, 1024, 1024
	return p
}

func TestSplitProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := small()
		rule := Rule(rapid.IntRange(0, 2).Draw(t, "rule"))
		seed, n := rapid.Byte().Draw(t, "seed"), rapid.IntRange(0, 40_000).Draw(t, "n")
		data := random(seed, n)
		if rapid.Bool().Draw(t, "flat") {
			for i := range data {
				data[i] = data[i] / 128
			}
		}
		told := rapid.Int64Range(0, int64(2*n)).Draw(t, "size told")
		readers := map[string]io.Reader{
			"plain": bytes.NewReader(data), "one byte": iotest.OneByteReader(bytes.NewReader(data)), "data and EOF": iotest.DataErrReader(bytes.NewReader(data)),
		}
		var first []int
		for _, name := range []string{"plain", "one byte", "data and EOF"} {
			var all []byte
			var cuts []int
			if err := p.Split(readers[name], rule, told, func(c []byte) error {
				all, cuts = append(all, c...), append(cuts, len(c))
				return nil
			}); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if !bytes.Equal(all, data) {
				t.Fatalf("%s: the chunks together are not the input", name)
			}
			for i, c := range cuts {
				last := i == len(cuts)-1
				if c < 1 || c > 1024 || !last && rule == CDC && c < 64 || !last && rule != CDC && c != 1024 {
					t.Fatalf("%s: chunk %d of %d has %d bytes", name, i, len(cuts), c)
				}
			}
			if first == nil {
				first = cuts
			} else if !slices.Equal(first, cuts) {
				t.Fatalf("%s: cuts %v depend on how the bytes come, want %v", name, cuts, first)
			}
		}
	})
}

// TestCutsAreLocal inserts bytes in the middle: all chunks before the place stay, and the cuts after it meet again.
func TestCutsAreLocal(t *testing.T) {
	p := Default()
	for seed := range byte(3) {
		data := random(100+seed, 16<<20)
		at := (4 + int(seed)*2) << 20
		edited := slices.Concat(data[:at], random(seed, 1+int(seed)*777), data[at:])
		if share := newShare(t, p, CDC, data, edited); share > 0.15 {
			t.Errorf("seed %d: %.1f %% of the bytes are new after an insertion, want at most 15", seed, 100*share)
		}
		a, b := lengths(t, p, bytes.NewReader(data), CDC, 0), lengths(t, p, bytes.NewReader(edited), CDC, 0)
		var before, n int
		for _, c := range a {
			if before+c > at-MaxSize {
				break
			}
			before += c
			n++
		}
		if !slices.Equal(a[:n], b[:n]) {
			t.Errorf("seed %d: cuts before the insertion moved", seed)
		}
	}
}

func TestParallelSplitters(t *testing.T) {
	data := random(9, 3<<20)
	want := lengths(t, Default(), bytes.NewReader(data), CDC, 0)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if got := lengths(t, Default(), bytes.NewReader(data), CDC, 0); !slices.Equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
	wg.Wait()
}

func TestSplitErrors(t *testing.T) {
	stop := errors.New("stop")
	if err := Default().Split(bytes.NewReader(random(1, 3<<20)), Fixed, 0, func([]byte) error { return stop }); err != stop {
		t.Errorf("error of emit: got %v, want %v", err, stop)
	}
	r := io.MultiReader(bytes.NewReader(random(1, 100)), iotest.ErrReader(io.ErrUnexpectedEOF))
	if err := Default().Split(r, CDC, 0, func([]byte) error { return nil }); err != io.ErrUnexpectedEOF {
		t.Errorf("error of the reader: got %v, want %v", err, io.ErrUnexpectedEOF)
	}
}

func TestRule(t *testing.T) {
	for _, c := range []struct {
		path string
		size int64
		want Rule
	}{
		{"a.iso", 0, Whole}, {"a.deb", MaxSize, Whole}, {"a.deb", MaxSize + 1, Fixed}, {"x/A.DEB", 2 << 20, Fixed},
		{"a.tar.xz", 2 << 20, Fixed}, {"a.iso", MaxSize + 1, CDC}, {"a.deb/Packages", 9 << 20, CDC}, {"deb", 9 << 20, CDC},
	} {
		if got := Default().Rule(c.path, c.size); got != c.want {
			t.Errorf("rule of %s with %d bytes: got %s, want %s", c.path, c.size, got, c.want)
		}
	}
}

func TestCheck(t *testing.T) {
	if err := Default().Check(); err != nil {
		t.Fatalf("the default: %v", err)
	}
	for name, change := range map[string]func(*Params){
		"version": func(p *Params) { p.Version = 2 }, "algorithm": func(p *Params) { p.CDC = "jc" }, "min": func(p *Params) { p.Min = 10 },
		"average": func(p *Params) { p.Avg = p.Min }, "max": func(p *Params) { p.Max++ }, "fixed": func(p *Params) { p.Fixed = 0 },
		"suffix": func(p *Params) { p.Compressed = []string{"deb"} }, "suffixes": func(p *Params) { p.Compressed = make([]string, 300) },
	} {
		p := Default()
		change(&p)
		if err := p.Check(); !errors.Is(err, ErrParams) {
			t.Errorf("%s: got %v, want a refusal", name, err)
		}
	}
}

func TestParamsEncode(t *testing.T) {
	b, err := cbor.Marshal(Default())
	if err != nil {
		t.Fatal(err)
	}
	var got Params
	if err := cbor.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(got) != fmt.Sprint(Default()) {
		t.Errorf("got %v, want %v", got, Default())
	}
}
