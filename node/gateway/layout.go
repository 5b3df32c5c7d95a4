package gateway

import (
	"context"
	"fmt"
	"sort"

	"swarmnode/content"
)

// layout says where the chunks of one file begin in it. It is never changed.
type layout struct {
	runs   []content.Run
	first  []int64  // first[i] is where run i begins in the file
	chunk  []int    // chunk[i] is the number of the first chunk of run i; one more than runs, the last is how many there are
	starts []uint32 // starts[n] is where chunk n begins in its run
	size   int64
}

// turnLayout is the size of a file from which on its layout is made with a turn, as that reads the tables of 64 segments or more.
const turnLayout = 64 * content.SegmentSize

// single is how the one chunk of a file lies in it.
var single = layout{first: []int64{0}, chunk: []int{0, 1}, starts: []uint32{0}}

// layout gives the layout of a file of a release. Files of one chunk need no segment table for it, which most packages are.
func (g *Gateway) layout(ctx context.Context, rel *Release, e content.Entry) (*layout, error) {
	if len(e.Runs) == 1 && e.Runs[0].Count == 1 {
		return &layout{runs: e.Runs, first: single.first, chunk: single.chunk, starts: single.starts, size: int64(e.Size)}, nil
	}
	key := layoutKey{rel.Manifest.Tree, rel.Manifest.Directory, e.Path}
	if l, ok := g.layouts.get(key); ok {
		return l, nil
	}
	if e.Size > turnLayout {
		done, err := g.turns.take(ctx)
		if err != nil {
			return nil, err
		}
		defer done()
		if l, ok := g.layouts.get(key); ok { // somebody was faster
			return l, nil
		}
	}
	l, err := newLayout(rel, e)
	if err == nil {
		g.layouts.put(key, l, 200+24*len(l.runs)+4*len(l.starts))
	}
	return l, err
}

func newLayout(rel *Release, e content.Entry) (*layout, error) {
	runs, err := content.EntryRuns(e, rel.Blocks)
	if err != nil {
		return nil, err
	}
	l := &layout{runs: runs, chunk: make([]int, 1, len(runs)+1), first: make([]int64, 0, len(runs))}
	var table *content.Table
	for i, r := range runs {
		if i == 0 || r.Segment != runs[i-1].Segment {
			if table, err = loadTable(rel, r.Segment); err != nil {
				return nil, fmt.Errorf("segment %d of %q: %w", r.Segment, e.Path, err)
			}
		}
		if r.First+r.Count > table.Len() {
			return nil, fmt.Errorf("%q names chunk %d of segment %d, which has %d: %w", e.Path, r.First+r.Count-1, r.Segment, table.Len(), content.ErrFormat)
		}
		base := table.Offset(r.First)
		for n := r.First; n < r.First+r.Count; n++ {
			l.starts = append(l.starts, table.Offset(n)-base)
		}
		l.first = append(l.first, l.size)
		l.chunk = append(l.chunk, len(l.starts))
		l.size += int64(table.Offset(r.First+r.Count) - base)
	}
	if l.size != int64(e.Size) {
		return nil, fmt.Errorf("%q has %d bytes and its chunks %d: %w", e.Path, e.Size, l.size, content.ErrFormat)
	}
	return l, nil
}

func loadTable(rel *Release, segment uint32) (*content.Table, error) {
	if int(segment) >= len(rel.Infos) || rel.Infos[segment].Retired() {
		return nil, fmt.Errorf("the release has no such segment: %w", content.ErrFormat)
	}
	data, ok := rel.Blocks.Block(rel.Infos[segment].Table)
	if !ok {
		return nil, &content.Missing{Blocks: []content.Digest{rel.Infos[segment].Table}}
	}
	return content.DecodeTable(data)
}

// layoutKey names a file in a release. The tree alone is not enough: it says which chunks a file has, and the directory of segments how
// long they are, so that another collection with the same tree can have another layout.
type layoutKey struct {
	tree, directory content.Digest
	path            string
}

// place is a chunk in a file.
type place struct {
	ref  content.Ref
	at   int64 // where it begins in the file
	size int64
}

// chunks is how many chunks the file has.
func (l *layout) chunks() int { return len(l.starts) }

// number gives the number of the chunk that holds the byte at off, which is in the file.
func (l *layout) number(off int64) int {
	run := sort.Search(len(l.first), func(i int) bool { return l.first[i] > off }) - 1
	in := l.starts[l.chunk[run]:l.chunk[run+1]]
	rest := uint32(off - l.first[run])
	return l.chunk[run] + sort.Search(len(in), func(i int) bool { return in[i] > rest }) - 1
}

// place gives chunk n of the file.
func (l *layout) place(n int) place {
	run := sort.SearchInts(l.chunk, n+1) - 1
	p := place{
		ref: content.Ref{Segment: l.runs[run].Segment, Index: l.runs[run].First + uint32(n-l.chunk[run])},
		at:  l.first[run] + int64(l.starts[n]),
	}
	end := l.size
	switch {
	case n+1 < l.chunk[run+1]:
		end = l.first[run] + int64(l.starts[n+1])
	case run+1 < len(l.first):
		end = l.first[run+1]
	}
	p.size = end - p.at
	return p
}
