package publish

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path"
	"strings"
	"time"

	"swarmnode/content"
)

// racy is how long before a scan a file's change time must lie to prove anything: one that changes again within
// the same tick of the file system's clock (4 to 10 ms; FAT and some network file systems are coarser) looks the same.
const racy = 100 * time.Millisecond

// badShown is how many refused paths an error lists.
const badShown = 10

// ScanOptions say what of a tree is published.
type ScanOptions struct {
	Exclude    []string // patterns of path.Match; with a '/' against the whole path, else against the name. None by default.
	SkipBad    bool     // leave out what cannot be published instead of refusing the tree
	AllowEmpty bool     // a tree without any entry is meant

	heavy int64 // from which size on a file is listed in Changes.heavy; 0: never
}

// ScanError says which paths keep a tree from being published.
type ScanError struct {
	Root   string
	Bad    []Bad
	Strict bool // they are those of an origin, and would be left out otherwise
}

func (e *ScanError) Error() string {
	var b strings.Builder
	noun := "paths"
	if len(e.Bad) == 1 {
		noun = "path"
	}
	fmt.Fprintf(&b, "%d %s in %s cannot be published:\n", len(e.Bad), noun, e.Root)
	for _, bad := range e.Bad[:min(len(e.Bad), badShown)] {
		fmt.Fprintf(&b, "  %v\n", bad.Err)
	}
	if n := len(e.Bad) - badShown; n > 0 {
		fmt.Fprintf(&b, "  … and %d more\n", n)
	}
	if e.Strict {
		b.WriteString("Nothing is published: have them renamed, repaired or removed there, --exclude them, or leave --strict away, which publishes all the rest.")
		return b.String()
	}
	b.WriteString("Rename, repair or remove them, exclude them by a pattern, or publish all the rest with --skip-bad.")
	return b.String()
}

// ErrEmpty is the cause of refusing a tree without any entry.
var ErrEmpty = errors.New("there is nothing in it; if an empty release is meant, say --allow-empty")

// Changes is what a scan found against the snapshot of the last publish.
type Changes struct {
	Upserts   int      // how many paths are new or may have changed; their content decides
	Deletes   []string // paths that are gone, in the order of content.ComparePaths
	Unchanged int      // how many paths are as they were
	Racy      int      // how many of all changed too short before the scan to be trusted next time
	Skipped   []Bad    // what was left out, with ScanOptions.SkipBad

	heavy []string // paths of all heavy files, in order
	gone  int      // how many of Deletes were files
	seen  *snapshot
}

// Files gives the new or changed paths in order. They are read from the file that the scan wrote, not from memory.
func (c *Changes) Files() iter.Seq2[File, error] {
	return func(yield func(File, error) bool) {
		for r, err := range c.seen.records() {
			if (r.changed || err != nil) && !yield(r.File, err) {
				return
			}
		}
	}
}

// OpenTree opens the root of a tree to publish, or says clearly why it cannot be one.
func OpenTree(dir string) (*os.Root, error) {
	st, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("publish %s: there is no such directory", dir)
	case err != nil:
		return nil, fmt.Errorf("publish %s: %w", dir, cause(err))
	case !st.IsDir():
		return nil, fmt.Errorf("publish %s: this is a file; put it into a directory and publish that", dir)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("publish %s: %w", dir, cause(err))
	}
	return root, nil
}

// Scan compares the tree below root with previous: the records of the last publish in the order of content.ComparePaths, or
// nil if there was none. It writes what it sees to the file spill, from which the result reads. now is the time by the clock
// that the file system uses.
func Scan(ctx context.Context, now time.Time, root *os.Root, previous iter.Seq2[File, error], spill string, o ScanOptions) (*Changes, error) {
	for _, pattern := range o.Exclude {
		if _, err := path.Match(pattern, ""); err != nil {
			return nil, fmt.Errorf("exclude %q: %w", pattern, err)
		}
	}
	if previous == nil {
		previous = func(func(File, error) bool) {}
	}
	next, stop := iter.Pull2(previous)
	defer stop()
	out, err := createSnapshot(spill)
	if err != nil {
		return nil, err
	}
	m := &merge{next: next, out: out, trusted: now.Add(-racy).UnixNano(), heavy: o.heavy}
	bad, err := m.run(ctx, root, o)
	if err != nil {
		out.file.Close()
		return nil, err
	}
	if err := out.finish(content.Digest{}, false); err != nil {
		return nil, err
	}
	switch {
	case len(bad) > 0 && !o.SkipBad:
		return nil, &ScanError{Root: root.Name(), Bad: bad}
	case out.count == 0 && !o.AllowEmpty:
		return nil, fmt.Errorf("publish %s: %w", root.Name(), ErrEmpty)
	}
	m.changes.Skipped = bad
	m.changes.seen = &snapshot{path: spill, count: out.count}
	return &m.changes, nil
}

// merge goes along the tree and the previous records at the same time: both come in the same order.
type merge struct {
	next    func() (File, error, bool)
	before  File // the previous record that comes next
	more    bool // there is one
	trusted int64
	heavy   int64 // see ScanOptions
	out     *snapshotWriter
	changes Changes
}

func (m *merge) run(ctx context.Context, root *os.Root, o ScanOptions) ([]Bad, error) {
	if err := m.advance(); err != nil {
		return nil, err
	}
	bad, err := walk(ctx, root, o.Exclude, m.see)
	if err != nil {
		return nil, fmt.Errorf("scan %s: %w", root.Name(), err)
	}
	for m.more {
		if err := m.gone(); err != nil {
			return nil, err
		}
	}
	return bad, nil
}

func (m *merge) advance() error {
	var err error
	m.before, err, m.more = m.next()
	if err != nil {
		return fmt.Errorf("scan: what was there before: %w", err)
	}
	return nil
}

func (m *merge) gone() error {
	m.changes.Deletes = append(m.changes.Deletes, m.before.Path)
	if m.before.isFile() {
		m.changes.gone++
	}
	return m.advance()
}

// see takes the next path of the tree.
func (m *merge) see(f *File) error {
	for m.more && content.ComparePaths(m.before.Path, f.Path) < 0 {
		if err := m.gone(); err != nil {
			return err
		}
	}
	changed, kept := true, false
	if m.more && m.before.Path == f.Path {
		f.Heavy = m.before.Heavy && f.Size < 0
		m.before.Heavy = f.Heavy
		changed, kept = !f.same(&m.before), f.likely(&m.before)
		if err := m.advance(); err != nil {
			return err
		}
	}
	if changed {
		m.changes.Upserts++
	} else {
		m.changes.Unchanged++
	}
	// What is as it was before was trusted then.
	if changed && f.Ctime > m.trusted && !f.isDir() {
		f.Ctime = 0
		m.changes.Racy++
	}
	if m.heavy > 0 && f.kind() == content.ModeFile && (f.Size >= m.heavy || f.Heavy) {
		m.changes.heavy = append(m.changes.heavy, f.Path)
	}
	m.out.add(f, changed, changed && kept)
	return nil
}
