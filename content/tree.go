package content

import (
	"fmt"
	"iter"
)

// Totals are the sums over a release that people want to see first.
type Totals struct {
	_     struct{} `cbor:",toarray"`
	Files uint64
	Dirs  uint64
	Links uint64
	Bytes uint64 // of all files, a chunk that two files share counted twice
}

// Add counts e in.
func (t *Totals) Add(e Entry) {
	switch {
	case e.IsFile():
		t.Files++
		t.Bytes += e.Size
	case e.IsDir():
		t.Dirs++
	default:
		t.Links++
	}
}

// Sub takes e out again.
func (t *Totals) Sub(e Entry) {
	switch {
	case e.IsFile():
		t.Files--
		t.Bytes -= e.Size
	case e.IsDir():
		t.Dirs--
	default:
		t.Links--
	}
}

// BuildTree makes the tree of entries, which come in the order of [ComparePaths], and gives its root. Every entry's
// directory must be an entry too.
func BuildTree(entries iter.Seq2[Entry, error], put Put) (Digest, Totals, error) {
	var totals Totals
	var order orderCheck
	b := levelBuilder{put: put}
	for e, err := range entries {
		if err != nil {
			return Digest{}, totals, err
		}
		if err := e.Check(); err != nil {
			return Digest{}, totals, err
		}
		if err := order.next(e); err != nil {
			return Digest{}, totals, err
		}
		totals.Add(e)
		if err := b.addEntry(e); err != nil {
			return Digest{}, totals, err
		}
	}
	if err := b.flush(); err != nil {
		return Digest{}, totals, err
	}
	root, err := buildUpper(b.out, put)
	return root, totals, err
}

// Edits are the changes from one tree to the next, both lists in the order of [ComparePaths].
type Edits struct {
	Upserts []Entry  // new entries, and those that replace one with the same path
	Deletes []string // paths that are gone
}

// Empty reports whether nothing changes.
func (d *Edits) Empty() bool { return len(d.Upserts)+len(d.Deletes) == 0 }

// check refuses edits that are out of order, double or not allowed.
func (d *Edits) check() error {
	for i, e := range d.Upserts {
		if err := e.Check(); err != nil {
			return err
		}
		if i > 0 && ComparePaths(d.Upserts[i-1].Path, e.Path) >= 0 {
			return fmt.Errorf("%w: edit of %q is not behind %q", ErrFormat, e.Path, d.Upserts[i-1].Path)
		}
	}
	for i, p := range d.Deletes {
		if err := CheckPath(p); err != nil {
			return err
		}
		if i > 0 && ComparePaths(d.Deletes[i-1], p) >= 0 {
			return fmt.Errorf("%w: deletion of %q is not behind %q", ErrFormat, p, d.Deletes[i-1])
		}
	}
	return nil
}

// before reports whether an edit of a path before limit is left; limit "" is the end of all paths.
func (d *Edits) before(limit string) bool {
	if limit == "" {
		return !d.Empty()
	}
	return len(d.Upserts) > 0 && ComparePaths(d.Upserts[0].Path, limit) < 0 ||
		len(d.Deletes) > 0 && ComparePaths(d.Deletes[0], limit) < 0
}

// UpdateTree applies edits to the tree with this root and gives the new root: the one that BuildTree would give for
// the result. Deleting what is not there is an error. It reads all inner nodes, a thirtieth of the tree, and of the leaves only
// those that change.
func UpdateTree(root Digest, src BlockSource, edits Edits, put Put) (Digest, error) {
	if err := edits.check(); err != nil {
		return Digest{}, err
	}
	leaves, err := leafRefs(root, src)
	if err != nil {
		return Digest{}, err
	}
	b := levelBuilder{put: put}
	for i, leaf := range leaves {
		limit := ""
		if i+1 < len(leaves) {
			limit = leaves[i+1].first
		}
		if b.empty() && !edits.before(limit) {
			b.out = append(b.out, leaf)
			continue
		}
		n, err := loadNode(src, leaf, 0)
		if err != nil {
			return Digest{}, err
		}
		if err := mergeLeaf(&b, n.entries, &edits, limit); err != nil {
			return Digest{}, err
		}
	}
	if len(leaves) == 0 {
		if err := mergeLeaf(&b, nil, &edits, ""); err != nil {
			return Digest{}, err
		}
	}
	if err := b.flush(); err != nil {
		return Digest{}, err
	}
	return buildUpper(b.out, put)
}

// mergeLeaf adds the entries of a leaf with those edits applied that come before limit.
func mergeLeaf(b *levelBuilder, entries []Entry, d *Edits, limit string) error {
	for len(entries) > 0 || d.before(limit) {
		switch {
		case len(d.Upserts) > 0 && (limit == "" || ComparePaths(d.Upserts[0].Path, limit) < 0) &&
			(len(entries) == 0 || ComparePaths(d.Upserts[0].Path, entries[0].Path) <= 0) &&
			(len(d.Deletes) == 0 || ComparePaths(d.Upserts[0].Path, d.Deletes[0]) < 0):
			if len(entries) > 0 && entries[0].Path == d.Upserts[0].Path {
				entries = entries[1:]
			}
			if err := b.addEntry(d.Upserts[0]); err != nil {
				return err
			}
			d.Upserts = d.Upserts[1:]
		case len(d.Deletes) > 0 && len(entries) > 0 && d.Deletes[0] == entries[0].Path:
			entries, d.Deletes = entries[1:], d.Deletes[1:]
		case len(d.Deletes) > 0 && (limit == "" || ComparePaths(d.Deletes[0], limit) < 0) &&
			(len(entries) == 0 || ComparePaths(d.Deletes[0], entries[0].Path) < 0):
			return fmt.Errorf("%w: deletion of %q, which is not in the tree or is set by the same edit", ErrFormat, d.Deletes[0])
		default:
			if err := b.addEntry(entries[0]); err != nil {
				return err
			}
			entries = entries[1:]
		}
	}
	return nil
}

// orderCheck checks a stream of entries: each behind the one before, each in a directory that came before it.
type orderCheck struct {
	last string
	dirs []string // the directories that hold the last entry, and the last entry if it is one
}

func (o *orderCheck) next(e Entry) error {
	if o.last != "" && ComparePaths(o.last, e.Path) >= 0 {
		return fmt.Errorf("%w: %q is not behind %q", ErrFormat, e.Path, o.last)
	}
	o.last = e.Path
	dir := parent(e.Path)
	for len(o.dirs) > 0 && o.dirs[len(o.dirs)-1] != dir {
		o.dirs = o.dirs[:len(o.dirs)-1]
	}
	if dir != "" && len(o.dirs) == 0 {
		return fmt.Errorf("%w: %q is in no directory of the tree", ErrFormat, e.Path)
	}
	if e.IsDir() {
		o.dirs = append(o.dirs, e.Path)
	}
	return nil
}
