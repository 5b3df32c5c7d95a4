//go:build unix

package publish

import (
	"fmt"
	"testing"

	"swarmnode/content"
)

// TestPullIsCutBehindTheLastByte loses the connection when all of a file has come and the origin is asked whether it is still the same:
// what is not fetched once more is still part of the file.
func TestPullIsCutBehindTheLastByte(t *testing.T) {
	m := newPuller(t, map[string]fakeFile{"a.deb": {text: string(random(1, 12<<20+5)), mtime: 1}, "b": {text: "small", mtime: 1}, "c.deb": {mtime: 1}})
	for p := range m.origin.files {
		m.origin.lost[p] = true
	}
	m.mustPull()
	m.wantOrigin()
}

// TestPullLeavesNoPlaceOfVoidChunks: what is void is not said to be here, and so nobody finds it damaged.
func TestPullLeavesNoPlaceOfVoidChunks(t *testing.T) {
	for _, kill := range []bool{false, true} {
		t.Run(fmt.Sprint("kill=", kill), func(t *testing.T) {
			m := newPuller(t, map[string]fakeFile{"good.deb": {text: string(random(9, 1<<20)), mtime: 1}})
			n := 0
			m.origin.onList = func(int) error {
				n++
				m.origin.put("log.deb", fakeFile{text: string(random(byte(n), 2<<20)), mtime: int64(n)})
				return nil
			}
			if _, err := m.pull(PullOptions{}); err == nil {
				t.Fatal("it held still")
			}
			m.origin.onList = nil
			if kill {
				m.close()
				m.open()
			}
			m.mustPull()
			m.wantOrigin()
			for _, n := range m.refs.Segments() {
				for i := range uint32(len(m.refs.Have(n)) * 8) {
					if m.refs.Have(n).Has(i) {
						if _, err := m.refs.Chunk(content.Ref{Segment: n, Index: i}, nil); err != nil {
							t.Errorf("chunk %d of segment %d: %v", i, n, err)
						}
					}
				}
			}
			if bad := m.refs.Stats().Bad; bad != 0 {
				t.Errorf("%d chunks are said to be damaged", bad)
			}
		})
	}
}
