package gossip

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"math"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"swarmnode/content"
)

var update = flag.Bool("update", false, "write testdata/golden.txt again")

var sampleMember = Member{Collection: testID, Peer: "12D3KooWtest", Addrs: []string{"/ip4/203.0.113.7/tcp/4101"}, Disk: 1 << 40,
	Release: 9, Complete: true, Gateway: "https://m.example/", Issued: 1_700_000_000}

var samplePlaced = func() Member {
	m := sampleMember
	m.Coordinate = Coordinate{At: [CoordinateAxes]int32{-1234, 0, 10_000, 17}, Height: 45, Error: 187}
	return m
}()

var sampleHoldings = Holdings{Reset: true, Release: 9, Below: 100, Segments: content.Bitmap{0, 0, 5},
	Partial: []PartialSegment{{Segment: 3, Chunks: content.Bitmap{1}}, {Segment: 200, Chunks: content.Bitmap{0, 2}}}, Gone: []uint32{7, 8}}

var sampleClaim = Claim{Collection: testID, Name: "debian", Release: 3, Peer: "12D3KooWtest", Expires: 1_700_000_000, KeyID: "abcd",
	Signature: []byte{1, 2, 3}}

var sampleBundle = Bundle{Files: map[string][]byte{"timestamp.json": []byte("{}"), "3.snapshot.json": []byte("s"), "1.targets.json": nil}}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// TestGolden pins the formats: nodes of all versions must read each other.
func TestGolden(t *testing.T) {
	var b strings.Builder
	for _, v := range []struct {
		name string
		raw  []byte
	}{
		{"bundle", must(EncodeBundle(sampleBundle))}, {"member", must(EncodeMember(sampleMember))},
		{"member-placed", must(EncodeMember(samplePlaced))},
		{"holdings", must(EncodeHoldings(sampleHoldings))}, {"claims", must(EncodeClaims([]Claim{sampleClaim}))},
		{"claim-signed", sampleClaim.SignedBytes()}, {"message", must(EncodeMessage(KindMember, []byte{1, 2}))},
	} {
		b.WriteString(v.name + " " + hex.EncodeToString(v.raw) + "\n")
	}
	const file = "testdata/golden.txt"
	if *update {
		if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if diff := cmp.Diff(string(want), b.String()); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
}

func TestIsFileName(t *testing.T) {
	for name, want := range map[string]bool{
		"timestamp.json": true, "3.snapshot.json": true, "12.root.json": true, "1.release.json": true, "a-b2.json": true,
		"": false, ".json": false, "0.root.json": false, "01.root.json": false, "1.json": false, "3..json": false, "../a.json": false,
		"Root.json": false, "root.json ": false, "-a.json": false, "a-.json": false, "a/b.json": false, "a.b.json": false, "root": false,
		"1234567890123456789.root.json": false, strings.Repeat("a", 60) + ".json": false, "ä.json": false, "1root.json": false,
	} {
		if got := IsFileName(name); got != want {
			t.Errorf("IsFileName(%q) = %v, want %v", name, got, want)
		}
	}
}

func TestBundleLimits(t *testing.T) {
	many := Bundle{Files: map[string][]byte{}}
	for _, c := range "abcdefghi" {
		many.Files[string(c)+".json"] = nil
	}
	for name, b := range map[string]Bundle{"none": {}, "nine": many, "path": {Files: map[string][]byte{"../x.json": nil}},
		"large": {Files: map[string][]byte{"timestamp.json": make([]byte, MaxBundle)}}} {
		if _, err := EncodeBundle(b); err == nil {
			t.Errorf("%s: encoded", name)
		}
		raw := content.Encode(bundleBlock{Version: 1, Files: b.Files})
		if _, err := DecodeBundle(raw); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: decoded with %v", name, err)
		}
	}
}

// TestCoordinateLimits: a coordinate beyond the limits, or one that says nothing in many bytes, is neither sent nor read.
func TestCoordinateLimits(t *testing.T) {
	good := samplePlaced.Coordinate.numbers()
	for name, list := range map[string][]int64{
		"none": {}, "short": good[:5], "long": append(good[:6:6], 1), "far": {10_001, 0, 0, 0, 1, 1}, "huge": {math.MinInt64, 0, 0, 0, 1, 1},
		"low": {0, 0, 0, 0, -1, 1}, "sure": {0, 0, 0, 0, 1, 0}, "error": {0, 0, 0, 0, 1, 1001}, "negative": {0, 0, 0, 0, 1, -1},
	} {
		raw := content.Encode(placedBlock{Version: 1, Collection: content.Digest(testID), Coordinate: list})
		if m, err := DecodeMember(raw); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: decoded as %+v, %v; want it to be malformed", name, m.Coordinate, err)
		}
	}
	for _, c := range []Coordinate{{Height: 1}, {At: [CoordinateAxes]int32{0, MaxCoordinate + 1}, Error: 1}, {Error: MaxCoordinateError + 1}} {
		m := sampleMember
		m.Coordinate = c
		if _, err := EncodeMember(m); !errors.Is(err, ErrMalformed) {
			t.Errorf("%+v: encoded with %v, want it to be malformed", c, err)
		}
	}
}

