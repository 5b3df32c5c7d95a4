package store

import (
	"bytes"
	"testing"

	"swarmnode/content"
)

// FuzzIndex reads keys, with the byte that says their kind, and values of a publisher's index.
func FuzzIndex(f *testing.F) {
	f.Add(linkKey("a/b", "00/1"), refValue(content.Ref{Segment: 1, Index: 2}))
	f.Add(goneKey(7, madeLink{"a", "b"}), spotValue(spot{path: "a/b", offset: 5}))
	f.Add(segmentKey(keyPlace, 3), segmentValue(&placed{size: 10, chunks: 2}))
	f.Fuzz(func(t *testing.T, key, value []byte) {
		if len(key) == 0 {
			return
		}
		if l, ok := parseLink(key); ok && !bytes.Equal(linkKey(l.path, l.name)[1:], key[1:]) {
			t.Errorf("link %x is read as %q", key, l)
		}
		if release, l, ok := parseGone(key); ok && !bytes.Equal(goneKey(release, l)[1:], key[1:]) {
			t.Errorf("gone link %x is read as %d, %q", key, release, l)
		}
		if n, s, ok := parseSegment(key, value); ok && (!bytes.Equal(segmentValue(s), value) || !bytes.Equal(segmentKey(key[0], n), key)) {
			t.Errorf("segment %x is read as %d, %+v", value, n, s)
		}
		if s, ok := parseSpot(value); ok {
			if again, ok := parseSpot(spotValue(s)); !ok || again != s || s.offset < 0 {
				t.Errorf("spot %x is read as %+v", value, s)
			}
		}
		if ref, ok := parseRef(value); ok && !bytes.Equal(refValue(ref), value) {
			t.Errorf("reference %x is read as %+v", value, ref)
		}
	})
}
