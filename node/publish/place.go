package publish

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"swarmnode/content"
	"swarmnode/content/store"
)

// placer turns hashed files into entries: it finds the place of each chunk in the collection, gives new ones a place in new
// segments, and tells the references where the bytes are.
type placer struct {
	p        *Publisher
	last     *past
	old      *finder
	builder  *content.SegmentBuilder
	open     map[content.Digest]content.Ref // new chunks whose segment is not in the index yet
	segments []content.NewSegment
	first    uint32 // number of the first new segment

	dying     dying          // chunks that replaced or deleted entries used
	totals    content.Totals // of the release so far
	ctimes    []int64        // of the files hashed, in order: what the snapshot may say, or asScanned
	replaced  []replaced
	newBytes  int64
	newChunks int

	arrived
}

// arrived is what a placer has of an origin.
type arrived struct {
	arrivals *store.Arrivals // nil: none; all bytes are there before a file is placed
	now      int64           // seconds: the time of files of which nobody says one
	used     dying           // chunks of new segments that entries use
}

// asScanned stands for the change time that the scan has seen.
const asScanned = -1

// replaced is a path that the last release had and whose file was hashed, with the inode number that it has now.
type replaced struct {
	path  string
	inode uint64
}

func (p *Publisher) newPlacer(last *past) *placer {
	pl := &placer{p: p, last: last, first: uint32(len(last.infos)), open: map[content.Digest]content.Ref{}, dying: dying{},
		arrived: arrived{arrivals: p.cfg.Arrivals, used: dying{}}}
	if last.manifest != nil {
		pl.totals = last.manifest.Totals
	}
	pl.builder = content.NewSegmentBuilder(pl.first, func(number uint32, t *content.Table) error { return pl.addSegment(number, t, nil) })
	return pl
}

// look prepares for so many files, which come in order.
func (pl *placer) look(changes int) (err error) {
	pl.ctimes = make([]int64, 0, changes)
	pl.old, err = pl.last.find(changes)
	return err
}

// flush closes the last segment.
func (pl *placer) flush() error {
	if pl.arrivals == nil {
		return pl.builder.Flush()
	}
	s, err := pl.arrivals.Flush()
	if err != nil || s.Table == nil {
		return err
	}
	return pl.addSegment(s.Number, s.Table, nil)
}

// addSegment makes a full segment's table durable before the index names it: the index can then always be tidied. Chunks that are
// void are not found.
func (pl *placer) addSegment(number uint32, t *content.Table, void content.Bitmap) error {
	d, err := pl.p.cfg.Pack.Put(t.Encode())
	if err == nil {
		err = pl.p.cfg.Pack.Sync()
	}
	if err == nil {
		err = pl.p.cfg.References.Add(number, content.SegmentInfo{Table: d, Size: t.Size(), Chunks: t.Len(), Dead: void}, t)
	}
	if err != nil {
		return fmt.Errorf("add segment %d: %w", number, err)
	}
	pl.segments = append(pl.segments, content.NewSegment{Table: d, Size: t.Size(), Chunks: t.Len()})
	if pl.arrivals != nil {
		pl.newBytes += int64(t.Size())
		pl.newChunks += int(t.Len())
	}
	clear(pl.open)
	return pl.p.crash("segment")
}

// leaveUnused gives the chunks of new segments that no entry uses, from files that were torn or that changed while others were
// fetched: they are dead from their birth.
func (pl *placer) leaveUnused() ([]content.Run, error) {
	if pl.arrivals == nil {
		return nil, nil
	}
	unused := dying{}
	for i, s := range pl.segments {
		unused.add([]content.Run{{Segment: pl.first + uint32(i), Count: s.Chunks}})
	}
	unused.remove(pl.used.runs())
	runs := unused.runs()
	for _, r := range runs {
		t, err := loadTable(pl.p.cfg.Pack, pl.segments[r.Segment-pl.first].Table)
		if err != nil {
			return nil, err
		}
		pl.newBytes -= int64(t.Offset(r.First+r.Count)) - int64(t.Offset(r.First))
		pl.newChunks -= int(r.Count)
	}
	return runs, nil
}

// place gives the entry of a file. changed is false if the last release has the same one.
func (pl *placer) place(d *Digested) (e content.Entry, changed bool, err error) {
	old, had, err := pl.old.entry(d.Path)
	if err != nil {
		return e, false, err
	}
	pl.ctimes = append(pl.ctimes, d.vouched())
	if had && old.IsFile() {
		pl.replaced = append(pl.replaced, replaced{d.Path, d.Inode})
	}
	e = content.Entry{Path: d.Path, Mode: d.Mode, Target: d.Target}
	if e.IsFile() {
		e.Size, e.SHA256 = uint64(d.Size), d.SHA256
	}
	same := had && old.Mode&^0o777 == e.Mode&^0o777 && old.Size == e.Size && old.SHA256 == e.SHA256 && old.Target == e.Target
	if e.IsFile() {
		if err := pl.fill(&e, d, old, same); err != nil {
			return e, false, err
		}
	}
	if !e.IsDir() {
		e.Mtime = pl.mtime(d, old, had, same)
	}
	if same && old.Mode == e.Mode && old.Mtime == e.Mtime {
		return e, false, nil
	}
	if had {
		if !same {
			if err := pl.retire(old, e.IsDir()); err != nil {
				return e, false, err
			}
		}
		pl.totals.Sub(old)
	}
	pl.totals.Add(e)
	return e, true, nil
}

