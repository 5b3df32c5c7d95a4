package content

import (
	"bytes"
	"testing"
)

// FuzzOutline walks a release in which any block may be any bytes: the walk ends, and names no block twice.
func FuzzOutline(f *testing.F) {
	for _, data := range samples(f) {
		f.Add(data, data)
	}
	f.Fuzz(func(t *testing.T, first, other []byte) {
		o := NewOutline(Sum(first))
		named := map[Digest]bool{}
		for n := 0; ; n++ {
			d, below, ok := o.Next()
			if !ok {
				break
			}
			if named[d] || n > len(first)+len(other)*(len(first)+len(other)) {
				t.Fatalf("block %d, %s, is named again or is too many", n, d)
			}
			named[d] = true
			data := other
			if n == 0 {
				data = first
			}
			if n < 1000 {
				below(data) // an error: it names nothing
			}
		}
	})
}

func FuzzPath(f *testing.F) {
	f.Add("pool/main/a/apt_1.deb")
	f.Add("../a")
	f.Add("a//b/")
	f.Fuzz(func(t *testing.T, s string) {
		if CheckPath(s) == nil && (s == "" || len(s) > MaxPath || s[0] == '/' || bytes.Contains([]byte("/"+s+"/"), []byte("/../"))) {
			t.Errorf("%q is a path", s)
		}
		if clean := CleanDir(s); CheckPath(s) == nil && clean != s {
			t.Errorf("%q becomes %q", s, clean)
		}
	})
}

func FuzzDigest(f *testing.F) {
	f.Add(Sum(nil).String())
	f.Add("zz")
	f.Fuzz(func(t *testing.T, s string) {
		if d, err := ParseDigest(s); err == nil {
			if again, err := ParseDigest(d.String()); err != nil || again != d {
				t.Errorf("%q: %v", s, err)
			}
		}
	})
}
