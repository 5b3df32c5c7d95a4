package publish

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"os"
	"slices"
	"sort"
	"sync"

	"github.com/dustin/go-humanize"

	"swarmnode/content"
	"swarmnode/content/origin"
)

// lister is what the listings of one Publish have in common.
type lister struct {
	told  *origin.Listing   // the last one; nil: none
	memo  map[string]string // of the last release
	spill *snapshot         // what the last listing said
	blind bool              // there is no snapshot of the last release
}

func (l *lister) close() { removeSpill(l.spill) }

// list lists the origin and compares it with the last release. changed is false if all is as it was and nothing new is to be kept.
func (r *run) list(ctx context.Context) (changed bool, err error) {
	l := &r.lister
	r.progress.stage("list", 0)
	previous, before, err := r.priors()
	if err != nil {
		return false, err
	}
	m, out, err := r.startMerge(previous)
	if err != nil {
		return false, err
	}
	defer m.stop()
	told, err := r.cfg.Origin.List(ctx, before.Before, m.entry)
	before.close()
	r.pulled.Requests += told.Requests
	r.pulled.Rounds++
	r.pulled.Dated = told.Dated
	if errors.Is(err, origin.ErrUnchanged) && before.Memo != nil {
		out.abandon()
		if r.changes == nil {
			r.changes = &Changes{}
		}
		return false, nil
	}
	for err == nil && m.more {
		err = m.gone()
	}
	if err != nil {
		out.abandon()
		return false, fmt.Errorf("list %s: %w", r.cfg.Root, err)
	}
	if err := out.finish(content.Digest{}, false); err != nil {
		return false, err
	}
	for _, b := range told.Bad {
		m.changes.Skipped = append(m.changes.Skipped, Bad(b))
	}
	removeSpill(l.spill)
	l.spill = &snapshot{path: out.file.Name(), count: out.count}
	m.changes.seen, l.told = l.spill, &told
	r.changes = &m.changes
	return m.changes.Upserts+len(m.changes.Deletes) > 0 || !maps.Equal(told.Memo, l.memo), r.checkListing()
}

// checkListing refuses a listing that is less than what is likely to be meant.
func (r *run) checkListing() error {
	c := r.changes
	switch {
	case r.o.Strict && len(c.Skipped) > 0:
		return &ScanError{Root: r.cfg.Root, Bad: c.Skipped, Strict: true}
	case c.seen.count == 0 && !r.o.AllowEmpty:
		return fmt.Errorf("publish %s: %w", r.cfg.Root, ErrEmpty)
	case r.last.manifest == nil || r.o.AllowShrink:
		return nil
	}
	if had := int(r.last.manifest.Totals.Files); c.gone > handful && 2*c.gone > had {
		return &ShrinkError{Root: r.cfg.Root, Had: had, Gone: c.gone}
	}
	return nil
}

// priors gives the records of the last release to compare with, and what the origin is told of before.
func (r *run) priors() (previous iter.Seq2[File, error], before *prior, err error) {
	previous, before = r.before(r.last), &prior{}
	switch {
	case r.lister.told != nil:
		before.Memo, before.snapshot = r.lister.told.Memo, r.lister.spill
	case r.last.manifest == nil:
	default:
		s, err := r.openPrevious(r.last.manifest.Tree)
		if err != nil || s.tree != r.last.manifest.Tree {
			r.lister.blind = true
			break
		}
		before.snapshot = s
		memo, err := s.memo()
		if err != nil {
			return nil, nil, err
		}
		if len(memo) > 0 && json.Unmarshal(memo, &r.lister.memo) != nil {
			r.lister.memo = nil // the whole listing is asked for
		}
		if !r.o.Again {
			before.Memo = r.lister.memo
		}
	}
	if len(r.doubt) > 0 {
		before.Memo = nil
	}
	if before.snapshot != nil {
		before.Entry = before.find
	}
	return previous, before, nil
}

// memo encodes what the next listing wants to know. After a file that could not be read nothing may cut it short.
func (p *pull) memo() []byte {
	if p.lister.told == nil || len(p.lister.told.Memo) == 0 || len(p.left) > 0 {
		return nil
	}
	memo, err := json.Marshal(p.lister.told.Memo)
	if err != nil {
		panic("publish: a map of strings is no JSON: " + err.Error())
	}
	return memo
}

// listMerge is a merge with a listing.
type listMerge struct {
	*merge
	stop  func()
	count int
	last  string
	doubt map[string]bool // paths of which what the listing says does not count
}

func (r *run) startMerge(previous iter.Seq2[File, error]) (*listMerge, *snapshotWriter, error) {
	if previous == nil {
		previous = func(func(File, error) bool) {}
	}
	name := r.path(snapshotName + ".list")
	if r.lister.spill != nil && r.lister.spill.path == name {
		name += "2"
	}
	out, err := createSnapshot(name)
	if err != nil {
		return nil, nil, err
	}
	next, stop := iter.Pull2(previous)
	m := &listMerge{merge: &merge{next: next, out: out, trusted: r.now.UnixNano(), heavy: r.o.heavy}, stop: stop, doubt: r.doubt}
	if err := m.advance(); err != nil {
		stop()
		out.abandon()
		return nil, nil, err
	}
	return m, out, nil
}