// vouched gives the change time with which a snapshot may vouch for the file: 0 for none.
func (d *Digested) vouched() int64 {
	switch {
	case d.Moved:
		return 0
	case d.Linked:
		return d.Ctime
	}
	return asScanned
}

// fill gives a file's entry its chunks: those of the old entry if the content is the same, else each by its digest.
func (pl *placer) fill(e *content.Entry, d *Digested, old content.Entry, same bool) error {
	if same {
		e.Runs, e.RunBlocks = old.Runs, old.RunBlocks
		runs, err := content.EntryRuns(old, pl.last.blocks)
		if err != nil {
			return err
		}
		return pl.referAgain(d.Path, runs)
	}
	var runs []content.Run
	offset := int64(0)
	for _, c := range d.Chunks {
		ref, err := pl.locate(c)
		if err != nil {
			return err
		}
		if pl.arrivals == nil {
			if err := pl.p.cfg.References.Refer(ref, d.Path, offset); err != nil {
				return err
			}
		}
		runs = content.AppendRef(runs, ref)
		offset += int64(c.Size)
	}
	if pl.arrivals != nil {
		pl.used.add(slices.DeleteFunc(slices.Clone(runs), func(r content.Run) bool { return r.Segment < pl.first }))
	}
	return e.SetRuns(runs, pl.p.cfg.Pack.Put)
}

// referAgain renews the references of a file with known content: they may have been dropped while it was another.
func (pl *placer) referAgain(path string, runs []content.Run) error {
	if pl.arrivals != nil {
		return nil // it is where it arrived
	}
	offset := int64(0)
	for _, r := range runs {
		t, err := pl.last.table(r.Segment)
		if err != nil {
			return err
		}
		for i := r.First; i < r.First+r.Count; i++ {
			if err := pl.p.cfg.References.Refer(content.Ref{Segment: r.Segment, Index: i}, path, offset); err != nil {
				return err
			}
			offset += int64(t.Chunk(i).Size)
		}
	}
	return nil
}

// locate finds the place of a chunk, or gives it one.
func (pl *placer) locate(c content.Chunk) (content.Ref, error) {
	if ref, ok := pl.known(c.Digest); ok {
		return ref, nil
	}
	if pl.arrivals != nil {
		return content.Ref{}, errLost
	}
	pl.newBytes += int64(c.Size)
	pl.newChunks++
	// Before Add: a full segment is closed in there.
	next := len(pl.segments)
	ref, err := pl.builder.Add(c)
	if err == nil && len(pl.segments) == next {
		pl.open[c.Digest] = ref
	}
	return ref, err
}

// errLost says that bytes that had arrived are not there any more.
var errLost = errors.New("what had arrived of it is lost; publish again")

// known finds the place of a chunk.
func (pl *placer) known(d content.Digest) (ref content.Ref, ok bool) {
	if pl.arrivals != nil {
		ref, ok = pl.arrivals.Find(d)
	} else {
		ref, ok = pl.open[d]
	}
	if !ok {
		ref, ok = pl.p.cfg.References.Find(d)
		ok = ok && (pl.last.alive(ref) || pl.isNew(ref))
	}
	return ref, ok
}

// isNew reports whether ref is in a segment that this publish has closed.
func (pl *placer) isNew(ref content.Ref) bool {
	return ref.Segment >= pl.first && int(ref.Segment-pl.first) < len(pl.segments)
}

// mtime keeps the times of a path from going back: a client that asks "modified since" must never be told "no" about
// new content. Content that changed with a time that did not is a second younger than what was there.
func (pl *placer) mtime(d *Digested, old content.Entry, had, same bool) int64 {
	mtime := time.Unix(0, d.Mtime).Unix()
	floor, known := old.Mtime, had && !old.IsDir()
	if !known {
		floor, known = pl.p.cfg.References.Mtime(d.Path)
		same = false
	}
	if d.Undated {
		mtime = pl.now
		if same {
			mtime = floor
		}
	}
	switch {
	case !known || mtime > floor:
		return mtime
	case same:
		return floor
	}
	return floor + 1
}

// gone takes a deleted path out, if it was in the last release.
func (pl *placer) gone(old *finder, path string) (was bool, err error) {
	e, ok, err := old.entry(path)
	if err != nil || !ok {
		return false, err
	}
	pl.totals.Sub(e)
	return true, pl.retire(e, true)
}

// retire notes that an entry is replaced: its chunks may be dead now, and its time is remembered if the tree will not.
func (pl *placer) retire(e content.Entry, remember bool) error {
	runs, err := content.EntryRuns(e, pl.last.blocks)
	if err != nil {
		return err
	}
	pl.dying.add(runs)
	if remember && !e.IsDir() {
		return pl.p.cfg.References.SetMtime(e.Path, e.Mtime)
	}
	return nil
}

// table loads the table of a segment of the last release; most entries of a row are in the same one.
func (l *past) table(number uint32) (*content.Table, error) {
	if l.tableOf != nil && l.tableNumber == number {
		return l.tableOf, nil
	}
	t, err := loadTable(l.blocks, l.infos[number].Table)
	if err == nil {
		l.tableOf, l.tableNumber = t, number
	}
	return t, err
}

func loadTable(src content.BlockSource, d content.Digest) (*content.Table, error) {
	data, ok := src.Block(d)
	if !ok {
		return nil, &content.Missing{Blocks: []content.Digest{d}}
	}
	return content.DecodeTable(data)
}
