package chunker

import (
	"bytes"
	"crypto/sha256"
	"math/rand/v2"
	"slices"
	"testing"
)

// newShare gives the share of the new version's bytes that are in chunks which the old one does not have.
func newShare(tb testing.TB, p Params, rule Rule, old, new []byte) float64 {
	tb.Helper()
	have := map[[32]byte]bool{}
	if err := p.Split(bytes.NewReader(old), rule, int64(len(old)), func(c []byte) error {
		have[sha256.Sum256(c)] = true
		return nil
	}); err != nil {
		tb.Fatal(err)
	}
	fresh := 0
	if err := p.Split(bytes.NewReader(new), rule, int64(len(new)), func(c []byte) error {
		if !have[sha256.Sum256(c)] {
			fresh += len(c)
		}
		return nil
	}); err != nil {
		tb.Fatal(err)
	}
	return float64(fresh) / float64(len(new))
}

// image is like an ISO image: a header that names all files, then the files at multiples of 2 KiB with zeros between.
func image(seeds []uint64) []byte {
	var head, body []byte
	for _, s := range seeds {
		rng := rand.New(rand.NewPCG(s, 0))
		n := 20_000 + int(rng.ExpFloat64()*600_000)
		file := make([]byte, (n+2047)/2048*2048)
		for i := range n {
			file[i] = byte(rng.Uint32())
		}
		head = append(head, byte(s), byte(s>>8), byte(len(body)>>11), byte(len(body)>>19), byte(len(body)>>27))
		body = append(body, file...)
	}
	return append(append(make([]byte, 32<<10), head...), body...)
}

// BenchmarkSplit measures each rule over random bytes in memory.
func BenchmarkSplit(b *testing.B) {
	data := random(1, 64<<20)
	for _, rule := range []Rule{Fixed, CDC} {
		b.Run(rule.String(), func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				if err := Default().Split(bytes.NewReader(data), rule, int64(len(data)), func([]byte) error { return nil }); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)*float64(len(data))/(1<<20)/b.Elapsed().Seconds(), "MiB/s")
		})
	}
}

// BenchmarkDedup tells what a mirror fetches for a new image: with an insertion near its begin, and with one file in
// ten replaced by another of other length.
func BenchmarkDedup(b *testing.B) {
	seeds := make([]uint64, 120)
	for i := range seeds {
		seeds[i] = uint64(i + 1)
	}
	old := image(seeds)
	inserted := slices.Concat(old[:3<<20], random(5, 5000), old[3<<20:])
	replaced := slices.Clone(seeds)
	for i := 0; i < len(replaced); i += 10 {
		replaced[i] += 1000
	}
	newer := image(replaced)
	for _, rule := range []Rule{Fixed, CDC} {
		b.Run(rule.String(), func(b *testing.B) {
			for b.Loop() {
				b.ReportMetric(100*newShare(b, Default(), rule, old, inserted), "%new-insertion")
				b.ReportMetric(100*newShare(b, Default(), rule, old, newer), "%new-image")
			}
		})
	}
}