func TestClaimSignedBytesCoverEverything(t *testing.T) {
	seen := map[string]bool{string(sampleClaim.SignedBytes()): true}
	for _, change := range []func(*Claim){
		func(c *Claim) { c.Collection[0]++ }, func(c *Claim) { c.Name += "x" }, func(c *Claim) { c.Release++ },
		func(c *Claim) { c.Peer += "x" }, func(c *Claim) { c.Expires++ },
	} {
		c := sampleClaim
		change(&c)
		if seen[string(c.SignedBytes())] {
			t.Errorf("%+v has the bytes of another claim", c)
		}
		seen[string(c.SignedBytes())] = true
	}
}

func genBitmap(n int) *rapid.Generator[content.Bitmap] {
	return rapid.Custom(func(t *rapid.T) content.Bitmap {
		var b content.Bitmap
		for _, i := range rapid.SliceOfN(rapid.IntRange(0, n-1), 0, 8).Draw(t, "bits") {
			b.Set(uint32(i))
		}
		return b
	})
}

func genHoldings() *rapid.Generator[Holdings] {
	return rapid.Custom(func(t *rapid.T) Holdings {
		h := Holdings{Reset: rapid.Bool().Draw(t, "reset"), Release: rapid.Uint64().Draw(t, "release"),
			Below: rapid.Uint32Range(0, 20).Draw(t, "below"), Segments: genBitmap(40).Draw(t, "segments"),
			Gone: rapid.SliceOfN(rapid.Uint32Range(0, 40), 0, 5).Draw(t, "gone")}
		for _, s := range rapid.SliceOfNDistinct(rapid.Uint32Range(0, 40), 0, 5, rapid.ID).Draw(t, "partial") {
			h.Partial = append(h.Partial, PartialSegment{Segment: s, Chunks: genBitmap(100).Draw(t, "chunks")})
		}
		return h
	})
}

func TestRoundTrips(t *testing.T) {
	same := func(t *rapid.T, want, got any) {
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Fatal(diff)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		h := genHoldings().Draw(t, "holdings")
		same(t, h.canonical(), must(DecodeHoldings(must(EncodeHoldings(h)))))
		b := Bundle{Files: rapid.MapOfN(rapid.StringMatching(`([1-9][0-9]{0,5}\.)?[a-z][a-z0-9]{0,9}\.json`),
			rapid.SliceOf(rapid.Byte()), 1, MaxBundleFiles).Draw(t, "files")}
		same(t, b, must(DecodeBundle(must(EncodeBundle(b)))))
		m := sampleMember
		m.Addrs = rapid.SliceOfN(rapid.StringN(1, 9, MaxAddr), 0, MaxAddrs).Draw(t, "addrs")
		m.Disk, m.Issued = rapid.Uint64().Draw(t, "disk"), rapid.Int64Range(0, 1<<40).Draw(t, "issued")
		if rapid.Bool().Draw(t, "placed") {
			axis := rapid.Int32Range(-MaxCoordinate, MaxCoordinate)
			m.Coordinate = Coordinate{At: [CoordinateAxes]int32{axis.Draw(t, "a"), axis.Draw(t, "b"), axis.Draw(t, "c"), axis.Draw(t, "d")},
				Height: rapid.Int32Range(0, MaxCoordinate).Draw(t, "height"), Error: rapid.Int32Range(1, MaxCoordinateError).Draw(t, "error")}
		}
		same(t, m, must(DecodeMember(must(EncodeMember(m)))))
		c := sampleClaim
		c.Release, c.Signature = rapid.Uint64().Draw(t, "release"), rapid.SliceOfN(rapid.Byte(), 0, 99).Draw(t, "signature")
		same(t, []Claim{c}, must(DecodeClaims(must(EncodeClaims([]Claim{c})))))
	})
}

// fuzz checks a decoder: no panic, errors with a cause, and one encoding of one value.
func fuzz[T any](f *testing.F, sample []byte, decode func([]byte) (T, error), encode func(T) ([]byte, error)) {
	f.Add(sample)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, raw []byte) {
		v, err := decode(raw)
		var newer *content.NewerError
		if err != nil {
			if !errors.Is(err, ErrMalformed) && !errors.As(err, &newer) {
				t.Errorf("error without a cause: %v", err)
			}
			return
		}
		if again, err := encode(v); err != nil || !bytes.Equal(again, raw) {
			t.Errorf("%x is decoded and encoded as %x, %v", raw, again, err)
		}
	})
}

func FuzzBundle(f *testing.F) { fuzz(f, must(EncodeBundle(sampleBundle)), DecodeBundle, EncodeBundle) }
func FuzzMember(f *testing.F) {
	f.Add(must(EncodeMember(samplePlaced)))
	fuzz(f, must(EncodeMember(sampleMember)), DecodeMember, EncodeMember)
}
func FuzzHoldings(f *testing.F) {
	fuzz(f, must(EncodeHoldings(sampleHoldings)), DecodeHoldings, EncodeHoldings)
}

func FuzzClaims(f *testing.F) {
	f.Add(must(EncodeClaims([]Claim{sampleClaim})))
	f.Fuzz(func(t *testing.T, raw []byte) { // claims of later versions are left out, so no encoding again
		if _, err := DecodeClaims(raw); err != nil && !errors.Is(err, ErrMalformed) {
			t.Errorf("error without a cause: %v", err)
		}
	})
}

func FuzzMessage(f *testing.F) {
	f.Add(must(EncodeMessage(KindMember, []byte{1})))
	f.Fuzz(func(t *testing.T, raw []byte) {
		kind, payload, err := DecodeMessage(raw)
		if err == nil && !bytes.Equal(must(EncodeMessage(kind, payload)), raw) {
			t.Errorf("%x is not encoded again as it was", raw)
		}
	})
}