// abandon gives a snapshot up.
func (s *snapshotWriter) abandon() {
	s.file.Close()
	os.Remove(s.file.Name())
}

// entry takes one path of the listing. What breaks the rules of an Origin is its bug, and ends the run.
func (m *listMerge) entry(e origin.Entry) error {
	if err := checkEntry(e); err != nil {
		return err
	}
	if m.count++; m.count > origin.MaxEntries {
		return &origin.RefusedError{Reason: fmt.Sprintf("the origin lists more than %d paths: publish parts of it, or --exclude what loops", origin.MaxEntries)}
	}
	if m.out.size > maxListing {
		return &origin.RefusedError{Reason: fmt.Sprintf("the origin has told more than %s of names: publish parts of it, or --exclude what loops", humanize.IBytes(maxListing))}
	}
	if m.count > 1 && content.ComparePaths(m.last, e.Path) >= 0 {
		return fmt.Errorf("%q is listed behind %q", e.Path, m.last)
	}
	m.last = e.Path
	if len(e.Stamp) > content.MaxPath || m.doubt[e.Path] {
		e.Stamp = ""
	}
	f := listed(e)
	return m.see(&f)
}

// checkEntry looks at an entry once more: what is wrong in it must not get as far as the tree.
func checkEntry(e origin.Entry) error {
	if err := content.CheckPath(e.Path); err != nil {
		return err
	}
	switch {
	case e.IsDir():
	case e.IsFile():
		if e.Size < origin.SizeUnknown || len(e.Fetch) > content.MaxPath {
			return fmt.Errorf("%q is listed with %d bytes at %.100q", e.Path, e.Size, e.Fetch)
		}
	case e.Mode&^0o7777 == content.ModeLink:
		return content.CheckTarget(e.Path, e.Target)
	default:
		return fmt.Errorf("%q is neither a file, a directory nor a symlink", e.Path)
	}
	return nil
}

// maxListing is how many bytes the record of a listing takes at most: of a million paths 4 KiB each. It counts against no budget, and an
// origin must not fill the disk with names.
const maxListing = 4 << 30

// stride is how many records of a snapshot lie between two that are remembered.
const stride = 256

// prior answers what a listing before has said, from its file.
type prior struct {
	origin.Before
	snapshot *snapshot

	mu    sync.Mutex // guards what follows
	file  *os.File
	marks []mark
	block []File // the records that were read last
	at    int    // which mark they are behind; valid with block
	err   error
}

// mark is a place in a snapshot: behind the record of path.
type mark struct {
	path   string
	offset int64
}

// find gives what was listed at a path. A snapshot that cannot be read says nothing.
func (p *prior) find(path string) (origin.Entry, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.marks == nil && p.err == nil {
		p.err = p.index()
	}
	if p.err != nil {
		return origin.Entry{}, false
	}
	i := sort.Search(len(p.marks), func(i int) bool { return content.ComparePaths(p.marks[i].path, path) >= 0 }) - 1
	if i < 0 {
		i = 0
	}
	if p.block == nil || p.at != i {
		p.err = p.load(i)
	}
	j, ok := slices.BinarySearchFunc(p.block, path, func(f File, path string) int { return content.ComparePaths(f.Path, path) })
	if !ok {
		return origin.Entry{}, false
	}
	return p.block[j].entry(), true
}

// index remembers every so manyth place.
func (p *prior) index() (err error) {
	if p.file, err = os.Open(p.snapshot.path); err != nil {
		return err
	}
	p.marks = []mark{{"", int64(len(snapshotMagic))}}
	n := 0
	return p.scan(0, func(rec *record, offset int64) bool {
		if n++; n%stride == 0 {
			p.marks = append(p.marks, mark{rec.Path, offset})
		}
		return true
	})
}

// load reads the records behind a mark.
func (p *prior) load(i int) error {
	p.block, p.at = p.block[:0], i
	return p.scan(i, func(rec *record, _ int64) bool {
		p.block = append(p.block, rec.File)
		return len(p.block) < stride
	})
}

// scan reads records from a mark on. offset is where a record ends.
func (p *prior) scan(i int, each func(rec *record, offset int64) bool) error {
	m := p.marks[i]
	counted := &counter{r: io.NewSectionReader(p.file, m.offset, 1<<62)}
	r := bufio.NewReaderSize(counted, 64<<10)
	path := []byte(m.path)
	for {
		var rec record
		more, err := readRecord(r, &rec, &path)
		if err != nil || !more {
			return err
		}
		if rec.memo == nil && !each(&rec, m.offset+counted.n-int64(r.Buffered())) {
			return nil
		}
	}
}

func (p *prior) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.file != nil {
		p.file.Close()
	}
	p.err = cmp.Or(p.err, errors.New("the listing is over"))
}

// counter counts what is read.
type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n += int64(n)
	return n, err
}
